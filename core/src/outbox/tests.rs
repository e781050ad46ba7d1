use super::*;
use crate::message::{decode, Decoded};
use proptest::prelude::*;
use std::collections::BTreeMap;

const B: u64 = 30_000_000_000;

fn outbox(limits: Limits) -> Outbox {
    Outbox::new("src".into(), limits, B)
}

pub(super) fn keys(keys: &[&str]) -> Operations {
    Operations { keys: keys.iter().map(|key| (key.to_string(), None)).collect(), ..Operations::default() }
}

pub(super) fn versioned(key: &str, version: u64) -> Operations {
    Operations { keys: vec![(key.to_owned(), Some(version))], ..Operations::default() }
}

fn all() -> Operations {
    Operations { all: true, ..Operations::default() }
}

pub(super) fn read(payload: &[u8]) -> Message {
    match decode(payload) {
        Ok(Decoded::Envelope(message)) => message,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(payload)),
    }
}

fn next(outbox: &mut Outbox) -> (u64, Message) {
    let (seq, payload) = outbox.next().expect("a message");
    let message = read(&payload);
    assert_eq!(message.stamp.as_ref().map(|stamp| stamp.seq), Some(seq));
    (seq, message)
}

fn key_names(message: &Message) -> Vec<&str> {
    message.ops.keys.iter().map(|(key, _)| key.as_str()).collect()
}

#[test]
fn an_idle_stream_sends_at_once_and_a_busy_one_coalesces() {
    let mut outbox = outbox(Limits::default());
    assert_eq!(outbox.push(keys(&["a"])), 1);
    assert_eq!(key_names(&next(&mut outbox).1), ["a"]);
    // In flight: what comes now shares the next message, and its number is known at once.
    assert_eq!([outbox.push(keys(&["b"])), outbox.push(keys(&["c", "d"])), outbox.last_number()], [2, 2, 2]);
    assert_eq!(outbox.next(), None);
    outbox.acked(1, 0);
    assert_eq!(key_names(&next(&mut outbox).1), ["b", "c", "d"]);
    assert_eq!((outbox.acked_up_to(), outbox.pending(), outbox.ops_pending()), (1, 1, 3));
    outbox.acked(2, 0);
    assert_eq!((outbox.acked_up_to(), outbox.pending(), outbox.ops_pending(), outbox.next()), (2, 0, 0, None));
}

#[test]
fn what_was_in_flight_is_handed_out_again_first_and_unchanged() {
    let mut outbox = outbox(Limits::default());
    outbox.push(keys(&["a"]));
    let first = outbox.next();
    outbox.push(keys(&["b"]));
    outbox.disconnected();
    // A message that may have been delivered must not grow: a receiver that has its number would miss the rest.
    assert_eq!(outbox.push(keys(&["a"])), 2);
    assert_eq!(outbox.next(), first);
    outbox.acked(7, 0);
    assert_eq!(outbox.acked_up_to(), 0, "an acknowledgement of something else");
    outbox.failed(1);
    assert_eq!(outbox.next(), first);
    outbox.acked(1, 0);
    assert_eq!(key_names(&next(&mut outbox).1), ["b", "a"]);
}

#[test]
fn what_waits_already_is_not_sent_twice() {
    let mut outbox = outbox(Limits::default());
    for _ in 0..50_000 {
        assert_eq!(outbox.push(keys(&["a", "b"])), 1);
        assert_eq!(outbox.push(versioned("c", 3)), 1);
        assert_eq!(outbox.push(versioned("c", 2)), 1);
    }
    let message = next(&mut outbox).1;
    assert_eq!(message.ops.keys, [("a".to_owned(), None), ("b".to_owned(), None), ("c".to_owned(), Some(3))]);
}

#[test]
fn one_key_with_and_without_a_version_takes_two_messages() {
    let mut outbox = outbox(Limits::default());
    assert_eq!(
        [
            outbox.push(keys(&["k"])),
            outbox.push(versioned("k", 3)),
            outbox.push(keys(&["k"])),
            outbox.push(versioned("k", 4))
        ],
        [1, 2, 1, 2]
    );
    assert_eq!(next(&mut outbox).1.ops.keys, [("k".to_owned(), None)]);
    outbox.acked(1, 0);
    assert_eq!(next(&mut outbox).1.ops.keys, [("k".to_owned(), Some(4))]);
}

