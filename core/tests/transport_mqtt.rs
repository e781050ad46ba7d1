//! What MQTT adds: brokers that refuse, vanish, answer late or not at all.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{free_port, program, run, Mosquitto, TempDir};
use peer::Peer;
use unstale::transport::Event;
use unstale::{ClientConfig, ErrorKind};

const VERSIONS: [&str; 2] = ["5", "3.1.1"];

#[test]
fn a_closed_port_is_a_connect_error_that_names_it() {
    let port = free_port();
    let mut peer = Peer::new(&format!("mqtt://127.0.0.1:{port}"));
    for _ in 0..3 {
        peer.transport.connect();
        let e = peer.refused();
        assert_eq!(e.kind(), ErrorKind::Connect);
        assert!(e.message().contains(&format!("127.0.0.1:{port}")) && e.message().contains("`url`"), "{e}");
    }
    peer.quiet();
}

#[test]
fn an_unknown_host_is_a_connect_error_that_names_it() {
    // Too long for a name, so that nobody is asked.
    let host = "x".repeat(64) + ".invalid";
    let mut peer = Peer::new(&format!("mqtt://{host}"));
    peer.transport.connect();
    let e = peer.refused();
    assert_eq!(e.kind(), ErrorKind::Connect);
    assert!(e.message().contains(&host), "{e}");
}

#[test]
fn wrong_credentials_are_an_auth_error_and_right_ones_connect() {
    let dir = TempDir::new();
    let passwords = dir.path().join("passwords");
    run(Command::new(program("mosquitto_passwd")).args(["-b", "-c"]).arg(&passwords).args(["alice", "right"]));
    let broker = Mosquitto::with_files(dir, &format!("allow_anonymous false\npassword_file {}\n", passwords.display()));
    for version in VERSIONS {
        let with = |user: &str| format!("mqtt://{user}127.0.0.1:{}?mqtt_version={version}", broker.port());
        for user in ["alice:wrong@", "bob:right@", ""] {
            let mut peer = Peer::new(&with(user));
            peer.transport.connect();
            let e = peer.refused();
            assert_eq!(e.kind(), ErrorKind::Auth, "{user} {version}: {e}");
            assert!(e.message().contains("`username`"), "{e}");
            assert!(!e.message().contains("wrong"), "a password in a message: {e}");
            peer.quiet();
        }
        Peer::connected(&with("alice:right@")).round_trip_alone();
    }
}

#[test]
fn a_publication_that_the_broker_forbids_is_an_auth_error() {
    let dir = TempDir::new();
    let rules = dir.write("acl", "topic readwrite open\ntopic read readable\n");
    let broker = Mosquitto::with_files(dir, &format!("allow_anonymous true\nacl_file {}\n", rules.display()));
    // MQTT 3.1.1 has no way to say so.
    let mut peer = Peer::subscribed(&broker.url(), &["open"]);
    peer.transport.publish(4, "readable", b"x".to_vec());
    match peer.event() {
        Event::Published { id: 4, result: Err(e) } => {
            assert_eq!(e.kind(), ErrorKind::Auth, "{e}");
            assert!(e.message().contains("`readable`"), "{e}");
        }
        other => panic!("{other:?}"),
    }
}

/// A broker that accepts everybody and answers each SUBSCRIBE with the next of `codes`.
fn scripted(v5: bool, codes: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut codes = codes.iter();
        let mut head = [0; 2];
        while stream.read_exact(&mut head).is_ok() {
            let mut body = vec![0; usize::from(head[1])]; // these packets are all shorter than 128 bytes
            stream.read_exact(&mut body).unwrap();
            let reply = match (head[0] >> 4, v5) {
                (1, true) => vec![0x20, 3, 0, 0, 0],
                (1, false) => vec![0x20, 2, 0, 0],
                (8, true) => vec![0x90, 4, body[0], body[1], 0, *codes.next().unwrap()],
                (8, false) => vec![0x90, 3, body[0], body[1], *codes.next().unwrap()],
                _ => continue,
            };
            stream.write_all(&reply).unwrap();
        }
    });
    port
}

