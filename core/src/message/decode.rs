//! Bytes to messages, strictly: all or nothing.
//!
//! One pass with serde_json does the work for a valid envelope. What serde_json skips unseen, the values of
//! unknown fields, is looked at again only where there are any; and only where the first pass fails, a second
//! finds out whether that is because the envelope is of a newer version.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::check::{quoted, text_fault, valid_src};
use super::{Decoded, Malformed, Message, Operations, Stamp};
use super::{MAX_DEPTH, MAX_INTEGER, MAX_KEY, MAX_OPERATIONS, MAX_PAYLOAD, PROTOCOL_VERSION};

/// Reads a payload. Never panics, whatever the bytes.
///
/// Empty: [`Decoded::Empty`]. First byte not `{`: one plain key. Else an envelope, and any fault in it makes the
/// whole of it [`Malformed`]. Time and memory are linear in the payload's length, which is bounded.
pub fn decode(payload: &[u8]) -> Result<Decoded, Malformed> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Malformed::new(format!(
            "the payload is {} bytes long; at most {MAX_PAYLOAD} are read",
            payload.len()
        )));
    }
    match payload.first() {
        None => Ok(Decoded::Empty),
        Some(b'{') => envelope(utf8(payload)?).map(Decoded::Envelope),
        Some(_) => plain(payload).map(Decoded::Plain),
    }
}

fn utf8(payload: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(payload).map_err(|e| Malformed::new(format!("byte {} is not valid UTF-8", e.valid_up_to())))
}

fn plain(payload: &[u8]) -> Result<String, Malformed> {
    if payload.len() > MAX_KEY {
        return Err(Malformed::new(format!("a plain key of {} bytes; at most {MAX_KEY} are allowed", payload.len())));
    }
    let key = utf8(payload)?;
    match text_fault(key) {
        None => Ok(key.to_owned()),
        Some(fault) => Err(Malformed::new(format!("plain key {}: {fault}", quoted(key)))),
    }
}

fn envelope(text: &str) -> Result<Message, Malformed> {
    match serde_json::from_str::<Fields>(text) {
        Ok(fields) => {
            if fields.unknown {
                check_skipped(text)?;
            }
            fields.message()
        }
        Err(fault) => Err(newer_version(text).unwrap_or_else(|| Malformed::new(fault.to_string()))),
    }
}

/// The fields of an envelope, each of the right type.
#[derive(Default)]
struct Fields<'a> {
    version: Option<u64>,
    src: Option<Cow<'a, str>>,
    seq: Option<u64>,
    first: Option<u64>,
    keys: Vec<String>,
    versions: Versions,
    tags: Vec<String>,
    prefixes: Vec<String>,
    all: bool,
    hello: bool,
    bound: Option<u64>,
    bye: bool,
    ts: Option<u64>,
    /// There were fields that this version does not know.
    unknown: bool,
}

