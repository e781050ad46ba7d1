//! `unstale._native`: the core for Python. The package around it is in `../python/unstale`.
//!
//! A binding converts types, maps errors, releases the GIL and dispatches callbacks; it decides no policy.

#![deny(missing_docs)]

mod cache;
mod client;
mod convert;
mod error;
mod exit;
mod handles;
mod held;
mod hot;
mod logging;
mod post;
mod waiting;

use pyo3::pymodule;

/// The native half of `unstale`. Private: its names change without notice.
#[pymodule(gil_used = true)]
mod _native {
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, Ordering};

    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyList;

    use crate::convert::from_json;
    use crate::post::{post, renew_after_fork, Item};
    use crate::{hot, logging};

    #[pymodule_export]
    use crate::cache::CacheBase;
    #[pymodule_export]
    use crate::client::{connect, ClientHandle};
    #[pymodule_export]
    use crate::handles::{Lease, Load, Receipt, Subscription};
    #[pymodule_export]
    use crate::hot::{adopt, Plan};
    #[pymodule_export]
    use crate::waiting::Waiting;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        only_interpreter()?;
        logging::install();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("CLOSE_SECONDS", unstale::DEFAULT_CLOSE_TIMEOUT.as_secs_f64())?;
        module.add("MISSING", hot::missing(module.py()))?;
        module.add("Cache", hot::make_type(module.py())?)
    }

    /// Objects of one interpreter must not reach another one, and what this library holds is the process's. Python itself
    /// checks this from 3.12 on.
    fn only_interpreter() -> PyResult<()> {
        static FIRST: AtomicPtr<ffi::PyInterpreterState> = AtomicPtr::new(null_mut());
        // SAFETY: the GIL is held, so there is a current interpreter.
        let here = unsafe { ffi::PyInterpreterState_Get() };
        match FIRST.compare_exchange(null_mut(), here, Ordering::AcqRel, Ordering::Acquire) {
            Err(first) if first != here => Err(PyImportError::new_err("unstale does not support subinterpreters")),
            _ => Ok(()),
        }
    }

    /// Wakes coroutines and frees dead objects, until `stop_post`.
    #[pyfunction]
    fn serve_post(py: Python<'_>) {
        post().serve(py);
    }

    /// Waits for messages to the package; `None`: stop asking. `("event", listener, payload)` or `(level, logger, message)`.
    #[pyfunction]
    fn take_post(py: Python<'_>) -> PyResult<Option<Bound<'_, PyList>>> {
        let Some(items) = post().take(py) else { return Ok(None) };
        let list = PyList::empty(py);
        for item in items {
            match item {
                Item::Event { listener, payload, .. } => list.append(("event", listener, from_json(py, &payload)?))?,
                Item::Record { level, target, message } => list.append((level, target, message))?,
            }
        }
        Ok(Some(list))
    }

    /// Ends `serve_post` and `take_post` once nothing is left for them.
    #[pyfunction]
    fn stop_post() {
        post().stop();
    }

    /// In a forked child, before anything else.
    #[pyfunction]
    fn after_fork() {
        renew_after_fork();
    }

    /// Log records of this level and above are wanted.
    #[pyfunction]
    fn set_log_level(level: u32) {
        logging::set_lowest(level);
    }
}
