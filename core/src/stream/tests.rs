use super::*;
use crate::message::{decode, Decoded, Message, Operations};
use crate::outbox::{Limits, Outbox};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const S: u64 = 1_000_000_000;
const B: u64 = 30 * S;
const W: u64 = 2 * S;

fn src(name: &str) -> Arc<str> {
    name.into()
}

fn stamp(name: &str, first: u64, seq: u64) -> Stamp {
    Stamp { src: name.into(), first, seq }
}

/// Streams of a connection whose first probe has returned.
fn streams(window: u64) -> Streams {
    let mut streams = Streams::new(window, B, "own".into());
    streams.first_probe_returned(0);
    streams
}

/// Data number `seq` of stream "a".
fn data(streams: &mut Streams, seq: u64, now: u64) -> Verdict {
    streams.observe_data(&stamp("a", seq, seq), false, now)
}

#[test]
fn numbers_in_order_are_no_doubt() {
    let mut streams = streams(0);
    assert_eq!(data(&mut streams, 1, 0), Verdict { unknown_stream: true, ..Verdict::default() });
    for seq in 2..100 {
        assert_eq!(data(&mut streams, seq, seq), Verdict::default());
    }
    assert_eq!(streams.observe_heartbeat(&src("a"), 99, 100), Verdict::default());
    assert_eq!(streams.poll(100 + B), [], "confirmed");
}

#[test]
fn a_missing_number_is_doubt_at_once_where_the_broker_keeps_order() {
    let mut streams = streams(0);
    data(&mut streams, 1, 0);
    assert_eq!(data(&mut streams, 3, 1).doubt, Some(Doubt::Hole));
    assert_eq!(data(&mut streams, 4, 2).doubt, None, "doubt over a hole closes it");
    assert_eq!(streams.observe_heartbeat(&src("a"), 6, 3).doubt, Some(Doubt::Hole), "a heartbeat ahead of the data");
    assert_eq!(data(&mut streams, 6, 4).doubt, None);
}

#[test]
fn a_hole_has_the_window_to_close_where_the_broker_may_reorder() {
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    assert_eq!(data(&mut streams, 4, S).doubt, None);
    assert_eq!(data(&mut streams, 2, 2 * S), Verdict::default());
    assert_eq!(streams.due(), Some(S + W), "number 3 is missing since then");
    assert_eq!(streams.poll(S + W - 1), []);
    assert_eq!(data(&mut streams, 3, S + W - 1), Verdict::default());
    assert_eq!(streams.poll(S + W), []);
    data(&mut streams, 9, 5 * S);
    assert_eq!(streams.poll(5 * S + W), [Doubt::Hole]);
    assert_eq!(streams.poll(5 * S + W), [], "doubt over a hole closes it");
}

#[test]
fn more_holes_than_any_reordering_makes_are_doubt() {
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    let doubts =
        (1..=MAX_HOLES as u64 + 1).filter(|i| data(&mut streams, 1 + 2 * i, S).doubt == Some(Doubt::Hole)).count();
    assert_eq!(doubts, 1);
    assert_eq!(streams.reached("a", 2), Reached::LearnedNotReceived);
}

#[test]
fn numbers_out_of_the_middle_of_a_hole_do_not_make_more_holes_than_the_limit() {
    const LAST: u64 = (1 << 53) - 1;
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    assert_eq!(streams.observe_heartbeat(&src("a"), LAST, S).doubt, None, "one hole, and time for it to close");
    let mut doubts = 0;
    for i in 1..=1_000 {
        doubts += usize::from(data(&mut streams, 2 * i, S).doubt == Some(Doubt::Hole));
        assert!(streams.streams["a"].holes.len() <= MAX_HOLES);
    }
    assert_eq!(doubts, 1, "and then nothing is missing any more");
}

#[test]
fn a_collapsed_range_fills_what_it_stands_for() {
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    data(&mut streams, 9, 1);
    assert_eq!(streams.observe_data(&stamp("a", 3, 12), false, 2), Verdict::default());
    assert_eq!((streams.reached("a", 2), streams.reached("a", 3)), (Reached::Unknown, Reached::Applied));
    assert_eq!(data(&mut streams, 2, 3).doubt, None);
    assert_eq!(streams.poll(4 * S), []);
}

