//! A cache: one namespace of a client. Wiring only; what is stored is decided in `fill`, what is served in `store`.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::client::{ClientInner, Receipt, Subscription};
use crate::clock::{self, Nanos};
use crate::config::CacheConfig;
use crate::error::{Error, Result};
use crate::events::{Invalidation, Listeners, Origin};
use crate::fill::{Failure, Fill, Join, Joined, Lifetime, Start, Terms, Ticket};
use crate::freshness::{Freshness, Vitals};
use crate::link::{Channel, Target};
use crate::message::{self, Operations};
use crate::stats::{CacheStats, Counters};
use crate::store::{Extra, Key, Lookup, Store};

/// One namespace of entries, kept fresh by its client. A handle: cheap to clone, safe to use from any thread.
///
/// Values are cloned on every hit, so make them cheap to clone (an `Arc`). They are dropped on whatever thread removed
/// them, never under a lock of the cache.
pub struct Cache<V> {
    pub(crate) inner: Arc<Inner<V>>,
    pub(crate) client: Arc<ClientInner>,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Cache { inner: self.inner.clone(), client: self.client.clone() }
    }
}

impl<V> std::fmt::Debug for Cache<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({:?})", self.inner.namespace)
    }
}

/// What the link knows of a cache, too; it does not keep the client alive.
pub(crate) struct Inner<V> {
    namespace: String,
    fill: Fill<V>,
    freshness: Arc<Freshness>,
    counters: Counters,
    channel: Arc<Channel>,
    listeners: Listeners<Invalidation>,
    load_timeout: Option<Duration>,
}

/// What a value is stored with.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SetOptions {
    /// Instead of the cache's `ttl`; longer than 0, at most ten years.
    pub ttl: Option<Duration>,
    /// Tags, by which `invalidate_tags` reaches the entry. At most 1,000.
    pub tags: Vec<String>,
    /// Keys with which this entry falls, whoever invalidates them. At most 1,000.
    pub depends_on: Vec<String>,
    /// The source's version of the value, 0 to 2^53 - 1: it is refused if a higher one is known.
    pub version: Option<u64>,
    /// The lease that was taken before the source was read.
    pub lease: Option<Lease>,
}

/// Tags, and dependencies, that one entry may have.
const MAX_LINKS: usize = 1_000;

impl SetOptions {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    fn terms(&self) -> Result<Terms> {
        if let Some(ttl) = self.ttl {
            if ttl.is_zero() || ttl > crate::config::MAX_DURATION {
                return Err(Error::invalid(format!("`ttl` must be longer than 0 and at most ten years, not {ttl:?}")));
            }
        }
        for (name, items) in [("tags", &self.tags), ("depends_on", &self.depends_on)] {
            if items.len() > MAX_LINKS {
                return Err(Error::invalid(format!(
                    "`{name}` has {} items; at most {MAX_LINKS} are possible",
                    items.len()
                )));
            }
        }
        self.tags.iter().try_for_each(|t| message::check_tag(t))?;
        self.depends_on.iter().try_for_each(|k| message::check_key(k))?;
        if let Some(version) = self.version {
            message::check_version(version)?;
        }
        if self.tags.is_empty() && self.depends_on.is_empty() && self.version.is_none() {
            return Ok(Terms { ttl: self.ttl, extra: None });
        }
        let keys = |items: &[String]| items.iter().map(|s| Key::from(s.as_str())).collect();
        let extra = Extra {
            tags: keys(&self.tags),
            depends_on: keys(&self.depends_on),
            version: self.version,
            started_at: None,
        };
        Ok(Terms { ttl: self.ttl, extra: Some(Arc::new(extra)) })
    }
}

/// Permission to fill a key, noted before its source is read. One `set` or `update` uses it up; dropping it gives it back.
#[derive(Clone)]
pub struct Lease(Arc<LeaseInner>);

struct LeaseInner {
    ticket: Ticket,
    give_back: Box<dyn Fn(&Ticket) + Send + Sync>,
}

impl Lease {
    /// The key it is for.
    pub fn key(&self) -> &str {
        &self.0.ticket.key
    }
}

