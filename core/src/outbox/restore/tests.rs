use super::*;
use crate::message::Stamp;
use crate::outbox::tests::{covers, keys, read, single_operations, step, versioned, Step};
use crate::stream::Streams;
use proptest::prelude::*;

const B: u64 = 30_000_000_000;

fn restored(limits: Limits, records: &[Vec<u8>]) -> Outbox {
    Outbox::restore("src".into(), limits, B, records.iter().map(|record| read(record)))
}

fn recording(limits: Limits) -> Outbox {
    let mut outbox = Outbox::new("src".into(), limits, B);
    outbox.keep_records();
    outbox
}

/// Everything that waits, acknowledged one by one.
fn drain(outbox: &mut Outbox) -> Vec<Message> {
    std::iter::from_fn(|| {
        let (seq, payload) = outbox.next()?;
        outbox.acked(seq, 0);
        Some(read(&payload))
    })
    .collect()
}

#[test]
fn the_records_of_one_number_become_one_message() {
    let mut outbox = recording(Limits::default());
    let mut records = Vec::new();
    for ops in [keys(&["a"]), keys(&["b", "a"]), versioned("v", 3), versioned("v", 5), versioned("v", 4)] {
        outbox.push(ops);
        records.extend(outbox.take_records());
    }
    // What says nothing new leaves no record.
    assert_eq!(records.len(), 4);
    let mut again = restored(Limits::default(), &records);
    assert_eq!((again.last_number(), again.acked_up_to(), again.pending(), again.ops_pending()), (1, 0, 1, 3));
    assert_eq!(again.next(), outbox.next());
}

