//! The link: one thread per client, with the one loop. Transport event → message → store → stream → freshness; outbox →
//! transport. What the callers' threads share with it is [`Shared`] and, per cache, a [`Channel`]; what is done when is
//! decided in [`Session`].

mod closing;
mod denied;
mod quotas;
mod restored;
mod session;
mod topic;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, Notify};

use crate::client::{LinkState, Status};
use crate::clock::{self, Nanos};
use crate::config::{redacted, ClientConfig, Scheme};
use crate::error::{Error, Result};
use crate::events::{Events, Listeners};
use crate::freshness::{Bounds, Freshness};
use crate::journal::{Directory, Journal, Left, Sync as Written};
use crate::message::{Operations, SigningKeys, Token};
use crate::outbox::{Limits, Outbox};
use crate::stats::Counters;
use crate::transport::{self, Event};

use quotas::Quotas;
pub use session::Session;

/// Events handled in one go: a flood of messages must keep the link neither from probing nor from closing.
const EVENTS_AT_ONCE: usize = 1_000;

/// What the link needs of a cache, whatever its values are.
pub trait Target: Send + Sync {
    /// Applies what another publisher invalidated.
    fn apply(&self, operations: &Operations, now: Nanos);
    /// Tells listeners of what was applied and observed.
    fn tell_remote(&self, operations: &Operations, src: Option<&Arc<str>>, seq: Option<u64>);
    /// Serves nothing that was loaded before now.
    fn clear(&self, now: Nanos);
    /// What its hits are checked against.
    fn freshness(&self) -> &Freshness;
    /// What it counts.
    fn counters(&self) -> &Counters;
    /// Frees at most `most` entries that cannot be served again.
    fn sweep(&self, now: Nanos, most: usize);
}

/// One cache's way out: what is still to be published on its topic.
pub struct Channel {
    namespace: String,
    topic: Arc<str>,
    outbox: Mutex<Outbox>,
    acked: AtomicU64,
    /// With `outbox_dir`. Written under the outbox's lock, so that nothing is sent before it is there.
    journal: Option<Journal>,
    wake: Arc<Notify>,
}

impl Channel {
    /// The way out of the cache `namespace`.
    pub fn new(shared: &Shared, namespace: &str) -> Self {
        let config = &shared.config;
        let mut outbox = Outbox::new(shared.src.clone(), shared.limits(), shared.bounds.bound);
        let journal = shared.outbox_dir.as_ref().map(|dir| dir.journal(&shared.src, &config.topic, namespace));
        if journal.is_some() {
            outbox.keep_records();
        }
        Channel {
            namespace: namespace.to_owned(),
            topic: full_topic(&config.topic, namespace),
            outbox: Mutex::new(outbox),
            acked: AtomicU64::new(0),
            journal,
            wake: shared.wake.clone(),
        }
    }

    /// The way out of a stream that a dead process left.
    fn restored(shared: &Shared, left: Left) -> Self {
        let outbox = Outbox::restore(left.src, shared.limits(), shared.bounds.bound, left.records);
        Channel {
            topic: full_topic(&left.topic, &left.namespace),
            namespace: left.namespace,
            acked: AtomicU64::new(outbox.acked_up_to()),
            outbox: Mutex::new(outbox),
            journal: Some(left.journal),
            wake: shared.wake.clone(),
        }
    }

    /// The cache it belongs to.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Queues operations; the number of the message that will carry them.
    pub fn push(&self, operations: Operations) -> u64 {
        let mut outbox = self.outbox.lock();
        let seq = outbox.push(operations);
        if let Some(journal) = &self.journal {
            let records = outbox.take_records();
            journal.append(&records, &outbox, Written::Soon);
        }
        drop(outbox);
        self.wake.notify_one();
        seq
    }

