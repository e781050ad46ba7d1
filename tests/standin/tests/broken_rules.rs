//! Each rule is broken once, by bytes, and is seen to be enforced.

mod common;

use std::time::{Duration, Instant};

use common::{Client, Frame, Standin, V3, V5};
use serde_json::json;
use unstale_standin::rules::{Loss, Rule};

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const DISCONNECT: u8 = 14;
const SOON: Duration = Duration::from_secs(5);
/// Long enough for anything that is sent at once, on a loaded machine too.
const SILENCE: Duration = Duration::from_millis(400);

const SECOND: Duration = Duration::from_secs(1);

/// Rates are counted in a real second: an attempt that took longer says nothing, and is made again with another stand-in.
fn on_a_fast_machine<T>(attempt: impl Fn() -> Option<T>) -> T {
    (0..50).find_map(|_| attempt()).expect("one attempt of 50 that is quick enough")
}

/// The reason of the DISCONNECT with which the connection ends.
fn disconnected(client: &mut Client) -> u8 {
    let frame = client.next_of(DISCONNECT, SOON).expect("a DISCONNECT");
    assert!(client.is_closed(SOON));
    frame.body[0]
}

fn limits(limits: serde_json::Value) -> Standin {
    Standin::plain(json!({"limits": limits}))
}

fn faults(faults: serde_json::Value) -> Standin {
    Standin::plain(json!({"faults": faults}))
}

fn policy(statements: serde_json::Value) -> Standin {
    Standin::plain(json!({"policy": {"Version": "2012-10-17", "Statement": statements}}))
}

const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";

#[test]
fn a_message_reaches_its_subscribers_in_both_versions() {
    let standin = Standin::plain(json!({}));
    let (mut old, mut new) = (standin.client(V3, "old"), standin.client(V5, "new"));
    assert_eq!(old.subscribe(&["a/+"]), [1]);
    assert_eq!(new.subscribe(&["a/b"]), [1]);
    assert_eq!(new.publish("a/b", b"x").reason(), 0);
    for client in [&mut old, &mut new] {
        let message = client.next_of(PUBLISH, SOON).expect("the message").message();
        assert_eq!((message.topic.as_str(), &message.payload[..]), ("a/b", &b"x"[..]));
    }
    assert_eq!(standin.rejections(), json!({}));
}

#[test]
fn payloads_are_limited() {
    let standin = limits(json!({"payload_bytes": 10}));
    let mut client = standin.client(V5, "c");
    assert_eq!(client.publish("t", &[b'x'; 10]).reason(), 0);
    client.send_publish("t", &[b'x'; 11], 1, 9);
    assert_eq!(disconnected(&mut client), 0x95);
    let mut old = standin.client(V3, "o");
    old.send_publish("t", &[b'x'; 11], 1, 9);
    assert!(old.is_closed(SOON));
    assert_eq!(standin.rejections(), json!({"payload_size": 2}));
}

#[test]
fn the_default_payload_limit_is_128_kb() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V3, "c");
    assert_eq!(client.publish("t", &vec![b'x'; 128 * 1024]).kind, PUBACK);
    client.send_publish("t", &vec![b'x'; 128 * 1024 + 1], 1, 9);
    assert!(client.is_closed(SOON));
}

#[test]
fn topics_are_limited_in_length_and_depth() {
    for (topic, rule) in [("x".repeat(257), "topic_size"), ("1/2/3/4/5/6/7/8/9".into(), "topic_slashes")] {
        let standin = Standin::plain(json!({}));
        let mut client = standin.client(V5, "publisher");
        client.send_publish(&topic, b"x", 1, 1);
        assert_eq!(disconnected(&mut client), 0x90);
        let mut client = standin.client(V5, "subscriber");
        client.send_subscribe(&[&topic], 1);
        assert_eq!(disconnected(&mut client), 0x8f);
        assert_eq!(standin.rejections(), json!({rule: 2}));
    }
}

#[test]
fn reserved_topics_are_refused_but_awss_own() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "c");
    assert_eq!(client.publish("$aws/rules/mine/a", b"x").reason(), 0);
    client.send_publish("$SYS/x", b"x", 1, 5);
    assert_eq!(disconnected(&mut client), 0x90);
    assert_eq!(standin.rejections(), json!({"reserved_topic": 1}));
}

