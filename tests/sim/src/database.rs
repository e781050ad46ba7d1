//! The source of truth: a linearizable store that only counts versions, and a replica that lags behind it.

use unstale::clock::Nanos;

/// What each node caches: entries by themselves, under a tag, under a prefix, and two that are derived from others.
pub const KEYS: [Key; 12] = [
    Key::plain("k0", 0),
    Key::plain("k1", 1),
    Key::plain("k2", 2),
    Key::plain("k3", 3),
    Key::tagged("t0", 4),
    Key::tagged("t1", 5),
    Key::tagged("t2", 6),
    Key::plain("p:0", 7),
    Key::plain("p:1", 8),
    Key::plain("p:2", 9),
    Key::derived("d0", 0),
    Key::derived("d1", 1),
];
/// Rows in the database; the keys after them are derived.
pub const ROWS: usize = 10;
/// The tag of the tagged keys.
pub const TAG: &str = "t";
/// The rows under [`TAG`].
pub const TAGGED: std::ops::Range<usize> = 4..7;
/// The prefix of the keys of [`PREFIXED`].
pub const PREFIX: &str = "p:";
/// The rows under [`PREFIX`].
pub const PREFIXED: std::ops::Range<usize> = 7..10;

/// A key, and the row that its value comes from.
pub struct Key {
    pub name: &'static str,
    pub row: usize,
    pub tagged: bool,
    pub derived: bool,
}

impl Key {
    const fn plain(name: &'static str, row: usize) -> Key {
        Key { name, row, tagged: false, derived: false }
    }

    const fn tagged(name: &'static str, row: usize) -> Key {
        Key { name, row, tagged: true, derived: false }
    }

    const fn derived(name: &'static str, row: usize) -> Key {
        Key { name, row, tagged: false, derived: true }
    }
}

/// Rows of one namespace each, as the times of their commits. The first version is 1, there from the start.
pub struct Database {
    commits: Vec<Vec<Nanos>>,
}

impl Database {
    pub fn new(namespaces: usize) -> Database {
        Database { commits: vec![vec![0]; namespaces * ROWS] }
    }

    pub fn commit(&mut self, namespace: usize, row: usize, now: Nanos) -> u64 {
        let commits = &mut self.commits[namespace * ROWS + row];
        commits.push(now);
        commits.len() as u64
    }

    pub fn newest(&self, namespace: usize, row: usize) -> u64 {
        self.commits[namespace * ROWS + row].len() as u64
    }

    /// What a replica says that is `lag` behind.
    pub fn read(&self, namespace: usize, row: usize, now: Nanos, lag: Nanos) -> u64 {
        let at = now.saturating_sub(lag);
        self.commits[namespace * ROWS + row].partition_point(|commit| *commit <= at) as u64
    }
}
