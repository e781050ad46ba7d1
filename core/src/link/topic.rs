//! A cache as the link sees it: what is received on its topic, what the probes say of it, who waits for it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::session::random;
use super::{Channel, Shared, Target};
use crate::clock::Nanos;
use crate::freshness::{Bounds, ProbeDoubt, Proofs, Reading, Returned};
use crate::message::Message;
use crate::stream::{Doubt, Reached, Streams, Verdict};

/// `hello` is sent for unknown streams at most this often, and for newcomers too, or every quarter of the bound.
const HELLO_AT_MOST: Nanos = 1_000_000_000;

/// A `hello` that does not come back is repeated this often, once it has not for so many bounds: then it is access that is
/// missing, which only a person mends.
const DEAF_HELLO_EVERY: Nanos = 60_000_000_000;
const DEAF_AFTER_BOUNDS: Nanos = 4;

/// A cache as the link sees it.
pub(super) struct Topic {
    pub target: Arc<dyn Target>,
    pub channel: Arc<Channel>,
    pub streams: Streams,
    pub proofs: Proofs,
    pub subscription: Subscription,
    /// When it was granted.
    pub granted_at: Nanos,
    /// Publications wait until then, after a refusal.
    pub held_until: Nanos,
    /// The number in flight, and when it was sent.
    pub in_flight: Option<(u64, Nanos)>,
    /// A heartbeat is wanted once the outbox is empty, at the start of a session.
    pub beat_when_empty: bool,
    pub hello_due: Option<Nanos>,
    pub last_hello: Option<Nanos>,
    /// Until it is said again, if it does not come back.
    pub hello_pause: Nanos,
    /// A `hello` for a newcomer, unless another client with so small a bound says it first.
    pub introduction_due: Option<Nanos>,
    /// A `hello` for an unknown stream, unless another client says it first.
    pub inquiry_due: Option<Nanos>,
    salt: u64,
    bound: Nanos,
    pub swept_floor: Nanos,
    pub sweep_due: Nanos,
    pub waiting: Vec<Waiting>,
}

#[derive(Clone, PartialEq)]
pub(super) enum Subscription {
    None,
    Asked,
    Granted,
    Refused(String),
}

/// Someone who waits for a number of another's stream.
pub(super) struct Waiting {
    pub src: Arc<str>,
    pub seq: u64,
    pub reply: oneshot::Sender<bool>,
    pub deadline: Nanos,
}

impl Topic {
    pub fn new(target: Arc<dyn Target>, channel: Arc<Channel>, shared: &Shared, salt: u64, sweep_due: Nanos) -> Topic {
        Topic {
            target,
            streams: Streams::new(shared.bounds.window, shared.bounds.bound, shared.src.clone()),
            proofs: Proofs::default(),
            subscription: Subscription::None,
            granted_at: 0,
            held_until: 0,
            in_flight: None,
            beat_when_empty: false,
            hello_due: None,
            last_hello: None,
            hello_pause: 0,
            introduction_due: None,
            inquiry_due: None,
            salt,
            bound: shared.bounds.bound,
            swept_floor: 0,
            sweep_due,
            waiting: Vec::new(),
            channel,
        }
    }

    /// Apply first, in any order; then observe the number.
    pub fn received(&mut self, message: &Message, now: Nanos) {
        self.target.apply(&message.ops, now);
        let mut verdict = Verdict::default();
        if let Some(stamp) = &message.stamp {
            if !message.ops.is_empty() {
                verdict = self.streams.observe_data(stamp, message.ops.all, now);
            } else if !message.bye {
                verdict = self.streams.observe_heartbeat(&stamp.src, stamp.seq, now);
            }
            if message.bye {
                let bye = self.streams.observe_bye(&stamp.src, stamp.seq, now);
                verdict.doubt = verdict.doubt.or(bye.doubt);
                verdict.unknown_stream |= bye.unknown_stream;
            }
        }
        if message.hello {
            self.channel.outbox.lock().heard_hello(message.bound_ms, now);
            self.heard_bound(message.bound_ms, now);
        }
        if let Some(doubt) = verdict.doubt {
            self.doubt(doubt.name());
        }
        if verdict.unknown_stream && self.inquiry_due.is_none() {
            self.inquiry_due = Some(self.soon(HELLO_AT_MOST, now));
        }
        self.target.tell_remote(&message.ops, message.src.as_ref(), message.stamp.as_ref().map(|s| s.seq));
        self.settle_waiting(now);
    }