#[test]
fn what_is_no_topic_or_no_filter_is_refused() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "publisher");
    client.send_publish("a/+", b"x", 1, 1);
    assert_eq!(disconnected(&mut client), 0x90);
    let mut client = standin.client(V5, "subscriber");
    client.send_subscribe(&["a#"], 1);
    assert_eq!(disconnected(&mut client), 0x8f);
    assert_eq!(standin.rejections(), json!({"topic_name": 1, "topic_filter": 1}));
}

#[test]
fn topic_aliases_above_the_eighth_are_refused() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "c");
    // PUBLISH with QoS 1, topic "t", id 1, property 35 (Topic Alias), payload "x".
    let with_alias = |alias| [0x32, 10, 0, 1, b't', 0, 1, 3, 0x23, 0, alias, b'x'];
    client.send_raw(&with_alias(8));
    assert_eq!(client.next_of(PUBACK, SOON).expect("a PUBACK").reason(), 0);
    client.send_raw(&with_alias(9));
    assert_eq!(disconnected(&mut client), 0x94);
    assert_eq!(standin.rejections(), json!({"topic_alias": 1}));
}

#[test]
fn what_is_no_mqtt_or_of_qos_2_ends_the_connection() {
    let standin = Standin::plain(json!({}));
    // Type 0 is reserved; a PUBREL; a second CONNECT.
    let again: &[u8] = &[0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 60, 0, 0, 1, b'c'];
    for (id, bytes, reason) in
        [("zero", &[0x00u8, 0][..], 0x81), ("pubrel", &[0x62, 2, 0, 1], 0x82), ("again", again, 0x82)]
    {
        let mut client = standin.client(V5, id);
        client.send_raw(bytes);
        assert_eq!(disconnected(&mut client), reason, "{id}");
    }
    assert_eq!(standin.rejections(), json!({"malformed": 1, "protocol": 2}));
}

#[test]
fn nine_filters_in_one_subscribe_are_refused() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "c");
    assert_eq!(client.subscribe(&["1", "2", "3", "4", "5", "6", "7", "8"]), [1; 8]);
    client.send_subscribe(&["1", "2", "3", "4", "5", "6", "7", "8", "9"], 1);
    assert_eq!(disconnected(&mut client), 0x97);
    assert_eq!(standin.rejections(), json!({"filters_per_subscribe": 1}));
}

#[test]
fn the_51st_subscription_is_refused_and_ends_the_connection() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "c");
    for number in 0..50 {
        assert_eq!(client.subscribe(&[&format!("t/{number}")]), [1]);
    }
    // Again the same is no other.
    assert_eq!(client.subscribe(&["t/0"]), [1]);
    assert_eq!(client.subscribe(&["t/50"]), [0x97]);
    assert_eq!(disconnected(&mut client), 0x97);
    assert_eq!(standin.rejections(), json!({"subscriptions": 1}));
}

#[test]
fn a_publish_above_the_inbound_rate_gets_no_puback_and_goes_nowhere() {
    let (acknowledged, delivered, rejections) = on_a_fast_machine(|| {
        let standin = limits(json!({"publishes_per_second": 5}));
        let (mut client, mut other) = (standin.client(V5, "c"), standin.client(V5, "o"));
        other.subscribe(&["t"]);
        let began = Instant::now();
        for id in 1..=6 {
            client.send_publish("t", b"x", 1, id);
        }
        let acknowledged: Vec<u16> = client.all_of(PUBACK).iter().map(Frame::id).collect();
        let in_time = began.elapsed() < SECOND;
        in_time.then(|| (acknowledged, other.all_of(PUBLISH).len(), standin.rejections()))
    });
    assert_eq!((acknowledged, delivered), (vec![1, 2, 3, 4, 5], 5));
    assert_eq!(rejections, json!({"inbound_rate": 1}));
}

#[test]
fn a_throttled_publish_may_be_told_so() {
    let reasons = on_a_fast_machine(|| {
        let limits = json!({"publishes_per_second": 1});
        let standin = Standin::plain(json!({"limits": limits, "faults": {"puback_when_throttled": true}}));
        let mut client = standin.client(V5, "c");
        let began = Instant::now();
        let reasons = [client.publish("t", b"x").reason(), client.publish("t", b"x").reason()];
        (began.elapsed() < SECOND).then_some(reasons)
    });
    assert_eq!(reasons, [0, 0x97]);
}

