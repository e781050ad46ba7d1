//! What every transport grants, run over each of them: memory, MQTT 5, MQTT 3.1.1, WebSockets.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::collections::HashMap;
use std::time::Duration;

use common::{free_port, Mosquitto};
use peer::Peer;
use unstale::transport::Event;
use unstale::ErrorKind;

/// The transport under test, and another way to the same broker.
struct Way {
    url: String,
    other: String,
}

/// Runs `test` over each transport, each time on a fresh broker.
fn over_each(test: fn(&Way)) {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let same = |url: String| Way { other: url.clone(), url };
    test(&same(format!("memory://suite-{next}")));
    let broker = Mosquitto::start();
    test(&same(broker.url()));
    let broker = Mosquitto::start();
    test(&same(format!("{}?mqtt_version=3.1.1", broker.url())));
    // A process has one WebSocket at a time: tests wait for each other here.
    let port = free_port();
    // Without `socket_domain` mosquitto would listen on all interfaces.
    let web = format!("listener {port} 127.0.0.1\nsocket_domain ipv4\nprotocol websockets\n");
    let broker = Mosquitto::with(&format!("allow_anonymous true\n{web}"));
    test(&Way { url: format!("ws://127.0.0.1:{port}/mqtt?connect_timeout=120"), other: broker.url() });
}

