//! What is still to be published on one topic: numbered, coalesced, limited, and never dropped. Pure.
//!
//! One message is in flight at a time, so an idle link sends at once and a busy one coalesces: what is pushed
//! meanwhile shares the next message. A message that was not acknowledged is handed out again under its number, and
//! a full outbox collapses to coarser invalidations that stand for a range of numbers.
//!
//! A message never grows once it was handed out: a receiver that holds its number would never learn of the rest.

mod batch;
mod collapse;
mod heartbeat;
mod restore;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::message::{encode, Message, Operations, Stamp, MAX_OPERATIONS, MAX_PAYLOAD};

use batch::{Batch, Sizes};
use heartbeat::Schedule;

/// How much one message and the outbox may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes up to which invalidations coalesce into one message. One operation that is longer goes alone.
    pub max_payload: usize,
    /// Operations in one message, at most 10,000.
    pub max_ops: usize,
    /// Operations waiting, those in flight not counted; above, they collapse.
    pub limit: usize,
}

impl Limits {
    /// Fits AWS IoT Core, which meters messages in steps of 5 KB: 4,800 bytes leave room for the topic and headers.
    pub const AWS: Limits = Limits { max_payload: 4_800, ..Limits::DEFAULT };
    pub(crate) const DEFAULT: Limits = Limits { max_payload: 64 * 1024, max_ops: MAX_OPERATIONS, limit: 10_000 };
}

impl Default for Limits {
    /// 64 KiB, 10,000 operations in a message, 10,000 waiting.
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// One publisher stream: one `src` on one topic. Times are nanoseconds of one monotonic clock.
#[derive(Debug)]
pub struct Outbox {
    src: Arc<str>,
    limits: Limits,
    sizes: Sizes,
    /// Messages in the order of their numbers. Only the last may still grow, and only while `open`.
    waiting: VecDeque<Batch>,
    open: bool,
    in_flight: Option<Batch>,
    /// What waits in messages never handed out, so that one thing pushed often is sent once.
    index: Index,
    /// Operations in `waiting`.
    ops_waiting: usize,
    last: u64,
    acked: u64,
    /// What was added since a journal last asked; `None` without a journal.
    records: Option<Vec<Batch>>,
    schedule: Schedule,
}

/// For each operation that waits, the number of its message.
#[derive(Debug, Default)]
struct Index {
    keys: HashMap<String, u64>,
    /// The number, and the position in the message's `versioned`.
    versioned: HashMap<String, (u64, usize)>,
    tags: HashMap<String, u64>,
    prefixes: HashMap<String, u64>,
    all: Option<u64>,
}

impl Outbox {
    /// An empty outbox for the stream `src`. `bound_ns` is this client's own `staleness_bound`. Limits of 0 count
    /// as 1, limits above what readers accept as that.
    pub fn new(src: Arc<str>, limits: Limits, bound_ns: u64) -> Outbox {
        let limits = Limits {
            max_payload: limits.max_payload.min(MAX_PAYLOAD),
            max_ops: limits.max_ops.clamp(1, MAX_OPERATIONS),
            limit: limits.limit.max(1),
        };
        Outbox {
            sizes: Sizes::new(&src),
            schedule: Schedule::new(&src, bound_ns),
            src,
            limits,
            waiting: VecDeque::new(),
            open: false,
            in_flight: None,
            index: Index::default(),
            ops_waiting: 0,
            last: 0,
            acked: 0,
            records: None,
        }
    }

    /// Adds operations and returns the number of the message in which the last of them will travel; the others
    /// travel in it or before it. Never fails. Nothing to add: returns [`Outbox::acked_up_to`].
    pub fn push(&mut self, ops: Operations) -> u64 {
        let mut number = self.acked;
        if ops.all {
            number = number.max(self.add_all());
        }
        for (key, version) in ops.keys {
            number = number.max(match version {
                None => self.add_key(key),
                Some(version) => self.add_versioned(key, version),
            });
        }
        for tag in ops.tags {
            number = number.max(self.add_tag(tag));
        }
        for prefix in ops.prefixes {
            number = number.max(self.add_prefix(prefix));
        }
        number
    }

    /// Hands out the next message, its number and its payload, or `None` while one is in flight or nothing waits.
    // Not an iterator: what it yields depends on `acked`, `failed` and `disconnected` in between.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(u64, Vec<u8>)> {
        if self.in_flight.is_some() {
            return None;
        }
        let batch = self.waiting.pop_front()?;
        if self.waiting.is_empty() {
            self.open = false;
        }
        self.ops_waiting -= batch.len();
        self.index.forget(&batch);
        let message = batch.message(&self.src);
        let seq = batch.seq;
        self.in_flight = Some(batch);
        Some((seq, encode(&message)))
    }