    /// The broker acknowledged number `seq`.
    fn acknowledged(&self, seq: u64, now: Nanos) {
        let mut outbox = self.outbox.lock();
        outbox.acked(seq, now);
        self.acked.store(outbox.acked_up_to(), Ordering::Release);
        if let Some(journal) = &self.journal {
            let record = outbox.heartbeat().into_iter().collect::<Vec<_>>();
            journal.append(&record, &outbox, Written::No);
        }
    }

    /// Deletes the journal, if there is one, or leaves it for the next start.
    fn end_journal(&self, delete: bool) {
        if let Some(journal) = &self.journal {
            journal.end(delete, &self.outbox.lock());
        }
    }

    /// Every number up to this one was acknowledged by the broker.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }
}

fn full_topic(root: &str, namespace: &str) -> Arc<str> {
    if namespace.is_empty() {
        root.into()
    } else {
        format!("{root}/{namespace}").into()
    }
}

/// What a caller's thread asks of the link.
pub enum Command {
    /// Keep a cache fresh from now on.
    Open {
        /// The cache.
        target: Arc<dyn Target>,
        /// Its way out.
        channel: Arc<Channel>,
    },
    /// Tell when another's invalidation was applied here.
    WaitFor {
        /// Which one.
        token: Token,
        /// For how long to wait.
        timeout: Duration,
        /// Whether it was.
        reply: oneshot::Sender<bool>,
    },
    /// Tell when the broker acknowledged a number.
    Delivered {
        /// Of this channel's stream.
        channel: Arc<Channel>,
        /// The number.
        seq: u64,
        /// For how long to wait.
        timeout: Duration,
        /// Whether it did.
        reply: oneshot::Sender<bool>,
    },
    /// Tell when a time has passed.
    Alarm {
        /// How long that is.
        after: Duration,
        /// Fires then.
        reply: oneshot::Sender<()>,
    },
    /// End.
    Close {
        /// How long what is unsent may take.
        timeout: Duration,
        /// Messages left unsent.
        reply: Option<oneshot::Sender<usize>>,
    },
}

/// What the link shares with the callers' threads.
pub struct Shared {
    pub(crate) config: ClientConfig,
    pub(crate) bounds: Bounds,
    pub(crate) quotas: Quotas,
    /// The broker is AWS IoT Core.
    pub(crate) is_aws: bool,
    pub(crate) src: Arc<str>,
    pub(crate) events: Arc<Events>,
    pub(crate) status_listeners: Listeners<Status>,
    outbox_dir: Option<Arc<Directory>>,
    client_id: String,
    transport: &'static str,
    url: String,
    commands: UnboundedSender<Command>,
    wake: Arc<Notify>,
    closed: AtomicBool,
    left_unsent: AtomicU64,
    /// Caches opened by callers; the link learns of each a moment later.
    opened: AtomicU64,
    /// The process's fork count when the client was made.
    forks: u32,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    link: LinkState,
    reason: String,
    caches: u64,
    connects: u64,
    unsent: u64,
}

impl Shared {
    /// What a client of the stream `src` shares with its link, and the link's end of the commands.
    ///
    /// # Errors
    /// `Config` when the URL or `outbox_dir` cannot be used.
    pub fn new(config: ClientConfig, src: &str) -> Result<(Arc<Shared>, UnboundedReceiver<Command>)> {
        let endpoint = config.endpoint()?;
        let events = Arc::new(Events::default());
        let (commands, inbox) = unbounded_channel();
        let outbox_dir = config.outbox_dir.as_ref().map(|path| Directory::open(path, src)).transpose()?;
        let shared = Arc::new(Shared {
            outbox_dir,
            bounds: Bounds::new(config.staleness_bound.as_nanos() as Nanos, config.reorders()),
            quotas: Quotas::of(&config),
            is_aws: endpoint.is_aws(),
            client_id: config.client_id.clone().unwrap_or_else(|| src.to_owned()),
            src: src.into(),
            transport: match endpoint.scheme {
                Scheme::Memory => "memory",
                Scheme::Mqtt => "mqtt",
                Scheme::Mqtts => "mqtts",
                Scheme::Ws => "ws",
                Scheme::Wss => "wss",
                Scheme::AwsIot => "awsiot",
            },
            url: redacted(config.url_or_default()),
            status_listeners: Listeners::new(events.clone()),
            events,
            commands,
            wake: Arc::new(Notify::new()),
            closed: AtomicBool::new(false),
            left_unsent: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            forks: FORKS.load(Ordering::Relaxed),
            state: Mutex::new(State {
                link: LinkState::Connecting,
                reason: "not connected yet".into(),
                caches: 0,
                connects: 0,
                unsent: 0,
            }),
            config,
        });
        Ok((shared, inbox))
    }

