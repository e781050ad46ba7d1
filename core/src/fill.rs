//! Fences, leases and single flight: which loaded value may be stored.
//!
//! A load that is open while its key, a tag, a dependency, a prefix or everything is invalidated does not store its value
//! (design, rule 1). Fences are exact: each open load knows where the invalidation history stood when it started, and the
//! history is kept, as a [`Log`], exactly while a load is open. One lock guards the open loads, the history and the index
//! of the store, so that "is it fenced?" and "store it" are one step.

mod flight;
mod log;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::clock::Nanos;
use crate::message::Operations;
use crate::store::{Entry, Extra, Index, Key, Lookup, Removed, Store};

pub use flight::{Failure, Flight, Join, Joined};
use log::Log;

/// Open loads are forgotten by a sweep only when there are more than this many; the sweep costs as much as there are.
const SWEEP_OVER: usize = 1024;
/// Versions that were invalidated are remembered for at most this many keys.
pub const MAX_TOMBSTONES: u64 = 100_000;

/// Unique per process, so that a binding can keep promises by load id over many caches.
static NEXT_LOAD: AtomicU64 = AtomicU64::new(1);

/// How long an entry lives.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// Life of a value.
    pub ttl: Duration,
    /// Life of a "not found"; none: not stored.
    pub negative_ttl: Option<Duration>,
    /// Lives end early by up to this share.
    pub jitter: f64,
}

/// An open load or lease.
struct Open<V> {
    id: u64,
    stamp: Nanos,
    epoch: u64,
    position: u64,
    fence: Fence,
    /// What joiners wait for; a lease has none.
    flight: Option<Arc<Flight<V>>>,
    /// What is known of the entry in advance, so that nobody joins a load that its tags or dependencies fenced.
    extra: Option<Arc<Extra>>,
    /// The age of the oldest input that the load could find in the cache, as far as it told its dependencies.
    inputs: Age,
}

/// When something was loaded, and in which epoch. A derived entry is as old as its oldest input.
#[derive(Clone, Copy)]
struct Age {
    loaded_at: Nanos,
    epoch: u64,
}

impl Age {
    const NONE: Age = Age { loaded_at: Nanos::MAX, epoch: u64::MAX };

    fn or_older(self, other: Age) -> Age {
        Age { loaded_at: self.loaded_at.min(other.loaded_at), epoch: self.epoch.min(other.epoch) }
    }
}

/// What was invalidated while a load was open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fence {
    /// Nothing: its value may be stored, and others may join.
    None,
    /// An older version: its value is stored if it is of this version or a newer one. Nobody joins any more.
    Below(u64),
    /// The key: its value is not stored.
    Closed,
}

impl Fence {
    fn admits(self, version: Option<u64>) -> bool {
        match self {
            Fence::None => true,
            Fence::Below(least) => version.is_some_and(|v| v >= least),
            Fence::Closed => false,
        }
    }
}

/// The right to end an open load or lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The key it is for.
    pub key: Key,
    /// The load's number, unique per process.
    pub id: u64,
}

/// What a reader of a key is to do.
pub enum Start<V> {
    /// Serve this.
    Hit(V),
    /// Serve "not found".
    Absent,
    /// Load it, then [`Fill::finish`].
    Lead(Ticket, Arc<Flight<V>>),
    /// Wait for someone else's load.
    Join(Arc<Flight<V>>),
}

/// What a value comes with when it is stored.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Instead of the cache's `ttl`.
    pub ttl: Option<Duration>,
    /// Tags, dependencies, version.
    pub extra: Option<Arc<Extra>>,
}

impl Terms {
    fn version(&self) -> Option<u64> {
        self.extra.as_ref().and_then(|e| e.version)
    }
}

struct Book<V> {
    index: Index,
    open: HashMap<Key, Vec<Open<V>>, RandomState>,
    /// For each key, the loads that said when they started that they depend on it.
    awaited: HashMap<Key, Vec<Ticket>, RandomState>,
    count: usize,
    log: Log,
    last_stamp: Nanos,
}

