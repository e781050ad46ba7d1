//! What is known of the freshness of a cache: its epoch, its newest proof, its floor, and the rule for a hit.
//!
//! Pure but for the atomics that hits read. The link is the only writer of `epoch` and `fresh`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::Nanos;

/// Deadlines that follow from the staleness bound B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// B: no read is staler.
    pub bound: Nanos,
    /// W: how long a hole in a publisher's numbers may stay open before it is doubt.
    pub window: Nanos,
    /// G: how long a proof counts from its send time.
    pub grace: Nanos,
    /// Whether the broker may reorder one publisher's messages.
    pub reordering: bool,
}

impl Bounds {
    /// G = 11/16 B; on reordering brokers W = min(2 s, B/8) and G is 2 W less. These were model-checked together.
    pub fn new(bound: Nanos, reordering: bool) -> Self {
        let window = if reordering { (bound / 8).min(2_000_000_000) } else { 0 };
        Bounds { bound, window, grace: bound / 16 * 11 - 2 * window, reordering }
    }

    /// How often a probe is sent: B/5.
    pub fn probe_interval(&self) -> Nanos {
        self.bound / 5
    }
}

/// What [`Freshness`] holds at one moment, for a binding that checks hits in its own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// Entries of an earlier epoch live by their own age only.
    pub epoch: u64,
    /// Send time of the newest probe that returned; 0 before the first.
    pub fresh: Nanos,
    /// Entries loaded before it are not served.
    pub floor: Nanos,
    /// The staleness bound.
    pub bound: Nanos,
    /// How long a proof counts.
    pub grace: Nanos,
}

/// Between the first probe of a connection and the second, if the first has not come back; then it doubles.
pub(crate) const FIRST_PAUSE: Nanos = 250_000_000;

type Mirror = Box<dyn Fn(Vitals) + Send + Sync>;

/// The state that every hit checks.
pub struct Freshness {
    epoch: AtomicU64,
    fresh: AtomicU64,
    floor: AtomicU64,
    bounds: Bounds,
    mirrors: Mutex<Vec<Mirror>>,
}

/// `fresh` and `epoch`, loaded in this order before the look-up.
#[derive(Clone, Copy)]
pub struct Proof {
    fresh: Nanos,
    epoch: u64,
}

impl Freshness {
    /// A cache about which nothing was proved yet: entries are served by their age.
    pub fn new(bounds: Bounds) -> Self {
        Freshness {
            epoch: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            bounds,
            mirrors: Mutex::new(Vec::new()),
        }
    }

    /// The deadlines in force.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// The current epoch; a load notes it when it starts.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Entries loaded before this are not served.
    pub fn floor(&self) -> Nanos {
        self.floor.load(Ordering::Acquire)
    }

    /// Send time of the newest probe that returned; 0 before the first.
    pub fn fresh(&self) -> Nanos {
        self.fresh.load(Ordering::Acquire)
    }

    /// First half of a hit: what was proved before the look-up. `fresh` first: a doubt found between the two loads bumps
    /// the epoch before it moves `fresh`, so a new `fresh` is never paired with the old epoch.
    #[inline]
    pub fn proof(&self) -> Proof {
        let fresh = self.fresh.load(Ordering::Acquire);
        Proof { fresh, epoch: self.epoch.load(Ordering::Acquire) }
    }

    /// Second half of a hit, with `now` read after the look-up (design, rule 4).
    #[inline]
    pub fn serves(&self, proof: Proof, loaded_at: Nanos, epoch: u64, now: Nanos) -> bool {
        loaded_at >= self.floor.load(Ordering::Acquire)
            && (now <= loaded_at + self.bounds.bound
                || (epoch == proof.epoch && now <= proof.fresh + self.bounds.grace && proof.fresh != 0))
    }

    /// Doubt: entries loaded so far live on by their own age only.
    pub fn doubt(&self) {
        self.change(|f| {
            f.epoch.fetch_add(1, Ordering::AcqRel);
        });
    }

    /// A probe sent at `sent_at` returned. Never moves back.
    pub fn prove(&self, sent_at: Nanos) {
        self.change(|f| {
            f.fresh.fetch_max(sent_at, Ordering::AcqRel);
        });
    }

    /// Entries loaded before `stamp` are gone.
    pub fn raise_floor(&self, stamp: Nanos) {
        self.change(|f| {
            f.floor.fetch_max(stamp, Ordering::AcqRel);
        });
    }

    /// Calls `mirror` with the present state and, in order, after every change of it.
    pub fn mirror(&self, mirror: Mirror) {
        let mut mirrors = self.mirrors.lock();
        mirror(self.vitals());
        mirrors.push(mirror);
    }

