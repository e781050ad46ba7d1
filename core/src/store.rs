//! Entries: expiry, eviction, epochs, tags, dependencies. The only file that names the map's crate.
//!
//! Reads ([`Store::get`]) take no lock of ours. Whatever changes the store takes an `&mut Index`, of which `fill` keeps the
//! only one under its lock: so a fence and the removal or insertion that goes with it are one step for everyone else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use quick_cache::sync::Cache as Map;
use quick_cache::{Lifecycle, OptionsBuilder, UnitWeighter};

use crate::clock::Nanos;
use crate::freshness::Freshness;

/// A key, tag or prefix.
pub type Key = Arc<str>;

/// What is held under a key.
#[derive(Clone)]
pub struct Entry<V> {
    /// The value; none is a cached "not found".
    pub value: Option<V>,
    /// When the load that brought it started; of a derived entry, when that of its oldest input did.
    pub loaded_at: Nanos,
    /// End of its `ttl`.
    pub expires_at: Nanos,
    /// The cache's epoch when the load started.
    pub epoch: u64,
    /// Tags, dependencies and version, which most entries do not have.
    pub extra: Option<Arc<Extra>>,
}

/// The rarer parts of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// Tags it falls with.
    pub tags: Box<[Key]>,
    /// Keys it falls with.
    pub depends_on: Box<[Key]>,
    /// The source's version of the value.
    pub version: Option<u64>,
    /// When its load started, where `loaded_at` is that of an older input.
    pub started_at: Option<Nanos>,
}

impl<V> Entry<V> {
    /// The source's version of the value.
    pub fn version(&self) -> Option<u64> {
        self.extra.as_ref().and_then(|e| e.version)
    }

    /// When the load that brought it started.
    pub fn started_at(&self) -> Nanos {
        self.extra.as_ref().and_then(|e| e.started_at).unwrap_or(self.loaded_at)
    }

    /// Whether it falls with something other than its own key.
    fn is_linked(&self) -> bool {
        self.extra.as_ref().is_some_and(|e| !e.tags.is_empty() || !e.depends_on.is_empty())
    }
}

/// The answer to a look-up.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<V> {
    /// A value that may be served.
    Hit(V),
    /// A cached "not found" that may be served.
    Absent,
    /// Nothing that may be served.
    Miss,
}

/// Who falls with what. Reached only through `fill`'s lock.
#[derive(Default)]
pub struct Index {
    tags: HashMap<Key, HashSet<Key, RandomState>, RandomState>,
    dependents: HashMap<Key, HashSet<Key, RandomState>, RandomState>,
}

/// What left the map: dropped by the caller once no lock is held, since a value's destructor is the user's code.
pub type Removed<V> = Vec<(Key, Entry<V>)>;

#[derive(Clone)]
struct Evictions;

impl<V> Lifecycle<Key, Entry<V>> for Evictions {
    type RequestState = Removed<V>;

    fn on_evict(&self, evicted: &mut Removed<V>, key: Key, entry: Entry<V>) {
        evicted.push((key, entry));
    }
}

/// The entries of one cache.
pub struct Store<V> {
    map: Map<Key, Entry<V>, UnitWeighter, RandomState, Evictions>,
    freshness: Arc<Freshness>,
}