impl Drop for LeaseInner {
    fn drop(&mut self) {
        (self.give_back)(&self.ticket);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({:?})", self.key())
    }
}

/// What a reader of a key is to do; see [`Cache::begin`].
pub enum Begin<V: Clone + Send + Sync + 'static> {
    /// Serve this.
    Hit(V),
    /// "Not found" is cached.
    Absent,
    /// Load it and tell the outcome.
    Lead(Load<V>),
    /// Another reader loads it.
    Join(Pending<V>),
}

/// A load that this reader leads. Dropped without an outcome, those who wait start over.
pub struct Load<V: Clone + Send + Sync + 'static> {
    cache: Arc<Inner<V>>,
    ticket: Option<Ticket>,
    terms: Terms,
}

impl<V: Clone + Send + Sync + 'static> Load<V> {
    /// The load's number, unique per process.
    pub fn id(&self) -> u64 {
        self.ticket.as_ref().map_or(0, |t| t.id)
    }

    /// The cache's `load_timeout`.
    pub fn timeout(&self) -> Option<Duration> {
        self.cache.load_timeout
    }

    /// Ends the load with its value (none: the source has no such key). Those who wait get it in any case; whether it was
    /// also stored is returned: not when it was invalidated meanwhile.
    pub fn finish(mut self, value: Option<V>) -> bool {
        let ticket = self.ticket.take();
        ticket.is_some_and(|ticket| self.cache.fill.finish(&ticket, value, &self.terms, clock::now()))
    }

    /// Ends the load with the loader's own error, which those who wait get too.
    pub fn fail(mut self, error: Failure) {
        self.end(Joined::Failed(error));
    }

    fn end(&mut self, outcome: Joined<V>) {
        if let Some(ticket) = self.ticket.take() {
            self.cache.counters.load_failures.add();
            self.cache.fill.give_up(&ticket, outcome);
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Load<V> {
    fn drop(&mut self) {
        self.end(Joined::Again);
    }
}

/// Another reader's load: [`Pending::wait`] on a thread, or `.await` under any executor.
///
/// Both end with [`Joined::TimedOut`] after the cache's `load_timeout`.
pub struct Pending<V> {
    join: Join<V>,
    timeout: Option<Duration>,
    alarm: Option<tokio::sync::oneshot::Receiver<()>>,
    client: Arc<ClientInner>,
}

impl<V: Clone> Pending<V> {
    /// The load's number, unique per process: [`Load::id`] of the one who leads it.
    pub fn load_id(&self) -> u64 {
        self.join.load_id()
    }

    /// Blocks the thread until the load ends; at most `timeout` and the cache's `load_timeout`.
    pub fn wait(&self, timeout: Option<Duration>) -> Joined<V> {
        let limit = [timeout, self.timeout].into_iter().flatten().min();
        self.join.wait(limit)
    }
}

impl<V: Clone> Future for Pending<V> {
    type Output = Joined<V>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Joined<V>> {
        if let Poll::Ready(outcome) = Pin::new(&mut self.join).poll(cx) {
            return Poll::Ready(outcome);
        }
        if let (None, Some(timeout)) = (&self.alarm, self.timeout) {
            self.alarm = Some(self.client.shared.alarm(timeout));
        }
        match self.alarm.as_mut().map(|alarm| Pin::new(alarm).poll(cx)) {
            Some(Poll::Ready(_)) => Poll::Ready(Joined::TimedOut),
            _ => Poll::Pending,
        }
    }
}

/// When the entry held under a key was loaded and ends; see [`Cache::inspect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When its load started, on [`clock::now`](crate::clock::now).
    pub loaded_at: Nanos,
    /// End of its `ttl`.
    pub expires_at: Nanos,
    /// The cache's epoch when its load started.
    pub epoch: u64,
}

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    pub(crate) fn new(namespace: &str, config: &CacheConfig, client: Arc<ClientInner>, channel: Arc<Channel>) -> Self {
        let shared = &client.shared;
        let freshness = Arc::new(Freshness::new(shared.bounds));
        let lifetime = Lifetime { ttl: config.ttl, negative_ttl: config.negative_ttl, jitter: config.ttl_jitter };
        let inner = Arc::new(Inner {
            namespace: namespace.to_owned(),
            fill: Fill::new(Store::new(config.max_entries, freshness.clone()), lifetime, shared.config.tombstone_ttl),
            freshness,
            counters: Counters::default(),
            channel,
            listeners: Listeners::new(shared.events.clone()),
            load_timeout: config.load_timeout,
        });
        Cache { inner, client }
    }

    /// The value held under `key`, unless it may be staler than the bound. Never blocks, never waits for the network.
    ///
    /// A key that is not valid, a closed client and a forked process are misses; [`Cache::check`] tells which.
    #[inline]
    pub fn get(&self, key: &str) -> Option<V> {
        match self.look_up(key) {
            Lookup::Hit(value) => {
                self.inner.counters.hits.add();
                Some(value)
            }
            Lookup::Absent => {
                self.inner.counters.hits.add();
                None
            }
            Lookup::Miss => {
                self.inner.counters.misses.add();
                None
            }
        }
    }

    /// As [`Cache::get`], for the quick path of a read-through: what is not a hit is not counted, since [`Cache::begin`]
    /// follows and counts it.
    #[inline]
    pub fn hit(&self, key: &str) -> Option<V> {
        match self.look_up(key) {
            Lookup::Hit(value) => {
                self.inner.counters.hits.add();
                Some(value)
            }
            _ => None,
        }
    }

    #[inline]
    fn look_up(&self, key: &str) -> Lookup<V> {
        if self.client.shared.is_forked() {
            return Lookup::Miss;
        }
        self.inner.fill.store().get(key, clock::upper)
    }

    /// Why a read of `key` could never be a hit.
    ///
    /// # Errors
    /// `InvalidArgument` (1 to 1,024 bytes of UTF-8 without NUL), `Closed`, `Forked`.
    pub fn check(&self, key: &str) -> Result<()> {
        self.client.shared.check_usable()?;
        message::check_key(key)
    }

    /// Whether [`Cache::get`] would find a value; counts nothing.
    pub fn contains(&self, key: &str) -> bool {
        matches!(self.look_up(key), Lookup::Hit(_))
    }

    /// Tells the eviction policy that `key` was read, for a binding that serves hits from its own memory. Counts nothing.
    pub fn touch(&self, key: &str) {
        let _ = self.look_up(key);
    }

    /// When the entry held under `key` was loaded and ends.
    pub fn inspect(&self, key: &str) -> Option<Facts> {
        let entry = self.inner.fill.store().peek(key)?;
        Some(Facts { loaded_at: entry.loaded_at, expires_at: entry.expires_at, epoch: entry.epoch })
    }

    /// Calls `mirror` with what hits are checked against, at once and after every change, in order. It must be quick and
    /// must not call into the cache.
    pub fn mirror(&self, mirror: impl Fn(Vitals) + Send + Sync + 'static) {
        self.inner.freshness.mirror(Box::new(mirror));
    }

    /// Stores a value that is current now, here only. False: refused, since its version is lower than one known.
    ///
    /// # Errors
    /// As [`Cache::check`].
    pub fn set(&self, key: &str, value: V) -> Result<bool> {
        self.set_with(key, value, &SetOptions::default())
    }

    /// Stores a value here only, with options. False: refused (a fenced or used lease, a lower version).
    ///
    /// # Errors
    /// As [`Cache::check`]; `InvalidArgument` for an option out of range or a lease of another key or cache.
    pub fn set_with(&self, key: &str, value: V, options: &SetOptions) -> Result<bool> {
        self.check(key)?;
        let terms = options.terms()?;
        let ticket = self.ticket(key, options)?;
        let stored = self.inner.fill.set(key, value, &terms, ticket, clock::now());
        if stored {
            self.inner.counters.sets.add();
        }
        Ok(stored)
    }

    /// Notes where the invalidation history of `key` stands, before its source is read.
    ///
    /// # Errors
    /// As [`Cache::check`].
    pub fn lease(&self, key: &str) -> Result<Lease> {
        self.check(key)?;
        let ticket = self.inner.fill.lease(key, clock::now());
        let inner = self.inner.clone();
        Ok(Lease(Arc::new(LeaseInner { ticket, give_back: Box::new(move |t| inner.fill.give_up(t, Joined::Again)) })))
    }

    fn ticket<'a>(&self, key: &str, options: &'a SetOptions) -> Result<Option<&'a Ticket>> {
        match &options.lease {
            Some(lease) if lease.key() != key => Err(Error::invalid(format!(
                "`lease` is for key {:?}, not for {key:?}; take a lease of the key that you store",
                lease.key()
            ))),
            other => Ok(other.as_ref().map(|lease| &lease.0.ticket)),
        }
    }

    /// Stores a new value here and invalidates the old one everywhere else, after the source was written.
    ///
    /// Needs `lease`, taken before the write, or `version`: else two concurrent writers could leave the older value here
    /// for good. If the lease was fenced or a higher version is known it is an invalidation only
    /// ([`Receipt::stored`] is false).
    ///
    /// # Errors
    /// As [`Cache::set_with`]; `InvalidArgument` without lease and version.
    pub fn update(&self, key: &str, value: V, options: &SetOptions) -> Result<Receipt> {
        self.check(key)?;
        if options.lease.is_none() && options.version.is_none() {
            return Err(Error::invalid(
                "`update` needs `lease` (taken before the source was written) or `version`; without either use `invalidate`",
            ));
        }
        let terms = options.terms()?;
        let ticket = self.ticket(key, options)?;
        let stored = self.inner.fill.update(key, value, &terms, ticket, clock::now());
        if stored {
            self.inner.counters.sets.add();
        }
        let operations = Operations { keys: vec![(key.to_owned(), options.version)], ..Operations::default() };
        Ok(self.publish(operations, stored))
    }

    /// Removes `key` here at once and everywhere else as soon as the network allows. Never blocks.
    ///
    /// # Errors
    /// As [`Cache::check`].
    pub fn invalidate(&self, key: &str) -> Result<Receipt> {
        self.invalidate_many([(key, None)])
    }

    /// As [`Cache::invalidate`], saying that `version` is now current: entries with that or a higher version stay.
    ///
    /// # Errors
    /// As [`Cache::check`]; `InvalidArgument` for a version over 2^53 - 1.
    pub fn invalidate_version(&self, key: &str, version: u64) -> Result<Receipt> {
        self.invalidate_many([(key, Some(version))])
    }

    /// Invalidates several keys in one go, each with the version that is now current if it is known.
    ///
    /// # Errors
    /// As [`Cache::invalidate_version`]; then nothing is invalidated.
    pub fn invalidate_many<'a>(&self, keys: impl IntoIterator<Item = (&'a str, Option<u64>)>) -> Result<Receipt> {
        let mut operations = Operations::default();
        for (key, version) in keys {
            message::check_key(key)?;
            if let Some(version) = version {
                message::check_version(version)?;
            }
            operations.keys.push((key.to_owned(), version));
        }
        self.invalidate_all_of(operations)
    }

    /// Invalidates every entry that carries one of `tags`.
    ///
    /// # Errors
    /// As [`Cache::check`], for a tag.
    pub fn invalidate_tags<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> Result<Receipt> {
        let mut operations = Operations::default();
        for tag in tags {
            message::check_tag(tag)?;
            operations.tags.push(tag.to_owned());
        }
        self.invalidate_all_of(operations)
    }

    /// Invalidates every entry whose key begins with `prefix`. Reads through all keys held.
    ///
    /// # Errors
    /// As [`Cache::check`], for the prefix.
    pub fn invalidate_prefix(&self, prefix: &str) -> Result<Receipt> {
        message::check_prefix(prefix)?;
        self.invalidate_all_of(Operations { prefixes: vec![prefix.to_owned()], ..Operations::default() })
    }

    /// Invalidates everything, in constant time here.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn invalidate_all(&self) -> Result<Receipt> {
        self.invalidate_all_of(Operations { all: true, ..Operations::default() })
    }

    fn invalidate_all_of(&self, operations: Operations) -> Result<Receipt> {
        self.client.shared.check_usable()?;
        // Here first: a reader in this process must not see the old value after this call returned.
        self.inner.fill.apply(&operations, clock::now());
        Ok(self.publish(operations, false))
    }

    fn publish(&self, operations: Operations, stored: bool) -> Receipt {
        if !operations.is_empty() {
            self.inner.counters.local.add();
        }
        self.inner.tell(&operations, Origin::Local, None, None);
        let seq = self.inner.channel.push(operations);
        Receipt::new(self.client.shared.clone(), self.inner.channel.clone(), seq, stored)
    }

    /// Removes `key` here only; nothing is published. Whether it was held.
    ///
    /// # Errors
    /// As [`Cache::check`].
    pub fn evict(&self, key: &str) -> Result<bool> {
        self.check(key)?;
        Ok(self.inner.fill.evict(key))
    }

    /// Removes everything here only, in constant time; nothing is published.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn clear_local(&self) -> Result<()> {
        self.client.shared.check_usable()?;
        self.inner.fill.clear(clock::now());
        Ok(())
    }

    /// Shows every value held, under no lock of the cache's writing side: for a garbage collector that must know what
    /// the cache refers to.
    pub fn each_value(&self, mut show: impl FnMut(&V)) {
        self.inner.fill.store().values().for_each(|value| show(&value));
    }

    /// As [`Cache::clear_local`], and frees everything before it returns, also of a closed client: for a garbage collector.
    pub fn discard(&self) {
        if !self.client.shared.is_forked() {
            self.inner.fill.clear(clock::now());
            self.inner.fill.sweep(clock::now(), usize::MAX);
        }
    }

    /// A read-through step, for callers whose loaders do not run in Rust: a hit, a load to lead, or one to join.
    ///
    /// # Errors
    /// As [`Cache::check`].
    pub fn begin(&self, key: &str) -> Result<Begin<V>> {
        self.begin_with(key, &SetOptions::default())
    }

    /// As [`Cache::begin`], with what the loaded value will be stored with.
    ///
    /// # Errors
    /// As [`Cache::set_with`]; `lease` is not possible here.
    pub fn begin_with(&self, key: &str, options: &SetOptions) -> Result<Begin<V>> {
        self.check(key)?;
        let terms = options.terms()?;
        if options.lease.is_some() {
            return Err(Error::invalid("`lease` does not go with a read-through, which takes its own"));
        }
        // Most read-throughs are hits, which need no turn at the fill's lock.
        if let Some(value) = self.hit(key) {
            return Ok(Begin::Hit(value));
        }
        let counters = &self.inner.counters;
        Ok(match self.inner.fill.begin(key, terms.extra.as_ref(), clock::now) {
            Start::Hit(value) => {
                counters.hits.add();
                Begin::Hit(value)
            }
            Start::Absent => {
                counters.hits.add();
                Begin::Absent
            }
            Start::Lead(ticket, _) => {
                counters.misses.add();
                counters.loads.add();
                Begin::Lead(Load { cache: self.inner.clone(), ticket: Some(ticket), terms })
            }
            Start::Join(flight) => {
                counters.misses.add();
                counters.joins.add();
                let timeout = self.inner.load_timeout;
                Begin::Join(Pending { join: Join { flight }, timeout, alarm: None, client: self.client.clone() })
            }
        })
    }

    /// The value under `key`, loaded by `loader` if it is not held. Concurrent readers of one key share one load.
    ///
    /// `Ok(None)`: the source has no such key. Runs under any executor; a dropped future hands the load over to the next reader.
    ///
    /// # Errors
    /// As [`Cache::check`]; `Load`, holding the loader's own error; `Timeout` after `load_timeout` of waiting for another's load.
    pub async fn get_or_load<F, Fut, E>(&self, key: &str, loader: F) -> Result<Option<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = std::result::Result<Option<V>, E>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.get_or_load_with(key, &SetOptions::default(), loader).await
    }

    /// As [`Cache::get_or_load`], with what the loaded value is stored with.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`] and [`Cache::begin_with`].
    pub async fn get_or_load_with<F, Fut, E>(&self, key: &str, options: &SetOptions, loader: F) -> Result<Option<V>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = std::result::Result<Option<V>, E>>,
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        loop {
            match self.begin_with(key, options)? {
                Begin::Hit(value) => return Ok(Some(value)),
                Begin::Absent => return Ok(None),
                Begin::Lead(load) => return finish(load, loader().await),
                Begin::Join(pending) => {
                    if let Some(outcome) = joined(key, pending.await) {
                        return outcome;
                    }
                }
            }
        }
    }

    /// How long a reader waits for another's load, if there is a limit; for bindings whose readers wait in their own way.
    pub fn load_timeout(&self) -> Option<Duration> {
        self.inner.load_timeout
    }

    /// Counters since the cache was opened.
    pub fn stats(&self) -> CacheStats {
        self.inner.stats()
    }

    /// The namespace; empty for none.
    pub fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// Entries held, expired ones not yet replaced included.
    pub fn len(&self) -> usize {
        self.inner.fill.store().len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `listener` for every invalidation applied here, local or received, after it was applied: on the client's own
    /// event thread, one at a time, in order. A panic in it is logged and goes no further.
    pub fn on_invalidated(&self, listener: impl Fn(&Invalidation) + Send + Sync + 'static) -> Subscription {
        self.inner.listeners.add(Box::new(listener))
    }
}

