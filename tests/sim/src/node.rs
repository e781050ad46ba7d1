//! A node: one process with the real link's rules, real caches, and a clock of its own.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use unstale::clock::Nanos;
use unstale::fill::{Fill, Lifetime};
use unstale::freshness::Freshness;
use unstale::link::{Channel, Command, Session, Shared, Target};
use unstale::message::Operations;
use unstale::stats::Counters;
use unstale::store::Store;
use unstale::transport::{Event, Transport};
use unstale::ClientConfig;

use crate::scenario::Plan;
use crate::world::{Action, World, MS, S};

/// Entries live longer than a run: only the bound ends them.
const TTL: Duration = Duration::from_secs(24 * 3600);
const TOMBSTONE_TTL: Duration = Duration::from_secs(300);

/// A machine, and the process that runs on it just now.
pub struct Node {
    pub process: Option<Process>,
    /// Counts processes.
    pub life: u64,
    pub started: Nanos,
    pub stopped: bool,
    in_one_turn: bool,
    frozen: Vec<Action>,
    pub network: Network,
    /// The share of messages to this node that the broker drops.
    pub loss: f64,
    /// The broker drops everything to this node.
    pub dropping: bool,
    pub bound: Nanos,
    clock: (Nanos, f64),
    suspended: Nanos,
}

/// The path between a node and the broker.
pub struct Network {
    pub delay: (Nanos, Nanos),
    pub up_cut: bool,
    pub down_cut: bool,
    pub cuts: u64,
}

impl Network {
    pub fn is_cut(&self) -> bool {
        self.up_cut || self.down_cut
    }
}

/// A process that uses the library.
pub struct Process {
    pub src: Arc<str>,
    pub caches: Vec<Arc<Cache>>,
    session: Session,
    shared: Arc<Shared>,
    _commands: UnboundedReceiver<Command>,
    _ready: oneshot::Receiver<unstale::Result<()>>,
    requests: Arc<Mutex<Vec<Request>>>,
    connection: Option<u64>,
    wake: Nanos,
}

/// A cache as the link sees it, and as the program on the node uses it.
pub struct Cache {
    pub fill: Fill<u64>,
    pub channel: Arc<Channel>,
    freshness: Arc<Freshness>,
    counters: Counters,
}

impl Target for Cache {
    fn apply(&self, operations: &Operations, now: Nanos) {
        self.fill.apply(operations, now);
    }

    fn tell_remote(&self, _: &Operations, _: Option<&Arc<str>>, _: Option<u64>) {}

    fn clear(&self, now: Nanos) {
        self.fill.clear(now);
    }

    fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn sweep(&self, now: Nanos, most: usize) {
        self.fill.sweep(now, most);
    }
}

/// What the link asked of its transport.
pub enum Request {
    Connect,
    Subscribe(u64, Vec<String>),
    Unsubscribe(Vec<String>),
    Publish(u64, String, Vec<u8>),
    Disconnect,
}

struct Requests(Arc<Mutex<Vec<Request>>>);

impl Requests {
    fn add(&self, request: Request) {
        self.0.lock().expect("no thread panics here").push(request);
    }
}

impl Transport for Requests {
    fn connect(&mut self) {
        self.add(Request::Connect);
    }

    fn subscribe(&mut self, id: u64, topics: &[String]) {
        self.add(Request::Subscribe(id, topics.to_vec()));
    }

    fn unsubscribe(&mut self, topics: &[String]) {
        self.add(Request::Unsubscribe(topics.to_vec()));
    }

    fn publish(&mut self, id: u64, topic: &str, payload: Vec<u8>) {
        self.add(Request::Publish(id, topic.to_owned(), payload));
    }

    fn disconnect(&mut self, _: Duration) {
        self.add(Request::Disconnect);
    }
}

impl Node {
    pub fn new(number: usize, plan: &Plan, rng: &mut fastrand::Rng) -> Node {
        let skew = if plan.skew { 1.0 + (rng.f64() - 0.5) * 2.0 * plan.skew_share() } else { 1.0 };
        Node {
            process: None,
            life: 0,
            started: 0,
            stopped: false,
            in_one_turn: false,
            frozen: Vec::new(),
            network: Network { delay: plan.delay, up_cut: false, down_cut: false, cuts: 0 },
            loss: plan.loss,
            dropping: false,
            bound: plan.bound(number),
            // Monotonic clocks begin anywhere, after 0.
            clock: (rng.u64(1..1_000_000) * MS, skew),
            suspended: 0,
        }
    }

    pub fn session_number(&self) -> Option<u64> {
        self.process.as_ref().and_then(|p| p.connection)
    }

