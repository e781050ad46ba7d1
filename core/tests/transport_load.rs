//! Brokers that stall while many messages are under way.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::thread;
use std::time::Duration;

use common::Mosquitto;
use peer::Peer;

#[test]
fn a_broker_that_stalls_gets_everything_when_it_goes_on() {
    let broker = Mosquitto::start();
    let mut reader = Peer::subscribed(&broker.url(), &["t"]);
    let mut writer = Peer::connected(&broker.url());
    for _ in 0..3 {
        broker.signal("STOP");
        // More than the sockets' buffers hold, so that writing stops half-way through a message.
        for n in 0..3_000 {
            writer.transport.publish(n, "t", vec![b'x'; 2_000]);
        }
        thread::sleep(Duration::from_millis(50));
        broker.signal("CONT");
        (0..3_000).for_each(|n| writer.acknowledged(n));
        (0..3_000).for_each(|_| drop(reader.message()));
    }
}

#[test]
fn dropping_a_client_with_a_full_queue_leaves_at_once() {
    let broker = Mosquitto::start();
    for _ in 0..5 {
        let mut writer = Peer::connected(&broker.url());
        broker.signal("STOP");
        for n in 0..3_000 {
            writer.transport.publish(n, "t", vec![b'x'; 2_000]);
        }
        drop(writer);
        broker.signal("CONT");
    }
}
