//! Strangers, listeners and brokers that behave badly. None of them may cost more than loads: invalidations go on being
//! applied, young entries go on being served, and nothing becomes a hot loop.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::{free_port, program, run, until, Mosquitto, TempDir, DEADLINE};
use peer::Peer;
use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, LinkState};

const TOPIC: &str = "cache/invalidate/users";
/// 2^53 - 1, the highest number there is.
const LAST: &str = "9007199254740991";

fn lazy(url: &str) -> (Client, Cache<String>) {
    let config = ClientConfig { lazy: true, ..ClientConfig::from_url(url).unwrap() };
    let client = blocking::connect(config).unwrap();
    let cache = client.cache("users", CacheConfig::default()).unwrap();
    (client, cache)
}

fn open(url: &str) -> (Client, Cache<String>) {
    let (client, cache) = lazy(url);
    until("live", || client.status().state == LinkState::Live);
    (client, cache)
}

/// What is sent before this returns is applied when it does.
fn settle(peer: &mut Peer, cache: &Cache<String>) {
    cache.set("mark", String::new()).unwrap();
    peer.publish(1, TOPIC, "mark");
    until("the mark falls", || cache.get("mark").is_none());
}

/// An invalidation of a well-behaved publisher takes no longer than ever.
fn is_prompt(url: &str, reads: &Cache<String>) {
    let (writer, writes) = open(url);
    reads.set("prompt", String::new()).unwrap();
    let start = Instant::now();
    writes.invalidate("prompt").unwrap();
    until("the real one is applied", || reads.get("prompt").is_none());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    blocking::close(&writer, DEADLINE).unwrap();
}