    pub fn set_session(&mut self, number: Option<u64>) {
        if let Some(process) = &mut self.process {
            process.connection = number;
        }
    }

    /// The node's own clock at a time of the world.
    pub fn local(&self, now: Nanos) -> Nanos {
        self.clock.0 + (now as f64 * self.clock.1) as Nanos
    }

    fn world_time(&self, local: Nanos) -> Nanos {
        (local.saturating_sub(self.clock.0) as f64 / self.clock.1) as Nanos + 1
    }
}

impl World {
    /// Starts a process, which opens the first of its caches.
    pub fn start(&mut self, n: usize) {
        let plan = &self.plan;
        let node = &mut self.nodes[n];
        node.life += 1;
        node.started = self.now;
        let config = ClientConfig {
            staleness_bound: Duration::from_nanos(node.bound),
            reordering: Some(plan.reordering),
            outbox_limit: plan.outbox_limit,
            lazy: true,
            ..ClientConfig::default()
        };
        let src = format!("n{n}-{}", node.life);
        let (shared, commands) = Shared::new(config, &src).expect("the configuration is valid");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (ready, is_ready) = oneshot::channel();
        let now = node.local(self.now);
        let session = Session::new(shared.clone(), Box::new(Requests(requests.clone())), ready, now, node.suspended);
        node.process = Some(Process {
            src: src.into(),
            caches: Vec::new(),
            session,
            shared,
            _commands: commands,
            _ready: is_ready,
            requests,
            connection: None,
            wake: Nanos::MAX,
        });
        self.oracle.born(n);
        self.trace(|| format!("node {n} starts"));
        let late = self.plan.late_caches;
        let namespaces = self.plan.namespaces;
        for i in 0..namespaces {
            // Also while the connection is being made.
            let delay = match (i, late) {
                (0, _) => 0,
                (_, false) => self.between(0, 10 * MS),
                (_, true) => self.between(0, self.end / 2),
            };
            self.on_node(n, delay, move |w| w.open(n));
        }
        let rest = self.between(MS, 100 * MS);
        self.on_node(n, rest, move |w| w.work(n));
        // Versions protect from a lagging replica those who heard of them.
        let all_up = if self.plan.replica_lag > 0 { S } else { 0 };
        self.on_node(n, rest + all_up, move |w| w.write_now_and_then(n));
        self.link_turn(n);
    }

    fn open(&mut self, n: usize) {
        let now = self.nodes[n].local(self.now);
        let entries = self.plan.max_entries;
        let Some(process) = &mut self.nodes[n].process else { return };
        let namespace = format!("n{}", process.caches.len());
        let freshness = Arc::new(Freshness::new(*process.shared.bounds()));
        let lifetime = Lifetime { ttl: TTL, negative_ttl: None, jitter: 0.1 };
        let cache = Arc::new(Cache {
            fill: Fill::new(Store::new(entries, freshness.clone()), lifetime, TOMBSTONE_TTL),
            channel: Arc::new(Channel::new(&process.shared, &namespace)),
            freshness,
            counters: Counters::default(),
        });
        process.caches.push(cache.clone());
        let channel = cache.channel.clone();
        process.session.command(Command::Open { target: cache, channel }, now);
        self.link_turn(n);
    }

    /// The process dies on the spot.
    pub fn kill(&mut self, n: usize, silently: bool) {
        self.trace(|| format!("node {n} dies"));
        let node = &mut self.nodes[n];
        if let Some(process) = node.process.take() {
            self.oracle.unwell(&process.src, self.now);
        }
        node.stopped = false;
        node.frozen.clear();
        self.process_gone(n, silently);
    }

