//! The link's rules without its loop: one connection after another, and what is sent and received on each (design, rules 3,
//! 5, 6, 7). Events, commands and the time come in, requests go out to the transport; so a simulator can drive it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::closing::Closing;
use super::denied::{self, Evidence, Verdict};
use super::quotas::Pace;
use super::restored::Restored;
use super::topic::{Subscription, Topic, Waiting};
use super::{Channel, Command, Shared, Target};
use crate::client::LinkState;
use crate::clock::Nanos;
use crate::error::{Error, ErrorKind, Result};
use crate::events::LOG_EVERY;
use crate::freshness::{Prober, FIRST_PAUSE};
use crate::message::{self, Decoded, Message, Operations, Refusal};
use crate::stream::Doubt;
use crate::transport::{Event, Transport};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;
/// How soon after waking the link notices that the machine was suspended.
const SUSPENSION_CHECK: Nanos = 100 * MS;
/// Back-off between attempts at a connection: full jitter below a limit that doubles (AWS Architecture Blog,
/// "Exponential Backoff And Jitter", 2015).
const FIRST_BACKOFF: Nanos = 200 * MS;
/// Half the bound within these: who writes while it is cut off is waited for by every other cache.
const LAST_BACKOFF: std::ops::RangeInclusive<Nanos> = 5 * SECOND..=30 * SECOND;
/// Never sooner than this, so that a broker that refuses at once is not asked in a hot loop.
const LEAST_BACKOFF: Nanos = 50 * MS;
/// A connection that lasted this long ends a row of failures. One that does not counts as a failure, but no more than so
/// many doublings: a broker that hangs up at once must not be asked in a hot loop either.
const LASTING: Nanos = SECOND;
const FAILURES_SHORT: u32 = 3;
/// A connection under a client id of the user's choice that ends sooner was perhaps taken over by another client.
const SOON: Nanos = 10 * SECOND;
/// Doublings that a refusal which only a person can mend starts with: wrong credentials, a client id in use.
const FAILURES_REFUSED: u32 = 5;
const FAILURES_PUSHED_OUT: u32 = 2;
/// A publication that the broker refused is sent again after this.
pub(super) const RETRY_AFTER: Nanos = SECOND;
/// `hello` is repeated this often.
const HELLO_EVERY: Nanos = 20 * 60 * SECOND;
/// Dead entries are looked for this often, and at once after a floor was raised; a part at a time.
const SWEEP_EVERY: Nanos = 60 * SECOND;
const SWEEP_MOST: usize = 10_000;

/// Someone who waits for an acknowledgement.
struct Awaiting {
    channel: Arc<Channel>,
    seq: u64,
    reply: oneshot::Sender<bool>,
    deadline: Nanos,
}

/// A publication without an answer.
pub(super) struct Publication {
    pub what: Sent,
    pub topic: Arc<str>,
    pub at: Nanos,
}

/// What a publication was.
pub(super) enum Sent {
    Data {
        topic: usize,
        seq: u64,
    },
    /// The same for a stream that a dead process left; without a number its `bye`.
    Restored {
        stream: usize,
        seq: Option<u64>,
    },
    Bye,
    Other,
}

pub(super) enum Phase {
    /// Between connections; the next attempt is due then.
    Waiting(Nanos),
    /// An attempt is under way.
    Connecting,
    /// Connected; the answers to this many SUBSCRIBEs are missing.
    Subscribing(usize),
    /// Subscribed.
    Up,
}

/// One client's side of the protocol.
///
/// All methods take the time on the library's clock; it must not go back. After any of them [`Session::due`] tells when
/// [`Session::tick`] is wanted next.
pub struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) transport: Box<dyn Transport>,
    ready: Option<oneshot::Sender<Result<()>>>,
    ready_by: Nanos,
    pub(super) phase: Phase,
    failures: u32,
    up_since: Nanos,
    pub(super) topics: Vec<Topic>,
    pub(super) by_topic: HashMap<Arc<str>, usize>,
    /// What dead processes left, by `outbox_dir`.
    pub(super) restored: Vec<Restored>,
    pub(super) probe_topic: Arc<str>,
    pub(super) prober: Prober,
    /// Send time of the newest probe that came back; 0 before the first.
    newest_proof: Nanos,
    live: bool,
    next_id: u64,
    /// Publications without an answer, by the number each was given.
    pub(super) sent: HashMap<u64, Publication>,
    /// SUBSCRIBEs without an answer, and until when each is waited for.
    subscribes: HashMap<u64, (Arc<str>, Nanos)>,
    /// Why this client ends the connection itself.
    gave_up: Option<Error>,
    alarms: Vec<(Nanos, oneshot::Sender<()>)>,
    awaiting: Vec<Awaiting>,
    pub(super) closing: Option<Closing>,
    pub(super) ended: bool,
    suspension_check: Nanos,
    suspended: Nanos,
    pub(super) pace: Pace,
    /// Whose turn it is to publish first, when not all may.
    turn: usize,
    /// Publications of this connection that were never answered, and the next look for such.
    dropped: usize,
    dropped_check: Nanos,
    /// The newest attempt at a connection.
    attempted: Nanos,
    /// Whether a probe came back on this connection.
    pub(super) proved: bool,
    pub(super) evidence: Evidence,
    /// Makes this client's jitter its own, and a simulation repeatable.
    salt: u64,
    logged: HashMap<&'static str, Nanos>,
    /// The connection was lost, and the log was not told of it yet, or was.
    unlogged: bool,
    logged_loss: bool,
    reason: String,
}

