//! What belongs to one environment of Node: the main thread has one, every `Worker` another.
//!
//! JavaScript holds clients and caches by number. Everything here is touched on the environment's thread only.

use std::cell::{Cell, RefCell};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{FnArgs, Function, FunctionRef, Unknown};
use napi::{sys, Env, Status};
use unstale::{blocking, Client, Error, ErrorKind, Result};

use crate::cache::Held;
use crate::client::Connection;
use crate::clock::Clock;
use crate::mailbox::{Answer, Event, Mailbox};
use crate::{log, tasks, turn};

/// How long the end of an environment may wait for what its clients have not sent yet, in all.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// `new UnstaleError(kind, message)`.
type ErrorClass = FunctionRef<FnArgs<(u32, String)>, Unknown<'static>>;

/// One environment.
pub struct Runtime {
    env: sys::napi_env,
    /// Events for JavaScript.
    pub mailbox: Arc<Mailbox>,
    /// The present, for hits.
    pub clock: Rc<Clock>,
    /// Where a call leaves a second result for JavaScript: bits of a double.
    pub scratch: Arc<AtomicU64>,
    error: ErrorClass,
    deadline: Cell<Option<Instant>>,
    clients: Table<Connection>,
    caches: Table<Held>,
}

/// Things that JavaScript knows by number. Numbers are not used again.
struct Table<T> {
    things: RefCell<Vec<Option<Rc<T>>>>,
}

thread_local! {
    /// One, but for hosts that run several environments on one thread.
    static RUNTIMES: RefCell<Vec<Rc<Runtime>>> = const { RefCell::new(Vec::new()) };
}

impl Runtime {
    /// Sets up the environment of the call that we are in; `listener` is called when there are events.
    pub fn start(
        env: &Env,
        error: &Function<'_, FnArgs<(u32, String)>, Unknown<'static>>,
        listener: &Function<'_, (), Unknown<'static>>,
    ) -> napi::Result<Rc<Runtime>> {
        log::install();
        let clock = Clock::new()
            .map(Rc::new)
            .map_err(|e| napi::Error::from_reason(format!("unstale: no thread for the clock: {e}")))?;
        // SAFETY: a call from this environment, on its thread; `listener` is one of its functions.
        let mailbox = unsafe { Mailbox::new(env.raw(), napi::JsValue::raw(listener))? };
        let runtime = Rc::new(Runtime {
            env: env.raw(),
            mailbox,
            clock: clock.clone(),
            scratch: Arc::default(),
            error: error.create_ref()?,
            deadline: Cell::new(None),
            clients: Table::new(),
            caches: Table::new(),
        });
        RUNTIMES.with_borrow_mut(|all| all.push(runtime.clone()));
        // After the mailbox, whose function Node would otherwise finalize first: the last added runs first.
        env.add_env_cleanup_hook(env.raw(), Runtime::end)?;
        turn::watch(env.raw(), clock);
        Ok(runtime)
    }

    /// The environment's runtime.
    pub fn of(env: &Env) -> Result<Rc<Runtime>> {
        RUNTIMES
            .with_borrow(|all| all.iter().find(|runtime| runtime.env == env.raw()).cloned())
            .ok_or_else(|| Error::new(ErrorKind::Internal, "the addon was not set up in this environment"))
    }

