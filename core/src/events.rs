//! Telling listeners what happened, on a thread of the client's own, so that a slow one delays nothing but its peers.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::Serialize;

use crate::clock::{self, Nanos};
use crate::message::Operations;

/// Events that may wait for a listener; beyond, new ones are dropped and counted. The caches themselves are not affected.
const QUEUE: usize = 10_000;
/// Each condition is logged at most this often.
pub(crate) const LOG_EVERY: Nanos = 60_000_000_000;

type Job = Box<dyn FnOnce(&mut Panics) + Send>;

/// A client's event thread; started when the first listener is added, ended when the client is gone.
#[derive(Default)]
pub(crate) struct Events {
    jobs: OnceLock<SyncSender<Job>>,
    dropped: AtomicU64,
}

impl Events {
    fn start(&self) {
        self.jobs.get_or_init(|| {
            let (jobs, queue) = sync_channel::<Job>(QUEUE);
            let thread = std::thread::Builder::new().name("unstale-events".into()).spawn(move || {
                let mut panics = Panics::default();
                for job in queue {
                    job(&mut panics);
                }
            });
            if let Err(e) = thread {
                tracing::error!(target: "unstale", "no thread for listeners could be started ({e}); they will not be called");
            }
            jobs
        });
    }

    fn run(&self, job: Job) {
        if self.jobs.get().is_some_and(|jobs| jobs.try_send(job).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that no listener saw because the queue was full.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Listeners' panics since they were last logged.
#[derive(Default)]
struct Panics {
    count: u64,
    logged: Option<Nanos>,
}

impl Panics {
    fn add(&mut self, now: Nanos) {
        self.count += 1;
        if self.logged.is_none_or(|last| now >= last + LOG_EVERY) {
            let count = std::mem::take(&mut self.count);
            self.logged = Some(now);
            tracing::error!(target: "unstale", "a listener panicked ({count} since this was last said); the others go on");
        }
    }
}

type Listener<T> = Arc<dyn Fn(&T) + Send + Sync>;
type List<T> = Arc<Vec<(u64, Listener<T>)>>;

/// Those who want to hear of one kind of event.
pub(crate) struct Listeners<T> {
    list: Arc<Mutex<List<T>>>,
    next: AtomicU64,
    events: Arc<Events>,
}

impl<T: Send + 'static> Listeners<T> {
    pub(crate) fn new(events: Arc<Events>) -> Self {
        Listeners { list: Arc::default(), next: AtomicU64::new(0), events }
    }

    pub(crate) fn add(&self, listener: Box<dyn Fn(&T) + Send + Sync>) -> Subscription {
        self.events.start();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        Arc::make_mut(&mut self.list.lock()).push((id, Arc::from(listener)));
        let list = self.list.clone();
        Subscription { cancel: Box::new(move || Arc::make_mut(&mut list.lock()).retain(|(other, _)| *other != id)) }
    }

    pub(crate) fn tell(&self, event: impl FnOnce() -> T) {
        let list = {
            let list = self.list.lock();
            if list.is_empty() {
                return;
            }
            list.clone()
        };
        let event = event();
        self.events.run(Box::new(move |panics| {
            for (_, listener) in list.iter() {
                // Each by itself: one that panics must not keep the event from those added after it.
                if catch_unwind(AssertUnwindSafe(|| listener(&event))).is_err() {
                    panics.add(clock::now());
                }
            }
        }));
    }
}

/// A listener's place in the list. Dropping it leaves the listener there.
pub struct Subscription {
    cancel: Box<dyn Fn() + Send + Sync>,
}

impl Subscription {
    /// No event that happens from now on is told. One that is already waiting may still be.
    pub fn cancel(&self) {
        (self.cancel)();
    }
}

/// Who invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// This process.
    Local,
    /// Another one.
    Remote,
}

/// An invalidation that was applied to a cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Invalidation {
    /// The cache.
    pub namespace: String,
    /// Keys, of `update` too.
    pub keys: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Prefixes.
    pub prefixes: Vec<String>,
    /// Everything.
    pub all: bool,
    /// Who it came from.
    pub origin: Origin,
    /// The publisher stream, of a numbered remote message.
    pub src: Option<String>,
    /// The message's number in it.
    pub seq: Option<u64>,
}

impl Invalidation {
    pub(crate) fn new(
        namespace: &str,
        ops: &Operations,
        origin: Origin,
        src: Option<&Arc<str>>,
        seq: Option<u64>,
    ) -> Self {
        Invalidation {
            namespace: namespace.to_owned(),
            keys: ops.keys.iter().map(|(key, _)| key.clone()).collect(),
            tags: ops.tags.clone(),
            prefixes: ops.prefixes.clone(),
            all: ops.all,
            origin,
            src: src.map(|s| s.to_string()),
            seq,
        }
    }
}
