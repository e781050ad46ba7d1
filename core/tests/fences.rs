//! The promise of fences through the public API: every way to invalidate × every way to fill × before, during, after the load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, SetOptions};

const KEY: &str = "item:7";

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Key,
    Tag,
    Dependency,
    Prefix,
    All,
}

#[derive(Clone, Copy, Debug)]
enum Fill {
    Sync,
    Async,
    Lease,
}

const BY: [By; 5] = [By::Key, By::Tag, By::Dependency, By::Prefix, By::All];
const FILLS: [Fill; 3] = [Fill::Sync, Fill::Async, Fill::Lease];

fn open(name: &str) -> (Client, Cache<u64>) {
    let client = blocking::connect(ClientConfig::from_url(&format!("memory://{name}")).unwrap()).unwrap();
    let cache = client.cache("items", CacheConfig::default()).unwrap();
    (client, cache)
}

fn options() -> SetOptions {
    let mut options = SetOptions::new();
    options.tags = vec!["tag".into()];
    options.depends_on = vec!["input".into()];
    options
}

fn invalidate(cache: &Cache<u64>, by: By) {
    let receipt = match by {
        By::Key => cache.invalidate(KEY),
        By::Tag => cache.invalidate_tags(["tag"]),
        By::Dependency => cache.invalidate("input"),
        By::Prefix => cache.invalidate_prefix("item:"),
        By::All => cache.invalidate_all(),
    };
    receipt.unwrap();
}

/// Reads the source through the cache; `source` runs while the load is open.
fn fill(cache: &Cache<u64>, how: Fill, source: impl FnOnce() -> u64) -> u64 {
    match how {
        Fill::Sync => {
            let loaded = blocking::get_or_load(cache, KEY, &options(), || Ok::<_, std::io::Error>(Some(source())));
            loaded.unwrap().unwrap()
        }
        Fill::Async => {
            let options = options();
            let load = cache.get_or_load_with(KEY, &options, || async {
                // A real loader waits; the load is open meanwhile.
                let value = source();
                tokio::task::yield_now().await;
                Ok::<_, std::io::Error>(Some(value))
            });
            pollster::block_on(load).unwrap().unwrap()
        }
        Fill::Lease => {
            if let Some(value) = cache.get(KEY) {
                return value;
            }
            let mut options = options();
            options.lease = Some(cache.lease(KEY).unwrap());
            let value = source();
            cache.set_with(KEY, value, &options).unwrap();
            value
        }
    }
}

#[test]
fn an_invalidation_before_a_load_does_not_hinder_it() {
    for (by, how) in BY.iter().flat_map(|by| FILLS.iter().map(move |how| (*by, *how))) {
        let (_client, cache) = open("before");
        invalidate(&cache, by);
        fill(&cache, how, || 1);
        assert_eq!(cache.get(KEY), Some(1), "{by:?} before {how:?}");
    }
}

#[test]
fn an_invalidation_during_a_load_keeps_its_value_out() {
    for (by, how) in BY.iter().flat_map(|by| FILLS.iter().map(move |how| (*by, *how))) {
        let (_client, cache) = open("during");
        let value = fill(&cache, how, || {
            invalidate(&cache, by);
            1
        });
        assert_eq!(value, 1, "who waited gets the value");
        assert_eq!(cache.get(KEY), None, "{by:?} during {how:?}");
        fill(&cache, how, || 2);
        assert_eq!(cache.get(KEY), Some(2), "the next load is stored");
    }
}

#[test]
fn an_invalidation_after_a_load_removes_its_value() {
    for (by, how) in BY.iter().flat_map(|by| FILLS.iter().map(move |how| (*by, *how))) {
        let (_client, cache) = open("after");
        fill(&cache, how, || 1);
        invalidate(&cache, by);
        assert_eq!(cache.get(KEY), None, "{by:?} after {how:?}");
    }
}

#[test]
fn an_invalidation_of_another_client_keeps_a_value_out_too() {
    for by in BY {
        let name = format!("remote-{by:?}");
        let ((client, cache), (_other, remote)) = (open(&name), open(&name));
        let wait = |what: &str, done: &dyn Fn() -> bool| {
            let end = std::time::Instant::now() + Duration::from_secs(5);
            while !done() {
                assert!(std::time::Instant::now() < end, "{what}");
                std::thread::yield_now();
            }
        };
        wait("live", &|| client.status().state == unstale::LinkState::Live);
        fill(&cache, Fill::Lease, || {
            invalidate(&remote, by);
            wait("received", &|| cache.stats().invalidations_remote == 1);
            1
        });
        assert_eq!(cache.get(KEY), None, "{by:?}");
    }
}

/// Writers change the source and invalidate; nobody may read an older value than the one whose invalidation had returned.
#[test]
fn no_thread_reads_an_older_value_than_the_last_one_invalidated() {
    for (by, how) in BY.iter().flat_map(|by| FILLS.iter().map(move |how| (*by, *how))) {
        let (_client, cache) = open(&format!("stress-{by:?}-{how:?}"));
        let (source, settled, stop) = (AtomicU64::new(1), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|s| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    s.spawn(|| {
                        let mut reads = 0u64;
                        while !stop.load(Ordering::Relaxed) || reads < 100 {
                            let least = settled.load(Ordering::SeqCst);
                            let value = fill(&cache, how, || {
                                let value = source.load(Ordering::SeqCst);
                                std::thread::yield_now();
                                value
                            });
                            // A joined or led load may have read just before; what the cache itself serves may not.
                            assert!(value >= least, "{by:?} × {how:?}: read {value} after {least} was settled");
                            if let Some(held) = cache.get(KEY) {
                                assert!(held >= least, "{by:?} × {how:?}: holds {held} after {least} was settled");
                            }
                            reads += 1;
                        }
                    })
                })
                .collect();
            for _ in 0..500 {
                let value = source.fetch_add(1, Ordering::SeqCst) + 1;
                invalidate(&cache, by);
                settled.store(value, Ordering::SeqCst);
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
            readers.into_iter().for_each(|r| r.join().unwrap());
        });
        let stats = cache.stats();
        assert_eq!(stats.open_loads, 0);
        assert!(stats.loads + stats.sets + stats.fenced > 0, "something was filled");
    }
}
