//! The functions of `lib/cache.js`.
//!
//! JavaScript chooses the slot of a value and keeps the value; here the core decides whether it is stored. A slot that was
//! passed comes back through the arena's list of ended slots, whatever the outcome.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use napi::bindgen_prelude::{External, Object, Unknown};
use napi::Env;
use napi_derive::napi;
use unstale::{blocking, Cache, CacheConfig, Dialect, Error, ErrorKind, Receipt, Result, Subscription};

use crate::arena::{Arena, Slot};
use crate::client::{json, options};
use crate::load::Loads;
use crate::mailbox::Event;
use crate::runtime::Runtime;
use crate::terms;
use crate::text::Text;

/// Instead of a slot: nothing is held, or nothing was found.
pub const NONE: i32 = -1;
/// A `Map` of V8 holds at most 2^24 entries; some room is left for those that are replaced.
const MAX_ENTRIES: u64 = 16_000_000;

/// A cache, its memory and its open loads.
pub struct Held {
    /// The core's cache.
    pub cache: Cache<Slot>,
    /// Its slots.
    pub arena: Arc<Arena>,
    /// Loads that JavaScript leads.
    pub loads: Loads,
    listener: RefCell<Option<Subscription>>,
    /// The newest receipt: delivered, all earlier ones are.
    last: RefCell<Option<Receipt>>,
}

impl Held {
    /// A receipt on its way to JavaScript.
    pub fn receipt(&self, receipt: Receipt) -> External<Receipt> {
        self.last.replace(Some(receipt.clone()));
        External::new(receipt)
    }

    /// Waits until all that was invalidated here is delivered, or until `deadline`.
    pub fn settle(&self, deadline: Instant) {
        if let Some(receipt) = &*self.last.borrow() {
            blocking::delivered(receipt, deadline.saturating_duration_since(Instant::now()));
        }
    }

    /// A guard for a slot of JavaScript's choice.
    pub fn guard(&self, slot: u32) -> Result<Slot> {
        self.arena.guard(slot).ok_or_else(|| Error::new(ErrorKind::Internal, format!("slot {slot} does not exist")))
    }

    /// After the core took the value: what JavaScript needs to serve it.
    pub fn describe(&self, key: &str, slot: u32) {
        if let Some(facts) = self.cache.inspect(key) {
            self.arena.describe(slot, &facts);
        }
    }

    /// Replays hits that JavaScript served (keys, joined by NUL), for the eviction policy.
    pub fn touch(&self, keys: Option<Text>) -> Result<()> {
        if let Some(keys) = keys {
            keys.get("keys")?.split('\0').for_each(|key| self.cache.touch(key));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(subscription) = self.listener.take() {
            subscription.cancel();
        }
    }
}

/// What `cache_open` gives to JavaScript.
#[napi(object, object_from_js = false)]
pub struct Opened<'env> {
    /// The cache's number.
    pub number: u32,
    /// The memory of its board and its first slots.
    pub memory: Unknown<'env>,
    /// How many slots these are.
    pub first_chunk: u32,
    /// How long callers wait for another caller's load, in ms.
    pub load_timeout: Option<f64>,
}

/// Opens a cache.
#[napi]
pub fn cache_open(env: &Env, client: u32, namespace: Text, json: Text) -> napi::Result<Opened<'_>> {
    let (number, arena, load_timeout) = Runtime::enter(env, |runtime| {
        let namespace = namespace.get("namespace")?;
        let config = CacheConfig::parse(options(json)?, Dialect::NODE)?;
        if config.max_entries > MAX_ENTRIES {
            let message =
                format!("option `maxEntries` must be at most {MAX_ENTRIES} in Node, not {}", config.max_entries);
            return Err(Error::new(ErrorKind::Config, message));
        }
        let load_timeout = config.load_timeout.map(|timeout| timeout.as_secs_f64() * 1e3);
        let connection = runtime.client(client)?;
        runtime.add_cache(|number| {
            let mailbox = runtime.mailbox.clone();
            let arena = Arena::new(config.max_entries, move || mailbox.post(Event::Ended(number)));
            let cache = connection.client.cache::<Slot>(&namespace, config)?;
            let mirror = arena.clone();
            runtime.clock.add(&arena);
            cache.mirror(move |vitals| mirror.mirror(vitals));
            let held = Held {
                cache,
                arena: arena.clone(),
                loads: Loads::default(),
                listener: RefCell::new(None),
                last: RefCell::new(None),
            };
            Ok((held, (number, arena, load_timeout)))
        })
    })?;
    Ok(Opened { number, first_chunk: arena.first(), memory: arena.memory().into_buffer(env)?, load_timeout })
}

