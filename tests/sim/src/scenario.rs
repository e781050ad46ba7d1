//! What goes wrong: a plan for each kind of fault, and its schedule.

use unstale::clock::Nanos;

use crate::oracle::Excuses;
use crate::world::{World, MS, S};

/// The bound of most nodes.
pub const BOUND: Nanos = 16 * S;

/// The knobs of a run.
#[derive(Clone)]
pub struct Plan {
    pub nodes: usize,
    pub namespaces: usize,
    pub length: Nanos,
    pub delay: (Nanos, Nanos),
    pub read_every: Nanos,
    pub write_every: Nanos,
    /// Writes that come at once, now and then.
    pub burst: usize,
    pub load_share: f64,
    pub keep_alive: Nanos,
    pub queue_limit: usize,
    pub outbox_limit: usize,
    pub max_entries: u64,
    pub loss: f64,
    pub duplicates: f64,
    pub reordering: bool,
    pub skew: bool,
    pub mixed_bounds: bool,
    pub versions: bool,
    pub replica_lag: Nanos,
    pub late_caches: bool,
    /// A subscription may begin to work so long after its SUBACK; some never do.
    pub subscription_lag: Nanos,
    pub probes_overtake: bool,
    /// Which reads may be excused, since double faults cannot be ruled out.
    pub excuses: Excuses,
    pub faults: Faults,
}

/// The schedule of the faults: called again and again.
pub type Faults = fn(&mut World);

impl Plan {
    fn calm() -> Plan {
        Plan {
            nodes: 4,
            namespaces: 2,
            length: 20 * BOUND,
            delay: (MS / 2, 3 * MS),
            read_every: 100 * MS,
            write_every: 2 * S,
            burst: 1,
            load_share: 0.5,
            keep_alive: 10 * S,
            queue_limit: 1_000,
            outbox_limit: 10_000,
            max_entries: 10_000,
            loss: 0.0,
            duplicates: 0.0,
            reordering: false,
            skew: false,
            mixed_bounds: false,
            versions: false,
            replica_lag: 0,
            late_caches: false,
            subscription_lag: 0,
            probes_overtake: false,
            excuses: Excuses::None,
            faults: |_| {},
        }
    }

    pub fn bound(&self, node: usize) -> Nanos {
        match (self.mixed_bounds, node % 4) {
            (false, _) | (true, 0) => BOUND,
            (true, 1) => BOUND / 4,
            (true, 2) => BOUND * 4,
            (true, _) => BOUND / 32,
        }
    }

    /// What a broker that keeps no order may be off: the window W of the smallest bound.
    pub fn window(&self) -> Nanos {
        (BOUND / 8).min(2 * S)
    }

    /// How far a clock may run from true, as a share: ten times what crystals do.
    pub fn skew_share(&self) -> f64 {
        2e-4
    }
}

