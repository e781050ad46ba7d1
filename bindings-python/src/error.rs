//! Errors of the core as Python exceptions, and a loader's own exception on its way through the core.

use std::fmt;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use unstale::{Error, ErrorKind};

use crate::held::Held;

static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// The exception class of a kind, from `unstale._errors`.
fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Bound<'_, PyType>> {
    let classes = CLASSES.get_or_try_init(py, || -> PyResult<Py<PyDict>> {
        Ok(py.import("unstale._errors")?.getattr("CLASSES")?.cast_into::<PyDict>()?.unbind())
    })?;
    let class = classes
        .bind(py)
        .get_item(kind as u8)?
        .ok_or_else(|| PyRuntimeError::new_err(format!("unstale has no exception class for {}", kind.name())))?;
    Ok(class.cast_into::<PyType>()?)
}

/// An error of the core as the exception of its kind; a loader's own exception as itself.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    if let Some(own) = error.load_source().and_then(|source| source.downcast_ref::<Failure>()) {
        return own.raised(py);
    }
    kind(py, error.kind(), error.message())
}

/// An exception of a kind.
pub fn kind(py: Python<'_>, kind: ErrorKind, message: impl Into<String>) -> PyErr {
    match class(py, kind) {
        Ok(class) => PyErr::from_type(class, (message.into(),)),
        Err(e) => e,
    }
}

/// Results of the core as Python wants them.
pub trait Raise<T> {
    /// The value, or the exception.
    fn raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for unstale::Result<T> {
    fn raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| raised(py, &e))
    }
}

/// A loader's own exception. Everyone who waited gets this very object.
pub struct Failure {
    exception: Held,
    text: String,
}

impl Failure {
    /// Keeps `exception`.
    pub fn new(exception: Bound<'_, PyAny>) -> Failure {
        let text = match (exception.get_type().name(), exception.str()) {
            (Ok(name), Ok(text)) => format!("{name}: {text}"),
            _ => "an exception that cannot be shown".into(),
        };
        Failure { exception: Held::new(exception), text }
    }

    /// The exception again.
    pub fn raised(&self, py: Python<'_>) -> PyErr {
        PyErr::from_value(self.exception.to_py(py).into_bound(py))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}
