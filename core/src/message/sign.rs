//! Signatures: with a `signing_key` only who holds a key is believed. Pure.
//!
//! HMAC-SHA256 over the topic and the payload's own bytes, not over what they mean: nothing is written anew in order to
//! be checked, so two implementations cannot differ over it, and a shell can compute it (`docs/protocol.md`, "Signatures";
//! the reasons are in `docs/decisions/0008-signatures.md`).

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use serde::de::{self, Deserialize, Deserializer};
use serde_json::Value;
use sha2::Sha256;

use super::MAX_PAYLOAD;
use crate::error::{Error, Result};

/// Ahead of what is signed, so that a signature made here means nothing elsewhere.
const DOMAIN: &[u8] = b"unstale1\n";
/// Stands between the body and the key's id.
const FIELD: &[u8] = b",\"sig\":\"";
/// A signature in hexadecimal digits.
const MAC_DIGITS: usize = 64;
/// The longest id of a key.
const MAX_ID: usize = 32;
/// The shortest secret, in bytes: as long as what SHA-256 gives (RFC 2104, section 3).
const MIN_SECRET: usize = 32;
/// The longest: HMAC hashes what is longer than SHA-256's block, and nothing is won.
const MAX_SECRET: usize = 64;
/// Two are enough to rotate.
const MAX_KEYS: usize = 16;

/// Why a message is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no signature where one belongs.
    Unsigned,
    /// Signed with a key that this client does not have.
    UnknownKey,
    /// The signature is not that of this payload on this topic.
    BadSignature,
    /// Its numbers were all received before.
    Replayed,
}

impl Refusal {
    /// Its name in statistics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Unsigned => "unsigned",
            Refusal::UnknownKey => "unknown_key",
            Refusal::BadSignature => "bad_signature",
            Refusal::Replayed => "replayed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Unsigned => {
                "it is not signed, or its \"sig\" is not at its end, or it is too long to be looked at"
            }
            Refusal::UnknownKey => "it is signed with a key that this client does not have",
            Refusal::BadSignature => "its signature is wrong",
            Refusal::Replayed => "it was received before",
        })
    }
}

/// The keys of the option `signing_key`: the first signs, all verify.
///
/// Written as `id:secret`, several as a list or with commas between them. The id is 1 to 32 of `[A-Za-z0-9._-]` and goes
/// over the wire; the secret is 64 to 128 hexadecimal digits, as `openssl rand -hex 32` prints them. [`Debug`] shows ids only.
#[derive(Clone)]
pub struct SigningKeys(Arc<[Key]>);

struct Key {
    id: String,
    /// Keyed, and fed nothing yet.
    mac: Hmac<Sha256>,
}

impl SigningKeys {
    /// Reads keys, each `id:secret`.
    ///
    /// # Errors
    /// `Config`, which shows at most the id of the key at fault.
    pub fn parse<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<SigningKeys> {
        let keys = keys.into_iter().enumerate().map(|(i, key)| Key::parse(i + 1, key)).collect::<Result<Vec<_>>>()?;
        let fault = |what: String| Err(Error::config(format!("option `signing_key`: {what}")));
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return fault(format!("{} keys; give 1 to {MAX_KEYS}, of which the first signs", keys.len()));
        }
        for (i, key) in keys.iter().enumerate() {
            if keys[..i].iter().any(|other| other.id == key.id) {
                return fault(format!("two keys have the id {:?}; give each its own", key.id));
            }
        }
        Ok(SigningKeys(keys.into()))
    }

    /// The bytes that a signature adds to an envelope.
    pub fn overhead(&self) -> usize {
        FIELD.len() + self.0[0].id.len() + 1 + MAC_DIGITS + 1
    }

    /// An envelope as [`encode`](super::encode) writes it, with its signature for `topic`.
    pub fn sign(&self, topic: &str, mut envelope: Vec<u8>) -> Vec<u8> {
        let closed = envelope.pop();
        debug_assert_eq!(closed, Some(b'}'));
        let signature = self.signature(topic, &envelope);
        envelope.extend_from_slice(FIELD);
        envelope.extend_from_slice(signature.as_bytes());
        envelope.extend_from_slice(b"\"}");
        envelope
    }

    /// A probe's payload for `topic`.
    pub fn sign_probe(&self, topic: &str, counter: u64) -> Vec<u8> {
        let counter = counter.to_string();
        format!("{counter} {}", self.signature(topic, counter.as_bytes())).into_bytes()
    }

    /// Whether an envelope was signed for `topic` by a holder of one of these keys.
    pub fn verify(&self, topic: &str, payload: &[u8]) -> std::result::Result<(), Refusal> {
        let signed = Signed::envelope(payload).ok_or(Refusal::Unsigned)?;
        self.check(topic, &signed)
    }

    /// The same for a probe: its counter, as text.
    pub fn verify_probe<'a>(&self, topic: &str, payload: &'a [u8]) -> std::result::Result<&'a [u8], Refusal> {
        let signed = Signed::probe(payload).ok_or(Refusal::Unsigned)?;
        self.check(topic, &signed).map(|()| signed.body)
    }

    fn signature(&self, topic: &str, body: &[u8]) -> String {
        let key = &self.0[0];
        let mut text = format!("{}:", key.id);
        for byte in key.over(topic, body).finalize().into_bytes() {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        text
    }

    fn check(&self, topic: &str, signed: &Signed<'_>) -> std::result::Result<(), Refusal> {
        let key = self.0.iter().find(|key| key.id.as_bytes() == signed.id).ok_or(Refusal::UnknownKey)?;
        key.over(topic, signed.body).verify_slice(&signed.mac).map_err(|_| Refusal::BadSignature)
    }
}