/// All scenarios: name, what goes wrong, plan.
pub fn all() -> Vec<(&'static str, &'static str, Plan)> {
    let calm = Plan::calm;
    let lossy = || Plan { excuses: Excuses::All, ..calm() };
    vec![
        ("calm", "nothing", calm()),
        ("lonely_loss", "single acknowledged messages never arrive", Plan { loss: 0.01, ..lossy() }),
        ("heavy_loss", "a tenth of all acknowledged messages never arrive", Plan { loss: 0.1, ..lossy() }),
        ("drop_bursts", "everything to one node is dropped for a while", Plan { faults: drop_bursts, ..calm() }),
        ("duplicates", "messages arrive twice", Plan { duplicates: 0.2, ..calm() }),
        ("reordering", "one publisher's messages change places", Plan { reordering: true, ..calm() }),
        (
            "reordering_loss",
            "they change places, and single ones never arrive",
            Plan { reordering: true, loss: 0.01, ..lossy() },
        ),
        ("broker_restart", "the broker dies with its queues", Plan { faults: broker_restarts, ..calm() }),
        ("broker_stop", "the broker stands still", Plan { faults: broker_stops, ..calm() }),
        (
            "overflow",
            "queues of slow subscribers overflow",
            Plan { queue_limit: 5, burst: 60, faults: slow_readers, ..calm() },
        ),
        ("half_open_up", "what a node sends is stuck", Plan { faults: |w| cuts(w, true, false), ..calm() }),
        ("half_open_down", "what a node should receive is stuck", Plan { faults: |w| cuts(w, false, true), ..calm() }),
        ("black_hole", "a node is cut off without a sign", Plan { faults: |w| cuts(w, true, true), ..calm() }),
        ("slow_link", "messages take seconds", Plan { delay: (200 * MS, 6 * S), ..calm() }),
        ("stops", "processes are stopped and go on", Plan { faults: stops, ..calm() }),
        ("suspends", "machines are suspended", Plan { faults: suspends, ..calm() }),
        ("crashes", "processes die and start again", Plan { faults: crashes, ..calm() }),
        (
            "clean_ends",
            "processes close and end, while messages get lost",
            Plan { faults: clean_ends, write_every: S, ..lossy() },
        ),
        ("reconnects", "connections break again and again", Plan { faults: reconnects, ..calm() }),
        (
            "blinks",
            "a connection breaks for a moment, in which a process invalidates and dies",
            Plan { faults: blinks, ..calm() },
        ),
        (
            "cut_short",
            "a process dies right after two messages, of which the second never arrives",
            Plan { excuses: Excuses::Confirmed, faults: cut_short, ..calm() },
        ),
        (
            "backlog",
            "a slow subscriber's queue is longer than the bound",
            Plan { queue_limit: 10_000, write_every: 1_000 * BOUND, faults: backlog, ..calm() },
        ),
        (
            "stopped_overflow",
            "what a publisher says once is dropped for a process that is stopped",
            Plan { queue_limit: 5, write_every: 1_000 * BOUND, faults: stopped_overflow, ..calm() },
        ),
        (
            "silent_drop",
            "what a publisher says once is dropped with its heartbeats and with a probe",
            Plan { write_every: 1_000 * BOUND, faults: silent_drop, ..calm() },
        ),
        (
            "mixed_bounds",
            "every node has another bound, and single messages never arrive",
            Plan { mixed_bounds: true, skew: true, loss: 0.01, ..lossy() },
        ),
        (
            "mixed_restarts",
            "every node has another bound, processes die and start again, and single messages never arrive",
            Plan { mixed_bounds: true, faults: crashes, loss: 0.01, ..lossy() },
        ),
        (
            "clock_skew",
            "clocks run apart, nodes stop and are cut off",
            Plan { skew: true, faults: |w| if w.rng.bool() { stops(w) } else { cuts(w, true, true) }, ..calm() },
        ),
        (
            "replica",
            "loads read a replica that lags; versions are used",
            Plan { versions: true, replica_lag: 3 * S, ..calm() },
        ),
        ("tiny_outbox", "outboxes collapse", Plan { outbox_limit: 3, burst: 30, faults: broker_stops, ..calm() }),
        ("tiny_cache", "entries are evicted", Plan { max_entries: 8, faults: stops, ..calm() }),
        ("late_caches", "caches are opened later", Plan { late_caches: true, faults: crashes, ..calm() }),
        (
            "early_subacks",
            "subscriptions begin to work seconds after their SUBACK, or never; connections break",
            Plan { subscription_lag: BOUND, faults: reconnects, ..calm() },
        ),
        (
            "storm",
            "all of it",
            Plan { loss: 0.01, duplicates: 0.05, queue_limit: 30, burst: 40, skew: true, faults: storm, ..lossy() },
        ),
    ]
}

/// Begins the schedule: the first fault after a while, none in the last part, so that all can settle.
pub fn begin(world: &mut World) {
    for n in 0..world.nodes.len() {
        world.start(n);
    }
    again(world);
    let quiet = world.end - 5 * BOUND;
    world.at(quiet, |w| w.quiet = true);
}

fn again(world: &mut World) {
    let pause = world.between(BOUND / 8, 2 * BOUND);
    world.after(pause, |w| {
        if !w.quiet {
            (w.plan.faults)(w);
            again(w);
        }
    });
}

fn victim(world: &mut World) -> usize {
    world.rng.usize(0..world.nodes.len())
}

/// As long as a fault may last: shorter and longer than all that the rules wait for.
fn a_while(world: &mut World) -> Nanos {
    world.soon(MS, 2 * BOUND)
}

fn drop_bursts(world: &mut World) {
    let (n, pause) = (victim(world), a_while(world));
    world.nodes[n].dropping = true;
    world.after(pause, move |w| w.nodes[n].dropping = false);
}

fn broker_restarts(world: &mut World) {
    let (pause, silently) = (a_while(world), world.chance(0.3));
    world.restart_broker(pause, silently);
}

fn broker_stops(world: &mut World) {
    let pause = a_while(world);
    world.stop_broker(pause);
}

fn slow_readers(world: &mut World) {
    let (n, pause) = (victim(world), a_while(world));
    let delay = world.nodes[n].network.delay;
    world.nodes[n].network.delay = (50 * MS, 500 * MS);
    world.after(pause, move |w| w.nodes[n].network.delay = delay);
    if world.chance(0.3) {
        let pause = a_while(world);
        world.stop(n, pause, false);
    }
}

fn cuts(world: &mut World, up: bool, down: bool) {
    let (n, pause) = (victim(world), a_while(world));
    world.cut(n, up, down);
    world.after(pause, move |w| w.heal(n));
}

fn stops(world: &mut World) {
    let (n, pause) = (victim(world), a_while(world));
    world.stop(n, pause, false);
}

fn suspends(world: &mut World) {
    let (n, pause) = (victim(world), a_while(world));
    world.stop(n, pause, true);
}

