//! Waiting for the core from Python: blocking without the GIL, or in a coroutine.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::exit;
use crate::post::post;

/// How long a signal (Ctrl-C) may wait: Python handles it on the main thread, and only when we look.
const SLICE: Duration = Duration::from_millis(50);

type Outcome = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// A future of the core. It is polled by whoever waits for it, always with the GIL: its result may hold Python objects.
#[pyclass(frozen, module = "unstale._native")]
pub struct Waiting {
    work: Mutex<Option<Work>>,
    signal: Arc<Signal>,
}

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    woken: bool,
    callback: Option<Py<PyAny>>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        let callback = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.woken = true;
            state.callback.take()
        };
        self.bell.notify_all();
        if let Some(callback) = callback {
            post().wake_soon(callback);
        }
    }
}

impl Signal {
    fn arm(&self, callback: Option<Py<PyAny>>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { woken: false, callback };
    }

    /// Waits, without the GIL, for the wake-up, or for a slice of time.
    fn wait(&self, slice: Option<Duration>) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = match slice {
            Some(slice) => {
                self.bell.wait_timeout_while(state, slice, |s| !s.woken).unwrap_or_else(PoisonError::into_inner).0.woken
            }
            None => self.bell.wait_while(state, |s| !s.woken).unwrap_or_else(PoisonError::into_inner).woken,
        };
        exit::stay_out_of_a_finalizing_interpreter();
        woken
    }
}

impl Waiting {
    /// Waits for `work`; `convert` makes its result a Python object.
    pub fn new<T: Send + 'static>(
        work: impl Future<Output = T> + Send + 'static,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Waiting {
        let work = async move {
            let result = work.await;
            Box::new(move |py: Python<'_>| convert(py, result)) as Outcome
        };
        Waiting { work: Mutex::new(Some(Box::pin(work))), signal: Arc::default() }
    }

    fn try_finish(&self, callback: Option<Py<PyAny>>) -> PyResult<Option<Outcome>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(running) = work.as_mut() else {
            return Err(PyRuntimeError::new_err("this was already waited for"));
        };
        self.signal.arm(callback);
        match running.as_mut().poll(&mut Context::from_waker(&Waker::from(self.signal.clone()))) {
            Poll::Ready(outcome) => {
                *work = None;
                Ok(Some(outcome))
            }
            Poll::Pending => Ok(None),
        }
    }

    /// Blocks, without the GIL, until the result is there. Signal handlers run meanwhile; an exception of theirs ends the wait.
    pub fn block(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let slice = if exit::on_main_thread(py)? { Some(SLICE) } else { None };
        loop {
            if let Some(outcome) = self.try_finish(None)? {
                return outcome(py);
            }
            while !py.detach(|| self.signal.wait(slice)) {
                if let Err(e) = py.check_signals() {
                    self.cancel();
                    return Err(e);
                }
            }
        }
    }
}

#[pymethods]
impl Waiting {
    /// Blocks until the result is there.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.block(py)
    }

    /// `(True, result)`, or `(False, None)`, after which `callback` is called once when it is worth asking again.
    fn poll(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<(bool, Py<PyAny>)> {
        match self.try_finish(Some(callback))? {
            Some(outcome) => Ok((true, outcome(py)?)),
            None => Ok((false, py.None())),
        }
    }

    /// Gives up: whoever waits is told nothing.
    fn cancel(&self) {
        *self.work.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.signal.arm(None);
    }
}
