//! Leases: permission to fill a key, given before its source is read or written.

use std::ffi::c_char;

use unstale_core::Lease;

use crate::cache::{open, unstale_cache};
use crate::error::unstale_result;
use crate::ffi::{output, text};
use crate::handle::Table;
use crate::panic::{boundary, boundary_or};

/// Permission to fill a key; put into `unstale_set_options.lease`. Freed with `unstale_lease_free`.
pub struct unstale_lease {
    _opaque: [u8; 0],
}

pub(crate) static LEASES: Table<unstale_lease, Lease> = Table::new("lease", 2);

/// Takes a lease. Take it before you read the source, then `unstale_cache_set` with it: if the key, or a tag or
/// dependency given there, was invalidated in between, the value is not stored. For `unstale_cache_update`, take it
/// before you write to the source. Several may be open for one key.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_lease(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    lease: *mut *mut unstale_lease,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, lease) = unsafe { (open(cache)?, text("key", key, key_len)?, output("lease", lease)?) };
        *lease = LEASES.insert(cache.lease(key)?);
        Ok(())
    }
}

/// Gives the lease back, used or not. NULL, or one freed before: does nothing.
#[no_mangle]
pub extern "C" fn unstale_lease_free(lease: *mut unstale_lease) {
    boundary_or!((), { drop(LEASES.remove(lease)) })
}