impl Key {
    /// `nth` is how an error names a key whose id cannot be told.
    fn parse(nth: usize, text: &str) -> Result<Key> {
        let fault = |what: String| {
            Error::config(format!(
                "option `signing_key`: {what}; write id:secret, the secret from `openssl rand -hex 32`"
            ))
        };
        let (id, secret) = text.trim().split_once(':').ok_or_else(|| fault(format!("key {nth} has no `:`")))?;
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(in_id) {
            // It may be the secret, if they were given the wrong way round.
            return Err(fault(format!("the id of key {nth} is not 1 to {MAX_ID} of A-Z a-z 0-9 . _ -")));
        }
        let secret = bytes(secret.as_bytes(), |digit| digit.to_ascii_lowercase())
            .ok_or_else(|| fault(format!("the secret of key {id:?} is not hexadecimal digits, two for each byte")))?;
        if !(MIN_SECRET..=MAX_SECRET).contains(&secret.len()) {
            let length = secret.len();
            return Err(fault(format!(
                "the secret of key {id:?} has {length} bytes, and {MIN_SECRET} to {MAX_SECRET} are needed"
            )));
        }
        let mac = Hmac::new_from_slice(&secret).map_err(|_| fault(format!("the secret of key {id:?} is too long")))?;
        Ok(Key { id: id.to_owned(), mac })
    }

    /// A topic holds no line feed, so what is signed can be taken apart in one way only.
    fn over(&self, topic: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for part in [DOMAIN, topic.as_bytes(), b"\n", body] {
            mac.update(part);
        }
        mac
    }
}

/// A payload taken apart.
struct Signed<'a> {
    body: &'a [u8],
    id: &'a [u8],
    mac: Vec<u8>,
}

