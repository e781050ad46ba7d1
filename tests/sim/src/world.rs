//! Virtual time: what happens next, in one order that the seed determines.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use unstale::clock::Nanos;

use crate::broker::Broker;
use crate::database::Database;
use crate::node::Node;
use crate::oracle::Oracle;
use crate::scenario::Plan;
use crate::work::Joiner;

pub const MS: Nanos = 1_000_000;
pub const S: Nanos = 1_000 * MS;

/// Something that will happen.
pub type Action = Box<dyn FnOnce(&mut World)>;

/// A cluster with its broker, its network and its database.
pub struct World {
    pub now: Nanos,
    pub end: Nanos,
    pub rng: fastrand::Rng,
    pub plan: Plan,
    pub nodes: Vec<Node>,
    pub broker: Broker,
    pub database: Database,
    pub oracle: Oracle,
    /// Whether writers have stopped, so that all can settle.
    pub quiet: bool,
    /// By the load that they wait for.
    pub joiners: HashMap<u64, Vec<Joiner>>,
    trace: bool,
    queue: BinaryHeap<Reverse<(Nanos, u64)>>,
    actions: HashMap<u64, Action>,
    order: u64,
}

impl World {
    pub fn new(plan: Plan, seed: u64, trace: bool) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let nodes: Vec<Node> = (0..plan.nodes).map(|i| Node::new(i, &plan, &mut rng)).collect();
        World {
            now: 0,
            end: plan.length,
            broker: Broker::new(&plan),
            database: Database::new(plan.namespaces),
            oracle: Oracle::new(plan.nodes, plan.namespaces, plan.excuses),
            nodes,
            rng,
            plan,
            quiet: false,
            joiners: HashMap::new(),
            trace,
            queue: BinaryHeap::new(),
            actions: HashMap::new(),
            order: 0,
        }
    }

    /// Lets `action` happen after `delay`.
    pub fn after(&mut self, delay: Nanos, action: impl FnOnce(&mut World) + 'static) {
        self.at(self.now + delay, action);
    }

    /// Lets `action` happen at a time; what is due at one time happens in the order in which it was asked for.
    pub fn at(&mut self, at: Nanos, action: impl FnOnce(&mut World) + 'static) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order)));
        self.actions.insert(self.order, Box::new(action));
    }

    /// Runs until the end, or until a read breaks the promise.
    pub fn run(&mut self) {
        while let Some(Reverse((at, order))) = self.queue.pop() {
            if at > self.end || !self.oracle.violations.is_empty() {
                return;
            }
            self.now = at;
            if let Some(action) = self.actions.remove(&order) {
                action(self);
            }
        }
    }

    /// A time between `least` and `most`, mostly near `least`.
    pub fn soon(&mut self, least: Nanos, most: Nanos) -> Nanos {
        let x = self.rng.f64();
        least + ((most - least) as f64 * x * x * x) as Nanos
    }

    /// A time between the two.
    pub fn between(&mut self, least: Nanos, most: Nanos) -> Nanos {
        self.rng.u64(least..=most)
    }

    pub fn chance(&mut self, share: f64) -> bool {
        share > 0.0 && self.rng.f64() < share
    }

    /// Prints what happens, when a run is replayed for a look at it.
    pub fn trace(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:10.3} {}", self.now as f64 / S as f64, what());
        }
    }
}