fn crashes(world: &mut World) {
    let (n, pause, silently) = (victim(world), a_while(world), world.chance(0.3));
    if world.nodes[n].process.is_some() {
        world.kill(n, silently);
        world.after(pause, move |w| w.start(n));
    }
}

/// A process invalidates, closes and ends, while what is sent to another one is dropped for a moment.
fn clean_ends(world: &mut World) {
    let (n, other) = (victim(world), victim(world));
    if n == other || world.nodes[n].process.is_none() {
        return;
    }
    let burst = world.soon(MS, BOUND / 5);
    world.nodes[other].dropping = true;
    world.after(burst, move |w| w.nodes[other].dropping = false);
    let (work, lives_on_for) = (world.between(0, burst), world.soon(0, BOUND));
    world.after(work, move |w| w.close(n, lives_on_for));
    let pause = world.between(BOUND, 2 * BOUND);
    world.after(burst + pause + BOUND, move |w| {
        if w.nodes[n].process.is_none() {
            w.start(n);
        }
    });
}

fn reconnects(world: &mut World) {
    let n = victim(world);
    for _ in 0..30 {
        let at = world.between(0, BOUND);
        world.on_node(n, at, move |w| {
            if let Some(number) = w.nodes[n].session_number() {
                w.client_lost(number, unstale::ErrorKind::Connect);
            }
        });
    }
}

/// Three nodes.
fn victims(world: &mut World) -> [usize; 3] {
    let mut nodes: Vec<usize> = (0..world.nodes.len()).collect();
    world.rng.shuffle(&mut nodes);
    [nodes[0], nodes[1], nodes[2]]
}

fn backlog(world: &mut World) {
    let [n, quiet, loud] = victims(world);
    let delay = world.plan.delay;
    if world.nodes.iter().any(|node| node.network.delay != delay) {
        return;
    }
    world.nodes[n].network.delay = (S, S + 100 * MS);
    for i in 0..600 {
        world.after(i * 5 * MS, move |w| w.change_now(loud, 0, 5));
    }
    world.after(4 * S, move |w| w.change_now(quiet, 0, 0));
    world.after(4 * BOUND, move |w| w.nodes[n].network.delay = delay);
}

fn stopped_overflow(world: &mut World) {
    let [n, quiet, loud] = victims(world);
    if [n, quiet, loud].into_iter().any(|n| world.nodes[n].stopped) {
        return;
    }
    let pause = world.between(BOUND * 5 / 4, BOUND * 3 / 2);
    world.stop(n, pause, false);
    for i in 0..60 {
        world.after(S + i * 20 * MS, move |w| w.change_now(loud, 0, 5));
    }
    world.after(3 * S, move |w| w.change_now(quiet, 0, 0));
}

fn silent_drop(world: &mut World) {
    let [n, quiet, _] = victims(world);
    let burst = world.between(BOUND * 9 / 32, BOUND / 2);
    world.nodes[n].dropping = true;
    world.after(burst, move |w| w.nodes[n].dropping = false);
    world.after(10 * MS, move |w| w.change_now(quiet, 0, 0));
}

fn cut_short(world: &mut World) {
    let (n, other) = (victim(world), victim(world));
    let settled = |w: &World, n: usize| {
        let node = &w.nodes[n];
        node.session_number().is_some() && w.now - node.started > S
    };
    if n == other || !settled(world, n) || !settled(world, other) {
        return;
    }
    let namespace = world.rng.usize(0..world.plan.namespaces);
    world.change_now(other, namespace, 0);
    world.after(100 * MS, move |w| {
        w.nodes[n].dropping = true;
        w.change_now(other, namespace, 1);
    });
    world.after(150 * MS, move |w| {
        w.nodes[n].dropping = false;
        w.kill(other, false);
    });
    let pause = world.between(BOUND / 2, BOUND);
    world.after(pause, move |w| {
        if w.nodes[other].process.is_none() {
            w.start(other);
        }
    });
}

fn blinks(world: &mut World) {
    let (n, other) = (victim(world), victim(world));
    let Some(number) = world.nodes[n].session_number() else { return };
    if n == other || world.nodes[other].process.is_none() {
        return;
    }
    world.client_lost(number, unstale::ErrorKind::Connect);
    world.write_some(other, 3);
    let (work, pause) = (world.between(10 * MS, 50 * MS), world.between(BOUND / 2, BOUND));
    world.on_node(other, work, move |w| w.kill(other, false));
    world.after(work + pause, move |w| {
        if w.nodes[other].process.is_none() {
            w.start(other);
        }
    });
}

fn storm(world: &mut World) {
    let faults: [Faults; 8] =
        [drop_bursts, broker_restarts, broker_stops, slow_readers, |w| cuts(w, true, true), stops, crashes, reconnects];
    let fault = world.rng.usize(0..faults.len());
    faults[fault](world);
}
