//! The fences against a model: whatever the order of loads, leases, stores and invalidations, no value that was loaded
//! before an invalidation of it is readable after it, and no value is refused without need.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::freshness::{Bounds, Freshness};

const BOUND: Nanos = 1_000_000;
const KEYS: [&str; 4] = ["a:1", "a:2", "b:1", "in:1"];
const TAGS: [&str; 2] = ["t", "u"];
const PREFIXES: [&str; 3] = ["a:", "b", "in:"];

/// A value that remembers where it comes from.
#[derive(Debug, PartialEq)]
struct Origin {
    key: &'static str,
    /// The step at which its load, lease or store began.
    start: usize,
    started_at: Nanos,
    tags: Vec<&'static str>,
    inputs: Vec<&'static str>,
    version: Option<u64>,
}

type Value = Arc<Origin>;

/// What happened at a step that ends the life of earlier values.
#[derive(Debug)]
enum Event {
    Key(&'static str, Option<u64>),
    /// A local `set`: of the key only, dependents stay.
    Stored(&'static str),
    Evicted(&'static str),
    Tag(&'static str),
    Prefix(&'static str),
    All,
}

impl Event {
    fn ends(&self, value: &Origin) -> bool {
        match self {
            Event::Key(key, Some(version)) if value.key == *key => value.version.is_none_or(|v| v < *version),
            Event::Key(key, _) => value.key == *key || value.inputs.contains(key),
            Event::Stored(key) | Event::Evicted(key) => value.key == *key,
            Event::Tag(tag) => value.tags.contains(tag),
            Event::Prefix(p) => value.key.starts_with(p) || value.inputs.iter().any(|k| k.starts_with(p)),
            Event::All => true,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin { key: usize, tags: u8, inputs: u8, version: u64 },
    Lease { key: usize },
    Finish { which: usize, tags: u8, inputs: u8, version: u64 },
    GiveUp { which: usize },
    Set { key: usize, tags: u8, inputs: u8, version: u64 },
    Update { which: usize },
    Invalidate { key: usize, version: u64 },
    InvalidateTag(usize),
    InvalidatePrefix(usize),
    InvalidateAll,
    Evict(usize),
    Clear,
    Pass(u64),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Version 0 stands for none.
    let facts = || (0..KEYS.len(), 0..4u8, 0..16u8, 0..4u64);
    let step = prop_oneof![
        6 => facts().prop_map(|(key, tags, inputs, version)| Step::Begin { key, tags, inputs, version }),
        3 => (0..KEYS.len()).prop_map(|key| Step::Lease { key }),
        9 => (0..8usize, 0..4u8, 0..16u8, 0..4u64).prop_map(|(which, tags, inputs, version)| Step::Finish { which, tags, inputs, version }),
        1 => (0..8usize).prop_map(|which| Step::GiveUp { which }),
        2 => facts().prop_map(|(key, tags, inputs, version)| Step::Set { key, tags, inputs, version }),
        2 => (0..8usize).prop_map(|which| Step::Update { which }),
        3 => (0..KEYS.len(), 0..4u64).prop_map(|(key, version)| Step::Invalidate { key, version }),
        2 => (0..TAGS.len()).prop_map(Step::InvalidateTag),
        1 => (0..PREFIXES.len()).prop_map(Step::InvalidatePrefix),
        1 => Just(Step::InvalidateAll),
        1 => (0..KEYS.len()).prop_map(Step::Evict),
        1 => Just(Step::Clear),
        2 => (0..BOUND).prop_map(Step::Pass),
        1 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..80)
}

/// A load or lease that the model has open.
struct Pending {
    ticket: Ticket,
    value: Origin,
    is_load: bool,
    flight: Option<Arc<Flight<Value>>>,
}

struct World {
    fill: Fill<Value>,
    now: Nanos,
    step: usize,
    events: Vec<(usize, Event)>,
    open: Vec<Pending>,
    newest_version: HashMap<&'static str, u64>,
}

fn chosen<const N: usize>(names: &[&'static str; N], bits: u8) -> Vec<&'static str> {
    names.iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0).map(|(_, n)| *n).collect()
}

fn terms(value: &Origin) -> Terms {
    let keys = |names: &[&'static str]| names.iter().map(|n| Key::from(*n)).collect();
    let extra =
        Extra { tags: keys(&value.tags), depends_on: keys(&value.inputs), version: value.version, started_at: None };
    Terms { ttl: None, extra: Some(Arc::new(extra)) }
}

impl World {
    fn new() -> Self {
        let freshness = Arc::new(Freshness::new(Bounds::new(BOUND, false)));
        let lifetime = Lifetime { ttl: Duration::from_secs(3600), negative_ttl: None, jitter: 0.0 };
        World {
            fill: Fill::new(Store::new(1000, freshness), lifetime, Duration::from_secs(3600)),
            now: 1,
            step: 0,
            events: Vec::new(),
            open: Vec::new(),
            newest_version: HashMap::default(),
        }
    }

    fn origin(&self, key: usize, tags: u8, inputs: u8, version: u64) -> Origin {
        let key = KEYS[key];
        let inputs = chosen(&KEYS, inputs).into_iter().filter(|k| *k != key).collect();
        let version = (version > 0).then_some(version);
        Origin { key, start: self.step, started_at: self.now, tags: chosen(&TAGS, tags), inputs, version }
    }

    fn ended_by(&self, value: &Origin) -> Option<&Event> {
        self.events.iter().find(|(at, e)| *at > value.start && e.ends(value)).map(|(_, e)| e)
    }

    fn outdated(&self, value: &Origin) -> bool {
        value.version.is_some_and(|v| self.newest_version.get(value.key).is_some_and(|newest| v < *newest))
    }

    fn event(&mut self, event: Event) {
        if let Event::Key(key, Some(version)) = event {
            let newest = self.newest_version.entry(key).or_insert(0);
            *newest = (*newest).max(version);
        }
        self.events.push((self.step, event));
    }

    fn apply(&mut self, operations: Operations, event: Event) {
        self.fill.apply(&operations, self.now);
        self.event(event);
    }

    fn check(&self) {
        for key in KEYS {
            if let Lookup::Hit(value) = self.fill.store().get(key, || self.now) {
                assert_eq!(value.key, key);
                assert!(
                    self.ended_by(&value).is_none(),
                    "step {}: {value:?} survived {:?}",
                    self.step,
                    self.ended_by(&value)
                );
                assert!(!self.outdated(&value), "step {}: {value:?} is outdated", self.step);
                assert!(self.now - value.started_at <= BOUND, "{value:?} is served beyond the bound");
            }
        }
    }

    fn run(&mut self, step: Step) {
        self.step += 1;
        self.now += 1;
        match step {
            Step::Begin { key, tags, inputs, version } => {
                let value = self.origin(key, tags, inputs, version);
                let extra = terms(&value).extra;
                match self.fill.begin(value.key, extra.as_ref(), || self.now) {
                    Start::Lead(ticket, flight) => {
                        self.open.push(Pending { ticket, value, is_load: true, flight: Some(flight) });
                    }
                    Start::Join(flight) => {
                        let led = self.open.iter().find(|p| p.flight.as_ref().is_some_and(|f| f.id() == flight.id()));
                        let led = &led.expect("a joined load is open").value;
                        assert!(
                            self.ended_by(led).is_none(),
                            "joined a load that {:?} fenced: {led:?}",
                            self.ended_by(led)
                        );
                        assert!(self.now - led.started_at <= BOUND / 2 + 1, "joined a load older than B/2");
                    }
                    Start::Hit(_) | Start::Absent => {}
                }
            }
            Step::Lease { key } => {
                let value = self.origin(key, 0, 0, 0);
                let ticket = self.fill.lease(value.key, self.now);
                self.open.push(Pending { ticket, value, is_load: false, flight: None });
            }
            Step::Finish { which, tags, inputs, version } => {
                let Some(mut pending) = self.take(which) else { return };
                if !pending.is_load {
                    // A lease learns only at its end what the entry comes with.
                    let facts = self.origin(0, tags, inputs, version);
                    pending.value.tags = facts.tags;
                    pending.value.inputs = facts.inputs.into_iter().filter(|k| *k != pending.value.key).collect();
                    pending.value.version = facts.version;
                }
                let value = Arc::new(pending.value);
                let held = self.fill.store().peek(value.key);
                let refused = self.ended_by(&value).is_some()
                    || self.outdated(&value)
                    || held.is_some_and(|h| {
                        h.value.is_some_and(|h| {
                            h.start > value.start || h.version.is_some_and(|hv| value.version.is_some_and(|v| v < hv))
                        })
                    });
                let too_old = self.now - value.started_at > BOUND;
                let terms = terms(&value);
                let stored = if pending.is_load {
                    self.fill.finish(&pending.ticket, Some(value.clone()), &terms, self.now)
                } else {
                    self.fill.set(value.key, value.clone(), &terms, Some(&pending.ticket), self.now)
                };
                if stored {
                    assert!(!refused && !too_old, "step {}: stored {value:?}", self.step);
                    if !pending.is_load {
                        // A `set` fences the key's other loads; its own value stays.
                        let at = value.start;
                        self.events.push((self.step, Event::Stored(value.key)));
                        let renewed = Origin {
                            start: self.step,
                            started_at: value.started_at,
                            tags: value.tags.clone(),
                            inputs: value.inputs.clone(),
                            ..*value
                        };
                        self.replace(at, renewed);
                    }
                } else if !refused && !too_old {
                    // Dependencies of dependencies may fence more than this model knows; nothing else may.
                    assert!(!value.inputs.is_empty(), "step {}: {value:?} was refused without need", self.step);
                }
                if let Some(flight) = pending.flight {
                    let waited = flight.wait(Some(Duration::ZERO));
                    // What was made of others may be too old because of them.
                    let again = matches!(waited, Joined::Again);
                    assert!(again == too_old || (again && !value.inputs.is_empty()), "{waited:?}");
                }
            }
            Step::GiveUp { which } => {
                if let Some(pending) = self.take(which) {
                    self.fill.give_up(&pending.ticket, Joined::Again);
                }
            }
            Step::Set { key, tags, inputs, version } => {
                let value = Arc::new(self.origin(key, tags, inputs, version));
                if self.fill.set(value.key, value.clone(), &terms(&value), None, self.now) {
                    assert!(!self.outdated(&value));
                    self.event(Event::Stored(value.key));
                }
            }
            Step::Update { which } => {
                let Some(pending) = self.take(which) else { return };
                if pending.is_load {
                    self.open.push(pending);
                    return;
                }
                let fenced = self.ended_by(&pending.value).is_some();
                let value = Arc::new(Origin { start: self.step, tags: vec![], inputs: vec![], ..pending.value });
                let stored =
                    self.fill.update(value.key, value.clone(), &Terms::default(), Some(&pending.ticket), self.now);
                assert!(!(stored && fenced), "step {}: a fenced lease stored {value:?}", self.step);
                self.event(Event::Key(value.key, None));
            }
            Step::Invalidate { key, version } => {
                let version = (version > 0).then_some(version);
                let operations = Operations { keys: vec![(KEYS[key].into(), version)], ..Operations::default() };
                self.apply(operations, Event::Key(KEYS[key], version));
            }
            Step::InvalidateTag(i) => {
                self.apply(Operations { tags: vec![TAGS[i].into()], ..Operations::default() }, Event::Tag(TAGS[i]));
            }
            Step::InvalidatePrefix(i) => {
                self.apply(
                    Operations { prefixes: vec![PREFIXES[i].into()], ..Operations::default() },
                    Event::Prefix(PREFIXES[i]),
                );
            }
            Step::InvalidateAll => self.apply(Operations { all: true, ..Operations::default() }, Event::All),
            Step::Evict(i) => {
                self.fill.evict(KEYS[i]);
                self.event(Event::Evicted(KEYS[i]));
            }
            Step::Clear => {
                self.fill.clear(self.now);
                self.event(Event::All);
            }
            Step::Pass(time) => self.now += time,
            Step::Sweep => self.fill.sweep(self.now, usize::MAX),
        }
    }

    /// The stored value of a lease counts from the moment it was stored, as far as other stores of the key are concerned.
    fn replace(&self, start: usize, renewed: Origin) {
        let mut removed = Removed::new();
        let mut book = self.fill.book.lock();
        let Some(mut entry) = self.fill.store.peek(renewed.key) else { return };
        assert_eq!(entry.value.as_ref().map(|v| v.start), Some(start));
        entry.value = Some(Arc::new(renewed));
        let key = Key::from(entry.value.as_ref().unwrap().key);
        self.fill.store.put(&mut book.index, key, entry, &mut removed);
    }

    fn take(&mut self, which: usize) -> Option<Pending> {
        (!self.open.is_empty()).then(|| self.open.remove(which % self.open.len()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_loaded_before_an_invalidation_is_readable_after_it(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.check();
        }
        for pending in std::mem::take(&mut world.open) {
            world.fill.give_up(&pending.ticket, Joined::Again);
        }
        prop_assert_eq!(world.fill.open_loads(), 0, "every load was closed");
    }
}

fn fill() -> Fill<&'static str> {
    let freshness = Arc::new(Freshness::new(Bounds::new(BOUND, false)));
    let lifetime = Lifetime { ttl: Duration::from_secs(1), negative_ttl: Some(Duration::from_secs(1)), jitter: 0.0 };
    Fill::new(Store::new(64, freshness), lifetime, Duration::from_secs(300))
}

fn on(keys: &[&str]) -> Terms {
    let depends_on = keys.iter().map(|k| Key::from(*k)).collect();
    Terms { ttl: None, extra: Some(Arc::new(Extra { depends_on, ..Extra::default() })) }
}

fn keys(names: &[&str]) -> Operations {
    Operations { keys: names.iter().map(|k| ((*k).to_owned(), None)).collect(), ..Operations::default() }
}

#[test]
fn what_depends_on_what_depends_on_a_key_falls_with_it() {
    let f = fill();
    f.set("page", "p", &on(&["list"]), None, 1);
    f.set("list", "l", &on(&["user"]), None, 2);
    f.apply(&keys(&["user"]), 3);
    assert_eq!(f.store().get("page", || 4), Lookup::Miss);
    assert_eq!(f.store().get("list", || 4), Lookup::Miss);
}

#[test]
fn dependencies_in_a_circle_end() {
    let f = fill();
    f.set("a", "1", &on(&["b"]), None, 1);
    f.set("b", "2", &on(&["a"]), None, 2);
    f.apply(&keys(&["a"]), 3);
    assert_eq!(f.store().len(), 0);
}

#[test]
fn a_load_that_used_an_entry_which_left_for_want_of_room_is_refused() {
    let f = fill();
    f.set("list", "l", &on(&["user"]), None, 1);
    let ticket = f.lease("page", 2);
    // Evicted or replaced without an invalidation: nobody could tell "page" of "user" any more.
    f.set("list", "m", &Terms::default(), None, 3);
    assert!(!f.set("page", "p", &on(&["list"]), Some(&ticket), 4));
}

#[test]
fn an_invalidation_of_a_key_not_held_fences_nothing_else() {
    let f = fill();
    let ticket = f.lease("a", 1);
    f.apply(&keys(&["b", "c", "d"]), 2);
    assert!(f.set("a", "v", &on(&["x"]), Some(&ticket), 3));
}

#[test]
fn a_lease_is_used_once() {
    let f = fill();
    let ticket = f.lease("a", 1);
    assert!(f.set("a", "v", &Terms::default(), Some(&ticket), 2));
    assert!(!f.set("a", "w", &Terms::default(), Some(&ticket), 3));
    assert_eq!(f.open_loads(), 0);
}

#[test]
fn leases_that_nobody_gives_back_are_forgotten() {
    let f = fill();
    for i in 0..10_000 {
        f.lease(&format!("k{i}"), 1 + i * BOUND / 1_000);
    }
    assert!(f.open_loads() <= 2 * SWEEP_OVER, "{} are kept", f.open_loads());
}

#[test]
fn not_found_is_kept_only_if_asked_for() {
    let f = fill();
    let Start::Lead(ticket, _) = f.begin("a", None, || 1) else { panic!() };
    assert!(f.finish(&ticket, None, &Terms::default(), 2));
    assert_eq!(f.store().get("a", || 3), Lookup::Absent);
    f.apply(&keys(&["a"]), 4);
    assert_eq!(f.store().get("a", || 5), Lookup::Miss);
}

#[test]
fn the_newest_version_wins_over_a_lagging_replica() {
    let version = |v| Terms { ttl: None, extra: Some(Arc::new(Extra { version: Some(v), ..Extra::default() })) };
    let f = fill();
    f.apply(&Operations { keys: vec![("a".into(), Some(7))], ..Operations::default() }, 1);
    let ticket = f.lease("a", 2);
    assert!(
        !f.set("a", "six", &version(6), Some(&ticket), 3),
        "the load began after the invalidation, but its replica lagged"
    );
    assert!(f.set("a", "seven", &version(7), None, 4));
    f.apply(&Operations { keys: vec![("a".into(), Some(7))], ..Operations::default() }, 5);
    assert_eq!(f.store().get("a", || 6), Lookup::Hit("seven"), "it is of the version that is now current");
    assert!(!f.update("a", "six", &version(6), None, 7));
    assert_eq!(f.store().get("a", || 8), Lookup::Hit("seven"));
}

#[test]
fn a_value_of_the_version_invalidated_during_its_load_is_stored() {
    let version = |v| Terms { ttl: None, extra: Some(Arc::new(Extra { version: Some(v), ..Extra::default() })) };
    let f = fill();
    let (old, new) = (f.lease("a", 1), f.lease("a", 2));
    f.apply(&Operations { keys: vec![("a".into(), Some(3))], ..Operations::default() }, 3);
    assert!(!f.set("a", "two", &version(2), Some(&old), 4));
    assert!(f.set("a", "three", &version(3), Some(&new), 5));
}

/// Terms of an entry that is made from `input`.
fn made_from(input: &str) -> Arc<Extra> {
    Arc::new(Extra { depends_on: [input.into()].into(), ..Extra::default() })
}

#[test]
fn a_derived_entry_is_as_old_as_its_oldest_input() {
    let f = fill();
    assert!(f.set("in", "x", &Terms::default(), None, 1));
    let extra = made_from("in");
    let start = f.begin("out", Some(&extra), || BOUND - 10);
    let Start::Lead(ticket, _) = start else { panic!("nothing is held under the key") };
    // What the loader read may be gone when it ends.
    assert!(f.set("in", "y", &Terms::default(), None, BOUND - 5));
    assert!(f.finish(&ticket, Some("from x"), &Terms { ttl: None, extra: Some(extra.clone()) }, BOUND - 4));
    assert_eq!(f.store().get("out", || BOUND), Lookup::Hit("from x"));
    assert_eq!(f.store().get("out", || BOUND + 2), Lookup::Miss, "its input was loaded at 1");
    // An input that is not served is read from its source.
    let start = f.begin("late", Some(&extra), || 3 * BOUND);
    let Start::Lead(ticket, _) = start else { panic!("nothing is held under the key") };
    assert!(f.finish(&ticket, Some("fresh"), &Terms { ttl: None, extra: Some(extra) }, 3 * BOUND + 1));
    assert_eq!(f.store().get("late", || 4 * BOUND), Lookup::Hit("fresh"));
}

#[test]
fn who_joined_a_load_gets_nothing_that_was_made_of_an_entry_older_than_the_bound() {
    let f = fill();
    assert!(f.set("in", "x", &Terms::default(), None, 1));
    let extra = made_from("in");
    let Start::Lead(ticket, flight) = f.begin("out", Some(&extra), || BOUND / 2) else { panic!("nothing is held") };
    assert!(matches!(f.begin("out", Some(&extra), || BOUND / 2 + 1), Start::Join(_)));
    f.finish(&ticket, Some("from x"), &Terms { ttl: None, extra: Some(extra) }, BOUND + 10);
    assert!(matches!(flight.wait(Some(Duration::ZERO)), Joined::Again));
}

#[test]
fn an_input_that_came_and_went_while_a_load_ran_makes_its_value_no_younger() {
    let freshness = Arc::new(Freshness::new(Bounds::new(BOUND, false)));
    let lifetime = Lifetime { ttl: Duration::from_secs(3600), negative_ttl: None, jitter: 0.0 };
    let fill = Fill::new(Store::new(100, freshness), lifetime, Duration::from_secs(300));
    let begin = |key: &str, extra: Option<&Arc<Extra>>, now: Nanos| match fill.begin(key, extra, || now) {
        Start::Lead(ticket, flight) => (ticket, flight),
        _ => panic!("{key} is to be loaded"),
    };
    let made_of = Arc::new(Extra { depends_on: [Key::from("in")].into(), ..Extra::default() });
    // The input's load is slow, and began long before.
    let (input, _) = begin("in", None, 1_000);
    let (derived, flight) = begin("out", Some(&made_of), 400_000);
    assert!(fill.finish(&input, Some(1), &Terms::default(), 500_000));
    assert!(matches!(fill.store().get("in", || 900_000), Lookup::Hit(1)), "this is what the derived one is made of");
    // By its end the input has lapsed, and another has come.
    let (again, _) = begin("in", None, 1_100_000);
    assert!(fill.finish(&again, Some(2), &Terms::default(), 1_110_000));
    let terms = Terms { ttl: None, extra: Some(made_of) };
    fill.finish(&derived, Some(1), &terms, 1_200_000);
    assert!(matches!(fill.store().get("out", || 1_200_000), Lookup::Miss), "it is older than the bound");
    assert!(matches!(flight.wait(Some(Duration::ZERO)), Joined::Again), "also for whoever joined");
    assert!(fill.book.lock().awaited.is_empty());
}

#[test]
fn an_input_that_comes_ages_every_load_that_waits_for_it_and_no_other() {
    let f = fill();
    let begin = |key: &str, extra: Option<&Arc<Extra>>, now: Nanos| match f.begin(key, extra, || now) {
        Start::Lead(ticket, _) => ticket,
        _ => panic!("{key} is to be loaded"),
    };
    let extra = made_from("in");
    let terms = Terms { ttl: None, extra: Some(extra.clone()) };
    let input = begin("in", None, 1);
    let fenced = begin("out", Some(&extra), BOUND / 4);
    f.apply(&keys(&["out"]), BOUND / 4 + 1);
    let again = begin("out", None, BOUND / 4 + 2);
    let (first, second) = (begin("first", Some(&extra), BOUND / 4 + 3), begin("second", Some(&extra), BOUND / 4 + 4));
    assert!(f.finish(&first, Some("made without it"), &terms, BOUND / 2));
    assert!(f.finish(&input, Some("x"), &Terms::default(), BOUND / 2 + 1));
    assert!(f.evict("in"), "it came and went");
    f.finish(&second, Some("made of x"), &Terms::default(), BOUND / 2 + 2);
    assert!(f.finish(&again, Some("made of nothing"), &Terms::default(), BOUND / 2 + 3));
    assert!(!f.finish(&fenced, Some("late"), &terms, BOUND / 2 + 4));
    let later = |key: &str| f.store().get(key, || BOUND + BOUND / 8);
    assert_eq!(later("second"), Lookup::Miss, "its input was loaded at 1");
    assert_eq!(later("out"), Lookup::Hit("made of nothing"));
}