impl Session {
    /// A session that connects with its first tick. `suspended` is how long the machine was suspended before now.
    pub fn new(
        shared: Arc<Shared>,
        transport: Box<dyn Transport>,
        ready: oneshot::Sender<Result<()>>,
        now: Nanos,
        suspended: Nanos,
    ) -> Self {
        let ready = if shared.config.lazy {
            let _ = ready.send(Ok(()));
            None
        } else {
            Some(ready)
        };
        let mut hasher = DefaultHasher::new();
        shared.src.hash(&mut hasher);
        Session {
            transport,
            ready,
            ready_by: now + shared.config.connect_timeout.as_nanos() as Nanos,
            phase: Phase::Waiting(now),
            failures: 0,
            up_since: 0,
            topics: Vec::new(),
            by_topic: HashMap::new(),
            restored: Vec::new(),
            probe_topic: format!("{}/_probe/{}", shared.config.topic, shared.src).into(),
            prober: Prober::new(&shared.bounds),
            newest_proof: 0,
            live: false,
            next_id: 1,
            sent: HashMap::new(),
            subscribes: HashMap::new(),
            gave_up: None,
            alarms: Vec::new(),
            awaiting: Vec::new(),
            closing: None,
            ended: false,
            suspension_check: now,
            suspended,
            pace: Pace::new(&shared.quotas),
            turn: 0,
            dropped: 0,
            dropped_check: Nanos::MAX,
            attempted: 0,
            proved: false,
            evidence: Evidence::default(),
            salt: hasher.finish(),
            logged: HashMap::new(),
            unlogged: false,
            logged_loss: false,
            reason: "not connected yet".into(),
            shared,
        }
    }

    /// Whether there is nothing left to do.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The end: nothing is left to serve, and those who still wait learn of it as this is dropped.
    pub fn finish(mut self) {
        for topic in &self.topics {
            topic.target.freshness().raise_floor(Nanos::MAX);
        }
        // Before those who wait are answered: they may look.
        self.set_state(LinkState::Closed, "closed by this client");
        let unsent = self.unsent();
        self.settle_closing(unsent);
    }

    // ---- commands ----

    /// A caller's wish.
    pub fn command(&mut self, command: Command, now: Nanos) {
        let at = |after: Duration| now.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
        match command {
            Command::Open { target, channel } => self.open(target, channel, now),
            Command::WaitFor { token, timeout, reply } => {
                let topic = self.topics.iter_mut().find(|t| t.channel.namespace() == &*token.namespace);
                match topic {
                    Some(topic) => {
                        topic.waiting.push(Waiting { src: token.src, seq: token.seq, reply, deadline: at(timeout) });
                        topic.settle_waiting(now);
                    }
                    None => drop(reply.send(true)),
                }
            }
            Command::Delivered { channel, seq, timeout, reply } => {
                self.awaiting.push(Awaiting { channel, seq, reply, deadline: at(timeout) });
                self.settle_awaiting(now);
            }
            Command::Alarm { after, reply } => self.alarms.push((at(after), reply)),
            Command::Close { timeout, reply } => self.close(at(timeout), reply),
        }
    }

    fn open(&mut self, target: Arc<dyn Target>, channel: Arc<Channel>, now: Nanos) {
        if self.closing.is_some() {
            // Asked for before the client was closed; the caches of a closed client serve nothing.
            target.freshness().raise_floor(Nanos::MAX);
        }
        self.by_topic.insert(channel.topic.clone(), self.topics.len());
        self.topics.push(Topic::new(target, channel, &self.shared, self.salt, now + SWEEP_EVERY));
        if matches!(self.phase, Phase::Up) {
            self.subscribe(vec![self.topics.len() - 1], false, now);
        }
        self.refresh_state(now);
    }

