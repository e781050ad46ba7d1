//! Counters of a cache, cheap enough for the hit path.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// Threads count in stripes, so that two of them seldom write one cache line.
const STRIPES: usize = 16;

/// A counter that many threads add to.
#[derive(Default)]
pub(crate) struct Counter([Stripe; STRIPES]);

#[derive(Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

static NEXT_STRIPE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(usize::MAX) };
}

impl Counter {
    #[inline]
    pub(crate) fn add(&self) {
        let stripe = STRIPE.with(|s| {
            if s.get() == usize::MAX {
                s.set(NEXT_STRIPE.fetch_add(1, Ordering::Relaxed) % STRIPES);
            }
            s.get()
        });
        self.0[stripe].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|s| s.0.load(Ordering::Relaxed)).sum()
    }
}

/// What a cache counts while it works.
#[derive(Default)]
pub(crate) struct Counters {
    pub hits: Counter,
    pub misses: Counter,
    pub loads: Counter,
    pub load_failures: Counter,
    pub joins: Counter,
    pub sets: Counter,
    pub local: Counter,
    pub remote: Counter,
    pub plain: Counter,
    pub own: Counter,
    pub empty: Counter,
    pub malformed: Counter,
    pub doubts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    pub(crate) fn doubt(&self, reason: &'static str) {
        *self.doubts.lock().entry(reason).or_insert(0) += 1;
    }
}

/// A cache's counters since it was opened. Serialises with these names in every language.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Entries held now, expired ones not yet replaced included.
    pub entries: u64,
    /// Reads served from the cache.
    pub hits: u64,
    /// Reads that found nothing to serve.
    pub misses: u64,
    /// Loads led here.
    pub loads: u64,
    /// Loads led here that failed or were given up.
    pub load_failures: u64,
    /// Reads that waited for another reader's load.
    pub joins: u64,
    /// Loads and leases open now.
    pub open_loads: u64,
    /// Values stored by `set` or `update`.
    pub sets: u64,
    /// Values refused: invalidated while they were loaded, older than the bound, or of a lower version.
    pub fenced: u64,
    /// Entries that left for want of room.
    pub evictions: u64,
    /// Calls here that invalidated something.
    pub invalidations_local: u64,
    /// Messages of other publishers that invalidated something.
    pub invalidations_remote: u64,
    /// Messages received that were a plain key.
    pub plain: u64,
    /// Messages of this client that came back.
    pub own: u64,
    /// Messages without a payload.
    pub empty: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// How often doubt opened a new epoch, by reason.
    pub doubts: BTreeMap<&'static str, u64>,
    /// The current epoch.
    pub epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_count_is_lost_between_threads() {
        let counter = Counter::default();
        std::thread::scope(|s| {
            for _ in 0..32 {
                s.spawn(|| (0..1000).for_each(|_| counter.add()));
            }
        });
        assert_eq!(counter.sum(), 32_000);
    }
}