#[test]
fn an_unknown_stream_is_doubt_after_the_first_probe_unless_it_starts_with_number_1() {
    let mut streams = Streams::new(0, B, "own".into());
    assert_eq!(
        streams.observe_data(&stamp("before", 7, 7), false, 0),
        Verdict { unknown_stream: true, ..Verdict::default() }
    );
    assert_eq!(streams.observe_heartbeat(&src("before too"), 7, 0).doubt, None);
    streams.first_probe_returned(1);
    let unknown = Verdict { doubt: Some(Doubt::UnknownStream), unknown_stream: true, duplicate: false };
    assert_eq!(streams.observe_data(&stamp("data", 2, 2), false, 2), unknown);
    assert_eq!(streams.observe_heartbeat(&src("heartbeat"), 1, 2), unknown);
    assert_eq!(streams.observe_bye(&src("bye"), 1, 2), unknown);
    assert_eq!(streams.observe_data(&stamp("new", 1, 1), false, 2).doubt, None);
    assert_eq!(streams.observe_data(&stamp("collapsed", 1, 500), false, 2).doubt, None);
    // Known now.
    assert_eq!(streams.observe_data(&stamp("data", 3, 3), false, 3), Verdict::default());
    // And known over a reconnection, where what was missed shows.
    streams.new_connection();
    assert_eq!(streams.observe_data(&stamp("later", 5, 5), false, 4).doubt, None);
    assert_eq!(streams.observe_data(&stamp("data", 5, 5), false, 4).doubt, Some(Doubt::Hole));
}

#[test]
fn a_first_late_or_overtaking_probe_forgets_open_holes() {
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    streams.observe_heartbeat(&src("a"), 5, S);
    streams.first_probe_returned(2 * S);
    assert_eq!(streams.poll(10 * S), []);
    assert_eq!(streams.reached("a", 3), Reached::LearnedNotReceived);
}

#[test]
fn an_applied_all_closes_every_hole_below_it() {
    for window in [0, W] {
        let mut streams = streams(window);
        data(&mut streams, 1, 0);
        assert_eq!(streams.observe_data(&stamp("a", 6, 6), true, 1).doubt, None, "numbers 2 to 5 fell with it");
        assert_eq!(streams.reached("a", 3), Reached::Applied);
    }
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    data(&mut streams, 9, 0);
    streams.observe_data(&stamp("a", 5, 5), true, 1);
    assert_eq!((streams.reached("a", 4), streams.reached("a", 6)), (Reached::Applied, Reached::Unknown));
    assert_eq!(streams.poll(W), [Doubt::Hole], "numbers above it are still missing");
    assert_eq!(streams.reached("a", 6), Reached::LearnedNotReceived);
}

#[test]
fn newest_data_without_a_heartbeat_is_doubt_after_5_16_of_the_bound_of_silence() {
    let mut streams = streams(0);
    data(&mut streams, 1, 0);
    assert_eq!(streams.due(), Some(B / 16 * 5));
    // A heartbeat of an older number does not confirm the newest, but it is news. The same again is none.
    data(&mut streams, 2, S);
    streams.observe_heartbeat(&src("a"), 1, 2 * S);
    streams.observe_heartbeat(&src("a"), 1, 3 * S);
    data(&mut streams, 2, 3 * S);
    assert_eq!(streams.poll(2 * S + B / 16 * 5 - 1), []);
    assert_eq!(streams.poll(2 * S + B / 16 * 5), [Doubt::Unconfirmed]);
    assert_eq!(streams.poll(10 * B), [], "once");
    data(&mut streams, 3, 20 * B);
    streams.observe_heartbeat(&src("a"), 3, 20 * B + S);
    assert_eq!(streams.poll(30 * B), []);
}

#[test]
fn a_bye_confirms_and_the_stream_is_forgotten_ten_bounds_later() {
    let mut streams = streams(0);
    data(&mut streams, 1, 0);
    assert_eq!(streams.observe_bye(&src("a"), 1, S), Verdict::default());
    assert_eq!(streams.observe_bye(&src("a"), 1, B), Verdict::default(), "the second one");
    assert_eq!(streams.due(), Some(S + 10 * B));
    assert_eq!((streams.poll(S + 10 * B - 1), streams.len()), (vec![], 1));
    assert_eq!((streams.poll(S + 10 * B), streams.len()), (vec![], 0));
    assert_eq!(streams.due(), None);
    // A bye that tells of what did not come is doubt.
    data(&mut streams, 1, 20 * B);
    assert_eq!(streams.observe_bye(&src("a"), 2, 20 * B).doubt, Some(Doubt::Hole));
    // A stream that goes on has not ended.
    data(&mut streams, 3, 20 * B);
    assert_eq!((streams.poll(31 * B), streams.len()), (vec![Doubt::Unconfirmed], 1));
}