#[test]
fn what_exceeds_the_outbound_rate_is_dropped_although_it_was_acknowledged() {
    let (acknowledged, delivered, summary) = on_a_fast_machine(|| {
        let standin = limits(json!({"publishes_per_second": 5}));
        let mut reader = standin.client(V5, "r");
        reader.subscribe(&["t"]);
        let (mut one, mut two) = (standin.client(V5, "1"), standin.client(V5, "2"));
        let began = Instant::now();
        for id in 1..=5 {
            one.send_publish("t", b"x", 1, id);
            two.send_publish("t", b"x", 1, id);
        }
        let acknowledged: Vec<Frame> = [one.all_of(PUBACK), two.all_of(PUBACK)].into_iter().flatten().collect();
        let in_time = began.elapsed() < SECOND;
        in_time.then(|| (acknowledged, reader.all_of(PUBLISH).len(), standin.summary()))
    });
    assert!(acknowledged.len() == 10 && acknowledged.iter().all(|ack| ack.reason() == 0), "{acknowledged:?}");
    assert_eq!((delivered, &summary["losses"]), (5, &json!({"outbound_rate": 5})));
    assert_eq!(summary["rejections"], json!({}));
}

#[test]
fn throughput_above_the_limit_is_delayed() {
    let standin = limits(json!({"bytes_per_second": 10_000}));
    let mut client = standin.client(V5, "c");
    let began = Instant::now();
    client.publish("t", &[b'x'; 25_000]);
    assert!(began.elapsed() > Duration::from_millis(1_400), "{:?}", began.elapsed());
    assert_eq!(standin.rejections(), json!({"throughput_in": 1}));
}

#[test]
fn unacknowledged_publishes_are_limited() {
    let standin = Standin::plain(json!({"limits": {"unacknowledged_in": 2}, "faults": {"puback_delay_ms": 60_000}}));
    let mut client = standin.client(V5, "c");
    for id in 1..=3 {
        client.send_publish("t", b"x", 1, id);
    }
    assert_eq!(disconnected(&mut client), 0x93);
    let mut old = standin.client(V3, "o");
    for id in 1..=3 {
        old.send_publish("t", b"x", 1, id);
    }
    assert!(old.all_of(PUBACK).is_empty(), "and the connection lives");
    assert_eq!(standin.rejections(), json!({"unacknowledged_in": 2}));
}

#[test]
fn no_more_is_sent_than_may_be_unacknowledged() {
    let standin = limits(json!({"unacknowledged_out": 2}));
    let mut client = standin.client(V5, "c");
    client.acknowledges = false;
    client.subscribe(&["t"]);
    let mut writer = standin.client(V5, "w");
    for _ in 0..3 {
        writer.publish("t", b"x");
    }
    let first = client.next_of(PUBLISH, SOON).expect("the first").message();
    client.next_of(PUBLISH, SOON).expect("the second");
    assert!(client.next_of(PUBLISH, SILENCE).is_none());
    client.send_puback(first.id);
    assert!(client.next_of(PUBLISH, SOON).is_some());
}

#[test]
fn what_waits_for_acknowledgements_beyond_the_limit_is_dropped() {
    let standin = limits(json!({"unacknowledged_out": 2, "waiting_out": 3}));
    let mut client = standin.client(V5, "c");
    client.acknowledges = false;
    client.subscribe(&["t"]);
    let mut writer = standin.client(V5, "w");
    for _ in 0..9 {
        assert_eq!(writer.publish("t", b"x").reason(), 0);
    }
    assert_eq!(client.all_of(PUBLISH).len(), 2);
    assert_eq!(standin.summary()["losses"], json!({"too_many_waiting": 4}));
}

#[test]
fn what_comes_for_a_kept_session_beyond_the_limit_is_dropped() {
    let standin = limits(json!({"stored": 2}));
    let mut kept = standin.client_of_session(V3, "kept");
    kept.subscribe(&["t"]);
    kept.close();
    let mut writer = standin.client(V5, "w");
    for _ in 0..5 {
        writer.publish("t", b"x");
    }
    assert_eq!(standin.summary()["losses"], json!({"offline": 3}));
}