/// The writing side of a cache.
pub struct Fill<V> {
    store: Store<V>,
    book: Mutex<Book<V>>,
    tombstones: moka::sync::Cache<Key, u64, RandomState>,
    lifetime: Lifetime,
    refused: AtomicU64,
    evicted: AtomicU64,
}

impl<V: Clone> Fill<V> {
    /// The writing side of `store`.
    pub fn new(store: Store<V>, lifetime: Lifetime, tombstone_ttl: Duration) -> Self {
        let tombstones = moka::sync::Cache::builder()
            .max_capacity(MAX_TOMBSTONES)
            .time_to_live(tombstone_ttl)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build_with_hasher(RandomState::default());
        let book = Book {
            index: Index::default(),
            open: HashMap::default(),
            awaited: HashMap::default(),
            count: 0,
            log: Log::default(),
            last_stamp: 0,
        };
        Fill {
            store,
            book: Mutex::new(book),
            tombstones,
            lifetime,
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
        }
    }

    /// The reading side.
    pub fn store(&self) -> &Store<V> {
        &self.store
    }

    /// Values that were refused: fenced, too old, or of a lower version.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Entries that left for want of room.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Loads and leases that are open.
    pub fn open_loads(&self) -> usize {
        self.book.lock().count
    }

    /// A read-through: a hit, someone's load to join, or a load to lead. `extra` is what the entry will carry, if known.
    pub fn begin(&self, key: &str, extra: Option<&Arc<Extra>>, clock: impl Fn() -> Nanos) -> Start<V> {
        let mut book = self.book.lock();
        // Under the lock, so that a fill that ends between a miss and this call is seen.
        match self.store.get(key, &clock) {
            Lookup::Hit(value) => return Start::Hit(value),
            Lookup::Absent => return Start::Absent,
            Lookup::Miss => {}
        }
        let now = clock();
        let bounds = *self.store.freshness().bounds();
        let floor = self.store.freshness().floor();
        if let Some(loads) = book.open.get(key) {
            let joinable = loads.iter().rev().find(|open| {
                open.flight.is_some()
                    && open.fence == Fence::None
                    && open.stamp >= floor
                    // A load much older than the reader could bring a value older than the bound allows.
                    && now.saturating_sub(open.stamp) <= bounds.bound / 2
                    && !book.log.fences(open.position, open.extra.as_deref())
            });
            if let Some(flight) = joinable.and_then(|open| open.flight.clone()) {
                return Start::Join(flight);
            }
        }
        let flight = Arc::new(Flight::new(NEXT_LOAD.fetch_add(1, Ordering::Relaxed)));
        let ticket = self.open(&mut book, key, flight.id(), Some(flight.clone()), extra.cloned(), now);
        Start::Lead(ticket, flight)
    }

    /// Permission to fill `key` later, from now on (design, rule 1).
    pub fn lease(&self, key: &str, now: Nanos) -> Ticket {
        let id = NEXT_LOAD.fetch_add(1, Ordering::Relaxed);
        self.open(&mut self.book.lock(), key, id, None, None, now)
    }

    fn open(
        &self,
        book: &mut Book<V>,
        key: &str,
        id: u64,
        flight: Option<Arc<Flight<V>>>,
        extra: Option<Arc<Extra>>,
        now: Nanos,
    ) -> Ticket {
        if book.count >= SWEEP_OVER && book.count.is_power_of_two() {
            self.sweep_loads(book, now);
        }
        let epoch = self.store.freshness().epoch();
        let inputs = self.oldest_input(extra.as_deref(), now);
        let stamp = book.stamp(now);
        let position = book.log.position();
        let key = Key::from(key);
        let ticket = Ticket { key: key.clone(), id };
        for input in extra.iter().flat_map(|e| e.depends_on.iter()) {
            book.awaited.entry(input.clone()).or_default().push(ticket.clone());
        }
        let open = Open { id, stamp, epoch, position, fence: Fence::None, flight, extra, inputs };
        book.open.entry(key).or_default().push(open);
        book.count += 1;
        ticket
    }

