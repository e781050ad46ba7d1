//! Caches: look up, store, change, and what stays local.

use std::ffi::{c_char, c_void};

use unstale_core::{Cache, Result};

use crate::error::unstale_result;
use crate::ffi::{input, output, text, UNSTALE_NO_LIMIT};
use crate::handle::Shell;
use crate::options::{options, unstale_set_options};
use crate::panic::{boundary, boundary_or};
use crate::receipt::{hand_out, unstale_receipt};
use crate::subscription::{self, unstale_event_fn, unstale_subscription, Listener};
use crate::text::{json, owned};
use crate::value::{unstale_free_fn, unstale_value, Blob};

/// A cache: the entries of one namespace, held in this process. Freed with `unstale_cache_free`.
pub struct unstale_cache {
    _opaque: [u8; 0],
}

/// Looks a key up. `value` becomes a counted view without a copy, to be released with `unstale_value_release`; not
/// found: `data` is NULL. Never blocks, never waits for the network.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_get(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    value: *mut unstale_value,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, value) = unsafe { (open(cache)?, text("key", key, key_len)?, output("value", value)?) };
        *value = match cache.get(key) {
            Some(blob) => blob.into_view(),
            None => {
                cache.check(key)?;
                unstale_value::NONE
            }
        };
        Ok(())
    }
}

/// Looks a key up and gives only the `data` of its value, as a number, without a reference: nothing to release. 0: not
/// found, or an error (`unstale_cache_get` says which). For values made by `unstale_value_new` whose `data` is the
/// number of an object in a table of yours: one call per hit instead of two.
///
/// The value may be freed by another thread before this returns. So never dereference it, and never reuse a number: a
/// number that your table no longer has is a miss.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_peek(cache: *mut unstale_cache, key: *const c_char, key_len: usize) -> usize {
    boundary_or!(0, {
        // SAFETY: the caller's promises.
        match unsafe { (open(cache), text("key", key, key_len)) } {
            (Ok(cache), Ok(key)) => cache.get(key).map_or(0, |blob| blob.address()),
            _ => 0,
        }
    })
}

/// Whether `unstale_cache_get` would find the key now.
///
/// Errors: as `unstale_cache_get`.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_contains(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    contained: *mut bool,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, out) = unsafe { (open(cache)?, text("key", key, key_len)?, output("contained", contained)?) };
        let contained = cache.contains(key);
        if !contained {
            cache.check(key)?;
        }
        *out = contained;
        Ok(())
    }
}

/// Stores a value here; publishes nothing. `options` may be NULL. `stored` (or NULL) becomes false if the value was
/// refused: its lease was fenced by an invalidation or used before, or its version is lower than the newest one known.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a value without data, a bad key, tag, dependency, version or duration, a
/// freed lease), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// The pointers are valid for the lengths given with them.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_set(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    value: *const unstale_value,
    options: *const unstale_set_options,
    stored: *mut bool,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, value) = unsafe { (open(cache)?, text("key", key, key_len)?, input("value", value)?) };
        // SAFETY: the caller's promises.
        let (options, value) = unsafe { (self::options(options)?, Blob::of(value, "value")?) };
        let done = cache.set_with(key, value, &options)?;
        if !stored.is_null() {
            // SAFETY: non-NULL, and writable by the caller's promise.
            unsafe { *stored = done };
        }
        Ok(())
    }
}

/// Stores the new value here and invalidates the key everywhere else, after a write to the source. `options` must have
/// a `lease` taken before that write, or a version. If that lease was fenced or that version is too low, it is an
/// invalidation only; `unstale_receipt_stored` says which. `receipt` (or NULL) is freed with `unstale_receipt_free`.
/// Does not wait for the network.
///
/// Errors: as `unstale_cache_set`, and `UNSTALE_INVALID_ARGUMENT` without a lease or version.
///
/// # Safety
/// The pointers are valid for the lengths given with them.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_update(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    value: *const unstale_value,
    options: *const unstale_set_options,
    receipt: *mut *mut unstale_receipt,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key, value) = unsafe { (open(cache)?, text("key", key, key_len)?, input("value", value)?) };
        // SAFETY: the caller's promises.
        let (options, value) = unsafe { (self::options(options)?, Blob::of(value, "value")?) };
        let made = cache.update(key, value, &options)?;
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, receipt) };
        Ok(())
    }
}

