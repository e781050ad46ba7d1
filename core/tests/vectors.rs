//! Runs `tests/vectors/*.json`, the protocol's conformance vectors, against this library's reader.
//!
//! What the files mean is in `tests/vectors/README.md`. A second, independent reader runs them too, in
//! `tests/protocol_reader/`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{json, Map, Value};
use unstale::message::{self, Decoded, Message, SigningKeys};

/// One case with the file it is from, its abbreviations written out.
struct Case {
    file: String,
    value: Value,
}

impl Case {
    fn name(&self) -> String {
        format!("{}: {}", self.file, self.value["name"].as_str().expect("every case has a name"))
    }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors");
    let mut cases = Vec::new();
    for entry in folder.read_dir().expect("tests/vectors").map(|entry| entry.expect("a file").path()) {
        if entry.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let file = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&entry).expect("a readable file");
        let mut content: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let list = content["cases"].take();
        let Value::Array(list) = list else { panic!("{file} has no list of cases") };
        cases.extend(list.into_iter().map(|value| Case { file: file.clone(), value: written_out(value) }));
    }
    cases
}

/// Replaces `{"$text": [[text, times], ...]}` by the text and `{"$list": [item, times]}` by the list.
fn written_out(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(written_out).collect(),
        Value::Object(mut fields) => {
            if let Some(parts) = fields.remove("$text") {
                let part = |part: &Value| {
                    part[0].as_str().expect("a text").repeat(part[1].as_u64().expect("a count") as usize)
                };
                return Value::String(parts.as_array().expect("parts").iter().map(part).collect());
            }
            if let Some(list) = fields.remove("$list") {
                return Value::Array(vec![list[0].clone(); list[1].as_u64().expect("a count") as usize]);
            }
            Value::Object(fields.into_iter().map(|(name, value)| (name, written_out(value))).collect())
        }
        other => other,
    }
}

fn payload(payload: &Value) -> Vec<u8> {
    match (payload["utf8"].as_str(), payload["hex"].as_str()) {
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => {
            let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
            (0..hex.len()).step_by(2).map(digit).collect()
        }
        _ => panic!("a payload is either utf8 or hex"),
    }
}

/// What the library reads, in the vectors' terms.
fn outcome(payload: &[u8]) -> Value {
    match message::decode(payload) {
        Ok(Decoded::Empty) => json!({"empty": true}),
        Ok(Decoded::Plain(key)) => json!({"plain": key}),
        Ok(Decoded::Envelope(message)) => json!({"envelope": envelope(&message)}),
        Err(fault) => match fault.newer_version() {
            Some(version) => json!({"newer_version": version}),
            None => json!({"malformed": true}),
        },
    }
}

/// An envelope's content, what is absent or empty left out.
fn envelope(message: &Message) -> Value {
    let ops = &message.ops;
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        let empty = matches!(&value, Value::Null | Value::Bool(false)) || value.as_array().is_some_and(Vec::is_empty);
        if !empty {
            fields.insert(name.to_owned(), value);
        }
    };
    put("operations", json!(ops.len()));
    put("src", json!(message.src.as_deref()));
    if let Some(stamp) = &message.stamp {
        assert_eq!(Some(&stamp.src), message.src.as_ref());
        put("seq", json!(stamp.seq));
        put("first", json!(stamp.first));
    }
    put("keys", ops.keys.iter().map(|(key, _)| key.as_str()).collect());
    let versions: Map<_, _> =
        ops.keys.iter().filter_map(|(key, version)| Some((key.clone(), json!((*version)?)))).collect();
    put("versions", if versions.is_empty() { Value::Null } else { versions.into() });
    put("tags", json!(ops.tags));
    put("prefixes", json!(ops.prefixes));
    put("all", json!(ops.all));
    put("hello", json!(message.hello));
    put("bound", json!(message.bound_ms));
    put("bye", json!(message.bye));
    put("ts", json!(message.ts));
    fields.into()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(300) {
        Some((cut, _)) => format!("{}...", &text[..cut]),
        None => text,
    }
}