#[test]
fn what_is_held_back_until_its_session_has_ended_is_dropped() {
    let lost = on_a_fast_machine(|| {
        let standin = faults(json!({"reorder": 1.0, "reorder_ms": 1_000}));
        let mut client = standin.client(V5, "c");
        client.subscribe(&["t"]);
        for _ in 0..20 {
            client.publish("t", b"x");
        }
        client.close();
        let closed = Instant::now();
        while closed.elapsed() < 2 * SECOND {
            if let Some(lost) = standin.summary()["losses"]["session_gone"].as_u64() {
                return Some(lost);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    });
    assert!(lost > 0);
}

#[test]
fn keep_alive_is_brought_into_range_and_enforced() {
    let standin = limits(json!({"keep_alive_min_s": 1}));
    let mut client = standin.offer(V5, "c", 0);
    // Server Keep Alive, 1200.
    let welcome = client.next_of(CONNACK, SOON).expect("a CONNACK");
    assert!(welcome.body.windows(3).any(|bytes| bytes == [0x13, 0x04, 0xb0]), "{welcome:?}");
    assert_eq!(standin.rejections(), json!({"keep_alive": 1}));
    let mut silent = standin.offer(V5, "s", 1);
    assert_eq!(disconnected(&mut silent), 0x8d);
    assert_eq!(standin.rejections(), json!({"keep_alive": 1, "keep_alive_timeout": 1}));
}

#[test]
fn a_client_id_connects_once_a_second() {
    let (codes, rejections) = on_a_fast_machine(|| {
        let standin = Standin::plain(json!({}));
        let began = Instant::now();
        standin.client(V5, "c").close();
        let codes = [V5, V3].map(|version| {
            let mut client = standin.offer(version, "c", 60);
            let code = client.next_of(CONNACK, SOON).expect("a CONNACK").body[1];
            (code, client.is_closed(SOON))
        });
        (began.elapsed() < SECOND).then(|| (codes, standin.rejections()))
    });
    assert_eq!(codes, [(0x97, true), (3, true)]);
    assert_eq!(rejections, json!({"connect_rate": 2}));
}

#[test]
fn the_client_id_is_limited() {
    let standin = Standin::plain(json!({}));
    standin.client(V5, &"x".repeat(128));
    for (version, id, code) in
        [(V5, "x".repeat(129), 0x85), (V5, "$x".into(), 0x85), (V3, "$x".into(), 2), (V3, String::new(), 2)]
    {
        let mut client = standin.offer(version, &id, 60);
        assert_eq!(client.next_of(CONNACK, SOON).expect("a CONNACK").body[1], code, "{id}");
    }
    assert_eq!(standin.rejections(), json!({"client_id": 4}));
}

#[test]
fn qos_2_is_refused_both_ways() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "p");
    client.send_publish("t", b"x", 2, 1);
    assert_eq!(disconnected(&mut client), 0x9b);
    let mut client = standin.client(V5, "s");
    client.send_subscribe(&["t"], 2);
    assert_eq!(disconnected(&mut client), 0x9b);
    assert_eq!(standin.rejections(), json!({"qos_2": 2}));
}

#[test]
fn nothing_may_come_before_the_connack() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.eager(V5, "c");
    assert_eq!(disconnected(&mut client), 0x82);
    assert_eq!(standin.rejections(), json!({"before_connack": 1}));
}

#[test]
fn duplicates_have_packet_ids_of_their_own_and_no_dup_flag() {
    let standin = faults(json!({"duplicate": 1.0, "reorder_ms": 10}));
    let mut client = standin.client(V5, "c");
    client.subscribe(&["t"]);
    client.publish("t", b"x");
    let (first, second) =
        (client.next_of(PUBLISH, SOON).expect("one"), client.next_of(PUBLISH, SOON).expect("another"));
    assert_ne!(first.message().id, second.message().id);
    assert_eq!((first.flags & 8, second.flags & 8), (0, 0));
}

#[test]
fn messages_overtake_each_other() {
    let standin = faults(json!({"reorder": 0.5, "reorder_ms": 100}));
    let mut client = standin.client(V5, "c");
    client.subscribe(&["t"]);
    let mut got = Vec::new();
    for number in 0..20u8 {
        client.send_publish("t", &[number], 1, u16::from(number) + 1);
    }
    while got.len() < 20 {
        got.push(client.next_of(PUBLISH, SOON).expect("all come").message().payload[0]);
    }
    assert!(!got.is_sorted(), "{got:?}");
}

