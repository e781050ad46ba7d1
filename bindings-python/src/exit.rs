//! Daemon threads when the interpreter ends.
//!
//! Until Python 3.13 a thread that asks for the GIL of an interpreter that is being finalized is ended by `pthread_exit`,
//! which unwinds its stack; unwinding through Rust aborts the process. So a thread that waited here without the GIL does
//! not ask for it then, but stays where it is, as Python 3.14 has it do. A thread inside a loader has no frame of ours
//! that could not be unwound (`hot::call_load`).

use std::ffi::c_int;
use std::sync::OnceLock;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

type Question = unsafe extern "C" fn() -> c_int;

/// Python's own answer, where it has one: public since 3.13, private but exported before, in no limited API of ours.
fn is_finalizing() -> bool {
    static ANSWER: OnceLock<Option<Question>> = OnceLock::new();
    let answer = ANSWER.get_or_init(|| {
        [c"Py_IsFinalizing", c"_Py_IsFinalizing"].into_iter().find_map(|name| {
            // SAFETY: a look-up by a valid name in what the process has loaded.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            // SAFETY: both names have this type in every Python that has them.
            (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut libc::c_void, Question>(found) })
        })
    });
    // SAFETY: may be called at any time, without the GIL.
    answer.is_some_and(|is_finalizing| unsafe { is_finalizing() } != 0)
}

/// Returns unless the interpreter is ending; then never.
pub fn stay_out_of_a_finalizing_interpreter() {
    while is_finalizing() {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Whether this is the thread that handles signals.
pub fn on_main_thread(py: Python<'_>) -> PyResult<bool> {
    static MAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let main = MAIN.import(py, "threading", "main_thread")?.call0()?;
    main.getattr("ident")?.eq(CURRENT.import(py, "threading", "get_ident")?.call0()?)
}
