//! Messages to bytes.

use std::collections::BTreeMap;

use super::{Message, PROTOCOL_VERSION};

/// Writes the smallest envelope that says what `message` says. Nothing is checked: the API checked names and ranges.
///
/// `versions` has one entry per key, so a key that is given more than once has the highest of its versions, or none
/// where it is also given without: that invalidates more, never less. The outbox avoids such messages.
pub fn encode(message: &Message) -> Vec<u8> {
    let ops = &message.ops;
    let mut out = Vec::with_capacity(96 + ops.keys.iter().map(|(key, _)| key.len() + 3).sum::<usize>());
    out.extend_from_slice(b"{\"v\":");
    number(&mut out, PROTOCOL_VERSION);
    let src = message.stamp.as_ref().map(|stamp| &stamp.src).or(message.src.as_ref());
    if let Some(src) = src {
        name(&mut out, "src");
        text(&mut out, src);
    }
    if let Some(stamp) = &message.stamp {
        field(&mut out, "seq", stamp.seq);
        if stamp.first != stamp.seq {
            field(&mut out, "first", stamp.first);
        }
    }
    if !ops.keys.is_empty() {
        list(&mut out, "keys", ops.keys.iter().map(|(key, _)| key.as_str()));
        versions(&mut out, &ops.keys);
    }
    if !ops.tags.is_empty() {
        list(&mut out, "tags", ops.tags.iter().map(String::as_str));
    }
    if !ops.prefixes.is_empty() {
        list(&mut out, "prefixes", ops.prefixes.iter().map(String::as_str));
    }
    for (set, flag) in [(ops.all, "all"), (message.hello, "hello"), (message.bye, "bye")] {
        if set {
            name(&mut out, flag);
            out.extend_from_slice(b"true");
        }
    }
    if let Some(bound) = message.bound_ms {
        field(&mut out, "bound", bound);
    }
    if let Some(ts) = message.ts {
        field(&mut out, "ts", ts);
    }
    out.push(b'}');
    out
}

/// The bytes that `text` takes as a JSON string, quotes included, without writing it.
pub(crate) fn encoded_len(text: &str) -> usize {
    2 + text.bytes().map(escaped_len).sum::<usize>()
}

fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 0x08 | 0x09 | 0x0A | 0x0C | 0x0D => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn versions(out: &mut Vec<u8>, keys: &[(String, Option<u64>)]) {
    if keys.iter().all(|(_, version)| version.is_none()) {
        return;
    }
    let mut merged = BTreeMap::new();
    for (key, version) in keys {
        merged
            .entry(key.as_str())
            .and_modify(|held: &mut Option<u64>| *held = held.zip(*version).map(|(a, b)| a.max(b)))
            .or_insert(*version);
    }
    let mut open = false;
    for (key, version) in merged {
        let Some(version) = version else { continue };
        if open {
            out.push(b',');
        } else {
            name(out, "versions");
            out.push(b'{');
            open = true;
        }
        text(out, key);
        out.push(b':');
        number(out, version);
    }
    if open {
        out.push(b'}');
    }
}

fn list<'a>(out: &mut Vec<u8>, field: &str, items: impl Iterator<Item = &'a str>) {
    name(out, field);
    out.push(b'[');
    for (i, item) in items.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        text(out, item);
    }
    out.push(b']');
}

fn field(out: &mut Vec<u8>, field: &str, value: u64) {
    name(out, field);
    number(out, value);
}