#[test]
fn a_published_message_is_acknowledged_and_received_by_every_subscriber() {
    over_each(|Way { url, other }| {
        let mut near = Peer::subscribed(url, &["t/a", "t/b"]);
        let mut far = Peer::subscribed(other, &["t/b"]);
        near.transport.publish(41, "t/b", b"{\"v\":1}".to_vec());
        let (mut acknowledged, mut received) = (false, false);
        while !(acknowledged && received) {
            match near.event() {
                Event::Published { id: 41, result: Ok(()) } => acknowledged = true,
                Event::Message { topic, payload, retained: false, .. } => {
                    assert_eq!((&*topic, &*payload), ("t/b", &b"{\"v\":1}"[..]));
                    received = true;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(far.message(), ("t/b".into(), "{\"v\":1}".into()));
        near.quiet();
        far.quiet();
    });
}

#[test]
fn only_exact_topics_are_received_and_none_after_unsubscribing() {
    over_each(|Way { url, other }| {
        let mut reader = Peer::subscribed(url, &["t/a", "t"]);
        let mut writer = Peer::connected(other);
        for topic in ["t/b", "t/a/b", "T/a", "t/a"] {
            writer.publish(1, topic, topic);
        }
        assert_eq!(reader.message().0, "t/a");
        reader.transport.unsubscribe(&["t/a".into()]);
        reader.round_trip("t");
        writer.publish(2, "t/a", "late");
        writer.publish(3, "t", "last");
        assert_eq!(reader.message().1, "last");
    });
}

#[test]
fn messages_of_one_publisher_arrive_in_order_and_none_is_lost() {
    const COUNT: u64 = 2_000;
    const WINDOW: u64 = 64;
    over_each(|Way { url, other }| {
        let mut reader = Peer::subscribed(other, &["t"]);
        let mut writers = [Peer::connected(url), Peer::connected(other)];
        let (mut sent, mut acknowledged) = (0, 0);
        while acknowledged < COUNT {
            while sent < COUNT && sent < acknowledged + WINDOW {
                for (w, writer) in writers.iter_mut().enumerate() {
                    writer.transport.publish(sent, "t", format!("{w}:{sent}").into_bytes());
                }
                sent += 1;
            }
            writers.iter_mut().for_each(|w| w.acknowledged(acknowledged));
            acknowledged += 1;
        }
        let mut next: HashMap<String, u64> = HashMap::new();
        for _ in 0..2 * COUNT {
            let (_, text) = reader.message();
            let (writer, number) = text.split_once(':').unwrap();
            let expected = next.entry(writer.into()).or_default();
            assert_eq!(number.parse::<u64>().unwrap(), *expected, "from writer {writer}");
            *expected += 1;
        }
    });
}

#[test]
fn requests_without_a_connection_are_answered_with_an_error() {
    over_each(|Way { url, .. }| {
        let mut peer = Peer::new(url);
        let check = |peer: &mut Peer| {
            peer.transport.publish(1, "t", b"x".to_vec());
            match peer.event() {
                Event::Published { id: 1, result: Err(e) } => assert_eq!(e.kind(), ErrorKind::Connect),
                other => panic!("{other:?}"),
            }
            peer.transport.subscribe(2, &["t".into(), "u".into()]);
            match peer.event() {
                Event::Subscribed { id: 2, results } => {
                    assert_eq!(results.len(), 2);
                    assert!(results.iter().all(|r| r.as_ref().is_err_and(|e| e.kind() == ErrorKind::Connect)));
                }
                other => panic!("{other:?}"),
            }
            peer.transport.unsubscribe(&["t".into()]);
            peer.transport.disconnect(Duration::from_secs(1));
            peer.quiet();
        };
        check(&mut peer);
        peer.connect();
        peer.transport.disconnect(Duration::ZERO);
        assert_eq!(peer.lost().kind(), ErrorKind::Closed);
        check(&mut peer);
    });
}

#[test]
fn a_disconnected_client_hears_nothing_and_can_connect_again() {
    over_each(|Way { url, other }| {
        let mut writer = Peer::connected(other);
        let mut reader = Peer::subscribed(url, &["t"]);
        for round in 0..5 {
            writer.publish(1, "t", "one");
            assert_eq!(reader.message().1, "one");
            reader.transport.disconnect(Duration::from_secs(5));
            assert_eq!(reader.lost().kind(), ErrorKind::Closed, "round {round}");
            writer.publish(2, "t", "unheard");
            reader.quiet();
            reader.connect();
            // The session is a new one: nothing was kept, and the subscription is gone.
            writer.publish(3, "t", "unheard too");
            reader.quiet();
            reader.subscribe(&["t"]);
        }
    });
}

#[test]
fn what_was_published_before_a_clean_disconnect_is_delivered() {
    over_each(|Way { url, other }| {
        let mut reader = Peer::subscribed(other, &["t"]);
        let mut writer = Peer::connected(url);
        for n in 0..200 {
            writer.transport.publish(n, "t", n.to_string().into_bytes());
        }
        writer.transport.disconnect(Duration::from_secs(20));
        for n in 0..200 {
            writer.acknowledged(n);
        }
        assert_eq!(writer.lost().kind(), ErrorKind::Closed);
        for n in 0..200 {
            assert_eq!(reader.message().1, n.to_string());
        }
    });
}

#[test]
fn connecting_again_ends_the_connection_before() {
    over_each(|Way { url, .. }| {
        let mut peer = Peer::subscribed(url, &["t"]);
        peer.transport.connect();
        assert_eq!(peer.lost().kind(), ErrorKind::Closed);
        match peer.event() {
            Event::Connected => {}
            other => panic!("{other:?}"),
        }
        peer.publish(1, "t", "unheard");
        peer.quiet();
    });
}

#[test]
fn a_dropped_client_is_gone_for_the_others() {
    over_each(|Way { url, other }| {
        let mut writer = Peer::connected(other);
        for _ in 0..10 {
            let reader = Peer::subscribed(url, &["t"]);
            drop(reader);
            writer.publish(1, "t", "x");
        }
        writer.quiet();
    });
}

#[test]
fn payloads_of_any_bytes_and_sizes_pass_unchanged() {
    over_each(|Way { url, .. }| {
        let mut peer = Peer::subscribed(url, &["t"]);
        // mosquitto takes 0.1 s for every 4 KiB over WebSockets.
        let largest = if url.starts_with("ws") { 65_536 } else { 1 << 20 };
        for size in [0, 1, 127, 128, 16_384, 65_536, largest] {
            let sent: Vec<u8> = (0..size).map(|i| (i * 31 % 256) as u8).collect();
            peer.transport.publish(1, "t", sent.clone());
            let (mut acknowledged, mut received) = (false, false);
            while !(acknowledged && received) {
                match peer.event() {
                    Event::Published { id: 1, result: Ok(()) } => acknowledged = true,
                    Event::Message { payload, .. } => {
                        assert!(payload == sent, "{size} bytes changed");
                        received = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    });
}

#[test]
fn memory_brokers_of_different_names_are_apart() {
    let mut one = Peer::subscribed("memory://", &["t"]);
    let mut other = Peer::connected("memory://other");
    let mut same = Peer::connected("memory://");
    other.publish(1, "t", "unheard");
    same.publish(1, "t", "heard");
    assert_eq!(one.message().1, "heard");
    one.quiet();
}
