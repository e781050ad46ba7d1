//! The broker's decisions: a packet and the time in, packets and closed connections out. No I/O. Publishing is in `delivery.rs`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rumqttd::protocol::{
    self, ConnAck, ConnAckProperties, Connect, ConnectProperties, ConnectReturnCode, Disconnect, DisconnectReasonCode,
    LastWill, Login, PingResp, QoS, SubAck, Subscribe, SubscribeProperties, SubscribeReasonCode, UnsubAck,
    UnsubAckReason, Unsubscribe,
};

use crate::codec::{Packet, Version};
use crate::config::Config;
use crate::limits::Window;
use crate::report::Report;
use crate::rules::Rule;
use crate::session::{Connection, ConnectionId, Message, Peer, Session, Subscription};
use crate::topic::{is_name, is_reserved, Filter};

#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
pub enum Input {
    Opened(Peer),
    Packet(Version, Packet),
    /// Not readable, or against a rule that only its bytes tell.
    Refused(Rule, String),
    Closed,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
pub enum Output {
    Packet(Version, Packet),
    /// After what was sent before it.
    Close,
}

/// What is to happen later.
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
pub(crate) enum Due {
    Deliver {
        client: String,
        session: u64,
        message: Message,
    },
    PubAck {
        connection: ConnectionId,
        id: u16,
    },
    KeepAlive(ConnectionId),
    Cut(ConnectionId),
    /// On this connection, what was stored for its session.
    Replay(ConnectionId),
}

struct Timer {
    at: Duration,
    /// First come, first served at the same moment.
    number: u64,
    due: Due,
}

pub struct Broker {
    pub(crate) config: Config,
    pub(crate) report: Arc<Report>,
    pub(crate) random: fastrand::Rng,
    pub(crate) connections: HashMap<ConnectionId, Connection>,
    /// Accepted, and no CONNECT yet.
    opened: HashMap<ConnectionId, Peer>,
    pub(crate) sessions: HashMap<String, Session>,
    pub(crate) retained: HashMap<String, Message>,
    connects: HashMap<String, Duration>,
    timers: BinaryHeap<Reverse<Timer>>,
    numbers: u64,
    outputs: Vec<(ConnectionId, Output)>,
}

impl Broker {
    pub fn new(config: Config, report: Arc<Report>) -> Broker {
        Broker {
            random: fastrand::Rng::with_seed(config.faults.seed),
            config,
            report,
            connections: HashMap::new(),
            opened: HashMap::new(),
            sessions: HashMap::new(),
            retained: HashMap::new(),
            connects: HashMap::new(),
            timers: BinaryHeap::new(),
            numbers: 0,
            outputs: Vec::new(),
        }
    }

    pub fn set_faults(&mut self, faults: crate::faults::Faults) {
        self.config.faults = faults;
    }

    /// What is to be sent since the last call.
    pub fn outputs(&mut self) -> Vec<(ConnectionId, Output)> {
        std::mem::take(&mut self.outputs)
    }

    pub fn next_due(&self) -> Option<Duration> {
        self.timers.peek().map(|timer| timer.0.at)
    }

    pub fn on_time(&mut self, now: Duration) {
        while self.timers.peek().is_some_and(|timer| timer.0.at <= now) {
            match self.timers.pop().expect("it was just seen").0.due {
                Due::Deliver { client, session, message } => self.deliver(&client, session, message, now),
                Due::PubAck { connection, id } => self.acknowledge(connection, id),
                Due::KeepAlive(id) => self.check_keep_alive(id, now),
                Due::Cut(id) => self.cut(id, now),
                Due::Replay(id) => self.replay(id, now),
            }
        }
    }