impl<'a> Signed<'a> {
    /// `{"v":1,…` `,"sig":"` id `:` signature `"}`, and nothing behind it.
    fn envelope(payload: &'a [u8]) -> Option<Signed<'a>> {
        let payload = bounded(payload)?;
        let (before, id, mac) = Self::tail(payload.strip_suffix(b"\"}")?)?;
        let body = before.strip_suffix(FIELD)?;
        (body.first() == Some(&b'{')).then_some(Signed { body, id, mac })
    }

    /// The counter, a space, id `:` signature.
    fn probe(payload: &'a [u8]) -> Option<Signed<'a>> {
        let (before, id, mac) = Self::tail(bounded(payload)?)?;
        let body = before.strip_suffix(b" ")?;
        (!body.is_empty() && body.iter().all(u8::is_ascii_digit)).then_some(Signed { body, id, mac })
    }

    fn tail(payload: &'a [u8]) -> Option<(&'a [u8], &'a [u8], Vec<u8>)> {
        let (rest, digits) = payload.split_at_checked(payload.len().checked_sub(MAC_DIGITS)?)?;
        // One spelling only: no capitals.
        let mac = bytes(digits, |digit| digit)?;
        let rest = rest.strip_suffix(b":")?;
        let id_at = rest.len() - rest.iter().rev().take(MAX_ID + 1).take_while(|&&byte| in_id(byte)).count();
        let (before, id) = rest.split_at(id_at);
        (1..=MAX_ID).contains(&id.len()).then_some((before, id, mac))
    }
}

/// A payload that somebody may have written who has a key: what is read is no longer either, with the signature. Else
/// strangers could have any amount of bytes hashed here.
fn bounded(payload: &[u8]) -> Option<&[u8]> {
    (payload.len() <= MAX_PAYLOAD).then_some(payload)
}

/// The id of the key with which an envelope says that it is signed, right or wrong.
pub fn signed_by(payload: &[u8]) -> Option<&str> {
    std::str::from_utf8(Signed::envelope(payload)?.id).ok()
}

/// A probe's counter as text, whether it is signed or not.
pub(crate) fn probe_counter(payload: &[u8]) -> &[u8] {
    Signed::probe(payload).map_or(payload, |signed| signed.body)
}

fn in_id(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Hexadecimal digits as bytes; `spell` maps what may stand for a lower-case digit.
fn bytes(digits: &[u8], spell: impl Fn(u8) -> u8) -> Option<Vec<u8>> {
    let value = |digit: u8| match spell(digit) {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| Some(value(pair[0])? << 4 | value(pair[1])?);
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(pair).collect())?
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| format!("{}:***", key.id))).finish()
    }
}

