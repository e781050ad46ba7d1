//! Counters of a cache, cheap enough for the hit path.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

/// A thread has a stripe of its own while it lives, and counts there without an atomic addition, which would be a tenth of
/// a hit. Threads beyond share the last one.
const STRIPES: usize = 16;
const SHARED: usize = STRIPES - 1;

/// A counter that many threads add to.
#[derive(Default)]
pub struct Counter([Stripe; STRIPES]);

#[derive(Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

impl Counter {
    #[inline]
    /// One more.
    pub fn add(&self) {
        let stripe = match STRIPE.get() {
            UNKNOWN => borrow_stripe(),
            stripe => stripe,
        };
        let count = &self.0[stripe % STRIPES].0;
        if stripe == SHARED {
            count.fetch_add(1, Ordering::Relaxed);
        } else {
            // Nobody else writes it.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    /// How many.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|s| s.0.load(Ordering::Relaxed)).sum()
    }
}

const UNKNOWN: usize = usize::MAX;

/// The stripes that no thread has, as bits. No lock: a forked child must not find it taken.
static FREE: AtomicU32 = AtomicU32::new((1 << SHARED) - 1);

thread_local! {
    static STRIPE: Cell<usize> = const { Cell::new(UNKNOWN) };
    static BORROWED: Borrowed = const { Borrowed(Cell::new(SHARED)) };
}

#[cold]
fn borrow_stripe() -> usize {
    // Acquire: what the last owner counted is seen before this thread adds to it.
    let taken = FREE.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| (free != 0).then(|| free & (free - 1)));
    let stripe = taken.map_or(SHARED, |free| free.trailing_zeros() as usize);
    // A thread that is ending has nothing left that would give a stripe back.
    let kept = BORROWED.try_with(|borrowed| borrowed.0.set(stripe)).is_ok();
    if !kept && stripe != SHARED {
        give_back(stripe);
    }
    let stripe = if kept { stripe } else { SHARED };
    STRIPE.set(stripe);
    stripe
}

fn give_back(stripe: usize) {
    FREE.fetch_or(1 << stripe, Ordering::Release);
}

struct Borrowed(Cell<usize>);

impl Drop for Borrowed {
    fn drop(&mut self) {
        STRIPE.set(SHARED);
        if self.0.get() != SHARED {
            give_back(self.0.get());
        }
    }
}

/// What a cache counts while it works.
#[derive(Default)]
pub struct Counters {
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
    pub refused: Mutex<BTreeMap<&'static str, u64>>,
    pub doubts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// One more doubt for this reason.
    pub fn doubt(&self, reason: &'static str) {
        *self.doubts.lock().entry(reason).or_insert(0) += 1;
    }

    /// One more message that was not believed, for this reason.
    pub fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_insert(0) += 1;
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
    /// Messages that were not believed, by reason: `unsigned`, `unknown_key`, `bad_signature`, `replayed`. Empty without
    /// `signing_key`. A probe that is refused counts at every cache of the client.
    pub refused: BTreeMap<&'static str, u64>,
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
        for _ in 0..50 {
            std::thread::scope(|s| {
                for _ in 0..32 {
                    s.spawn(|| (0..1000).for_each(|_| counter.add()));
                }
            });
        }
        assert_eq!(counter.sum(), 1_600_000);
    }

    #[test]
    fn a_thread_that_ends_gives_its_stripe_back() {
        for _ in 0..1000 {
            std::thread::spawn(|| Counter::default().add()).join().unwrap();
        }
        // Tests run on a few threads, which may have one each.
        assert_ne!(FREE.load(Ordering::Relaxed), 0);
    }
}