    pub fn handle(&mut self, id: ConnectionId, input: Input, now: Duration) {
        match input {
            Input::Opened(peer) => {
                self.opened.insert(id, peer);
            }
            Input::Refused(rule, why) => {
                let code = if rule == Rule::Malformed {
                    DisconnectReasonCode::MalformedPacket
                } else {
                    DisconnectReasonCode::ProtocolError
                };
                self.refuse(id, rule, &why, code, now);
            }
            Input::Closed => self.closed(id, now),
            Input::Packet(version, Packet::Other(protocol::Packet::Connect(connect, properties, will, _, login))) => {
                match self.opened.remove(&id) {
                    Some(peer) => self.connect(id, peer, Offer { version, connect, properties, will, login }, now),
                    None => {
                        self.refuse(id, Rule::Protocol, "a second CONNECT", DisconnectReasonCode::ProtocolError, now)
                    }
                }
            }
            Input::Packet(_, packet) => {
                // Of a connection that was closed a moment ago.
                let Some(connection) = self.connections.get_mut(&id) else { return };
                connection.heard = now;
                match packet {
                    Packet::Publish(publish) => self.publish(id, publish, now),
                    Packet::Other(packet) => self.other(id, packet, now),
                }
            }
        }
    }

    fn other(&mut self, id: ConnectionId, packet: protocol::Packet, now: Duration) {
        match packet {
            protocol::Packet::PubAck(ack, _) => self.acknowledged(id, ack.pkid, now),
            protocol::Packet::Subscribe(subscribe, properties) => self.subscribe(id, subscribe, properties, now),
            protocol::Packet::Unsubscribe(unsubscribe, _) => self.unsubscribe(id, &unsubscribe),
            protocol::Packet::PingReq(_) => self.send(id, protocol::Packet::PingResp(PingResp)),
            protocol::Packet::Disconnect(disconnect, _) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    if disconnect.reason_code == DisconnectReasonCode::NormalDisconnection {
                        connection.will = None;
                    }
                }
                self.close(id, now);
            }
            // "AWS IoT differences from MQTT specifications": PUBREC, PUBREL, PUBCOMP are not supported.
            _ => self.refuse(id, Rule::Protocol, "a packet of QoS 2", DisconnectReasonCode::ProtocolError, now),
        }
    }

    fn check_keep_alive(&mut self, id: ConnectionId, now: Duration) {
        let Some(connection) = self.connections.get(&id) else { return };
        // "Keep Alive timeout": "no packet has been received for 1.5 times the Keep Alive time".
        let ends = connection.heard + connection.keep_alive * 3 / 2;
        if now < ends {
            return self.later(ends, Due::KeepAlive(id));
        }
        self.refuse(id, Rule::KeepAliveTimeout, "nothing was heard", DisconnectReasonCode::KeepAliveTimeout, now);
    }

    fn cut(&mut self, id: ConnectionId, now: Duration) {
        if self.connections.contains_key(&id) {
            self.report.count("cut");
            self.close(id, now);
        }
    }

    pub fn cut_all(&mut self, now: Duration) {
        for id in self.connections.keys().copied().collect::<Vec<_>>() {
            self.cut(id, now);
        }
    }

    fn unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe) {
        let Some(session) = self.session_of(id) else { return };
        let reason = |was: bool| if was { UnsubAckReason::Success } else { UnsubAckReason::NoSubscriptionExisted };
        let reasons =
            unsubscribe.filters.iter().map(|filter| reason(session.subscriptions.remove(filter).is_some())).collect();
        self.send(id, protocol::Packet::UnsubAck(UnsubAck { pkid: unsubscribe.pkid, reasons }, None));
    }

    fn subscribe(
        &mut self,
        id: ConnectionId,
        subscribe: Subscribe,
        properties: Option<SubscribeProperties>,
        now: Duration,
    ) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (client, version) = (connection.client_id.clone(), connection.version);
        let limits = self.config.limits.clone();
        if subscribe.filters.len() > limits.filters_per_subscribe {
            let why = format!("{} filters in one SUBSCRIBE", subscribe.filters.len());
            return self.refuse(id, Rule::FiltersPerSubscribe, &why, DisconnectReasonCode::QuotaExceeded, now);
        }
        // "MQTT 5 properties": Subscription Identifier Available is 0.
        if properties.is_some_and(|properties| properties.id.is_some()) {
            let code = DisconnectReasonCode::SubscriptionIdentifiersNotSupported;
            return self.refuse(id, Rule::SubscriptionIdentifier, "a subscription identifier", code, now);
        }
        let mut codes = Vec::new();
        let mut end = None;
        for asked in &subscribe.filters {
            // "AWS IoT differences from MQTT specifications": with QoS 2 there is no SUBACK.
            if asked.qos == QoS::ExactlyOnce {
                return self.refuse(id, Rule::Qos2, &asked.path, DisconnectReasonCode::QoSNotSupported, now);
            }
            let filter = match acceptable(&limits, &asked.path) {
                Ok(filter) => filter,
                Err(rule) => return self.refuse(id, rule, &asked.path, DisconnectReasonCode::TopicFilterInvalid, now),
            };
            // "AWS IoT Core policy actions": a shared subscription is authorized by the filter within it.
            if !self.is_allowed(&client, "iot:Subscribe", "topicfilter", &filter.path) {
                codes.push(failure(version, SubscribeReasonCode::NotAuthorized));
                end = Some((Rule::UnauthorizedSubscribe, asked.path.clone(), DisconnectReasonCode::NotAuthorized));
                continue;
            }
            let works_from = now + Duration::from_millis(self.config.faults.suback_delay_ms);
            let session = self.sessions.get_mut(&client).expect("a connection has a session");
            let qos = asked.qos as u8;
            let subscription = Subscription { filter, qos, works_from };
            if session.subscriptions.len() >= limits.subscriptions && !session.subscriptions.contains_key(&asked.path) {
                codes.push(failure(version, SubscribeReasonCode::QuotaExceeded));
                end = Some((Rule::Subscriptions, asked.path.clone(), DisconnectReasonCode::QuotaExceeded));
                continue;
            }
            self.report.peak("subscriptions", session.subscriptions.len() + 1);
            codes.push(SubscribeReasonCode::Success(asked.qos));
            let number = session.number;
            let retained = self.retained.get(&subscription.filter.path).filter(|_| subscription.filter.group.is_none());
            let message =
                retained.map(|message| Message { qos: message.qos.min(qos), retain: true, ..message.clone() });
            session.subscriptions.insert(asked.path.clone(), subscription);
            if let Some(message) = message {
                self.later(works_from, Due::Deliver { client: client.clone(), session: number, message });
            }
        }
        self.send(id, protocol::Packet::SubAck(SubAck { pkid: subscribe.pkid, return_codes: codes }, None));
        if let Some((rule, filter, code)) = end {
            self.refuse(id, rule, &filter, code, now);
        }
    }

    fn connect(&mut self, id: ConnectionId, peer: Peer, offer: Offer, now: Duration) {
        let (version, mut client) = (offer.version, offer.connect.client_id.clone());
        let limits = self.config.limits.clone();
        if client.is_empty() && version == Version::V5 {
            // "MQTT 5 properties", Assigned Client Identifier.
            client = format!("assigned-{:016x}", self.random.u64(..));
        }
        if let Err((rule, why, code)) = self.judge(&client, &peer, &offer, now) {
            self.report.rejection(rule, &client, &why);
            // MQTT 3.1.1 knows few reasons; a quota is "server unavailable".
            let v3 = |code| match code {
                ConnectReturnCode::NotAuthorized | ConnectReturnCode::ClientIdentifierNotValid => code,
                _ => ConnectReturnCode::ServiceUnavailable,
            };
            let code = if version == Version::V5 { code } else { v3(code) };
            let refusal = protocol::Packet::ConnAck(ConnAck { session_present: false, code }, None);
            self.outputs.push((id, Output::Packet(version, Packet::Other(refusal))));
            self.outputs.push((id, Output::Close));
            return;
        }
        let asked = offer.connect.keep_alive;
        let keep_alive = limits.keep_alive(asked);
        if keep_alive != asked {
            self.report.rejection(Rule::KeepAlive, &client, &format!("{asked} s was asked for, {keep_alive} s holds"));
        }
        let former = self.sessions.get(&client).and_then(|session| session.connection);
        if let Some(former) = former {
            self.report.count("taken_over");
            self.disconnect(former, DisconnectReasonCode::SessionTakenOver, now);
        }
        let expiry = offer.session_expiry(limits.session_expiry_s);
        if offer.connect.clean_session || self.sessions.get(&client).is_some_and(|session| session.ends <= now) {
            self.sessions.remove(&client);
        }
        let session_present = self.sessions.contains_key(&client);
        self.numbers += 1;
        let fresh = Session::new(self.numbers);
        let session = self.sessions.entry(client.clone()).or_insert(fresh);
        (session.connection, session.expiry) = (Some(id), Duration::from_secs(expiry.into()));
        let (will, will_is_retained) = offer.will_message();
        let receive_maximum =
            offer.properties.as_ref().and_then(|properties| properties.receive_maximum).unwrap_or(u16::MAX);
        self.connections.insert(
            id,
            Connection {
                version,
                client_id: client.clone(),
                inbound: Window::default(),
                outbound: Window::default(),
                unacknowledged: Default::default(),
                aliases: Default::default(),
                receive_maximum: limits.unacknowledged_out.min(receive_maximum.into()),
                keep_alive: Duration::from_secs(keep_alive.into()),
                heard: now,
                will,
                will_is_retained,
            },
        );
        self.report.count("connects");
        let properties = ConnAckProperties {
            session_expiry_interval: Some(expiry),
            receive_max: Some(limits.unacknowledged_in as u16),
            max_qos: Some(1),
            retain_available: Some(1),
            max_packet_size: Some(limits.packet_bytes),
            assigned_client_identifier: offer.connect.client_id.is_empty().then(|| client.clone()),
            topic_alias_max: Some(limits.topic_aliases),
            wildcard_subscription_available: Some(1),
            subscription_identifiers_available: Some(0),
            shared_subscription_available: Some(1),
            server_keep_alive: (keep_alive != asked).then_some(keep_alive),
            ..ConnAckProperties::default()
        };
        let welcome = ConnAck { session_present, code: ConnectReturnCode::Success };
        self.send(id, protocol::Packet::ConnAck(welcome, (version == Version::V5).then_some(properties)));
        self.later(now + Duration::from_secs(u64::from(keep_alive) * 3 / 2), Due::KeepAlive(id));
        if let Some(seconds) = self.config.faults.cut_after_s {
            self.later(now + Duration::from_secs_f64(seconds), Due::Cut(id));
        }
        self.later(now, Due::Replay(id));
    }

    /// May it connect? If not: the rule, why, and what it is told.
    fn judge(
        &mut self,
        client: &str,
        peer: &Peer,
        offer: &Offer,
        now: Duration,
    ) -> Result<(), (Rule, String, ConnectReturnCode)> {
        let limits = &self.config.limits;
        // Quotas "Client ID size" and "Restricted client ID prefix": `$` is reserved.
        if client.is_empty() || client.len() > limits.client_id_bytes || client.starts_with('$') {
            let why = format!("a client id of {} bytes, or one that begins with $", client.len());
            return Err((Rule::ClientId, why, ConnectReturnCode::ClientIdentifierNotValid));
        }
        let interval = Duration::from_millis(limits.connect_interval_ms);
        if let Some(before) = self.connects.insert(client.to_owned(), now).filter(|before| now - *before < interval) {
            let why = format!("the last CONNECT was {} ms ago", (now - before).as_millis());
            return Err((Rule::ConnectRate, why, ConnectReturnCode::QuotaExceeded));
        }
        if peer.is_custom {
            let authorizer = self.config.authorizer.as_ref().ok_or_else(|| "there is no custom authorizer".to_owned());
            if let Err(why) = authorizer.and_then(|authorizer| authorizer.check(offer.login.as_ref())) {
                return Err((Rule::CustomAuthorizer, why, ConnectReturnCode::NotAuthorized));
            }
        }
        if !self.is_allowed(client, "iot:Connect", "client", client) {
            return Err((Rule::UnauthorizedConnect, client.to_owned(), ConnectReturnCode::NotAuthorized));
        }
        let Some(will) = &offer.will else { return Ok(()) };
        let topic = String::from_utf8_lossy(&will.topic);
        if will.qos == QoS::ExactlyOnce {
            return Err((Rule::Qos2, format!("a will for {topic}"), ConnectReturnCode::QoSNotSupported));
        }
        if !is_name(&topic) || is_reserved(&topic) || self.config.limits.topic(&topic).is_err() {
            return Err((Rule::WillTopic, topic.into(), ConnectReturnCode::TopicNameInvalid));
        }
        if !self.is_allowed(client, "iot:Publish", "topic", &topic) {
            return Err((Rule::UnauthorizedWill, topic.into(), ConnectReturnCode::NotAuthorized));
        }
        Ok(())
    }

    pub(crate) fn is_allowed(&self, client: &str, action: &str, kind: &str, name: &str) -> bool {
        let Some(policy) = &self.config.policy else { return true };
        let account = &self.config.account;
        policy.allows(client, action, &format!("arn:aws:iot:{}:{}:{kind}/{name}", account.region, account.id))
    }

    fn session_of(&mut self, id: ConnectionId) -> Option<&mut Session> {
        self.connections.get(&id).and_then(|connection| self.sessions.get_mut(&connection.client_id))
    }

    pub(crate) fn later(&mut self, at: Duration, due: Due) {
        self.numbers += 1;
        self.timers.push(Reverse(Timer { at, number: self.numbers, due }));
    }

    pub(crate) fn send(&mut self, id: ConnectionId, packet: protocol::Packet) {
        self.send_packet(id, Packet::Other(packet));
    }

    pub(crate) fn send_packet(&mut self, id: ConnectionId, packet: Packet) {
        if let Some(connection) = self.connections.get(&id) {
            self.outputs.push((id, Output::Packet(connection.version, packet)));
        }
    }

    /// Counts what was broken, says so (MQTT 5), and closes the connection.
    pub(crate) fn refuse(
        &mut self,
        id: ConnectionId,
        rule: Rule,
        why: &str,
        code: DisconnectReasonCode,
        now: Duration,
    ) {
        let client = self.connections.get(&id).map_or("", |connection| &connection.client_id);
        self.report.rejection(rule, client, why);
        self.disconnect(id, code, now);
    }

    fn disconnect(&mut self, id: ConnectionId, code: DisconnectReasonCode, now: Duration) {
        if self.connections.get(&id).is_some_and(|connection| connection.version == Version::V5) {
            self.send(id, protocol::Packet::Disconnect(Disconnect { reason_code: code }, None));
        }
        self.close(id, now);
    }

    pub(crate) fn close(&mut self, id: ConnectionId, now: Duration) {
        self.outputs.push((id, Output::Close));
        self.closed(id, now);
    }

    fn closed(&mut self, id: ConnectionId, now: Duration) {
        self.opened.remove(&id);
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(session) = self.sessions.get_mut(&connection.client_id) {
            session.connection = None;
            session.ends = now + session.expiry;
            // Their order is not promised to anyone.
            let unacknowledged = session.in_flight.drain().map(|(_, message)| message);
            session.stored.extend(unacknowledged);
            session.stored.append(&mut session.waiting);
            if session.expiry.is_zero() {
                self.sessions.remove(&connection.client_id);
            }
        }
        if let Some(will) = connection.will {
            self.route(will, connection.will_is_retained, now);
        }
    }
}

