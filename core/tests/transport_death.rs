//! Brokers that die while much is being written. The publisher is a process of its own: what goes wrong in the C library ends it.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::io::{self, BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::Mosquitto;
use peer::Peer;
use unstale::transport::Event;

/// Tells the test binary, started again, that it is the publisher, and for which broker.
const PUBLISHER: &str = "PUBLISHER_FOR";
/// Without the patch in `paho-sys` seven were enough in each of many runs.
const DEATHS: usize = 60;
const UNDER_WAY: u64 = 200;
const CONNECTED: &str = "connected";

#[test]
fn a_broker_that_dies_while_messages_are_written_costs_the_process_nothing_v5() {
    survives("5", "a_broker_that_dies_while_messages_are_written_costs_the_process_nothing_v5");
}

#[test]
fn a_broker_that_dies_while_messages_are_written_costs_the_process_nothing_v3() {
    survives("3.1.1", "a_broker_that_dies_while_messages_are_written_costs_the_process_nothing_v3");
}

fn survives(version: &str, test: &str) {
    if let Ok(url) = std::env::var(PUBLISHER) {
        return publish(&url);
    }
    let mut broker = Mosquitto::start();
    let mut publisher = Publisher::start(&format!("{}?mqtt_version={version}", broker.url()), test);
    for death in 0..DEATHS {
        publisher.round(death);
        thread::sleep(Duration::from_millis(20));
        broker.kill();
        broker.restart();
    }
    publisher.end();
}

/// The publisher's side: a connection for each line that is read, and on it as much as can be until it is lost.
fn publish(url: &str) {
    for line in io::stdin().lines() {
        line.unwrap();
        let mut peer = Peer::connected(url);
        println!("{CONNECTED}");
        let mut next = 0;
        let mut one_more = |peer: &mut Peer| {
            peer.transport.publish(next, "t", vec![b'x'; 100]);
            next += 1;
        };
        (0..UNDER_WAY).for_each(|_| one_more(&mut peer));
        loop {
            match peer.event() {
                Event::Published { result: Ok(()), .. } => one_more(&mut peer),
                Event::Published { result: Err(_), .. } => {}
                Event::Lost(_) => break,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The publisher's process, as the test sees it; ended with the test.
struct Publisher {
    child: Child,
    orders: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Publisher {
    fn start(url: &str, test: &str) -> Publisher {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(PUBLISHER, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Publisher { child, orders, lines }
    }

    /// Has it connect; it publishes when this returns.
    fn round(&mut self, deaths: usize) {
        // A broken pipe is told of below, with the reason.
        let _ = self.orders.as_mut().unwrap().write_all(b"again\n");
        for line in self.lines.by_ref() {
            // The first one stands behind libtest's own words.
            if line.unwrap().ends_with(CONNECTED) {
                return;
            }
        }
        panic!("the publisher ended when the broker had died {deaths} times: {}", self.child.wait().unwrap());
    }

    fn end(mut self) {
        self.orders = None;
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the publisher ended when the broker had died for the last time: {status}");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