    /// The deadlines that follow from the staleness bound.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn limits(&self) -> Limits {
        let limits = self.quotas.outbox(self.config.outbox_limit);
        let signature = self.config.signing_key.as_ref().map_or(0, SigningKeys::overhead);
        Limits { max_payload: limits.max_payload - signature, ..limits }
    }

    /// Whether this process is a fork of the one that made the client. One relaxed load.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        FORKS.load(Ordering::Relaxed) != self.forks
    }

    /// # Errors
    /// `Forked`, `Closed`.
    pub(crate) fn check_usable(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::forked());
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        Ok(())
    }

    /// From here on calls fail with `Closed`.
    pub(crate) fn shut(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// The link's thread panicked: calls fail from here on, and what is held is served until it is as old as the bound.
    fn broke_down(&self) {
        self.shut();
        let reason =
            "the link ended by a panic, in this library, in a value's destructor or in a log subscriber; connect again";
        tracing::error!(target: "unstale", "{reason}");
        {
            let mut state = self.state.lock();
            state.link = LinkState::Closed;
            state.reason = reason.into();
        }
        self.status_listeners.tell(|| self.status());
    }

    /// Asks the link; without an answer if it has ended.
    pub(crate) fn command(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Fires after `after`, on the link's clock, under any executor.
    pub(crate) fn alarm(&self, after: Duration) -> oneshot::Receiver<()> {
        let (reply, alarm) = oneshot::channel();
        self.command(Command::Alarm { after, reply });
        alarm
    }

    /// What the link left unsent when it ended.
    pub(crate) fn left_unsent(&self) -> usize {
        self.left_unsent.load(Ordering::Acquire) as usize
    }

    /// Hands a new cache to the link.
    pub(crate) fn open(&self, target: Arc<dyn Target>, channel: Arc<Channel>) {
        // Counted first: from here on the client is not live until the link has proved this cache too.
        self.opened.fetch_add(1, Ordering::AcqRel);
        self.command(Command::Open { target, channel });
    }

    pub(crate) fn status(&self) -> Status {
        let mut state = self.state.lock().clone();
        let opened = self.opened.load(Ordering::Acquire);
        if state.link == LinkState::Live && state.caches < opened {
            state.link = LinkState::Degraded;
            state.reason = "a cache was just opened".into();
        }
        Status {
            state: state.link,
            reason: state.reason,
            transport: self.transport.to_owned(),
            url: self.url.clone(),
            client_id: self.client_id.clone(),
            src: self.src.to_string(),
            staleness_bound_ms: self.config.staleness_bound.as_millis() as u64,
            caches: opened,
            connects: state.connects,
            unsent: state.unsent,
            events_dropped: self.events.dropped(),
            outbox_dir_error: self.outbox_dir.as_ref().and_then(|dir| dir.error()),
        }
    }
}

/// Counts the forks in this process's ancestry, in the child.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    #[cfg(unix)]
    crate::journal::forked();
}

fn watch_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(unix)]
        // SAFETY: the handler only uses atomics and calls that are allowed between fork and exec.
        unsafe {
            libc::pthread_atfork(None, None, Some(forked));
        }
    });
}

