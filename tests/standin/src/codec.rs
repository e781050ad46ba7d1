//! Packets to bytes and back, for both versions of MQTT: rumqttd's codec, behind the checks that a server needs.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::protocol::{self, v4::V4, v5::V5, Protocol, PublishProperties};

/// What the first packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 3.1.1
    V3,
    /// 5
    V5,
}

/// rumqttd keeps the head of a PUBLISH to itself, so this has its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// A PUBLISH, either way.
    Publish(Publish),
    /// Any other.
    Other(protocol::Packet),
}

/// A message on the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Publish {
    /// 0, 1 or 2
    pub qos: u8,
    /// 0 for QoS 0
    pub id: u16,
    /// the RETAIN flag
    pub retain: bool,
    /// May be empty when there is an alias.
    pub topic: Bytes,
    /// the message
    pub payload: Bytes,
    /// Of MQTT 5 only.
    pub properties: Option<PublishProperties>,
}

/// Longer ones are not read at all: no limit of AWS lets them through.
const LONGEST: usize = 256 * 1024;
/// The kinds that a client may send: what rumqttd does not expect from one, it does not survive. (Type 15 is AUTH.)
const FROM_CLIENTS: [u8; 9] = [1, 3, 4, 8, 10, 12, 14, 5, 6];

/// The version that a connection's first bytes ask for; nothing while there are too few.
///
/// # Errors
/// When they are not the beginning of a CONNECT.
pub fn version(start: &[u8]) -> Result<Option<Version>, String> {
    if start.first().is_some_and(|first| *first != 0x10) {
        return Err("the first packet is not a CONNECT".into());
    }
    let Some(length) = start.iter().skip(1).position(|byte| byte & 0x80 == 0) else { return Ok(None) };
    // Header, the name "MQTT" with its length, the level.
    Ok(start.get(1 + length + 1 + 6).map(|level| if *level == 5 { Version::V5 } else { Version::V3 }))
}

/// Takes a packet from the front; nothing while it is not complete.
///
/// # Errors
/// When it is malformed, longer than any limit, or nothing that a client may send.
pub fn decode(version: Version, buffer: &mut BytesMut) -> Result<Option<Packet>, String> {
    match buffer.first().map(|first| first >> 4) {
        Some(15) => return Err("AUTH is not supported".into()),
        Some(kind) if !FROM_CLIENTS.contains(&kind) => return Err(format!("packet type {kind} is not a client's")),
        _ => {}
    }
    let read = match version {
        Version::V3 => V4.read_mut(buffer, LONGEST),
        Version::V5 => V5.read_mut(buffer, LONGEST),
    };
    match read {
        Ok(protocol::Packet::Publish(head, properties)) => Ok(Some(Packet::Publish(taken_apart(&head, properties)?))),
        Ok(other) => Ok(Some(Packet::Other(other))),
        Err(protocol::Error::InsufficientBytes(_)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// # Panics
/// On a packet that this version does not have; both sides are ours.
pub fn encode(version: Version, packet: Packet, buffer: &mut BytesMut) {
    let packet = match packet {
        Packet::Publish(publish) => {
            let properties = publish.properties.clone().filter(|_| version == Version::V5);
            protocol::Packet::Publish(put_together(&publish), properties)
        }
        Packet::Other(packet) => packet,
    };
    match version {
        Version::V3 => V4.write(packet, buffer),
        Version::V5 => V5.write(packet, buffer),
    }
    .expect("the packet can be written");
}

/// Through the form in which rumqttd stores it: head, id, length of the topic, topic, payload.
fn taken_apart(head: &protocol::Publish, properties: Option<PublishProperties>) -> Result<Publish, String> {
    let mut stored = head.serialize();
    if stored.len() < 5 {
        return Err("a PUBLISH without a topic".into());
    }
    let (first, id) = (stored[0], u16::from_be_bytes([stored[1], stored[2]]));
    let topic_length = usize::from(u16::from_be_bytes([stored[3], stored[4]]));
    let mut rest = stored.split_off(5);
    let topic = rest.split_to(topic_length);
    Ok(Publish { qos: (first >> 1) & 3, id, retain: first & 1 != 0, topic, payload: rest, properties })
}

fn put_together(publish: &Publish) -> protocol::Publish {
    let mut stored = BytesMut::with_capacity(5 + publish.topic.len() + publish.payload.len());
    stored.put_u8(publish.qos << 1 | u8::from(publish.retain));
    stored.put_u16(publish.id);
    stored.put_u16(publish.topic.len() as u16);
    stored.extend_from_slice(&publish.topic);
    stored.extend_from_slice(&publish.payload);
    protocol::Publish::deserialize(stored.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_comes_back_as_it_was_in_both_versions() {
        for version in [Version::V3, Version::V5] {
            let publish = Publish {
                qos: 1,
                id: 7,
                retain: true,
                topic: Bytes::from_static(b"a/b"),
                payload: Bytes::from_static(b"payload"),
                properties: None,
            };
            let mut buffer = BytesMut::new();
            encode(version, Packet::Publish(publish.clone()), &mut buffer);
            assert_eq!(decode(version, &mut buffer), Ok(Some(Packet::Publish(publish))));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_only_a_server_sends_is_refused_and_does_not_panic() {
        for version in [Version::V3, Version::V5] {
            for kind in [0u8, 2, 7, 9, 11, 13, 15] {
                let mut buffer = BytesMut::from(&[kind << 4, 3, 0, 1, 0][..]);
                assert!(decode(version, &mut buffer).is_err(), "{kind}");
            }
        }
    }

    #[test]
    fn the_version_is_told_by_the_first_bytes() {
        let connect = |level: u8| [&[0x10u8, 0x80, 0x01, 0, 4][..], b"MQTT", &[level]].concat();
        assert_eq!(version(&connect(5)), Ok(Some(Version::V5)));
        assert_eq!(version(&connect(4)), Ok(Some(Version::V3)));
        assert_eq!(version(&connect(5)[..9]), Ok(None));
        assert!(version(&[0x30]).is_err());
    }
}
