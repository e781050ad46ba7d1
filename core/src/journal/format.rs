//! A journal's bytes. Pure.
//!
//! A record is its payload's length and CRC-32, four bytes each, little-endian, and the payload. The first record is
//! the header, a JSON object; all others are envelopes of the protocol (see `outbox/restore.rs`). Reading ends before
//! the first record that is not whole: what follows was never confirmed to the caller, or never reached the disk.

use serde::{Deserialize, Serialize};

use crate::message::{check_namespace, check_src, check_topic, decode, Decoded, Message, MAX_PAYLOAD};

/// The format's version.
const VERSION: u64 = 1;
const FRAME: usize = 8;

/// Which stream the records belong to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    unstale_outbox: u64,
    /// The publisher stream.
    pub src: String,
    /// Root of the topics.
    pub topic: String,
    pub namespace: String,
}

impl Header {
    pub fn new(src: &str, topic: &str, namespace: &str) -> Header {
        Header { unstale_outbox: VERSION, src: src.into(), topic: topic.into(), namespace: namespace.into() }
    }
}

/// What a journal holds.
#[derive(Debug)]
pub struct Content {
    pub header: Header,
    pub records: Vec<Message>,
    /// The bytes that could be read.
    pub valid: u64,
}

/// Why nothing of a file can be used.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The header is not whole, or not a header.
    Damaged(String),
    /// A later version of this library wrote it.
    Newer(u64),
}

/// Appends one record.
pub fn append(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    out.extend_from_slice(payload);
}

/// Appends the record that comes first.
pub fn append_header(out: &mut Vec<u8>, header: &Header) {
    append(out, &serde_json::to_vec(header).unwrap_or_default());
}

/// The payload at the beginning of `bytes`, if it is whole.
fn first(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let length = u32::from_le_bytes(*length) as usize;
    // Zeros, as a file system may leave them, would be a record of no bytes with the right sum.
    let whole = (1..=MAX_PAYLOAD).contains(&length) && length <= rest.len();
    let payload = whole.then(|| &rest[..length])?;
    (crc32fast::hash(payload) == u32::from_le_bytes(*crc)).then_some(payload)
}

/// Reads a whole file.
pub fn read(bytes: &[u8]) -> Result<Content, Unreadable> {
    let damaged = |why: &str| Unreadable::Damaged(why.to_owned());
    let payload = first(bytes).ok_or_else(|| damaged("its header is not whole"))?;
    // A later version may write a header with other fields, so its number is looked at first.
    let value: serde_json::Value = serde_json::from_slice(payload).map_err(|_| damaged("its header is not JSON"))?;
    match value["unstale_outbox"].as_u64() {
        Some(VERSION) => {}
        Some(newer) => return Err(Unreadable::Newer(newer)),
        None => return Err(damaged("its header tells no version")),
    }
    let header: Header = serde_json::from_value(value).map_err(|e| damaged(&e.to_string()))?;
    check_src(&header.src)
        .and_then(|()| check_topic(&header.topic))
        .and_then(|()| check_namespace(&header.namespace))
        .map_err(|e| damaged(e.message()))?;
    let mut content = Content { header, records: Vec::new(), valid: (FRAME + payload.len()) as u64 };
    while let Some(payload) = first(&bytes[content.valid as usize..]) {
        let Ok(Decoded::Envelope(message)) = decode(payload) else { break };
        content.records.push(message);
        content.valid += (FRAME + payload.len()) as u64;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        append_header(&mut bytes, &Header::new("src", "cache/invalidate", "users"));
        let mut ends = vec![bytes.len()];
        for seq in 1..=4 {
            append(&mut bytes, format!(r#"{{"v":1,"src":"src","seq":{seq},"keys":["user:{seq}"]}}"#).as_bytes());
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_no_whole_record() {
        let (bytes, ends) = file();
        for length in 0..=bytes.len() {
            let whole = ends.iter().filter(|end| **end <= length).count();
            match read(&bytes[..length]) {
                Err(_) => assert_eq!(whole, 0, "torn at {length}"),
                Ok(content) => {
                    assert_eq!((content.records.len() + 1, content.valid as usize), (whole, ends[whole - 1]));
                    assert_eq!(content.header, Header::new("src", "cache/invalidate", "users"));
                }
            }
        }
    }

    #[test]
    fn a_byte_changed_anywhere_is_noticed_and_what_was_before_it_stays() {
        let (bytes, ends) = file();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x20;
            let before = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(read(&bad).map_or(0, |content| content.records.len() + 1), before, "changed at {at}");
        }
    }

    #[test]
    fn a_tail_of_zeros_is_no_record() {
        let (mut bytes, ends) = file();
        bytes.extend([0; 4096]);
        assert_eq!(read(&bytes).unwrap().valid as usize, ends[4]);
        assert!(matches!(read(&[0; 4096]), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn a_header_of_a_later_version_is_told_from_a_damaged_one() {
        let header = |text: &str| {
            let mut bytes = Vec::new();
            append(&mut bytes, text.as_bytes());
            read(&bytes).unwrap_err()
        };
        assert_eq!(header(r#"{"unstale_outbox":2}"#), Unreadable::Newer(2));
        let bad = |src: &str, topic: &str, namespace: &str| {
            serde_json::to_string(&Header::new(src, topic, namespace)).unwrap()
        };
        for bad in [r#"{"v":1}"#.into(), "x".into(), bad("a b", "t", ""), bad("a", "t/#", ""), bad("a", "t", "_x")] {
            assert!(matches!(header(&bad), Unreadable::Damaged(_)), "{bad}");
        }
    }
}