impl Fields<'_> {
    /// Checks what concerns several fields, and puts them together.
    fn message(mut self) -> Result<Message, Malformed> {
        match self.version {
            None => return Err(Malformed::new("\"v\" is missing")),
            Some(PROTOCOL_VERSION) => {}
            Some(0) => return Err(Malformed::new("\"v\" is 0")),
            Some(newer) => return Err(Malformed::newer(newer)),
        }
        let src: Option<Arc<str>> = self.src.map(|src| Arc::from(&*src));
        let stamp = match (&src, self.seq) {
            (Some(src), Some(seq)) => Some(Stamp { src: src.clone(), first: self.first.unwrap_or(seq), seq }),
            (None, Some(_)) => return Err(Malformed::new("\"seq\" without \"src\"")),
            (Some(_), None) if !self.hello => return Err(Malformed::new("\"src\" without \"seq\"")),
            (_, None) => None,
        };
        match (&stamp, self.first) {
            (None, Some(_)) => return Err(Malformed::new("\"first\" without \"seq\"")),
            (Some(stamp), Some(first)) if first > stamp.seq => {
                return Err(Malformed::new("\"first\" is above \"seq\""))
            }
            _ => {}
        }
        let keys = self.versions.join(std::mem::take(&mut self.keys))?;
        let ops = Operations { keys, tags: self.tags, prefixes: self.prefixes, all: self.all };
        if ops.len() > MAX_OPERATIONS {
            return Err(Malformed::new(format!("{} operations; at most {MAX_OPERATIONS} are allowed", ops.len())));
        }
        Ok(Message { stamp, ops, hello: self.hello, bound_ms: self.bound, src, bye: self.bye, ts: self.ts })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Envelope;
        impl<'de> Visitor<'de> for Envelope {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an envelope")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                let mut seen = Names::default();
                while let Some(Text(name)) = map.next_key()? {
                    seen.add::<A::Error>(&name)?;
                    // `null` is absent, for every field: hence the options.
                    match &*name {
                        "v" => fields.version = integer(&mut map, "v", 0)?,
                        "src" => fields.src = source(&mut map)?,
                        "seq" => fields.seq = integer(&mut map, "seq", 1)?,
                        "first" => fields.first = integer(&mut map, "first", 1)?,
                        "keys" => fields.keys = names(&mut map, "key")?,
                        "versions" => fields.versions = map.next_value::<Option<_>>()?.unwrap_or_default(),
                        "tags" => fields.tags = names(&mut map, "tag")?,
                        "prefixes" => fields.prefixes = names(&mut map, "prefix")?,
                        "all" => fields.all = flag(&mut map)?,
                        "hello" => fields.hello = flag(&mut map)?,
                        "bound" => fields.bound = integer(&mut map, "bound", 0)?,
                        "bye" => fields.bye = flag(&mut map)?,
                        "ts" => fields.ts = integer(&mut map, "ts", 0)?,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            fields.unknown = true;
                        }
                    }
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Envelope)
    }
}

fn flag<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    Ok(map.next_value::<Option<bool>>()?.unwrap_or(false))
}

/// serde_json hands `1.0`, `1e3`, `-0` and what exceeds 64 bits to a `u64` as floats, and serde refuses those.
fn integer<'de, A: MapAccess<'de>>(map: &mut A, name: &str, least: u64) -> Result<Option<u64>, A::Error> {
    let value = map.next_value::<Option<u64>>()?;
    match value {
        Some(n) if n < least || n > MAX_INTEGER => {
            Err(A::Error::custom(format!("{name:?} is {n}, outside {least} to {MAX_INTEGER}")))
        }
        _ => Ok(value),
    }
}

fn source<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    match map.next_value::<Option<Text<'de>>>()? {
        Some(Text(src)) if !valid_src(&src) => {
            Err(A::Error::custom(format!("\"src\" is {}, not 1 to 64 letters, digits, '_' or '-'", quoted(&src))))
        }
        src => Ok(src.map(|Text(src)| src)),
    }
}

fn names<'de, A: MapAccess<'de>>(map: &mut A, what: &str) -> Result<Vec<String>, A::Error> {
    let names = map.next_value::<Option<Vec<String>>>()?.unwrap_or_default();
    for name in &names {
        if let Some(fault) = text_fault(name) {
            return Err(A::Error::custom(format!("{what} {}: {fault}", quoted(name))));
        }
    }
    Ok(names)
}

/// A string that is borrowed from the payload where it holds no escape.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Either)
    }
}

/// The names of one object so far. JSON libraries keep the first, the last or both of two; so two are refused.
#[derive(Default)]
struct Names<'a> {
    few: Vec<Cow<'a, str>>,
    many: HashSet<Cow<'a, str>>,
}

impl<'a> Names<'a> {
    /// An envelope has at most 13 known fields; a hostile one may have tens of thousands.
    const FEW: usize = 16;

