//! The addon of the npm package `unstale`. Its JavaScript half is in `lib/`, which alone calls these functions.
//!
//! Values are live JavaScript objects and stay on that side, in a `Map`; here are their keys, expiry, eviction and fences
//! (the core's cache) and the memory in which a hit reads whether a value may still be served (`arena`, `clock`). So a hit
//! is a `Map` look-up and a few compares, without a call into this library; `docs/node.md` tells the whole story.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("JavaScript reads 64-bit words that other threads write; on this platform such reads can tear");

mod arena;
mod cache;
mod change;
mod client;
mod clock;
mod exact;
mod load;
mod log;
mod mailbox;
mod runtime;
mod tasks;
mod terms;
mod text;
mod turn;
mod view;

use napi::bindgen_prelude::{Array, FnArgs, Function, Unknown};
use napi::Env;
use napi_derive::napi;
use unstale::ErrorKind;

use crate::mailbox::{Answer, Event};
use crate::runtime::Runtime;

/// Sets up this environment: how errors are made, and what is called when there are events. Returns the scratch word's
/// memory.
#[napi]
pub fn setup<'env>(
    env: &'env Env,
    error: Function<'_, FnArgs<(u32, String)>, Unknown<'static>>,
    listener: Function<'_, (), Unknown<'static>>,
) -> napi::Result<Unknown<'env>> {
    let runtime = Runtime::start(env, &error, &listener)?;
    view::View::of(runtime.scratch.clone(), |word| word).into_buffer(env)
}

/// The names of the kinds of errors, by number less one.
#[napi]
pub fn kinds() -> Vec<&'static str> {
    ErrorKind::ALL.iter().map(|kind| kind.name()).collect()
}

/// The version of the core.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Reads the system's clock into the memory of every cache.
#[napi]
pub fn tick(env: &Env) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        runtime.clock.tick();
        Ok(())
    })
}

/// Whether an answer is waited for, which keeps the process alive.
#[napi]
pub fn hold(env: &Env, wanted: bool) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        runtime.mailbox.hold(env.raw(), wanted);
        Ok(())
    })
}

/// Waits a little for what was invalidated to be delivered; the process is about to end.
#[napi]
pub fn settle(env: &Env) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        runtime.settle();
        Ok(())
    })
}

/// The number that the next line of the log will have.
#[napi]
pub fn log_position() -> u32 {
    log::position()
}

/// Whether lines of the log are posted; the last ones at once.
#[napi]
pub fn log_listen(env: &Env, wanted: bool) -> napi::Result<()> {
    Runtime::enter(env, |runtime| {
        log::listen(&runtime.mailbox, wanted);
        Ok(())
    })
}

/// The events since the last call, four values each: type, number (of a cache, client, line or call), two more.
/// `lib/events.js` has the same types.
#[napi]
pub fn events(env: &Env) -> napi::Result<Array<'_>> {
    let flat = Runtime::enter(env, |runtime| {
        Ok(runtime.mailbox.take().into_iter().map(|event| flatten(runtime, event)).collect::<Vec<_>>())
    })?;
    let mut array = env.create_array(flat.len() as u32 * 4)?;
    for (i, (kind, number, first, second)) in flat.into_iter().enumerate() {
        let at = i as u32 * 4;
        array.set(at, kind)?;
        array.set(at + 1, number)?;
        match first {
            Field::Nothing => {}
            Field::Bool(value) => array.set(at + 2, value)?,
            Field::Number(value) => array.set(at + 2, value)?,
            Field::Text(value) => array.set(at + 2, value)?,
        }
        if let Some(text) = second {
            array.set(at + 3, text)?;
        }
    }
    Ok(array)
}

enum Field {
    Nothing,
    Bool(bool),
    Number(f64),
    Text(String),
}

fn flatten(runtime: &Runtime, event: Event) -> (u32, u32, Field, Option<String>) {
    match event {
        Event::Ended(cache) => (0, cache, Field::Nothing, None),
        Event::Invalidated(cache, json) => (1, cache, Field::Text(json), None),
        Event::Status(client, json) => (2, client, Field::Text(json), None),
        Event::Log(line, json) => (3, line, Field::Text(json), None),
        Event::Answer(call, Ok(answer)) => {
            let field = match answer {
                Answer::Connected(client) => Field::Number(f64::from(runtime.add_client(*client))),
                Answer::Bool(value) => Field::Bool(value),
                Answer::Count(value) => Field::Number(value as f64),
            };
            (4, call, field, None)
        }
        Event::Answer(call, Err(error)) => {
            (5, call, Field::Number(f64::from(error.kind() as u8)), Some(error.message().to_owned()))
        }
    }
}
