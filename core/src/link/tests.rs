//! The link's rules with a broker of the test's own and a clock that the test turns: silence, refusals, the end, a flood.

mod aws;
mod signed;

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::error::ErrorKind;
use crate::fill::{Fill, Lifetime, Start, Terms};
use crate::store::{Lookup, Store};
use crate::transport::Transport;

const MS: Nanos = 1_000_000;
const S: Nanos = 1_000 * MS;
const B: Nanos = 16 * S;
const G: Nanos = 11 * S;

/// A cache as the link sees it.
struct Held {
    fill: Fill<u64>,
    freshness: Arc<Freshness>,
    counters: Counters,
}

impl Target for Held {
    fn apply(&self, operations: &Operations, now: Nanos) {
        self.fill.apply(operations, now);
    }
    fn tell_remote(&self, _: &Operations, _: Option<&Arc<str>>, _: Option<u64>) {}
    fn clear(&self, now: Nanos) {
        self.fill.clear(now);
    }
    fn freshness(&self) -> &Freshness {
        &self.freshness
    }
    fn counters(&self) -> &Counters {
        &self.counters
    }
    fn sweep(&self, now: Nanos, most: usize) {
        self.fill.sweep(now, most);
    }
}

impl Held {
    fn new(shared: &Shared) -> Arc<Held> {
        let freshness = Arc::new(Freshness::new(shared.bounds));
        let lifetime = Lifetime { ttl: Duration::from_secs(86_400), negative_ttl: None, jitter: 0.0 };
        Arc::new(Held {
            fill: Fill::new(Store::new(100, freshness.clone()), lifetime, Duration::from_secs(300)),
            freshness,
            counters: Counters::default(),
        })
    }

    fn has(&self, key: &str, now: Nanos) -> bool {
        matches!(self.fill.store().get(key, || now), Lookup::Hit(_))
    }

    fn loads(&self, key: &str, now: Nanos) -> bool {
        match self.fill.begin(key, None, || now) {
            Start::Lead(ticket, _) => self.fill.finish(&ticket, Some(1), &Terms::default(), now),
            _ => false,
        }
    }

    fn doubts(&self, reason: &str) -> u64 {
        self.counters.doubts.lock().get(reason).copied().unwrap_or(0)
    }
}

enum Request {
    Connect,
    Subscribe(u64, Vec<String>),
    Publish(u64, String, Vec<u8>),
    Disconnect,
}

struct Requests(Arc<Mutex<Vec<Request>>>);

impl Transport for Requests {
    fn connect(&mut self) {
        self.0.lock().push(Request::Connect);
    }
    fn subscribe(&mut self, id: u64, topics: &[String]) {
        self.0.lock().push(Request::Subscribe(id, topics.to_vec()));
    }
    fn unsubscribe(&mut self, _: &[String]) {}
    fn publish(&mut self, id: u64, topic: &str, payload: Vec<u8>) {
        self.0.lock().push(Request::Publish(id, topic.to_owned(), payload));
    }
    fn disconnect(&mut self, _: Duration) {
        self.0.lock().push(Request::Disconnect);
    }
}