/// Starts a link. The receiver fires once it is live (with `lazy`: once it runs), or with the reason why it is not.
pub(crate) fn start(config: ClientConfig) -> Result<(Arc<Shared>, oneshot::Receiver<Result<()>>)> {
    watch_forks();
    // The clock is complete before anything is stamped with it.
    clock::suspended();
    let src = format!("{}-{}", config.app, unique());
    let (shared, commands) = Shared::new(config, &src)?;
    let (ready, answer) = oneshot::channel();
    let for_link = shared.clone();
    std::thread::Builder::new()
        .name("unstale-link".into())
        .spawn(move || {
            let watched = for_link.clone();
            // A value's destructor and a log subscriber run on this thread too, and they are the user's code.
            if catch_unwind(AssertUnwindSafe(|| run(for_link, commands, ready))).is_err() {
                watched.broke_down();
            }
        })
        .map_err(|e| Error::internal(format!("no thread could be started: {e}")))?;
    Ok((shared, answer))
}

/// The thread's body.
fn run(shared: Arc<Shared>, commands: UnboundedReceiver<Command>, ready: oneshot::Sender<Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = ready.send(Err(Error::internal(format!("no runtime could be made: {e}"))));
            return;
        }
    };
    if shared.config.url.is_empty() {
        warn_that_nothing_leaves();
    }
    runtime.block_on(async move {
        let (events, inbox) = unbounded_channel();
        match transport::open(&shared.config, &shared.client_id, events) {
            Ok(transport) => {
                let wake = shared.wake.clone();
                let left = shared.outbox_dir.as_ref().map_or(Vec::new(), |dir| dir.take_up());
                let mut session = Session::new(shared, transport, ready, clock::now(), clock::suspended());
                session.restore(left);
                turn(session, &wake, commands, inbox).await;
            }
            Err(e) => drop(ready.send(Err(e))),
        }
    });
}

/// Why a client without a URL hears nobody and is heard by nobody.
const NOTHING_LEAVES: &str = "no `url` was given, so nothing leaves this process";

/// Once per process, however many clients have no URL.
fn warn_that_nothing_leaves() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            target: "unstale",
            "option `url` is given neither as an argument nor by UNSTALE_URL, so nothing leaves this process; give the broker's, for \
             example mqtt://localhost:1883, or memory:// if that is meant"
        );
    });
}

/// The one loop.
async fn turn(
    mut session: Session,
    wake: &Notify,
    mut commands: UnboundedReceiver<Command>,
    mut events: UnboundedReceiver<Event>,
) {
    while !session.ended() {
        session.tick(clock::now(), clock::suspended);
        let now = clock::now();
        let sleep = session.due(now).saturating_sub(now);
        tokio::select! {
            biased;
            Some(event) = events.recv() => {
                session.event(event, clock::now());
                // What came with it is handled before anything is sent.
                for _ in 1..EVENTS_AT_ONCE {
                    let Ok(event) = events.try_recv() else { break };
                    session.event(event, clock::now());
                }
                while let Ok(command) = commands.try_recv() {
                    session.command(command, clock::now());
                }
            }
            Some(command) = commands.recv() => session.command(command, clock::now()),
            () = wake.notified() => {}
            () = tokio::time::sleep(Duration::from_nanos(sleep)) => {}
        }
    }
    commands.close();
    while let Ok(command) = commands.try_recv() {
        session.command(command, clock::now());
    }
    session.finish();
}

/// 96 bits that no other process start has: hashed with keys that the operating system made up.
fn unique() -> String {
    use std::collections::hash_map::RandomState;
    use std::hash::{BuildHasher, Hasher};
    let half = |salt: u64| {
        // A forked child inherits the keys, so the process id and the time go in too.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(salt);
        hasher.write_u32(std::process::id());
        hasher.write_u64(clock::now());
        hasher.finish()
    };
    format!("{:016x}{:08x}", half(1), half(2) as u32)
}

#[cfg(test)]
mod tests;
