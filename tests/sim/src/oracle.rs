//! Knows every write, and holds every read against the promise; and counts entries that lapsed without need.
//!
//! Two rules. *Bound*: no read returns a value whose invalidation the broker accepted more than the reader's
//! `staleness_bound` ago. *Fence*: once a node has applied an invalidation, it serves nothing older, not for a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use unstale::clock::Nanos;

use crate::database::ROWS;

/// A publisher stream: its `src`, and its cache's namespace.
type Stream = (Arc<str>, usize);

/// The oracle's book.
pub struct Oracle {
    /// Per namespace and row: when the broker accepted an invalidation, and the newest version said by then to be gone.
    accepted: Vec<Vec<(Nanos, u64)>>,
    /// Per node, namespace and row: how far `accepted` was read for the bound, and the oldest version allowed by it.
    due: Vec<Vec<(usize, u64)>>,
    /// Per node, namespace and row: the oldest version allowed since an invalidation was applied there.
    applied: Vec<Vec<u64>>,
    sent: HashMap<Stream, BTreeMap<u64, Vec<Write>>>,
    /// Per stream: what the broker accepted of it, and when; heartbeats too.
    said: HashMap<Stream, Vec<(Nanos, u64)>>,
    dropped: Vec<Dropped>,
    /// Per node and stream: the highest number that a heartbeat confirmed there.
    confirmed: HashMap<(usize, Stream), u64>,
    excuses: Excuses,
    unwell: HashMap<Arc<str>, Vec<(Nanos, Nanos)>>,
    namespaces: usize,
    pub reads: u64,
    pub hits: u64,
    pub needless: u64,
    pub excused: u64,
    pub lost: u64,
    /// The longest that a value was served after its invalidation was accepted.
    pub stalest: Nanos,
    pub violations: Vec<String>,
}

/// Which reads may be excused as double faults, which the promise leaves out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Excuses {
    /// None: they cannot happen.
    None,
    /// Those in which nothing before what was lost was unconfirmed: the silence of the stream says nothing then.
    Confirmed,
    /// All.
    All,
}

/// A version that an invalidation tells of.
#[derive(Clone, Copy)]
struct Write {
    row: usize,
    version: u64,
    accepted: Option<Nanos>,
}

/// A message that the broker acknowledged and then did not deliver.
struct Dropped {
    node: usize,
    src: Arc<str>,
    namespace: usize,
    seq: u64,
    at: Nanos,
}

/// A read to be judged.
pub struct Read {
    pub node: usize,
    pub namespace: usize,
    pub row: usize,
    pub version: u64,
    /// What had been applied when the entry was looked up, by [`Oracle::applied`].
    pub applied: u64,
    pub at: Nanos,
    /// The reader's bound, with what its clock and its source may be off.
    pub bound: Nanos,
}

impl Oracle {
    pub fn new(nodes: usize, namespaces: usize, excuses: Excuses) -> Oracle {
        let rows = namespaces * ROWS;
        Oracle {
            accepted: vec![Vec::new(); rows],
            due: vec![vec![(0, 0); rows]; nodes],
            applied: vec![vec![0; rows]; nodes],
            sent: HashMap::new(),
            said: HashMap::new(),
            dropped: Vec::new(),
            confirmed: HashMap::new(),
            excuses,
            unwell: HashMap::new(),
            namespaces,
            reads: 0,
            hits: 0,
            needless: 0,
            excused: 0,
            lost: 0,
            stalest: 0,
            violations: Vec::new(),
        }
    }

    /// A node began anew, with an empty cache.
    pub fn born(&mut self, node: usize) {
        self.applied[node] = vec![0; self.namespaces * ROWS];
    }

    /// Number `seq` of `src` says that versions below `version` are gone.
    pub fn told(&mut self, src: &Arc<str>, namespace: usize, seq: u64, row: usize, version: u64) {
        let stream = self.sent.entry((src.clone(), namespace)).or_default();
        stream.entry(seq).or_default().push(Write { row, version, accepted: None });
    }

    /// The broker took over the numbers `first` to `seq`; of a heartbeat `first` is above `seq`.
    pub fn accepted(&mut self, src: &Arc<str>, namespace: usize, first: u64, seq: u64, now: Nanos) {
        let stream = (src.clone(), namespace);
        self.said.entry(stream.clone()).or_default().push((now, seq));
        let Some(stream) = self.sent.get_mut(&stream).filter(|_| first <= seq) else { return };
        for write in stream.range_mut(first..=seq).flat_map(|(_, writes)| writes) {
            if write.accepted.is_none() {
                write.accepted = Some(now);
                let row = &mut self.accepted[namespace * ROWS + write.row];
                let newest = row.last().map_or(0, |(_, version)| *version);
                row.push((now, newest.max(write.version)));
            }
        }
    }

