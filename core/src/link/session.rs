//! The loop itself: one connection after another, and what is sent and received on each (design, rules 3, 5, 6, 7).

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::sync::oneshot;

use super::{Channel, Command, Shared, Target};
use crate::client::LinkState;
use crate::clock::{self, Nanos};
use crate::error::{Error, ErrorKind, Result};
use crate::freshness::{ProbeDoubt, Prober, Proofs, Reading, Returned};
use crate::message::{self, Decoded, Message, Operations};
use crate::stream::{Doubt, Reached, Streams, Verdict};
use crate::transport::{self, Event, Transport};

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1_000 * MS;
/// How soon after waking the link notices that the machine was suspended.
const SUSPENSION_CHECK: Nanos = 100 * MS;
/// Back-off between attempts at a connection: full jitter below a limit that doubles (AWS Architecture Blog,
/// "Exponential Backoff And Jitter", 2015).
const FIRST_BACKOFF: Nanos = 200 * MS;
const LAST_BACKOFF: Nanos = 30 * SECOND;
/// Never sooner than this, so that a broker that refuses at once is not asked in a hot loop.
const LEAST_BACKOFF: Nanos = 50 * MS;
/// A publication that the broker refused is sent again after this.
const RETRY_AFTER: Nanos = SECOND;
/// `hello` is repeated this often, and sent for unknown streams at most once a second.
const HELLO_EVERY: Nanos = 20 * 60 * SECOND;
const HELLO_AT_MOST: Nanos = SECOND;
/// Dead entries are looked for this often, and at once after a floor was raised; a part at a time.
const SWEEP_EVERY: Nanos = 60 * SECOND;
const SWEEP_MOST: usize = 10_000;
/// Brokers take at least this many filters in one SUBSCRIBE (AWS IoT Core's quota).
const FILTERS_PER_SUBSCRIBE: usize = 8;
/// How far `max_publish_rate` may be run ahead of.
const RATE_BURST: Nanos = SECOND / 10;
/// Each condition is logged at most this often.
const LOG_EVERY: Nanos = 60 * SECOND;

/// A cache as the link sees it.
struct Topic {
    target: Arc<dyn Target>,
    channel: Arc<Channel>,
    streams: Streams,
    proofs: Proofs,
    subscription: Subscription,
    /// Publications wait until then, after a refusal.
    held_until: Nanos,
    /// A heartbeat is wanted once the outbox is empty, at the start of a session.
    beat_when_empty: bool,
    hello_due: Option<Nanos>,
    last_hello: Option<Nanos>,
    swept_floor: Nanos,
    sweep_due: Nanos,
    waiting: Vec<Waiting>,
}

#[derive(Clone, PartialEq)]
enum Subscription {
    None,
    Asked,
    Granted,
    Refused(String),
}

/// Someone who waits for a number of another's stream.
struct Waiting {
    src: Arc<str>,
    seq: u64,
    reply: oneshot::Sender<bool>,
    deadline: Nanos,
}

/// Someone who waits for an acknowledgement.
struct Awaiting {
    channel: Arc<Channel>,
    seq: u64,
    reply: oneshot::Sender<bool>,
    deadline: Nanos,
}

/// What a publication was, by the number it was given.
enum Sent {
    Data { topic: usize, seq: u64 },
    Bye,
    Other,
}

enum Phase {
    /// Between connections; the next attempt is due then.
    Waiting(Nanos),
    /// An attempt is under way.
    Connecting,
    /// Connected; the answers to this many SUBSCRIBEs are missing.
    Subscribing(usize),
    /// Subscribed.
    Up,
}

struct Closing {
    deadline: Nanos,
    replies: Vec<oneshot::Sender<usize>>,
    /// Good-byes not yet acknowledged; none: still draining.
    byes: Option<usize>,
    disconnecting: bool,
}