/// Ends a load that this reader led, and says what the reader gets.
pub(crate) fn finish<V, E>(load: Load<V>, outcome: std::result::Result<Option<V>, E>) -> Result<Option<V>>
where
    V: Clone + Send + Sync + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    match outcome {
        Ok(value) => {
            load.finish(value.clone());
            Ok(value)
        }
        Err(error) => {
            let failure: Failure = Arc::from(error.into());
            load.fail(failure.clone());
            Err(Error::load(failure))
        }
    }
}

/// What a reader who waited gets; none: start over.
pub(crate) fn joined<V>(key: &str, outcome: Joined<V>) -> Option<Result<Option<V>>> {
    match outcome {
        Joined::Value(value) => Some(Ok(Some(value))),
        Joined::Absent => Some(Ok(None)),
        Joined::Failed(failure) => Some(Err(Error::load(failure))),
        Joined::TimedOut => Some(Err(Error::load_timeout(key))),
        Joined::Again => None,
    }
}

impl<V: Clone> Inner<V> {
    fn tell(&self, operations: &Operations, origin: Origin, src: Option<&Arc<str>>, seq: Option<u64>) {
        if !operations.is_empty() {
            self.listeners.tell(|| Invalidation::new(&self.namespace, operations, origin, src, seq));
        }
    }