#[test]
fn a_stream_silent_for_a_day_is_forgotten() {
    let mut streams = streams(0);
    streams.observe_heartbeat(&src("a"), 1, 0);
    streams.observe_heartbeat(&src("b"), 1, S);
    streams.observe_heartbeat(&src("a"), 1, 2 * S);
    assert_eq!(streams.due(), Some(FORGET_SILENT + S));
    streams.poll(FORGET_SILENT + S);
    assert_eq!(
        (streams.len(), streams.reached("a", 1), streams.reached("b", 1)),
        (1, Reached::LearnedNotReceived, Reached::Unknown)
    );
    assert_eq!(streams.observe_heartbeat(&src("b"), 1, FORGET_SILENT + S).doubt, Some(Doubt::UnknownStream));
}

#[test]
fn above_the_limit_the_least_recently_heard_is_forgotten_and_never_silently() {
    let mut streams = streams(0);
    for i in 0..MAX_STREAMS as u64 {
        streams.observe_heartbeat(&src(&format!("s{i}")), 1, i);
    }
    streams.observe_heartbeat(&src("s0"), 1, 20_000);
    assert_eq!(streams.observe_data(&stamp("new", 1, 1), false, 20_001).doubt, None);
    assert_eq!(
        (streams.len(), streams.reached("s1", 1), streams.reached("s0", 1)),
        (MAX_STREAMS, Reached::Unknown, Reached::LearnedNotReceived)
    );
    let mut small = super::tests::streams(0);
    small.most = 1;
    data(&mut small, 1, 0);
    assert_eq!(small.observe_data(&stamp("b", 1, 1), false, 1).doubt, Some(Doubt::Unconfirmed), "a's tail was open");
    assert_eq!(small.len(), 1);
}

#[test]
fn the_own_stream_is_never_observed() {
    let mut streams = streams(0);
    assert_eq!(streams.observe_data(&stamp("own", 7, 7), false, 0), Verdict::default());
    assert_eq!(streams.observe_heartbeat(&src("own"), 9, 0), Verdict::default());
    assert_eq!((streams.len(), streams.due(), streams.reached("own", 50)), (0, None, Reached::Applied));
}

#[test]
fn duplicates_are_told_and_do_no_harm() {
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    data(&mut streams, 2, 0);
    assert!(data(&mut streams, 2, 1).duplicate && data(&mut streams, 1, 1).duplicate);
    data(&mut streams, 4, 1);
    assert!(!data(&mut streams, 3, 1).duplicate && data(&mut streams, 3, 1).duplicate);
    assert!(!streams.observe_data(&stamp("a", 2, 5), false, 1).duplicate, "5 is new");
}

#[test]
fn what_wait_for_needs_is_told() {
    let mut streams = streams(0);
    assert_eq!(streams.reached("a", 1), Reached::Unknown);
    streams.observe_data(&stamp("a", 5, 5), false, 0);
    assert_eq!(
        [4, 5, 6].map(|seq| streams.reached("a", seq)),
        [Reached::LearnedNotReceived, Reached::Applied, Reached::Unknown]
    );
    streams.observe_heartbeat(&src("a"), 6, 1);
    assert_eq!([6, 7].map(|seq| streams.reached("a", seq)), [Reached::LearnedNotReceived, Reached::Unknown]);
}

#[test]
fn what_a_heartbeat_overtook_is_waited_for_as_long_as_it_may_come() {
    let mut streams = streams(W);
    data(&mut streams, 1, 0);
    streams.observe_heartbeat(&src("a"), 2, S);
    assert_eq!(streams.reached("a", 2), Reached::Unknown);
    let mut lost = Streams::new(W, B, "own".into());
    data(&mut lost, 1, 0);
    lost.observe_heartbeat(&src("a"), 2, S);
    data(&mut streams, 2, S + W - 1);
    assert_eq!(streams.reached("a", 2), Reached::Applied);
    assert_eq!((lost.poll(S + W), lost.reached("a", 2)), (vec![Doubt::Hole], Reached::LearnedNotReceived));
}

