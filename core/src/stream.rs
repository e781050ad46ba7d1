//! What is known of the publishers on one topic: which numbers came, and whether any are missing. Pure.
//!
//! Brokers acknowledge messages and then drop them, without an error anywhere. So every publisher numbers its
//! messages and confirms the newest number by heartbeats, and a receiver that cannot account for a number has a
//! [`Doubt`]. A message is applied first and observed then, so nothing here can hold an invalidation back.
//!
//! Times are nanoseconds of one monotonic clock.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::message::Stamp;

/// A stream this long silent is forgotten.
const FORGET_SILENT: u64 = Duration::from_secs(24 * 3_600).as_nanos() as u64;
/// A stream is forgotten this many bounds after its `bye`.
const FORGET_BYE_BOUNDS: u64 = 10;
/// The most streams remembered; above, the least recently heard is forgotten.
const MAX_STREAMS: usize = 10_000;
/// The most holes of one stream that may be open at once, where the broker may reorder; above, they are doubt.
const MAX_HOLES: usize = 64;

/// Why entries loaded so far may no longer be trusted beyond their own age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Doubt {
    /// The first probe of a connection returned: whatever came before it may have been missed.
    FirstProbe,
    /// A probe took so long that proofs ran out meanwhile.
    LateProbe,
    /// A probe returned while an earlier one is missing: the broker dropped something.
    OvertakenProbe,
    /// Numbers of a publisher are missing.
    Hole,
    /// A publisher that was not known, and whose earlier messages may have been missed.
    UnknownStream,
    /// A publisher's newest message was not followed by a heartbeat, so there may be a newer one.
    Unconfirmed,
    /// A payload that cannot be read, and may have been an invalidation.
    Malformed,
    /// An envelope of a newer version of the protocol.
    NewerVersion,
    /// The machine was suspended.
    Suspended,
}

impl Doubt {
    /// Its name in statistics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Doubt::FirstProbe => "first_probe",
            Doubt::LateProbe => "late_probe",
            Doubt::OvertakenProbe => "overtaken_probe",
            Doubt::Hole => "hole",
            Doubt::UnknownStream => "unknown_stream",
            Doubt::Unconfirmed => "unconfirmed",
            Doubt::Malformed => "malformed",
            Doubt::NewerVersion => "newer_version",
            Doubt::Suspended => "suspended",
        }
    }
}

/// What one message told about its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Opens a new epoch of this topic's cache.
    pub doubt: Option<Doubt>,
    /// The stream was not known: answer with a `hello`, so that the publisher learns of this client's bound.
    pub unknown_stream: bool,
    /// All its numbers had been received before. It was applied again, which does no harm.
    pub duplicate: bool,
}

/// How far a number of a stream has come, for `wait_for`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Received, hence applied: or something applied since says as much.
    Applied,
    /// The broker has accepted it, but it was not received here, or that is no longer known. What is loaded from
    /// now on reflects it: reached by raising the cache's floor to now.
    LearnedNotReceived,
    /// Nothing is known of it yet, or it may have been overtaken and still come, within the window.
    Unknown,
}

/// All publisher streams on one topic.
#[derive(Debug)]
pub struct Streams {
    window: u64,
    bound: u64,
    own: Arc<str>,
    /// The connection's first probe has returned: what came before it is under its doubt.
    probed: bool,
    streams: HashMap<Arc<str>, Stream>,
    /// When each stream next needs a look, if it does.
    timers: BTreeSet<(u64, Arc<str>)>,
    /// When each stream was last heard.
    recency: BTreeSet<(u64, Arc<str>)>,
    most: usize,
}

/// One publisher stream. Of the numbers up to `high`, those up to `base` are not accounted for singly, those in
/// `holes` are missing, and all others were received.
#[derive(Debug)]
struct Stream {
    base: u64,
    high: u64,
    holes: Vec<Hole>,
    /// Of the numbers up to this one some did not come, though an `all` after them made up for it.
    made_up: u64,
    /// The highest number of a message with operations.
    newest: u64,
    /// The highest number that a heartbeat confirmed, or that was doubted for want of one.
    confirmed: u64,
    heard: u64,
    /// When it last said something new. A message that is repeated, by whomever, keeps no doubt away.
    news: u64,
    bye: Option<u64>,
}

