//! The calls that wait, for callers without a runtime. All else is the same as elsewhere: the other methods never wait.

use std::error::Error as StdError;
use std::time::Duration;

use crate::cache::{finish, joined, Begin, Cache, SetOptions};
use crate::client::{Client, Receipt};
use crate::config::ClientConfig;
use crate::error::Result;

/// As [`Client::connect`], blocking the thread.
///
/// # Errors
/// As [`Client::connect`].
pub fn connect(config: ClientConfig) -> Result<Client> {
    pollster::block_on(Client::connect(config))
}

/// As [`Client::wait_for`], blocking the thread.
///
/// # Errors
/// As [`Client::wait_for`].
pub fn wait_for(client: &Client, token: &str, timeout: Duration) -> Result<bool> {
    pollster::block_on(client.wait_for(token, timeout))
}

/// As [`Client::close`], blocking the thread.
///
/// # Errors
/// As [`Client::close`].
pub fn close(client: &Client, timeout: Duration) -> Result<usize> {
    pollster::block_on(client.close(timeout))
}

/// As [`Receipt::delivered`], blocking the thread.
pub fn delivered(receipt: &Receipt, timeout: Duration) -> bool {
    pollster::block_on(receipt.delivered(timeout))
}

/// As [`Cache::get_or_load_with`], blocking the thread; `loader` runs on it.
///
/// # Errors
/// As [`Cache::get_or_load`].
pub fn get_or_load<V, F, E>(cache: &Cache<V>, key: &str, options: &SetOptions, loader: F) -> Result<Option<V>>
where
    V: Clone + Send + Sync + 'static,
    F: FnOnce() -> std::result::Result<Option<V>, E>,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    loop {
        match cache.begin_with(key, options)? {
            Begin::Hit(value) => return Ok(Some(value)),
            Begin::Absent => return Ok(None),
            Begin::Lead(load) => return finish(load, loader()),
            Begin::Join(pending) => {
                if let Some(outcome) = joined(key, pending.wait(None)) {
                    return outcome;
                }
            }
        }
    }
}
