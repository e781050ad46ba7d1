//! The wire format: bytes to [`Message`] and back. Pure: no I/O, no clock.
//!
//! `docs/protocol.md` is the format's home and `tests/vectors/*.json` its conformance vectors. Decoding is
//! strict, because every implementation must read one payload in the same way: where JSON libraries differ
//! (names given twice, `1.0` for an integer, lone surrogates), the envelope is malformed, and a malformed
//! envelope is doubt and never silence.

mod check;
mod decode;
mod encode;
mod sign;
mod token;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use check::{check_key, check_namespace, check_prefix, check_src, check_tag, check_topic, check_version};
pub use decode::decode;
pub use encode::encode;
pub(crate) use encode::encoded_len;
pub(crate) use sign::probe_counter;
pub use sign::{signed_by, Refusal, SigningKeys};
pub use token::Token;

/// The version of the envelope that this library writes and reads.
pub const PROTOCOL_VERSION: u64 = 1;
/// The longest payload that is read, in bytes. Brokers may allow less: AWS IoT Core 128 KiB.
pub const MAX_PAYLOAD: usize = 256 * 1024;
/// The most operations (keys, tags, prefixes, and one for `all`) that one message may carry.
pub const MAX_OPERATIONS: usize = 10_000;
/// The longest key, tag or prefix, in bytes of UTF-8.
pub const MAX_KEY: usize = 1_024;
/// The longest namespace, in bytes.
pub const MAX_NAMESPACE: usize = 64;
/// The longest publisher stream name, in bytes.
pub const MAX_SRC: usize = 64;
/// The highest integer on the wire, 2^53 - 1: what a double holds exactly, so that JavaScript reads it too.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
/// How deep a JSON value in a field that this version does not know may nest, the envelope itself counted.
/// 64 is what the strictest of the common JSON libraries allow by default.
pub const MAX_DEPTH: usize = 64;

/// Where a message stands in its publisher's stream on one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher stream.
    pub src: Arc<str>,
    /// The lowest number that this message stands for; equal to `seq` unless messages were collapsed into it.
    pub first: u64,
    /// The message's number, from 1.
    pub seq: u64,
}

/// What a message invalidates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Operations {
    /// Keys, each with the version that is now current where the publisher gave one.
    pub keys: Vec<(String, Option<u64>)>,
    /// Tags: every entry that carries one of them falls.
    pub tags: Vec<String>,
    /// Prefixes: every entry whose key starts with one of them falls.
    pub prefixes: Vec<String>,
    /// The whole cache falls.
    pub all: bool,
}

impl Operations {
    /// True when nothing is invalidated.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.tags.is_empty() && self.prefixes.is_empty() && !self.all
    }

    /// The number of operations: keys, tags and prefixes, and one for `all`.
    pub fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + self.prefixes.len() + usize::from(self.all)
    }
}

/// A decoded envelope. Its parts are independent: a message may carry operations and ask `hello` at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `src`, `first` and `seq`. Without it the message is applied but is no part of gap logic.
    pub stamp: Option<Stamp>,
    /// What to invalidate. Empty and with a stamp: a heartbeat.
    pub ops: Operations,
    /// The sender asks publishers for a heartbeat.
    pub hello: bool,
    /// The asker's `staleness_bound` in milliseconds, as sent: clamp it before use.
    pub bound_ms: Option<u64>,
    /// Who sent it, where it says so. A `hello` has a `src` and no number; with a stamp this is the stamp's.
    pub src: Option<Arc<str>>,
    /// The stream ends with this message's number.
    pub bye: bool,
    /// The publisher's wall clock in milliseconds since 1970, for the lag metric only.
    pub ts: Option<u64>,
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// No bytes: how operators clear a retained message. Ignored and counted.
    Empty,
    /// One plain key: applied as an invalidation of that key, outside gap logic.
    Plain(String),
    /// An envelope.
    Envelope(Message),
}

/// Why a payload cannot be read. It may have been an invalidation, so it is doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    reason: Cow<'static, str>,
    newer: Option<u64>,
}

impl Malformed {
    fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Malformed { reason: reason.into(), newer: None }
    }

    fn newer(version: u64) -> Self {
        let reason = format!("\"v\" is {version}, and this library reads version {PROTOCOL_VERSION}; update it");
        Malformed { reason: reason.into(), newer: Some(version) }
    }

    /// The envelope's version, when that is what this library cannot read: a newer publisher, not a broken one.
    pub fn newer_version(&self) -> Option<u64> {
        self.newer
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Malformed {}