impl<V: Clone> Store<V> {
    /// An empty store of at most `max_entries`.
    pub fn new(max_entries: u64, freshness: Arc<Freshness>) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity(max_entries.min(1 << 20) as usize)
            .weight_capacity(max_entries)
            .build()
            .expect("both capacities are given");
        Store { map: Map::with_options(options, UnitWeighter, RandomState::default(), Evictions), freshness }
    }

    /// The freshness that hits are checked against.
    pub fn freshness(&self) -> &Arc<Freshness> {
        &self.freshness
    }

    /// Looks a key up (design, rule 4). `now` is read after the look-up.
    #[inline]
    pub fn get(&self, key: &str, now: impl FnOnce() -> Nanos) -> Lookup<V> {
        let proof = self.freshness.proof();
        match self.map.get(key) {
            Some(entry) => {
                let now = now();
                if now < entry.expires_at && self.freshness.serves(proof, entry.loaded_at, entry.epoch, now) {
                    match entry.value {
                        Some(value) => Lookup::Hit(value),
                        None => Lookup::Absent,
                    }
                } else {
                    Lookup::Miss
                }
            }
            None => Lookup::Miss,
        }
    }

    /// When the entry under `key` was loaded, and in which epoch, if it would be served.
    pub fn served(&self, key: &str, now: Nanos) -> Option<(Nanos, u64)> {
        let proof = self.freshness.proof();
        let entry = self.map.peek(key)?;
        let served = now < entry.expires_at && self.freshness.serves(proof, entry.loaded_at, entry.epoch, now);
        served.then_some((entry.loaded_at, entry.epoch))
    }

    /// What is held under `key`, servable or not.
    pub fn peek(&self, key: &str) -> Option<Entry<V>> {
        self.map.peek(key)
    }

    /// Puts an entry, replacing. Returns the keys whose dependents can no longer be told of what they came from.
    pub fn put(&self, index: &mut Index, key: Key, entry: Entry<V>, removed: &mut Removed<V>) -> Vec<Key> {
        let extra = entry.extra.clone();
        let before = removed.len();
        // The map hands out what is replaced as well as what is evicted, so no destructor runs under its lock.
        self.map.insert_with_lifecycle(key.clone(), entry, removed);
        let mut unlinked = Vec::new();
        for (key, entry) in &removed[before..] {
            if entry.is_linked() {
                index.unlink(key, entry);
                unlinked.push(key.clone());
            }
        }
        if let Some(extra) = extra {
            // The map may have refused it in favour of hotter entries.
            if self.map.contains_key(&key) {
                index.link(&key, &extra);
            }
        }
        unlinked
    }

    /// Removes an entry; whether it was held.
    pub fn remove(&self, index: &mut Index, key: &str, removed: &mut Removed<V>) -> bool {
        match self.map.remove(key) {
            Some((key, entry)) => {
                index.unlink(&key, &entry);
                removed.push((key, entry));
                true
            }
            None => false,
        }
    }

    /// The keys held that begin with `prefix`. Reads the whole map.
    pub fn keys_with_prefix(&self, prefix: &str) -> Vec<Key> {
        self.map.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(key, _)| key).collect()
    }

    /// The keys of entries that can never be served again: loaded before the floor, or expired.
    pub fn dead_keys(&self, now: Nanos) -> Vec<Key> {
        let floor = self.freshness.floor();
        self.map.iter().filter(|(_, e)| e.loaded_at < floor || e.expires_at <= now).map(|(key, _)| key).collect()
    }

    /// The values held, servable or not.
    pub fn values(&self) -> impl Iterator<Item = V> + '_ {
        self.map.iter().filter_map(|(_, entry)| entry.value)
    }

    /// Entries held, servable or not.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl Index {
    fn link(&mut self, key: &Key, extra: &Extra) {
        for tag in &extra.tags {
            self.tags.entry(tag.clone()).or_default().insert(key.clone());
        }
        for input in &extra.depends_on {
            self.dependents.entry(input.clone()).or_default().insert(key.clone());
        }
    }

    fn unlink<V>(&mut self, key: &Key, entry: &Entry<V>) {
        if let Some(extra) = &entry.extra {
            for tag in &extra.tags {
                forget(&mut self.tags, tag, key);
            }
            for input in &extra.depends_on {
                forget(&mut self.dependents, input, key);
            }
        }
    }

    /// The keys that carry `tag`.
    pub fn tagged(&self, tag: &str) -> Vec<Key> {
        self.tags.get(tag).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    /// The keys that depend on `key`.
    pub fn dependents(&self, key: &str) -> Vec<Key> {
        if self.dependents.is_empty() {
            return Vec::new();
        }
        self.dependents.get(key).map(|keys| keys.iter().cloned().collect()).unwrap_or_default()
    }

    /// The keys that depend on a key that begins with `prefix`.
    pub fn dependents_of_prefix(&self, prefix: &str) -> Vec<Key> {
        self.dependents
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .flat_map(|(_, keys)| keys.iter().cloned())
            .collect()
    }
}

fn forget(index: &mut HashMap<Key, HashSet<Key, RandomState>, RandomState>, name: &Key, key: &Key) {
    if let Some(keys) = index.get_mut(name) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::freshness::Bounds;

    fn store(max: u64) -> (Store<u32>, Index) {
        (Store::new(max, Arc::new(Freshness::new(Bounds::new(16_000, false)))), Index::default())
    }

    fn entry(value: u32, loaded_at: Nanos, tags: &[&str]) -> Entry<u32> {
        let tags: Box<[Key]> = tags.iter().map(|t| Key::from(*t)).collect();
        Entry {
            value: Some(value),
            loaded_at,
            expires_at: loaded_at + 10_000,
            epoch: 0,
            extra: Some(Arc::new(Extra { tags, ..Extra::default() })),
        }
    }

    #[test]
    fn an_entry_ends_with_its_ttl() {
        let (s, mut ix) = store(10);
        s.put(&mut ix, "a".into(), entry(1, 100, &[]), &mut vec![]);
        assert_eq!(s.get("a", || 10_099), Lookup::Hit(1));
        assert_eq!(s.get("a", || 10_100), Lookup::Miss);
        assert_eq!(s.dead_keys(10_100).len(), 1);
    }

    #[test]
    fn the_index_holds_nothing_of_entries_that_left() {
        let (s, mut ix) = store(50);
        for i in 0..500u32 {
            s.put(
                &mut ix,
                format!("k{i}").into(),
                entry(i, 1, &["t", if i % 2 == 0 { "even" } else { "odd" }]),
                &mut vec![],
            );
            s.put(&mut ix, format!("k{i}").into(), entry(i, 2, &["t"]), &mut vec![]);
        }
        assert!(s.len() <= 50);
        assert_eq!(ix.tagged("t").len(), s.len(), "evicted and replaced entries left the index");
        assert!(ix.tagged("even").is_empty() && ix.tagged("odd").is_empty());
        for key in ix.tagged("t") {
            s.remove(&mut ix, &key, &mut vec![]);
        }
        assert!(ix.tags.is_empty() && s.is_empty());
    }

    #[test]
    fn what_was_replaced_is_handed_out_and_not_dropped_inside() {
        let (s, mut ix) = store(10);
        let mut removed = vec![];
        s.put(&mut ix, "a".into(), entry(1, 1, &[]), &mut removed);
        assert!(removed.is_empty());
        s.put(&mut ix, "a".into(), entry(2, 2, &[]), &mut removed);
        assert_eq!(removed.len(), 1);
        assert_eq!(removed[0].1.value, Some(1));
    }
}
