//! Streams that dead processes left in `outbox_dir`: what they had not sent goes out under their own numbers, then their
//! `bye`. Published only; the caches of this client receive it through the broker, as everyone's do.

use std::sync::Arc;

use super::session::{Sent, Session, RETRY_AFTER};
use super::Channel;
use crate::clock::Nanos;
use crate::error::Result;
use crate::journal::Left;

/// One such stream.
pub(super) struct Restored {
    channel: Arc<Channel>,
    step: Step,
}

enum Step {
    /// What is unsent goes out, from then on, and after it the `bye`.
    Draining(Nanos),
    /// The `bye` is on its way.
    Bye,
    /// It was acknowledged and the file is gone. It is said again then, since it may have been dropped in one burst with
    /// the data (rule 7).
    Lingering(Nanos),
    Done,
}

impl Restored {
    /// Messages not yet acknowledged.
    pub fn unsent(&self) -> usize {
        self.channel.outbox.lock().pending()
    }

    /// Whether its `bye` is on its way.
    pub fn says_bye(&self) -> bool {
        matches!(self.step, Step::Bye)
    }

    pub fn disconnected(&mut self) {
        self.channel.outbox.lock().disconnected();
        if let Step::Bye = self.step {
            self.step = Step::Draining(0);
        }
    }

    /// When there is next something to do, if no answer of the broker comes before. `rate` is when more may be sent.
    pub fn due(&self, rate: Option<Nanos>, now: Nanos) -> Option<Nanos> {
        match self.step {
            Step::Draining(from) => [Some(from), rate].into_iter().flatten().filter(|at| *at > now).max(),
            Step::Lingering(until) => Some(until),
            Step::Bye | Step::Done => None,
        }
    }

    /// The client ends first: the file stays for the next start.
    pub fn leave(self) {
        self.channel.end_journal(false);
    }
}

impl Session {
    /// Takes over what dead processes left.
    pub(super) fn restore(&mut self, left: Vec<Left>) {
        for left in left {
            if left.topic != self.shared.config.topic {
                tracing::warn!(target: "unstale", "an outbox of the topic {:?} was left behind; it is sent there, though this client's `topic` is {:?}", left.topic, self.shared.config.topic);
            }
            let channel = Arc::new(Channel::restored(&self.shared, left));
            let numbered = channel.outbox.lock().last_number();
            if numbered == 0 {
                channel.end_journal(true);
                continue;
            }
            tracing::info!(
                target: "unstale",
                "a process that ended left {} messages unsent on {}; they are sent now", channel.outbox.lock().pending(), channel.topic
            );
            self.restored.push(Restored { channel, step: Step::Draining(0) });
        }
    }

    pub(super) fn send_restored(&mut self, now: Nanos) {
        for stream in 0..self.restored.len() {
            let channel = self.restored[stream].channel.clone();
            match self.restored[stream].step {
                Step::Draining(from) if from > now || !self.may_send(now) => {}
                Step::Draining(_) => {
                    let (next, pending) = {
                        let mut outbox = channel.outbox.lock();
                        (outbox.next(), outbox.pending())
                    };
                    match next {
                        Some((seq, payload)) => {
                            self.publish(Sent::Restored { stream, seq: Some(seq) }, &channel.topic, payload, now);
                        }
                        // One is on its way.
                        None if pending > 0 => {}
                        None => {
                            self.restored[stream].step = Step::Bye;
                            self.say_restored_bye(Sent::Restored { stream, seq: None }, &channel, now);
                        }
                    }
                }
                Step::Lingering(until) if until <= now => {
                    self.restored[stream].step = Step::Done;
                    self.say_restored_bye(Sent::Other, &channel, now);
                }
                Step::Bye | Step::Lingering(_) | Step::Done => {}
            }
        }
    }

    fn say_restored_bye(&mut self, what: Sent, channel: &Channel, now: Nanos) {
        let bye = channel.outbox.lock().bye();
        if let Some(payload) = bye {
            self.publish(what, &channel.topic, payload, now);
        }
    }

    /// The broker answered number `seq` of a restored stream, or its `bye`.
    pub(super) fn restored_published(&mut self, stream: usize, seq: Option<u64>, result: Result<()>, now: Nanos) {
        let again = now + self.shared.bounds.bound / 4;
        let Some(restored) = self.restored.get_mut(stream) else { return };
        match (result, seq) {
            (Ok(()), Some(seq)) => restored.channel.acknowledged(seq, now),
            (Ok(()), None) => {
                restored.channel.end_journal(true);
                restored.step = Step::Lingering(again);
            }
            (Err(error), seq) => {
                if let Some(seq) = seq {
                    restored.channel.outbox.lock().failed(seq);
                }
                restored.step = Step::Draining(now + RETRY_AFTER);
                self.log_refused(&error, now);
            }
        }
    }
}
