//! Receipts: what became of an invalidation or update that was issued here.

use std::ffi::c_char;

use unstale_core::{blocking, Receipt};

use crate::error::unstale_result;
use crate::ffi::{duration, output};
use crate::handle::Table;
use crate::panic::{boundary, boundary_or};
use crate::text::owned;

/// The receipt of an `invalidate…` or `update`. Freed with `unstale_receipt_free`, at any time: that cancels nothing.
pub struct unstale_receipt {
    _opaque: [u8; 0],
}

pub(crate) static RECEIPTS: Table<unstale_receipt, Receipt> = Table::new("receipt", 1);

/// The token that names this invalidation, fit for an HTTP header: another process gives it to
/// `unstale_client_wait_for` to read what was written here. `token` is freed with `unstale_string_free`.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT`.
///
/// # Safety
/// `token` is writable.
#[no_mangle]
pub unsafe extern "C" fn unstale_receipt_token(
    receipt: *mut unstale_receipt,
    token: *mut *mut c_char,
) -> unstale_result {
    boundary! {
        let receipt = RECEIPTS.get(receipt)?;
        // SAFETY: the caller's promise.
        let token = unsafe { output("token", token)? };
        *token = owned(receipt.token());
        Ok(())
    }
}

/// Whether `unstale_cache_update` stored its value here; false for one that was an invalidation only, and for
/// `invalidate…`.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT`.
///
/// # Safety
/// `stored` is writable.
#[no_mangle]
pub unsafe extern "C" fn unstale_receipt_stored(receipt: *mut unstale_receipt, stored: *mut bool) -> unstale_result {
    boundary! {
        let receipt = RECEIPTS.get(receipt)?;
        // SAFETY: the caller's promise.
        let stored = unsafe { output("stored", stored)? };
        *stored = receipt.stored();
        Ok(())
    }
}

/// Waits, for at most `timeout_ms` (0 to ten years), until the broker has acknowledged the message. `delivered` is
/// false when the time ran out first (0: only looks), or the client was closed.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT`.
///
/// # Safety
/// `delivered` is writable.
#[no_mangle]
pub unsafe extern "C" fn unstale_receipt_wait(
    receipt: *mut unstale_receipt,
    timeout_ms: u64,
    delivered: *mut bool,
) -> unstale_result {
    boundary! {
        let receipt = RECEIPTS.get(receipt)?;
        // SAFETY: the caller's promise.
        let delivered = unsafe { output("delivered", delivered)? };
        *delivered = blocking::delivered(&receipt, duration("timeout_ms", timeout_ms)?);
        Ok(())
    }
}

/// Frees the receipt. NULL, or one freed before: does nothing.
#[no_mangle]
pub extern "C" fn unstale_receipt_free(receipt: *mut unstale_receipt) {
    boundary_or!((), { drop(RECEIPTS.remove(receipt)) })
}

/// # Safety
/// `place` is NULL (nobody wants it) or writable.
pub(crate) unsafe fn hand_out(receipt: Receipt, place: *mut *mut unstale_receipt) {
    if !place.is_null() {
        // SAFETY: the caller's promise.
        unsafe { *place = RECEIPTS.insert(receipt) };
    }
}