    fn stats(&self) -> CacheStats {
        let c = &self.counters;
        CacheStats {
            entries: self.fill.store().len() as u64,
            hits: c.hits.sum(),
            misses: c.misses.sum(),
            loads: c.loads.sum(),
            load_failures: c.load_failures.sum(),
            joins: c.joins.sum(),
            open_loads: self.fill.open_loads() as u64,
            sets: c.sets.sum(),
            fenced: self.fill.refused(),
            evictions: self.fill.evicted(),
            invalidations_local: c.local.sum(),
            invalidations_remote: c.remote.sum(),
            plain: c.plain.sum(),
            own: c.own.sum(),
            empty: c.empty.sum(),
            malformed: c.malformed.sum(),
            refused: c.refused.lock().clone(),
            doubts: c.doubts.lock().clone(),
            epoch: self.freshness.epoch(),
        }
    }
}

impl<V: Clone + Send + Sync + 'static> Target for Inner<V> {
    fn apply(&self, operations: &Operations, now: Nanos) {
        if !operations.is_empty() {
            self.counters.remote.add();
            self.fill.apply(operations, now);
        }
    }

    fn tell_remote(&self, operations: &Operations, src: Option<&Arc<str>>, seq: Option<u64>) {
        self.tell(operations, Origin::Remote, src, seq);
    }

    fn clear(&self, now: Nanos) {
        self.fill.clear(now);
    }

    fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn sweep(&self, now: Nanos, most: usize) {
        self.fill.sweep(now, most);
    }
}