#[test]
fn every_payload_is_read_as_the_vectors_say() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.value.get("payload").is_some()).collect();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let mut faults = Vec::new();
    for case in &cases {
        let read = outcome(&payload(&case.value["payload"]));
        if read != case.value["expect"] {
            faults.push(format!(
                "{}\n  expected {}\n  read     {}",
                case.name(),
                shortened(&case.value["expect"]),
                shortened(&read)
            ));
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
}

#[test]
fn every_signature_is_judged_as_the_vectors_say_and_made_as_they_have_it() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.value.get("signature").is_some()).collect();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    for case in &cases {
        let signature = &case.value["signature"];
        let topic = signature["topic"].as_str().expect("a topic");
        let keys: Vec<String> = signature["keys"]
            .as_object()
            .expect("keys")
            .iter()
            .map(|(id, secret)| format!("{id}:{}", secret.as_str().expect("a secret")))
            .collect();
        let all = SigningKeys::parse(keys.iter().map(String::as_str)).expect("keys");
        let probe = case.value.get("probe").map(payload);
        let bytes = probe.clone().unwrap_or_else(|| payload(&case.value["payload"]));
        let verdict = match &probe {
            Some(probe) => all.verify_probe(topic, probe).map(drop),
            None => all.verify(topic, &bytes),
        };
        let named = verdict.err().map_or("valid", message::Refusal::name);
        assert_eq!(json!(named), signature["verdict"], "{}", case.name());
        if verdict.is_err() {
            continue;
        }
        let text = String::from_utf8(bytes).expect("UTF-8");
        let again = |id: &str| {
            let key = keys.iter().find(|key| key.starts_with(&format!("{id}:"))).expect("its key");
            SigningKeys::parse([key.as_str()]).expect("a key")
        };
        let made = if probe.is_some() {
            let (counter, signature) = text.split_once(' ').expect("a counter");
            let id = signature.split(':').next().expect("an id");
            again(id).sign_probe(topic, counter.parse().expect("a number"))
        } else {
            let (body, signature) = text.rsplit_once(",\"sig\":\"").expect("a signature");
            let id = signature.split(':').next().expect("an id");
            again(id).sign(topic, format!("{body}}}").into_bytes())
        };
        assert_eq!(String::from_utf8(made).expect("UTF-8"), text, "{}", case.name());
    }
}

#[test]
fn every_name_is_judged_as_the_vectors_say() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.value.get("rule").is_some()).collect();
    assert!(!cases.is_empty());
    for case in &cases {
        let value = case.value["value"].as_str().expect("a text");
        let valid = match case.value["rule"].as_str() {
            Some("namespace") => message::check_namespace(value).is_ok(),
            Some("topic") => message::check_topic(value).is_ok(),
            Some("token") => value.parse::<message::Token>().is_ok_and(|token| token.to_string() == value),
            other => panic!("{}: no such rule: {other:?}", case.name()),
        };
        assert_eq!(json!(valid), case.value["valid"], "{}", case.name());
    }
}

#[test]
fn every_case_says_one_thing_and_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for case in cases() {
        assert!(names.insert(case.name()), "{} is there twice", case.name());
        let known = ["name", "payload", "probe", "signature", "expect", "rule", "value", "valid"];
        let fields = case.value.as_object().expect("an object");
        assert!(fields.keys().all(|field| known.contains(&field.as_str())), "{}", case.name());
        let subjects = ["payload", "probe", "rule"].into_iter().filter(|field| fields.contains_key(*field));
        assert_eq!(subjects.count(), 1, "{}", case.name());
        if let Some(expect) = fields.get("expect").and_then(Value::as_object) {
            assert_eq!(expect.len(), 1, "{}", case.name());
        }
    }
}
