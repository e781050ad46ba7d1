//! A payload in words and as JSON, for `watch` and `decode`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{json, Map, Value};
use unstale::message::{self, Decoded, Malformed, Message, Refusal, SigningKeys};

use crate::output::{quoted, Look, Pen};

/// How many names of a kind one line for people shows. `--json` has them all.
const MOST_NAMES: usize = 20;
/// How much of a payload that cannot be read is shown, in bytes.
const MOST_RAW: usize = 200;

/// A payload and what it says.
pub struct Reading<'a> {
    payload: &'a [u8],
    decoded: Result<Decoded, Malformed>,
    /// The id of the key with which it says that it is signed.
    key: Option<&'a str>,
    /// Whether caches that have the keys believe it; none where it was not checked.
    verdict: Option<Result<(), Refusal>>,
}

/// What a payload is about, in one word: the first that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invalidation,
    Hello,
    Bye,
    Heartbeat,
    /// No bytes: how retained messages are cleared.
    Empty,
    Malformed,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Invalidation => "invalidation",
            Kind::Hello => "hello",
            Kind::Bye => "bye",
            Kind::Heartbeat => "heartbeat",
            Kind::Empty => "empty",
            Kind::Malformed => "malformed",
        }
    }

    /// True for what only keeps the protocol running and invalidates nothing.
    pub fn is_upkeep(self) -> bool {
        matches!(self, Kind::Hello | Kind::Bye | Kind::Heartbeat | Kind::Empty)
    }
}

impl<'a> Reading<'a> {
    pub fn of(payload: &'a [u8]) -> Self {
        Reading { payload, decoded: message::decode(payload), key: message::signed_by(payload), verdict: None }
    }

    /// With its signature checked, if there are keys, as that of a message on `topic`.
    pub fn checked(mut self, topic: &str, keys: Option<&SigningKeys>) -> Self {
        self.verdict = keys.filter(|_| !self.payload.is_empty()).map(|keys| keys.verify(topic, self.payload));
        self
    }

    /// Why caches that have the keys do not believe it.
    pub fn refused(&self) -> Option<Refusal> {
        self.verdict?.err()
    }

    pub fn kind(&self) -> Kind {
        match &self.decoded {
            Err(_) => Kind::Malformed,
            Ok(Decoded::Empty) => Kind::Empty,
            Ok(Decoded::Plain(_)) => Kind::Invalidation,
            Ok(Decoded::Envelope(m)) if !m.ops.is_empty() => Kind::Invalidation,
            Ok(Decoded::Envelope(m)) if m.hello => Kind::Hello,
            Ok(Decoded::Envelope(m)) if m.bye => Kind::Bye,
            Ok(Decoded::Envelope(_)) => Kind::Heartbeat,
        }
    }

    /// Why nothing can be made of it.
    pub fn malformed(&self) -> Option<&Malformed> {
        self.decoded.as_ref().err()
    }

    /// All of it: `kind`, `form` ("plain", "envelope"), and the envelope's fields that are set.
    pub fn json(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| object.insert(name.into(), value);
        put("kind", self.kind().name().into());
        match &self.decoded {
            Ok(Decoded::Empty) => {}
            Ok(Decoded::Plain(key)) => {
                put("form", "plain".into());
                put("keys", json!([key]));
            }
            Ok(Decoded::Envelope(m)) => {
                put("form", "envelope".into());
                if let Some(src) = source(m) {
                    put("src", src.into());
                }
                if let Some(stamp) = &m.stamp {
                    put("first", stamp.first.into());
                    put("seq", stamp.seq.into());
                }
                if !m.ops.keys.is_empty() {
                    put("keys", m.ops.keys.iter().map(|(key, _)| key.as_str()).collect());
                }
                let versions: Map<String, Value> =
                    m.ops.keys.iter().filter_map(|(key, version)| Some((key.clone(), (*version)?.into()))).collect();
                if !versions.is_empty() {
                    put("versions", versions.into());
                }
                for (name, list) in [("tags", &m.ops.tags), ("prefixes", &m.ops.prefixes)] {
                    if !list.is_empty() {
                        put(name, list.as_slice().into());
                    }
                }
                for (name, set) in [("all", m.ops.all), ("hello", m.hello), ("bye", m.bye)] {
                    if set {
                        put(name, true.into());
                    }
                }
                for (name, value) in [("bound", m.bound_ms), ("ts", m.ts)] {
                    if let Some(value) = value {
                        put(name, value.into());
                    }
                }
            }
            Err(malformed) => {
                put("reason", malformed.to_string().into());
                put("payload", raw(self.payload).into());
            }
        }
        object.extend(self.key.map(|id| ("key_id".into(), id.into())));
        object.extend(self.verdict.map(|verdict| ("signature".into(), verdict_name(verdict).into())));
        object
    }