struct Link {
    shared: Arc<Shared>,
    transport: Box<dyn Transport>,
    ready: Option<oneshot::Sender<Result<()>>>,
    ready_by: Nanos,
    phase: Phase,
    failures: u32,
    topics: Vec<Topic>,
    by_topic: HashMap<Arc<str>, usize>,
    probe_topic: String,
    prober: Prober,
    next_id: u64,
    sent: HashMap<u64, Sent>,
    subscribes: HashMap<u64, Vec<Arc<str>>>,
    alarms: Vec<(Nanos, oneshot::Sender<()>)>,
    awaiting: Vec<Awaiting>,
    closing: Option<Closing>,
    ended: bool,
    suspension_check: Nanos,
    suspended: Nanos,
    /// Theoretical arrival time of the publish rate (GCRA, ITU-T I.371).
    rate_at: Nanos,
    logged: HashMap<&'static str, Nanos>,
    reason: String,
}

pub(super) fn run(shared: Arc<Shared>, commands: UnboundedReceiver<Command>, ready: oneshot::Sender<Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = ready.send(Err(Error::internal(format!("no runtime could be made: {e}"))));
            return;
        }
    };
    runtime.block_on(async move {
        let (events, inbox) = unbounded_channel();
        match transport::open(&shared.config, &shared.client_id, events) {
            Ok(transport) => Link::new(shared, transport, ready).run(commands, inbox).await,
            Err(e) => drop(ready.send(Err(e))),
        }
    });
}

impl Link {
    fn new(shared: Arc<Shared>, transport: Box<dyn Transport>, ready: oneshot::Sender<Result<()>>) -> Self {
        let now = clock::now();
        let ready = if shared.config.lazy {
            let _ = ready.send(Ok(()));
            None
        } else {
            Some(ready)
        };
        Link {
            transport,
            ready,
            ready_by: now + shared.config.connect_timeout.as_nanos() as Nanos,
            phase: Phase::Waiting(now),
            failures: 0,
            topics: Vec::new(),
            by_topic: HashMap::new(),
            probe_topic: format!("{}/_probe/{}", shared.config.topic, shared.src),
            prober: Prober::new(&shared.bounds),
            next_id: 1,
            sent: HashMap::new(),
            subscribes: HashMap::new(),
            alarms: Vec::new(),
            awaiting: Vec::new(),
            closing: None,
            ended: false,
            suspension_check: now,
            suspended: clock::suspended(),
            rate_at: 0,
            logged: HashMap::new(),
            reason: "not connected yet".into(),
            shared,
        }
    }

    async fn run(mut self, mut commands: UnboundedReceiver<Command>, mut events: UnboundedReceiver<Event>) {
        let wake = self.shared.wake.clone();
        while !self.ended {
            self.tick(clock::now());
            let now = clock::now();
            let sleep = self.due(now).saturating_sub(now);
            tokio::select! {
                biased;
                Some(event) = events.recv() => {
                    self.event(event);
                    // What came with it is handled before anything is sent.
                    while let Ok(event) = events.try_recv() {
                        self.event(event);
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    // Every handle is gone, and with it whoever could wait.
                    None => self.ended = true,
                },
                () = wake.notified() => {}
                () = tokio::time::sleep(Duration::from_nanos(sleep)) => {}
            }
        }
        self.finish(commands);
    }

    /// The end: nobody is left waiting, nothing is left to serve.
    fn finish(mut self, mut commands: UnboundedReceiver<Command>) {
        let unsent = self.unsent();
        self.shared.left_unsent.store(unsent as u64, Ordering::Release);
        commands.close();
        while let Ok(command) = commands.try_recv() {
            self.command(command);
        }
        for topic in &self.topics {
            topic.target.freshness().raise_floor(Nanos::MAX);
        }
        self.set_state(LinkState::Closed, "closed by this client");
        for reply in self.closing.take().into_iter().flat_map(|c| c.replies) {
            let _ = reply.send(unsent);
        }
        // Dropping the rest of the waiters answers them.
    }

    // ---- commands ----

    fn command(&mut self, command: Command) {
        let now = clock::now();
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
            Command::Close { timeout, reply } => {
                let closing = self.closing.get_or_insert_with(|| Closing {
                    deadline: at(timeout),
                    replies: Vec::new(),
                    byes: None,
                    disconnecting: false,
                });
                closing.replies.extend(reply);
                for topic in &self.topics {
                    topic.target.freshness().raise_floor(Nanos::MAX);
                }
            }
        }
    }

