//! Leases, updates, invalidations and their receipts.

use napi::bindgen_prelude::{External, Object};
use napi::Env;
use napi_derive::napi;
use unstale::client::Receipt;
use unstale::{Error, ErrorKind, Result};

use crate::client::millis;
use crate::mailbox::Answer;
use crate::runtime::Runtime;
use crate::terms::{self, Permission};
use crate::text::Text;

/// Takes a lease.
#[napi]
pub fn cache_lease(env: &Env, cache: u32, key: Text) -> napi::Result<External<Permission>> {
    Runtime::enter(env, |runtime| {
        let lease = runtime.cache(cache)?.cache.lease(&key.get("key")?)?;
        Ok(External::new(Permission::new(lease)))
    })
}

/// Gives a lease back.
#[napi]
pub fn lease_release(lease: &External<Permission>) {
    lease.release();
}

/// Stores the value in `slot` here and invalidates the old one everywhere else.
#[napi]
pub fn cache_update(
    env: &Env,
    cache: u32,
    key: Text,
    slot: u32,
    terms: Option<Object<'_>>,
    touched: Option<Text>,
) -> napi::Result<External<Receipt>> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        let guard = held.guard(slot)?;
        held.touch(touched)?;
        let (key, terms) = (key.get("key")?, terms::read(terms)?);
        let receipt = held.cache.update(&key, guard, &terms)?;
        if receipt.stored() {
            held.describe(&key, slot);
        }
        Ok(held.receipt(receipt))
    })
}

/// Invalidates a key, with the version that is now current if it is known.
#[napi]
pub fn cache_invalidate(env: &Env, cache: u32, key: Text, version: Option<f64>) -> napi::Result<External<Receipt>> {
    Runtime::enter(env, |runtime| {
        let (held, key) = (runtime.cache(cache)?, key.get("key")?);
        let receipt = match version {
            Some(version) => held.cache.invalidate_version(&key, terms::version(version)?),
            None => held.cache.invalidate(&key),
        };
        receipt.map(|receipt| held.receipt(receipt))
    })
}

/// Invalidates keys; `versions` has one for each, or -1 where it is not known.
#[napi]
pub fn cache_invalidate_many(
    env: &Env,
    cache: u32,
    keys: Vec<Text>,
    versions: Vec<f64>,
) -> napi::Result<External<Receipt>> {
    Runtime::enter(env, |runtime| {
        let keys = texts(keys, "key")?;
        if keys.len() != versions.len() {
            return Err(Error::new(ErrorKind::Internal, "as many versions as keys are expected"));
        }
        let versions = versions.into_iter().map(|v| if v == -1.0 { Ok(None) } else { terms::version(v).map(Some) });
        let versions = versions.collect::<Result<Vec<_>>>()?;
        let keys = keys.iter().map(String::as_str).zip(versions);
        let held = runtime.cache(cache)?;
        held.cache.invalidate_many(keys).map(|receipt| held.receipt(receipt))
    })
}

/// Invalidates what carries one of the tags.
#[napi]
pub fn cache_invalidate_tags(env: &Env, cache: u32, tags: Vec<Text>) -> napi::Result<External<Receipt>> {
    Runtime::enter(env, |runtime| {
        let tags = texts(tags, "tag")?;
        let held = runtime.cache(cache)?;
        held.cache.invalidate_tags(tags.iter().map(String::as_str)).map(|receipt| held.receipt(receipt))
    })
}

/// Invalidates what begins with the prefix.
#[napi]
pub fn cache_invalidate_prefix(env: &Env, cache: u32, prefix: Text) -> napi::Result<External<Receipt>> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        held.cache.invalidate_prefix(&prefix.get("prefix")?).map(|receipt| held.receipt(receipt))
    })
}

/// Invalidates everything.
#[napi]
pub fn cache_invalidate_all(env: &Env, cache: u32) -> napi::Result<External<Receipt>> {
    Runtime::enter(env, |runtime| {
        let held = runtime.cache(cache)?;
        held.cache.invalidate_all().map(|receipt| held.receipt(receipt))
    })
}

/// The receipt's token.
#[napi]
pub fn receipt_token(receipt: &External<Receipt>) -> String {
    receipt.token()
}

/// Whether `update` stored the value.
#[napi]
pub fn receipt_stored(receipt: &External<Receipt>) -> bool {
    receipt.stored()
}

/// Answers `call` with whether the broker acknowledged the invalidation within `timeout` ms.
#[napi]
pub fn receipt_delivered(env: &Env, receipt: &External<Receipt>, call: u32, timeout: f64) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        let delivered = receipt.delivered(millis("ms", timeout)?);
        runtime.answer(call, async { Ok(Answer::Bool(delivered.await)) })
    })
}

fn texts(list: Vec<Text>, name: &str) -> Result<Vec<String>> {
    list.into_iter().map(|text| text.get(name)).collect()
}