    /// One line for people.
    pub fn line(&self, pen: Pen) -> String {
        let mut parts = Vec::new();
        match &self.decoded {
            Ok(Decoded::Empty) => parts.push(pen.paint(Look::Dim, "empty payload, ignored").into_owned()),
            Ok(Decoded::Plain(key)) => {
                parts.push(format!("key {}", pen.paint(Look::Bold, quoted(key))));
                parts.push(pen.paint(Look::Dim, "plain").into_owned());
            }
            Ok(Decoded::Envelope(m)) => {
                parts.extend(operations(m, pen));
                let dim = |text: String| pen.paint(Look::Dim, text).into_owned();
                if m.hello {
                    let bound = m.bound_ms.map(|ms| format!(", staleness bound {ms} ms")).unwrap_or_default();
                    parts.push(dim(format!("hello: asks for heartbeats{bound}")));
                }
                if m.bye {
                    parts.push(dim("bye: the stream ends".into()));
                }
                if self.kind() == Kind::Heartbeat {
                    parts.push(dim("heartbeat".into()));
                }
                if let Some(src) = source(m) {
                    parts.push(dim(format!("from {}{}", quoted(src), numbers(m))));
                }
                if let Some(lag) = m.ts.and_then(lag_ms) {
                    parts.push(dim(format!("{lag} ms ago")));
                }
            }
            Err(malformed) => {
                let head = pen.paint(Look::Red, "malformed:");
                parts.push(format!("{head} {malformed}: {}", quoted(&raw(self.payload))));
            }
        }
        parts.extend(match (self.verdict, self.key) {
            (Some(Err(refusal)), _) => Some(pen.paint(Look::Red, format!("refused: {refusal}")).into_owned()),
            (Some(Ok(())), Some(id)) => Some(pen.paint(Look::Dim, format!("signature of {id} is right")).into_owned()),
            (None, Some(id)) => Some(pen.paint(Look::Dim, format!("signed with {id}, not checked")).into_owned()),
            (_, None) => None,
        });
        parts.join("  ")
    }

    /// Several lines for people, with what caches do about it.
    pub fn paragraph(&self, pen: Pen) -> Vec<String> {
        let title = |text: &str| pen.paint(Look::Bold, text.to_owned()).into_owned();
        let row = |name: &str, text: String| format!("  {}{text}", pen.paint(Look::Cyan, format!("{name:<10}")));
        let mut lines = match &self.decoded {
            Ok(Decoded::Empty) => vec![title("empty payload"), row("effect", "none: caches ignore it".into())],
            Ok(Decoded::Plain(key)) => {
                let mut lines = vec![
                    title("plain key: invalidation"),
                    row("key", quoted(key).into_owned()),
                    row(
                        "effect",
                        "caches drop this entry and what depends on it; not numbered, so a loss goes unnoticed".into(),
                    ),
                ];
                if key.ends_with('\n') {
                    lines.push(row(
                        "note",
                        "the line break belongs to the key; `echo` adds one, `printf %s` does not".into(),
                    ));
                }
                lines
            }
            Ok(Decoded::Envelope(m)) => {
                let mut lines =
                    vec![title(&format!("envelope, version {}: {}", message::PROTOCOL_VERSION, self.kind().name()))];
                let keys = m.ops.keys.iter().map(|(key, version)| versioned(key, *version));
                lines.extend((!m.ops.keys.is_empty()).then(|| row("keys", listed(keys))));
                for (name, list) in [("tags", &m.ops.tags), ("prefixes", &m.ops.prefixes)] {
                    lines.extend(
                        (!list.is_empty()).then(|| row(name, listed(list.iter().map(|t| quoted(t).into_owned())))),
                    );
                }
                lines.extend(m.ops.all.then(|| row("all", "every entry of the cache".into())));
                lines.extend(m.hello.then(|| row("hello", "asks publishers for a heartbeat".into())));
                lines.extend(m.bound_ms.map(|ms| row("bound", format!("{ms} ms, the sender's staleness bound"))));
                lines.extend(m.bye.then(|| row("bye", "the stream ends with this number".into())));
                lines.extend(source(m).map(|src| row("src", quoted(src).into_owned())));
                if let Some(stamp) = &m.stamp {
                    let range = if stamp.first < stamp.seq {
                        format!(", stands for {} to {}", stamp.first, stamp.seq)
                    } else {
                        String::new()
                    };
                    lines.push(row("seq", format!("{}{range}", stamp.seq)));
                } else if !m.hello {
                    lines.push(row("seq", "none: applied, but a loss goes unnoticed".into()));
                }
                lines.extend(m.ts.map(|ms| row("ts", utc(ms))));
                lines.push(row("effect", effect(m).into()));
                lines
            }
            Err(malformed) => vec![
                pen.paint(Look::Red, format!("malformed: {malformed}")).into_owned(),
                row("payload", format!("{} ({} bytes)", quoted(&raw(self.payload)), self.payload.len())),
                row(
                    "effect",
                    "nothing is applied, and caches doubt what they hold: it may have been an invalidation".into(),
                ),
            ],
        };
        lines.extend(
            match (self.verdict, self.key) {
                (Some(Err(refusal)), _) => Some(format!("caches that have these keys refuse it: {refusal}")),
                (Some(Ok(())), Some(id)) => Some(format!("right, by the key {}", quoted(id))),
                (None, Some(id)) => Some(format!(
                    "by the key {}, not checked: give --on TOPIC, and the keys in UNSTALE_SIGNING_KEY",
                    quoted(id)
                )),
                (_, None) => None,
            }
            .map(|text| row("signature", text)),
        );
        lines
    }
}