    // ---- events ----

    /// What the transport reports.
    pub fn event(&mut self, event: Event, now: Nanos) {
        match event {
            Event::Connected => self.connected(now),
            Event::Refused(error) => self.lost(error, now),
            Event::Lost(error) => self.lost(error, now),
            Event::Subscribed { id, results } => self.subscribed(id, results, now),
            Event::Published { id, result } => self.published(id, result, now),
            Event::Message { topic, payload, retained, qos } => {
                if retained {
                    return;
                }
                if let Some(&i) = self.by_topic.get(&topic) {
                    self.received(i, &payload, now);
                } else if *topic == *self.probe_topic && qos > 0 {
                    // Ours are of QoS 1. A copy of QoS 0, by whomever, may have overtaken what it is to prove.
                    self.probed(&payload, now);
                }
            }
        }
    }

    fn connected(&mut self, now: Nanos) {
        self.shared.state.lock().connects += 1;
        self.proved = false;
        self.dropped = 0;
        self.reason = "waiting for the first probe to return".into();
        self.phase = Phase::Subscribing(0);
        self.subscribe((0..self.topics.len()).collect(), true, now);
    }

    fn subscribe(&mut self, topics: Vec<usize>, with_probe: bool, now: Nanos) {
        let until = now + self.shared.config.connect_timeout.as_nanos() as Nanos;
        let mut names: Vec<Arc<str>> = Vec::new();
        if with_probe {
            names.push(self.probe_topic.clone());
        }
        for i in topics {
            self.topics[i].subscription = Subscription::Asked;
            names.push(self.topics[i].channel.topic.clone());
        }
        // Each in a SUBSCRIBE of its own: a broker that ends the connection over one has answered those before it.
        for name in names {
            let id = self.id();
            self.transport.subscribe(id, &[name.to_string()]);
            self.subscribes.insert(id, (name, until));
            if let Phase::Subscribing(missing) = &mut self.phase {
                *missing += 1;
            }
        }
    }

    fn subscribed(&mut self, id: u64, results: Vec<Result<()>>, now: Nanos) {
        let Some((name, _)) = self.subscribes.remove(&id) else { return };
        let none = || Err(Error::internal("the answer to a subscription held no result"));
        let result = results.into_iter().next().unwrap_or_else(none);
        match (self.by_topic.get(&name).copied(), result) {
            (Some(i), Ok(())) => {
                let topic = &mut self.topics[i];
                topic.subscription = Subscription::Granted;
                topic.granted_at = now;
                topic.hello_pause = FIRST_PAUSE.min(self.shared.bounds.probe_interval());
                topic.hello_due = Some(now);
                topic.beat_when_empty = true;
            }
            (Some(i), Err(error)) => {
                self.topics[i].subscription = Subscription::Refused(error.message().to_owned());
                self.refused_topic(&name, &error, now);
            }
            (None, Ok(())) => {}
            // Without probes nothing can be proved: entries are served by age until the next connection.
            (None, Err(error)) => self.refused_topic(&name, &error, now),
        }
        match &mut self.phase {
            Phase::Subscribing(missing) if *missing > 1 => *missing -= 1,
            Phase::Subscribing(_) => {
                self.phase = Phase::Up;
                self.up_since = now;
                self.prober.connected(now);
                self.dropped_check = self.shared.quotas.dropped.map_or(Nanos::MAX, |(after, _)| now + after);
                // Those opened while the answers were under way.
                let late = |topic: &Topic| topic.subscription == Subscription::None;
                let late: Vec<usize> = (0..self.topics.len()).filter(|&i| late(&self.topics[i])).collect();
                if !late.is_empty() {
                    self.subscribe(late, false, now);
                }
            }
            _ => {}
        }
        self.refresh_state(now);
    }

