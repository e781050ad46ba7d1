//! A transport and its events, as the link sees them, with deadlines.

#![allow(dead_code)] // each test binary uses its part

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use unstale::transport::{open, Event, Transport};
use unstale::{ClientConfig, Error, Result};

use crate::common::DEADLINE;

pub struct Peer {
    pub transport: Box<dyn Transport>,
    events: UnboundedReceiver<Event>,
    runtime: Runtime,
}

impl Peer {
    pub fn new(url: &str) -> Peer {
        Peer::configured(&ClientConfig::from_url(url).unwrap()).unwrap()
    }

    pub fn configured(config: &ClientConfig) -> Result<Peer> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (tx, events) = unbounded_channel();
        let id = format!("us-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let transport = open(config, config.client_id.as_deref().unwrap_or(&id), tx)?;
        Ok(Peer { transport, events, runtime: Builder::new_current_thread().enable_time().build().unwrap() })
    }

    /// One that is connected.
    pub fn connected(url: &str) -> Peer {
        let mut peer = Peer::new(url);
        peer.connect();
        peer
    }

    /// One that is connected and subscribed.
    pub fn subscribed(url: &str, topics: &[&str]) -> Peer {
        let mut peer = Peer::connected(url);
        peer.subscribe(topics);
        peer
    }

    pub fn connect(&mut self) {
        self.transport.connect();
        match self.event() {
            Event::Connected => {}
            other => panic!("not connected: {other:?}"),
        }
    }

    pub fn subscribe(&mut self, topics: &[&str]) {
        let topics: Vec<String> = topics.iter().map(|t| t.to_string()).collect();
        self.transport.subscribe(7, &topics);
        match self.event() {
            Event::Subscribed { id: 7, results } => {
                assert_eq!(results.len(), topics.len());
                results.into_iter().for_each(|r| r.unwrap());
            }
            other => panic!("not subscribed: {other:?}"),
        }
    }

    /// Publishes and waits for the acknowledgement.
    pub fn publish(&mut self, id: u64, topic: &str, payload: &str) {
        self.transport.publish(id, topic, payload.into());
        self.acknowledged(id);
    }

    /// Publishes many, not one after the other, and waits for all acknowledgements.
    pub fn publish_all(&mut self, topic: &str, payloads: impl IntoIterator<Item = String>) {
        let mut missing = 0;
        for (id, payload) in (0..).zip(payloads) {
            self.transport.publish(id, topic, payload.into());
            missing += 1;
            // Fewer than the library's buffer holds.
            while missing > 500 {
                self.published();
                missing -= 1;
            }
        }
        (0..missing).for_each(|_| self.published());
    }

    fn published(&mut self) {
        match self.event() {
            Event::Published { result: Ok(()), .. } => {}
            other => panic!("not acknowledged: {other:?}"),
        }
    }

    /// Publishes on a topic that this peer hears itself, and waits for both the acknowledgement and the message, which may
    /// come in either order. Whatever was asked of the broker before is done by then.
    pub fn round_trip(&mut self, topic: &str) {
        let (id, mark) = (u64::MAX, b"round trip");
        self.transport.publish(id, topic, mark.to_vec());
        let (mut acknowledged, mut received) = (false, false);
        while !(acknowledged && received) {
            match self.event() {
                Event::Published { id: i, result: Ok(()) } if i == id => acknowledged = true,
                Event::Message { payload, .. } if payload == mark => received = true,
                other => panic!("{other:?}"),
            }
        }
    }

    /// A round trip on a topic of its own.
    pub fn round_trip_alone(&mut self) {
        self.subscribe(&["alone"]);
        self.round_trip("alone");
    }

    pub fn acknowledged(&mut self, expected: u64) {
        match self.event() {
            Event::Published { id, result: Ok(()) } if id == expected => {}
            other => panic!("{expected} not acknowledged: {other:?}"),
        }
    }

    /// The next message, as (topic, payload).
    pub fn message(&mut self) -> (String, String) {
        match self.event() {
            Event::Message { topic, payload, retained: false, .. } => {
                (topic.to_string(), String::from_utf8(payload).unwrap())
            }
            other => panic!("not a message: {other:?}"),
        }
    }

    pub fn refused(&mut self) -> Error {
        match self.event() {
            Event::Refused(e) => e,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn lost(&mut self) -> Error {
        match self.event() {
            Event::Lost(e) => e,
            other => panic!("not lost: {other:?}"),
        }
    }

    /// The next event; the test fails when none comes.
    pub fn event(&mut self) -> Event {
        self.event_within(DEADLINE).unwrap_or_else(|| panic!("no event within {DEADLINE:?}"))
    }

    pub fn event_within(&mut self, limit: Duration) -> Option<Event> {
        self.runtime.block_on(async { tokio::time::timeout(limit, self.events.recv()).await.ok().flatten() })
    }

    /// Nothing more happens, for a while.
    pub fn quiet(&mut self) {
        if let Some(event) = self.event_within(Duration::from_millis(150)) {
            panic!("unexpected: {event:?}");
        }
    }
}
