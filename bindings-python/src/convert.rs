//! Python's values as the core wants them, and back.

use std::ffi::c_char;
use std::time::Duration;

use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};
use serde_json::{Map, Number, Value};
use unstale::{Dialect, ErrorKind, SetOptions};

use crate::error::{kind, Raise};
use crate::handles::Lease;

extern "C" {
    // In CPython since 3.3; part of the limited API's headers only since 3.10, while we support 3.9. It gives the
    // string's own (for ASCII) or cached UTF-8, where everything else would copy.
    fn PyUnicode_AsUTF8AndSize(unicode: *mut ffi::PyObject, size: *mut ffi::Py_ssize_t) -> *const c_char;
}

/// The UTF-8 of a `str` object, without a copy. None: not a string, or not UTF-8 (a lone surrogate); a Python error is set.
///
/// # Safety
/// `object` is a live object, the GIL is held, and the object lives for `'a`.
#[inline]
pub unsafe fn utf8_or_error<'a>(object: *mut ffi::PyObject) -> Option<&'a str> {
    let mut len: ffi::Py_ssize_t = 0;
    // SAFETY: the caller's word.
    let data = unsafe { PyUnicode_AsUTF8AndSize(object, &mut len) };
    if data.is_null() {
        return None;
    }
    // SAFETY: Python gives valid UTF-8 of that length, which lives as long as the object.
    Some(unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(data.cast(), len as usize)) })
}

/// Why [`utf8_or_error`] gave nothing: `TypeError`, or `InvalidArgument` for a lone surrogate.
#[cold]
pub fn not_text(object: &Bound<'_, PyAny>, what: &str) -> PyErr {
    let py = object.py();
    // Whatever is set is less clear than what we are about to say.
    drop(PyErr::take(py));
    if object.is_instance_of::<PyString>() {
        kind(py, ErrorKind::InvalidArgument, format!("{what} is not UTF-8: it has a lone surrogate"))
    } else {
        PyTypeError::new_err(format!("{what} must be str, not {}", type_name(object)))
    }
}

/// The UTF-8 of a string argument.
pub fn text<'a>(object: &'a Bound<'_, PyAny>, what: &str) -> PyResult<&'a str> {
    // SAFETY: `object` is live as long as the borrow, and it proves that the GIL is held.
    unsafe { utf8_or_error(object.as_ptr()) }.ok_or_else(|| not_text(object, what))
}

fn type_name(object: &Bound<'_, PyAny>) -> String {
    object.get_type().name().map_or_else(|_| "?".into(), |n| n.to_string())
}

/// Several strings: any iterable of `str` but a `str`, which would be taken apart into letters.
pub fn texts(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<String>> {
    if object.is_instance_of::<PyString>() {
        return Err(PyTypeError::new_err(format!(
            "{what} must be a list of str, not a str; write [{}]",
            object.repr()?
        )));
    }
    let items = object
        .try_iter()
        .map_err(|_| PyTypeError::new_err(format!("{what} must be a list of str, not {}", type_name(object))))?;
    items.map(|item| Ok(text(&item?, &format!("each of {what}"))?.to_owned())).collect()
}

static TIMEDELTA: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static PATH_LIKE: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Seconds of an `int`, a `float` or a `timedelta`; none: it is none of these.
fn seconds(object: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if object.is_instance_of::<PyBool>() {
        return Ok(None);
    }
    if object.is_instance_of::<PyFloat>() || object.is_instance_of::<PyInt>() {
        return match object.extract::<f64>() {
            // Beyond a float: more than any limit, and the core says so.
            Err(e) if e.is_instance_of::<PyOverflowError>(object.py()) => {
                Ok(Some(if object.lt(0)? { f64::NEG_INFINITY } else { f64::INFINITY }))
            }
            other => other.map(Some),
        };
    }
    if object.is_instance(TIMEDELTA.import(object.py(), "datetime", "timedelta")?)? {
        return object.call_method0("total_seconds")?.extract().map(Some);
    }
    Ok(None)
}

/// A per-call duration: seconds, or a `timedelta`.
pub fn duration(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Duration> {
    match seconds(object)? {
        Some(value) => Dialect::JSON.duration(name, value).raise(object.py()),
        None => Err(PyTypeError::new_err(format!(
            "{name} must be seconds (int or float) or a timedelta, not {}",
            type_name(object)
        ))),
    }
}

/// A version.
pub fn version(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    if !object.is_instance_of::<PyInt>() || object.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err(format!("version must be an int, not {}", type_name(object))));
    }
    object.extract::<u64>().map_err(|_| {
        kind(object.py(), ErrorKind::InvalidArgument, format!("version must be from 0 to 2^53 - 1, not {object}"))
    })
}