#[derive(Clone)]
enum Broker {
    Healthy,
    /// Acknowledges probes and does not deliver them.
    DropsProbes,
    /// Grants the subscription to the data topic, and delivers nothing on it.
    Deaf,
    /// Lets the client publish and not subscribe.
    DeniesSubscriptions,
    Refuses(Error),
    /// Lets the client in, and ends the connection at its first publication.
    PushesOut(Error),
    /// Refuses the subscription to this topic, and ends the connection over it; with a word or without.
    DeniesTopic(&'static str, bool),
    /// Lets the client in, and ends the connection when it subscribes.
    HangsUpOnSubscribe,
    /// Neither acknowledges nor routes so many data messages.
    Drops(usize),
    /// Takes publications and answers none.
    AnswersNoPublication,
    /// Ends the connection over a publication to this topic; with a word, by PUBACK and DISCONNECT, or without.
    Forbids(&'static str, bool),
    /// Answers no SUBSCRIBE.
    Mute,
}

struct Rig {
    session: Session,
    shared: Arc<Shared>,
    commands: UnboundedReceiver<Command>,
    requests: Arc<Mutex<Vec<Request>>>,
    cache: Arc<Held>,
    channel: Arc<Channel>,
    broker: Broker,
    now: Nanos,
    connects: Vec<Nanos>,
    byes: Vec<Nanos>,
    hellos: Vec<Nanos>,
    /// All publications: when, and what.
    published: Vec<(Nanos, String)>,
    /// The same: where, and the bytes.
    payloads: Vec<(String, Vec<u8>)>,
    /// Turns of the loop.
    turns: usize,
    disconnected: bool,
}

impl Rig {
    fn new(broker: Broker) -> Rig {
        Rig::at("memory://", broker)
    }

    fn at(url: &str, broker: Broker) -> Rig {
        Rig::configured(broker, ClientConfig { url: url.into(), ..ClientConfig::default() })
    }

    fn configured(broker: Broker, config: ClientConfig) -> Rig {
        let config = ClientConfig { staleness_bound: Duration::from_nanos(B), lazy: true, ..config };
        let (shared, commands) = Shared::new(config, "me").unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let now = 1_000 * S;
        let mut session =
            Session::new(shared.clone(), Box::new(Requests(requests.clone())), oneshot::channel().0, now, 0);
        let cache = Held::new(&shared);
        let channel = Arc::new(Channel::new(&shared, "n"));
        session.command(Command::Open { target: cache.clone(), channel: channel.clone() }, now);
        Rig {
            session,
            shared,
            commands,
            requests,
            cache,
            channel,
            broker,
            now,
            connects: Vec::new(),
            byes: Vec::new(),
            hellos: Vec::new(),
            published: Vec::new(),
            payloads: Vec::new(),
            turns: 0,
            disconnected: false,
        }
    }

    /// Opens one more cache.
    fn open(&mut self, namespace: &str) -> Arc<Channel> {
        let channel = Arc::new(Channel::new(&self.shared, namespace));
        let command = Command::Open { target: Held::new(&self.shared), channel: channel.clone() };
        self.session.command(command, self.now);
        channel
    }

    fn run(&mut self, time: Nanos) {
        let end = self.now + time;
        while !self.session.ended() {
            self.session.tick(self.now, || 0);
            self.turns += 1;
            if self.answer() {
                continue;
            }
            let due = self.session.due(self.now).max(self.now + 1);
            if due > end {
                break;
            }
            self.now = due;
        }
        self.now = end;
    }

    /// Answers what was asked so far; whether anything was.
    fn answer(&mut self) -> bool {
        let requests = std::mem::take(&mut *self.requests.lock());
        let asked = !requests.is_empty();
        for request in requests {
            match (request, self.broker.clone()) {
                (Request::Connect, broker) => {
                    self.connects.push(self.now);
                    match broker {
                        Broker::Refuses(why) => self.event(Event::Refused(why)),
                        _ => self.event(Event::Connected),
                    }
                }
                (Request::Subscribe(id, topics), Broker::DeniesSubscriptions) => {
                    let denied = |_| Err(Error::new(ErrorKind::Auth, "denied"));
                    self.event(Event::Subscribed { id, results: topics.iter().map(denied).collect() });
                }
                (Request::Subscribe(id, topics), Broker::DeniesTopic(denied, says))
                    if topics.iter().any(|t| t == denied) =>
                {
                    let answer =
                        |t: &String| if t == denied { Err(Error::new(ErrorKind::Auth, "denied")) } else { Ok(()) };
                    self.event(Event::Subscribed { id, results: topics.iter().map(answer).collect() });
                    let kind = if says { ErrorKind::Auth } else { ErrorKind::Connect };
                    self.event(Event::Lost(Error::new(kind, "the connection was lost")));
                    return true;
                }
                (Request::Subscribe(..), Broker::HangsUpOnSubscribe) => {
                    self.event(Event::Lost(Error::new(ErrorKind::Connect, "the connection was lost")));
                    return true;
                }
                (Request::Subscribe(..), Broker::Mute) => {}
                (Request::Subscribe(id, topics), _) => {
                    self.event(Event::Subscribed { id, results: vec![Ok(()); topics.len()] })
                }
                (Request::Publish(..), Broker::PushesOut(why)) => {
                    // Nothing is answered after it.
                    self.event(Event::Lost(why));
                    return true;
                }
                (Request::Publish(..), Broker::AnswersNoPublication) => {}
                (Request::Publish(id, topic, _), Broker::Forbids(forbidden, says)) if topic == forbidden => {
                    let kind = if says { ErrorKind::Auth } else { ErrorKind::Connect };
                    if says {
                        self.event(Event::Published { id, result: Err(Error::new(kind, "not authorized")) });
                    }
                    self.event(Event::Lost(Error::new(kind, "the connection was lost")));
                    return true;
                }
                (Request::Publish(_, topic, payload), Broker::Drops(left @ 1..)) if !topic.contains("_probe") => {
                    self.published.push((self.now, String::from_utf8(payload).unwrap()));
                    self.broker = Broker::Drops(left - 1);
                }
                (Request::Publish(id, topic, payload), broker) => {
                    self.published.push((self.now, String::from_utf8_lossy(&payload).into_owned()));
                    self.payloads.push((topic.clone(), payload.clone()));
                    if std::str::from_utf8(&payload).is_ok_and(|text| text.contains("\"bye\":true")) {
                        self.byes.push(self.now);
                    }
                    if std::str::from_utf8(&payload).is_ok_and(|text| text.contains("\"hello\":true")) {
                        self.hellos.push(self.now);
                    }
                    self.event(Event::Published { id, result: Ok(()) });
                    let delivered = match broker {
                        Broker::DropsProbes => !topic.contains("_probe"),
                        Broker::Deaf => topic.contains("_probe"),
                        _ => true,
                    };
                    if delivered {
                        self.event(Event::Message { topic: topic.into(), payload, retained: false, qos: 1 });
                    }
                }
                (Request::Disconnect, _) => {
                    self.disconnected = true;
                    self.event(Event::Lost(Error::new(ErrorKind::Connect, "ended by this client")));
                    return true;
                }
            }
        }
        asked
    }

    fn event(&mut self, event: Event) {
        self.session.event(event, self.now);
    }

    fn state(&self) -> LinkState {
        self.shared.status().state
    }

    fn gaps(&self) -> Vec<Nanos> {
        self.connects.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

#[test]
fn live_lasts_as_long_as_the_newest_proof_and_hits_and_fills_go_on_without_it() {
    let mut rig = Rig::new(Broker::Healthy);
    rig.run(20 * S);
    assert_eq!(rig.state(), LinkState::Live);
    let cache = rig.cache.clone();
    assert!(cache.loads("old", rig.now));
    rig.broker = Broker::DropsProbes;
    let end = cache.freshness.fresh() + G;
    rig.run(end - rig.now);
    assert_eq!(rig.state(), LinkState::Live, "the proof still counts");
    rig.run(2);
    let status = rig.shared.status();
    assert_eq!(status.state, LinkState::Degraded);
    assert!(status.reason.contains("no probe has come back for 11000 ms"), "{}", status.reason);
    assert!(cache.has("old", rig.now), "by its age");
    assert!(cache.loads("new", rig.now) && cache.has("new", rig.now));
    let epoch = cache.freshness.epoch();
    rig.run(B - 100 * MS);
    assert!(!cache.has("old", rig.now) && cache.has("new", rig.now));
    rig.broker = Broker::Healthy;
    rig.run(4 * S);
    assert_eq!((rig.state(), rig.connects.len()), (LinkState::Live, 1), "the same connection proves again");
    assert_eq!((cache.doubts("late_probe"), cache.freshness.epoch()), (1, epoch + 1));
}

#[test]
fn a_client_that_is_pushed_out_waits_a_second_at_least_and_longer_each_time() {
    let why = Error::config("another client connected with the client id \"x\"");
    let mut rig = Rig::new(Broker::PushesOut(why));
    let cache = rig.cache.clone();
    rig.run(10 * S);
    assert!(rig.connects.len() < 10, "{} connections in 10 s", rig.connects.len());
    assert!(cache.loads("k", rig.now));
    rig.run(B - S);
    let status = rig.shared.status();
    assert_eq!(status.state, LinkState::Degraded);
    assert!(status.reason.contains("client id \"x\""), "{}", status.reason);
    assert!(cache.has("k", rig.now), "by its age");
    rig.run(3_600 * S);
    let gaps = rig.gaps();
    assert!(gaps.iter().all(|gap| (S..=31 * S).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap > 25 * S), "it grows: {gaps:?}");
    rig.broker = Broker::Healthy;
    rig.run(31 * S);
    assert_eq!(rig.state(), LinkState::Live, "the other one is gone");
}

#[test]
fn refusals_never_become_a_hot_loop() {
    for (kind, least) in [(ErrorKind::Connect, 50 * MS), (ErrorKind::Timeout, 50 * MS), (ErrorKind::Auth, S)] {
        let mut rig = Rig::new(Broker::Refuses(Error::new(kind, "no")));
        rig.run(60 * S);
        assert!(rig.connects.len() <= 20, "{kind:?}: {} attempts in the first minute", rig.connects.len());
        rig.run(3_540 * S);
        let most = if kind == ErrorKind::Auth { 400 } else { 1_200 };
        assert!((3_600 / 31..=most).contains(&rig.connects.len()), "{kind:?}: {} in an hour", rig.connects.len());
        assert!(rig.gaps().iter().all(|gap| (least..=31 * S).contains(gap)), "{kind:?}: {:?}", rig.gaps());
    }
}

#[test]
fn a_suspension_is_doubt_once_within_a_tenth_of_a_second_of_waking() {
    let mut rig = Rig::new(Broker::Healthy);
    rig.run(20 * S);
    let (cache, epoch) = (rig.cache.clone(), rig.cache.freshness.epoch());
    assert!(cache.loads("k", rig.now));
    let asleep = 3 * S;
    rig.now += asleep;
    let woke = rig.now;
    while cache.doubts("suspended") == 0 && rig.now <= woke + 100 * MS {
        rig.session.tick(rig.now, || asleep);
        rig.now += MS;
    }
    assert_eq!((cache.doubts("suspended"), cache.freshness.epoch()), (1, epoch + 1));
    assert!(cache.has("k", rig.now), "by its age");
    rig.now += S;
    rig.session.tick(rig.now, || asleep);
    assert_eq!(cache.doubts("suspended"), 1, "of the same sleep");
}

#[test]
fn bye_is_said_once_more_after_a_quarter_of_the_bound() {
    let mut rig = Rig::new(Broker::Healthy);
    rig.run(S);
    rig.channel.push(Operations { all: true, ..Operations::default() });
    rig.run(S);
    let (reply, mut left) = oneshot::channel();
    rig.session.command(Command::Close { timeout: Duration::from_secs(5), reply: Some(reply) }, rig.now);
    let closed = rig.now;
    rig.run(MS);
    assert_eq!((rig.byes.as_slice(), left.try_recv()), ([closed].as_slice(), Ok(0)), "whoever closed is told now");
    rig.run(B / 4 - 2 * MS);
    assert!(rig.byes.len() == 1 && !rig.disconnected);
    rig.run(2 * MS);
    assert_eq!(rig.byes.len(), 2);
    assert!(rig.byes[1] - closed >= B / 4 && rig.disconnected);
}

#[test]
fn a_flood_of_messages_does_not_keep_the_link_from_closing() {
    const FLOOD: u64 = 10 * EVENTS_AT_ONCE as u64;
    let rig = Rig::new(Broker::Healthy);
    let (cache, topic) = (rig.cache.clone(), rig.channel.topic.clone());
    let (events, inbox) = unbounded_channel();
    for _ in 0..FLOOD {
        let message = Event::Message { topic: topic.clone(), payload: b"key".to_vec(), retained: false, qos: 1 };
        assert!(events.send(message).is_ok());
    }
    let (reply, answer) = oneshot::channel();
    rig.shared.command(Command::Close { timeout: Duration::ZERO, reply: Some(reply) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(turn(rig.session, &Notify::new(), rig.commands, inbox));
    assert_eq!(answer.blocking_recv(), Ok(0));
    assert!((1..FLOOD).contains(&cache.counters.plain.sum()), "{} were handled first", cache.counters.plain.sum());
}

#[test]
fn every_listener_hears_of_an_event_whichever_of_them_panics() {
    let listeners = Listeners::<u64>::new(Arc::default());
    let heard = Arc::new(AtomicU64::new(0));
    listeners.add(Box::new(|_| std::panic::resume_unwind(Box::new("on purpose"))));
    let sum = heard.clone();
    listeners.add(Box::new(move |n| {
        sum.fetch_add(*n, Ordering::Relaxed);
    }));
    (0..100).for_each(|_| listeners.tell(|| 1));
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while heard.load(Ordering::Relaxed) < 100 {
        assert!(std::time::Instant::now() < end, "{heard:?} of 100");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_cache_opened_while_the_session_begins_is_subscribed_too() {
    let mut rig = Rig::new(Broker::Healthy);
    rig.session.tick(rig.now, || 0);
    // Connected, and the first SUBSCRIBE is on its way.
    rig.answer();
    let late = Arc::new(Channel::new(&rig.shared, "late"));
    rig.session.command(Command::Open { target: rig.cache.clone(), channel: late.clone() }, rig.now);
    late.push(Operations { all: true, ..Operations::default() });
    rig.run(S);
    assert_eq!((late.acked(), rig.state()), (1, LinkState::Live));
}

#[test]
fn who_may_publish_and_not_subscribe_publishes() {
    let mut rig = Rig::new(Broker::DeniesSubscriptions);
    rig.channel.push(Operations { all: true, ..Operations::default() });
    rig.run(S);
    assert_eq!((rig.channel.acked(), rig.state()), (1, LinkState::Degraded));
}

#[test]
fn what_is_invalidated_while_bye_is_said_is_sent_and_followed_by_another() {
    let mut rig = Rig::new(Broker::Healthy);
    let all = || Operations { all: true, ..Operations::default() };
    rig.channel.push(all());
    rig.run(S);
    let (reply, mut left) = oneshot::channel();
    rig.session.command(Command::Close { timeout: Duration::from_secs(5), reply: Some(reply) }, rig.now);
    rig.session.tick(rig.now, || 0);
    rig.channel.push(all());
    rig.run(MS);
    assert_eq!((rig.channel.acked(), left.try_recv()), (2, Ok(0)));
    rig.run(B);
    assert!(rig.byes.len() == 2 && rig.disconnected, "the last `bye` comes after it");
}

#[test]
fn a_newcomer_of_a_larger_bound_is_told_the_smaller_one_unless_somebody_else_does() {
    let hello = |bound: u64| format!(r#"{{"v":1,"src":"new","hello":true,"bound":{bound}}}"#).into_bytes();
    let hears = |rig: &mut Rig, bound: u64| {
        let message =
            Event::Message { topic: rig.channel.topic.clone(), payload: hello(bound), retained: false, qos: 1 };
        rig.event(message);
    };
    let mut rig = Rig::new(Broker::Healthy);
    rig.run(5 * S);
    let before = rig.hellos.len();
    hears(&mut rig, 60_000);
    rig.run(B / 32);
    assert_eq!(rig.hellos.len(), before + 1);
    rig.run(5 * S);
    hears(&mut rig, 60_000);
    hears(&mut rig, 1_000);
    rig.run(5 * S);
    assert_eq!(rig.hellos.len(), before + 1);
}

#[test]
fn a_client_that_does_not_hear_itself_proves_nothing_and_says_so() {
    let mut rig = Rig::new(Broker::Deaf);
    rig.run(3 * B);
    assert_eq!(rig.state(), LinkState::Degraded);
    let reason = rig.shared.status().reason;
    assert!(reason.contains("does not hear itself on cache/invalidate/n"), "{reason}");
    assert_eq!(rig.cache.freshness.fresh(), 0, "probes come back, and count for nothing");
    assert!((10..20).contains(&rig.hellos.len()), "{} hellos: one each fifth of the bound", rig.hellos.len());
    rig.broker = Broker::Healthy;
    rig.run(B / 4);
    assert_eq!(rig.state(), LinkState::Live);
}

#[test]
fn who_never_hears_itself_asks_less_and_less_and_is_live_a_minute_after_it_does() {
    let mut rig = Rig::new(Broker::Deaf);
    rig.run(3_600 * S);
    assert!((60..100).contains(&rig.hellos.len()), "{} hellos in an hour", rig.hellos.len());
    rig.broker = Broker::Healthy;
    rig.run(61 * S);
    assert_eq!((rig.state(), rig.connects.len()), (LinkState::Live, 1));
}

#[test]
fn a_connection_that_does_not_answer_a_subscription_is_given_up() {
    let mut rig = Rig::new(Broker::Mute);
    rig.run(5 * S - MS);
    assert!(rig.connects.len() == 1 && !rig.disconnected, "`connect_timeout` is not over");
    rig.run(2 * MS);
    let reason = rig.shared.status().reason;
    assert!(reason.contains("did not answer the subscription to cache/invalidate/_probe/me, cache/inv"), "{reason}");
    rig.run(60 * S);
    assert!((4..13).contains(&rig.connects.len()), "{} attempts in a minute", rig.connects.len());
    rig.broker = Broker::Healthy;
    rig.run(40 * S);
    assert_eq!(rig.state(), LinkState::Live);
    // The same for a cache opened later, whose invalidations would wait for ever.
    rig.broker = Broker::Mute;
    let late = rig.open("late");
    late.push(Operations { all: true, ..Operations::default() });
    rig.run(4 * S);
    rig.broker = Broker::Healthy;
    assert_eq!(late.acked(), 0);
    rig.run(2 * S);
    assert_eq!((late.acked(), rig.state()), (1, LinkState::Live));
}

#[test]
fn a_cache_that_is_opened_while_the_client_closes_serves_nothing() {
    let mut rig = Rig::new(Broker::Healthy);
    rig.run(S);
    rig.session.command(Command::Close { timeout: Duration::from_secs(5), reply: None }, rig.now);
    let late = Held::new(&rig.shared);
    assert!(late.loads("k", rig.now) && late.has("k", rig.now));
    let channel = Arc::new(Channel::new(&rig.shared, "late"));
    rig.session.command(Command::Open { target: late.clone(), channel }, rig.now);
    assert!(!late.has("k", rig.now));
    rig.run(B);
    assert!(rig.session.ended());
}

#[test]
fn what_waits_is_counted_while_the_broker_is_away() {
    let mut rig = Rig::new(Broker::Refuses(Error::new(ErrorKind::Connect, "no")));
    rig.run(600 * S);
    let retry = rig.session.due(rig.now);
    rig.channel.push(Operations { all: true, ..Operations::default() });
    rig.session.tick(rig.now, || 0);
    assert!(rig.now < retry);
    assert_eq!(rig.shared.status().unsent, 1);
}

#[test]
fn a_broker_that_is_back_is_found_within_half_a_bound() {
    let mut rig = Rig::new(Broker::Refuses(Error::new(ErrorKind::Connect, "no")));
    rig.run(3_600 * S);
    rig.broker = Broker::Healthy;
    rig.run(B / 2 + S);
    assert_eq!(rig.state(), LinkState::Live);
}
