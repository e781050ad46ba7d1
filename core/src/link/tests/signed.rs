//! With a `signing_key`: what somebody without the key publishes does nothing, whatever it is.

use super::*;
use crate::message::{decode, encode, Decoded, Message, SigningKeys, Stamp};

const TOPIC: &str = "cache/invalidate/n";
const PROBES: &str = "cache/invalidate/_probe/me";

fn keys(digit: &str) -> SigningKeys {
    SigningKeys::parse([&*format!("k:{}", digit.repeat(64))]).unwrap()
}

fn rig(broker: Broker) -> Rig {
    let mut rig = Rig::configured(broker, ClientConfig { signing_key: Some(keys("a")), ..ClientConfig::default() });
    rig.run(20 * S);
    rig
}

impl Rig {
    fn hears(&mut self, topic: &str, payload: Vec<u8>) {
        self.event(Event::Message { topic: topic.into(), payload, retained: false, qos: 1 });
    }

    fn refused(&self, reason: &str) -> u64 {
        self.cache.counters.refused.lock().get(reason).copied().unwrap_or(0)
    }

    fn all_doubts(&self) -> u64 {
        self.cache.counters.doubts.lock().values().sum()
    }
}

fn stamp(first: u64, seq: u64) -> Option<Stamp> {
    Some(Stamp { src: "other".into(), first, seq })
}

/// An invalidation of "k" by another publisher.
fn data(first: u64, seq: u64) -> Vec<u8> {
    let ops = Operations { keys: vec![("k".into(), None)], ..Operations::default() };
    encode(&Message { stamp: stamp(first, seq), ops, ..Message::default() })
}

fn heartbeat(seq: u64, bye: bool) -> Vec<u8> {
    encode(&Message { stamp: stamp(seq, seq), bye, ..Message::default() })
}

fn hello(bound_ms: u64) -> Vec<u8> {
    encode(&Message { hello: true, bound_ms: Some(bound_ms), src: Some("other".into()), ..Message::default() })
}

#[test]
fn what_a_forger_publishes_is_counted_and_is_neither_applied_nor_doubt() {
    let mut rig = rig(Broker::Healthy);
    assert_eq!(rig.state(), LinkState::Live);
    assert!(rig.cache.loads("k", rig.now));
    let before = (rig.cache.freshness.epoch(), rig.all_doubts(), rig.hellos.len(), rig.payloads.len());
    let all = Operations { all: true, ..Operations::default() };
    let forged = [
        data(1, 1),
        data(7, 9),
        encode(&Message { ops: all, ..Message::default() }),
        heartbeat(99, false),
        heartbeat(99, true),
        hello(500),
        br#"{"v":2,"keys":["k"]}"#.to_vec(),
        br#"{"v":1,"keys":"#.to_vec(),
        br#"{"v":1,"keys":[""]}"#.to_vec(),
    ];
    let stranger = SigningKeys::parse([&*format!("stranger:{}", "a".repeat(64))]).unwrap();
    for payload in &forged {
        rig.hears(TOPIC, payload.clone());
        rig.hears(TOPIC, keys("b").sign(TOPIC, payload.clone()));
        rig.hears(TOPIC, stranger.sign(TOPIC, payload.clone()));
        rig.hears(TOPIC, keys("a").sign("cache/invalidate/other", payload.clone()));
    }
    rig.hears(TOPIC, b"k".to_vec());
    rig.hears(TOPIC, vec![0xff]);
    rig.hears(TOPIC, vec![b'x'; 300_000]);
    let n = forged.len() as u64;
    assert_eq!((rig.refused("unsigned"), rig.refused("bad_signature"), rig.refused("unknown_key")), (n + 3, 2 * n, n));
    assert!(rig.cache.has("k", rig.now));
    assert_eq!(rig.channel.outbox.lock().smallest_bound(), B, "no bound was believed");
    rig.run(B / 32);
    assert_eq!(rig.payloads.len(), before.3, "nor is anything answered");
    rig.run(2 * B);
    assert_eq!((rig.cache.freshness.epoch(), rig.all_doubts(), rig.hellos.len()), (before.0, before.1, before.2));
    assert!(rig.cache.has("k", rig.now), "and the cache goes on being proved fresh");
    assert_eq!((rig.cache.counters.malformed.sum(), rig.cache.counters.plain.sum()), (0, 0));
    rig.hears(TOPIC, Vec::new());
    assert_eq!((rig.cache.counters.empty.sum(), rig.refused("unsigned")), (1, n + 3));
}