    /// Ends a load with what it brought: the value goes to those who wait, and is stored unless it was fenced.
    pub fn finish(&self, ticket: &Ticket, value: Option<V>, terms: &Terms, now: Nanos) -> bool {
        let mut removed = Removed::new();
        let (flight, stored, too_old) = {
            let mut book = self.book.lock();
            let Some(open) = book.close(ticket) else { return false };
            let life = match value {
                Some(_) => Some(terms.ttl.unwrap_or(self.lifetime.ttl)),
                None => self.lifetime.negative_ttl,
            };
            let age = self.age(&open, terms, now);
            let stored = match life {
                Some(life) if self.admits(&mut book, ticket, &open, terms, now) => {
                    self.put(&mut book, &ticket.key, value.clone(), open.stamp, age, life, terms, &mut removed);
                    true
                }
                _ => false,
            };
            book.rest();
            let bound = self.store.freshness().bounds().bound;
            // What was made of older entries is as old as they are; proofs speak for them only while nothing fenced it.
            let proved =
                stored && self.store.freshness().serves(self.store.freshness().proof(), age.loaded_at, age.epoch, now);
            let too_old = now > open.stamp + bound || (now > age.loaded_at.saturating_add(bound) && !proved);
            (open.flight, stored, too_old)
        };
        drop(removed);
        if let Some(flight) = flight {
            flight.settle(if too_old { Joined::Again } else { value.map_or(Joined::Absent, Joined::Value) });
        }
        stored
    }

    /// Ends a load that failed, or whose leader gave up ([`Joined::Again`]).
    pub fn give_up(&self, ticket: &Ticket, outcome: Joined<V>) {
        let closed = {
            let mut book = self.book.lock();
            let closed = book.close(ticket);
            book.rest();
            closed
        };
        if let Some(flight) = closed.and_then(|open| open.flight) {
            flight.settle(outcome);
        }
    }

    /// Stores a value that its caller knows to be current now, or that was read under a lease. False: refused.
    pub fn set(&self, key: &str, value: V, terms: &Terms, lease: Option<&Ticket>, now: Nanos) -> bool {
        let mut removed = Removed::new();
        // Refused, it is dropped after the lock.
        let mut value = Some(value);
        let mut book = self.book.lock();
        let stored = self.set_locked(&mut book, key, &mut value, terms, lease, now, &mut removed);
        book.rest();
        drop(book);
        stored
    }

    #[allow(clippy::too_many_arguments)]
    fn set_locked(
        &self,
        book: &mut Book<V>,
        key: &str,
        value: &mut Option<V>,
        terms: &Terms,
        lease: Option<&Ticket>,
        now: Nanos,
        removed: &mut Removed<V>,
    ) -> bool {
        let (stamp, age) = match lease {
            Some(ticket) => match book.close(ticket) {
                Some(open) if *ticket.key == *key && self.admits(book, ticket, &open, terms, now) => {
                    (open.stamp, self.age(&open, terms, now))
                }
                _ => return self.refuse(),
            },
            None if self.is_outdated(key, terms.version()) => return self.refuse(),
            None => {
                let own = Age { loaded_at: book.stamp(now), epoch: self.store.freshness().epoch() };
                (own.loaded_at, own.or_older(self.oldest_input(terms.extra.as_deref(), now)))
            }
        };
        book.fence_key(key, Fence::Closed);
        let life = terms.ttl.unwrap_or(self.lifetime.ttl);
        self.put(book, &Key::from(key), value.take(), stamp, age, life, terms, removed);
        true
    }