impl<'de> Deserialize<'de> for SigningKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // By way of a `Value`, since serde's own messages quote what they refuse.
        let keys = match Value::deserialize(deserializer)? {
            Value::String(keys) => Some(keys.split(',').map(str::to_owned).collect::<Vec<_>>()),
            Value::Array(keys) => keys.iter().map(|key| key.as_str().map(str::to_owned)).collect(),
            _ => None,
        };
        let keys = keys.ok_or_else(|| de::Error::custom("it must be id:secret, or a list of such texts"))?;
        SigningKeys::parse(keys.iter().map(String::as_str)).map_err(|e| {
            de::Error::custom(
                e.message().strip_prefix("option `signing_key`: ").unwrap_or("it cannot be read").to_owned(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode, Decoded, Message, Operations};
    use super::*;
    use proptest::prelude::*;

    const NEW: &str = "new:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OLD: &str = "old:202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f";
    const TOPIC: &str = "cache/invalidate/users";

    fn keys(keys: &[&str]) -> SigningKeys {
        SigningKeys::parse(keys.iter().copied()).unwrap()
    }

    fn payload(key: &str) -> Vec<u8> {
        let ops = Operations { keys: vec![(key.to_owned(), None)], ..Operations::default() };
        encode(&Message { ops, ..Message::default() })
    }

    #[test]
    fn the_first_key_signs_and_every_key_verifies() {
        let (before, during, after) = (keys(&[OLD]), keys(&[NEW, OLD]), keys(&[NEW]));
        let old = before.sign(TOPIC, payload("k"));
        let new = during.sign(TOPIC, payload("k"));
        assert_eq!((signed_by(&old), signed_by(&new)), (Some("old"), Some("new")));
        assert_eq!((during.verify(TOPIC, &old), during.verify(TOPIC, &new)), (Ok(()), Ok(())));
        assert_eq!(
            (before.verify(TOPIC, &new), after.verify(TOPIC, &old)),
            (Err(Refusal::UnknownKey), Err(Refusal::UnknownKey))
        );
        assert_eq!(after.sign_probe(TOPIC, 7), during.sign_probe(TOPIC, 7));
    }

    #[test]
    fn a_signature_is_for_one_topic_and_one_kind_of_payload() {
        let keys = keys(&[NEW]);
        let signed = keys.sign(TOPIC, payload("k"));
        assert_eq!(keys.verify("cache/invalidate/prices", &signed), Err(Refusal::BadSignature));
        let probe = keys.sign_probe(TOPIC, 7);
        assert_eq!(keys.verify_probe(TOPIC, &probe), Ok(&b"7"[..]));
        assert_eq!(keys.verify_probe("cache/invalidate/prices", &probe), Err(Refusal::BadSignature));
        assert_eq!(
            (keys.verify(TOPIC, &probe), keys.verify_probe(TOPIC, &signed)),
            (Err(Refusal::Unsigned), Err(Refusal::Unsigned))
        );
    }

    #[test]
    fn the_signature_of_one_kind_of_payload_is_none_of_the_other_on_the_same_topic() {
        let keys = keys(&[NEW]);
        let probe = String::from_utf8(keys.sign_probe(TOPIC, 7)).unwrap();
        let as_envelope = format!("7,\"sig\":\"{}\"}}", &probe["7 ".len()..]);
        assert_eq!(keys.verify(TOPIC, as_envelope.as_bytes()), Err(Refusal::Unsigned));
        let signed = String::from_utf8(keys.sign(TOPIC, payload("k"))).unwrap();
        let (body, signature) = signed.split_once(",\"sig\":\"").unwrap();
        let as_probe = format!("{body} {}", &signature[..signature.len() - 2]);
        assert_eq!(keys.verify_probe(TOPIC, as_probe.as_bytes()), Err(Refusal::Unsigned));
    }

    #[test]
    fn what_is_not_signed_in_its_place_is_unsigned() {
        let keys = keys(&[NEW]);
        let signed = String::from_utf8(keys.sign(TOPIC, payload("k"))).unwrap();
        let (body, tail) = signed.split_once(",\"sig\"").unwrap();
        let mac = &tail[tail.len() - 66..tail.len() - 2];
        for unsigned in [
            "",
            "k",
            "{",
            "\"}",
            "{\"v\":1,\"keys\":[\"k\"]}",
            &format!("{signed} "),
            &format!("{signed}\n"),
            &format!("{body},\"sig\":null}}"),
            &format!("{body},\"sig\":[\"new:{mac}\"]}}"),
            &format!("{body},\"sig\":\"{mac}\"}}"),
            &format!("{body},\"sig\":\":{mac}\"}}"),
            &format!("{body},\"sig\":\"new:{}\"}}", mac.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
            &format!("{body},\"sig\":\"new:{}\"}}", &mac[1..]),
            &format!("{body}, \"sig\":\"new:{mac}\"}}"),
            &format!("{body},\"sig\": \"new:{mac}\"}}"),
            &format!("{body},\"sig\":\"{}:{mac}\"}}", "n".repeat(MAX_ID + 1)),
            &signed.replace(",\"keys\":[\"k\"]", "").replace("\"}", "\",\"keys\":[\"k\"]}"),
            &signed[1..],
        ] {
            assert_eq!(keys.verify(TOPIC, unsigned.as_bytes()), Err(Refusal::Unsigned), "{unsigned}");
        }
    }

    #[test]
    fn what_is_longer_than_anybody_writes_is_not_verified() {
        let keys = keys(&[NEW]);
        let padded = |length: usize| {
            let body = format!("{{\"v\":1,\"x\":\"{}\"}}", "x".repeat(length - 14 - keys.overhead()));
            keys.sign(TOPIC, body.into_bytes())
        };
        let (longest, longer) = (padded(MAX_PAYLOAD), padded(MAX_PAYLOAD + 1));
        assert_eq!((longest.len(), longer.len()), (MAX_PAYLOAD, MAX_PAYLOAD + 1));
        assert_eq!((keys.verify(TOPIC, &longest), keys.verify(TOPIC, &longer)), (Ok(()), Err(Refusal::Unsigned)));
        let body = "7".repeat(MAX_PAYLOAD);
        let probe = format!("{body} {}", keys.signature(TOPIC, body.as_bytes()));
        assert_eq!(keys.verify_probe(TOPIC, probe.as_bytes()), Err(Refusal::Unsigned));
    }

    #[test]
    fn two_signatures_are_malformed_if_the_last_is_right_and_refused_if_it_is_wrong() {
        let keys = keys(&[NEW]);
        let signed = keys.sign(TOPIC, payload("k"));
        let twice = keys.sign(TOPIC, signed.clone());
        assert_eq!(keys.verify(TOPIC, &twice), Ok(()));
        assert!(decode(&twice).is_err());
        let copied = [&signed[..signed.len() - 1], &signed[payload("k").len() - 1..]].concat();
        assert_eq!(keys.verify(TOPIC, &copied), Err(Refusal::BadSignature));
    }

    #[test]
    fn a_key_that_is_weak_or_unclear_is_refused_and_not_shown() {
        let secret = &NEW[4..];
        let refused = |list: &[&str], names: &str| {
            let e = SigningKeys::parse(list.iter().copied()).unwrap_err().to_string();
            assert!(e.contains("`signing_key`") && e.contains(names), "{e} should name {names}");
            assert!(!e.contains("0102") && !e.contains("zz"), "{e}");
        };
        refused(&[], "0 keys");
        refused(&[""], "no `:`");
        refused(&[secret], "no `:`");
        refused(&[&format!(":{secret}")], "id of key 1");
        refused(&[&format!("{secret}:new")], "id of key 1");
        refused(&[NEW, &format!("a b:{secret}")], "id of key 2");
        refused(&[&NEW[..NEW.len() - 1]], "\"new\"");
        refused(&[&NEW[..NEW.len() - 2]], "31 bytes");
        refused(&[&format!("new:{}", secret.replace("1f", "zz"))], "\"new\"");
        refused(&[&format!("new:{secret}{secret}00")], "65 bytes");
        refused(&[NEW, OLD, NEW], "two keys have the id \"new\"");
        let many: Vec<String> = (0..=MAX_KEYS).map(|i| format!("k{i}:{secret}")).collect();
        refused(&many.iter().map(String::as_str).collect::<Vec<_>>(), "17 keys");
        assert!(SigningKeys::parse(many[1..].iter().map(String::as_str)).is_ok());
        assert_eq!(format!("{:?}", keys(&[NEW, OLD])), r#"["new:***", "old:***"]"#);
        let capitals = keys(&[&format!("new:{}", secret.to_uppercase())]);
        assert_eq!(capitals.verify(TOPIC, &keys(&[NEW]).sign(TOPIC, payload("k"))), Ok(()));
    }

    #[test]
    fn the_overhead_is_what_a_signature_adds() {
        for id in ["a", "a-longer.id_9"] {
            let keys = keys(&[&format!("{id}:{}", &NEW[4..])]);
            assert_eq!(keys.sign(TOPIC, payload("k")).len(), payload("k").len() + keys.overhead());
        }
    }

    proptest! {
        #[test]
        fn any_change_of_a_byte_of_topic_or_payload_is_refused(
            key in "[ -~]{1,20}", topic in "[a-z/]{1,20}", at in any::<prop::sample::Index>(), to in any::<u8>(),
        ) {
            let keys = keys(&[NEW, OLD]);
            let signed = keys.sign(&topic, payload(&key));
            prop_assert_eq!(keys.verify(&topic, &signed), Ok(()));
            let is_read = matches!(decode(&signed), Ok(Decoded::Envelope(m)) if m.ops.keys[0].0 == key);
            prop_assert!(is_read, "who has no key ignores it");
            let mut changed = signed.clone();
            changed[at.index(signed.len())] = to;
            prop_assert_eq!(keys.verify(&topic, &changed).is_ok(), changed == signed);
            let mut elsewhere = topic.clone().into_bytes();
            elsewhere[at.index(topic.len())] = to & 0x7f;
            let elsewhere = String::from_utf8(elsewhere).unwrap();
            prop_assert_eq!(keys.verify(&elsewhere, &signed).is_ok(), elsewhere == topic);
            let probe = keys.sign_probe(&topic, 4711);
            let mut changed = probe.clone();
            changed[at.index(probe.len())] = to;
            prop_assert_eq!(keys.verify_probe(&topic, &changed).is_ok(), changed == probe);
        }

        #[test]
        fn what_is_cut_or_grown_is_refused(key in "[a-z\"\\\\]{1,9}", cut in any::<prop::sample::Index>(), more in "[ -~]{1,80}") {
            let keys = keys(&[NEW]);
            let signed = keys.sign(TOPIC, payload(&key));
            let at = cut.index(signed.len());
            prop_assert!(keys.verify(TOPIC, &signed[..at]).is_err());
            prop_assert!(at == 0 || keys.verify(TOPIC, &signed[at..]).is_err());
            let grown = [&signed[..at], more.as_bytes(), &signed[at..]].concat();
            prop_assert!(keys.verify(TOPIC, &grown).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keys = keys(&[NEW]);
            prop_assert!(keys.verify(TOPIC, &bytes).is_err() && keys.verify_probe(TOPIC, &bytes).is_err());
            let end = b",\"sig\":\"new:0000000000000000000000000000000000000000000000000000000000000000\"}";
            let near = [&b"{"[..], &bytes, end].concat();
            prop_assert!(keys.verify(TOPIC, &near).is_err());
        }
    }
}
