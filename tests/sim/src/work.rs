//! What the programs on the nodes do: read, load what is missing, write and invalidate.

use std::sync::Arc;

use tokio::sync::oneshot;

use unstale::clock::Nanos;
use unstale::fill::{Flight, Joined, Start, Terms, Ticket};
use unstale::link::Command;
use unstale::message::{Operations, Token};
use unstale::store::{Extra, Key, Lookup};

use crate::database::{KEYS, PREFIX, PREFIXED, ROWS, TAG, TAGGED};
use crate::node::Cache;
use crate::oracle::Read;
use crate::scenario::BOUND;
use crate::world::{World, MS, S};

/// Who waits for another's load, and what had been applied when he came.
pub struct Joiner {
    n: usize,
    namespace: usize,
    key: usize,
    applied: u64,
}

/// A load under way.
struct Load {
    n: usize,
    namespace: usize,
    key: usize,
    ticket: Ticket,
    flight: Arc<Flight<u64>>,
    terms: Terms,
}

impl World {
    fn cache(&self, n: usize, namespace: usize) -> Option<Arc<Cache>> {
        self.nodes[n].process.as_ref()?.caches.get(namespace).cloned()
    }

    /// One round of a program: reads everything, again and again.
    pub fn work(&mut self, n: usize) {
        self.read_all(n);
        let pause = self.between(self.plan.read_every / 2, self.plan.read_every * 3 / 2);
        self.on_node(n, pause, move |w| w.work(n));
    }

    pub fn read_all(&mut self, n: usize) {
        for namespace in 0..self.plan.namespaces {
            let Some(cache) = self.cache(n, namespace) else { return };
            for key in 0..KEYS.len() {
                self.read(n, namespace, key, &cache);
            }
        }
    }

    fn read(&mut self, n: usize, namespace: usize, key: usize, cache: &Cache) {
        self.oracle.reads += 1;
        let now = self.nodes[n].local(self.now);
        let row = KEYS[key].row;
        let applied = self.oracle.applied(n, namespace, row);
        match cache.fill.store().get(KEYS[key].name, || now) {
            Lookup::Hit(version) => {
                self.judge(n, namespace, key, version, applied, "get");
                if self.chance(0.001) {
                    self.read_slowly(n, namespace, key, cache);
                }
            }
            Lookup::Absent => {}
            Lookup::Miss => {
                let newest = self.database.newest(namespace, row);
                let floor = cache.fill.store().freshness().floor();
                let held = cache.fill.store().peek(KEYS[key].name).filter(|e| e.value == Some(newest));
                // At first everybody is unknown to everybody, which is doubt.
                if self.now > 4 * BOUND && held.is_some_and(|e| now < e.expires_at && e.loaded_at >= floor) {
                    self.oracle.needless += 1;
                }
                if self.chance(self.plan.load_share) {
                    self.load(n, namespace, key, cache);
                }
            }
        }
    }

    /// A reader whose thread loses its turn between the look-up and the clock.
    fn read_slowly(&mut self, n: usize, namespace: usize, key: usize, cache: &Cache) {
        let row = KEYS[key].row;
        let applied = self.oracle.applied(n, namespace, row);
        let freshness = cache.fill.store().freshness().clone();
        let proof = freshness.proof();
        let Some(entry) = cache.fill.store().peek(KEYS[key].name) else { return };
        let pause = self.soon(MS, 2 * self.nodes[n].bound);
        self.on_node(n, pause, move |w| {
            let now = w.nodes[n].local(w.now);
            if let Some(version) = entry.value.filter(|_| now < entry.expires_at) {
                if freshness.serves(proof, entry.loaded_at, entry.epoch, now) {
                    w.judge(n, namespace, key, version, applied, "slow get");
                }
            }
        });
    }