    /// Stores the new value here, where that is safe, and drops what depended on the old one. Whether it was stored; if not,
    /// it was an invalidation.
    pub fn update(&self, key: &str, value: V, terms: &Terms, lease: Option<&Ticket>, now: Nanos) -> bool {
        let mut removed = Removed::new();
        let mut value = Some(value);
        let mut book = self.book.lock();
        let version = terms.version();
        let stored = self.set_locked(&mut book, key, &mut value, terms, lease, now, &mut removed);
        if let Some(version) = version {
            self.bury(key, version);
        }
        if stored {
            book.note_key(key);
            let dependents = book.index.dependents(key);
            self.fall(&mut book, dependents, &mut removed);
        } else {
            self.invalidate_key(&mut book, key, version, &mut removed);
        }
        book.rest();
        drop(book);
        stored
    }

    /// Applies an invalidation, local or received: first fence, then remove.
    pub fn apply(&self, operations: &Operations, now: Nanos) {
        let mut removed = Removed::new();
        let mut book = self.book.lock();
        if operations.all {
            self.clear_locked(&mut book, now);
        }
        for (key, version) in &operations.keys {
            if let Some(version) = version {
                self.bury(key, *version);
            }
            self.invalidate_key(&mut book, key, *version, &mut removed);
        }
        for tag in &operations.tags {
            book.note_tag(tag);
            let members = book.index.tagged(tag);
            self.fall(&mut book, members, &mut removed);
        }
        for prefix in &operations.prefixes {
            book.fence_prefix(prefix);
            let mut keys = self.store.keys_with_prefix(prefix);
            keys.extend(book.index.dependents_of_prefix(prefix));
            self.fall(&mut book, keys, &mut removed);
        }
        book.rest();
        drop(book);
    }

    fn invalidate_key(&self, book: &mut Book<V>, key: &str, version: Option<u64>, removed: &mut Removed<V>) {
        book.fence_key(key, version.map_or(Fence::Closed, Fence::Below));
        book.note_key(key);
        let stays =
            version.is_some_and(|v| self.store.peek(key).and_then(|e| e.version()).is_some_and(|held| held >= v));
        let dependents = book.index.dependents(key);
        if !stays {
            self.store.remove(&mut book.index, key, removed);
        }
        self.fall(book, dependents, removed);
    }

    /// Removes entries, and in turn what depends on them.
    fn fall(&self, book: &mut Book<V>, mut keys: Vec<Key>, removed: &mut Removed<V>) {
        while let Some(key) = keys.pop() {
            // Only what is held has dependents that are not reached otherwise; this also ends cycles.
            if self.store.remove(&mut book.index, &key, removed) {
                book.note_key(&key);
                keys.extend(book.index.dependents(&key));
            }
        }
    }

    /// Removes an entry here only; whether it was held.
    pub fn evict(&self, key: &str) -> bool {
        let mut removed = Removed::new();
        let mut book = self.book.lock();
        book.fence_key(key, Fence::Closed);
        let held = self.store.remove(&mut book.index, key, &mut removed);
        if removed.iter().any(|(_, e)| e.extra.is_some()) {
            self.unlinked(&mut book, vec![Key::from(key)], &mut removed);
        }
        book.rest();
        drop(book);
        held
    }

    /// Removes everything here only, in O(1); the memory is freed by [`Fill::sweep`].
    pub fn clear(&self, now: Nanos) {
        self.clear_locked(&mut self.book.lock(), now);
    }

    fn clear_locked(&self, book: &mut Book<V>, now: Nanos) {
        // Loads that are open have an earlier stamp, so the floor fences them too.
        let stamp = book.stamp(now);
        self.store.freshness().raise_floor(stamp);
    }

    /// Forgets loads and leases older than the bound, whose value would be refused, and frees at most `most` entries that
    /// cannot be served again. Called by the link now and then.
    pub fn sweep(&self, now: Nanos, most: usize) {
        let mut removed = Removed::new();
        let dead = self.store.dead_keys(now);
        let mut book = self.book.lock();
        self.sweep_loads(&mut book, now);
        let floor = self.store.freshness().floor();
        for key in dead.into_iter().take(most) {
            // It may have been replaced since the scan, which held no lock.
            if self.store.peek(&key).is_some_and(|e| e.loaded_at < floor || e.expires_at <= now) {
                self.store.remove(&mut book.index, &key, &mut removed);
                self.unlinked(&mut book, vec![key], &mut removed);
            }
        }
        book.rest();
        drop(book);
    }