#[test]
fn a_subscription_works_some_time_after_its_suback() {
    const DELAY: Duration = Duration::from_millis(600);
    let (began, first) = on_a_fast_machine(|| {
        let standin = faults(json!({"suback_delay_ms": DELAY.as_millis()}));
        let mut client = standin.client(V5, "c");
        let began = Instant::now();
        client.subscribe(&["t"]);
        client.publish("t", b"early");
        if began.elapsed() >= DELAY {
            return None;
        }
        while began.elapsed() < SOON {
            client.publish("t", b"late");
            if let Some(frame) = client.all_of(PUBLISH).first() {
                return Some((began, frame.message().payload));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    });
    assert_eq!(first, b"late");
    assert!(began.elapsed() >= DELAY);
}

#[test]
fn connections_are_cut() {
    let standin = faults(json!({"cut_after_s": 0.3}));
    assert!(standin.client(V5, "c").is_closed(SOON));
    assert_eq!(standin.summary()["counts"]["cut"], 1);
}

#[test]
fn a_clean_session_is_never_resumed_and_a_kept_one_is_replayed_slowly() {
    let standin = limits(json!({"connect_interval_ms": 0}));
    let mut clean = standin.client(V3, "clean");
    clean.subscribe(&["t"]);
    clean.close();
    assert!(!standin.client(V3, "clean").session_present);

    let mut kept = standin.client_of_session(V3, "kept");
    assert!(!kept.session_present);
    kept.subscribe(&["t"]);
    kept.close();
    let mut writer = standin.client(V5, "w");
    for _ in 0..5 {
        writer.publish("t", b"x");
    }
    let began = Instant::now();
    let mut again = standin.client_of_session(V3, "kept");
    assert!(again.session_present);
    for _ in 0..5 {
        again.next_of(PUBLISH, SOON).expect("a stored message");
    }
    assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
}

#[test]
fn a_client_id_in_use_is_taken_over() {
    let standin = limits(json!({"connect_interval_ms": 0}));
    let mut first = standin.client(V5, "c");
    let mut second = standin.client(V5, "c");
    assert_eq!(disconnected(&mut first), 0x8e);
    assert_eq!(second.publish("t", b"x").reason(), 0);
}

#[test]
fn retained_messages_reach_exact_filters_only() {
    let standin = Standin::plain(json!({}));
    standin.client(V5, "w").publish_retained("t/a", b"kept");
    let mut wild = standin.client(V5, "wild");
    wild.subscribe(&["t/+"]);
    assert!(wild.next_of(PUBLISH, SILENCE).is_none());
    let mut exact = standin.client(V5, "exact");
    exact.subscribe(&["t/a"]);
    let frame = exact.next_of(PUBLISH, SOON).expect("the retained message");
    assert_eq!((frame.flags & 1, frame.message().payload), (1, b"kept".to_vec()));
}

#[test]
fn subscription_identifiers_are_refused() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "c");
    // SUBSCRIBE, id 1, property 11 = 7, filter "t", QoS 1.
    client.send_raw(&[0x82, 9, 0, 1, 2, 11, 7, 0, 1, b't', 1]);
    assert_eq!(disconnected(&mut client), 0xa1);
    assert_eq!(standin.rejections(), json!({"subscription_identifier": 1}));
}

#[test]
fn no_local_is_ignored() {
    let standin = Standin::plain(json!({}));
    let mut client = standin.client(V5, "c");
    // SUBSCRIBE, id 1, no properties, filter "t", QoS 1 with No Local.
    client.send_raw(&[0x82, 7, 0, 1, 0, 0, 1, b't', 0b101]);
    client.next_of(SUBACK, SOON).expect("a SUBACK");
    client.publish("t", b"x");
    assert!(client.next_of(PUBLISH, SOON).is_some());
}

#[test]
fn a_shared_subscription_gets_each_message_once() {
    let standin = Standin::plain(json!({}));
    let mut members = [standin.client(V5, "1"), standin.client(V5, "2")];
    for member in &mut members {
        assert_eq!(member.subscribe(&["$share/g/t"]), [1]);
    }
    standin.client(V5, "w").publish("t", b"x");
    let got: usize = members.iter_mut().map(|member| usize::from(member.next_of(PUBLISH, SILENCE).is_some())).sum();
    assert_eq!(got, 1);
}

#[test]
fn who_may_not_connect_is_told_so() {
    let standin = policy(json!([{"Effect": "Allow", "Action": "iot:*", "Resource": format!("{ARN}client/mine-*")}]));
    standin.client(V5, "mine-1");
    for (version, id, code) in [(V5, "other-1", 0x87), (V3, "other-2", 5)] {
        let mut client = standin.offer(version, id, 60);
        assert_eq!(client.next_of(CONNACK, SOON).expect("a CONNACK").body[1], code);
    }
    assert_eq!(standin.rejections(), json!({"unauthorized_connect": 2}));
}