#[test]
fn a_number_counts_as_received_only_if_it_was() {
    let has = |streams: &Streams, first, seq| streams.has(&stamp("a", first, seq));
    let mut all_after_a_gap = streams(W);
    data(&mut all_after_a_gap, 1, 0);
    data(&mut all_after_a_gap, 2, 0);
    assert!(has(&all_after_a_gap, 1, 2) && has(&all_after_a_gap, 2, 2) && !has(&all_after_a_gap, 2, 3));
    all_after_a_gap.observe_data(&stamp("a", 5, 5), true, 1);
    assert!(has(&all_after_a_gap, 5, 5) && !has(&all_after_a_gap, 3, 3), "3 may have a version to tell");
    assert!(!has(&all_after_a_gap, 2, 5), "4 was not received");
    let mut holes = streams(W);
    data(&mut holes, 1, 0);
    data(&mut holes, 4, 0);
    assert!(has(&holes, 4, 4) && !has(&holes, 3, 4) && !has(&holes, 2, 2));
    data(&mut holes, 3, 1);
    assert!(has(&holes, 3, 4) && !has(&holes, 2, 4));
    data(&mut holes, 2, 1);
    assert!(has(&holes, 1, 4) && !holes.has(&stamp("b", 1, 1)));
    holes.observe_heartbeat(&src("a"), 6, 2);
    assert!(!has(&holes, 5, 5) && !has(&holes, 6, 6), "heard of and not received");
}

// A model that keeps every number of every stream by itself, and follows the rules word for word.

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Received,
    Missing { since: u64 },
    Unaccounted,
}

#[derive(Debug, Default)]
struct ModelStream {
    numbers: BTreeMap<u64, Number>,
    newest: u64,
    confirmed: u64,
    heard: u64,
    news: u64,
    /// Every number that ever came.
    came: BTreeSet<u64>,
    bye: Option<u64>,
}

impl ModelStream {
    fn high(&self) -> u64 {
        self.numbers.last_key_value().map_or(0, |(n, _)| *n)
    }

    fn missing(&self) -> impl Iterator<Item = u64> + '_ {
        self.numbers.values().filter_map(|n| match n {
            Number::Missing { since } => Some(*since),
            _ => None,
        })
    }

    fn close(&mut self, which: impl Fn(u64) -> bool) -> bool {
        let mut closed = false;
        for number in self.numbers.values_mut() {
            if matches!(number, Number::Missing { since } if which(*since)) {
                *number = Number::Unaccounted;
                closed = true;
            }
        }
        closed
    }
}

#[derive(Debug)]
struct Model {
    window: u64,
    probed: bool,
    streams: BTreeMap<String, ModelStream>,
}

impl Model {
    fn observe(&mut self, event: &Event, now: u64) -> Verdict {
        let (name, top) = match event {
            Event::Data { src, seq, .. } | Event::Heartbeat { src, seq } | Event::Bye { src, seq } => (src, *seq),
            _ => unreachable!(),
        };
        let unknown = !self.streams.contains_key(name);
        let stream = self.streams.entry(name.clone()).or_default();
        let mut verdict = Verdict { unknown_stream: unknown, ..Verdict::default() };
        let high = stream.high();
        stream.heard = now;
        let news = match event {
            Event::Data { first, seq, .. } => {
                let fills = stream.numbers.range(first..=seq).any(|(_, n)| matches!(n, Number::Missing { .. }));
                stream.came.extend(*first..=*seq);
                fills || *seq > high
            }
            _ => top > stream.confirmed,
        };
        if news || unknown {
            stream.news = now;
        }
        for n in high + 1..=top {
            stream.numbers.insert(n, if unknown { Number::Unaccounted } else { Number::Missing { since: now } });
        }
        match event {
            Event::Data { first, seq, all, .. } => {
                let range = || *first..=*seq;
                verdict.duplicate = *seq <= high
                    && !range().any(|n| matches!(stream.numbers[&n], Number::Missing { .. }))
                    && !stream.numbers.range(first..).any(|(_, n)| *n == Number::Unaccounted);
                for n in range() {
                    // What is no longer accounted for singly stays so.
                    if unknown || n > high || stream.numbers[&n] != Number::Unaccounted {
                        stream.numbers.insert(n, Number::Received);
                    }
                }
                if *all {
                    (1..=*seq).for_each(|n| {
                        stream.numbers.insert(n, Number::Received);
                    });
                }
                if *seq > high {
                    stream.bye = None;
                }
                stream.newest = stream.newest.max(*seq);
                if unknown && self.probed && *first != 1 {
                    verdict.doubt = Some(Doubt::UnknownStream);
                }
            }
            _ => {
                stream.confirmed = stream.confirmed.max(top);
                if matches!(event, Event::Bye { .. }) && stream.bye.is_none() {
                    stream.bye = Some(now);
                }
                if unknown && self.probed {
                    verdict.doubt = Some(Doubt::UnknownStream);
                }
            }
        }
        if self.window == 0 && stream.close(|_| true) {
            verdict.doubt = Some(Doubt::Hole);
        }
        verdict
    }