/// Starts a field after the first; names are ASCII and need no escape.
fn name(out: &mut Vec<u8>, field: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(field.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(value.to_string().as_bytes());
}

fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    for &byte in value.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0A => out.extend_from_slice(b"\\n"),
            0x0C => out.extend_from_slice(b"\\f"),
            0x0D => out.extend_from_slice(b"\\r"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::super::{decode, Decoded, Operations, Stamp, MAX_INTEGER};
    use super::*;
    use proptest::prelude::*;

    fn shown(message: &Message) -> String {
        String::from_utf8(encode(message)).unwrap()
    }

    #[test]
    fn an_envelope_holds_only_what_it_says() {
        assert_eq!(shown(&Message::default()), r#"{"v":1}"#);
        let stamp = Some(Stamp { src: "a".into(), first: 7, seq: 7 });
        assert_eq!(shown(&Message { stamp, ..Message::default() }), r#"{"v":1,"src":"a","seq":7}"#);
        let stamp = Some(Stamp { src: "a".into(), first: 3, seq: 7 });
        let ops = Operations {
            keys: vec![("k\"1\n".into(), Some(4)), ("k2".into(), None)],
            tags: vec!["t".into()],
            prefixes: vec!["p:".into()],
            all: true,
        };
        let message = Message { stamp, ops, hello: true, bound_ms: Some(500), src: None, bye: true, ts: Some(9) };
        assert_eq!(
            shown(&message),
            r#"{"v":1,"src":"a","seq":7,"first":3,"keys":["k\"1\n","k2"],"versions":{"k\"1\n":4},"tags":["t"],"prefixes":["p:"],"all":true,"hello":true,"bye":true,"bound":500,"ts":9}"#
        );
        let hello = Message { hello: true, src: Some("a".into()), bound_ms: Some(30_000), ..Message::default() };
        assert_eq!(shown(&hello), r#"{"v":1,"src":"a","hello":true,"bound":30000}"#);
    }

    #[test]
    fn a_key_given_twice_is_never_invalidated_less_than_asked() {
        let keys = |keys: &[(&str, Option<u64>)]| {
            let keys = keys.iter().map(|(key, version)| (key.to_string(), *version)).collect();
            shown(&Message { ops: Operations { keys, ..Operations::default() }, ..Message::default() })
        };
        assert_eq!(
            keys(&[("k", Some(2)), ("k", Some(5)), ("k", Some(3))]),
            r#"{"v":1,"keys":["k","k","k"],"versions":{"k":5}}"#
        );
        assert_eq!(keys(&[("k", Some(2)), ("k", None), ("k", Some(3))]), r#"{"v":1,"keys":["k","k","k"]}"#);
    }

    fn name() -> impl Strategy<Value = String> {
        any::<String>().prop_filter("a key", |s| super::super::check_key(s).is_ok())
    }

    fn source() -> impl Strategy<Value = std::sync::Arc<str>> {
        "[A-Za-z0-9_-]{1,64}".prop_map(Into::into)
    }

    fn message() -> impl Strategy<Value = Message> {
        let integer = 0..=MAX_INTEGER;
        let stamp = (source(), 1..=MAX_INTEGER, 1..=MAX_INTEGER).prop_map(|(src, a, b)| Stamp {
            src,
            first: a.min(b),
            seq: a.max(b),
        });
        let keys = proptest::collection::btree_map(name(), proptest::option::of(integer.clone()), 0..6);
        let names = || proptest::collection::vec(name(), 0..4);
        let ops = (keys, names(), names(), any::<bool>()).prop_map(|(keys, tags, prefixes, all)| Operations {
            keys: keys.into_iter().collect(),
            tags,
            prefixes,
            all,
        });
        let number = || proptest::option::of(integer.clone());
        (proptest::option::of(stamp), ops, any::<[bool; 2]>(), number(), proptest::option::of(source()), number())
            .prop_map(|(stamp, ops, [hello, bye], bound_ms, src, ts)| {
                let src = match &stamp {
                    Some(stamp) => Some(stamp.src.clone()),
                    None => src.filter(|_| hello),
                };
                Message { stamp, ops, hello, bound_ms, src, bye, ts }
            })
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_the_same(message in message()) {
            let bytes = encode(&message);
            prop_assert_eq!(decode(&bytes), Ok(Decoded::Envelope(message)));
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }

        #[test]
        fn lengths_are_known_without_encoding(value in any::<String>()) {
            let mut out = Vec::new();
            text(&mut out, &value);
            prop_assert_eq!(out.len(), encoded_len(&value));
            prop_assert_eq!(out, serde_json::to_vec(&value).unwrap());
        }
    }
}