#[test]
fn every_code_of_a_suback_is_judged_for_its_topic() {
    use ErrorKind::{Auth, Connect};
    let check = |version: &str, codes: &'static [u8], expected: &[Option<ErrorKind>]| {
        let port = scripted(version == "5", codes);
        let mut peer = Peer::connected(&format!("mqtt://127.0.0.1:{port}?mqtt_version={version}"));
        let topics: Vec<String> = (0..codes.len()).map(|n| format!("topic-{n}")).collect();
        peer.transport.subscribe(3, &topics);
        let Event::Subscribed { id: 3, results } = peer.event() else { panic!("not answered") };
        let kinds: Vec<_> = results.iter().map(|r| r.as_ref().err().map(|e| e.kind())).collect();
        assert_eq!(kinds, expected, "{results:?}");
        for (topic, e) in topics.iter().zip(&results).filter_map(|(t, r)| Some((t, r.as_ref().err()?))) {
            assert!(e.message().contains(&format!("`{topic}`")), "{e}");
        }
    };
    check("5", &[1, 0x87, 2, 0, 0x8f, 0x97], &[None, Some(Auth), None, Some(Connect), Some(Connect), Some(Connect)]);
    check("3.1.1", &[1, 0x80, 2, 0], &[None, Some(Auth), None, Some(Connect)]);
}

#[test]
fn a_subscription_with_less_than_qos_1_is_refused() {
    let broker = Mosquitto::with("allow_anonymous true\nmax_qos 0\n");
    let mut peer = Peer::connected(&broker.url());
    peer.transport.subscribe(1, &["t".into()]);
    match peer.event() {
        Event::Subscribed { results, .. } => {
            let e = results[0].as_ref().unwrap_err();
            assert!(e.message().contains("QoS 0"), "{e}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_killed_broker_is_lost_once_and_the_same_transport_connects_again() {
    let mut broker = Mosquitto::start();
    let mut peer = Peer::subscribed(&broker.url(), &["t"]);
    for _ in 0..3 {
        broker.kill();
        assert_eq!(peer.lost().kind(), ErrorKind::Connect);
        peer.transport.publish(1, "t", b"x".to_vec());
        assert!(matches!(peer.event(), Event::Published { id: 1, result: Err(_) }));
        peer.transport.connect();
        assert_eq!(peer.refused().kind(), ErrorKind::Connect);
        peer.quiet();
        broker.restart();
        peer.connect();
        peer.subscribe(&["t"]);
        peer.round_trip("t");
    }
}

#[test]
fn a_broker_that_shuts_down_is_lost_once() {
    for version in VERSIONS {
        let mut broker = Mosquitto::start();
        let mut peer = Peer::connected(&format!("{}?mqtt_version={version}", broker.url()));
        broker.stop();
        assert_eq!(peer.lost().kind(), ErrorKind::Connect);
        peer.quiet();
    }
}

#[test]
fn a_broker_that_stops_answering_is_lost_after_the_keep_alive() {
    let broker = Mosquitto::start();
    let mut peer = Peer::connected(&format!("{}?keep_alive=5", broker.url()));
    broker.signal("STOP");
    let start = Instant::now();
    assert_eq!(peer.lost().kind(), ErrorKind::Connect);
    assert!(start.elapsed() > Duration::from_secs(5), "{:?}", start.elapsed());
    peer.quiet();
    broker.signal("CONT");
}

#[test]
fn a_second_client_with_the_same_id_takes_over_and_the_first_is_lost_once() {
    let broker = Mosquitto::start();
    let url = format!("{}?client_id=twin", broker.url());
    let mut one = Peer::connected(&url);
    let mut two = Peer::connected(&url);
    // mosquitto 2.0.11 closes the socket without saying why.
    assert_eq!(one.lost().kind(), ErrorKind::Connect);
    one.quiet();
    two.round_trip_alone();
}

/// A server that accepts and reads, and never says anything.
fn silent() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {}
            });
        }
    });
    port
}

#[test]
fn a_server_that_never_answers_times_out_on_time() {
    let port = silent();
    let mut peer = Peer::new(&format!("mqtt://127.0.0.1:{port}?connect_timeout=300ms"));
    for _ in 0..3 {
        let start = Instant::now();
        peer.transport.connect();
        let e = peer.refused();
        assert_eq!(e.kind(), ErrorKind::Timeout);
        assert!(e.message().contains("300ms") && e.message().contains(&port.to_string()), "{e}");
        assert!(
            (Duration::from_millis(300)..Duration::from_secs(5)).contains(&start.elapsed()),
            "{:?}",
            start.elapsed()
        );
    }
    peer.quiet();
}

