//! What waits for a thread with the GIL: wake-ups of coroutines, events for listeners, log records, dead objects.
//!
//! The core calls us on its own threads, where the GIL is never taken. It leaves its message here, and two Python daemon
//! threads that the package starts with the first client take it: one wakes coroutines and frees dead objects, which is quick;
//! the other runs listeners and writes the log, which may take as long as the user's code likes. Dead objects do not depend
//! on it: every call that changes a cache frees some; the thread sees to what is left while Python is idle.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr::{null_mut, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::ffi;
use pyo3::prelude::*;
use serde_json::Value;

/// Events that may wait for a slow listener before they are collapsed to one.
const MOST_EVENTS: usize = 10_000;
/// Log records that may wait; the oldest go first.
const MOST_RECORDS: usize = 1_000;
/// How long dead objects wait for a call that takes them along before the thread sees to them.
const GRAVE_REST: Duration = Duration::from_millis(50);
/// Dead objects that one call takes along, so that no call pays for a whole cache.
const GRAVES_PER_CALL: usize = 64;
/// Dead objects that the thread frees before it lets other threads have the GIL.
const GRAVES_PER_TURN: usize = 1_000;

/// Something for the user's code.
pub enum Item {
    /// Tell a listener.
    Event {
        /// The listener's number in the package's table.
        listener: u64,
        /// What happened.
        payload: Value,
        /// What stands for many events when too many wait.
        collapse: fn(Value) -> Value,
    },
    /// A record for `logging`.
    Record {
        /// The level, as `logging` numbers it.
        level: u32,
        /// The logger.
        target: String,
        /// The text.
        message: String,
    },
}

struct Grave(NonNull<ffi::PyObject>);
// SAFETY: whoever takes it out has the GIL.
unsafe impl Send for Grave {}

#[derive(Default)]
struct Boxes {
    wakes: Vec<Py<PyAny>>,
    graves: Vec<Grave>,
    oldest_grave: Option<Instant>,
    items: VecDeque<Item>,
    records: usize,
    stopped: bool,
}

/// The one mailbox of the process.
#[derive(Default)]
pub struct Post {
    boxes: Mutex<Boxes>,
    /// Rung for wakes and graves.
    bell: Condvar,
    /// Rung for items.
    slow_bell: Condvar,
    /// Whether there is something for [`Post::tidy`].
    pending: AtomicBool,
}

impl Boxes {
    fn pending(&self) -> bool {
        !self.graves.is_empty() || !self.wakes.is_empty()
    }
}

static POST: AtomicPtr<Post> = AtomicPtr::new(null_mut());

/// The mailbox.
pub fn post() -> &'static Post {
    let known = POST.load(Ordering::Acquire);
    if !known.is_null() {
        // SAFETY: only leaked boxes are ever stored.
        return unsafe { &*known };
    }
    let made = Box::into_raw(Box::<Post>::default());
    match POST.compare_exchange(null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: just leaked.
        Ok(_) => unsafe { &*made },
        Err(other) => {
            // SAFETY: `made` was never shared; `other` is a leaked box.
            unsafe {
                drop(Box::from_raw(made));
                &*other
            }
        }
    }
}

/// A forked child starts with a mailbox of its own: a thread that the child does not have may hold the old one's lock.
pub fn renew_after_fork() {
    POST.store(Box::into_raw(Box::<Post>::default()), Ordering::Release);
}

thread_local! {
    /// Where a call of this thread that has the GIL collects what it killed: no lock, no other thread.
    static OF_THIS_CALL: RefCell<Option<Vec<Grave>>> = const { RefCell::new(None) };
}

/// Leaves a dead object for a thread with the GIL.
pub fn bury(object: NonNull<ffi::PyObject>) {
    let collected = OF_THIS_CALL.try_with(|dead| match dead.borrow_mut().as_mut() {
        Some(dead) => {
            dead.push(Grave(object));
            true
        }
        None => false,
    });
    if !collected.unwrap_or(false) {
        post().bury([Grave(object)]);
    }
}

/// Runs a call of the core that may kill objects, and frees them after it; of very many, the rest is left to the thread.
/// Wakes whom the call woke.
pub fn tidily<R>(py: Python<'_>, call: impl FnOnce() -> R) -> R {
    struct Collected;
    impl Collected {
        fn take(&self) -> Vec<Grave> {
            OF_THIS_CALL.take().unwrap_or_default()
        }
    }
    impl Drop for Collected {
        fn drop(&mut self) {
            // Only a panic leaves anything here.
            post().bury(self.take());
        }
    }
    OF_THIS_CALL.set(Some(Vec::new()));
    let collected = Collected;
    let result = call();
    let mut dead = collected.take();
    drop(collected);
    if dead.len() > GRAVES_PER_CALL {
        post().bury(dead.drain(GRAVES_PER_CALL..));
    }
    free(py, dead);
    post().tidy(py);
    result
}