    fn judge(&mut self, n: usize, namespace: usize, key: usize, version: u64, applied: u64, how: &'static str) {
        let row = KEYS[key].row;
        let bound = self.nodes[n].bound;
        // What its clock may be off, and its source.
        let slack = if self.plan.skew { (bound as f64 * 2.0 * self.plan.skew_share()) as Nanos } else { 0 };
        let lag = self.plan.replica_lag;
        let read = Read { node: n, namespace, row, version, applied, at: self.now, bound: bound + slack + lag };
        if !self.oracle.judge(&read) {
            let freshness = self.cache(n, namespace).map(|c| c.fill.store().freshness().clone());
            let entry = self.cache(n, namespace).and_then(|c| c.fill.store().peek(KEYS[key].name));
            let local = self.nodes[n].local(self.now);
            let ago = |at: Nanos| (local as f64 - at as f64) / 1e9;
            self.trace(|| {
                let entry = entry.map(|e| format!("loaded {:.3} s ago in epoch {}", ago(e.loaded_at), e.epoch));
                let proof = freshness.map(|f| format!("epoch {}, fresh {:.3} s ago", f.epoch(), ago(f.fresh())));
                format!("VIOLATION by a {how} of {}: entry {entry:?}; now {proof:?}", KEYS[key].name)
            });
        }
    }

    // ---- loads ----

    fn load(&mut self, n: usize, namespace: usize, key: usize, cache: &Cache) {
        let now = self.nodes[n].local(self.now);
        let mut extra = Extra::default();
        if KEYS[key].tagged {
            extra.tags = [Key::from(TAG)].into();
        }
        if KEYS[key].derived {
            extra.depends_on = [Key::from(KEYS[KEYS[key].row].name)].into();
        }
        let extra = (extra != Extra::default()).then(|| Arc::new(extra));
        match cache.fill.begin(KEYS[key].name, extra.as_ref(), || now) {
            Start::Lead(ticket, flight) => {
                let (read_after, end_after) = if self.chance(0.2) {
                    // A loader that is slow to begin, or slow to end.
                    let bound = self.nodes[n].bound;
                    (self.soon(0, bound), self.between(0, bound))
                } else {
                    (self.soon(0, 50 * MS), self.soon(MS, 50 * MS))
                };
                let terms = Terms { ttl: None, extra };
                let load = Load { n, namespace, key, ticket, flight, terms };
                self.on_node(n, read_after, move |w| w.load_reads(load, end_after));
            }
            Start::Join(flight) => {
                let applied = self.oracle.applied(n, namespace, KEYS[key].row);
                let joiner = Joiner { n, namespace, key, applied };
                self.joiners.entry(flight.id()).or_default().push(joiner);
            }
            Start::Hit(_) | Start::Absent => {}
        }
    }

    fn load_reads(&mut self, mut load: Load, end_after: Nanos) {
        let (n, row) = (load.n, KEYS[load.key].row);
        // Versions are a key's own: they do not protect what is derived from it.
        let lag = if KEYS[load.key].derived { 0 } else { self.rng.u64(0..=self.plan.replica_lag) };
        let mut version = self.database.read(load.namespace, row, self.now, lag);
        if KEYS[load.key].derived {
            // It is made from what the cache says of its input.
            let now = self.nodes[n].local(self.now);
            let cached = self.cache(n, load.namespace).map(|c| c.fill.store().get(KEYS[row].name, || now));
            if let Some(Lookup::Hit(held)) = cached {
                version = held;
            }
        }
        if self.plan.versions {
            let mut extra = load.terms.extra.as_deref().cloned().unwrap_or_default();
            extra.version = Some(version);
            load.terms.extra = Some(Arc::new(extra));
        }
        self.on_node(n, end_after, move |w| {
            let now = w.nodes[n].local(w.now);
            let Some(cache) = w.cache(n, load.namespace) else { return };
            if w.chance(0.02) {
                cache.fill.give_up(&load.ticket, Joined::Again);
            } else {
                cache.fill.finish(&load.ticket, Some(version), &load.terms, now);
            }
            w.settle(&load.flight);
        });
    }

    /// A load ended: who waited for it has its value now.
    fn settle(&mut self, flight: &Flight<u64>) {
        let joined = flight.wait(Some(std::time::Duration::ZERO));
        for Joiner { n, namespace, key, applied } in self.joiners.remove(&flight.id()).into_iter().flatten() {
            // A source that lags is not promised about; what comes from the cache is.
            if let (Joined::Value(version), 0) = (&joined, self.plan.replica_lag) {
                self.judge(n, namespace, key, *version, applied, "joined load");
            }
        }
    }

    // ---- writes ----

