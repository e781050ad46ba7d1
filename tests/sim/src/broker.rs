//! The broker and the network, modelled after mosquitto over TCP: one queue per session and direction, in order; QoS 1 with a
//! window of messages under way; and acknowledged messages that are dropped when a subscriber's queue is full.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use unstale::clock::Nanos;
use unstale::message::{self, Decoded};
use unstale::transport::Event;
use unstale::{Error, ErrorKind};

use crate::node::Request;
use crate::scenario::Plan;
use crate::world::{World, MS, S};

/// Messages to a subscriber that may lack its acknowledgement (mosquitto's `max_inflight_messages`).
const WINDOW: usize = 20;
const CONNECT_TIMEOUT: Nanos = 5 * S;

/// All sessions of the broker.
pub struct Broker {
    /// Nothing answers, and connections are refused.
    pub down: bool,
    /// It is stopped: nothing is handled, connections stay.
    pub stopped: bool,
    queue_limit: usize,
    /// Broken on purpose: probes travel with QoS 0 and overtake what is queued.
    probes_overtake: bool,
    sessions: BTreeMap<u64, Session>,
    next: u64,
    waiting: Vec<(u64, Packet)>,
}

/// A TCP connection with the MQTT session on it.
struct Session {
    node: usize,
    client_open: bool,
    broker_open: bool,
    accepted: bool,
    topics: BTreeSet<String>,
    under_way: BTreeSet<u64>,
    queue: VecDeque<Publication>,
    next_message: u64,
    last_up: Nanos,
    last_down: Nanos,
    held_up: VecDeque<Packet>,
    held_down: VecDeque<Packet>,
}

#[derive(Clone)]
struct Publication {
    topic: Arc<str>,
    payload: Vec<u8>,
}

#[derive(Clone)]
enum Packet {
    Connect,
    Connack,
    Subscribe(u64, Vec<String>),
    Unsubscribe(Vec<String>),
    Suback(u64, usize),
    Publish(u64, Publication),
    Puback(u64),
    Message(u64, Publication),
    Received(u64),
    Disconnect,
}

impl Broker {
    pub fn new(plan: &Plan) -> Broker {
        Broker {
            down: false,
            stopped: false,
            queue_limit: plan.queue_limit,
            probes_overtake: plan.probes_overtake,
            sessions: BTreeMap::new(),
            next: 0,
            waiting: Vec::new(),
        }
    }
}

impl World {
    // ---- requests of a node's transport ----

    pub fn request(&mut self, node: usize, request: Request) {
        if let Request::Connect = request {
            return self.connect(node);
        }
        let Some(session) = self.nodes[node].session_number() else { return };
        match request {
            Request::Connect => {}
            Request::Subscribe(id, topics) => self.send_up(session, Packet::Subscribe(id, topics)),
            Request::Unsubscribe(topics) => self.send_up(session, Packet::Unsubscribe(topics)),
            Request::Publish(id, topic, payload) => {
                self.send_up(session, Packet::Publish(id, Publication { topic: topic.into(), payload }));
            }
            Request::Disconnect => {
                self.send_up(session, Packet::Disconnect);
                self.client_lost(session, ErrorKind::Closed);
            }
        }
    }

    fn connect(&mut self, node: usize) {
        self.broker.next += 1;
        let number = self.broker.next;
        self.nodes[node].set_session(Some(number));
        let session = Session {
            node,
            client_open: true,
            broker_open: false,
            accepted: false,
            topics: BTreeSet::new(),
            under_way: BTreeSet::new(),
            queue: VecDeque::new(),
            next_message: 0,
            last_up: 0,
            last_down: 0,
            held_up: VecDeque::new(),
            held_down: VecDeque::new(),
        };
        self.broker.sessions.insert(number, session);
        if self.broker.down && !self.nodes[node].network.is_cut() {
            let delay = self.delay(node);
            self.on_node(node, delay, move |w| w.client_lost(number, ErrorKind::Connect));
            return;
        }
        self.send_up(number, Packet::Connect);
        self.on_node(node, CONNECT_TIMEOUT, move |w| {
            if w.broker.sessions.get(&number).is_some_and(|s| !s.accepted) {
                w.client_lost(number, ErrorKind::Timeout);
            }
        });
    }

    // ---- the network ----

    fn delay(&mut self, node: usize) -> Nanos {
        let (least, most) = self.nodes[node].network.delay;
        self.soon(least, most)
    }

