//! A message's way through the broker: accepted or refused, matched, held back or doubled, sent or dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rumqttd::protocol::{self, DisconnectReasonCode, PubAck, PubAckReason, PublishProperties};

use crate::broker::{Broker, Due};
use crate::codec::{Packet, Publish, Version};
use crate::rules::{Loss, Rule};
use crate::session::{ConnectionId, Message};
use crate::topic::{is_name, is_reserved};

/// A client, the number of its session, the QoS of its subscription.
type Receiver = (String, u64, u8);

impl Broker {
    pub(crate) fn publish(&mut self, id: ConnectionId, publish: Publish, now: Duration) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (client, version) = (connection.client_id.clone(), connection.version);
        let limits = self.config.limits.clone();
        // "MQTT Quality of Service (QoS) options": level 2 is not supported.
        if publish.qos > 1 {
            return self.refuse(id, Rule::Qos2, "a publish with QoS 2", DisconnectReasonCode::QoSNotSupported, now);
        }
        let alias = publish.properties.as_ref().and_then(|properties| properties.topic_alias);
        if alias.is_some_and(|alias| alias == 0 || alias > limits.topic_aliases) {
            return self.refuse(id, Rule::TopicAlias, "a topic alias", DisconnectReasonCode::TopicAliasInvalid, now);
        }
        let topic = match alias {
            Some(alias) if publish.topic.is_empty() => connection.aliases.get(&alias).cloned().unwrap_or_default(),
            _ => publish.topic.clone(),
        };
        if let Some(alias) = alias {
            connection.aliases.insert(alias, topic.clone());
        }
        let topic = match acceptable(&limits, &topic) {
            Ok(topic) => topic,
            Err(rule) => {
                let why = String::from_utf8_lossy(&topic).into_owned();
                return self.refuse(id, rule, &why, DisconnectReasonCode::TopicNameInvalid, now);
            }
        };
        self.report.peak("payload_bytes", publish.payload.len());
        if publish.payload.len() > limits.payload_bytes
            || (version == Version::V5 && publish.wire_bytes() > limits.packet_bytes as usize)
        {
            let why = format!("{} bytes of payload for {topic}", publish.payload.len());
            return self.refuse(id, Rule::PayloadSize, &why, DisconnectReasonCode::PacketTooLarge, now);
        }
        if !self.accept_rate(id, &publish, &topic, now) {
            return;
        }
        let retains = publish.retain && !self.is_allowed(&client, "iot:RetainPublish", "topic", &topic);
        if retains || !self.is_allowed(&client, "iot:Publish", "topic", &topic) {
            // "PUBACK Reason Codes": 0x87; and the client is disconnected, as "Troubleshooting AWS IoT" says of unauthorized publishes.
            if publish.qos == 1 && version == Version::V5 {
                self.puback(id, publish.id, PubAckReason::NotAuthorized);
            }
            return self.refuse(id, Rule::UnauthorizedPublish, &topic, DisconnectReasonCode::NotAuthorized, now);
        }
        self.report.count("publishes");
        if publish.qos == 1 {
            self.later(
                now + Duration::from_millis(self.config.faults.puback_delay_ms),
                Due::PubAck { connection: id, id: publish.id },
            );
        }
        let properties = publish.properties.map(forwarded);
        let message = Message { topic, payload: publish.payload, qos: publish.qos, retain: false, properties };
        self.route(message, publish.retain, now);
    }

    /// Is it within the rate, and within what may be unacknowledged?
    fn accept_rate(&mut self, id: ConnectionId, publish: &Publish, topic: &str, now: Duration) -> bool {
        let limits = &self.config.limits;
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        let (client, version) = (connection.client_id.clone(), connection.version);
        if publish.qos == 1 && !connection.unacknowledged.contains(&publish.id) {
            if connection.unacknowledged.len() >= limits.unacknowledged_in {
                let why = format!("{} publishes are not acknowledged yet", connection.unacknowledged.len());
                if version == Version::V5 {
                    self.refuse(id, Rule::UnacknowledgedIn, &why, DisconnectReasonCode::ReceiveMaximumExceeded, now);
                } else {
                    // "no new publish requests are accepted from this client until a PUBACK message is returned".
                    self.report.rejection(Rule::UnacknowledgedIn, &client, &why);
                }
                return false;
            }
            // A throttled one stays here: its sender waits for it.
            connection.unacknowledged.insert(publish.id);
            self.report.peak("unacknowledged_in", connection.unacknowledged.len());
        }
        if connection.inbound.admit(now, limits.publishes_per_second).is_err() {
            self.report.rejection(Rule::InboundRate, &client, topic);
            if publish.qos == 1 && version == Version::V5 && self.config.faults.puback_when_throttled {
                connection.unacknowledged.remove(&publish.id);
                self.puback(id, publish.id, PubAckReason::QuotaExceeded);
            }
            return false;
        }
        self.report.peak("publishes_in_per_second", connection.inbound.peak);
        true
    }

    pub(crate) fn acknowledge(&mut self, id: ConnectionId, packet_id: u16) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.unacknowledged.remove(&packet_id);
            self.puback(id, packet_id, PubAckReason::Success);
        }
    }

    fn puback(&mut self, id: ConnectionId, packet_id: u16, reason: PubAckReason) {
        self.send(id, protocol::Packet::PubAck(PubAck { pkid: packet_id, reason }, None));
    }

    /// To everyone who has subscribed to it, in time.
    pub(crate) fn route(&mut self, message: Message, retains: bool, now: Duration) {
        // "Reserved topics": basic ingest goes to a rule and to no subscriber; there are no rules here.
        if message.topic.starts_with("$aws/") {
            return;
        }
        if retains {
            match message.payload.is_empty() {
                true => self.retained.remove(&message.topic),
                false => self.retained.insert(message.topic.clone(), message.clone()),
            };
        }
        for (client, session, qos) in self.receivers(&message.topic, now) {
            let (delay, second) = self.config.faults.delays(&mut self.random);
            if !delay.is_zero() {
                self.report.count("held_back");
            }
            let message = Message { qos: message.qos.min(qos), ..message.clone() };
            if let Some(second) = second {
                self.report.count("duplicated");
                let again = Due::Deliver { client: client.clone(), session, message: message.clone() };
                self.later(now + second, again);
            }
            self.later(now + delay, Due::Deliver { client, session, message });
        }
    }

    /// One for each client, and one member of each group.
    fn receivers(&mut self, topic: &str, now: Duration) -> Vec<Receiver> {
        let mut found = Vec::new();
        let mut groups: BTreeMap<(String, String), Vec<Receiver>> = BTreeMap::new();
        for (client, session) in &self.sessions {
            if session.connection.is_none() && session.ends <= now {
                continue;
            }
            let mut own = None;
            for subscription in session.subscriptions.values() {
                if subscription.works_from > now || !subscription.filter.matches(topic) {
                    continue;
                }
                let receiver = (client.clone(), session.number, subscription.qos);
                match &subscription.filter.group {
                    Some(group) => {
                        groups.entry((group.clone(), subscription.filter.path.clone())).or_default().push(receiver)
                    }
                    None if own.as_ref().is_none_or(|(_, _, qos)| *qos < subscription.qos) => own = Some(receiver),
                    None => {}
                }
            }
            found.extend(own);
        }
        // The map's order is another in every process.
        found.sort();
        for mut members in groups.into_values() {
            members.sort();
            let chosen = self.random.usize(..members.len());
            found.push(members.swap_remove(chosen));
        }
        found
    }

    pub(crate) fn deliver(&mut self, client: &str, number: u64, message: Message, now: Duration) {
        let limits = &self.config.limits;
        let Some(session) = self.sessions.get_mut(client).filter(|session| session.number == number) else {
            return self.report.loss(Loss::SessionGone);
        };
        let connection = session.connection.and_then(|id| Some((id, self.connections.get_mut(&id)?)));
        let Some((id, connection)) = connection else {
            if message.qos == 0 || session.stored.len() >= limits.stored {
                return self.report.loss(Loss::Offline);
            }
            return session.stored.push_back(message);
        };
        if message.qos == 1 && session.in_flight.len() >= connection.receive_maximum {
            if session.waiting.len() >= limits.waiting_out {
                return self.report.loss(Loss::TooManyWaiting);
            }
            return session.waiting.push_back(message);
        }
        if let Err(room) = connection.outbound.admit(now, limits.publishes_per_second) {
            // Stricter than a broker need be: its publisher was told that it is accepted.
            if message.qos == 0 || self.config.faults.drop_above_rate {
                return self.report.loss(Loss::OutboundRate);
            }
            return self.later(room, Due::Deliver { client: client.to_owned(), session: number, message });
        }
        self.report.peak("publishes_out_per_second", connection.outbound.peak);
        // "AWS IoT Core policy actions": iot:Receive is checked "every time a message is delivered to a client".
        if !self.is_allowed(client, "iot:Receive", "topic", &message.topic) {
            return self.report.loss(Loss::UnauthorizedReceive);
        }
        let session = self.sessions.get_mut(client).expect("it was just seen");
        let packet_id = if message.qos == 0 { 0 } else { session.next_id() };
        let publish = Publish {
            qos: message.qos,
            id: packet_id,
            retain: message.retain,
            topic: Bytes::from(message.topic.clone()),
            payload: message.payload.clone(),
            properties: message.properties.clone(),
        };
        if message.qos > 0 {
            session.in_flight.insert(packet_id, message);
            self.report.peak("unacknowledged_out", session.in_flight.len());
        }
        self.send_packet(id, Packet::Publish(publish));
        self.report.count("deliveries");
    }

    pub(crate) fn acknowledged(&mut self, id: ConnectionId, packet_id: u16, now: Duration) {
        let Some(connection) = self.connections.get(&id) else { return };
        let client = connection.client_id.clone();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.in_flight.remove(&packet_id);
        let number = session.number;
        if let Some(message) = session.waiting.pop_front() {
            self.deliver(&client, number, message, now);
        }
    }

    /// One stored message, and the next one in its time.
    pub(crate) fn replay(&mut self, id: ConnectionId, now: Duration) {
        let Some(connection) = self.connections.get(&id) else { return };
        let client = connection.client_id.clone();
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let number = session.number;
        if let Some(message) = session.stored.pop_front() {
            self.deliver(&client, number, message, now);
            let next = now + Duration::from_secs(1) / self.config.limits.replay_per_second.max(1);
            self.later(next, Due::Replay(id));
        }
    }
}

/// The topic, or the rule that it breaks.
fn acceptable(limits: &crate::limits::Limits, topic: &[u8]) -> Result<String, Rule> {
    let topic = std::str::from_utf8(topic).map_err(|_| Rule::TopicName)?;
    if !is_name(topic) {
        return Err(Rule::TopicName);
    }
    if is_reserved(topic) {
        return Err(Rule::ReservedTopic);
    }
    limits.topic(topic).map(|()| topic.to_owned())
}

/// An alias is between one client and the broker.
fn forwarded(properties: PublishProperties) -> PublishProperties {
    PublishProperties { topic_alias: None, subscription_identifiers: Vec::new(), ..properties }
}

impl Publish {
    /// Of the whole packet, in MQTT 5; without properties, of which unstale sends none.
    fn wire_bytes(&self) -> usize {
        1 + 4 + 2 + self.topic.len() + 2 + 1 + self.payload.len()
    }
}
