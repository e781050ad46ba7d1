//! What other threads have to tell an environment, and the one call that makes JavaScript come and take it.
//!
//! The call is made when the queue turns non-empty, so a burst costs one. It does not keep the process alive, unless
//! JavaScript says that it waits for an answer ([`Mailbox::hold`]).

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use napi::sys;
use parking_lot::Mutex;
use unstale::{Client, Error};

/// Something for JavaScript.
pub enum Event {
    /// Slots of this cache ended.
    Ended(u32),
    /// Entries of this cache were invalidated; JSON.
    Invalidated(u32, String),
    /// The state of this client changed; JSON.
    Status(u32, String),
    /// A line of the log: its number, JSON.
    Log(u32, String),
    /// The answer to the call that JavaScript numbered so.
    Answer(u32, Result<Answer, Error>),
}

/// What an asynchronous call resolves to.
pub enum Answer {
    /// A new client.
    Connected(Box<Client>),
    /// Yes or no.
    Bool(bool),
    /// A number.
    Count(usize),
}

/// An environment's queue of events.
pub struct Mailbox(Mutex<State>);

struct State {
    queue: Vec<Event>,
    /// None once the environment has ended.
    bell: Option<Bell>,
}

/// A thread-safe function without arguments.
struct Bell(sys::napi_threadsafe_function);

// SAFETY: Node's documentation allows calling a thread-safe function from any thread until it is released or finalized;
// the mailbox forgets it, under its lock, when that happens.
unsafe impl Send for Bell {}

impl Mailbox {
    /// A mailbox that calls `listener` (a JavaScript function without arguments) when there is something in it.
    ///
    /// # Safety
    /// This is the environment's thread, in a call from it; `listener` is a function of it.
    pub unsafe fn new(env: sys::napi_env, listener: sys::napi_value) -> napi::Result<Arc<Self>> {
        let mailbox = Arc::new(Mailbox(Mutex::new(State { queue: Vec::new(), bell: None })));
        let mut name = ptr::null_mut();
        let mut function = ptr::null_mut();
        let held = Arc::into_raw(mailbox.clone());
        // SAFETY: by the caller's promise; `name` and `function` are valid to write to, and `held` is given back by `ended`.
        let status = unsafe {
            sys::napi_create_string_utf8(env, c"unstale".as_ptr(), 7, &mut name);
            sys::napi_create_threadsafe_function(
                env,
                listener,
                ptr::null_mut(),
                name,
                0,
                1,
                held.cast_mut().cast(),
                Some(ended),
                ptr::null_mut(),
                None,
                &mut function,
            )
        };
        if status != sys::Status::napi_ok {
            // SAFETY: the function does not exist, so nobody else gives it back.
            drop(unsafe { Arc::from_raw(held) });
            return Err(napi::Error::from_reason("unstale: cannot create a thread-safe function"));
        }
        // SAFETY: as above.
        unsafe { sys::napi_unref_threadsafe_function(env, function) };
        mailbox.0.lock().bell = Some(Bell(function));
        Ok(mailbox)
    }

    /// Puts an event in; on any thread. What comes after the environment's end is dropped.
    pub fn post(&self, event: Event) {
        let mut state = self.0.lock();
        let State { queue, bell } = &mut *state;
        let refused = match bell {
            Some(bell) => {
                queue.push(event);
                if queue.len() == 1 {
                    // SAFETY: under the lock, and the bell is there: it was not finalized. Does not block and calls nothing
                    // on this thread.
                    unsafe { sys::napi_call_threadsafe_function(bell.0, ptr::null_mut(), 0) };
                }
                None
            }
            None => Some(event),
        };
        drop(state);
        // A client in it may take its time to end.
        drop(refused);
    }

    /// Takes all events, in order.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().queue)
    }

    /// Whether the process is kept alive for an answer. On the environment's thread.
    pub fn hold(&self, env: sys::napi_env, wanted: bool) {
        if let Some(bell) = &self.0.lock().bell {
            // SAFETY: on the environment's thread by the caller's promise, and the function was not finalized.
            unsafe {
                match wanted {
                    true => sys::napi_ref_threadsafe_function(env, bell.0),
                    false => sys::napi_unref_threadsafe_function(env, bell.0),
                };
            }
        }
    }

    /// The environment ends: drops what is there and whatever comes.
    pub fn close(&self) {
        let queue = {
            let mut state = self.0.lock();
            state.bell = None;
            std::mem::take(&mut state.queue)
        };
        drop(queue);
    }
}

/// Node finalized the function, at the end of the environment.
unsafe extern "C" fn ended(_: sys::napi_env, held: *mut c_void, _: *mut c_void) {
    // SAFETY: `held` came from `Arc::into_raw` in `new`, and Node calls this once.
    let mailbox = unsafe { Arc::from_raw(held.cast::<Mailbox>()) };
    mailbox.close();
}
