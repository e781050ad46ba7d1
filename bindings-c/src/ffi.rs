//! What comes in and goes out: pointers become references, bytes become text, each with an error that names the
//! argument.

use std::ffi::{c_char, CStr};
use std::slice;
use std::time::Duration;

use unstale_core::config::{Case, Unit};
use unstale_core::{Dialect, Result};

use crate::error::invalid;

/// Bytes of UTF-8 that need not end in NUL: a tag, or a key of `depends_on`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_str {
    /// The first byte.
    pub data: *const c_char,
    /// Number of bytes.
    pub len: usize,
}

/// `timeout_ms` for a wait without a limit.
pub const UNSTALE_NO_LIMIT: u64 = u64::MAX;

/// A place for an output.
///
/// # Safety
/// NULL, or valid for writing for as long as the call lasts.
pub(crate) unsafe fn output<'a, T>(what: &str, place: *mut T) -> Result<&'a mut T> {
    // SAFETY: the caller's promise. Outputs are plain data for which every bit pattern is valid or that are only written.
    unsafe { place.as_mut() }.ok_or_else(|| null(what))
}

/// An input struct.
///
/// # Safety
/// NULL, or valid for reading for as long as the call lasts.
pub(crate) unsafe fn input<'a, T>(what: &str, given: *const T) -> Result<&'a T> {
    // SAFETY: the caller's promise.
    unsafe { given.as_ref() }.ok_or_else(|| null(what))
}

/// An array; NULL is allowed for a count of 0.
///
/// # Safety
/// `items` is NULL or has `count` readable items.
pub(crate) unsafe fn array<'a, T>(what: &str, items: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if items.is_null() {
        return Err(null(what));
    }
    if count > isize::MAX as usize / std::mem::size_of::<T>() {
        return Err(invalid(format!("{what} claims {count} items")));
    }
    // SAFETY: non-NULL, of a possible size, readable by the caller's promise.
    Ok(unsafe { slice::from_raw_parts(items, count) })
}

/// Text with a length.
///
/// # Safety
/// `data` is NULL or has `len` readable bytes.
#[inline]
pub(crate) unsafe fn text<'a>(what: &str, data: *const c_char, len: usize) -> Result<&'a str> {
    if data.is_null() {
        return Err(null(what));
    }
    if len > isize::MAX as usize {
        return Err(invalid(format!("{what} claims a length of {len} bytes")));
    }
    // SAFETY: non-NULL, of a possible size, readable by the caller's promise.
    let bytes = unsafe { slice::from_raw_parts(data.cast::<u8>(), len) };
    // Most keys; eight bytes at a time, where `from_utf8` takes a quarter of a hit's instructions for a short one.
    if bytes.is_ascii() {
        // SAFETY: ASCII is UTF-8.
        return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    std::str::from_utf8(bytes).map_err(|e| invalid(format!("{what} is not UTF-8 (at byte {})", e.valid_up_to())))
}

/// NUL-terminated text.
///
/// # Safety
/// NULL or NUL-terminated.
pub(crate) unsafe fn c_text<'a>(what: &str, data: *const c_char) -> Result<&'a str> {
    if data.is_null() {
        return Err(null(what));
    }
    // SAFETY: NUL-terminated by the caller's promise.
    let bytes = unsafe { CStr::from_ptr(data) }.to_bytes();
    std::str::from_utf8(bytes).map_err(|e| invalid(format!("{what} is not UTF-8 (at byte {})", e.valid_up_to())))
}

/// The items of an array of texts.
///
/// # Safety
/// As for [`array`] and [`text`].
pub(crate) unsafe fn texts<'a>(what: &str, items: *const unstale_str, count: usize) -> Result<Vec<&'a str>> {
    // SAFETY: the caller's promises.
    unsafe { array(what, items, count)? }
        .iter()
        .enumerate()
        // SAFETY: as above.
        .map(|(i, item)| unsafe { text(&format!("{what}[{i}]"), item.data, item.len) })
        .collect()
}

/// A wait's limit; `None` for [`UNSTALE_NO_LIMIT`].
pub(crate) fn limit(timeout_ms: u64) -> Option<Duration> {
    (timeout_ms != UNSTALE_NO_LIMIT).then(|| Duration::from_millis(timeout_ms))
}

#[cold]
fn null(what: &str) -> unstale_core::Error {
    invalid(format!("{what} is NULL"))
}

/// A limit that the core judges.
pub(crate) fn duration(what: &str, ms: u64) -> Result<Duration> {
    const C: Dialect = Dialect { unit: Unit::Millis, case: Case::Snake };
    C.duration(what, ms as f64)
}