    fn change(&self, change: impl FnOnce(&Self)) {
        // Under the lock, so that mirrors see changes in their order.
        let mirrors = self.mirrors.lock();
        change(self);
        for mirror in mirrors.iter() {
            mirror(self.vitals());
        }
    }

    fn vitals(&self) -> Vitals {
        Vitals {
            epoch: self.epoch(),
            fresh: self.fresh(),
            floor: self.floor(),
            bound: self.bounds.bound,
            grace: self.bounds.grace,
        }
    }
}

/// The probes of one client: what was sent and what came back.
#[derive(Debug)]
pub struct Prober {
    interval: Nanos,
    /// Until the next one, shorter while none has come back on this connection: its subscription may not work yet.
    pause: Nanos,
    next: u64,
    due: Option<Nanos>,
    /// The newest that have not come back, and whether an older one was dropped from them: where none ever does, they
    /// would go on for ever, and a proof so old proves nothing.
    outstanding: BTreeMap<u64, Nanos>,
    dropped: bool,
}

/// The most probes that may still come back: many more than a client sends within a bound, one for each cache that it opens included.
const MOST_OUTSTANDING: usize = 1_024;

/// A probe that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Which one.
    pub counter: u64,
    /// When it was sent.
    pub sent_at: Nanos,
    /// Whether an earlier one of the same connection is still missing.
    pub overtook: bool,
}

impl Prober {
    /// A prober that sends every B/5.
    pub fn new(bounds: &Bounds) -> Self {
        Prober {
            interval: bounds.probe_interval(),
            pause: bounds.probe_interval(),
            next: 1,
            due: None,
            outstanding: BTreeMap::new(),
            dropped: false,
        }
    }

    /// A new connection stands and is subscribed: earlier probes are void, the next one is due at once.
    pub fn connected(&mut self, now: Nanos) {
        self.disconnected();
        self.due = Some(now);
        self.pause = FIRST_PAUSE.min(self.interval);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.outstanding.clear();
        self.dropped = false;
        self.due = None;
    }

    /// A probe is wanted now, for a cache that was just subscribed.
    pub fn hasten(&mut self, now: Nanos) {
        if self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// When the next probe is to be sent; none while there is no connection.
    pub fn due(&self) -> Option<Nanos> {
        self.due
    }

    /// The counter that the next probe will carry.
    pub fn next_counter(&self) -> u64 {
        self.next
    }

    /// Sends the next probe: its counter, which is its payload.
    pub fn send(&mut self, now: Nanos) -> u64 {
        let counter = self.next;
        self.next += 1;
        self.due = Some(now + self.pause);
        self.pause = (2 * self.pause).min(self.interval);
        self.outstanding.insert(counter, now);
        if self.outstanding.len() > MOST_OUTSTANDING {
            self.outstanding.pop_first();
            self.dropped = true;
        }
        counter
    }

    /// A probe arrived; none when it is not one of this connection's.
    pub fn returned(&mut self, counter: u64) -> Option<Returned> {
        let sent_at = self.outstanding.remove(&counter)?;
        self.pause = self.interval;
        let overtook = std::mem::take(&mut self.dropped) || self.outstanding.range(..counter).next().is_some();
        // One missing probe is one doubt, not one for each that follows.
        self.outstanding = self.outstanding.split_off(&counter);
        Some(Returned { counter, sent_at, overtook })
    }
}

/// One cache's reading of the probes.
#[derive(Debug, Default)]
pub struct Proofs {
    /// The first probe that was sent after this cache's subscription was seen to work.
    first: Option<u64>,
    /// Whether that one, or a later one, came back on this connection.
    seen: bool,
}

/// What a probe's return means for a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Nothing: it was sent before the subscription was seen to work.
    None,
    /// The cache was fresh at the send time.
    Proof,
    /// Messages may have been missed before the send time: a new epoch, open holes forgotten, then the proof counts.
    Doubt(ProbeDoubt),
}

/// Why a probe's return is doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeDoubt {
    /// The first on its connection.
    First,
    /// It came after the last proof had run out.
    Late,
    /// An earlier one of the connection is missing.
    Overtaken,
}

impl Proofs {
    /// The client heard itself on the cache's topic; probes from `counter` on count.
    pub fn heard(&mut self, counter: u64) {
        self.first = Some(counter);
        self.seen = false;
    }

    /// Whether the client heard itself on this connection.
    pub fn is_heard(&self) -> bool {
        self.first.is_some()
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.first = None;
        self.seen = false;
    }