    fn sweep_loads(&self, book: &mut Book<V>, now: Nanos) {
        let bound = self.store.freshness().bounds().bound;
        let mut gone = 0;
        let awaited = &mut book.awaited;
        book.open.retain(|_, loads| {
            let before = loads.len();
            loads.retain(|open| {
                let stays = now.saturating_sub(open.stamp) <= bound || open.flight.is_some();
                if !stays {
                    forget(awaited, open.id, open.extra.as_deref());
                }
                stays
            });
            gone += before - loads.len();
            !loads.is_empty()
        });
        book.count -= gone;
        book.rest();
    }

    /// Whether the value of a load may be stored, under the lock. What its dependencies did meanwhile is in the log.
    fn admits(&self, book: &mut Book<V>, ticket: &Ticket, open: &Open<V>, terms: &Terms, now: Nanos) -> bool {
        let freshness = self.store.freshness();
        let fenced = !open.fence.admits(terms.version())
            || open.stamp < freshness.floor()
            || now.saturating_sub(open.stamp) > freshness.bounds().bound
            || book.log.fences(open.position, terms.extra.as_deref());
        let newer_held = || self.store.peek(&ticket.key).is_some_and(|held| held.started_at() > open.stamp);
        if fenced || self.is_outdated(&ticket.key, terms.version()) || newer_held() {
            // Those who wait may build on this value: their loads are fenced if they say that they depend on it.
            book.note_key(&ticket.key);
            return self.refuse();
        }
        true
    }

    /// Whether a newer version is known: invalidated within `tombstone_ttl`, or held.
    fn is_outdated(&self, key: &str, version: Option<u64>) -> bool {
        let Some(version) = version else { return false };
        self.tombstones.get(key).is_some_and(|newest| version < newest)
            || self.store.peek(key).and_then(|e| e.version()).is_some_and(|held| version < held)
    }

    /// The age of what a load brought.
    fn age(&self, open: &Open<V>, terms: &Terms, now: Nanos) -> Age {
        let own = Age { loaded_at: open.stamp, epoch: open.epoch };
        own.or_older(open.inputs).or_older(self.oldest_input(terms.extra.as_deref(), now))
    }

    /// The age of the oldest dependency that the cache would serve. One that it would not serve was read from the source.
    fn oldest_input(&self, extra: Option<&Extra>, now: Nanos) -> Age {
        let inputs = extra.iter().flat_map(|e| e.depends_on.iter());
        inputs
            .filter_map(|key| self.store.served(key, now))
            .fold(Age::NONE, |oldest, (loaded_at, epoch)| oldest.or_older(Age { loaded_at, epoch }))
    }

    fn bury(&self, key: &str, version: u64) {
        if self.tombstones.get(key).is_none_or(|known| known < version) {
            self.tombstones.insert(Key::from(key), version);
        }
    }