    // The name is kept where it lies in the payload, which a `&str` would not allow.
    #[allow(clippy::ptr_arg)]
    fn add<E: serde::de::Error>(&mut self, name: &Cow<'a, str>) -> Result<(), E> {
        let twice = self.few.contains(name)
            || if self.few.len() < Self::FEW {
                self.few.push(name.clone());
                false
            } else {
                !self.many.insert(name.clone())
            };
        if twice {
            return Err(E::custom(format!("{} is given twice", quoted(name))));
        }
        Ok(())
    }
}

/// The object `versions`.
#[derive(Default)]
struct Versions(HashMap<String, Option<u64>>);

impl Versions {
    /// Gives each key its version. A version for a key that is not listed is a publisher's fault, and may have been
    /// meant as an invalidation.
    fn join(mut self, keys: Vec<String>) -> Result<Vec<(String, Option<u64>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(keys.into_iter().map(|key| (key, None)).collect());
        }
        let mut used: HashSet<&str> = HashSet::with_capacity(self.0.len());
        let versions: Vec<_> = keys
            .iter()
            .map(|key| match self.0.get_key_value(key.as_str()) {
                Some((name, version)) => {
                    used.insert(name);
                    *version
                }
                None => None,
            })
            .collect();
        if used.len() < self.0.len() {
            let used: HashSet<String> = used.into_iter().map(str::to_owned).collect();
            self.0.retain(|name, _| !used.contains(name));
            let name = self.0.into_keys().next().unwrap_or_default();
            return Err(Malformed::new(format!("\"versions\" has {}, which is not in \"keys\"", quoted(&name))));
        }
        Ok(keys.into_iter().zip(versions).collect())
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Versions;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of versions")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Versions, A::Error> {
                let mut versions = HashMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let version = integer(&mut map, "version", 0)?;
                    if let Some(fault) = text_fault(&name) {
                        return Err(A::Error::custom(format!("key {} of \"versions\": {fault}", quoted(&name))));
                    }
                    if versions.contains_key(&name) {
                        return Err(A::Error::custom(format!("{} is given twice in \"versions\"", quoted(&name))));
                    }
                    versions.insert(name, version);
                }
                Ok(Versions(versions))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What serde_json does not look at in a value it skips: lone surrogates, and how deep it nests.
/// `text` is valid JSON, so a backslash stands in a string and starts an escape.
fn check_skipped(text: &str) -> Result<(), Malformed> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut in_string = false;
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'"' => in_string = !in_string,
            b'\\' if bytes.get(i + 1) == Some(&b'u') => {
                match (code_unit(bytes, i), code_unit(bytes, i + 6)) {
                    (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => i += 6,
                    (Some(0xD800..=0xDFFF), _) => return Err(Malformed::new(format!("a lone surrogate at byte {i}"))),
                    _ => {}
                }
                i += 5;
            }
            b'\\' => i += 1,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Malformed::new(format!("nested deeper than {MAX_DEPTH} levels")));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        i += 1;
    }
    Ok(())
}