    fn refused_topic(&mut self, name: &str, error: &Error, now: Nanos) {
        self.reason = format!("the broker does not let this client subscribe to {name}: {error}");
        if error.kind() == ErrorKind::Auth {
            self.evidence.refused("iot:Subscribe", "topicfilter", name);
            if self.shared.is_aws {
                let needs = denied::must_allow(&format!("`iot:Subscribe` on `topicfilter/{name}`"));
                self.reason += &format!("; {needs}");
            }
        }
        if self.may_log("subscription refused", now) {
            tracing::warn!(target: "unstale", "{}", self.reason);
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(Error::new(ErrorKind::Auth, self.reason.clone())));
        }
    }

    fn lost(&mut self, error: Error, now: Nanos) {
        let was_up = matches!(self.phase, Phase::Up);
        let error = self.gave_up.take().unwrap_or(error);
        let Verdict { error, said, certain } = self.denied(error, now);
        self.prober.disconnected();
        self.sent.clear();
        self.subscribes.clear();
        for topic in &mut self.topics {
            topic.subscription = Subscription::None;
            topic.proofs.disconnected();
            topic.streams.new_connection();
            topic.channel.outbox.lock().disconnected();
            topic.in_flight = None;
            topic.hello_due = None;
            topic.introduction_due = None;
            topic.inquiry_due = None;
        }
        self.restored.iter_mut().for_each(Restored::disconnected);
        if self.closing.as_ref().is_some_and(Closing::is_past_draining) {
            self.ended = true;
            return;
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(error.clone()));
        }
        // Not every broker says why it pushes a client out (mosquitto 2.0.11 does not).
        let pushed_out = was_up && !said && self.shared.config.client_id.is_some() && now < self.up_since + SOON;
        let refused = match error.kind() {
            ErrorKind::Config => true,
            ErrorKind::Auth => certain,
            _ => pushed_out,
        };
        self.failures = match (refused, was_up) {
            _ if pushed_out => self.failures.max(FAILURES_PUSHED_OUT).saturating_add(1),
            (true, _) => self.failures.max(FAILURES_REFUSED).saturating_add(1),
            (false, true) if now >= self.up_since + LASTING => 0,
            (false, true) => (self.failures + 1).min(FAILURES_SHORT),
            (false, false) => self.failures.saturating_add(1),
        };
        let quotas = &self.shared.quotas;
        let (least, last) = match refused {
            true => quotas.refused_backoff,
            false => (LEAST_BACKOFF, (self.shared.bounds.bound / 2).clamp(*LAST_BACKOFF.start(), *LAST_BACKOFF.end())),
        };
        let limit = (FIRST_BACKOFF << self.failures.min(16)).max(least).min(last);
        let soonest = (now + least).max(self.attempted + quotas.between_connects);
        self.phase = Phase::Waiting(soonest + random(self.salt ^ now) % limit);
        self.reason = error.message().to_owned();
        if let (true, Some(id)) = (pushed_out, &self.shared.config.client_id) {
            self.reason += &format!(
                "; if another client uses the `client_id` {id:?} too, they push each other out: give each its own, or leave it out"
            );
        }
        self.unlogged = true;
        self.log_loss(now);
        self.refresh_state(now);
    }

    fn published(&mut self, id: u64, result: Result<()>, now: Nanos) {
        let answered = self.sent.remove(&id);
        match (&answered, &result) {
            (Some(publication), Ok(())) => self.evidence.published(&publication.topic),
            (Some(publication), Err(error)) if error.kind() == ErrorKind::Auth => {
                self.evidence.refused("iot:Publish", "topic", &publication.topic);
            }
            _ => {}
        }
        match (answered.map(|publication| publication.what), result) {
            (Some(Sent::Data { topic, seq }), Ok(())) => {
                self.topics[topic].answered(seq);
                self.topics[topic].channel.acknowledged(seq, now);
                self.settle_awaiting(now);
            }
            (Some(Sent::Restored { stream, seq }), result) => self.restored_published(stream, seq, result, now),
            (Some(Sent::Data { topic, seq }), Err(error)) => {
                let topic = &mut self.topics[topic];
                topic.answered(seq);
                topic.channel.outbox.lock().failed(seq);
                topic.held_until = now + RETRY_AFTER;
                self.log_refused(&error, now);
            }
            (Some(Sent::Bye), _) => {
                if let Some(closing) = &mut self.closing {
                    closing.bye_answered();
                }
            }
            // A probe or heartbeat that was refused is not sent again: the next one is.
            (Some(Sent::Other), Err(error)) if error.kind() == ErrorKind::Auth => self.proof_refused(error, now),
            (Some(Sent::Other) | None, _) => {}
        }
    }

    /// This client may not publish what would prove its caches fresh.
    fn proof_refused(&mut self, error: Error, now: Nanos) {
        if self.may_log("proof refused", now) {
            tracing::warn!(target: "unstale", "nothing proves the caches fresh, entries are served by their age: {error}");
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(error));
        }
    }

    pub(super) fn log_refused(&mut self, error: &Error, now: Nanos) {
        if self.may_log("publication refused", now) {
            tracing::warn!(target: "unstale", "an invalidation was refused and is sent again: {error}");
        }
    }

    fn received(&mut self, i: usize, payload: &[u8], now: Nanos) {
        let shared = self.shared.clone();
        let required = shared.config.required_keys();
        // Who is not believed says nothing: it is neither applied nor doubt, or anybody could lapse the caches. Without
        // a payload it says nothing anyway.
        if let Some(keys) = required.filter(|_| !payload.is_empty()) {
            if let Err(refusal) = keys.verify(&self.topics[i].channel.topic, payload) {
                return self.refused(i, refusal, now);
            }
        }
        let topic = &mut self.topics[i];
        let counters = topic.target.counters();
        match message::decode(payload) {
            Ok(Decoded::Empty) => counters.empty.add(),
            Ok(Decoded::Plain(key)) => {
                counters.plain.add();
                let operations = Operations { keys: vec![(key, None)], ..Operations::default() };
                topic.target.apply(&operations, now);
                topic.target.tell_remote(&operations, None, None);
            }
            Ok(Decoded::Envelope(message)) => {
                if message.src.as_ref().is_some_and(|src| *src == self.shared.src) {
                    counters.own.add();
                    if message.hello && !topic.proofs.is_heard() {
                        topic.proofs.heard(self.prober.next_counter());
                        self.evidence.published(&topic.channel.topic);
                        topic.hello_due = Some(now + HELLO_EVERY);
                        self.prober.hasten(now);
                    }
                    return;
                }
                let data = message.stamp.as_ref().filter(|_| !message.ops.is_empty());
                if required.is_some() && data.is_some_and(|stamp| topic.streams.has(stamp)) {
                    return self.refused(i, Refusal::Replayed, now);
                }
                topic.received(&message, now);
            }
            Err(malformed) => {
                counters.malformed.add();
                // It may have been an invalidation.
                let doubt = if malformed.newer_version().is_some() { Doubt::NewerVersion } else { Doubt::Malformed };
                topic.doubt(doubt.name());
                let name = topic.channel.topic.clone();
                if self.may_log(doubt.name(), now) {
                    tracing::warn!(target: "unstale", "a message on {name} cannot be read: {malformed}");
                }
            }
        }
    }

    fn refused(&mut self, i: usize, refusal: Refusal, now: Nanos) {
        self.topics[i].target.counters().refuse(refusal.name());
        let name = self.topics[i].channel.topic.clone();
        self.log_refusal(&name, refusal, now);
    }

    fn log_refusal(&mut self, topic: &str, refusal: Refusal, now: Nanos) {
        // A broker that delivers again makes replays; they are no sign of trouble.
        if refusal != Refusal::Replayed && self.may_log(refusal.name(), now) {
            tracing::warn!(target: "unstale", "a message on {topic} was refused: {refusal}");
        }
    }

    fn probed(&mut self, payload: &[u8], now: Nanos) {
        let shared = self.shared.clone();
        let counter = match shared.config.required_keys() {
            None => message::probe_counter(payload),
            Some(keys) => match keys.verify_probe(&self.probe_topic, payload) {
                Ok(counter) => counter,
                Err(refusal) => {
                    // Probes concern every cache.
                    self.topics.iter().for_each(|topic| topic.target.counters().refuse(refusal.name()));
                    let name = self.probe_topic.clone();
                    return self.log_refusal(&name, refusal, now);
                }
            },
        };
        let counter = std::str::from_utf8(counter).ok().and_then(|text| text.parse().ok());
        let Some(returned) = counter.and_then(|counter| self.prober.returned(counter)) else { return };
        self.newest_proof = returned.sent_at.max(self.newest_proof);
        self.proved = true;
        self.evidence.published(&self.probe_topic);
        for topic in &mut self.topics {
            topic.probed(returned, &self.shared, now);
        }
        if let Some(ready) = self.ready.take() {
            if ready.send(Ok(())).is_err() {
                // Whoever connected gave up; dropping the client closes.
                tracing::debug!(target: "unstale", "nobody waits for this connection any more");
            }
        }
        self.refresh_state(now);
    }

    // ---- time ----

    /// When [`Session::tick`] is wanted next.
    pub fn due(&self, now: Nanos) -> Nanos {
        let mut due = self.suspension_check;
        let mut at = |t: Option<Nanos>| due = due.min(t.unwrap_or(Nanos::MAX));
        if let Phase::Waiting(retry) = self.phase {
            at(Some(retry));
        }
        at(self.ready.as_ref().map(|_| self.ready_by));
        at(self.prober.due());
        at(self.live.then(|| self.proof_ends() + 1));
        at(self.closing.as_ref().map(|closing| closing.due(self.pace.due().filter(|at| *at > now))));
        at(self.alarms.iter().map(|(t, _)| *t).min());
        at(self.awaiting.iter().map(|a| a.deadline).min());
        at(self.subscribes.values().map(|(_, until)| *until).min());
        let up = matches!(self.phase, Phase::Up);
        let rate = self.pace.due();
        // What cannot be sent yet is not due: an answer of the broker comes first.
        let may_send = self.may_send(now) || rate.is_some_and(|at| at > now);
        for topic in &self.topics {
            at(topic.streams.due());
            at(topic.waiting.iter().map(|w| w.deadline).min());
            if up && topic.may_publish() {
                let outbox = topic.channel.outbox.lock();
                if may_send {
                    let says = [topic.hello_due, topic.introduction_due, topic.inquiry_due, outbox.due()];
                    at(says.into_iter().flatten().min().map(|due| due.max(rate.unwrap_or(0))));
                }
                if outbox.pending() > 0 || topic.beat_when_empty {
                    at((topic.held_until > now).then_some(topic.held_until));
                    at(rate.filter(|at| *at > now));
                    at(self.resend_due(topic));
                }
            }
        }
        if up {
            self.restored.iter().for_each(|stream| at(stream.due(rate, now)));
            at(Some(self.dropped_check));
        }
        due
    }

    /// Does what is due. `suspended` measures how long the machine was suspended so far.
    pub fn tick(&mut self, now: Nanos, suspended: impl FnOnce() -> Nanos) {
        if now >= self.suspension_check {
            self.suspension_check = now + SUSPENSION_CHECK;
            let suspended = suspended();
            if suspended > self.suspended {
                self.suspended = suspended;
                self.topics.iter_mut().for_each(|t| t.doubt(Doubt::Suspended.name()));
            }
            self.sweep(now);
        }
        if self.ready.is_some() && now >= self.ready_by {
            self.not_ready_in_time();
        }
        if let Phase::Waiting(retry) = self.phase {
            if now >= retry {
                self.phase = Phase::Connecting;
                self.attempted = now;
                self.transport.connect();
            }
        }
        self.log_loss(now);
        self.mind_subscribes(now);
        for topic in &mut self.topics {
            topic.poll_streams(now);
            topic.settle_waiting(now);
        }
        if self.live && now > self.proof_ends() {
            self.refresh_state(now);
        }
        self.settle_awaiting(now);
        self.alarms.retain(|(at, reply)| *at > now && !reply.is_closed());
        let unsent = self.unsent() as u64;
        self.shared.state.lock().unsent = unsent;
        if matches!(self.phase, Phase::Up) {
            self.send(now);
        }
        self.close_step(now);
    }

    /// Says that the connection is lost: now, or when the minute since it was said last is over, if it is lost still.
    fn log_loss(&mut self, now: Nanos) {
        if self.unlogged && self.may_log("not connected", now) {
            (self.unlogged, self.logged_loss) = (false, true);
            let error = &self.reason;
            tracing::warn!(target: "unstale", "not connected: {error}; entries are served by their age until it is back");
        }
    }

    /// A connection on which a SUBSCRIBE is not answered is worth nothing: neither probes nor this process's invalidations go out.
    fn mind_subscribes(&mut self, now: Nanos) {
        let mut late: Vec<_> = self.subscribes.iter().filter(|(_, (_, until))| now >= *until).collect();
        if late.is_empty() {
            return;
        }
        late.sort_by_key(|(id, _)| **id);
        let names: Vec<&str> = late.iter().map(|(_, (name, _))| &**name).collect();
        let (url, limit) = (&self.shared.url, self.shared.config.connect_timeout);
        self.gave_up = Some(Error::new(
            ErrorKind::Timeout,
            format!(
                "{url} did not answer the subscription to {} within `connect_timeout` ({limit:?})",
                names.join(", ")
            ),
        ));
        self.subscribes.clear();
        self.transport.disconnect(Duration::ZERO);
    }

    fn not_ready_in_time(&mut self) {
        let limit = self.shared.config.connect_timeout;
        let error = match self.phase {
            Phase::Subscribing(_) | Phase::Up => format!(
                "{} answered, but no probe came back within `connect_timeout` ({limit:?}): may this client publish and subscribe under {:?}?",
                self.shared.url, self.shared.config.topic
            ),
            _ => format!("{} did not answer within `connect_timeout` ({limit:?}); check the address, or raise it", self.shared.url),
        };
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(Error::new(ErrorKind::Timeout, error)));
        }
    }

    fn sweep(&mut self, now: Nanos) {
        for topic in &mut self.topics {
            let floor = topic.target.freshness().floor();
            if floor > topic.swept_floor || now >= topic.sweep_due {
                topic.swept_floor = floor;
                topic.sweep_due = now + SWEEP_EVERY;
                topic.target.sweep(now, SWEEP_MOST);
            }
        }
    }

    // ---- sending ----

    /// Probe, hello, data, heartbeat: in this order at the start of a session (rule 6), and probes and heartbeats first always.
    fn send(&mut self, now: Nanos) {
        if self.prober.due().is_some_and(|due| now >= due) {
            let counter = self.prober.send(now);
            let payload = match &self.shared.config.signing_key {
                None => counter.to_string().into_bytes(),
                Some(keys) => keys.sign_probe(&self.probe_topic, counter),
            };
            let topic = self.probe_topic.clone();
            self.hand_over(Sent::Other, &topic, payload, now);
        }
        self.send_again(now);
        for i in 0..self.topics.len() {
            if self.topics[i].may_publish() {
                self.send_news(i, now);
            }
        }
        self.send_restored(now);
        // In turn, so that a busy cache does not keep the others waiting where the pace is limited.
        let (first, count) = (self.turn, self.topics.len());
        for i in (first..first + count).map(|i| i % count) {
            if self.topics[i].may_publish() {
                self.send_data(i, now);
            }
        }
    }

    /// `hello`, and the heartbeat that the schedule wants.
    fn send_news(&mut self, i: usize, now: Nanos) {
        let topic = &mut self.topics[i];
        let name = topic.channel.topic.clone();
        let hellos = [topic.hello_due, topic.introduction_due, topic.inquiry_due];
        if hellos.into_iter().flatten().any(|due| now >= due) && self.may_send(now) {
            let topic = &mut self.topics[i];
            // Until it comes back nothing is proved, and it may have been dropped, or come before the subscription works.
            let again = if topic.proofs.is_heard() { HELLO_EVERY } else { topic.hello_pause };
            topic.hello_pause = (2 * topic.hello_pause).min(topic.longest_hello_pause(now, &self.shared.bounds));
            topic.hello_due = Some(now + again);
            topic.introduction_due = None;
            topic.inquiry_due = None;
            topic.last_hello = Some(now);
            let hello = Message {
                hello: true,
                bound_ms: Some(self.shared.bounds.bound / MS),
                src: Some(self.shared.src.clone()),
                ..Message::default()
            };
            self.publish(Sent::Other, &name, message::encode(&hello), now);
        }
        let channel = self.topics[i].channel.clone();
        if self.may_send(now) && channel.outbox.lock().poll(now) {
            self.heartbeat(&channel, now);
        }
    }

    fn send_data(&mut self, i: usize, now: Nanos) {
        let channel = self.topics[i].channel.clone();
        if self.topics[i].held_until <= now && self.may_send(now) {
            self.topics[i].held_until = 0;
            let next = channel.outbox.lock().next();
            if let Some((seq, payload)) = next {
                self.topics[i].in_flight = Some((seq, now));
                self.turn = i + 1;
                self.publish(Sent::Data { topic: i, seq }, &channel.topic, payload, now);
            }
        }
        if self.topics[i].beat_when_empty && self.may_send(now) && channel.outbox.lock().pending() == 0 {
            self.topics[i].beat_when_empty = false;
            self.heartbeat(&channel, now);
        }
    }

    fn heartbeat(&mut self, channel: &Channel, now: Nanos) {
        let payload = channel.outbox.lock().heartbeat();
        if let Some(payload) = payload {
            self.publish(Sent::Other, &channel.topic, payload, now);
        }
    }

    /// Hands out again what a broker with quotas has taken from the connection and not answered: it has dropped it.
    fn send_again(&mut self, now: Nanos) {
        for i in 0..self.topics.len() {
            if self.resend_due(&self.topics[i]).is_some_and(|due| now >= due) {
                if let Some((seq, _)) = self.topics[i].in_flight.take() {
                    self.topics[i].channel.outbox.lock().failed(seq);
                }
            }
        }
        let Some((after, most)) = self.shared.quotas.dropped else { return };
        if now < self.dropped_check {
            return;
        }
        self.dropped_check = now + after;
        for (_, dropped) in self.sent.extract_if(|_, sent| sent.at + after <= now).collect::<Vec<_>>() {
            self.dropped += 1;
            if let Sent::Restored { stream, seq } = dropped.what {
                let error =
                    Error::new(ErrorKind::Timeout, "the broker did not answer; it drops what is above its limits");
                self.restored_published(stream, seq, Err(error), now);
            }
        }
        if self.dropped >= most {
            self.dropped = 0;
            self.transport.disconnect(Duration::ZERO);
        }
    }

    /// When what is in flight on a topic is handed out again for want of an answer.
    fn resend_due(&self, topic: &Topic) -> Option<Nanos> {
        Some(topic.in_flight?.1 + self.shared.quotas.resend_after?)
    }

    pub(super) fn may_send(&self, now: Nanos) -> bool {
        self.pace.allows(self.sent.len(), now)
    }

    /// Publishes an envelope, signed if there is a key.
    pub(super) fn publish(&mut self, what: Sent, topic: &Arc<str>, envelope: Vec<u8>, now: Nanos) {
        let payload = match &self.shared.config.signing_key {
            None => envelope,
            Some(keys) => keys.sign(topic, envelope),
        };
        self.hand_over(what, topic, payload, now);
    }

    fn hand_over(&mut self, what: Sent, topic: &Arc<str>, payload: Vec<u8>, now: Nanos) {
        let id = self.id();
        self.pace.count(payload.len(), now);
        self.sent.insert(id, Publication { what, topic: topic.clone(), at: now });
        self.transport.publish(id, topic, payload);
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // ---- state ----

    fn settle_awaiting(&mut self, now: Nanos) {
        let mut i = 0;
        while i < self.awaiting.len() {
            let a = &self.awaiting[i];
            let acked = a.channel.acked() >= a.seq;
            if acked || now >= a.deadline || a.reply.is_closed() {
                let a = self.awaiting.swap_remove(i);
                let _ = a.reply.send(acked);
            } else {
                i += 1;
            }
        }
    }

    fn refresh_state(&mut self, now: Nanos) {
        let refused = self.topics.iter().find_map(|t| match &t.subscription {
            Subscription::Refused(why) => Some(why.clone()),
            _ => None,
        });
        let proved = self.topics.iter().filter(|t| t.proofs.is_proved()).count();
        let up = matches!(self.phase, Phase::Up);
        let silent = now > self.proof_ends();
        if up && proved == self.topics.len() && self.ready.is_none() && !silent {
            self.unlogged = false;
            if std::mem::take(&mut self.logged_loss) {
                tracing::info!(target: "unstale", "connected to {} again, and proved fresh", self.shared.url);
            }
            let alone = if self.shared.config.url.is_empty() { super::NOTHING_LEAVES } else { "" };
            return self.set_state(LinkState::Live, alone);
        }
        let reason = match refused {
            Some(why) => why,
            None if up && silent && self.newest_proof > 0 => {
                format!("connected, but no probe has come back for {} ms", (now - self.newest_proof) / MS)
            }
            None if up => match self.topics.iter().find(|t| t.is_deaf(now, self.shared.bounds.probe_interval())) {
                Some(deaf) => {
                    let why = format!(
                        "this client does not hear itself on {topic}: it must be allowed to publish and to receive there; entries are served by their age",
                        topic = deaf.channel.topic
                    );
                    if self.may_log("deaf", now) {
                        tracing::warn!(target: "unstale", "{why}");
                    }
                    why
                }
                None => format!("{} of {} caches proved fresh", proved, self.topics.len()),
            },
            None => self.reason.clone(),
        };
        let never = self.shared.state.lock().connects == 0;
        self.set_state(if never { LinkState::Connecting } else { LinkState::Degraded }, &reason);
    }

    pub(super) fn set_state(&mut self, link: LinkState, reason: &str) {
        self.live = link == LinkState::Live;
        let unsent = self.unsent() as u64;
        let changed = {
            let mut state = self.shared.state.lock();
            state.caches = self.topics.len() as u64;
            state.unsent = unsent;
            let changed = state.link != link;
            state.link = link;
            state.reason = reason.to_owned();
            changed
        };
        if changed {
            self.shared.status_listeners.tell(|| self.shared.status());
        }
    }

    /// Until then the newest proof counts.
    fn proof_ends(&self) -> Nanos {
        self.newest_proof + self.shared.bounds.grace
    }

    /// Whether a condition was not logged within the last minute.
    fn may_log(&mut self, condition: &'static str, now: Nanos) -> bool {
        let last = self.logged.get(condition);
        if last.is_some_and(|last| now < last + LOG_EVERY) {
            return false;
        }
        self.logged.insert(condition, now);
        true
    }
}

/// Spread for back-off and answers; splitmix64 of stream and clock is enough, since it only has to differ between clients.
pub(super) fn random(seed: u64) -> u64 {
    let mut z = seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