/// JavaScript has forgotten this cache.
#[napi]
pub fn cache_forget(env: &Env, cache: u32) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        runtime.drop_cache(cache);
        Ok(())
    })
}

/// The memory of the next slots.
#[napi]
pub fn cache_grow(env: &Env, cache: u32) -> napi::Result<Unknown<'_>> {
    let view = Runtime::enter(env, |runtime| {
        let full = || Error::new(ErrorKind::Internal, "no more slots are possible");
        runtime.cache(cache)?.arena.grow().ok_or_else(full)
    })?;
    view.into_buffer(env)
}

/// The slot of the value that may be served, or [`NONE`]. Counted as a hit or a miss.
#[napi]
pub fn cache_get(env: &Env, cache: u32, key: Text) -> napi::Result<i32> {
    Runtime::enter(env, |runtime| {
        let (held, key) = (runtime.cache(cache)?, key.get("key")?);
        // First: a closed client's values are gone in JavaScript at once.
        held.cache.check(&key)?;
        Ok(held.cache.get(&key).map_or(NONE, |guard| guard.slot() as i32))
    })
}

/// Whether a value may be served.
#[napi]
pub fn cache_has(env: &Env, cache: u32, key: Text) -> napi::Result<bool> {
    Runtime::enter(env, |runtime| {
        let (held, key) = (runtime.cache(cache)?, key.get("key")?);
        held.cache.check(&key)?;
        Ok(held.cache.contains(&key))
    })
}

/// Stores the value in `slot`; false: refused.
#[napi]
pub fn cache_set(
    env: &Env,
    cache: u32,
    key: Text,
    slot: u32,
    terms: Option<Object<'_>>,
    touched: Option<Text>,
) -> napi::Result<bool> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        let guard = held.guard(slot)?;
        held.touch(touched)?;
        let (key, terms) = (key.get("key")?, terms::read(terms)?);
        let stored = held.cache.set_with(&key, guard, &terms)?;
        if stored {
            held.describe(&key, slot);
        }
        Ok(stored)
    })
}

/// Removes the entry here only; whether it was held.
#[napi]
pub fn cache_evict(env: &Env, cache: u32, key: Text) -> napi::Result<bool> {
    Runtime::enter(env, |runtime| runtime.cache(cache)?.cache.evict(&key.get("key")?))
}

/// Removes everything here only.
#[napi]
pub fn cache_clear(env: &Env, cache: u32) -> napi::Result<()> {
    Runtime::enter(env, |runtime| runtime.cache(cache)?.cache.clear_local())
}

/// Entries held.
#[napi]
pub fn cache_len(env: &Env, cache: u32) -> napi::Result<f64> {
    Runtime::enter(env, |runtime| Ok(runtime.cache(cache)?.cache.len() as f64))
}

/// The core's counters as JSON.
#[napi]
pub fn cache_stats(env: &Env, cache: u32) -> napi::Result<String> {
    Runtime::enter(env, |runtime| json(&runtime.cache(cache)?.cache.stats()))
}

/// Whether invalidations are posted.
#[napi]
pub fn cache_listen(env: &Env, cache: u32, wanted: bool) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        let mailbox = runtime.mailbox.clone();
        let subscription = wanted.then(|| {
            held.cache.on_invalidated(move |invalidation| {
                if let Ok(text) = json(invalidation) {
                    mailbox.post(Event::Invalidated(cache, text));
                }
            })
        });
        if let Some(earlier) = held.listener.replace(subscription) {
            earlier.cancel();
        }
        Ok(())
    })
}