    fn send_up(&mut self, number: u64, packet: Packet) {
        let Some(node) = self.broker.sessions.get(&number).map(|s| s.node) else { return };
        let at = self.now + self.delay(node);
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        session.last_up = at.max(session.last_up);
        self.at(session_time(number, self, true), move |w| w.arrive_up(number, packet));
    }

    fn send_down(&mut self, number: u64, packet: Packet) {
        let Some(node) = self.broker.sessions.get(&number).map(|s| s.node) else { return };
        let mut at = self.now + self.delay(node);
        let reorders = matches!(packet, Packet::Message(..)) && self.plan.reordering;
        if reorders && self.chance(0.3) {
            // A broker that keeps no order; the window W is what it may be off.
            at += self.rng.u64(0..self.plan.window() * 9 / 10);
            return self.at(at, move |w| w.arrive_down(number, packet));
        }
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        session.last_down = at.max(session.last_down);
        self.at(session_time(number, self, false), move |w| w.arrive_down(number, packet));
    }

    fn arrive_up(&mut self, number: u64, packet: Packet) {
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        if self.nodes[session.node].network.up_cut || !session.held_up.is_empty() {
            session.held_up.push_back(packet);
        } else if self.broker.stopped {
            self.broker.waiting.push((number, packet));
        } else {
            self.handle(number, packet);
        }
    }

    fn arrive_down(&mut self, number: u64, packet: Packet) {
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        if self.nodes[session.node].network.down_cut || !session.held_down.is_empty() {
            session.held_down.push_back(packet);
            return;
        }
        let node = session.node;
        if session.client_open {
            self.on_node(node, 0, move |w| w.receive(number, packet));
        }
    }

    /// Cuts one or both directions between a node and the broker: nothing is lost, nothing arrives. Connections break when
    /// their keep-alive runs out.
    pub fn cut(&mut self, node: usize, up: bool, down: bool) {
        self.unwell_from_now(node);
        let network = &mut self.nodes[node].network;
        network.up_cut |= up;
        network.down_cut |= down;
        network.cuts += 1;
        let (cut, keep_alive) = (network.cuts, self.plan.keep_alive);
        let numbers: Vec<u64> = self.broker.sessions.iter().filter(|(_, s)| s.node == node).map(|(n, _)| *n).collect();
        for number in numbers {
            self.on_node(node, keep_alive, move |w| {
                if w.nodes[node].network.is_cut() && w.nodes[node].network.cuts == cut {
                    w.client_lost(number, ErrorKind::Connect);
                }
            });
            self.after(keep_alive * 3 / 2, move |w| {
                if w.nodes[node].network.up_cut && w.nodes[node].network.cuts == cut {
                    w.broker_lost(number);
                }
            });
        }
    }

    pub fn heal(&mut self, node: usize) {
        let network = &mut self.nodes[node].network;
        (network.up_cut, network.down_cut) = (false, false);
        self.well_again(node);
        let numbers: Vec<u64> = self.broker.sessions.iter().filter(|(_, s)| s.node == node).map(|(n, _)| *n).collect();
        for number in numbers {
            let Some(session) = self.broker.sessions.get_mut(&number) else { continue };
            let up = std::mem::take(&mut session.held_up);
            let down = std::mem::take(&mut session.held_down);
            let gone = !session.client_open;
            for packet in up {
                self.arrive_up(number, packet);
            }
            for packet in down {
                self.arrive_down(number, packet);
            }
            if gone {
                self.broker_lost(number);
            }
        }
    }

    /// The client's end of a connection is gone; the other end learns of it if the network lets it.
    pub fn client_lost(&mut self, number: u64, kind: ErrorKind) {
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        if !std::mem::replace(&mut session.client_open, false) {
            return;
        }
        let (node, accepted) = (session.node, session.accepted);
        if self.nodes[node].session_number() == Some(number) {
            self.nodes[node].set_session(None);
            let error = Error::new(kind, "the simulated connection ended");
            let event = if accepted { Event::Lost(error) } else { Event::Refused(error) };
            self.on_node(node, 0, move |w| w.link_event(node, event));
        }
        if !self.nodes[node].network.up_cut {
            let delay = self.delay(node);
            self.after(delay, move |w| w.broker_lost(number));
        }
    }