#[test]
fn closing_while_connecting_does_not_hang() {
    let port = silent();
    for round in 0..20 {
        let mut peer = Peer::new(&format!("mqtt://127.0.0.1:{port}?connect_timeout=60"));
        peer.transport.connect();
        if round % 2 == 1 {
            thread::sleep(Duration::from_millis(round));
        }
        let start = Instant::now();
        peer.transport.disconnect(Duration::from_secs(60));
        assert_eq!(peer.refused().kind(), ErrorKind::Closed);
        drop(peer);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn dropping_at_any_moment_does_not_hang() {
    let broker = Mosquitto::start();
    for round in 0..40 {
        let mut peer = Peer::new(&broker.url());
        peer.transport.connect();
        if round % 4 > 0 {
            thread::sleep(Duration::from_millis(round / 4));
        }
        peer.transport.publish(1, "t", b"x".to_vec());
        let start = Instant::now();
        drop(peer);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
}

#[test]
fn a_server_that_hangs_up_is_a_connect_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().for_each(drop));
    let mut peer = Peer::new(&format!("mqtt://127.0.0.1:{port}"));
    peer.transport.connect();
    let e = peer.refused();
    assert_eq!(e.kind(), ErrorKind::Connect);
    assert!(e.message().contains(&port.to_string()), "{e}");
}

#[test]
fn finding_out_why_takes_one_limit_of_time_however_many_steps_it_has() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Hangs up on the library, and says nothing to whoever asks why.
    thread::spawn(move || {
        drop(listener.accept());
        let held: Vec<_> = listener.incoming().collect();
        drop(held);
    });
    let mut peer = Peer::new(&format!("ws://127.0.0.1:{port}/mqtt?connect_timeout=120"));
    let start = Instant::now();
    peer.transport.connect();
    assert_eq!(peer.refused().kind(), ErrorKind::Connect);
    // 3 s for all steps; there were two of 3 s each.
    assert!(start.elapsed() < Duration::from_millis(5_500), "{:?}", start.elapsed());
}

#[test]
fn twenty_thousand_messages_arrive_in_order() {
    const COUNT: u64 = 20_000;
    let broker = Mosquitto::start();
    let mut reader = Peer::subscribed(&broker.url(), &["t"]);
    let mut writer = Peer::connected(&broker.url());
    let publish = |n: u64, writer: &mut Peer| {
        if n < COUNT {
            writer.transport.publish(n, "t", n.to_string().into_bytes());
        }
    };
    (0..1_000).for_each(|n| publish(n, &mut writer));
    for n in 0..COUNT {
        writer.acknowledged(n);
        publish(n + 1_000, &mut writer);
    }
    for n in 0..COUNT {
        assert_eq!(reader.message(), ("t".into(), n.to_string()));
    }
    reader.quiet();
}