/// The core's options of these keyword arguments.
pub fn set_options(
    ttl: Option<&Bound<'_, PyAny>>,
    tags: Option<&Bound<'_, PyAny>>,
    depends_on: Option<&Bound<'_, PyAny>>,
    given_version: Option<&Bound<'_, PyAny>>,
    lease: Option<&Bound<'_, Lease>>,
) -> PyResult<SetOptions> {
    let mut options = SetOptions::new();
    options.ttl = ttl.map(|v| duration(v, "ttl")).transpose()?;
    options.tags = tags.map(|v| texts(v, "tags")).transpose()?.unwrap_or_default();
    options.depends_on = depends_on.map(|v| texts(v, "depends_on")).transpose()?.unwrap_or_default();
    options.version = given_version.map(version).transpose()?;
    options.lease = lease.map(|l| l.get().core().clone());
    Ok(options)
}

/// Keyword arguments as the core's parser wants them.
pub fn options(given: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    let mut out = Map::new();
    for (name, value) in given {
        let name = text(&name, "an option's name")?;
        out.insert(name.to_owned(), json(&value, name)?);
    }
    Ok(out)
}

fn json(value: &Bound<'_, PyAny>, name: &str) -> PyResult<Value> {
    let py = value.py();
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(b) = value.cast::<PyBool>() {
        return Ok(Value::Bool(b.is_true()));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(Value::String(text(value, &format!("option `{name}`"))?.to_owned()));
    }
    if value.is_instance_of::<PyInt>() {
        if let Ok(n) = value.extract::<i64>() {
            return Ok(n.into());
        }
        if let Ok(n) = value.extract::<u64>() {
            return Ok(n.into());
        }
    }
    if let Some(number) = seconds(value)? {
        return Number::from_f64(number).map(Value::Number).ok_or_else(|| {
            kind(py, ErrorKind::Config, format!("option `{name}` must be a finite number, not {value}"))
        });
    }
    if let Ok(nested) = value.cast::<PyDict>() {
        return Ok(Value::Object(options(nested)?));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        return value.try_iter()?.map(|item| json(&item?, name)).collect::<PyResult<_>>().map(Value::Array);
    }
    if value.is_instance(PATH_LIKE.import(py, "os", "PathLike")?)? {
        let path = py.import("os")?.call_method1("fspath", (value,))?;
        return Ok(Value::String(text(&path, &format!("option `{name}`"))?.to_owned()));
    }
    Err(PyTypeError::new_err(format!(
        "option `{name}` must be str, int, float, bool, timedelta, path, list or dict, not {}",
        type_name(value)
    )))
}

/// What the core tells as JSON, as Python objects.
pub fn from_json<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(b) => PyBool::new(py, *b).to_owned().into_any(),
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n.into_pyobject(py)?.into_any(),
            (None, Some(n)) => n.into_pyobject(py)?.into_any(),
            (None, None) => n.as_f64().unwrap_or(f64::NAN).into_pyobject(py)?.into_any(),
        },
        Value::String(s) => PyString::new(py, s).into_any(),
        Value::Array(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(from_json(py, item)?)?;
            }
            list.into_any()
        }
        Value::Object(items) => {
            let dict = PyDict::new(py);
            for (name, item) in items {
                dict.set_item(name, from_json(py, item)?)?;
            }
            dict.into_any()
        }
    })
}