    /// The broker acknowledged number `seq`. Of anything but the message in flight this is ignored.
    pub fn acked(&mut self, seq: u64, now: u64) {
        if self.in_flight.as_ref().is_some_and(|batch| batch.seq == seq) {
            self.in_flight = None;
            self.acked = seq;
            self.schedule.acked(now);
        }
    }

    /// Number `seq` was not accepted: it is handed out again, under the same number, before anything else.
    pub fn failed(&mut self, seq: u64) {
        if self.in_flight.as_ref().is_some_and(|batch| batch.seq == seq) {
            self.disconnected();
        }
    }

    /// The connection is lost: what was in flight is handed out again, under the same number, before anything else.
    pub fn disconnected(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            self.ops_waiting += batch.len();
            self.waiting.push_front(batch);
        }
    }

    /// Every number up to this one was acknowledged. 0: none.
    pub fn acked_up_to(&self) -> u64 {
        self.acked
    }

    /// The highest number given so far. 0: none.
    pub fn last_number(&self) -> u64 {
        self.last
    }

    /// Messages not yet acknowledged, the one that still grows included.
    pub fn pending(&self) -> usize {
        self.waiting.len() + usize::from(self.in_flight.is_some())
    }

    /// Operations not yet acknowledged, after coalescing.
    pub fn ops_pending(&self) -> usize {
        self.ops_waiting + self.in_flight.as_ref().map_or(0, Batch::len)
    }

    /// A heartbeat's payload, or `None` while no number is acknowledged.
    pub fn heartbeat(&self) -> Option<Vec<u8>> {
        self.acknowledged(false)
    }

    /// A `bye`'s payload, or `None` while no number is acknowledged.
    pub fn bye(&self) -> Option<Vec<u8>> {
        self.acknowledged(true)
    }

    /// When [`Outbox::poll`] next has something to say.
    pub fn due(&self) -> Option<u64> {
        self.schedule.due()
    }

    /// True when a heartbeat is to be sent now. Beats that were missed count as one.
    pub fn poll(&mut self, now: u64) -> bool {
        self.schedule.poll(now)
    }

    /// Another client asked for a heartbeat and told its `staleness_bound`: an answer falls due, and the schedule
    /// follows the smallest bound heard within an hour.
    pub fn heard_hello(&mut self, bound_ms: Option<u64>, now: u64) {
        self.schedule.heard_hello(bound_ms, now);
    }

    /// The smallest `staleness_bound` that counts: this client's own, and those heard within an hour.
    pub fn smallest_bound(&self) -> u64 {
        self.schedule.bound()
    }

    fn acknowledged(&self, bye: bool) -> Option<Vec<u8>> {
        if self.acked == 0 {
            return None;
        }
        let stamp = Stamp { src: self.src.clone(), first: self.acked, seq: self.acked };
        Some(encode(&Message { stamp: Some(stamp), bye, ..Message::default() }))
    }

    fn add_key(&mut self, key: String) -> u64 {
        if let Some(number) = self.index.all.or_else(|| self.index.keys.get(&key).copied()) {
            return number;
        }
        // `versions` speaks of a key, not of an occurrence, so the same key without a version needs another message.
        if self.open && self.index.versioned.get(&key).is_some_and(|(seq, _)| *seq == self.last) {
            self.open = false;
        }
        let size = self.sizes.name(&key);
        let batch = self.open_batch(size);
        batch.keys.push(key.clone());
        let seq = batch.seq;
        self.record(seq, |record| record.keys.push(key.clone()));
        self.index.keys.insert(key, seq);
        self.added()
    }

    fn add_versioned(&mut self, key: String, version: u64) -> u64 {
        if let Some(&(seq, at)) = self.index.versioned.get(&key) {
            // The higher version says all that the lower one says.
            let held = self
                .waiting
                .iter_mut()
                .rev()
                .find(|batch| batch.seq == seq)
                .and_then(|batch| batch.versioned.get_mut(at));
            if let Some((_, held)) = held {
                if version > *held {
                    *held = version;
                    self.record(seq, |record| record.versioned.push((key, version)));
                }
                return seq;
            }
        }
        if self.open && self.index.keys.get(&key).is_some_and(|seq| *seq == self.last) {
            self.open = false;
        }
        let size = self.sizes.versioned(&key);
        let batch = self.open_batch(size);
        batch.versioned.push((key.clone(), version));
        let place = (batch.seq, batch.versioned.len() - 1);
        self.record(place.0, |record| record.versioned.push((key.clone(), version)));
        self.index.versioned.insert(key, place);
        self.added()
    }

    fn add_tag(&mut self, tag: String) -> u64 {
        if let Some(number) = self.index.all.or_else(|| self.index.tags.get(&tag).copied()) {
            return number;
        }
        let size = self.sizes.name(&tag);
        let batch = self.open_batch(size);
        batch.tags.push(tag.clone());
        let seq = batch.seq;
        self.record(seq, |record| record.tags.push(tag.clone()));
        self.index.tags.insert(tag, seq);
        self.added()
    }

    fn add_prefix(&mut self, prefix: String) -> u64 {
        if let Some(number) = self.index.all.or_else(|| self.index.prefixes.get(&prefix).copied()) {
            return number;
        }
        let size = self.sizes.name(&prefix);
        let batch = self.open_batch(size);
        batch.prefixes.push(prefix.clone());
        let seq = batch.seq;
        self.record(seq, |record| record.prefixes.push(prefix.clone()));
        self.index.prefixes.insert(prefix, seq);
        self.added()
    }

    fn add_all(&mut self) -> u64 {
        if let Some(number) = self.index.all {
            return number;
        }
        self.open_batch(0);
        let Some(batch) = self.waiting.back_mut() else { return self.last };
        let before = batch.len();
        // `all` says what these say. Versions stay: they also refuse older values that come later.
        let covered = batch.cover_all();
        batch.size = self.sizes.empty() + self.sizes.versions(&batch.versioned);
        self.ops_waiting = self.ops_waiting + batch.len() - before;
        self.index.forget(&covered);
        self.index.all = Some(self.last);
        self.record(self.last, |record| record.all = true);
        self.last
    }

    /// The message that still grows, with room for one more operation of `size` bytes; a new one if need be.
    fn open_batch(&mut self, size: usize) -> &mut Batch {
        let fits = self.open
            && self
                .waiting
                .back()
                .is_some_and(|batch| batch.size + size <= self.limits.max_payload && batch.len() < self.limits.max_ops);
        if !fits {
            self.last += 1;
            self.waiting.push_back(Batch::new(self.last, self.sizes.empty()));
            self.open = true;
        }
        let at = self.waiting.len() - 1;
        let batch = &mut self.waiting[at];
        batch.size += size;
        batch
    }

    /// After one operation was added to the last message: its number. Collapses when there are too many.
    fn added(&mut self) -> u64 {
        self.ops_waiting += 1;
        if self.ops_waiting > self.limits.limit {
            self.collapse();
        }
        self.last
    }

    /// Makes one coarser message of all that waits. Its number is the last one's, which was never handed out, so it
    /// may go on growing.
    fn collapse(&mut self) {
        let merged = collapse::collapse(self.waiting.drain(..), &self.sizes, &self.limits);
        self.index = Index::default();
        self.index.remember(&merged);
        self.ops_waiting = merged.len();
        if let Some(records) = &mut self.records {
            // It says all that they say: what was added since was still waiting.
            *records = vec![merged.clone()];
        }
        self.waiting.push_back(merged);
        self.open = true;
    }
}