    /// The client is closed as a program does at its end; the process ends a little later.
    pub fn close(&mut self, n: usize, lives_on_for: Nanos) {
        let now = self.nodes[n].local(self.now);
        self.trace(|| format!("node {n} closes"));
        let Some(process) = &mut self.nodes[n].process else { return };
        let (reply, mut answer) = oneshot::channel();
        process.session.command(Command::Close { timeout: Duration::from_secs(5), reply: Some(reply) }, now);
        process.caches.clear();
        let life = self.nodes[n].life;
        self.link_turn(n);
        let closed = move |w: &mut World| {
            if w.nodes[n].life == life && w.nodes[n].process.is_some() {
                w.kill(n, false);
            }
        };
        // The process ends no sooner than `close` returned.
        fn wait(w: &mut World, mut check: impl FnMut() -> bool + 'static, then: impl FnOnce(&mut World) + 'static) {
            if check() {
                then(w);
            } else {
                w.after(10 * MS, move |w| wait(w, check, then));
            }
        }
        wait(
            self,
            move || !matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)),
            move |w| w.after(lives_on_for, closed),
        );
    }

    /// SIGSTOP, or with `suspend` the lid of a laptop: nothing runs, the clocks go on.
    pub fn stop(&mut self, n: usize, pause: Nanos, suspend: bool) {
        if self.nodes[n].stopped || self.nodes[n].process.is_none() {
            return;
        }
        self.trace(|| format!("node {n} is stopped for {} ms", pause / MS));
        self.unwell_from_now(n);
        self.nodes[n].stopped = true;
        let life = self.nodes[n].life;
        self.after(pause, move |w| {
            if w.nodes[n].life != life || !w.nodes[n].stopped {
                return;
            }
            w.well_again(n);
            let node = &mut w.nodes[n];
            node.stopped = false;
            if suspend {
                node.suspended += pause;
                // The stated assumption: a suspend is noticed before anything is read.
                w.link_turn(n);
            }
            // The program's threads run first, before the link has heard of anything.
            w.read_all(n);
            // Then the link's thread, or the transport's: the link handles what has come in one turn.
            let link_first = w.rng.bool();
            if link_first {
                w.link_turn(n);
            }
            w.nodes[n].in_one_turn = !link_first;
            for action in std::mem::take(&mut w.nodes[n].frozen) {
                action(w);
            }
            w.nodes[n].in_one_turn = false;
            w.link_turn(n);
        });
    }

    /// Lets something happen in the process that runs on a node now; while it is stopped, it waits.
    pub fn on_node(&mut self, n: usize, delay: Nanos, action: impl FnOnce(&mut World) + 'static) {
        let life = self.nodes[n].life;
        self.after(delay, move |w| {
            let node = &mut w.nodes[n];
            if node.life == life && node.process.is_some() {
                if node.stopped {
                    node.frozen.push(Box::new(action));
                } else {
                    action(w);
                }
            }
        });
    }

    /// Something that the transport reports.
    pub fn link_event(&mut self, n: usize, event: Event) {
        let now = self.nodes[n].local(self.now);
        match &event {
            Event::Message { topic, payload, .. } => {
                self.trace(|| format!("node {n} receives on {topic}: {}", String::from_utf8_lossy(payload)));
            }
            Event::Published { .. } => {}
            other => self.trace(|| format!("node {n}: {other:?}")),
        }
        if let Some(process) = &mut self.nodes[n].process {
            process.session.event(event, now);
            if !self.nodes[n].in_one_turn {
                self.link_turn(n);
            }
        }
    }

    /// Something that a caller asks of the link.
    pub fn link_command(&mut self, n: usize, command: Command) {
        let now = self.nodes[n].local(self.now);
        if let Some(process) = &mut self.nodes[n].process {
            process.session.command(command, now);
            self.link_turn(n);
        }
    }

    /// One turn of the link's loop.
    pub fn link_turn(&mut self, n: usize) {
        let now = self.nodes[n].local(self.now);
        let suspended = self.nodes[n].suspended;
        let Some(process) = &mut self.nodes[n].process else { return };
        if process.session.ended() {
            if let Some(number) = process.connection.take() {
                self.client_lost(number, unstale::ErrorKind::Closed);
            }
            return;
        }
        process.session.tick(now, || suspended);
        let requests = std::mem::take(&mut *process.requests.lock().expect("no thread panics here"));
        let due = process.session.due(now);
        let wake = self.nodes[n].world_time(due).max(self.now + 1);
        let sooner = self.nodes[n].process.as_mut().is_some_and(|p| {
            let sooner = wake < p.wake || p.wake <= self.now;
            if sooner {
                p.wake = wake;
            }
            sooner
        });
        if sooner {
            self.on_node(n, wake - self.now, move |w| {
                if let Some(process) = &mut w.nodes[n].process {
                    if process.wake <= w.now {
                        process.wake = Nanos::MAX;
                        // What has come is handled before what is due.
                        if !w.nodes[n].in_one_turn {
                            w.link_turn(n);
                        }
                    }
                }
            });
        }
        for request in requests {
            self.request(n, request);
        }
    }

    pub fn unwell_from_now(&mut self, n: usize) {
        if let Some(process) = &self.nodes[n].process {
            self.oracle.unwell(&process.src, self.now);
        }
    }

    /// From now on a node's publisher is heard again; it may take a while until it has connected.
    pub fn well_again(&mut self, n: usize) {
        let from = self.now + 2 * self.plan.keep_alive;
        if let Some(process) = &self.nodes[n].process {
            self.oracle.well(&process.src, from);
        }
    }
}
