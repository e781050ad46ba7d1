//! `unstale.Client`'s native half.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;
use unstale::{Client, ClientConfig, Dialect};

use crate::convert::{duration, from_json, options, text};
use crate::error::{raised, Raise};
use crate::handles::Subscription;
use crate::post::{post, Item};
use crate::waiting::Waiting;

/// Connects. Options are checked at once; the rest is waited for.
#[pyfunction]
pub fn connect(py: Python<'_>, url: Option<&Bound<'_, PyAny>>, given: &Bound<'_, PyDict>) -> PyResult<Waiting> {
    let url = url.map(|u| text(u, "url")).transpose()?;
    let config = ClientConfig::parse(url, options(given)?, Dialect::JSON).raise(py)?;
    Ok(Waiting::new(Client::connect(config), |py, connected| {
        let client = connected.raise(py)?;
        Ok(Py::new(py, ClientHandle { client })?.into_any())
    }))
}

/// The connection that a `Client` object stands for.
#[pyclass(frozen, module = "unstale._native")]
pub struct ClientHandle {
    client: Client,
}

impl ClientHandle {
    /// The core's.
    pub fn core(&self) -> &Client {
        &self.client
    }
}

/// Of many status events only the newest matters.
fn newest(status: Value) -> Value {
    status
}

#[pymethods]
impl ClientHandle {
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        from_json(py, &to_json(&self.client.status()))
    }

    fn on_status(&self, listener: u64) -> Subscription {
        Subscription::new(self.client.on_status(move |status| {
            post().leave(Item::Event { listener, payload: to_json(status), collapse: newest });
        }))
    }

    fn wait_for(&self, token: &Bound<'_, PyAny>, timeout: &Bound<'_, PyAny>) -> PyResult<Waiting> {
        let token = text(token, "token")?.to_owned();
        let (client, timeout) = (self.client.clone(), duration(timeout, "timeout")?);
        Ok(Waiting::new(async move { client.wait_for(&token, timeout).await }, |py, reached| {
            Ok(reached.raise(py)?.into_pyobject(py)?.to_owned().into_any().unbind())
        }))
    }

    fn close(&self, timeout: &Bound<'_, PyAny>) -> PyResult<Waiting> {
        let (client, timeout) = (self.client.clone(), duration(timeout, "timeout")?);
        Ok(Waiting::new(async move { client.close(timeout).await }, |py, left| match left {
            Ok(left) => Ok(left.into_pyobject(py)?.into_any().unbind()),
            Err(e) => Err(raised(py, &e)),
        }))
    }
}

/// What the core tells, as JSON: its types always serialise.
pub fn to_json(told: &impl serde::Serialize) -> Value {
    serde_json::to_value(told).unwrap_or(Value::Null)
}