#[test]
fn what_was_acknowledged_does_not_come_back_and_its_numbers_stay() {
    let mut outbox = recording(Limits::default());
    outbox.push(keys(&["a"]));
    let mut records = outbox.take_records();
    let (seq, _) = outbox.next().unwrap();
    outbox.push(keys(&["b"]));
    records.extend(outbox.take_records());
    outbox.acked(seq, 0);
    records.extend(outbox.heartbeat());
    let mut again = restored(Limits::default(), &records);
    assert_eq!((again.acked_up_to(), again.last_number(), again.push(keys(&["c"]))), (1, 2, 3));
    let numbers: Vec<u64> = drain(&mut again).iter().map(|m| m.stamp.as_ref().unwrap().seq).collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(again.bye().unwrap(), br#"{"v":1,"src":"src","seq":3,"bye":true}"#);
    // Nothing pends, yet the stream has a tail to close.
    let ended = restored(Limits::default(), &[again.heartbeat().unwrap()]);
    assert_eq!((ended.pending(), ended.bye()), (0, again.bye()));
}

#[test]
fn a_number_without_a_record_is_covered_by_the_next_as_all() {
    let record = |seq: u64| {
        let stamp = Some(Stamp { src: "src".into(), first: seq, seq });
        encode(&Message { stamp, ops: keys(&["k"]), ..Message::default() })
    };
    let messages = drain(&mut restored(Limits::default(), &[record(2), record(3), record(6)]));
    let told: Vec<_> =
        messages.iter().map(|m| (m.stamp.as_ref().unwrap().first, m.stamp.as_ref().unwrap().seq, m.ops.all)).collect();
    assert_eq!(told, [(1, 2, true), (3, 3, false), (4, 6, true)]);
}

#[test]
fn more_than_the_limits_allow_collapses_and_leaves_the_first_as_it_was() {
    let mut outbox = recording(Limits::default());
    let mut records = Vec::new();
    outbox.push(keys(&["first"]));
    let first = outbox.next();
    for i in 0..100 {
        outbox.push(keys(&[&format!("user:{i}")]));
    }
    records.extend(outbox.take_records());
    let mut again = restored(Limits { limit: 10, ..Limits::default() }, &records);
    assert_eq!((again.pending(), again.next()), (2, first));
    again.acked(1, 0);
    let messages = drain(&mut again);
    assert_eq!((messages.len(), &messages[0].ops.prefixes[..]), (1, &["user:".to_owned()][..]));
    // One message that is too large for today's limits, too.
    let mut again = restored(Limits { max_ops: 20, ..Limits::default() }, &records[1..]);
    let message = drain(&mut again).remove(0);
    assert!(message.ops.len() <= 20 && covers(&message.ops, &keys(&["user:7"]), false), "{:?}", message.ops);
}

#[test]
fn records_of_another_stream_are_not_this_ones() {
    let other = br#"{"v":1,"src":"other","seq":9,"keys":["k"]}"#.to_vec();
    assert_eq!(restored(Limits::default(), &[other]).last_number(), 0);
}

/// A process runs, dies after its last step, and another one takes up what it left. `again` are the steps at which the
/// journal begins again: by a new file, or in the same one.
fn crash(steps: Vec<Step>, limits: Limits, again: &[(usize, bool)], accepted: bool) -> Result<(), TestCaseError> {
    let collapses = limits.limit < 1_000;
    let mut outbox = recording(limits);
    let mut journal: Vec<Vec<u8>> = Vec::new();
    let mut streams = Streams::new(0, B, "reader".into());
    streams.first_probe_returned(0);
    // What was pushed, and how many numbers had been handed out before.
    let mut pushed: Vec<(Operations, usize)> = Vec::new();
    let mut in_flight: Option<(u64, Vec<u8>)> = None;
    let mut told: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let receive = |streams: &mut Streams, message: &Message| {
        streams.observe_data(message.stamp.as_ref().unwrap(), message.ops.all, 1).doubt
    };
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Push(ops) => {
                let singles = single_operations(&ops);
                outbox.push(ops);
                pushed.extend(singles.into_iter().map(|op| (op, told.len())));
                journal.extend(outbox.take_records());
            }
            Step::Next => {
                if let Some((seq, payload)) = outbox.next() {
                    told.insert(seq, payload.clone());
                    in_flight = Some((seq, payload));
                }
            }
            Step::Ack => {
                if let Some((seq, payload)) = in_flight.take() {
                    prop_assert_eq!(receive(&mut streams, &read(&payload)), None);
                    outbox.acked(seq, 0);
                    journal.extend(outbox.heartbeat());
                }
            }
            Step::Fail => outbox.failed(in_flight.take().map_or(0, |(seq, _)| seq)),
            Step::Disconnect => {
                outbox.disconnected();
                in_flight = None;
            }
        }
        if let Some((_, in_place)) = again.iter().find(|(when, _)| *when == at) {
            if !in_place {
                journal.clear();
            }
            journal.extend(outbox.snapshot());
        }
    }
    // Accepted by the broker, and the process died before it learned of it.
    if let Some((_, payload)) = in_flight.filter(|_| accepted) {
        prop_assert_eq!(receive(&mut streams, &read(&payload)), None);
    }
    let (acked, last, pending) = (outbox.acked_up_to(), outbox.last_number(), outbox.pending());
    drop(outbox);

    let mut next_life = restored(limits, &journal);
    prop_assert_eq!((next_life.acked_up_to(), next_life.last_number()), (acked, last));
    prop_assert!(next_life.pending() <= pending, "what collapsed stays collapsed");
    let messages = drain(&mut next_life);
    for message in &messages {
        let stamp = message.stamp.as_ref().unwrap();
        prop_assert!(stamp.first > acked, "number {} again after its acknowledgement", stamp.first);
        let length = encode(message).len();
        prop_assert!(length <= limits.max_payload || message.ops.len() == 1, "{length} bytes");
        prop_assert!(message.ops.len() <= limits.max_ops);
        if let Some(before) = told.get(&stamp.seq) {
            if collapses {
                for op in single_operations(&read(before).ops) {
                    prop_assert!(covers(&message.ops, &op, true), "{:?} is no longer in {:?}", op, message);
                }
            } else {
                prop_assert_eq!(before, &encode(message), "the same number, another content");
            }
        }
        prop_assert_eq!(receive(&mut streams, message), None, "a hole before {:?}", message.stamp);
    }
    for (op, before) in &pushed {
        let delivered = told.iter().skip(*before).filter(|(seq, _)| **seq <= acked).map(|(_, payload)| read(payload));
        let said = delivered.chain(messages.iter().cloned()).any(|m| covers(&m.ops, op, collapses));
        prop_assert!(said, "{:?} was lost", op);
    }
    prop_assert_eq!((next_life.pending(), next_life.acked_up_to()), (0, last));
    if last > 0 {
        let bye = read(&next_life.bye().unwrap());
        prop_assert_eq!(streams.observe_bye(&"src".into(), bye.stamp.unwrap().seq, 2).doubt, None);
        prop_assert_eq!(streams.poll(B), vec![], "the tail is closed");
    }
    Ok(())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 0..60)
}

fn again() -> impl Strategy<Value = Vec<(usize, bool)>> {
    proptest::collection::vec((0usize..60, any::<bool>()), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_unacknowledged_is_lost_by_a_crash(steps in steps(), again in again(), accepted: bool) {
        crash(steps, Limits::default(), &again, accepted)?;
    }

    #[test]
    fn nothing_unacknowledged_in_small_messages_is_lost_by_a_crash(steps in steps(), again in again(), accepted: bool, max_ops in 1usize..5) {
        crash(steps.clone(), Limits { max_ops, ..Limits::default() }, &again, accepted)?;
        crash(steps, Limits { max_payload: 160, ..Limits::default() }, &again, accepted)?;
    }

    #[test]
    fn nothing_collapsed_is_lost_by_a_crash(steps in steps(), again in again(), accepted: bool, limit in 1usize..20, max_payload in 150usize..400) {
        crash(steps, Limits { max_payload, limit, ..Limits::default() }, &again, accepted)?;
    }
}
