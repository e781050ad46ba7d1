//! Clients: one per process and broker.

use std::ffi::{c_char, c_void};

use serde_json::{Map, Value};
use unstale_core::{blocking, CacheConfig, Client, ClientConfig, Dialect, Result};

use crate::cache::unstale_cache;
use crate::error::unstale_result;
use crate::ffi::{c_text, duration, output};
use crate::fork;
use crate::handle::Shell;
use crate::panic::{boundary, boundary_or};
use crate::subscription::{hand_out, unstale_event_fn, unstale_subscription, Listener};
use crate::text::{json, owned};
use crate::value::unstale_free_fn;

/// A client: the connection to one broker, shared by many caches. Make one per process and broker; freed with
/// `unstale_client_free`.
pub struct unstale_client {
    _opaque: [u8; 0],
}

/// Connects. `config_json` is a JSON object with the client's options, or NULL for none, e.g. `{"url":
/// "mqtt://localhost", "staleness_bound": "10s"}`. Without a `url` here or in the environment (`UNSTALE_URL`) nothing
/// leaves this process. Options that are not named come from the URL's query, then from the environment, then from the
/// defaults.
///
/// Blocks until the broker answered, at most `connect_timeout` (5 s); not at all with `"lazy": true`.
///
/// Errors: `UNSTALE_CONFIG` (not a JSON object, an unknown or impossible option), `UNSTALE_CONNECT`, `UNSTALE_AUTH`,
/// `UNSTALE_TLS`, `UNSTALE_TIMEOUT`, `UNSTALE_INVALID_ARGUMENT` (NULL, not UTF-8).
///
/// # Safety
/// `config_json` is NULL or NUL-terminated.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_connect(
    config_json: *const c_char,
    client: *mut *mut unstale_client,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (client, options) = unsafe { (output("client", client)?, object("config_json", config_json)?) };
        fork::prepare();
        let config = ClientConfig::parse(None, options, Dialect::JSON)?;
        let connected = blocking::connect(config)?;
        *client = Shell::new(connected).cast();
        Ok(())
    }
}

/// Opens the cache of a namespace: `[A-Za-z0-9._-]`, 1 to 64 characters, not starting with `_`; "" means no namespace.
/// `config_json` is a JSON object with the cache's options, or NULL for none, e.g. `{"ttl": "1m", "max_entries":
/// 50000}`. Does not wait for the network. Once per namespace and client.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, a bad namespace, one that is open already), `UNSTALE_CONFIG`,
/// `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// The strings are NULL or NUL-terminated.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_cache(
    client: *mut unstale_client,
    ns: *const c_char,
    config_json: *const c_char,
    cache: *mut *mut unstale_cache,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (client, cache) = unsafe { (open(client)?, output("cache", cache)?) };
        // SAFETY: the caller's promises.
        let (namespace, options) = unsafe { (c_text("ns", ns)?, object("config_json", config_json)?) };
        let opened = client.cache(namespace, CacheConfig::parse(options, Dialect::JSON)?)?;
        *cache = unstale_cache::new(opened);
        Ok(())
    }
}

/// The client's state as a JSON object: the transport, whether it is connected, what waits to be sent, counters. `json`
/// is freed with `unstale_string_free`. Works on a closed client too. Does not wait.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT`.
///
/// # Safety
/// `client` is a live client.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_status(client: *mut unstale_client, json: *mut *mut c_char) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (client, out) = unsafe { (open(client)?, output("json", json)?) };
        *out = owned(self::json(&client.status())?);
        Ok(())
    }
}

/// Calls `callback` with the new state (the JSON object of `unstale_client_status`) whenever the connection's state
/// changes. It is called on the client's own event thread, one call at a time, and may call the library; a slow one
/// delays the other events.
///
/// `subscription` ends it (`unstale_subscription_cancel`); it may be NULL for "until the client is freed".
///
/// Errors: `UNSTALE_INVALID_ARGUMENT`.
///
/// # Safety
/// `client` is a live client; `callback` and `userdata_free` may be called with `userdata` on any thread.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_on_status(
    client: *mut unstale_client,
    callback: unstale_event_fn,
    userdata: *mut c_void,
    userdata_free: unstale_free_fn,
    subscription: *mut *mut unstale_subscription,
) -> unstale_result {
    boundary! {
        let listener = Listener::new(callback, userdata, userdata_free)?;
        // SAFETY: the caller's promise.
        let client = unsafe { open(client)? };
        let heard = listener.clone();
        let made = client.on_status(move |status| heard.call(status));
        // SAFETY: the caller's promise.
        unsafe { hand_out(made, listener, subscription) };
        Ok(())
    }
}