    pub fn write_now_and_then(&mut self, n: usize) {
        if self.quiet {
            return;
        }
        let writes = if self.chance(0.05) { self.plan.burst } else { 1 };
        self.write_some(n, writes);
        let pause = self.between(self.plan.write_every / 4, self.plan.write_every * 7 / 4);
        self.on_node(n, pause, move |w| w.write_now_and_then(n));
    }

    /// Writes to one cache.
    pub fn write_some(&mut self, n: usize, writes: usize) {
        let namespace = self.rng.usize(0..self.plan.namespaces);
        if let Some(cache) = self.cache(n, namespace) {
            (0..writes).for_each(|_| self.write(n, namespace, &cache));
        }
    }

    fn write(&mut self, n: usize, namespace: usize, cache: &Arc<Cache>) {
        let hesitation = if self.chance(0.1) { 2 * S } else { 20 * MS };
        let hesitation = self.soon(0, hesitation);
        let row = self.rng.usize(0..ROWS);
        let named = |keys: Vec<usize>| Operations {
            keys: keys.into_iter().map(|row| (KEYS[row].name.to_owned(), None)).collect(),
            ..Operations::default()
        };
        // Tags, prefixes and `all` carry no versions, so they do not go with a replica that lags.
        let most = if self.plan.replica_lag > 0 { 60 } else { 100 };
        match self.rng.u8(0..most) {
            0..50 if most < 100 && self.rng.bool() => self.update(n, namespace, row, cache, hesitation),
            0..50 => self.change(n, namespace, vec![row], named(vec![row]), hesitation),
            50..60 => {
                let other = (row + 1) % ROWS;
                self.change(n, namespace, vec![row, other], named(vec![row, other]), hesitation);
            }
            60..65 => {
                let tags = Operations { tags: vec![TAG.into()], ..Operations::default() };
                self.change(n, namespace, TAGGED.collect(), tags, hesitation);
            }
            65..70 => {
                let prefixes = Operations { prefixes: vec![PREFIX.into()], ..Operations::default() };
                self.change(n, namespace, PREFIXED.collect(), prefixes, hesitation);
            }
            70..72 => {
                let all = Operations { all: true, ..Operations::default() };
                self.change(n, namespace, (0..ROWS).collect(), all, hesitation);
            }
            72..90 => self.update(n, namespace, row, cache, hesitation),
            90..96 => {
                // A bare `set` says that its value is current now.
                let version = self.database.newest(namespace, row);
                let now = self.nodes[n].local(self.now);
                cache.fill.set(KEYS[row].name, version, &self.terms(row, version), None, now);
            }
            96..98 => drop(cache.fill.evict(KEYS[row].name)),
            98..99 => cache.fill.clear(self.nodes[n].local(self.now)),
            _ => self.follow(n, namespace),
        }
    }

    fn terms(&self, row: usize, version: u64) -> Terms {
        let tags: Box<[Key]> = if KEYS[row].tagged { [Key::from(TAG)].into() } else { [].into() };
        let extra =
            Extra { tags, depends_on: [].into(), version: self.plan.versions.then_some(version), started_at: None };
        Terms { ttl: None, extra: (extra != Extra::default()).then(|| Arc::new(extra)) }
    }

    /// Commits one row and invalidates it at once.
    pub fn change_now(&mut self, n: usize, namespace: usize, row: usize) {
        let keys = vec![(KEYS[row].name.to_owned(), None)];
        self.change(n, namespace, vec![row], Operations { keys, ..Operations::default() }, 0);
    }

    /// Commits rows, and invalidates a little later.
    fn change(&mut self, n: usize, namespace: usize, rows: Vec<usize>, mut operations: Operations, hesitation: Nanos) {
        let now = self.now;
        let committed: Vec<_> = rows.iter().map(|&row| (row, self.database.commit(namespace, row, now))).collect();
        self.trace(|| format!("node {n} commits {committed:?} of cache {namespace}"));
        if self.plan.versions {
            for ((_, version), (_, committed)) in operations.keys.iter_mut().zip(&committed) {
                *version = Some(*committed);
            }
        }
        self.on_node(n, hesitation, move |w| {
            let local = w.nodes[n].local(w.now);
            if let Some(cache) = w.cache(n, namespace) {
                cache.fill.apply(&operations, local);
                w.publish(n, namespace, &cache, operations, &committed);
            }
        });
    }

