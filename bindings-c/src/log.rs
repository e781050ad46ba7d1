//! Log records, delivered to a callback on a thread of their own: so it may call the library, whatever the library was doing
//! when it logged.

use std::ffi::{c_char, c_void, CString};

use crate::error::unstale_result;
use crate::panic::boundary;
use crate::value::unstale_free_fn;

/// How grave a log record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum unstale_log_level {
    /// Nothing is logged; the default.
    UNSTALE_LOG_OFF = 0,
    /// Something does not work and will not by itself.
    UNSTALE_LOG_ERROR = 1,
    /// Something deserves attention, e.g. the connection was lost.
    UNSTALE_LOG_WARN = 2,
    /// What a person who watches wants to know.
    UNSTALE_LOG_INFO = 3,
    /// For finding faults.
    UNSTALE_LOG_DEBUG = 4,
    /// For finding faults in this library.
    UNSTALE_LOG_TRACE = 5,
}

/// A log record: a number of `unstale_log_level`, the part of the library that speaks ("unstale::link"), and the sentence with its
/// values. The strings are NUL-terminated and live until the callback returns.
pub type unstale_log_fn = Option<
    unsafe extern "C" fn(userdata: *mut c_void, level: u32, target: *const c_char, message: *const c_char),
>;

/// Sends log records of `max_level` (a number of `unstale_log_level`) and graver to `callback`, for the whole process, in place of the callback set before.
/// `UNSTALE_LOG_OFF` or a NULL callback ends it. Quiet by default; each condition is logged at most once a minute.
///
/// The callback is called on a thread of its own, one record at a time, and may call the library. 1,000 records wait for a
/// slow one; beyond, the newest are dropped, and how many is logged. When this returns, the callback set before has had all
/// its records, is not called any more and its `userdata` is freed (from within the callback itself: right after it returns).
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (no such level).
///
/// # Safety
/// `callback` and `userdata_free` may be called with `userdata` on any thread.
#[no_mangle]
pub unsafe extern "C" fn unstale_set_log(
    max_level: u32,
    callback: unstale_log_fn,
    userdata: *mut c_void,
    userdata_free: unstale_free_fn,
) -> unstale_result {
    boundary! { todo }
}
