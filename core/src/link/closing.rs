//! The end of a client: drain, `bye`, DISCONNECT (design, rule 7).
//!
//! `close` returns when the broker has acknowledged the `bye`s. They may have been dropped on their way to a subscriber
//! together with the last invalidations, in one burst, so they are said once more after a quarter of the bound, if the
//! process is still there.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::restored::Restored;
use super::session::{Phase, Sent, Session};
use super::topic::Subscription;
use super::Channel;
use crate::client::LinkState;
use crate::clock::Nanos;

/// How long the second `bye` and the DISCONNECT may take; nobody waits for them.
const LINGER: Nanos = 1_000_000_000;

/// What is left of a client that closes.
pub(super) struct Closing {
    /// When the present step is given up.
    deadline: Nanos,
    step: Step,
    replies: Vec<oneshot::Sender<usize>>,
    /// The streams that said `bye`.
    streams: Vec<Arc<Channel>>,
    /// Those of them whose `bye` waits for its turn in the pace.
    unsaid: Vec<Arc<Channel>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// What is unsent goes out.
    Draining,
    /// The `bye`s are on their way; this many are not acknowledged yet.
    Byes(usize),
    /// They were acknowledged; they are said again then.
    Lingering(Nanos),
    /// The same for the second ones.
    SecondByes(usize),
    /// DISCONNECT is on its way.
    Disconnecting,
}

impl Closing {
    /// When there is next something to do, if no answer of the broker comes before. `pace` is when more may be sent.
    pub fn due(&self, pace: Option<Nanos>) -> Nanos {
        match self.step {
            Step::Lingering(until) => until,
            _ if self.unsaid.is_empty() => self.deadline,
            _ => pace.map_or(self.deadline, |pace| pace.min(self.deadline)),
        }
    }

    /// Whether a connection that is lost now is not needed any more.
    pub fn is_past_draining(&self) -> bool {
        self.step != Step::Draining
    }

    /// The broker acknowledged a `bye`, or refused it.
    pub fn bye_answered(&mut self) {
        if let Step::Byes(missing) | Step::SecondByes(missing) = &mut self.step {
            *missing = missing.saturating_sub(1);
        }
    }
}

impl Session {
    /// Begins to close; a later call waits for the same end.
    pub(super) fn close(&mut self, deadline: Nanos, reply: Option<oneshot::Sender<usize>>) {
        let closing = self.closing.get_or_insert_with(|| Closing {
            deadline,
            step: Step::Draining,
            replies: Vec::new(),
            streams: Vec::new(),
            unsaid: Vec::new(),
        });
        closing.replies.extend(reply);
        if matches!(closing.step, Step::Lingering(_) | Step::SecondByes(_)) {
            self.settle_closing(0);
        }
        for topic in &self.topics {
            topic.target.freshness().raise_floor(Nanos::MAX);
        }
    }

    /// Messages not yet acknowledged.
    pub(super) fn unsent(&self) -> usize {
        let restored = self.restored.iter().map(Restored::unsent).sum::<usize>();
        restored + self.topics.iter().map(|t| t.channel.outbox.lock().pending()).sum::<usize>()
    }

    /// Answers those who wait for the end.
    pub(super) fn settle_closing(&mut self, unsent: usize) {
        // Whoever is told that nothing is left finds nothing left.
        for channel in self.topics.iter().map(|t| &t.channel) {
            let delete = channel.outbox.lock().pending() == 0;
            channel.end_journal(delete);
        }
        self.restored.drain(..).for_each(Restored::leave);
        self.shared.left_unsent.store(unsent as u64, Ordering::Release);
        for reply in self.closing.iter_mut().flat_map(|c| c.replies.drain(..)) {
            let _ = reply.send(unsent);
        }
    }

    /// Goes as far as it can; at the deadline the rest is skipped.
    pub(super) fn close_step(&mut self, now: Nanos) {
        self.say_byes(now);
        while let Some(closing) = &self.closing {
            let up = matches!(self.phase, Phase::Up);
            match closing.step {
                Step::Lingering(until) if now < until => return,
                Step::Lingering(_) => {
                    let byes = self.queue_byes();
                    self.set_closing(Step::SecondByes(byes), now + LINGER);
                    self.say_byes(now);
                }
                _ if now >= closing.deadline => {
                    self.ended = true;
                    return;
                }
                Step::Draining if self.unsent() > 0 => return,
                // Else the next start would say them again.
                Step::Draining if up && self.restored.iter().any(Restored::says_bye) => return,
                Step::Draining => {
                    let streams = if up { self.streams_with_numbers() } else { Vec::new() };
                    let deadline = closing.deadline;
                    if let Some(closing) = &mut self.closing {
                        closing.streams = streams;
                    }
                    let byes = self.queue_byes();
                    self.set_closing(Step::Byes(byes), deadline);
                    self.say_byes(now);
                }
                // A call that had begun before `close` may have come in between.
                Step::Byes(0) if self.unsent() > 0 => {
                    let deadline = closing.deadline;
                    self.set_closing(Step::Draining, deadline);
                    return;
                }
                Step::Byes(0) if !closing.streams.is_empty() => self.linger(now),
                Step::Byes(0) | Step::SecondByes(0) => {
                    if matches!(self.phase, Phase::Waiting(_)) {
                        self.ended = true;
                        return;
                    }
                    let deadline = closing.deadline;
                    self.set_closing(Step::Disconnecting, deadline);
                    self.transport.disconnect(Duration::from_nanos(deadline - now));
                }
                Step::Byes(_) | Step::SecondByes(_) | Step::Disconnecting => return,
            }
        }
    }

    /// For whoever closed this is the end. The connection stays for the second `bye`, and nothing else is asked of it.
    fn linger(&mut self, now: Nanos) {
        self.set_state(LinkState::Closed, "closed by this client");
        self.settle_closing(0);
        let subscribed: Vec<String> = self.by_topic.drain().map(|(topic, _)| topic.to_string()).collect();
        self.transport.unsubscribe(&subscribed);
        // The caches' memory is the callers' again.
        self.topics.clear();
        self.sent.clear();
        self.prober.disconnected();
        let smallest = self.closing.iter().flat_map(|c| &c.streams).map(|c| c.outbox.lock().smallest_bound()).min();
        let until = now + smallest.unwrap_or(self.shared.bounds.bound) / 4;
        self.set_closing(Step::Lingering(until), until + LINGER);
    }

    fn streams_with_numbers(&self) -> Vec<Arc<Channel>> {
        let granted = self.topics.iter().filter(|t| t.subscription == Subscription::Granted);
        granted.filter(|t| t.channel.acked() > 0).map(|t| t.channel.clone()).collect()
    }

    /// Every stream's `bye` is to be said; how many that are.
    fn queue_byes(&mut self) -> usize {
        let Some(closing) = &mut self.closing else { return 0 };
        closing.unsaid = closing.streams.clone();
        closing.unsaid.len()
    }

    /// Says as many of them as the pace allows.
    fn say_byes(&mut self, now: Nanos) {
        while self.may_send(now) {
            let Some(channel) = self.closing.as_mut().and_then(|c| c.unsaid.pop()) else { return };
            let bye = channel.outbox.lock().bye();
            match bye {
                Some(payload) => self.publish(Sent::Bye, &channel.topic, payload, now),
                None => self.closing.iter_mut().for_each(Closing::bye_answered),
            }
        }
    }

    fn set_closing(&mut self, step: Step, deadline: Nanos) {
        if let Some(closing) = &mut self.closing {
            (closing.step, closing.deadline) = (step, deadline);
        }
    }
}
