//! Read-through: the core decides who loads, JavaScript keeps the promise of each load by its number.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use napi::bindgen_prelude::Object;
use napi::Env;
use napi_derive::napi;
use unstale::cache::{Begin, Load};
use unstale::{clock, Error, ErrorKind, Result};

use crate::arena::Slot;
use crate::cache::NONE;
use crate::runtime::Runtime;
use crate::terms;
use crate::text::Text;

/// Instead of a slot: the caller is to load the value; the load's number is in the scratch word.
const LEAD: i32 = -2;
/// Instead of a slot: another caller loads it; the load's number is in the scratch word.
const JOIN: i32 = -3;

/// The value was stored.
const STORED: u32 = 1;
/// The load took longer than the staleness bound: those who joined it start over.
const LATE: u32 = 2;

/// The loads that JavaScript leads, each with the time just before it began.
#[derive(Default)]
pub struct Loads(RefCell<HashMap<u64, (Load<Slot>, u64)>>);

impl Loads {
    fn take(&self, id: f64) -> Result<(Load<Slot>, u64)> {
        let load = self.0.borrow_mut().remove(&(id as u64));
        load.ok_or_else(|| Error::new(ErrorKind::Internal, format!("load {id} is not open")))
    }
}

/// The loader's error is JavaScript's, and stays there.
#[derive(Debug)]
struct Rejected;

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the loader's promise was rejected")
    }
}

impl std::error::Error for Rejected {}

/// The slot of a value that may be served, or [`NONE`] ("not found" is cached), [`LEAD`] or [`JOIN`].
#[napi]
pub fn cache_begin(env: &Env, cache: u32, key: Text, terms: Option<Object<'_>>) -> napi::Result<i32> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        let (key, terms) = (key.get("key")?, terms::read(terms)?);
        // Before the load's own time, so that it is never taken for younger than the core takes it.
        let began = clock::now();
        let (step, load) = match held.cache.begin_with(&key, &terms)? {
            Begin::Hit(guard) => return Ok(guard.slot() as i32),
            Begin::Absent => return Ok(NONE),
            Begin::Join(pending) => (JOIN, pending.load_id()),
            Begin::Lead(load) => {
                let id = load.id();
                held.loads.0.borrow_mut().insert(id, (load, began));
                (LEAD, id)
            }
        };
        runtime.scratch.store((load as f64).to_bits(), Ordering::Relaxed);
        Ok(step)
    })
}

/// Ends a load with the value in `slot`, or ([`NONE`]) with "not found". Returns [`STORED`] and [`LATE`], added.
#[napi]
pub fn cache_finish(
    env: &Env,
    cache: u32,
    key: Text,
    load: f64,
    slot: i32,
    touched: Option<Text>,
) -> napi::Result<u32> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        let guard = u32::try_from(slot).ok().map(|slot| held.guard(slot)).transpose()?;
        held.touch(touched)?;
        let key = key.get("key")?;
        let (load, began) = held.loads.take(load)?;
        let late = clock::now().saturating_sub(began) > held.arena.bound();
        let stored = load.finish(guard);
        if stored && slot >= 0 {
            held.describe(&key, slot as u32);
        }
        Ok(u32::from(stored) * STORED + u32::from(late) * LATE)
    })
}

/// Ends a load whose loader failed.
#[napi]
pub fn cache_fail(env: &Env, cache: u32, load: f64) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let (load, _) = runtime.cache(cache)?.loads.take(load)?;
        load.fail(Arc::new(Rejected));
        Ok(())
    })
}