/// Removes a key here, and here only; a load of it that is under way is not stored. `held` (or NULL) becomes true if
/// there was an entry.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad key), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache; `key` has `key_len` bytes.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_evict(
    cache: *mut unstale_cache,
    key: *const c_char,
    key_len: usize,
    held: *mut bool,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, key) = unsafe { (open(cache)?, text("key", key, key_len)?) };
        let was = cache.evict(key)?;
        if !held.is_null() {
            // SAFETY: non-NULL, and writable by the caller's promise.
            unsafe { *held = was };
        }
        Ok(())
    }
}

/// Removes everything here, and here only; loads under way are not stored.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `cache` is a live cache.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_clear_local(cache: *mut unstale_cache) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promise.
        unsafe { open(cache)? }.clear_local()
    }
}

/// The cache's `load_timeout` in milliseconds: how long a reader waits for another's load. `UNSTALE_NO_LIMIT` if it has
/// none, or for a cache that is NULL or freed. For bindings whose readers wait in their own way and ask
/// `unstale_join_wait` with 0.
///
/// # Safety
/// `cache` is a live cache.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_load_timeout(cache: *mut unstale_cache) -> u64 {
    boundary_or!(UNSTALE_NO_LIMIT, {
        // SAFETY: the caller's promise.
        let limit = unsafe { open(cache) }.ok().and_then(|cache| cache.load_timeout());
        limit.and_then(|limit| u64::try_from(limit.as_millis()).ok()).unwrap_or(UNSTALE_NO_LIMIT)
    })
}

/// Number of entries held, dead ones that were not removed yet included; 0 for a cache that is NULL or freed.
///
/// # Safety
/// `cache` is a live cache.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_len(cache: *mut unstale_cache) -> usize {
    boundary_or!(0, {
        // SAFETY: the caller's promise.
        unsafe { open(cache) }.map_or(0, |cache| cache.len())
    })
}

/// The cache's counters (hits, misses, loads, invalidations, …) as a JSON object. `json` is freed with
/// `unstale_string_free`. Works on a closed client too.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL).
///
/// # Safety
/// `cache` is a live cache.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_stats(cache: *mut unstale_cache, json: *mut *mut c_char) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (cache, out) = unsafe { (open(cache)?, output("json", json)?) };
        *out = owned(self::json(&cache.stats())?);
        Ok(())
    }
}

/// Calls `callback` for each invalidation that was applied here, with a JSON object: `namespace`, `keys`, `tags`,
/// `prefixes`, `all`, `origin` ("local" or "remote"), `src`, `seq`. It is called on the client's own event thread,
/// after the entries are gone, one call at a time, and may call the library; a slow one delays the other events.
///
/// `subscription` ends it (`unstale_subscription_cancel`); it may be NULL for "as long as the cache lives".
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL).
///
/// # Safety
/// `cache` is a live cache; `callback` and `userdata_free` may be called with `userdata` on any thread.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_on_invalidated(
    cache: *mut unstale_cache,
    callback: unstale_event_fn,
    userdata: *mut c_void,
    userdata_free: unstale_free_fn,
    subscription: *mut *mut unstale_subscription,
) -> unstale_result {
    boundary! {
        let listener = Listener::new(callback, userdata, userdata_free)?;
        // SAFETY: the caller's promise.
        let cache = unsafe { open(cache)? };
        let heard = listener.clone();
        let made = cache.on_invalidated(move |invalidation| heard.call(invalidation));
        // SAFETY: the caller's promise.
        unsafe { subscription::hand_out(made, listener, subscription) };
        Ok(())
    }
}

/// Frees the handle. Values that were got from it stay valid until they are released. NULL, or a cache freed before:
/// does nothing.
///
/// No other thread may be inside a call with this handle.
///
/// # Safety
/// `cache` is NULL or one that `unstale_client_cache` handed out.
#[no_mangle]
pub unsafe extern "C" fn unstale_cache_free(cache: *mut unstale_cache) {
    boundary_or!((), {
        // SAFETY: the caller's promise.
        unsafe { Shell::free(cache.cast::<Shell<Cache<Blob>>>()) }
    })
}

impl unstale_cache {
    pub(crate) fn new(cache: Cache<Blob>) -> *mut unstale_cache {
        Shell::new(cache).cast()
    }
}

/// # Safety
/// NULL, or a cache that this library made.
#[inline]
pub(crate) unsafe fn open<'a>(cache: *mut unstale_cache) -> Result<&'a Cache<Blob>> {
    // SAFETY: an `unstale_cache` is a shell.
    unsafe { Shell::open("cache", cache.cast::<Shell<Cache<Blob>>>()) }
}