    /// Whether a probe came back on this connection.
    pub fn is_proved(&self) -> bool {
        self.seen
    }

    /// Reads a probe's return.
    pub fn returned(&mut self, probe: Returned, fresh: Nanos, bounds: &Bounds, now: Nanos) -> Reading {
        if self.first.is_none_or(|first| probe.counter < first) {
            return Reading::None;
        }
        let first = !std::mem::replace(&mut self.seen, true);
        if first {
            Reading::Doubt(ProbeDoubt::First)
        } else if now > fresh + bounds.grace {
            Reading::Doubt(ProbeDoubt::Late)
        } else if probe.overtook && !bounds.reordering {
            Reading::Doubt(ProbeDoubt::Overtaken)
        } else {
            Reading::Proof
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn an_entry_is_served_by_age_or_by_proof_and_never_longer() {
        let f = Freshness::new(Bounds::new(16 * S, false));
        let loaded = 100 * S;
        assert!(f.serves(f.proof(), loaded, 0, loaded + 16 * S));
        assert!(!f.serves(f.proof(), loaded, 0, loaded + 16 * S + 1), "no proof yet");
        f.prove(110 * S);
        assert!(f.serves(f.proof(), loaded, 0, 121 * S), "fresh + G = 110 + 11");
        assert!(!f.serves(f.proof(), loaded, 0, 121 * S + 1));
        f.doubt();
        assert!(!f.serves(f.proof(), loaded, 0, 117 * S), "an old epoch is not helped by proofs");
        assert!(f.serves(f.proof(), 101 * S, 0, 117 * S), "but lives on by its age");
        f.raise_floor(102 * S);
        assert!(!f.serves(f.proof(), 101 * S, 0, 102 * S));
        assert!(f.serves(f.proof(), 102 * S, 0, 102 * S));
    }

    #[test]
    fn the_first_late_or_overtaking_probe_is_doubt() {
        let bounds = Bounds::new(16 * S, false);
        let (mut prober, mut proofs) = (Prober::new(&bounds), Proofs::default());
        prober.connected(0);
        let old = prober.send(0);
        proofs.heard(prober.next_counter());
        let r = prober.returned(old).unwrap();
        assert_eq!(proofs.returned(r, 0, &bounds, 1), Reading::None, "sent before the subscription was seen to work");
        let a = prober.send(S);
        let r = prober.returned(a).unwrap();
        assert_eq!(proofs.returned(r, 0, &bounds, S), Reading::Doubt(ProbeDoubt::First));
        let b = prober.send(2 * S);
        let r = prober.returned(b).unwrap();
        assert_eq!(proofs.returned(r, S, &bounds, 2 * S), Reading::Proof);
        let _missing = prober.send(3 * S);
        let c = prober.send(4 * S);
        let r = prober.returned(c).unwrap();
        assert_eq!(proofs.returned(r, 2 * S, &bounds, 4 * S), Reading::Doubt(ProbeDoubt::Overtaken));
        let d = prober.send(5 * S);
        let r = prober.returned(d).unwrap();
        assert_eq!(proofs.returned(r, 4 * S, &bounds, 15 * S + 1), Reading::Doubt(ProbeDoubt::Late));
        assert_eq!(prober.returned(d), None, "a duplicate is nothing");
    }

    #[test]
    fn probes_that_never_come_back_are_forgotten_and_not_their_loss() {
        let bounds = Bounds::new(16 * S, false);
        let mut prober = Prober::new(&bounds);
        prober.connected(0);
        let sent: Vec<u64> = (0..3 * MOST_OUTSTANDING as u64).map(|i| prober.send(i)).collect();
        assert_eq!(prober.outstanding.len(), MOST_OUTSTANDING);
        assert_eq!(prober.returned(sent[0]), None, "too old to prove anything");
        let oldest = sent[sent.len() - MOST_OUTSTANDING];
        assert!(prober.returned(oldest).unwrap().overtook, "those that were forgotten are missing still");
        assert!(!prober.returned(oldest + 1).unwrap().overtook, "once");
        for i in 0..2 * MOST_OUTSTANDING as u64 {
            prober.send(i);
        }
        prober.connected(0);
        let first = prober.send(0);
        assert!(!prober.returned(first).unwrap().overtook, "another connection's");
    }

    #[test]
    fn proofs_and_floors_never_move_back() {
        let f = Freshness::new(Bounds::new(S, false));
        f.prove(5);
        f.prove(3);
        f.raise_floor(7);
        f.raise_floor(6);
        assert_eq!((f.fresh(), f.floor()), (5, 7));
    }
}