    /// A node received the numbers `first` to `seq` and applied what they say.
    pub fn received(&mut self, node: usize, src: &Arc<str>, namespace: usize, first: u64, seq: u64) {
        let Some(stream) = self.sent.get(&(src.clone(), namespace)) else { return };
        for write in stream.range(first..=seq).flat_map(|(_, writes)| writes) {
            let applied = &mut self.applied[node][namespace * ROWS + write.row];
            *applied = write.version.max(*applied);
        }
    }

    /// A node received a heartbeat.
    pub fn confirmed(&mut self, node: usize, src: &Arc<str>, namespace: usize, seq: u64) {
        let newest = self.confirmed.entry((node, (src.clone(), namespace))).or_default();
        *newest = seq.max(*newest);
    }

    /// A node invalidated by itself, or was told by `wait_for`, that versions below `version` are gone.
    pub fn apply(&mut self, node: usize, namespace: usize, row: usize, version: u64) {
        let applied = &mut self.applied[node][namespace * ROWS + row];
        *applied = version.max(*applied);
    }

    /// The oldest version that a node may serve, by what it has applied.
    pub fn applied(&self, node: usize, namespace: usize, row: usize) -> u64 {
        self.applied[node][namespace * ROWS + row]
    }

    /// What number `seq` of `src` says, for `wait_for`.
    pub fn says(&self, src: &Arc<str>, namespace: usize, seq: u64) -> Vec<(usize, u64)> {
        let stream = self.sent.get(&(src.clone(), namespace));
        stream.and_then(|s| s.get(&seq)).into_iter().flatten().map(|w| (w.row, w.version)).collect()
    }

    /// Everything that was invalidated and that the broker never took over. For the end of a run.
    pub fn never_accepted(&self, src: &Arc<str>) -> usize {
        let streams = self.sent.iter().filter(|((s, _), _)| s == src);
        streams.flat_map(|(_, s)| s.values().flatten()).filter(|w| w.accepted.is_none()).count()
    }

    /// The broker acknowledged a message and dropped it on its way to a node.
    pub fn dropped(&mut self, node: usize, src: &Arc<str>, namespace: usize, seq: u64, at: Nanos) {
        self.dropped.push(Dropped { node, src: src.clone(), namespace, seq, at });
    }

    /// A publisher died, was stopped or was cut off.
    pub fn unwell(&mut self, src: &Arc<str>, from: Nanos) {
        self.unwell.entry(src.clone()).or_default().push((from, Nanos::MAX));
    }

    /// It is heard again from then on.
    pub fn well(&mut self, src: &Arc<str>, from: Nanos) {
        for (_, to) in self.unwell.get_mut(src).into_iter().flatten() {
            *to = from.min(*to);
        }
    }

    /// Judges a hit; false if it breaks the promise.
    pub fn judge(&mut self, read: &Read) -> bool {
        self.hits += 1;
        let row = read.namespace * ROWS + read.row;
        let accepted = &self.accepted[row];
        let (cursor, due) = &mut self.due[read.node][row];
        while accepted.get(*cursor).is_some_and(|(at, _)| at + read.bound < read.at) {
            *due = accepted[*cursor].1;
            *cursor += 1;
        }
        if let Some((at, _)) = accepted[*cursor..].iter().find(|(_, version)| *version > read.version) {
            self.stalest = self.stalest.max(read.at - at);
        }
        let due = *due;
        let before = self.violations.len();
        if read.version < read.applied {
            self.violate(read, format_args!("version {} was applied here before", read.applied));
        } else if read.version < due {
            if self.excuses != Excuses::None && self.is_double_fault(read) {
                self.excused += 1;
            } else {
                self.violate(read, format_args!("the broker accepted version {due} more than the bound ago"));
            }
        }
        self.violations.len() == before
    }

    fn violate(&mut self, read: &Read, why: std::fmt::Arguments) {
        let (node, namespace, row, version) = (read.node, read.namespace, read.row, read.version);
        let at = read.at as f64 / 1e9;
        self.violations
            .push(format!("at {at:.3} s node {node} served version {version} of row {namespace}/{row}: {why}"));
    }