    fn refuse(&self) -> bool {
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    #[allow(clippy::too_many_arguments)]
    fn put(
        &self,
        book: &mut Book<V>,
        key: &Key,
        value: Option<V>,
        stamp: Nanos,
        age: Age,
        life: Duration,
        terms: &Terms,
        removed: &mut Removed<V>,
    ) {
        let life = jittered(life, self.lifetime.jitter, key, stamp);
        book.arrived(key, age);
        let Age { loaded_at, epoch } = age;
        let mut extra = terms.extra.clone();
        if let (true, Some(extra)) = (loaded_at < stamp, &mut extra) {
            Arc::make_mut(extra).started_at = Some(stamp);
        }
        let entry = Entry { value, loaded_at, expires_at: stamp.saturating_add(life), epoch, extra };
        let before = removed.len();
        let unlinked = self.store.put(&mut book.index, key.clone(), entry, removed);
        let evicted = removed[before..].iter().filter(|(k, _)| k != key).count();
        self.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        self.unlinked(book, unlinked, removed);
    }

    /// Entries with tags or dependencies left without having been invalidated. What was built on them can no longer be
    /// told of what they came from, so it falls, now or when its load ends.
    fn unlinked(&self, book: &mut Book<V>, keys: Vec<Key>, removed: &mut Removed<V>) {
        for key in keys {
            book.note_key(&key);
            let dependents = book.index.dependents(&key);
            self.fall(book, dependents, removed);
        }
    }
}

impl<V> Book<V> {
    /// A time that is later than every one given before, so that a load and an invalidation never tie.
    fn stamp(&mut self, now: Nanos) -> Nanos {
        self.last_stamp = now.max(self.last_stamp + 1);
        self.last_stamp
    }

    fn close(&mut self, ticket: &Ticket) -> Option<Open<V>> {
        let loads = self.open.get_mut(&ticket.key)?;
        let at = loads.iter().position(|open| open.id == ticket.id)?;
        let open = loads.swap_remove(at);
        if loads.is_empty() {
            self.open.remove(&ticket.key);
        }
        self.count -= 1;
        forget(&mut self.awaited, open.id, open.extra.as_deref());
        Some(open)
    }

    /// An entry is stored of which open loads may be made: by their end it may have left again.
    fn arrived(&mut self, key: &str, age: Age) {
        for ticket in self.awaited.get(key).into_iter().flatten() {
            for open in self.open.get_mut(&ticket.key).into_iter().flatten() {
                if open.id == ticket.id {
                    open.inputs = open.inputs.or_older(age);
                }
            }
        }
    }

    /// Forgets the history when nobody can ask for it. Not part of `close`, whose caller still does.
    fn rest(&mut self) {
        if self.count == 0 {
            self.log.clear();
        }
    }

    fn fence_key(&mut self, key: &str, fence: Fence) {
        if self.count > 0 {
            for open in self.open.get_mut(key).into_iter().flatten() {
                open.fence = open.fence.max(fence);
            }
        }
    }

    fn fence_prefix(&mut self, prefix: &str) {
        if self.count == 0 {
            return;
        }
        for (key, loads) in &mut self.open {
            if key.starts_with(prefix) {
                loads.iter_mut().for_each(|open| open.fence = Fence::Closed);
            }
        }
        self.log.note_prefix(prefix);
    }

    fn note_key(&mut self, key: &str) {
        if self.count > 0 {
            self.log.note_key(key);
        }
    }

    fn note_tag(&mut self, tag: &str) {
        if self.count > 0 {
            self.log.note_tag(tag);
        }
    }
}

/// A load ended, and waits for its inputs no longer.
fn forget(awaited: &mut HashMap<Key, Vec<Ticket>, RandomState>, id: u64, extra: Option<&Extra>) {
    for input in extra.into_iter().flat_map(|e| e.depends_on.iter()) {
        if let Some(tickets) = awaited.get_mut(input) {
            tickets.retain(|ticket| ticket.id != id);
            if tickets.is_empty() {
                awaited.remove(input);
            }
        }
    }
}

/// A load's end is shortened by a share that its key and time determine, so that a simulation can be replayed.
fn jittered(life: Duration, jitter: f64, key: &str, stamp: Nanos) -> u64 {
    let nanos = u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
    if jitter == 0.0 {
        return nanos;
    }
    // splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014)
    let mut z = stamp ^ (key.len() as u64) << 56 ^ key.bytes().fold(0u64, |h, b| h.rotate_left(5) ^ u64::from(b));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let share = (z >> 11) as f64 / (1u64 << 53) as f64;
    nanos - (nanos as f64 * jitter * share) as u64
}