#[test]
fn all_says_what_waited_in_its_message_but_keeps_versions() {
    let mut outbox = outbox(Limits::default());
    outbox.push(keys(&["a", "b"]));
    outbox.push(versioned("v", 3));
    assert_eq!([outbox.push(all()), outbox.push(keys(&["c"])), outbox.push(all())], [1, 1, 1]);
    outbox.push(Operations { tags: vec!["t".into()], prefixes: vec!["p".into()], ..Operations::default() });
    let message = next(&mut outbox).1;
    assert!(message.ops.all && message.ops.len() == 2, "{message:?}");
    assert_eq!(message.ops.keys, [("v".to_owned(), Some(3))]);
    // Once handed out, it covers nothing that comes later.
    assert_eq!(outbox.push(keys(&["c"])), 2);
}

#[test]
fn a_full_outbox_collapses_to_a_range_and_never_to_silence() {
    let mut outbox = outbox(Limits { max_payload: 4_800, ..Limits::default() });
    outbox.push(keys(&["sent"]));
    let sent = outbox.next();
    for i in 0..10_000 {
        outbox.push(keys(&[&format!("user:{i}")]));
    }
    let before = outbox.last_number();
    assert!(before > 10);
    outbox.push(keys(&["one:more"]));
    assert_eq!((outbox.last_number(), outbox.pending()), (before, 2));
    outbox.disconnected();
    assert_eq!(outbox.next(), sent);
    outbox.acked(1, 0);
    let (seq, message) = next(&mut outbox);
    assert_eq!((seq, message.stamp.unwrap().first), (before, 2));
    let falls = |key: &str| covers(&message.ops, &keys(&[key]), false);
    assert!((0..10_000).all(|i| falls(&format!("user:{i}"))) && falls("one:more"));
    assert!(!falls("one:less") && !falls("product:1") && message.ops.len() <= 16, "{:?}", message.ops);
    outbox.acked(seq, 0);
    assert_eq!((outbox.acked_up_to(), outbox.next()), (before, None));
}

#[test]
fn what_collapsed_still_waits_and_is_not_sent_twice() {
    let mut outbox = outbox(Limits { limit: 8, ..Limits::default() });
    outbox.push(versioned("v", 3));
    for i in 0..8 {
        outbox.push(keys(&[&format!("u:{i}")]));
    }
    let (number, ops) = (outbox.last_number(), outbox.ops_pending());
    assert_eq!(ops, 2, "a version and a prefix");
    assert_eq!(
        [
            outbox.push(versioned("v", 2)),
            outbox.push(Operations { prefixes: vec!["u:".into()], ..Operations::default() })
        ],
        [number; 2]
    );
    assert_eq!(outbox.ops_pending(), ops);
    // The same key in the other form needs another message.
    assert_eq!(outbox.push(keys(&["v"])), number + 1);
    let (_, message) = next(&mut outbox);
    assert_eq!(
        (&message.ops.keys[..], &message.ops.prefixes[..]),
        (&[("v".to_owned(), Some(3))][..], &["u:".to_owned()][..])
    );
}

#[test]
fn unlike_keys_collapse_to_all() {
    let mut outbox = outbox(Limits { limit: 100, ..Limits::default() });
    for i in 0u32..101 {
        let key = char::from_u32(0x4E00 + i * 64).unwrap();
        outbox.push(keys(&[&key.to_string()]));
    }
    assert!(next(&mut outbox).1.ops.prefixes.len() <= 50);
    let mut outbox = super::tests::outbox(Limits { limit: 100, ..Limits::default() });
    for i in 0u32..101 {
        outbox.push(Operations { tags: vec![format!("tag{i}")], ..Operations::default() });
    }
    let (_, message) = next(&mut outbox);
    assert!(message.ops.all && message.ops.len() == 1, "tags cannot be coarsened");
}

#[test]
fn one_push_of_any_size_keeps_to_the_limits() {
    let mut outbox = outbox(Limits::default());
    let keys = (0..100_000).map(|i| (format!("key:{i}"), None)).collect();
    let number = outbox.push(Operations { keys, ..Operations::default() });
    assert_eq!(number, outbox.last_number());
    assert!(outbox.ops_pending() <= 10_000);
    while let Some((seq, payload)) = outbox.next() {
        assert!(payload.len() <= 64 * 1024);
        outbox.acked(seq, 0);
    }
    assert_eq!(outbox.acked_up_to(), number);
}