    fn open(&mut self, target: Arc<dyn Target>, channel: Arc<Channel>, now: Nanos) {
        let bounds = &self.shared.bounds;
        self.by_topic.insert(channel.topic.clone(), self.topics.len());
        self.topics.push(Topic {
            target,
            streams: Streams::new(bounds.window, bounds.bound, self.shared.src.clone()),
            proofs: Proofs::default(),
            subscription: Subscription::None,
            held_until: 0,
            beat_when_empty: false,
            hello_due: None,
            last_hello: None,
            swept_floor: 0,
            sweep_due: now + SWEEP_EVERY,
            waiting: Vec::new(),
            channel,
        });
        if matches!(self.phase, Phase::Up) {
            self.subscribe(vec![self.topics.len() - 1], false);
        }
        self.refresh_state();
    }

    // ---- events ----

    fn event(&mut self, event: Event) {
        let now = clock::now();
        match event {
            Event::Connected => self.connected(),
            Event::Refused(error) => self.lost(error, now),
            Event::Lost(error) => self.lost(error, now),
            Event::Subscribed { id, results } => self.subscribed(id, results, now),
            Event::Published { id, result } => self.published(id, result, now),
            Event::Message { topic, payload, retained } => {
                if retained {
                    return;
                }
                if let Some(&i) = self.by_topic.get(&topic) {
                    self.received(i, &payload, now);
                } else if *topic == *self.probe_topic {
                    self.probed(&payload, now);
                }
            }
        }
    }

    fn connected(&mut self) {
        self.shared.state.lock().connects += 1;
        self.reason = "waiting for the first probe to return".into();
        self.phase = Phase::Subscribing(0);
        self.subscribe((0..self.topics.len()).collect(), true);
    }

    fn subscribe(&mut self, topics: Vec<usize>, with_probe: bool) {
        let mut names: Vec<Arc<str>> = Vec::new();
        if with_probe {
            names.push(self.probe_topic.as_str().into());
        }
        for i in topics {
            self.topics[i].subscription = Subscription::Asked;
            names.push(self.topics[i].channel.topic.clone());
        }
        for part in names.chunks(FILTERS_PER_SUBSCRIBE) {
            let id = self.id();
            self.subscribes.insert(id, part.to_vec());
            self.transport.subscribe(id, &part.iter().map(|t| t.to_string()).collect::<Vec<_>>());
            if let Phase::Subscribing(missing) = &mut self.phase {
                *missing += 1;
            }
        }
    }

    fn subscribed(&mut self, id: u64, results: Vec<Result<()>>, now: Nanos) {
        let Some(names) = self.subscribes.remove(&id) else { return };
        let next_probe = self.prober.next_counter();
        for (name, result) in names.iter().zip(results) {
            let Some(&i) = self.by_topic.get(name) else {
                // Without probes nothing can be proved: entries are served by age until the next connection.
                if let Err(error) = result {
                    self.refused_topic(name, &error, now);
                }
                continue;
            };
            match result {
                Ok(()) => {
                    let topic = &mut self.topics[i];
                    topic.subscription = Subscription::Granted;
                    topic.proofs.subscribed(next_probe);
                    topic.hello_due = Some(now);
                    topic.beat_when_empty = true;
                }
                Err(error) => {
                    self.topics[i].subscription = Subscription::Refused(error.message().to_owned());
                    self.refused_topic(name, &error, now);
                }
            }
        }
        match &mut self.phase {
            Phase::Subscribing(missing) if *missing > 1 => *missing -= 1,
            Phase::Subscribing(_) => {
                self.phase = Phase::Up;
                self.prober.connected(now);
            }
            _ => self.prober.hasten(now),
        }
        self.refresh_state();
    }