/// Missing numbers, both ends included.
#[derive(Clone, Copy, Debug)]
struct Hole {
    from: u64,
    to: u64,
    since: u64,
}

#[derive(Clone, Copy)]
enum Heard {
    Data { first: u64, seq: u64, all: bool },
    Heartbeat { seq: u64 },
    Bye { seq: u64 },
}

impl Streams {
    /// Knows no stream yet. `window_ns` is how long a hole may stay open, 0 where the broker keeps a publisher's
    /// order; `bound_ns` the `staleness_bound`; `own_src` this client's stream, which is never observed.
    pub fn new(window_ns: u64, bound_ns: u64, own_src: Arc<str>) -> Streams {
        Streams {
            window: window_ns,
            bound: bound_ns,
            own: own_src,
            probed: false,
            streams: HashMap::new(),
            timers: BTreeSet::new(),
            recency: BTreeSet::new(),
            most: MAX_STREAMS,
        }
    }

    /// A message with operations, after it was applied. `all` when it invalidated everything.
    pub fn observe_data(&mut self, stamp: &Stamp, all: bool, now: u64) -> Verdict {
        self.observe(&stamp.src, Heard::Data { first: stamp.first, seq: stamp.seq, all }, now)
    }

    /// A heartbeat: a message with a number and no operation.
    pub fn observe_heartbeat(&mut self, src: &Arc<str>, seq: u64, now: u64) -> Verdict {
        self.observe(src, Heard::Heartbeat { seq }, now)
    }

    /// A `bye`. One that carries operations is observed as data first.
    pub fn observe_bye(&mut self, src: &Arc<str>, seq: u64, now: u64) -> Verdict {
        self.observe(src, Heard::Bye { seq }, now)
    }

    /// The connection's first probe returned, or a late one, or one that overtook another. That is doubt already, and
    /// covers what is missing so far: open holes are forgotten, and from now on an unknown stream is doubt.
    pub fn first_probe_returned(&mut self, _now: u64) {
        self.probed = true;
        for (src, stream) in &mut self.streams {
            if !stream.holes.is_empty() {
                let before = stream.timer(self.window, self.bound);
                stream.close_holes(|_| true);
                let after = stream.timer(self.window, self.bound);
                reschedule(&mut self.timers, src, before, after);
            }
        }
    }

    /// A new connection: until its first probe returns, an unknown stream is no doubt of its own. What is known of
    /// streams stays: it shows what was missed meanwhile.
    pub fn new_connection(&mut self) {
        self.probed = false;
    }

    /// When [`Streams::poll`] next has something to do.
    pub fn due(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let silence = self.recency.first().map(|(heard, _)| heard.saturating_add(FORGET_SILENT));
        timer.into_iter().chain(silence).min()
    }

    /// Whether every number that this message stands for was received before, for certain. Then its operations were applied.
    pub fn has(&self, stamp: &Stamp) -> bool {
        self.streams.get(&stamp.src).is_some_and(|stream| stream.has(stamp.first, stamp.seq))
    }