#[test]
fn hostile_numbers_are_malformed_or_doubt_or_nothing_and_what_is_valid_is_applied() {
    /// What a payload is: refused, or applied with at most one doubt. Applied ones invalidate `k`.
    enum Is {
        Malformed,
        Fine,
        Doubt(&'static str),
    }
    use Is::*;
    let broker = Mosquitto::start();
    let (_client, cache) = open(&broker.url());
    let mut peer = Peer::connected(&broker.url());
    let data = |src: &str, numbers: &str| format!(r#"{{"v":1,"src":"{src}",{numbers},"keys":["k"]}}"#);
    let last = |before: &str| format!(r#"{before}"seq":{LAST}"#);
    let script: Vec<(String, Is)> = vec![
        (data("a", r#""seq":0"#), Malformed),
        (data("a", r#""seq":-1"#), Malformed),
        (data("a", r#""seq":9007199254740992"#), Malformed),
        (data("a", r#""seq":18446744073709551616"#), Malformed),
        (data("a", r#""seq":1.0"#), Malformed),
        (data("a", r#""seq":4,"first":5"#), Malformed),
        (data("a", r#""seq":4,"first":0"#), Malformed),
        (data("a", r#""seq":1"#), Fine),
        (data("a", &last("")), Doubt("hole")),
        // The same number again, with other content: applied, since it may be what was missed.
        (data("a", &last(r#""tags":["t"],"#)), Fine),
        (data("a", r#""seq":2"#), Fine),
        (data("a", &last(r#""first":1,"#)), Fine),
        (format!(r#"{{"v":1,"src":"a","seq":{LAST},"bye":true,"keys":["k"]}}"#), Fine),
        (data("a", &last("")), Fine),
        (data("b", &last("")), Doubt("unknown_stream")),
        (data("b", r#""seq":1"#), Fine),
        (data("c", &last(r#""first":1,"#)), Fine),
        (data("d", r#""seq":1"#), Fine),
        (data("d", r#""seq":1000000"#), Doubt("hole")),
        (data("d", r#""seq":500"#), Fine),
        (data("d", r#""seq":2000000,"first":1000001"#), Fine),
        (data("d", r#""seq":4000000,"first":3000000"#), Doubt("hole")),
    ];
    let doubts = |cache: &Cache<String>| {
        let mut doubts: BTreeMap<&str, u64> = cache.stats().doubts;
        // How busy the machine is is no matter of this test.
        doubts.retain(|reason, _| !reason.contains("probe"));
        doubts
    };
    for (payload, is) in script {
        let mut expected = doubts(&cache);
        cache.set("k", "held".into()).unwrap();
        peer.publish(2, TOPIC, &payload);
        settle(&mut peer, &cache);
        let reason = match is {
            Malformed => Some("malformed"),
            Doubt(reason) => Some(reason),
            Fine => None,
        };
        reason.into_iter().for_each(|reason| *expected.entry(reason).or_insert(0) += 1);
        assert_eq!(doubts(&cache), expected, "{payload}");
        assert_eq!(cache.get("k").is_some(), matches!(is, Malformed), "{payload}");
    }
    is_prompt(&broker.url(), &cache);
}

/// Closed until it is opened; whoever waits at it is let through after the deadline at the latest.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn wait(&self) {
        let (open, opened) = &*self.0;
        drop(opened.wait_timeout_while(open.lock().unwrap(), DEADLINE, |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0 .0.lock().unwrap() = true;
        self.0 .1.notify_all();
    }
}

#[test]
fn a_listener_that_blocks_holds_back_neither_invalidations_nor_close_and_its_queue_is_bounded() {
    const QUEUE: usize = 10_000;
    const EVENTS: usize = QUEUE + 2_000;
    let broker = Mosquitto::start();
    let (client, cache) = open(&broker.url());
    let (gate, heard) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (blocked, count) = (gate.clone(), heard.clone());
    cache.on_invalidated(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        blocked.wait();
    });
    let blocked = gate.clone();
    client.on_status(move |_| blocked.wait());
    cache.set("user:1", "held".into()).unwrap();
    let mut peer = Peer::connected(&broker.url());
    peer.publish_all(TOPIC, (0..EVENTS - 1).map(|i| format!("user:{i}")));
    settle(&mut peer, &cache);
    assert_eq!(cache.get("user:1"), None, "applied meanwhile");
    assert_eq!(heard.load(Ordering::Relaxed), 1, "one is being told, and blocks");
    until("the rest is counted", || client.status().events_dropped as usize == EVENTS - 1 - QUEUE);
    is_prompt(&broker.url(), &cache);
    let start = Instant::now();
    assert_eq!(blocking::close(&client, Duration::from_secs(5)).unwrap(), 0);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    gate.open();
    until("what was kept is told", || heard.load(Ordering::Relaxed) == QUEUE + 1);
}

#[test]
fn a_wrong_password_is_not_tried_in_a_hot_loop() {
    let dir = TempDir::new();
    let file = dir.write("passwords", "");
    run(Command::new(program("mosquitto_passwd")).args(["-b", "-c"]).arg(&file).args(["alice", "right"]));
    let broker = Mosquitto::with_files(dir, &format!("allow_anonymous false\npassword_file {}\n", file.display()));
    let (client, cache) = lazy(&format!("mqtt://alice:wrong@127.0.0.1:{}", broker.port()));
    let refusals = || broker.log().matches("not authorised").count();
    until("it is refused", || refusals() > 0);
    let start = Instant::now();
    until("some time passes", || start.elapsed() > Duration::from_secs(4));
    assert!(refusals() <= 5, "{} attempts in 4 s, though only a person can mend it", refusals());
    assert!(client.status().reason.contains("`password`"), "{}", client.status().reason);
    cache.set("k", "held".into()).unwrap();
    assert_eq!(cache.get("k").as_deref(), Some("held"));
    blocking::close(&client, Duration::from_millis(100)).unwrap();
}

#[test]
fn a_broker_that_hangs_up_or_is_not_there_is_not_asked_in_a_hot_loop() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    let (hung_up, _) = lazy(&format!("mqtt://127.0.0.1:{port}"));
    let (absent, _) = lazy(&format!("mqtt://127.0.0.1:{}", free_port()));
    until("it is asked", || accepted.load(Ordering::Relaxed) > 0);
    let start = Instant::now();
    until("some time passes", || start.elapsed() > Duration::from_secs(4));
    // An attempt is at most two connections: the second finds out why the first failed.
    let asked = accepted.load(Ordering::Relaxed);
    assert!((2..=24).contains(&asked), "{asked} connections in 4 s");
    for client in [hung_up, absent] {
        assert_eq!((client.status().state, client.status().connects), (LinkState::Connecting, 0));
        assert!(client.status().reason.contains("127.0.0.1"), "{}", client.status().reason);
        blocking::close(&client, Duration::from_millis(100)).unwrap();
    }
}

#[test]
fn clients_with_the_same_client_id_take_turns_slowly_and_the_last_one_stays() {
    let broker = Mosquitto::start();
    let url = format!("{}?client_id=twin", broker.url());
    let mut twins = vec![open(&url), lazy(&url)];
    let reasons: Vec<_> = (0..2).map(|_| Arc::new(Mutex::new(Vec::<String>::new()))).collect();
    for ((client, cache), reasons) in twins.iter().zip(&reasons) {
        let reasons = reasons.clone();
        client.on_status(move |status| reasons.lock().unwrap().push(status.reason.clone()));
        cache.set("k", "held".into()).unwrap();
    }
    let pushed_out = |twin: usize| {
        let status = twins[twin].0.status();
        status.state == LinkState::Degraded && status.reason.contains("`client_id` \"twin\"")
    };
    until("the first is told why", || pushed_out(0));
    // Both cannot live at once; how often they tried is what counts.
    let (start, watched) = (Instant::now(), Duration::from_secs(5));
    while start.elapsed() < watched {
        for (_, cache) in &twins {
            assert_eq!(cache.get("k").as_deref(), Some("held"), "both serve by age");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let connects: u64 = twins.iter().map(|(client, _)| client.status().connects).sum();
    assert!((2..10).contains(&connects), "{connects} connections within {watched:?}");
    let live = |(client, _): &(Client, Cache<String>)| client.status().state == LinkState::Live;
    until("one lives", || twins.iter().any(live));
    let (winner, _) = twins.remove(usize::from(!live(&twins[0])));
    blocking::close(&winner, DEADLINE).unwrap();
    until("the other one lives", || live(&twins[0]));
}
