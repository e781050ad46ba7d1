//! What the broker knows of a client: its connection, if there is one, and what outlives it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rumqttd::protocol::PublishProperties;

use crate::codec::Version;
use crate::limits::Window;
use crate::topic::Filter;

pub type ConnectionId = u64;

/// A message on its way to subscribers.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Bytes,
    pub qos: u8,
    /// Sent because it was retained, to a new subscription.
    pub retain: bool,
    pub properties: Option<PublishProperties>,
}

#[derive(Debug)]
pub struct Subscription {
    pub filter: Filter,
    pub qos: u8,
    /// Not before.
    pub works_from: Duration,
}

#[derive(Debug, Default)]
pub struct Session {
    /// Another session of the same client is another number: what was meant for the former must not reach it.
    pub number: u64,
    pub connection: Option<ConnectionId>,
    /// How long it outlives its connection.
    pub expiry: Duration,
    /// When it ends, while there is no connection.
    pub ends: Duration,
    /// By the filter as it was sent.
    pub subscriptions: BTreeMap<String, Subscription>,
    /// Sent, not acknowledged.
    pub in_flight: HashMap<u16, Message>,
    /// Not sent, because too many are in flight.
    pub waiting: VecDeque<Message>,
    /// Came, or was in flight, while there was no connection.
    pub stored: VecDeque<Message>,
    last_id: u16,
}

impl Session {
    pub fn new(number: u64) -> Session {
        Session { number, ..Session::default() }
    }

    /// A packet id that is not in flight.
    pub fn next_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

/// How a connection came in.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// The custom authorizer decides about it.
    pub is_custom: bool,
}

#[derive(Debug)]
pub struct Connection {
    pub version: Version,
    pub client_id: String,
    pub inbound: Window,
    pub outbound: Window,
    /// Packet ids that no PUBACK was sent for.
    pub unacknowledged: HashSet<u16>,
    pub aliases: HashMap<u16, Bytes>,
    pub receive_maximum: usize,
    pub keep_alive: Duration,
    pub heard: Duration,
    pub will: Option<Message>,
    pub will_is_retained: bool,
}