#[test]
fn a_will_must_be_allowed_and_for_a_topic_that_may_be_published_to() {
    let standin = policy(json!([
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": format!("{ARN}topic/t")}
    ]));
    standin.offer_will(V5, "allowed", "t").welcomed();
    for (version, id, topic, code) in
        [(V5, "1", "u", 0x87), (V3, "2", "u", 5), (V5, "3", "$SYS/x", 0x90), (V3, "4", "a/#", 3)]
    {
        let mut client = standin.offer_will(version, id, topic);
        assert_eq!(client.next_of(CONNACK, SOON).expect("a CONNACK").body[1], code, "{id}");
        assert!(client.is_closed(SOON));
    }
    assert_eq!(standin.rejections(), json!({"unauthorized_will": 2, "will_topic": 2}));
}

#[test]
fn an_unauthorized_publish_or_subscribe_ends_the_connection() {
    let standin = policy(json!([
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Allow", "Action": "iot:Publish", "Resource": format!("{ARN}topic/t")},
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": format!("{ARN}topicfilter/t")}
    ]));
    let mut client = standin.client(V5, "publisher");
    assert_eq!(client.publish("t", b"x").reason(), 0);
    assert_eq!(client.publish("u", b"x").reason(), 0x87);
    assert_eq!(disconnected(&mut client), 0x87);
    let mut client = standin.client(V5, "subscriber");
    assert_eq!(client.subscribe(&["t", "#"]), [1, 0x87]);
    assert_eq!(disconnected(&mut client), 0x87);
    let mut old = standin.client(V3, "old");
    assert_eq!(old.subscribe(&["#"]), [0x80]);
    assert!(old.is_closed(SOON));
    assert_eq!(standin.rejections(), json!({"unauthorized_publish": 1, "unauthorized_subscribe": 2}));
}

#[test]
fn what_may_not_be_received_is_not_delivered() {
    let standin = policy(json!([
        {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish", "iot:Subscribe"], "Resource": "*"}
    ]));
    let mut client = standin.client(V5, "c");
    client.subscribe(&["t"]);
    client.publish("t", b"x");
    assert!(client.next_of(PUBLISH, SILENCE).is_none());
    assert_eq!(standin.summary()["losses"], json!({"unauthorized_receive": 1}));
}

#[test]
fn sigterm_ends_it_with_the_sums_in_the_report() {
    let mut standin = Standin::plain(json!({}));
    standin.client(V5, "c");
    assert_eq!(standin.terminate()["counts"]["connects"], 1);
}

#[test]
fn an_unknown_option_is_refused() {
    assert!(Standin::fails(json!({"limits": {"payload_byte": 10}})).contains("payload_byte"));
}

/// What README.md lists, what the code has, what the tests see in a report: the same names.
#[test]
fn each_rule_and_each_loss_is_documented_and_provoked() {
    let table: Vec<&str> = include_str!("../README.md").lines().filter(|line| line.starts_with("| ")).collect();
    let first_cells = table.iter().map(|line| line.split('|').nth(1).expect("a cell").trim());
    let (mut rules, mut losses) = (Vec::new(), Vec::new());
    for cell in first_cells {
        let names = cell.split('`').skip(1).step_by(2).map(str::to_owned);
        if cell.starts_with("loss ") {
            losses.extend(names)
        } else {
            rules.extend(names)
        }
    }
    // The table of the listeners.
    rules.retain(|name| !["plain", "mtls", "alpn"].contains(&name.as_str()));
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    let of_code: Vec<String> = Rule::ALL.iter().map(|rule| rule.name().to_owned()).collect();
    assert_eq!(sorted(rules), sorted(of_code.clone()));
    let losses_of_code: Vec<String> = Loss::ALL.iter().map(|loss| loss.name().to_owned()).collect();
    assert_eq!(sorted(losses), sorted(losses_of_code.clone()));
    let tests = [include_str!("broken_rules.rs"), include_str!("ways_in.rs")].concat();
    for name in of_code.iter().chain(&losses_of_code) {
        assert!(tests.contains(&format!("\"{name}\"")), "no test sees {name}");
    }
}

/// Kept beside the tests that use it: the reason of an acknowledgement, 0 when it is left out.
trait Reason {
    fn reason(&self) -> u8;
}

impl Reason for Frame {
    fn reason(&self) -> u8 {
        self.body.get(2).copied().unwrap_or(0)
    }
}