/// Waits, for at most `timeout_ms` (0 to ten years), until this process has applied the invalidation that `token` names
/// (from `unstale_receipt_token`, perhaps in another process): what is read here afterwards is at least as new.
/// `reached` is false when the time ran out first; true at once if this client has no cache of the token's namespace.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT` (NULL, not a token), `UNSTALE_CLOSED`, `UNSTALE_FORKED`.
///
/// # Safety
/// `token` is NULL or NUL-terminated.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_wait_for(
    client: *mut unstale_client,
    token: *const c_char,
    timeout_ms: u64,
    reached: *mut bool,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promises.
        let (client, token, reached) = unsafe { (open(client)?, c_text("token", token)?, output("reached", reached)?) };
        *reached = blocking::wait_for(client, token, duration("timeout_ms", timeout_ms)?)?;
        Ok(())
    }
}

/// A `timeout_ms` for `unstale_client_close`, the one that the other languages use unless told otherwise.
pub const UNSTALE_CLOSE_TIMEOUT_MS: u64 = 5000;

/// Sends what waits to be sent, for at most `timeout_ms`, says goodbye and disconnects. `unsent` (or NULL) becomes the
/// number of messages that could not be sent. May be called at any time, from any thread, twice: calls still running
/// and later ones give `UNSTALE_CLOSED`. The handles stay; free them as ever.
///
/// Errors: `UNSTALE_INVALID_ARGUMENT`, `UNSTALE_FORKED`.
///
/// # Safety
/// `client` is a live client.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_close(
    client: *mut unstale_client,
    timeout_ms: u64,
    unsent: *mut usize,
) -> unstale_result {
    boundary! {
        // SAFETY: the caller's promise.
        let client = unsafe { open(client)? };
        let left = blocking::close(client, duration("timeout_ms", timeout_ms)?)?;
        if !unsent.is_null() {
            // SAFETY: non-NULL, and writable by the caller's promise.
            unsafe { *unsent = left };
        }
        Ok(())
    }
}

/// Frees the handle. A client that was not closed is disconnected without waiting once its caches are freed too, and
/// loses what was not sent yet: close it first. NULL, or a client freed before: does nothing.
///
/// No other thread may be inside a call with this handle.
///
/// # Safety
/// `client` is NULL or one that `unstale_client_connect` handed out.
#[no_mangle]
pub unsafe extern "C" fn unstale_client_free(client: *mut unstale_client) {
    boundary_or!((), {
        // SAFETY: the caller's promise.
        unsafe { Shell::free(client.cast::<Shell<Client>>()) }
    })
}

/// # Safety
/// NULL, or a client that this library made.
unsafe fn open<'a>(client: *mut unstale_client) -> Result<&'a Client> {
    // SAFETY: an `unstale_client` is a shell.
    unsafe { Shell::open("client", client.cast::<Shell<Client>>()) }
}

/// # Safety
/// NULL or NUL-terminated.
unsafe fn object(what: &str, text: *const c_char) -> Result<Map<String, Value>> {
    if text.is_null() {
        return Ok(Map::new());
    }
    // SAFETY: the caller's promise.
    let text = unsafe { c_text(what, text)? };
    serde_json::from_str(text).map_err(|e| {
        unstale_core::Error::new(unstale_core::ErrorKind::Config, format!("{what} is not a JSON object: {e}"))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_of_close_is_that_of_the_core() {
        assert_eq!(u128::from(super::UNSTALE_CLOSE_TIMEOUT_MS), unstale_core::DEFAULT_CLOSE_TIMEOUT.as_millis());
    }
}
