//! The calls that wait, for callers without a runtime. All else is the same as elsewhere: the other methods never wait.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::marker::PhantomData;
use std::time::Duration;

use crate::cache::{finish, joined, Begin, Cache, Load, Pending, SetOptions};
use crate::client::{Client, Receipt};
use crate::config::ClientConfig;
use crate::error::{Error, Result};
use crate::fill::Joined;

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
            Begin::Lead(load) => {
                let _leading = leading(&load);
                return finish(load, loader());
            }
            Begin::Join(pending) => {
                if let Some(outcome) = joined(key, join(&pending, key, None)?) {
                    return outcome;
                }
            }
        }
    }
}

thread_local! {
    /// The loads that this thread leads just now.
    static LEADING: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Marks that this thread runs a loader, until dropped.
pub struct Leading {
    id: u64,
    _this_thread_only: PhantomData<*const ()>,
}

/// Says that this thread runs the loader of `load` until the guard is dropped, so that [`join`] can tell a loader that asks
/// for its own key, which would wait for itself.
pub fn leading<V: Clone + Send + Sync + 'static>(load: &Load<V>) -> Leading {
    LEADING.with_borrow_mut(|ids| ids.push(load.id()));
    Leading { id: load.id(), _this_thread_only: PhantomData }
}

impl Drop for Leading {
    fn drop(&mut self) {
        LEADING.with_borrow_mut(|ids| ids.retain(|id| *id != self.id));
    }
}

/// Waits for another reader's load, at most `timeout` and the cache's `load_timeout`.
///
/// # Errors
/// `InvalidArgument` if this thread itself leads that load.
pub fn join<V: Clone>(pending: &Pending<V>, key: &str, timeout: Option<Duration>) -> Result<Joined<V>> {
    if LEADING.with_borrow(|ids| ids.contains(&pending.load_id())) {
        return Err(Error::invalid(format!(
            "the loader of {key:?} asks for its own key; read the source in it, not the cache"
        )));
    }
    Ok(pending.wait(timeout))
}
