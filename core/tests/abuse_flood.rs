//! Floods of publishers and of doubt. Memory, processor time and log lines are the whole process's: hence a file of its own,
//! and one test after another.

mod common;
#[path = "common/logs.rs"]
mod logs;
#[path = "common/peer.rs"]
mod peer;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{until, Mosquitto, DEADLINE};
use logs::Logs;
use peer::Peer;
use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, LinkState};

const TOPIC: &str = "cache/invalidate/users";

static LOGS: LazyLock<Logs> = LazyLock::new(Logs::keep);

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    LazyLock::force(&LOGS);
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(url: &str) -> (Client, Cache<String>) {
    let client = blocking::connect(ClientConfig::from_url(url).unwrap()).unwrap();
    let cache = client.cache("users", CacheConfig::default()).unwrap();
    until("live", || client.status().state == LinkState::Live);
    (client, cache)
}

/// What is sent before this returns is applied when it does.
fn settle(peer: &mut Peer, cache: &Cache<String>) {
    cache.set("mark", String::new()).unwrap();
    peer.publish(1, TOPIC, "mark");
    until("the mark falls", || cache.get("mark").is_none());
}

fn doubts(cache: &Cache<String>, reason: &str) -> u64 {
    cache.stats().doubts.get(reason).copied().unwrap_or(0)
}

/// Memory that this process holds, in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Processor time that this process has used.
fn processor_time() -> Duration {
    // SAFETY: plain data, which the call fills.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn heartbeat(src: &str, seq: u64) -> String {
    format!(r#"{{"v":1,"src":"{src}","seq":{seq}}}"#)
}

#[test]
fn any_number_of_publisher_streams_takes_bounded_memory_and_a_real_one_is_heard() {
    const STREAMS: usize = 12_000;
    const MEMORY: u64 = 30 << 20;
    let _alone = alone();
    let broker = Mosquitto::start();
    let ((reader, reads), (_writer, writes)) = (open(&broker.url()), open(&broker.url()));
    for i in 0..100 {
        reads.set(&format!("user:{i}"), "held".into()).unwrap();
    }
    let mut peer = Peer::connected(&broker.url());
    // Twice as long as any name that this library makes, with data above 1: every one is an unknown stream, and unconfirmed.
    let name = |round: usize, i: usize| format!("{round}-{i:0>60}");
    let before = resident();
    let mut after = Vec::new();
    for round in 0..3 {
        peer.publish_all(
            TOPIC,
            (0..STREAMS).map(|i| format!(r#"{{"v":1,"src":"{}","seq":7,"keys":["none:{i}"]}}"#, name(round, i))),
        );
        settle(&mut peer, &reads);
        after.push(resident().saturating_sub(before));
    }
    println!("memory after each {STREAMS} streams: {after:?}");
    assert!(after[2] < MEMORY, "{after:?} bytes more than before");
    assert!(after[2] < after[0] + MEMORY / 4, "it does not grow with the number: {after:?}");
    assert_eq!(doubts(&reads, "unknown_stream") as usize, 3 * STREAMS);

    // The newest 10,000 are known, those before them are not any more.
    let unknown = doubts(&reads, "unknown_stream");
    for (i, known) in [(STREAMS - 1, true), (STREAMS - 10_000, true), (0, false), (STREAMS - 10_002, false)] {
        let so_far = doubts(&reads, "unknown_stream");
        peer.publish(1, TOPIC, &heartbeat(&name(2, i), 7));
        settle(&mut peer, &reads);
        assert_eq!(doubts(&reads, "unknown_stream") == so_far, known, "stream {i}");
    }
    assert_eq!(doubts(&reads, "unknown_stream"), unknown + 2);

    assert_eq!(reads.get("user:1").as_deref(), Some("held"));
    let start = Instant::now();
    let token = writes.invalidate("user:1").unwrap().token();
    assert!(blocking::wait_for(&reader, &token, DEADLINE).unwrap());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(reads.get("user:1"), None);
}

#[test]
fn every_doubt_from_outside_is_counted_and_each_condition_is_logged_once_a_minute() {
    let _alone = alone();
    let broker = Mosquitto::start();
    let (client, cache) = open(&format!("{}?topic=doubtful", broker.url()));
    let mut peer = Peer::connected(&broker.url());
    cache.set("young", "held".into()).unwrap();
    let (before, used) = (cache.stats(), processor_time());
    assert_eq!(before.epoch, before.doubts.values().sum::<u64>());
    let kinds = [("malformed", 400), ("newer_version", 300), ("unknown_stream", 300)];
    let mut payloads = Vec::new();
    for i in 0..400 {
        payloads.push(format!(r#"{{"v":1,"keys":["cut short {i}"#));
        if i < 300 {
            payloads.push(format!(r#"{{"v":2,"something":{i}}}"#));
            payloads.push(heartbeat(&format!("stranger-{i}"), 3));
        }
    }
    for part in payloads.chunks(50) {
        peer.publish_all("doubtful/users", part.iter().cloned());
        assert_eq!(cache.get("young").as_deref(), Some("held"), "hits of young entries go on");
    }
    let doubtful = |reason: &str| doubts(&cache, reason) - before.doubts.get(reason).copied().unwrap_or(0);
    until("all are counted", || kinds.iter().map(|(reason, _)| doubtful(reason)).sum::<u64>() >= 1_000);
    for (reason, count) in kinds {
        assert_eq!(doubtful(reason), count, "{reason}");
    }
    let after = cache.stats();
    assert_eq!(after.epoch, after.doubts.values().sum::<u64>(), "each opens a new epoch");
    assert!(after.epoch >= before.epoch + 1_000);
    assert_eq!(cache.get("young").as_deref(), Some("held"));
    let used = processor_time() - used;
    assert!(used < Duration::from_secs(2), "{used:?} of processor time");
    // One line for what is broken and one for what is newer.
    assert_eq!(LOGS.with("doubtful/users").len(), 2, "{:?}", LOGS.with("doubtful/users"));
    blocking::close(&client, DEADLINE).unwrap();
}

#[test]
fn a_listener_that_panics_every_time_disturbs_nobody_and_is_logged_once_a_minute() {
    const EVENTS: usize = 500;
    let _alone = alone();
    let broker = Mosquitto::start();
    let (client, cache) = open(&broker.url());
    // Without the hook of `panic!`, which would fill the test's output.
    cache.on_invalidated(|_| std::panic::resume_unwind(Box::new("on purpose")));
    client.on_status(|_| std::panic::resume_unwind(Box::new("on purpose")));
    let heard = Arc::new(AtomicUsize::new(0));
    let count = heard.clone();
    cache.on_invalidated(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    cache.set("user:1", "held".into()).unwrap();
    let mut peer = Peer::connected(&broker.url());
    peer.publish_all(TOPIC, (0..EVENTS).map(|i| format!("user:{i}")));
    until("every event is told to the other listener", || heard.load(Ordering::Relaxed) == EVENTS);
    assert_eq!(cache.get("user:1"), None);
    assert_eq!(client.status().events_dropped, 0);
    assert_eq!(LOGS.with("a listener panicked").len(), 1);
    let start = Instant::now();
    assert_eq!(blocking::close(&client, Duration::from_secs(5)).unwrap(), 0);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