    /// A process is gone, and with it its connections; silently, if its whole machine died.
    pub fn process_gone(&mut self, node: usize, silently: bool) {
        let keep_alive = self.plan.keep_alive;
        let numbers: Vec<u64> = self.broker.sessions.iter().filter(|(_, s)| s.node == node).map(|(n, _)| *n).collect();
        for number in numbers {
            if let Some(session) = self.broker.sessions.get_mut(&number) {
                session.client_open = false;
            }
            let delay = if silently { keep_alive * 3 / 2 } else { self.delay(node) };
            self.after(delay, move |w| w.broker_lost(number));
        }
    }

    fn broker_lost(&mut self, number: u64) {
        if let Some(session) = self.broker.sessions.get_mut(&number) {
            session.broker_open = false;
            let (node, open) = (session.node, session.client_open);
            if !open {
                self.broker.sessions.remove(&number);
            } else if !self.nodes[node].network.down_cut {
                let delay = self.delay(node);
                self.after(delay, move |w| {
                    w.client_lost(number, ErrorKind::Connect);
                    w.broker.sessions.remove(&number);
                });
            }
        }
    }

    // ---- the broker ----

    /// The broker dies with all that it had queued, and comes back after `pause`. `silently`: its machine died, so
    /// nobody is told.
    pub fn restart_broker(&mut self, pause: Nanos, silently: bool) {
        self.broker.down = true;
        self.broker.stopped = false;
        self.broker.waiting.clear();
        for node in 0..self.nodes.len() {
            self.unwell_from_now(node);
        }
        let keep_alive = self.plan.keep_alive;
        let numbers: Vec<u64> = self.broker.sessions.keys().copied().collect();
        for number in numbers {
            let Some(session) = self.broker.sessions.get_mut(&number) else { continue };
            session.broker_open = false;
            session.queue.clear();
            let node = session.node;
            let delay = if silently { keep_alive } else { self.delay(node) };
            self.on_node(node, delay, move |w| w.client_lost(number, ErrorKind::Connect));
        }
        self.after(pause, |w| {
            w.broker.down = false;
            for node in 0..w.nodes.len() {
                w.well_again(node);
            }
        });
    }

    /// The broker is stopped for a while; nothing is lost.
    pub fn stop_broker(&mut self, pause: Nanos) {
        self.broker.stopped = true;
        for node in 0..self.nodes.len() {
            self.unwell_from_now(node);
        }
        self.after(pause, |w| {
            w.broker.stopped = false;
            for node in 0..w.nodes.len() {
                w.well_again(node);
            }
            for (number, packet) in std::mem::take(&mut w.broker.waiting) {
                w.handle(number, packet);
            }
        });
    }

    /// A packet at the broker.
    fn handle(&mut self, number: u64, packet: Packet) {
        if self.broker.down {
            return;
        }
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        if matches!(packet, Packet::Connect) {
            session.broker_open = true;
            return self.send_down(number, Packet::Connack);
        }
        if !session.broker_open {
            // The broker gave the connection up; its host answers with a reset.
            let (node, open) = (session.node, session.client_open && session.accepted);
            if open {
                let delay = self.delay(node);
                self.on_node(node, delay, move |w| w.client_lost(number, ErrorKind::Connect));
            }
            return;
        }
        match packet {
            Packet::Subscribe(id, topics) => {
                let count = topics.len();
                for topic in topics {
                    // Granted, and never served: what access rules can do. Probes have a topic of their own.
                    if self.plan.subscription_lag > 0 && !topic.contains("/_probe/") && self.chance(0.2) {
                        continue;
                    }
                    let pause = self.soon(0, self.plan.subscription_lag);
                    self.after(pause, move |w| {
                        if let Some(session) = w.broker.sessions.get_mut(&number) {
                            session.topics.insert(topic);
                        }
                    });
                }
                self.send_down(number, Packet::Suback(id, count));
            }
            Packet::Unsubscribe(topics) => session.topics.retain(|topic| !topics.contains(topic)),
            Packet::Publish(id, publication) => {
                self.route(&publication);
                self.send_down(number, Packet::Puback(id));
            }
            Packet::Received(message) => {
                session.under_way.remove(&message);
                self.pump(number);
            }
            Packet::Disconnect => {
                self.broker.sessions.remove(&number);
            }
            _ => {}
        }
    }

