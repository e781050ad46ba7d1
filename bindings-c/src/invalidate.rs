//! Invalidations: applied here at once, published to everyone else; they never fail for lack of a network.

use std::ffi::c_char;

use crate::cache::{open, unstale_cache};
use crate::error::unstale_result;
use crate::ffi::{array, text, texts, unstale_str};
use crate::panic::boundary;
use crate::receipt::{hand_out, unstale_receipt};

/// A key to invalidate, perhaps with the version that is current now.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct unstale_key_version {
    /// The key's first byte.
    pub key: *const c_char,
    /// Number of bytes.
    pub key_len: usize,
    /// 0 to 2^53 - 1. Counts only if `has_version` is not 0.
    pub version: u64,
    /// Not 0: `version` counts.
    pub has_version: u8,
    /// Must be 0.
    pub reserved: [u8; 7],
}

/// Removes a key here and everywhere else. `receipt` (or NULL) is freed with `unstale_receipt_free`. Applied here
/// before this returns; does not wait for the network.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_invalidate(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key) = unsafe { (open(cache)?, text("key", key, key_len)?) };
        let made = cache.invalidate(key)?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}

/// Says that `version` (0 to 2^53 - 1) of a key is now current: entries with a lower version or none fall, here and
/// everywhere else, and lower ones are refused for `tombstone_ttl`.
///
/// Errors: as `unstale_cache_invalidate`, and `UNSTALE_INVALID_ARGUMENT` for a version out of range.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_invalidate_version(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    version: u64,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key) = unsafe { (open(cache)?, text("key", key, key_len)?) };
        let made = cache.invalidate_version(key, version)?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}

/// Invalidates many keys at once, all or (if one is bad) none. `items` may be NULL if `count` is 0.
///
/// Errors: as `unstale_cache_invalidate_version`.
///
/// # Safety
/// `items` has `count` items, whose keys have the lengths that they say.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_invalidate_many(
    cache: *mut unstale_cache,
    items: *const unstale_key_version,
    count: usize,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, items) = unsafe { (open(cache)?, array("items", items, count)?) };
        let mut keys = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            if item.reserved != [0; 7] {
                return Err(crate::error::invalid(format!("items[{i}].reserved is not 0; zero-initialise the struct")));
            }
            // SAFETY: the caller's promise.
            let key = unsafe { text(&format!("items[{i}].key"), item.key, item.key_len)? };
            keys.push((key, (item.has_version != 0).then_some(item.version)));
        }
        let made = cache.invalidate_many(keys)?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}

/// Removes every entry that has one of these tags, here and everywhere else. `tags` may be NULL if `count` is 0.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad tag), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `tags` has `count` items of the lengths that they say.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_invalidate_tags(
    cache: *mut unstale_cache,
    tags: *const unstale_str,
    count: usize,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, tags) = unsafe { (open(cache)?, texts("tags", tags, count)?) };
        let made = cache.invalidate_tags(tags)?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}

/// Removes every entry whose key starts with `prefix` (1 to 1,024 bytes), here and everywhere else.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad prefix), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache; `prefix` has `prefix_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_invalidate_prefix(
    cache: *mut unstale_cache,
    prefix: *const c_char,
    prefix_len: usize,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, prefix) = unsafe { (open(cache)?, text("prefix", prefix, prefix_len)?) };
        let made = cache.invalidate_prefix(prefix)?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}

/// Removes everything, here and everywhere else. Takes the same few microseconds for a million entries as for none.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_invalidate_all(
    cache: *mut unstale_cache,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promise.
        let made = unsafe { open(cache)? }.invalidate_all()?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}