    /// Acts on what fell due: holes open for the window, tails unconfirmed for 5/16 of the bound, streams to be forgotten.
    /// Each kind of doubt at most once.
    pub fn poll(&mut self, now: u64) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, src)) = self.timers.pop_first() else { break };
            let Some(stream) = self.streams.get_mut(&src) else { continue };
            for doubt in stream.expire(self.window, self.bound, now).into_iter().flatten() {
                if !doubts.contains(&doubt) {
                    doubts.push(doubt);
                }
            }
            if stream.forget_at(self.bound).is_some_and(|at| at <= now) {
                self.forget(&src);
            } else if let Some(at) = stream.timer(self.window, self.bound) {
                self.timers.insert((at, src));
            }
        }
        while let Some((heard, src)) = self.recency.first() {
            if heard.saturating_add(FORGET_SILENT) > now {
                break;
            }
            let src = src.clone();
            self.forget(&src);
        }
        doubts
    }

    /// How far number `seq` of `src` has come. Of this client's own stream everything is applied.
    pub fn reached(&self, src: &str, seq: u64) -> Reached {
        if *src == *self.own {
            return Reached::Applied;
        }
        match self.streams.get(src) {
            None => Reached::Unknown,
            Some(stream) if seq > stream.high || stream.misses(seq, seq) => Reached::Unknown,
            Some(stream) if seq <= stream.base => Reached::LearnedNotReceived,
            Some(_) => Reached::Applied,
        }
    }

    /// The number of streams known.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// True when no stream is known.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    fn observe(&mut self, src: &Arc<str>, heard: Heard, now: u64) -> Verdict {
        if *src == self.own {
            return Verdict::default();
        }
        let Some(stream) = self.streams.get_mut(src) else {
            return self.observe_unknown(src, heard, now);
        };
        let before = (stream.timer(self.window, self.bound), stream.heard);
        let verdict = stream.observe(heard, self.window, now);
        let after = stream.timer(self.window, self.bound);
        reschedule(&mut self.timers, src, before.0, after);
        reschedule(&mut self.recency, src, Some(before.1), Some(now));
        verdict
    }

    fn observe_unknown(&mut self, src: &Arc<str>, heard: Heard, now: u64) -> Verdict {
        let from_the_start = matches!(heard, Heard::Data { first: 1, .. });
        let mut doubt = (self.probed && !from_the_start).then_some(Doubt::UnknownStream);
        if self.streams.len() >= self.most {
            if let Some((_, oldest)) = self.recency.first().cloned() {
                doubt = doubt.or(self.forget(&oldest));
            }
        }
        let stream = Stream::new(heard, now);
        reschedule(&mut self.timers, src, None, stream.timer(self.window, self.bound));
        reschedule(&mut self.recency, src, None, Some(now));
        self.streams.insert(src.clone(), stream);
        Verdict { doubt, unknown_stream: true, duplicate: false }
    }

    /// Forgets a stream. What was open about it can no longer be settled, which is doubt.
    fn forget(&mut self, src: &Arc<str>) -> Option<Doubt> {
        let stream = self.streams.remove(src)?;
        reschedule(&mut self.timers, src, stream.timer(self.window, self.bound), None);
        reschedule(&mut self.recency, src, Some(stream.heard), None);
        if !stream.holes.is_empty() {
            Some(Doubt::Hole)
        } else {
            stream.is_unconfirmed().then_some(Doubt::Unconfirmed)
        }
    }
}

fn reschedule(times: &mut BTreeSet<(u64, Arc<str>)>, src: &Arc<str>, before: Option<u64>, after: Option<u64>) {
    if before == after {
        return;
    }
    if let Some(at) = before {
        times.remove(&(at, src.clone()));
    }
    if let Some(at) = after {
        times.insert((at, src.clone()));
    }
}

impl Stream {
    fn new(heard: Heard, now: u64) -> Stream {
        let mut stream = Stream {
            base: 0,
            high: 0,
            holes: Vec::new(),
            made_up: 0,
            newest: 0,
            confirmed: 0,
            heard: now,
            news: now,
            bye: None,
        };
        match heard {
            Heard::Data { first, seq, all } => {
                stream.base = if all { 0 } else { first.saturating_sub(1) };
                stream.made_up = first.saturating_sub(1);
                (stream.high, stream.newest) = (seq, seq);
            }
            Heard::Heartbeat { seq } => (stream.base, stream.high, stream.confirmed) = (seq, seq, seq),
            Heard::Bye { seq } => (stream.base, stream.high, stream.confirmed, stream.bye) = (seq, seq, seq, Some(now)),
        }
        stream
    }

    fn observe(&mut self, heard: Heard, window: u64, now: u64) -> Verdict {
        self.heard = now;
        let mut duplicate = false;
        let missing = match heard {
            Heard::Data { first, seq, all } => {
                if all {
                    self.make_up(first, seq);
                }
                let filled = self.fill(first, seq);
                duplicate = seq <= self.high && first > self.base && !filled;
                if filled || seq > self.high {
                    self.news = now;
                }
                if all {
                    self.everything_fell(seq);
                }
                let missing = (self.high + 1, if all { 0 } else { first.saturating_sub(1) });
                if seq > self.high {
                    // A stream that goes on has not ended.
                    self.bye = None;
                }
                self.newest = self.newest.max(seq);
                self.high = self.high.max(seq);
                missing
            }
            Heard::Heartbeat { seq } | Heard::Bye { seq } => {
                if matches!(heard, Heard::Bye { .. }) && self.bye.is_none() {
                    self.bye = Some(now);
                }
                let missing = (self.high + 1, seq);
                if seq > self.confirmed {
                    self.news = now;
                }
                self.confirmed = self.confirmed.max(seq);
                self.high = self.high.max(seq);
                missing
            }
        };
        let doubt = self.miss(missing, window, now);
        Verdict { doubt, unknown_stream: false, duplicate }
    }