#[test]
fn a_full_queue_refuses_and_the_connection_lives_on() {
    const COUNT: u64 = 17_000;
    let broker = Mosquitto::start();
    let mut writer = Peer::connected(&format!("{}?keep_alive=20m", broker.url()));
    broker.signal("STOP");
    for n in 0..COUNT {
        writer.transport.publish(n, "t", b"x".to_vec());
    }
    broker.signal("CONT");
    let (mut taken, mut refused) = (0, 0);
    while taken + refused < COUNT {
        match writer.event() {
            Event::Published { result: Ok(()), .. } => taken += 1,
            Event::Published { result: Err(e), .. } => {
                assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(taken > 10_000 && refused > 0, "{taken} {refused}");
    writer.publish(1, "t", "y");
}

/// Every `connect` is answered once, every connection ends once, and nothing is heard in between.
#[test]
fn a_connection_that_drains_is_reported_lost_before_the_next_attempts_end() {
    let broker = Mosquitto::start();
    let mut peer = Peer::connected(&broker.url());
    // What is under way is waited for, far longer than the test takes.
    broker.signal("STOP");
    peer.transport.publish(1, "t", b"x".to_vec());
    peer.transport.disconnect(Duration::from_secs(60));
    peer.transport.connect();
    assert_eq!(peer.lost().kind(), ErrorKind::Closed);
    peer.transport.disconnect(Duration::ZERO);
    assert_eq!(peer.refused().kind(), ErrorKind::Closed);
    broker.signal("CONT");
}

#[test]
fn events_of_an_old_connection_never_pass_for_the_new_ones() {
    let broker = Mosquitto::start();
    let mut noise = Peer::connected(&broker.url());
    let mut peer = Peer::new(&broker.url());
    let mut expected = 0; // answers to `connect`
    let mut connected = false;
    let mut random = 12345_u64;
    let mut next = |n: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % n
    };
    for step in 0..400 {
        match next(6) {
            0 | 1 => {
                peer.transport.connect();
                expected += 1;
            }
            2 => peer.transport.disconnect(Duration::from_millis(next(3) * 10)),
            3 => peer.transport.subscribe(step, &["t".into()]),
            4 => peer.transport.publish(step, "t", b"x".to_vec()),
            _ => noise.transport.publish(step, "t", b"noise".to_vec()),
        }
        while let Some(event) = peer.event_within(Duration::from_millis(next(4))) {
            check(&event, &mut connected, &mut expected);
        }
    }
    peer.transport.disconnect(Duration::ZERO);
    while let Some(event) = peer.event_within(Duration::from_millis(300)) {
        check(&event, &mut connected, &mut expected);
    }
    assert!(!connected);
    assert_eq!(expected, 0, "attempts without an answer");
}

fn check(event: &Event, connected: &mut bool, expected: &mut u32) {
    match event {
        Event::Connected | Event::Refused(_) => {
            assert!(!*connected, "{event:?} during a connection");
            *expected = expected.checked_sub(1).expect("an answer without a question");
            *connected = matches!(event, Event::Connected);
        }
        Event::Lost(_) => assert!(std::mem::take(connected), "lost twice"),
        Event::Message { .. } => assert!(*connected, "{event:?} between connections"),
        Event::Published { result, .. } => assert!(*connected || result.is_err(), "{event:?}"),
        Event::Subscribed { results, .. } => assert!(*connected || results.iter().all(Result::is_err), "{event:?}"),
    }
}

#[test]
fn many_clients_of_one_process_connect_and_end_at_the_same_time() {
    let broker = Mosquitto::start();
    thread::scope(|scope| {
        for n in 0..8 {
            let url = broker.url();
            scope.spawn(move || {
                for round in 0..15 {
                    let topic = format!("t/{n}/{round}");
                    let mut peer = Peer::subscribed(&url, &[&topic]);
                    peer.round_trip(&topic);
                }
            });
        }
    });
}

#[test]
fn a_forked_child_is_told_that_it_cannot_connect() {
    let broker = Mosquitto::start();
    let _parent = Peer::connected(&broker.url());
    let config = ClientConfig::from_url(&broker.url()).unwrap();
    // SAFETY: the child makes one call that takes no lock of the library, and leaves without clean-up.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let (events, _receiver) = tokio::sync::mpsc::unbounded_channel();
        let told = unstale::transport::open(&config, "child", events).is_err_and(|e| e.kind() == ErrorKind::Forked);
        // SAFETY: as above.
        unsafe { libc::_exit(if told { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: our own child, and a place for its status.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0);
}

#[test]
fn a_web_server_that_refuses_the_websocket_is_quoted() {
    for (status, kind, words) in
        [(404, ErrorKind::Connect, "`/elsewhere`"), (403, ErrorKind::Auth, "let this client pass")]
    {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let serve = thread::spawn(move || {
            // The library's attempt, and the question why.
            for _ in 0..2 {
                let (mut stream, _) = server.accept().unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                assert!(head.starts_with("GET /elsewhere HTTP/1.1\r\n"), "{head}");
                assert!(head.contains(&format!("Host: 127.0.0.1:{port}\r\n")), "{head}");
                write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            }
        });
        let mut peer = Peer::new(&format!("ws://127.0.0.1:{port}/elsewhere"));
        peer.transport.connect();
        let e = peer.refused();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.message().contains(&format!("HTTP {status}")) && e.message().contains(words), "{e}");
        serve.join().unwrap();
    }
}