/// For `--json`: `valid`, or why it is not believed.
pub fn verdict_name(verdict: Result<(), Refusal>) -> &'static str {
    verdict.err().map_or("valid", Refusal::name)
}

fn effect(m: &Message) -> &'static str {
    match (m.ops.is_empty(), m.stamp.is_some()) {
        (false, true) => "caches drop what it names, then check the number for a gap",
        (false, false) => "caches drop what it names",
        (true, true) => "nothing is dropped; caches check that they have all numbers up to this one",
        (true, false) => "nothing is dropped; publishers answer with a heartbeat",
    }
}

fn operations(m: &Message, pen: Pen) -> Vec<String> {
    let mut parts = Vec::new();
    let mut add = |one: &str, many: &str, names: Vec<String>| {
        if !names.is_empty() {
            let word = if names.len() == 1 { one } else { many };
            parts.push(format!("{word} {}", pen.paint(Look::Bold, listed(names.into_iter()))));
        }
    };
    add("key", "keys", m.ops.keys.iter().map(|(key, version)| versioned(key, *version)).collect());
    add("tag", "tags", m.ops.tags.iter().map(|t| quoted(t).into_owned()).collect());
    add("prefix", "prefixes", m.ops.prefixes.iter().map(|p| quoted(p).into_owned()).collect());
    if m.ops.all {
        parts.push(pen.paint(Look::Bold, "all").into_owned());
    }
    parts
}

fn versioned(key: &str, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{} (version {version})", quoted(key)),
        None => quoted(key).into_owned(),
    }
}

fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let rest = names.len().saturating_sub(MOST_NAMES);
    let mut text = names.take(MOST_NAMES).collect::<Vec<_>>().join(", ");
    if rest > 0 {
        text.push_str(&format!(" and {rest} more"));
    }
    text
}

fn source(m: &Message) -> Option<&str> {
    m.stamp.as_ref().map(|stamp| &*stamp.src).or(m.src.as_deref())
}

fn numbers(m: &Message) -> String {
    match &m.stamp {
        Some(stamp) if stamp.first < stamp.seq => format!(" #{}-{}", stamp.first, stamp.seq),
        Some(stamp) => format!(" #{}", stamp.seq),
        None => String::new(),
    }
}

/// By the two machines' wall clocks; one that is ahead gives none.
fn lag_ms(ts: u64) -> Option<u64> {
    now_ms().checked_sub(ts)
}

fn raw(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(MOST_RAW)]);
    if payload.len() > MOST_RAW {
        return format!("{text}…");
    }
    text.into_owned()
}

/// Milliseconds since 1970 by the wall clock, for display only.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// `2026-11-21T23:36:06.123Z`
pub fn utc(ms: u64) -> String {
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days, for days after 1970.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (ms_of_day / 1_000, ms_of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_827_696_789), "2000-02-29T12:34:56.789Z");
        assert_eq!(utc(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn long_lists_are_shortened_for_people_only() {
        let keys: Vec<String> = (0..50).map(|i| format!("k{i}")).collect();
        let payload = json!({"v": 1, "keys": keys}).to_string();
        let reading = Reading::of(payload.as_bytes());
        let pen = crate::output::Output::new(clap::ColorChoice::Never).pen();
        assert!(reading.line(pen).contains("k19 and 30 more"), "{}", reading.line(pen));
        assert_eq!(reading.json()["keys"].as_array().unwrap().len(), 50);
    }
}