/// A CONNECT.
struct Offer {
    version: Version,
    connect: Connect,
    properties: Option<ConnectProperties>,
    will: Option<LastWill>,
    login: Option<Login>,
}

impl Offer {
    /// In seconds; 0 when the session ends with the connection.
    fn session_expiry(&self, limit: u32) -> u32 {
        match self.version {
            // "MQTT persistent sessions": MQTT 3 sessions with `cleanSession` 0 expire by the account's period.
            Version::V3 => u32::from(!self.connect.clean_session) * limit,
            Version::V5 => self
                .properties
                .as_ref()
                .and_then(|properties| properties.session_expiry_interval)
                .unwrap_or(0)
                .min(limit),
        }
    }

    fn will_message(&self) -> (Option<Message>, bool) {
        let Some(will) = &self.will else { return (None, false) };
        let topic = String::from_utf8_lossy(&will.topic).into_owned();
        let message =
            Message { topic, payload: will.message.clone(), qos: will.qos as u8, retain: false, properties: None };
        (Some(message), will.retain)
    }
}

/// The filter, or the rule that it breaks.
fn acceptable(limits: &crate::limits::Limits, text: &str) -> Result<Filter, Rule> {
    let filter = Filter::parse(text).ok_or(Rule::TopicFilter)?;
    if is_reserved(&filter.path) {
        return Err(Rule::ReservedTopic);
    }
    limits.topic(&filter.path).map(|()| filter)
}

/// MQTT 3.1.1 knows one failure only.
fn failure(version: Version, code: SubscribeReasonCode) -> SubscribeReasonCode {
    if version == Version::V5 {
        code
    } else {
        SubscribeReasonCode::Failure
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Timer) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timer {}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Timer) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timer {
    fn cmp(&self, other: &Timer) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