impl Index {
    fn remember(&mut self, batch: &Batch) {
        let seq = batch.seq;
        self.keys.extend(batch.keys.iter().map(|key| (key.clone(), seq)));
        self.versioned.extend(batch.versioned.iter().enumerate().map(|(at, (key, _))| (key.clone(), (seq, at))));
        self.tags.extend(batch.tags.iter().map(|tag| (tag.clone(), seq)));
        self.prefixes.extend(batch.prefixes.iter().map(|prefix| (prefix.clone(), seq)));
        if batch.all {
            self.all = Some(seq);
        }
    }

    /// Takes out what `batch` holds, as far as it is indexed under its number: a message that comes back after it
    /// was in flight is not, and the same key may wait in another one.
    fn forget(&mut self, batch: &Batch) {
        let seq = batch.seq;
        let remove = |map: &mut HashMap<String, u64>, names: &[String]| {
            for name in names {
                if map.get(name) == Some(&seq) {
                    map.remove(name);
                }
            }
        };
        remove(&mut self.keys, &batch.keys);
        remove(&mut self.tags, &batch.tags);
        remove(&mut self.prefixes, &batch.prefixes);
        for (key, _) in &batch.versioned {
            if self.versioned.get(key).is_some_and(|(held, _)| *held == seq) {
                self.versioned.remove(key);
            }
        }
        if self.all == Some(seq) {
            self.all = None;
        }
    }
}

#[cfg(test)]
mod tests;