    /// From here on the publication is accepted.
    fn route(&mut self, publication: &Publication) {
        if let Some((src, namespace, first, seq, invalidates)) = self.stamp(publication) {
            let first = if invalidates { first } else { seq + 1 };
            self.oracle.accepted(&src, namespace, first, seq, self.now);
        }
        let subscribers = self.broker.sessions.iter().filter(|(_, s)| s.broker_open);
        let subscribers: Vec<u64> =
            subscribers.filter(|(_, s)| s.topics.contains(&*publication.topic)).map(|(n, _)| *n).collect();
        for number in subscribers {
            let Some(session) = self.broker.sessions.get_mut(&number) else { continue };
            let node = session.node;
            let full = session.under_way.len() >= WINDOW && session.queue.len() >= self.broker.queue_limit;
            let loss = self.nodes[node].loss;
            if full || self.nodes[node].dropping || self.chance(loss) {
                if let Some((src, namespace, _, seq, _)) = self.stamp(publication) {
                    self.trace(|| format!("dropped for node {node}: {src} {seq} of cache {namespace}"));
                    self.oracle.dropped(node, &src, namespace, seq, self.now);
                }
                continue;
            }
            if self.broker.probes_overtake && publication.topic.contains("/_probe/") {
                self.send_overtaking(number, publication.clone());
                continue;
            }
            if let Some(session) = self.broker.sessions.get_mut(&number) {
                session.queue.push_back(publication.clone());
            }
            self.pump(number);
        }
    }

    /// What QoS 0 would do: not queued, not acknowledged.
    fn send_overtaking(&mut self, number: u64, publication: Publication) {
        self.send_down(number, Packet::Message(0, publication));
    }

    fn pump(&mut self, number: u64) {
        loop {
            let Some(session) = self.broker.sessions.get_mut(&number) else { return };
            if session.under_way.len() >= WINDOW {
                return;
            }
            let Some(publication) = session.queue.pop_front() else { return };
            session.next_message += 1;
            let message = session.next_message;
            session.under_way.insert(message);
            let again = self.chance(self.plan.duplicates);
            self.send_down(number, Packet::Message(message, publication.clone()));
            if again {
                // Sent again, since its acknowledgement took too long.
                let delay = self.between(MS, S);
                self.after(delay, move |w| w.send_down(number, Packet::Message(message, publication)));
            }
        }
    }

    // ---- a node's end of the connection ----

    fn receive(&mut self, number: u64, packet: Packet) {
        let Some(session) = self.broker.sessions.get_mut(&number) else { return };
        if !session.client_open {
            return;
        }
        let node = session.node;
        match packet {
            Packet::Connack => {
                session.accepted = true;
                self.link_event(node, Event::Connected);
            }
            Packet::Suback(id, count) => {
                self.link_event(node, Event::Subscribed { id, results: (0..count).map(|_| Ok(())).collect() });
            }
            Packet::Puback(id) => self.link_event(node, Event::Published { id, result: Ok(()) }),
            Packet::Message(message, publication) => {
                if message > 0 {
                    self.send_up(number, Packet::Received(message));
                }
                let stamp = self.stamp(&publication);
                let Publication { topic, payload } = publication;
                self.link_event(node, Event::Message { topic, payload, retained: false, qos: 1 });
                match stamp {
                    Some((src, namespace, first, seq, true)) => {
                        self.oracle.received(node, &src, namespace, first, seq);
                    }
                    Some((src, namespace, _, seq, false)) => self.oracle.confirmed(node, &src, namespace, seq),
                    None => {}
                }
            }
            _ => {}
        }
    }

    /// Stream, namespace, numbers, and whether it invalidates anything.
    fn stamp(&self, publication: &Publication) -> Option<(Arc<str>, usize, u64, u64, bool)> {
        let namespace = (0..self.plan.namespaces).find(|i| publication.topic.ends_with(&format!("/n{i}")))?;
        let Ok(Decoded::Envelope(envelope)) = message::decode(&publication.payload) else { return None };
        let invalidates = !envelope.ops.is_empty();
        envelope.stamp.map(|stamp| (stamp.src, namespace, stamp.first, stamp.seq, invalidates))
    }
}

/// Packets of one direction keep their order.
fn session_time(number: u64, world: &World, up: bool) -> Nanos {
    let session = &world.broker.sessions[&number];
    if up {
        session.last_up
    } else {
        session.last_down
    }
}