    /// Runs the body of an exported function: a panic ends here, and errors become `UnstaleError`s.
    pub fn enter<T>(env: &Env, body: impl FnOnce(&Runtime) -> Result<T>) -> napi::Result<T> {
        let runtime = match Runtime::of(env) {
            Ok(runtime) => runtime,
            Err(e) => return Err(napi::Error::from_reason(e.message())),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&runtime))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(|s| &**s));
            Err(Error::new(ErrorKind::Internal, format!("panic: {}; please report it", text.unwrap_or("unknown"))))
        });
        outcome.map_err(|error| runtime.throw(env, &error))
    }

    fn throw(&self, env: &Env, error: &Error) -> napi::Error {
        let thrown = self.error.borrow_back(env).and_then(|class| {
            let arguments = FnArgs::from((error.kind() as u32, error.message().to_owned()));
            env.throw(class.new_instance(arguments)?)
        });
        match thrown {
            Ok(()) => napi::Error::new(Status::PendingException, ""),
            Err(other) => other,
        }
    }

    /// Runs a future and posts its outcome as the answer to call `call`.
    pub fn answer(
        &self,
        call: u32,
        future: impl std::future::Future<Output = Result<Answer>> + Send + 'static,
    ) -> Result<()> {
        let mailbox = self.mailbox.clone();
        tasks::spawn(async move {
            let answer = future.await;
            mailbox.post(Event::Answer(call, answer));
        })
    }

    /// Keeps a client; its number.
    pub fn add_client(&self, client: Client) -> u32 {
        self.clients.add(Connection::new(client))
    }

    /// The client of this number.
    pub fn client(&self, number: u32) -> Result<Rc<Connection>> {
        self.clients.get(number)
    }

    /// Keeps a cache, made with the number that it will have.
    pub fn add_cache<T>(&self, make: impl FnOnce(u32) -> Result<(Held, T)>) -> Result<T> {
        let (held, rest) = make(self.caches.next())?;
        self.caches.add(held);
        Ok(rest)
    }

    /// The cache of this number.
    #[inline]
    pub fn cache(&self, number: u32) -> Result<Rc<Held>> {
        self.caches.get(number)
    }

    /// JavaScript has forgotten this client.
    pub fn drop_client(&self, number: u32) {
        self.clients.remove(number);
    }

    /// JavaScript has forgotten this cache.
    pub fn drop_cache(&self, number: u32) {
        self.caches.remove(number);
    }

    /// Waits until what was invalidated is delivered, [`LAST_CHANCE`] at most. Node runs no cleanup hooks on `process.exit`.
    pub fn settle(&self) {
        let deadline = self.deadline();
        let caches: Vec<Rc<Held>> = self.caches.things.borrow().iter().flatten().cloned().collect();
        caches.iter().for_each(|held| held.settle(deadline));
    }

    /// The end of the last chance, which begins with the first call.
    fn deadline(&self) -> Instant {
        let deadline = self.deadline.get().unwrap_or_else(|| Instant::now() + LAST_CHANCE);
        self.deadline.set(Some(deadline));
        deadline
    }

    /// The environment ends: nothing may reach it any more, and what its clients have not sent gets a last chance.
    fn end(env: sys::napi_env) {
        let found = RUNTIMES.with_borrow_mut(|all| {
            let at = all.iter().position(|runtime| runtime.env == env)?;
            Some(all.swap_remove(at))
        });
        let Some(runtime) = found else { return };
        runtime.mailbox.close();
        let clients: Vec<Rc<Connection>> = runtime.clients.things.take().into_iter().flatten().collect();
        let rest = runtime.deadline().saturating_duration_since(Instant::now());
        // All begin to close before the first is waited for.
        for connection in &clients {
            drop(connection.client.close(rest));
        }
        for connection in &clients {
            let _ = blocking::close(&connection.client, rest);
        }
        runtime.caches.things.take();
    }
}

impl<T> Table<T> {
    fn new() -> Self {
        Table { things: RefCell::new(Vec::new()) }
    }

    fn next(&self) -> u32 {
        self.things.borrow().len() as u32
    }

    fn add(&self, thing: T) -> u32 {
        let mut things = self.things.borrow_mut();
        things.push(Some(Rc::new(thing)));
        things.len() as u32 - 1
    }

    fn get(&self, number: u32) -> Result<Rc<T>> {
        let things = self.things.borrow();
        things.get(number as usize).and_then(Clone::clone).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("no {} has number {number}", std::any::type_name::<T>()))
        })
    }

    fn remove(&self, number: u32) {
        let thing = self.things.borrow_mut().get_mut(number as usize).and_then(Option::take);
        drop(thing);
    }
}