    fn refused_topic(&mut self, name: &str, error: &Error, now: Nanos) {
        self.reason = format!("the broker does not let this client subscribe to {name}: {error}");
        if self.may_log("subscription refused", now) {
            tracing::warn!(target: "unstale", "{}", self.reason);
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(Error::new(ErrorKind::Auth, self.reason.clone())));
        }
    }

    fn lost(&mut self, error: Error, now: Nanos) {
        let was_up = matches!(self.phase, Phase::Up);
        self.prober.disconnected();
        self.sent.clear();
        self.subscribes.clear();
        for topic in &mut self.topics {
            topic.subscription = Subscription::None;
            topic.proofs.disconnected();
            topic.streams.new_connection();
            topic.channel.outbox.lock().disconnected();
            topic.hello_due = None;
        }
        if let Some(closing) = &mut self.closing {
            if closing.disconnecting || closing.byes.is_some() {
                self.ended = true;
                return;
            }
        }
        if let Some(ready) = self.ready.take() {
            let _ = ready.send(Err(error.clone()));
        }
        self.failures = if was_up { 0 } else { self.failures.saturating_add(1) };
        let limit = (FIRST_BACKOFF << self.failures.min(16)).min(LAST_BACKOFF);
        self.phase = Phase::Waiting(now + LEAST_BACKOFF + random(now) % limit);
        self.reason = error.message().to_owned();
        if self.may_log("not connected", now) {
            tracing::warn!(target: "unstale", "not connected: {error}; entries are served by their age until it is back");
        }
        self.refresh_state();
    }

    fn published(&mut self, id: u64, result: Result<()>, now: Nanos) {
        match (self.sent.remove(&id), result) {
            (Some(Sent::Data { topic, seq }), Ok(())) => {
                let channel = &self.topics[topic].channel;
                let mut outbox = channel.outbox.lock();
                outbox.acked(seq, now);
                channel.acked.store(outbox.acked_up_to(), Ordering::Release);
                drop(outbox);
                self.settle_awaiting(now);
            }
            (Some(Sent::Data { topic, seq }), Err(error)) => {
                let topic = &mut self.topics[topic];
                topic.channel.outbox.lock().failed(seq);
                topic.held_until = now + RETRY_AFTER;
                if self.may_log("publication refused", now) {
                    tracing::warn!(target: "unstale", "an invalidation was refused and is sent again: {error}");
                }
            }
            (Some(Sent::Bye), _) => {
                if let Some(byes) = self.closing.as_mut().and_then(|c| c.byes.as_mut()) {
                    *byes = byes.saturating_sub(1);
                }
            }
            // A probe or heartbeat that was refused is not sent again: the next one is.
            (Some(Sent::Other) | None, _) => {}
        }
    }

    fn received(&mut self, i: usize, payload: &[u8], now: Nanos) {
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
                    return;
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

    fn probed(&mut self, payload: &[u8], now: Nanos) {
        let counter = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
        let Some(returned) = counter.and_then(|counter| self.prober.returned(counter)) else { return };
        self.failures = 0;
        for topic in &mut self.topics {
            topic.probed(returned, &self.shared, now);
        }
        if let Some(ready) = self.ready.take() {
            if ready.send(Ok(())).is_err() {
                // Whoever connected gave up; dropping the client closes.
                tracing::debug!(target: "unstale", "nobody waits for this connection any more");
            }
        }
        self.refresh_state();
    }

    // ---- time ----

    fn due(&self, now: Nanos) -> Nanos {
        let mut due = self.suspension_check;
        let mut at = |t: Option<Nanos>| due = due.min(t.unwrap_or(Nanos::MAX));
        if let Phase::Waiting(retry) = self.phase {
            at(Some(retry));
        }
        at(self.ready.as_ref().map(|_| self.ready_by));
        at(self.prober.due());
        at(self.closing.as_ref().map(|c| c.deadline));
        at(self.alarms.iter().map(|(t, _)| *t).min());
        at(self.awaiting.iter().map(|a| a.deadline).min());
        let up = matches!(self.phase, Phase::Up);
        let rate = self.rate_gap().map(|_| self.rate_at.saturating_sub(RATE_BURST));
        for topic in &self.topics {
            at(topic.streams.due());
            at(topic.waiting.iter().map(|w| w.deadline).min());
            // What cannot be sent yet is not due: an answer of the broker comes first.
            if up && topic.subscription == Subscription::Granted {
                at(topic.hello_due);
                let outbox = topic.channel.outbox.lock();
                at(outbox.due());
                if outbox.pending() > 0 {
                    at((topic.held_until > 0).then_some(topic.held_until));
                    at(rate.filter(|at| *at > now));
                }
            }
        }
        due
    }

    fn tick(&mut self, now: Nanos) {
        if now >= self.suspension_check {
            self.suspension_check = now + SUSPENSION_CHECK;
            let suspended = clock::suspended();
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
            if now >= retry && self.closing.as_ref().is_none_or(|c| now < c.deadline) {
                self.phase = Phase::Connecting;
                self.transport.connect();
            }
        }
        for topic in &mut self.topics {
            topic.poll_streams(now);
            topic.settle_waiting(now);
        }
        self.settle_awaiting(now);
        self.alarms.retain(|(at, _)| *at > now);
        if matches!(self.phase, Phase::Up) {
            self.send(now);
        }
        self.close_step(now);
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
            let id = self.publish_id(Sent::Other);
            self.transport.publish(id, &self.probe_topic, counter.to_string().into_bytes());
        }
        for i in 0..self.topics.len() {
            if self.topics[i].subscription == Subscription::Granted {
                self.send_topic(i, now);
            }
        }
    }

    fn send_topic(&mut self, i: usize, now: Nanos) {
        let topic = &mut self.topics[i];
        let name = topic.channel.topic.clone();
        if topic.hello_due.is_some_and(|due| now >= due) {
            topic.hello_due = Some(now + HELLO_EVERY);
            topic.last_hello = Some(now);
            let hello = Message {
                hello: true,
                bound_ms: Some(self.shared.bounds.bound / MS),
                src: Some(self.shared.src.clone()),
                ..Message::default()
            };
            self.publish(Sent::Other, &name, message::encode(&hello));
        }
        let channel = self.topics[i].channel.clone();
        let beat = channel.outbox.lock().poll(now);
        if beat {
            self.heartbeat(&channel);
        }
        if self.topics[i].held_until <= now && self.may_send(now) {
            self.topics[i].held_until = 0;
            let next = channel.outbox.lock().next();
            if let Some((seq, payload)) = next {
                self.publish(Sent::Data { topic: i, seq }, &name, payload);
                if let Some(gap) = self.rate_gap() {
                    self.rate_at = self.rate_at.max(now) + gap;
                }
            }
        }
        if self.topics[i].beat_when_empty && channel.outbox.lock().pending() == 0 {
            self.topics[i].beat_when_empty = false;
            self.heartbeat(&channel);
        }
    }

    fn heartbeat(&mut self, channel: &Channel) {
        let payload = channel.outbox.lock().heartbeat();
        if let Some(payload) = payload {
            self.publish(Sent::Other, &channel.topic, payload);
        }
    }

    /// Nanoseconds between two publications at `max_publish_rate`.
    fn rate_gap(&self) -> Option<Nanos> {
        self.shared.config.max_publish_rate.map(|rate| SECOND / Nanos::from(rate))
    }

    fn may_send(&self, now: Nanos) -> bool {
        self.rate_gap().is_none() || self.rate_at <= now + RATE_BURST
    }

    fn publish(&mut self, what: Sent, topic: &str, payload: Vec<u8>) {
        let id = self.publish_id(what);
        self.transport.publish(id, topic, payload);
    }

    fn publish_id(&mut self, what: Sent) -> u64 {
        let id = self.id();
        self.sent.insert(id, what);
        id
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    // ---- closing ----

    fn unsent(&self) -> usize {
        self.topics.iter().map(|t| t.channel.outbox.lock().pending()).sum()
    }

    /// Drain, good-byes, DISCONNECT; at the deadline the rest is skipped.
    fn close_step(&mut self, now: Nanos) {
        let Some(closing) = &self.closing else { return };
        if now >= closing.deadline {
            self.ended = true;
            return;
        }
        let (byes, disconnecting, left) = (closing.byes, closing.disconnecting, closing.deadline - now);
        if disconnecting {
            return;
        }
        let up = matches!(self.phase, Phase::Up);
        match byes {
            None if self.unsent() == 0 => {
                let byes = if up { self.say_bye() } else { 0 };
                self.set_byes(byes);
            }
            None => return,
            Some(_) => {}
        }
        if self.closing.as_ref().is_some_and(|c| c.byes == Some(0)) {
            let connected = matches!(self.phase, Phase::Up | Phase::Subscribing(_) | Phase::Connecting);
            if connected {
                self.transport.disconnect(Duration::from_nanos(left));
                if let Some(closing) = &mut self.closing {
                    closing.disconnecting = true;
                }
            } else {
                self.ended = true;
            }
        }
    }

    fn say_bye(&mut self) -> usize {
        let byes: Vec<_> = (self.topics.iter())
            .filter(|t| t.subscription == Subscription::Granted)
            .filter_map(|t| Some((t.channel.topic.clone(), t.channel.outbox.lock().bye()?)))
            .collect();
        let count = byes.len();
        for (topic, payload) in byes {
            self.publish(Sent::Bye, &topic, payload);
        }
        count
    }

    fn set_byes(&mut self, byes: usize) {
        if let Some(closing) = &mut self.closing {
            closing.byes = Some(byes);
        }
    }

    // ---- state ----

    fn settle_awaiting(&mut self, now: Nanos) {
        let mut i = 0;
        while i < self.awaiting.len() {
            let a = &self.awaiting[i];
            let acked = a.channel.acked() >= a.seq;
            if acked || now >= a.deadline {
                let a = self.awaiting.swap_remove(i);
                let _ = a.reply.send(acked);
            } else {
                i += 1;
            }
        }
    }

    fn refresh_state(&mut self) {
        let refused = self.topics.iter().find_map(|t| match &t.subscription {
            Subscription::Refused(why) => Some(why.clone()),
            _ => None,
        });
        let proved = self.topics.iter().filter(|t| t.proofs.is_proved()).count();
        let up = matches!(self.phase, Phase::Up);
        if up && proved == self.topics.len() && self.ready.is_none() {
            return self.set_state(LinkState::Live, "");
        }
        let reason = match refused {
            Some(why) => why,
            None if up => format!("{} of {} caches proved fresh", proved, self.topics.len()),
            None => self.reason.clone(),
        };
        let never = self.shared.state.lock().connects == 0;
        self.set_state(if never { LinkState::Connecting } else { LinkState::Degraded }, &reason);
    }

    fn set_state(&mut self, link: LinkState, reason: &str) {
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

impl Topic {
    /// Apply first, in any order; then observe the number.
    fn received(&mut self, message: &Message, now: Nanos) {
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
        }
        if let Some(doubt) = verdict.doubt {
            self.doubt(doubt.name());
        }
        if verdict.unknown_stream {
            let soonest = self.last_hello.map_or(now, |last| now.max(last + HELLO_AT_MOST));
            self.hello_due = Some(self.hello_due.map_or(soonest, |due| due.min(soonest)));
        }
        self.target.tell_remote(&message.ops, message.src.as_ref(), message.stamp.as_ref().map(|s| s.seq));
        self.settle_waiting(now);
    }

    fn poll_streams(&mut self, now: Nanos) {
        for doubt in self.streams.poll(now) {
            self.doubt(doubt.name());
        }
    }

    fn probed(&mut self, returned: Returned, shared: &Shared, now: Nanos) {
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

    fn doubt(&mut self, reason: &'static str) {
        self.target.freshness().doubt();
        self.target.counters().doubt(reason);
    }

    /// Answers those whose number was applied, or is known to have passed by: then nothing loaded before now is served.
    fn settle_waiting(&mut self, now: Nanos) {
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
            if reached || now >= w.deadline {
                let w = self.waiting.swap_remove(i);
                let _ = w.reply.send(reached);
            } else {
                i += 1;
            }
        }
    }
}

/// Spread for back-off; splitmix64 of the clock is enough, since it only has to differ between clients.
fn random(seed: u64) -> u64 {
    let mut z = seed ^ u64::from(std::process::id()) << 32;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