#[test]
fn a_holder_of_the_key_is_believed_and_so_is_what_he_garbles() {
    let mut rig = rig(Broker::Healthy);
    assert!(rig.cache.loads("k", rig.now));
    rig.hears(TOPIC, keys("a").sign(TOPIC, data(1, 1)));
    assert!(!rig.cache.has("k", rig.now));
    rig.hears(TOPIC, keys("a").sign(TOPIC, hello(500)));
    assert_eq!(rig.channel.outbox.lock().smallest_bound(), 500 * MS);
    rig.hears(TOPIC, keys("a").sign(TOPIC, br#"{"v":1,"keys":[""]}"#.to_vec()));
    rig.hears(TOPIC, keys("a").sign(TOPIC, br#"{"v":2}"#.to_vec()));
    assert_eq!((rig.cache.doubts("malformed"), rig.cache.doubts("newer_version")), (1, 1));
    rig.hears(TOPIC, keys("a").sign(TOPIC, heartbeat(3, false)));
    assert_eq!(rig.cache.doubts("hole"), 1);
}

#[test]
fn a_forged_probe_proves_nothing() {
    let mut rig = rig(Broker::Healthy);
    rig.broker = Broker::DropsProbes;
    rig.run(B / 5 + S);
    let fresh = rig.cache.freshness.fresh();
    let (topic, probe) = rig.payloads.last().cloned().unwrap();
    assert_eq!(topic, PROBES);
    let counter = std::str::from_utf8(&probe).unwrap().split(' ').next().unwrap().to_owned();
    let forged = keys("b").sign_probe(PROBES, counter.parse().unwrap());
    let elsewhere = keys("a").sign_probe("cache/invalidate/_probe/you", counter.parse().unwrap());
    for payload in [counter.clone().into_bytes(), forged, elsewhere] {
        rig.hears(PROBES, payload);
    }
    assert_eq!(rig.cache.freshness.fresh(), fresh);
    assert_eq!((rig.refused("unsigned"), rig.refused("bad_signature")), (1, 2));
    let copy = Event::Message { topic: PROBES.into(), payload: probe.clone(), retained: false, qos: 0 };
    rig.event(copy);
    assert_eq!(rig.cache.freshness.fresh(), fresh, "a copy of QoS 0 may have overtaken data");
    rig.hears(PROBES, probe.clone());
    let proved = rig.cache.freshness.fresh();
    assert!(proved > fresh, "the real one proves");
    rig.hears(PROBES, probe);
    assert_eq!(rig.cache.freshness.fresh(), proved, "once");
}

#[test]
fn what_was_received_is_refused_when_it_comes_again_and_what_says_more_is_not() {
    let mut rig = rig(Broker::Healthy);
    let signed = |first, seq| keys("a").sign(TOPIC, data(first, seq));
    rig.hears(TOPIC, signed(1, 1));
    rig.hears(TOPIC, signed(2, 2));
    assert!(rig.cache.loads("k", rig.now));
    for payload in [signed(1, 1), signed(2, 2), signed(1, 2)] {
        rig.hears(TOPIC, payload);
    }
    assert!(rig.cache.has("k", rig.now));
    assert_eq!((rig.refused("replayed"), rig.all_doubts()), (3, rig.cache.doubts("first_probe")));
    // Number 2 was in flight when the connection broke, and collapsed with what came after it.
    rig.hears(TOPIC, signed(2, 4));
    assert!(!rig.cache.has("k", rig.now));
    assert_eq!(rig.all_doubts(), rig.cache.doubts("first_probe"));
    // What is missing is applied whenever it comes.
    rig.hears(TOPIC, signed(7, 7));
    assert!(rig.cache.loads("k", rig.now));
    rig.hears(TOPIC, signed(5, 5));
    assert!(!rig.cache.has("k", rig.now));
    assert_eq!(rig.refused("replayed"), 3);
}

#[test]
fn replays_keep_no_doubt_away() {
    let mut rig = rig(Broker::Healthy);
    let sign = |payload| keys("a").sign(TOPIC, payload);
    rig.hears(TOPIC, sign(data(1, 1)));
    rig.hears(TOPIC, sign(heartbeat(1, false)));
    rig.hears(TOPIC, sign(data(2, 2)));
    for _ in 0..4 {
        rig.run(B / 15);
        for payload in [data(1, 1), heartbeat(1, false), data(2, 2)] {
            rig.hears(TOPIC, sign(payload));
        }
    }
    assert_eq!(rig.cache.doubts("unconfirmed"), 0);
    rig.run(B / 15);
    assert_eq!(rig.cache.doubts("unconfirmed"), 1, "5/16 B after its newest news");
}

#[test]
fn everything_that_a_client_says_is_signed() {
    let mut rig = rig(Broker::Healthy);
    rig.channel.push(Operations { tags: vec!["t".repeat(500)], ..Operations::default() });
    rig.channel
        .push(Operations { keys: (0..9_000).map(|i| (format!("key-{i}"), None)).collect(), ..Operations::default() });
    rig.run(B);
    rig.session.command(Command::Close { timeout: Duration::from_secs(5), reply: None }, rig.now);
    rig.run(B);
    let said = |what: fn(&Message) -> bool| {
        rig.payloads.iter().any(|(_, payload)| matches!(decode(payload), Ok(Decoded::Envelope(m)) if what(&m)))
    };
    assert!(said(|m| m.hello) && said(|m| !m.ops.tags.is_empty()) && said(|m| m.bye));
    assert!(said(|m| m.stamp.is_some() && m.ops.is_empty() && !m.bye), "a heartbeat");
    assert!(rig.payloads.iter().any(|(topic, _)| topic == PROBES));
    for (topic, payload) in &rig.payloads {
        let verified = match topic.as_str() {
            PROBES => keys("a").verify_probe(topic, payload).map(drop),
            _ => keys("a").verify(topic, payload),
        };
        assert_eq!(verified, Ok(()), "{}", String::from_utf8_lossy(payload));
    }
    let longest = rig.payloads.iter().map(|(_, payload)| payload.len()).max().unwrap();
    assert!((64_000..=64 * 1024).contains(&longest), "{longest}: full, signature and all");
}

#[test]
fn while_keys_are_introduced_a_client_signs_and_believes_everybody() {
    let config =
        ClientConfig { signing_key: Some(keys("a")), require_signatures: Some(false), ..ClientConfig::default() };
    let mut rig = Rig::configured(Broker::Healthy, config);
    rig.run(20 * S);
    assert_eq!(rig.state(), LinkState::Live);
    assert!(rig.payloads.iter().all(|(topic, payload)| topic == PROBES || keys("a").verify(topic, payload).is_ok()));
    for payload in [data(1, 1), keys("b").sign(TOPIC, data(2, 2)), b"k".to_vec()] {
        assert!(rig.cache.loads("k", rig.now));
        rig.hears(TOPIC, payload);
        assert!(!rig.cache.has("k", rig.now));
    }
    assert!(rig.cache.counters.refused.lock().is_empty());
}