#[test]
fn an_operation_longer_than_a_payload_goes_alone() {
    let mut outbox = outbox(Limits { max_payload: 500, ..Limits::default() });
    let long = "\u{1}".repeat(1_024);
    assert_eq!([outbox.push(keys(&["a"])), outbox.push(keys(&[&long])), outbox.push(keys(&["b"]))], [1, 2, 3]);
    for expected in ["a", &long, "b"] {
        let (seq, message) = next(&mut outbox);
        assert_eq!(key_names(&message), [expected]);
        outbox.acked(seq, 0);
    }
}

#[test]
fn a_stream_without_numbers_says_nothing_of_itself() {
    let mut outbox = outbox(Limits::default());
    outbox.heard_hello(Some(1_000), 0);
    assert_eq!((outbox.heartbeat(), outbox.bye(), outbox.due()), (None, None, None));
    assert_eq!(outbox.push(Operations::default()), 0);
    outbox.push(keys(&["a"]));
    let (seq, _) = outbox.next().unwrap();
    assert_eq!((outbox.heartbeat(), outbox.due()), (None, None), "not acknowledged yet");
    outbox.acked(seq, 9);
    assert_eq!(outbox.heartbeat().unwrap(), br#"{"v":1,"src":"src","seq":1}"#);
    assert_eq!(outbox.bye().unwrap(), br#"{"v":1,"src":"src","seq":1,"bye":true}"#);
    // The `hello` told a bound of 1 s.
    assert_eq!(outbox.due(), Some(9 + 62_500_000));
    // A heartbeat never claims what is not acknowledged.
    outbox.push(keys(&["b"]));
    assert_eq!(read(&outbox.heartbeat().unwrap()).stamp.unwrap().seq, 1);
}

/// What a test does to an outbox.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Push(Operations),
    Next,
    Ack,
    Fail,
    Disconnect,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    // Few, so that they meet; with an escape, and with characters that share a byte.
    let name = || "[a\"]?(:|\u{e9}|\u{e8})[a-c]?";
    let push = (
        proptest::collection::vec((name(), proptest::option::of(0u64..5)), 0..4),
        proptest::collection::vec(name(), 0..2),
        proptest::collection::vec(name(), 0..2),
        proptest::bool::weighted(0.03),
    )
        .prop_map(|(keys, tags, prefixes, all)| Step::Push(Operations { keys, tags, prefixes, all }));
    prop_oneof![6 => push, 3 => Just(Step::Next), 3 => Just(Step::Ack), 1 => Just(Step::Fail), 1 => Just(Step::Disconnect)]
}

/// One thing that was pushed.
#[derive(Debug)]
struct Pushed {
    op: Operations,
    number: u64,
    /// How many messages had been handed out for the first time.
    after: usize,
}

/// One message, at its first hand-out.
#[derive(Debug)]
struct Sent {
    message: Message,
    acked: bool,
}

/// Whether `message` says what `op`, one operation, says. `coarse` where versions may have given way.
pub(super) fn covers(message: &Operations, op: &Operations, coarse: bool) -> bool {
    let under = |key: &str| message.all || message.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
    if let [(key, version)] = &op.keys[..] {
        return match version {
            None => under(key) || message.keys.contains(&(key.clone(), None)),
            Some(version) => {
                message.keys.iter().any(|(k, v)| k == key && v.is_some_and(|v| v >= *version))
                    || coarse && (under(key) || message.keys.iter().any(|(k, _)| k == key))
            }
        };
    }
    if let [tag] = &op.tags[..] {
        return message.all || message.tags.contains(tag);
    }
    if let [prefix] = &op.prefixes[..] {
        return under(prefix);
    }
    message.all
}

pub(super) fn single_operations(ops: &Operations) -> Vec<Operations> {
    let mut singles: Vec<Operations> = Vec::new();
    singles.extend(ops.keys.iter().map(|key| Operations { keys: vec![key.clone()], ..Operations::default() }));
    singles.extend(ops.tags.iter().map(|tag| Operations { tags: vec![tag.clone()], ..Operations::default() }));
    singles.extend(
        ops.prefixes.iter().map(|prefix| Operations { prefixes: vec![prefix.clone()], ..Operations::default() }),
    );
    if ops.all {
        singles.push(all());
    }
    singles
}

fn run(steps: Vec<Step>, limits: Limits) -> Result<(), TestCaseError> {
    let collapses = limits.limit < 1_000;
    let mut outbox = outbox(limits);
    let mut pushed: Vec<Pushed> = Vec::new();
    let mut sent: Vec<Sent> = Vec::new();
    let mut payloads: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut in_flight: Option<u64> = None;
    // The end of every run: all that waits is sent and acknowledged.
    let drain = std::iter::repeat_n([Step::Disconnect, Step::Next, Step::Ack], 10_000).flatten();
    for step in steps.into_iter().chain(drain) {
        match step {
            Step::Push(ops) => {
                let before = outbox.last_number();
                let singles = single_operations(&ops);
                let number = outbox.push(ops);
                prop_assert!(outbox.last_number() >= before && number <= outbox.last_number());
                prop_assert!(singles.is_empty() || number > outbox.acked_up_to(), "a new operation in an old number");
                prop_assert!(
                    singles.is_empty() || in_flight.is_none_or(|seq| number > seq),
                    "a message in flight does not grow"
                );
                pushed.extend(singles.into_iter().map(|op| Pushed { op, number, after: sent.len() }));
                prop_assert!(outbox.ops_pending() <= limits.limit + limits.max_ops + 1);
            }
            Step::Next => match outbox.next() {
                None => prop_assert!(in_flight.is_some() || outbox.pending() == 0),
                Some((seq, payload)) => {
                    prop_assert!(in_flight.is_none(), "one in flight");
                    in_flight = Some(seq);
                    let message = read(&payload);
                    prop_assert!(
                        payload.len() <= limits.max_payload || message.ops.len() == 1,
                        "{} bytes",
                        payload.len()
                    );
                    prop_assert!(message.ops.len() <= limits.max_ops && !message.ops.is_empty());
                    let mut forms: BTreeMap<&str, bool> = BTreeMap::new();
                    for (key, version) in &message.ops.keys {
                        prop_assert_eq!(
                            *forms.entry(key).or_insert(version.is_some()),
                            version.is_some(),
                            "two forms of {}",
                            key
                        );
                    }
                    match payloads.get(&seq) {
                        Some(earlier) => prop_assert_eq!(earlier, &payload, "the same number, another payload"),
                        None => {
                            prop_assert!(payloads.last_key_value().is_none_or(|(last, _)| *last < seq), "numbers rise");
                            payloads.insert(seq, payload);
                            sent.push(Sent { message, acked: false });
                        }
                    }
                }
            },
            Step::Ack => {
                if let Some(seq) = in_flight.take() {
                    let before = outbox.acked_up_to();
                    outbox.acked(seq, 0);
                    prop_assert_eq!(outbox.acked_up_to(), seq);
                    let message = sent.iter_mut().find(|s| s.message.stamp.as_ref().unwrap().seq == seq).unwrap();
                    message.acked = true;
                    prop_assert!(
                        message.message.stamp.as_ref().unwrap().first <= before + 1,
                        "every number is in some message"
                    );
                    // What a receipt waits for has been delivered when its number is acknowledged.
                    for push in pushed.iter().filter(|push| push.number <= seq) {
                        let said =
                            sent[push.after..].iter().any(|s| s.acked && covers(&s.message.ops, &push.op, collapses));
                        prop_assert!(said, "{:?} was lost", push);
                    }
                }
            }
            Step::Fail => outbox.failed(in_flight.take().unwrap_or(0)),
            Step::Disconnect => {
                outbox.disconnected();
                in_flight = None;
                if outbox.pending() == 0 {
                    break;
                }
            }
        }
    }
    prop_assert_eq!((outbox.pending(), outbox.ops_pending(), outbox.acked_up_to()), (0, 0, outbox.last_number()));
    prop_assert!(pushed.iter().all(|push| push.number <= outbox.acked_up_to()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_pushed_is_lost_and_no_number_is_reused(steps in proptest::collection::vec(step(), 0..80)) {
        run(steps, Limits::default())?;
    }

    #[test]
    fn nothing_pushed_is_lost_in_small_messages(steps in proptest::collection::vec(step(), 0..80), max_ops in 1usize..5) {
        run(steps.clone(), Limits { max_ops, ..Limits::default() })?;
        run(steps, Limits { max_payload: 160, ..Limits::default() })?;
    }

    #[test]
    fn nothing_pushed_is_lost_when_the_outbox_collapses(steps in proptest::collection::vec(step(), 0..80), limit in 1usize..20, max_payload in 150usize..400) {
        run(steps, Limits { max_payload, limit, ..Limits::default() })?;
    }
}