    /// The broker answered number `seq`, be it an earlier copy of it.
    pub fn answered(&mut self, seq: u64) {
        self.in_flight = self.in_flight.filter(|(number, _)| *number != seq);
    }

    /// Whether data may go out: also where the broker lets this client publish and not subscribe.
    pub fn may_publish(&self) -> bool {
        matches!(self.subscription, Subscription::Granted | Subscription::Refused(_))
    }

    /// Whether this client should have heard itself by now.
    pub fn is_deaf(&self, now: Nanos, patience: Nanos) -> bool {
        self.subscription == Subscription::Granted && !self.proofs.is_heard() && now >= self.granted_at + patience
    }

    /// The most between two `hello`s while none comes back.
    pub fn longest_hello_pause(&self, now: Nanos, bounds: &Bounds) -> Nanos {
        let interval = bounds.probe_interval();
        match now < self.granted_at + DEAF_AFTER_BOUNDS * bounds.bound {
            true => interval,
            false => interval.max(DEAF_HELLO_EVERY),
        }
    }

    /// A time for the next `hello`, not sooner than `pause` after the last, and not the same for all who are moved to say one.
    fn soon(&self, pause: Nanos, now: Nanos) -> Nanos {
        let soonest = self.last_hello.map_or(now, |last| now.max(last + pause));
        soonest + random(self.salt ^ now) % (HELLO_AT_MOST.min(self.bound / 32)).max(1)
    }

    /// Whoever says `hello` has not heard of the bounds told before. If this client's is smaller, it is told again, soon:
    /// the newcomer's first heartbeat depends on it.
    fn heard_bound(&mut self, bound_ms: Option<u64>, now: Nanos) {
        let Some(heard) = bound_ms else { return };
        if heard <= self.bound / 1_000_000 {
            // It asks the publishers for all that this client would ask, with as small a bound.
            (self.introduction_due, self.inquiry_due) = (None, None);
        } else if self.introduction_due.is_none() {
            self.introduction_due = Some(self.soon(HELLO_AT_MOST.min(self.bound / 4), now));
        }
    }

    pub fn poll_streams(&mut self, now: Nanos) {
        for doubt in self.streams.poll(now) {
            self.doubt(doubt.name());
        }
    }

    pub fn probed(&mut self, returned: Returned, shared: &Shared, now: Nanos) {
        // Doubt that has fallen due comes before the proof, as on the wire.
        self.poll_streams(now);
        let fresh = self.target.freshness().fresh();
        match self.proofs.returned(returned, fresh, &shared.bounds, now) {
            Reading::None => return,
            Reading::Proof => {}
            Reading::Doubt(why) => {
                // Messages of before may have been missed: holes are covered by the new epoch.
                self.streams.first_probe_returned(now);
                self.doubt(
                    match why {
                        ProbeDoubt::First => Doubt::FirstProbe,
                        ProbeDoubt::Late => Doubt::LateProbe,
                        ProbeDoubt::Overtaken => Doubt::OvertakenProbe,
                    }
                    .name(),
                );
            }
        }
        self.target.freshness().prove(returned.sent_at);
    }

    pub fn doubt(&mut self, reason: &'static str) {
        self.target.freshness().doubt();
        self.target.counters().doubt(reason);
    }

    /// Answers those whose number was applied, or is known to have passed by: then nothing loaded before now is served.
    pub fn settle_waiting(&mut self, now: Nanos) {
        let mut i = 0;
        while i < self.waiting.len() {
            let w = &self.waiting[i];
            let reached = match self.streams.reached(&w.src, w.seq) {
                Reached::Applied => true,
                Reached::LearnedNotReceived => {
                    self.target.clear(now);
                    true
                }
                Reached::Unknown => false,
            };
            if reached || now >= w.deadline || w.reply.is_closed() {
                let w = self.waiting.swap_remove(i);
                let _ = w.reply.send(reached);
            } else {
                i += 1;
            }
        }
    }
}