    /// Takes a lease (or knows the version), commits, then stores the new value here.
    fn update(&mut self, n: usize, namespace: usize, row: usize, cache: &Arc<Cache>, hesitation: Nanos) {
        let by_version = self.plan.versions && self.chance(0.5);
        let local = self.nodes[n].local(self.now);
        let lease = (!by_version).then(|| cache.fill.lease(KEYS[row].name, local));
        let think = self.soon(0, 50 * MS);
        self.on_node(n, think, move |w| {
            let version = w.database.commit(namespace, row, w.now);
            w.trace(|| format!("node {n} commits {row} {version} of cache {namespace}, for an update"));
            w.on_node(n, hesitation, move |w| {
                let local = w.nodes[n].local(w.now);
                let Some(cache) = w.cache(n, namespace) else { return };
                let terms = w.terms(row, version);
                cache.fill.update(KEYS[row].name, version, &terms, lease.as_ref(), local);
                let version_told = w.plan.versions.then_some(version);
                let operations =
                    Operations { keys: vec![(KEYS[row].name.to_owned(), version_told)], ..Operations::default() };
                w.publish(n, namespace, &cache, operations, &[(row, version)]);
            });
        });
    }

    fn publish(
        &mut self,
        n: usize,
        namespace: usize,
        cache: &Cache,
        operations: Operations,
        committed: &[(usize, u64)],
    ) {
        let Some(src) = self.nodes[n].process.as_ref().map(|p| p.src.clone()) else { return };
        // A message that is full goes on in the next: the versions count as told with the last number.
        let seq = cache.channel.push(operations);
        self.trace(|| format!("node {n} invalidates {committed:?} of cache {namespace} with {src} {seq}"));
        for (row, version) in committed {
            self.oracle.apply(n, namespace, *row, *version);
            self.oracle.told(&src, namespace, seq, *row, *version);
        }
        // The link's thread wakes.
        let latency = self.soon(1, MS);
        self.on_node(n, latency, move |w| w.link_turn(n));
        if self.chance(0.2) {
            let reader = self.rng.usize(0..self.nodes.len());
            if reader != n && self.cache(reader, namespace).is_some() {
                let delay = self.soon(0, 100 * MS);
                self.on_node(reader, delay, move |w| w.wait_for(reader, &src, namespace, seq));
            }
        }
    }

    /// `wait_for` on another node: from its answer on nothing older may be served there.
    fn wait_for(&mut self, n: usize, src: &Arc<str>, namespace: usize, seq: u64) {
        if self.cache(n, namespace).is_none() {
            return;
        }
        let token = Token { src: src.clone(), seq, namespace: format!("n{namespace}").into() };
        let (reply, mut answer) = oneshot::channel();
        let timeout = std::time::Duration::from_secs(60);
        self.link_command(n, Command::WaitFor { token, timeout, reply });
        let src = src.clone();
        fn poll(w: &mut World, n: usize, mut check: impl FnMut(&mut World) -> bool + 'static) {
            if !check(w) {
                w.on_node(n, 10 * MS, move |w| poll(w, n, check));
            }
        }
        poll(self, n, move |w| match answer.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => false,
            Ok(true) => {
                for (row, version) in w.oracle.says(&src, namespace, seq) {
                    w.oracle.apply(n, namespace, row, version);
                }
                true
            }
            _ => true,
        });
    }

    /// A program that reads under a lease by hand, and takes its time.
    fn follow(&mut self, n: usize, namespace: usize) {
        let Some(cache) = self.cache(n, namespace) else { return };
        let row = self.rng.usize(0..ROWS);
        let lease = cache.fill.lease(KEYS[row].name, self.nodes[n].local(self.now));
        let bound = self.nodes[n].bound;
        let (first, second) = (self.soon(0, bound), self.soon(0, bound));
        self.on_node(n, first, move |w| {
            let lag = w.rng.u64(0..=w.plan.replica_lag);
            let version = w.database.read(namespace, row, w.now, lag);
            w.on_node(n, second, move |w| {
                let local = w.nodes[n].local(w.now);
                if let Some(cache) = w.cache(n, namespace) {
                    cache.fill.set(KEYS[row].name, version, &w.terms(row, version), Some(&lease), local);
                }
            });
        });
    }
}