    fn due(&self) -> Option<u64> {
        self.streams
            .values()
            .flat_map(|s| {
                let unconfirmed = (s.newest > s.confirmed).then_some(s.news + B / 16 * 5);
                let times = [unconfirmed, s.bye.map(|at| at + 10 * B), Some(s.heard + FORGET_SILENT)];
                s.missing().map(|since| since + self.window).chain(times.into_iter().flatten()).collect::<Vec<_>>()
            })
            .min()
    }

    fn poll(&mut self, now: u64) -> HashSet<Doubt> {
        let mut doubts = HashSet::new();
        for stream in self.streams.values_mut() {
            if stream.newest > stream.confirmed && stream.news + B / 16 * 5 <= now {
                stream.confirmed = stream.newest;
                doubts.insert(Doubt::Unconfirmed);
            }
            if stream.close(|since| since + self.window <= now) {
                doubts.insert(Doubt::Hole);
            }
        }
        self.streams.retain(|_, s| s.bye.is_none_or(|at| at + 10 * B > now) && s.heard + FORGET_SILENT > now);
        doubts
    }

    fn reached(&self, src: &str, seq: u64) -> Reached {
        let Some(stream) = self.streams.get(src) else { return Reached::Unknown };
        match stream.numbers.get(&seq) {
            None | Some(Number::Missing { .. }) => Reached::Unknown,
            Some(Number::Received) if !stream.numbers.range(seq..).any(|(_, n)| *n == Number::Unaccounted) => {
                Reached::Applied
            }
            Some(Number::Received | Number::Unaccounted) => Reached::LearnedNotReceived,
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Data { src: String, first: u64, seq: u64, all: bool },
    Heartbeat { src: String, seq: u64 },
    Bye { src: String, seq: u64 },
    Probe,
    Connect,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let src = || "[ab]";
    let seq = || 1u64..14;
    let data = (src(), seq(), prop_oneof![5 => Just(0u64), 1 => 1u64..6], proptest::bool::weighted(0.1))
        .prop_map(|(src, seq, back, all)| Event::Data { src, first: seq.saturating_sub(back).max(1), seq, all });
    let wait = prop_oneof![0u64..S, 0..3 * S, Just(W), Just(B / 16 * 5), Just(10 * B), Just(FORGET_SILENT), 0..B];
    prop_oneof![
        12 => data,
        5 => (src(), seq()).prop_map(|(src, seq)| Event::Heartbeat { src, seq }),
        1 => (src(), seq()).prop_map(|(src, seq)| Event::Bye { src, seq }),
        1 => Just(Event::Probe),
        1 => Just(Event::Connect),
        6 => wait.prop_map(Event::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    #[test]
    fn streams_follow_the_rules_word_for_word(window in prop_oneof![Just(0), Just(W)], events in proptest::collection::vec(event(), 0..60)) {
        let mut streams = Streams::new(window, B, "own".into());
        let mut model = Model { window, probed: false, streams: BTreeMap::new() };
        let mut now = 0;
        for event in events {
            match &event {
                Event::Data { src, first, seq, all } => {
                    prop_assert_eq!(streams.observe_data(&stamp(src, *first, *seq), *all, now), model.observe(&event, now));
                }
                Event::Heartbeat { src, seq } => {
                    prop_assert_eq!(streams.observe_heartbeat(&src.as_str().into(), *seq, now), model.observe(&event, now));
                }
                Event::Bye { src, seq } => {
                    prop_assert_eq!(streams.observe_bye(&src.as_str().into(), *seq, now), model.observe(&event, now));
                }
                Event::Probe => {
                    streams.first_probe_returned(now);
                    model.probed = true;
                    model.streams.values_mut().for_each(|stream| {
                        stream.close(|_| true);
                    });
                }
                Event::Connect => {
                    streams.new_connection();
                    model.probed = false;
                }
                Event::Wait(time) => {
                    now += time;
                    let doubts = streams.poll(now);
                    let distinct: HashSet<Doubt> = doubts.iter().copied().collect();
                    prop_assert_eq!(distinct.len(), doubts.len());
                    prop_assert_eq!(distinct, model.poll(now));
                    prop_assert!(streams.due().is_none_or(|at| at > now), "poll leaves nothing due");
                }
            }
            prop_assert_eq!(streams.due(), model.due());
            prop_assert_eq!(streams.len(), model.streams.len());
            for src in ["a", "b"] {
                for seq in 0..16 {
                    if seq > 0 {
                        prop_assert_eq!(streams.reached(src, seq), model.reached(src, seq), "{} {}", src, seq);
                    }
                    for first in seq.saturating_sub(2).max(1)..=seq {
                        let came = |n| model.streams.get(src).is_some_and(|stream| stream.came.contains(&n));
                        prop_assert!(!streams.has(&stamp(src, first, seq)) || (first..=seq).all(came), "{} {}", first, seq);
                    }
                }
            }
        }
    }

    /// A real outbox, a broker that acknowledges and then drops, and a receiver: whatever was dropped is doubted, at
    /// the latest by the next thing of the stream that arrives.
    #[test]
    fn a_dropped_message_is_doubted_by_the_next_that_arrives(fates in proptest::collection::vec((any::<bool>(), 0u8..4), 1..60)) {
        let mut outbox = Outbox::new("a".into(), Limits::default(), B);
        let mut streams = streams(0);
        let mut dropped = false;
        let mut now = 0;
        let mut deliver = |payload: &[u8], arrives: bool, dropped: &mut bool, now: u64| {
            let Ok(Decoded::Envelope(message)) = decode(payload) else { panic!("an envelope") };
            let Message { stamp: Some(stamp), ops, bye: false, .. } = message else { panic!("a stamp") };
            let is_data = !ops.is_empty();
            if !arrives {
                *dropped |= is_data;
                return true;
            }
            let known = streams.reached("a", 1) != Reached::Unknown;
            let verdict = match is_data {
                true => streams.observe_data(&stamp, ops.all, now),
                false => streams.observe_heartbeat(&stamp.src, stamp.seq, now),
            };
            let settled = !*dropped || verdict.doubt.is_some() || ops.all;
            // And nothing else is doubted, but that a stream was unknown.
            let founded = verdict.doubt.is_none() || *dropped || !known;
            *dropped = false;
            settled && founded
        };
        for (i, (arrives, kind)) in fates.into_iter().enumerate() {
            now += S;
            if kind == 0 {
                if let Some(heartbeat) = outbox.heartbeat() {
                    prop_assert!(deliver(&heartbeat, arrives, &mut dropped, now));
                }
                continue;
            }
            outbox.push(Operations { keys: vec![(format!("k{i}"), None)], all: kind == 3 && i % 5 == 0, ..Operations::default() });
            let (seq, payload) = outbox.next().unwrap();
            if kind == 2 {
                // Lost before the broker had it: handed out again, under the same number.
                outbox.disconnected();
                prop_assert_eq!(outbox.next(), Some((seq, payload.clone())));
            }
            outbox.acked(seq, now);
            prop_assert!(deliver(&payload, arrives, &mut dropped, now));
        }
        // The heartbeats that follow make sure of the last ones.
        if let Some(heartbeat) = outbox.heartbeat() {
            prop_assert!(deliver(&heartbeat, true, &mut dropped, now));
        }
        prop_assert!(!dropped);
        prop_assert!(streams.poll(now + B).is_empty(), "all is confirmed");
    }
}
