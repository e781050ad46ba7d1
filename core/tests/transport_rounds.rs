//! Connecting over and over leaves nothing behind. Alone in its process, which it looks at from outside.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::{Mosquitto, DEADLINE};
use peer::Peer;
use unstale::ErrorKind;

#[test]
fn a_hundred_connections_leave_no_thread_file_or_memory_behind() {
    let mut broker = Mosquitto::start();
    let mut peer = Peer::new(&broker.url());
    let mut round = |peer: &mut Peer, n: usize| {
        peer.connect();
        peer.subscribe(&["t"]);
        peer.round_trip("t");
        if n % 10 == 9 {
            broker.kill();
            assert_eq!(peer.lost().kind(), ErrorKind::Connect);
            peer.transport.connect();
            assert_eq!(peer.refused().kind(), ErrorKind::Connect);
            broker.restart();
        } else {
            peer.transport.disconnect(Duration::from_secs(5));
            assert_eq!(peer.lost().kind(), ErrorKind::Closed);
        }
    };
    // What is made once is made by then.
    (0..20).for_each(|n| round(&mut peer, n));
    let before = settled();
    (0..100).for_each(|n| round(&mut peer, n));
    let after = settled();
    assert_eq!((after.threads, after.files), (before.threads, before.files));
    assert!(
        after.resident_kib < before.resident_kib + 1024,
        "{} KiB before, {} after",
        before.resident_kib,
        after.resident_kib
    );
}

struct Process {
    threads: usize,
    files: usize,
    resident_kib: usize,
}

fn look() -> Process {
    let count = |path: &str| fs::read_dir(path).unwrap().count();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    Process {
        threads: count("/proc/self/task"),
        files: count("/proc/self/fd"),
        resident_kib: line.trim().trim_end_matches(" kB").parse().unwrap(),
    }
}

/// The process once the threads that are ending have ended: libtest's own two, this library's of the last connection none, Paho's two.
fn settled() -> Process {
    let deadline = Instant::now() + DEADLINE;
    let mut last = look();
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = look();
        if (now.threads, now.files) == (last.threads, last.files) {
            return now;
        }
        assert!(Instant::now() < deadline, "the process does not settle");
        last = now;
    }
}