/// The UTF-16 code unit of the escape `\uXXXX` at `at`, if there is one.
fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether an envelope that failed as version 1 is well-formed JSON of a newer version. Then its other fields may
/// mean anything, and the publisher is not at fault.
fn newer_version(text: &str) -> Option<Malformed> {
    struct Probe(Option<u64>);
    impl<'de> Deserialize<'de> for Probe {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Object;
            impl<'de> Visitor<'de> for Object {
                type Value = Probe;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an envelope")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Probe, A::Error> {
                    let mut version = None;
                    let mut seen = Names::default();
                    while let Some(Text(name)) = map.next_key()? {
                        seen.add::<A::Error>(&name)?;
                        if name == "v" {
                            version = integer(&mut map, "v", 0)?;
                        } else {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                    Ok(Probe(version))
                }
            }
            deserializer.deserialize_map(Object)
        }
    }
    let Ok(Probe(Some(version))) = serde_json::from_str(text) else { return None };
    (version > PROTOCOL_VERSION && check_skipped(text).is_ok()).then(|| Malformed::newer(version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &str) -> String {
        decode(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn faults_are_named() {
        // The vectors hold the rules; this holds the sentences people read.
        for (text, part) in [
            (r#"{"v":1,"seq":1}"#, "without \"src\""),
            (r#"{"v":1,"src":"a b","seq":1}"#, "\"a b\""),
            (r#"{"v":1,"src":"a","seq":1.0}"#, "floating point"),
            (r#"{"v":1,"keys":["k"],"keys":["l"]}"#, "\"keys\" is given twice"),
            (r#"{"v":1,"keys":[""]}"#, "empty"),
            (r#"{"v":1,"keys":["k"],"versions":{"l":1}}"#, "\"l\", which is not in"),
            (r#"{"v":1,"keys":["k"]"#, "EOF"),
            (r#"{}"#, "\"v\" is missing"),
        ] {
            assert!(fault(text).contains(part), "{text}: {}", fault(text));
        }
    }

    #[test]
    fn a_newer_version_is_told_from_a_broken_envelope() {
        let newer = |text: &str| decode(text.as_bytes()).unwrap_err().newer_version();
        assert_eq!(newer(r#"{"v":2}"#), Some(2));
        assert_eq!(newer(r#"{"seq":"x","keys":{},"v":3}"#), Some(3));
        assert_eq!(newer(r#"{"v":2,"x":1,"x":1}"#), None);
        assert_eq!(newer(r#"{"v":2,"x":"\ud800"}"#), None);
        assert_eq!(newer(r#"{"v":2"#), None);
        assert_eq!(newer(r#"{"v":0}"#), None);
    }

    #[test]
    fn many_unknown_names_cost_linear_time() {
        let mut text = String::from("{\"v\":1");
        for i in 0..20_000 {
            text.push_str(&format!(",\"x{i}\":1"));
        }
        text.push('}');
        let start = std::time::Instant::now();
        assert!(decode(text.as_bytes()).is_ok());
        assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
    }

    /// Texts near the format, so that the interesting branches are reached.
    fn near_json() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just(":".to_owned()),
            Just("\"".to_owned()),
            Just("\\".to_owned()),
            Just("\\ud83d".to_owned()),
            Just("\\ude00".to_owned()),
            Just("null".to_owned()),
            Just("\"v\":1".to_owned()),
            Just("\"keys\":[\"a\"]".to_owned()),
            Just("\"src\":\"s\"".to_owned()),
            Just("\"seq\":1".to_owned()),
            Just("\"x\":".to_owned()),
            "[0-9.eE+-]{1,6}",
            "\\PC{0,4}",
            Just("\"versions\":{\"a\":1}".to_owned()),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| format!("{{{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            let _ = decode(&[b"{\"v\":1,", &bytes[..]].concat());
        }

        #[test]
        fn what_is_read_is_json_and_survives_a_round_trip(text in near_json()) {
            if let Ok(Decoded::Envelope(message)) = decode(text.as_bytes()) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
                prop_assert_eq!(decode(&super::super::encode(&message)), Ok(Decoded::Envelope(message)));
            }
        }

        #[test]
        fn skipped_values_are_held_to_the_same_strings_as_known_ones(body in "([a-z\"\\\\ud89cf]|\\\\u[dD][8-9a-fA-F]00|\\\\u0041|\\\\\\\\){0,8}") {
            // serde_json refuses lone surrogates in strings that it reads; ours must agree on those that it skips.
            let read = serde_json::from_str::<String>(&format!("\"{body}\"")).is_ok();
            let skipped = decode(format!("{{\"v\":1,\"x\":\"{body}\"}}").as_bytes()).is_ok();
            prop_assert_eq!(read, skipped, "{}", body);
        }
    }
}