    /// What the promise leaves out: the broker dropped the acknowledged invalidation for this node, *and* all that would
    /// have told of it, since it dropped a later message of the stream too or since the publisher was unwell.
    fn is_double_fault(&self, read: &Read) -> bool {
        let missed = self.sent.iter().flat_map(|((src, namespace), stream)| {
            let writes = stream.iter().flat_map(|(seq, writes)| writes.iter().map(move |w| (*seq, w)));
            writes.map(move |(seq, write)| (src, *namespace, seq, write))
        });
        let mut missed = missed.filter(|(_, namespace, _, w)| {
            *namespace == read.namespace
                && w.row == read.row
                && w.version > read.version
                && w.accepted.is_some_and(|at| at + read.bound < read.at)
        });
        missed.all(|(src, namespace, seq, write)| {
            let accepted = write.accepted.unwrap_or(0);
            // What comes later than that may come behind a probe that proves too much.
            let until = accepted + read.bound / 16 * 5;
            let of_stream =
                self.dropped.iter().filter(|d| d.node == read.node && d.src == *src && d.namespace == namespace);
            let drops: Vec<Nanos> = of_stream.filter(|d| d.seq >= seq && d.at >= accepted).map(|d| d.at).collect();
            let said = self.said.get(&(src.clone(), namespace)).into_iter().flatten();
            let mut later = said.filter(|(at, said)| *said >= seq && *at > accepted && *at <= until).peekable();
            let unwell = self.unwell.get(src).into_iter().flatten();
            let mut unwell = unwell.filter(|(from, to)| *from <= until && *to >= accepted);
            let confirmed = self.confirmed.get(&(read.node, (src.clone(), namespace))).is_some_and(|n| *n + 1 >= seq);
            if self.excuses == Excuses::Confirmed && !confirmed {
                return false;
            }
            let muted = later.peek().is_some() || unwell.next().is_some();
            !drops.is_empty() && muted && later.all(|(at, _)| drops.contains(at))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    fn oracle() -> (Oracle, Arc<str>) {
        let mut oracle = Oracle::new(2, 1, Excuses::All);
        let src: Arc<str> = "a".into();
        oracle.told(&src, 0, 1, 3, 2);
        oracle.accepted(&src, 0, 1, 1, 10 * S);
        (oracle, src)
    }

    fn read(version: u64, applied: u64, at: Nanos) -> Read {
        Read { node: 1, namespace: 0, row: 3, version, applied, at, bound: 5 * S }
    }

    #[test]
    fn an_old_value_is_fine_up_to_the_bound_and_a_violation_beyond() {
        let (mut oracle, _) = oracle();
        oracle.judge(&read(1, 0, 15 * S));
        assert!(oracle.violations.is_empty() && oracle.stalest == 5 * S);
        oracle.judge(&read(2, 0, 16 * S));
        assert!(oracle.violations.is_empty());
        oracle.judge(&read(1, 0, 15 * S + 1));
        assert_eq!(oracle.violations.len(), 1);
    }

    #[test]
    fn an_old_value_is_a_violation_at_once_where_the_invalidation_was_applied() {
        let (mut oracle, src) = oracle();
        oracle.received(1, &src, 0, 1, 1);
        let applied = oracle.applied(1, 0, 3);
        oracle.judge(&read(1, applied, 10 * S));
        assert_eq!((applied, oracle.violations.len()), (2, 1));
    }

    #[test]
    fn one_lost_message_is_no_excuse_and_a_lost_message_with_all_that_would_have_told_of_it_is() {
        let (mut oracle, src) = oracle();
        oracle.dropped(1, &src, 0, 1, 10 * S);
        oracle.judge(&read(1, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (1, 0));
        // A heartbeat, which is lost too.
        oracle.accepted(&src, 0, 2, 1, 11 * S);
        oracle.dropped(1, &src, 0, 1, 11 * S);
        oracle.judge(&read(1, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (1, 1));
        // And another one, which is not.
        oracle.accepted(&src, 0, 2, 1, 11 * S + S / 2);
        oracle.judge(&read(1, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (2, 1));
    }

    #[test]
    fn a_publisher_that_dies_is_an_excuse_only_for_what_was_lost() {
        let (mut oracle, src) = oracle();
        oracle.unwell(&src, 11 * S);
        oracle.judge(&read(1, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (1, 0));
        oracle.dropped(1, &src, 0, 1, 10 * S);
        oracle.judge(&read(1, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (1, 1));
    }

    #[test]
    fn an_unconfirmed_message_before_the_lost_one_leaves_no_excuse() {
        let (mut oracle, src) = oracle();
        oracle.excuses = Excuses::Confirmed;
        oracle.told(&src, 0, 2, 3, 3);
        oracle.accepted(&src, 0, 2, 2, 10 * S);
        oracle.dropped(1, &src, 0, 2, 10 * S);
        oracle.unwell(&src, 11 * S);
        oracle.judge(&read(2, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (1, 0));
        oracle.confirmed(1, &src, 0, 1);
        oracle.judge(&read(2, 0, 20 * S));
        assert_eq!((oracle.violations.len(), oracle.excused), (1, 1));
    }

    #[test]
    fn a_collapsed_message_stands_for_all_its_numbers() {
        let (mut oracle, src) = oracle();
        oracle.told(&src, 0, 2, 4, 7);
        oracle.received(1, &src, 0, 1, 2);
        assert_eq!((oracle.applied(1, 0, 3), oracle.applied(1, 0, 4)), (2, 7));
    }
}