/// Destructors may run any code: no lock is held here.
fn free(_py: Python<'_>, dead: Vec<Grave>) {
    for Grave(object) in dead {
        // SAFETY: the GIL is held, and the grave owned one reference.
        unsafe { ffi::Py_DECREF(object.as_ptr()) };
    }
}

impl Post {
    fn lock(&self) -> MutexGuard<'_, Boxes> {
        self.boxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `callback` called without arguments, soon.
    pub fn wake_soon(&self, callback: Py<PyAny>) {
        self.lock().wakes.push(callback);
        self.pending.store(true, Ordering::Relaxed);
        self.bell.notify_one();
    }

    /// Leaves an item for the listeners' thread.
    pub fn leave(&self, item: Item) {
        let mut boxes = self.lock();
        match item {
            Item::Event { listener, payload, collapse } => {
                let payload = if boxes.items.len() < MOST_EVENTS {
                    payload
                } else {
                    boxes.items.retain(|i| !matches!(i, Item::Event { listener: l, .. } if *l == listener));
                    collapse(payload)
                };
                boxes.items.push_back(Item::Event { listener, payload, collapse });
            }
            Item::Record { .. } => {
                if boxes.records == MOST_RECORDS {
                    if let Some(oldest) = boxes.items.iter().position(|i| matches!(i, Item::Record { .. })) {
                        boxes.items.remove(oldest);
                        boxes.records -= 1;
                    }
                }
                boxes.records += 1;
                boxes.items.push_back(item);
            }
        }
        self.slow_bell.notify_one();
    }

    fn bury(&self, dead: impl IntoIterator<Item = Grave>) {
        let mut boxes = self.lock();
        boxes.graves.extend(dead);
        self.pending.store(boxes.pending(), Ordering::Relaxed);
        if boxes.oldest_grave.is_none() && !boxes.graves.is_empty() {
            boxes.oldest_grave = Some(Instant::now());
            self.bell.notify_one();
        }
    }

    /// Wakes whoever the core has woken, and frees some of the dead objects. A coroutine of this process need not wait
    /// until the thread gets the GIL.
    #[inline]
    fn tidy(&self, py: Python<'_>) {
        if self.pending.load(Ordering::Relaxed) {
            self.wake(py);
            self.free(py, GRAVES_PER_CALL);
        }
    }

    #[cold]
    fn free(&self, py: Python<'_>, most: usize) {
        let dead = {
            let mut boxes = self.lock();
            let keep = boxes.graves.len().saturating_sub(most);
            let dead = boxes.graves.split_off(keep);
            self.pending.store(boxes.pending(), Ordering::Relaxed);
            if keep == 0 {
                boxes.oldest_grave = None;
            }
            dead
        };
        free(py, dead);
    }

    #[cold]
    fn wake(&self, py: Python<'_>) {
        let wakes = std::mem::take(&mut self.lock().wakes);
        for callback in wakes {
            if let Err(e) = callback.call0(py) {
                e.write_unraisable(py, None);
            }
        }
    }

    /// Wakes coroutines and frees dead objects until [`Post::stop`].
    pub fn serve(&self, py: Python<'_>) {
        while py.detach(|| self.wait_for_work()) {
            self.wake(py);
            self.free(py, GRAVES_PER_TURN);
        }
    }

    /// Whether there is work, or else it is time to end.
    fn wait_for_work(&self) -> bool {
        let mut boxes = self.lock();
        loop {
            let rest = boxes.oldest_grave.map(|since| GRAVE_REST.saturating_sub(since.elapsed()));
            if !boxes.wakes.is_empty() || rest.is_some_and(|rest| rest.is_zero()) {
                return true;
            }
            if boxes.stopped {
                return false;
            }
            boxes = match rest {
                Some(rest) => self.bell.wait_timeout(boxes, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.bell.wait(boxes).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits for items, without the GIL, and takes them; none: it is time to end.
    pub fn take(&self, py: Python<'_>) -> Option<VecDeque<Item>> {
        py.detach(|| {
            let boxes = self.lock();
            let idle = |boxes: &mut Boxes| boxes.items.is_empty() && !boxes.stopped;
            let mut boxes = self.slow_bell.wait_while(boxes, idle).unwrap_or_else(PoisonError::into_inner);
            boxes.records = 0;
            let items = std::mem::take(&mut boxes.items);
            (!items.is_empty()).then_some(items)
        })
    }

    /// Ends both threads once nothing is left for them.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.bell.notify_all();
        self.slow_bell.notify_all();
    }
}
