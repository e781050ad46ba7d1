//! Clients over a real mosquitto: strangers that speak the protocol, a broker that dies, a process that forks.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{program, run, until, Mosquitto, TempDir, DEADLINE};
use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, ErrorKind, LinkState};

fn open(url: &str) -> (Client, Cache<String>) {
    let client = blocking::connect(ClientConfig::from_url(url).unwrap()).unwrap();
    let cache = client.cache("users", CacheConfig::default()).unwrap();
    until("live", || client.status().state == LinkState::Live);
    (client, cache)
}

fn publish(broker: &Mosquitto, topic: &str, payload: &str) {
    run(Command::new(program("mosquitto_pub")).args([
        "-h",
        "127.0.0.1",
        "-p",
        &broker.port().to_string(),
        "-q",
        "1",
        "-t",
        topic,
        "-m",
        payload,
    ]));
}

#[test]
fn a_stranger_with_mosquitto_pub_can_invalidate() {
    let broker = Mosquitto::start();
    let (_client, cache) = open(&broker.url());
    for payload in ["user:42", r#"{"v":1,"prefixes":["user:"]}"#, r#"{"v":1,"all":true}"#] {
        cache.set("user:42", "old".into()).unwrap();
        publish(&broker, "cache/invalidate/users", payload);
        until(payload, || cache.get("user:42").is_none());
    }
    cache.set("user:42", "kept".into()).unwrap();
    publish(&broker, "cache/invalidate/orders", "user:42");
    publish(&broker, "cache/invalidate/users", r#"{"v":1,"keys":["user:42"#);
    until("the unreadable one is counted as doubt", || cache.stats().doubts.get("malformed") == Some(&1));
    assert_eq!(cache.get("user:42").as_deref(), Some("kept"), "young entries live on by their own age");
}

#[test]
fn what_was_invalidated_while_the_broker_was_dead_arrives_after_it_is_back() {
    let mut broker = Mosquitto::start();
    let ((writer, writes), (reader, reads)) = (open(&broker.url()), open(&broker.url()));
    let epoch = reads.stats().epoch;
    broker.kill();
    until("noticed", || writer.status().state == LinkState::Degraded && reader.status().state == LinkState::Degraded);
    reads.set("user:1", "old".into()).unwrap();
    let receipts: Vec<_> = (0..500).map(|i| writes.invalidate(&format!("user:{i}")).unwrap()).collect();
    assert!(!blocking::delivered(&receipts[0], Duration::ZERO), "nothing was lost and nothing was waited for");
    assert_eq!(reads.get("user:1").as_deref(), Some("old"), "it still serves, by age");
    broker.restart();
    for receipt in &receipts {
        assert!(blocking::delivered(receipt, DEADLINE));
    }
    // Published before the reader was back it is lost for it; then the new epoch limits the entry to its age.
    until("live again", || reader.status().state == LinkState::Live && writer.status().state == LinkState::Live);
    assert!(reads.stats().epoch > epoch, "a new connection is doubt");
    let receipt = writes.invalidate("user:1").unwrap();
    assert!(blocking::wait_for(&reader, &receipt.token(), DEADLINE).unwrap());
    assert_eq!(reads.get("user:1"), None);
    assert_eq!(blocking::close(&writer, DEADLINE).unwrap(), 0);
}

#[test]
fn without_a_broker_a_cache_lives_by_age_and_close_tells_what_was_left() {
    let mut broker = Mosquitto::start();
    let (client, cache) = open(&format!("{}?staleness_bound=500ms", broker.url()));
    broker.kill();
    until("noticed", || client.status().state == LinkState::Degraded);
    cache.set("k", "v".into()).unwrap();
    assert_eq!(cache.get("k").as_deref(), Some("v"));
    until("the bound ends it", || cache.get("k").is_none());
    cache.invalidate("k").unwrap();
    assert_eq!(blocking::close(&client, Duration::from_millis(50)).unwrap(), 1);
}

#[test]
fn proofs_keep_an_entry_beyond_its_age() {
    let broker = Mosquitto::start();
    let (_client, cache) = open(&format!("{}?staleness_bound=500ms", broker.url()));
    cache.set("k", "v".into()).unwrap();
    let stored = Instant::now();
    while stored.elapsed() < Duration::from_millis(2_000) {
        // A busy machine may delay a probe beyond its grace; then doubt is the right answer, and this is no test of it.
        let doubts = cache.stats().doubts.get("late_probe").copied().unwrap_or(0);
        if doubts > 0 {
            return;
        }
        let late = cache.get("k").is_none();
        assert!(
            !late || cache.stats().doubts.contains_key("late_probe") || recovers(&cache),
            "lapsed at {:?}",
            stored.elapsed()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a read that failed for want of a proof was followed by the late proof that explains it.
fn recovers(cache: &Cache<String>) -> bool {
    let end = Instant::now() + DEADLINE;
    while Instant::now() < end {
        if cache.get("k").is_some() || cache.stats().doubts.contains_key("late_probe") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[test]
fn a_forked_child_is_told_to_connect_again() {
    let broker = Mosquitto::start();
    let (client, cache) = open(&broker.url());
    cache.set("k", "v".into()).unwrap();
    let kinds = |r: Result<(), unstale::Error>| r.err().map(|e| e.kind()) == Some(ErrorKind::Forked);
    // SAFETY: the child calls nothing but functions that are documented for a forked child, and `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = cache.get("k").is_none()
            && kinds(cache.check("k"))
            && kinds(cache.set("k", String::new()).map(drop))
            && kinds(cache.invalidate("k").map(drop))
            && kinds(client.cache::<u8>("x", CacheConfig::default()).map(drop))
            && kinds(blocking::close(&client, Duration::ZERO).map(drop));
        // SAFETY: ends the child without running the parent's destructors.
        unsafe { libc::_exit(i32::from(!told)) };
    }
    let mut status = -1;
    // SAFETY: waits for the child that was just made.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "every call in the child says `Forked`");
    assert_eq!(cache.get("k").as_deref(), Some("v"), "the parent goes on");
    assert!(blocking::delivered(&cache.invalidate("k").unwrap(), DEADLINE));
}

#[test]
fn twenty_thousand_keys_travel_in_few_messages() {
    let broker = Mosquitto::start();
    let ((_w, writes), (reader, reads)) = (open(&broker.url()), open(&broker.url()));
    reads.set("key:19999", "old".into()).unwrap();
    let mut last = None;
    for i in 0..20_000 {
        last = Some(writes.invalidate(&format!("key:{i}")).unwrap());
    }
    let token = last.unwrap().token();
    assert!(blocking::wait_for(&reader, &token, DEADLINE).unwrap());
    assert_eq!(reads.get("key:19999"), None);
    let messages = reads.stats().invalidations_remote;
    assert!(messages <= 1_000, "{messages} messages for 20,000 keys");
}

#[test]
fn who_may_not_publish_is_told_so_at_once() {
    let dir = TempDir::new();
    let rules = dir.write("acl", "topic read cache/#\n");
    let broker = Mosquitto::with_files(dir, &format!("allow_anonymous true\nacl_file {}\n", rules.display()));
    let e = blocking::connect(ClientConfig::from_url(&format!("{}?connect_timeout=10m", broker.url())).unwrap())
        .unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Auth, "{e}");
    assert!(e.message().contains("does not allow this client to publish to `cache/invalidate/_probe/"), "{e}");
}