    /// Takes received numbers out of the holes; true when any were missing.
    fn fill(&mut self, first: u64, seq: u64) -> bool {
        if !self.misses(first, seq) {
            return false;
        }
        let holes = std::mem::take(&mut self.holes);
        for hole in holes {
            let below = Hole { to: hole.to.min(first.saturating_sub(1)), ..hole };
            let above = Hole { from: hole.from.max(seq + 1), ..hole };
            self.holes.extend([below, above].into_iter().filter(|part| part.from <= part.to));
        }
        true
    }

    fn has(&self, first: u64, seq: u64) -> bool {
        first > self.base.max(self.made_up) && seq <= self.high && !self.misses(first, seq)
    }

    /// Whether any of these numbers is in an open hole.
    fn misses(&self, first: u64, seq: u64) -> bool {
        self.holes.iter().any(|hole| hole.from <= seq && first <= hole.to)
    }

    /// Notes how far, below an `all` that stands for `first` to `seq`, not every number was received.
    fn make_up(&mut self, first: u64, seq: u64) {
        let below = |number: u64| number.min(first.saturating_sub(1));
        let skipped = if first > self.high + 1 { first - 1 } else { 0 };
        let holes = self.holes.iter().filter(|hole| hole.from < first).map(|hole| below(hole.to));
        let base = if self.base <= seq { below(self.base) } else { 0 };
        self.made_up = holes.chain([skipped, base, self.made_up]).max().unwrap_or(0);
    }

    /// The whole cache fell with number `seq`: nothing below it can be missed any more.
    fn everything_fell(&mut self, seq: u64) {
        self.fill(1, seq);
        if self.base <= seq {
            self.base = 0;
        }
    }

    /// Opens a hole, if the range holds any number. Doubt when there is no window for it to close in, or when there are
    /// too many: numbers that came out of the middle of one made two of it, too.
    fn miss(&mut self, (from, to): (u64, u64), window: u64, now: u64) -> Option<Doubt> {
        if from <= to {
            self.holes.push(Hole { from, to, since: now });
        }
        if self.holes.is_empty() || (window > 0 && self.holes.len() <= MAX_HOLES) {
            return None;
        }
        self.close_holes(|_| true);
        Some(Doubt::Hole)
    }

    /// Closes holes over which there was doubt; true when there was one. Up to the highest number in them it is no
    /// longer kept which came.
    fn close_holes(&mut self, which: impl Fn(&Hole) -> bool) -> bool {
        let before = self.holes.len();
        let base = &mut self.base;
        self.holes.retain(|hole| {
            let close = which(hole);
            if close {
                *base = hole.to.max(*base);
            }
            !close
        });
        self.holes.len() < before
    }

    fn is_unconfirmed(&self) -> bool {
        self.newest > self.confirmed
    }

    fn expire(&mut self, window: u64, bound: u64, now: u64) -> [Option<Doubt>; 2] {
        let hole = self.close_holes(|hole| hole.since.saturating_add(window) <= now).then_some(Doubt::Hole);
        let unconfirmed = self.silent_at(bound).is_some_and(|at| at <= now).then_some(Doubt::Unconfirmed);
        if unconfirmed.is_some() {
            self.confirmed = self.newest;
        }
        [hole, unconfirmed]
    }

    fn silent_at(&self, bound: u64) -> Option<u64> {
        self.is_unconfirmed().then(|| self.news.saturating_add(bound / 16 * 5))
    }

    fn forget_at(&self, bound: u64) -> Option<u64> {
        self.bye.map(|at| at.saturating_add(bound.saturating_mul(FORGET_BYE_BOUNDS)))
    }

    /// When this stream next needs a look.
    fn timer(&self, window: u64, bound: u64) -> Option<u64> {
        let hole = self.holes.iter().map(|hole| hole.since.saturating_add(window)).min();
        hole.into_iter().chain(self.silent_at(bound)).chain(self.forget_at(bound)).min()
    }
}

#[cfg(test)]
mod tests;
