//! What a hit costs beside its peers, in one run: JSON lines for `make bench`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale::fill::{Fill, Lifetime};
use unstale::freshness::{Bounds, Freshness};
use unstale::message::Operations;
use unstale::store::Store;
use unstale::{blocking, CacheConfig, ClientConfig};

const ENTRIES: usize = 10_000;
const ROUNDS: usize = 15;
const READS: usize = 200_000;

type Value = Arc<[u8; 64]>;

/// A name, and the call that is measured.
type Contender<'a> = (&'a str, &'a mut dyn FnMut(&str));

/// Nanoseconds per call, the median of rounds that take turns, so that whatever else the machine does hits all alike.
fn race(contenders: &mut [Contender<'_>], keys: &[String]) -> Vec<f64> {
    let mut times = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for _ in 0..ROUNDS {
        for (i, (_, call)) in contenders.iter_mut().enumerate() {
            let start = Instant::now();
            for n in 0..READS {
                // A stride that is coprime to the number of keys visits all of them, without a pattern the CPU would learn.
                call(&keys[n.wrapping_mul(7919) % keys.len()]);
            }
            times[i].push(start.elapsed().as_nanos() as f64 / READS as f64);
        }
    }
    times
        .iter_mut()
        .map(|t| {
            t.sort_by(f64::total_cmp);
            t[t.len() / 2]
        })
        .collect()
}

fn row(what: &str, ns: f64, peer: &str, peer_ns: f64, target: f64) {
    println!("{}", serde_json::json!({"what": what, "ns": ns, "peer": peer, "peer_ns": peer_ns, "target": target}));
}

fn main() {
    let client = blocking::connect(ClientConfig::from_url("memory://bench").unwrap()).unwrap();
    let cache = client
        .cache::<Value>("bench", CacheConfig { max_entries: 2 * ENTRIES as u64, ..CacheConfig::default() })
        .unwrap();
    let quick = quick_cache::sync::Cache::<String, Value>::new(2 * ENTRIES);
    let moka =
        moka::sync::Cache::builder().max_capacity(2 * ENTRIES as u64).time_to_live(Duration::from_secs(300)).build();
    let keys: Vec<String> = (0..ENTRIES).map(|i| format!("user:{i}")).collect();
    for key in &keys {
        let value = Arc::new([7u8; 64]);
        cache.set(key, value.clone()).unwrap();
        quick.insert(key.clone(), value.clone());
        moka.insert(key.clone(), value);
    }
    // By itself first: what the C library's hit, which another process measures by itself, is compared with.
    let alone = race(
        &mut [("unstale", &mut |k| {
            black_box(cache.get(k));
        })],
        &keys,
    );
    println!("{}", serde_json::json!({"alone": alone[0]}));
    let ns = race(
        &mut [
            ("unstale", &mut |k| {
                black_box(cache.get(k));
            }),
            ("quick_cache", &mut |k| {
                black_box(quick.get(k));
            }),
            ("moka", &mut |k| {
                black_box(moka.get(k));
            }),
        ],
        &keys,
    );
    row("Rust hit", ns[0], "quick_cache", ns[1], 1.25);
    row("Rust hit", ns[0], "moka", ns[2], 0.35);

    // What a received invalidation costs a process that does not hold the key.
    let freshness = Arc::new(Freshness::new(Bounds::new(30_000_000_000, false)));
    let lifetime = Lifetime { ttl: Duration::from_secs(300), negative_ttl: None, jitter: 0.0 };
    let fill = Fill::<Value>::new(Store::new(ENTRIES as u64, freshness), lifetime, Duration::from_secs(300));
    let misses: Vec<Operations> = (0..ENTRIES)
        .map(|i| Operations { keys: vec![(format!("nobody:{i}"), None)], ..Operations::default() })
        .collect();
    let start = Instant::now();
    misses.iter().for_each(|operations| fill.apply(operations, unstale::now_ns()));
    let each = start.elapsed().as_nanos() as f64 / misses.len() as f64;
    row("invalidation of a key not held", each, "1 µs", 1000.0, 1.0);
}
