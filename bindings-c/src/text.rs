//! Strings that go out.

use std::ffi::{c_char, CStr, CString};

use serde::Serialize;
use unstale_core::{Error, ErrorKind, Result};

use crate::panic::boundary_or;

/// Frees a string that the library handed out as `char *`. NULL: does nothing.
///
/// # Safety
/// `string` is NULL or was handed out by this library and not freed yet.
#[no_mangle]
pub unsafe extern "C" fn unstale_string_free(string: *mut c_char) {
    boundary_or!((), {
        if !string.is_null() {
            // SAFETY: `owned` made it, by the caller's promise.
            drop(unsafe { CString::from_raw(string) });
        }
    })
}

/// The library's version, e.g. "0.1.0". Static: never freed.
#[no_mangle]
pub extern "C" fn unstale_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => unreachable!(),
    };
    VERSION.as_ptr()
}

/// A string for C, to be freed by [`unstale_string_free`].
pub(crate) fn owned(mut text: String) -> *mut c_char {
    text.retain(|c| c != '\0');
    CString::new(text).unwrap_or_default().into_raw()
}

pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::new(ErrorKind::Internal, e.to_string()))
}
