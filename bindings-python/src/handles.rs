//! The small objects that calls give out: leases, receipts, subscriptions, and the right to end a load.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::convert::duration;
use crate::error::Failure;
use crate::held::Held;
use crate::post::tidily;
use crate::waiting::Waiting;

static AWAITED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// A coroutine that waits for `waiting`.
pub fn coroutine(py: Python<'_>, waiting: Waiting) -> PyResult<Bound<'_, PyAny>> {
    AWAITED.import(py, "unstale._aio", "until")?.call1((waiting,))
}

/// What pickling and copying say of an object that belongs to this process.
pub fn no_pickle(name: &str, instead: &str) -> PyErr {
    PyTypeError::new_err(format!("cannot pickle or copy {name:?}: it belongs to this process; {instead}"))
}

/// Permission to fill one key: take it before reading the source, give it to `set` or `update` after.
///
/// It is used up by the first call that gets it, and given back when the last reference to it goes.
#[pyclass(frozen, module = "unstale")]
pub struct Lease {
    lease: unstale::Lease,
}

impl Lease {
    /// Wraps the core's.
    pub fn new(lease: unstale::Lease) -> Self {
        Lease { lease }
    }

    /// The core's.
    pub fn core(&self) -> &unstale::Lease {
        &self.lease
    }
}

#[pymethods]
impl Lease {
    /// The key it is for.
    #[getter]
    fn key(&self) -> &str {
        self.lease.key()
    }

    fn __repr__(&self) -> String {
        format!("<unstale.Lease key={:?}>", self.lease.key())
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(no_pickle("Lease", "take a lease where the value is stored"))
    }
}

/// What an invalidation gives back.
#[pyclass(frozen, module = "unstale")]
pub struct Receipt {
    receipt: unstale::Receipt,
}

impl Receipt {
    /// Wraps the core's.
    pub fn new(receipt: unstale::Receipt) -> Self {
        Receipt { receipt }
    }
}

#[pymethods]
impl Receipt {
    /// Names this invalidation, for `client.wait_for` in another process. Fit for an HTTP header.
    #[getter]
    fn token(&self) -> String {
        self.receipt.token()
    }

    /// Whether `update` stored its value here; `False` for an invalidation.
    #[getter]
    fn stored(&self) -> bool {
        self.receipt.stored()
    }

    /// Blocks until the broker has accepted the invalidation, at most `timeout` (seconds or `timedelta`).
    ///
    /// Returns `False` when the time ran out; the invalidation is then still on its way.
    fn delivered(&self, py: Python<'_>, timeout: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.waiting(timeout)?.block(py)
    }

    /// `delivered` for coroutines.
    fn delivered_async<'py>(&self, py: Python<'py>, timeout: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        coroutine(py, self.waiting(timeout)?)
    }

    fn __repr__(&self) -> String {
        format!(
            "<unstale.Receipt token={:?} stored={}>",
            self.receipt.token(),
            if self.receipt.stored() { "True" } else { "False" }
        )
    }

    fn __reduce__(&self) -> PyResult<()> {
        Err(no_pickle("Receipt", "send its .token"))
    }
}

impl Receipt {
    fn waiting(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Waiting> {
        let (receipt, timeout) = (self.receipt.clone(), duration(timeout, "timeout")?);
        Ok(Waiting::new(async move { receipt.delivered(timeout).await }, |py, delivered| {
            Ok(delivered.into_pyobject(py)?.to_owned().into_any().unbind())
        }))
    }
}

/// The core's end of a subscription.
#[pyclass(frozen, module = "unstale._native")]
pub struct Subscription {
    subscription: unstale::Subscription,
}

impl Subscription {
    /// Wraps the core's.
    pub fn new(subscription: unstale::Subscription) -> Self {
        Subscription { subscription }
    }
}

#[pymethods]
impl Subscription {
    /// No event is reported from now on.
    fn cancel(&self) {
        self.subscription.cancel();
    }
}

/// The right and the duty to end a load. Dropped without `finish` or `fail`, those who wait start over.
#[pyclass(frozen, module = "unstale._native")]
pub struct Load {
    id: u64,
    load: Mutex<Option<unstale::Load<Held>>>,
}

impl Load {
    /// Wraps the core's.
    pub fn new(load: unstale::Load<Held>) -> Self {
        Load { id: load.id(), load: Mutex::new(Some(load)) }
    }

    fn take(&self) -> Option<unstale::Load<Held>> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Load {
    /// The load's number, unique in this process.
    #[getter]
    fn id(&self) -> u64 {
        self.id
    }

    /// Ends the load with a value, or with `None` for "not found". Whether it was stored.
    fn finish(&self, py: Python<'_>, value: Bound<'_, PyAny>) -> bool {
        let Some(load) = self.take() else { return false };
        let value = if value.is_none() { None } else { Some(Held::new(value)) };
        tidily(py, || load.finish(value))
    }

    /// Ends the load with its loader's exception, which everyone who waits will get.
    fn fail(&self, py: Python<'_>, exception: Bound<'_, PyAny>) {
        if let Some(load) = self.take() {
            let failure = Arc::new(Failure::new(exception));
            tidily(py, || load.fail(failure));
        }
    }

    /// Gives up: those who wait start over.
    fn abandon(&self, py: Python<'_>) {
        tidily(py, || drop(self.take()));
    }
}
