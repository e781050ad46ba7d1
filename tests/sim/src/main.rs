//! Whole clusters of the real core on a virtual clock: every read is held against the promise.
//!
//!     unstale-sim                          every scenario, as many seeds as 10 million reads take
//!     unstale-sim --minutes 60             the same, with new seeds, until the time is over
//!     unstale-sim --first                  until the first violation
//!     unstale-sim --only overflow --seed 7 --trace      one run again, with all that happens in it

mod broker;
mod database;
mod node;
mod oracle;
mod scenario;
mod work;
mod world;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use oracle::Excuses;
use scenario::Plan;
use world::World;

/// What `make test` asks for.
const READS: u64 = 10_000_000;

struct Options {
    only: Option<String>,
    seed: Option<u64>,
    seeds: u64,
    minutes: Option<u64>,
    trace: bool,
    /// Stop at the first violation.
    first: bool,
}

/// The sums of a scenario over its seeds.
#[derive(Default)]
struct Sum {
    runs: u64,
    reads: u64,
    hits: u64,
    needless: u64,
    excused: u64,
    lost: u64,
    stalest: f64,
    violations: Vec<String>,
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("unstale-sim: {why}; options: --only NAME, --seed N, --seeds N, --minutes N, --first, --trace");
            return ExitCode::from(2);
        }
    };
    let scenarios = scenario::all();
    let chosen: Vec<_> =
        scenarios.iter().filter(|(name, ..)| options.only.as_ref().is_none_or(|only| name == only)).collect();
    if chosen.is_empty() {
        let names: Vec<_> = scenarios.iter().map(|(name, ..)| *name).collect();
        eprintln!("unstale-sim: no such scenario; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let sums: Vec<Mutex<Sum>> = chosen.iter().map(|_| Mutex::default()).collect();
    let until = options.minutes.map(|m| Instant::now() + Duration::from_secs(60 * m));
    // New seeds every time where time is the limit, the same ones otherwise.
    let base = options.seed.unwrap_or_else(|| if until.is_some() { fastrand::u64(..1 << 40) } else { 1 });
    if until.is_some() {
        println!("seeds from {base}");
    }
    let next = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                let (round, which) = (i / chosen.len() as u64, i as usize % chosen.len());
                let over = match until {
                    Some(until) => Instant::now() >= until,
                    None => round >= if options.seed.is_some() { 1 } else { options.seeds },
                };
                if over || (options.first && found.load(Ordering::Relaxed)) {
                    return;
                }
                let (name, _, plan) = chosen[which];
                if !run(name, plan, base + round, options.trace, &sums[which]) {
                    found.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    let whole = options.only.is_none() && options.seed.is_none() && !options.first;
    report(&chosen, &sums, whole)
}

/// One run; whether the promise was kept.
fn run(name: &str, plan: &Plan, seed: u64, trace: bool, sum: &Mutex<Sum>) -> bool {
    let mut world = World::new(plan.clone(), seed, trace);
    scenario::begin(&mut world);
    world.run();
    let broken = !world.oracle.violations.is_empty();
    if !broken {
        let alive: Vec<_> = world.nodes.iter().filter_map(|n| n.process.as_ref().map(|p| p.src.clone())).collect();
        world.oracle.lost = alive.iter().map(|src| world.oracle.never_accepted(src) as u64).sum();
    }
    let oracle = world.oracle;
    let mut sum = sum.lock().expect("no thread panics here");
    let before = sum.violations.len();
    sum.runs += 1;
    sum.reads += oracle.reads;
    sum.hits += oracle.hits;
    sum.needless += oracle.needless;
    sum.excused += oracle.excused;
    sum.lost += oracle.lost;
    sum.stalest = sum.stalest.max(oracle.stalest as f64 / 1e9);
    let again = format!("(again: --only {name} --seed {seed} --trace)");
    sum.violations.extend(oracle.violations.into_iter().map(|v| format!("{v} {again}")));
    if oracle.lost > 0 {
        sum.violations.push(format!("{} invalidations were never delivered {again}", oracle.lost));
    }
    if oracle.excused > 0 && plan.excuses == Excuses::None {
        sum.violations.push(format!("{} stale reads, where nothing excuses them {again}", oracle.excused));
    }
    sum.violations.len() == before
}

fn report(chosen: &[&(&str, &str, Plan)], sums: &[Mutex<Sum>], whole: bool) -> ExitCode {
    println!(
        "{:<16}{:>6}{:>12}{:>12}{:>10}{:>11}{:>9}{:>11}  what goes wrong",
        "scenario", "runs", "reads", "hits", "needless", "stalest s", "excused", "violations"
    );
    let (mut passed, mut failed, mut reads) = (0, 0, 0);
    for ((name, what, _), sum) in chosen.iter().zip(sums) {
        let sum = sum.lock().expect("no thread panics here");
        println!(
            "{name:<16}{:>6}{:>12}{:>12}{:>10}{:>11.3}{:>9}{:>11}  {what}",
            sum.runs,
            sum.reads,
            sum.hits,
            sum.needless,
            sum.stalest,
            sum.excused,
            sum.violations.len()
        );
        for violation in sum.violations.iter().take(3) {
            println!("    VIOLATION {violation}");
        }
        let mut fine = sum.violations.is_empty();
        if whole && sum.hits * 2 < sum.reads {
            println!("    most reads missed: this proves little");
            fine = false;
        }
        if *name == "calm" && sum.needless > 0 {
            println!("    entries lapsed although nothing went wrong");
            fine = false;
        }
        reads += sum.reads;
        if fine {
            passed += 1;
        } else {
            failed += 1;
        }
    }
    if whole && reads < READS {
        println!("{reads} reads are fewer than {READS}");
        failed += 1;
    }
    println!("{reads} reads");
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { only: None, seed: None, seeds: 12, minutes: None, trace: false, first: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match arg.as_str() {
            "--only" => options.only = Some(value()?),
            "--seed" => options.seed = Some(number(value()?)?),
            "--seeds" => options.seeds = number(value()?)?,
            "--minutes" => options.minutes = Some(number(value()?)?),
            "--trace" => options.trace = true,
            "--first" => options.first = true,
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(options)
}
