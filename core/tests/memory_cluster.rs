//! Two clients of one process over the in-memory broker: the whole way, without a network.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, ErrorKind, LinkState, SetOptions};

const S: Duration = Duration::from_secs(5);

fn connect(name: &str) -> Client {
    blocking::connect(ClientConfig::from_url(&format!("memory://{name}")).unwrap()).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + S;
    while !done() {
        assert!(Instant::now() < end, "not within {S:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pair(name: &str) -> (Client, Cache<String>, Client, Cache<String>) {
    let (a, b) = (connect(name), connect(name));
    let ca = a.cache("users", CacheConfig::default()).unwrap();
    let cb = b.cache("users", CacheConfig::default()).unwrap();
    until("both live", || a.status().state == LinkState::Live && b.status().state == LinkState::Live);
    (a, ca, b, cb)
}

#[test]
fn an_invalidation_reaches_the_other_client() {
    let (_a, ca, b, cb) = pair("reaches");
    ca.set("user:1", "old".into()).unwrap();
    cb.set("user:1", "old".into()).unwrap();
    let receipt = ca.invalidate("user:1").unwrap();
    assert_eq!(ca.get("user:1"), None, "here at once");
    assert!(blocking::wait_for(&b, &receipt.token(), S).unwrap());
    assert_eq!(cb.get("user:1"), None);
    assert!(blocking::delivered(&receipt, S));
    assert_eq!(cb.stats().invalidations_remote, 1);
    until("own message came back", || ca.stats().own >= 1);
    assert_eq!(ca.stats().invalidations_remote, 0, "one's own is not applied twice");
}

#[test]
fn tags_prefixes_dependencies_and_all_reach_the_other_client() {
    let (_a, ca, b, cb) = pair("groups");
    let fill = || {
        for key in ["p:1", "p:2", "q:1"] {
            let mut options = SetOptions::new();
            options.tags = vec![format!("tag-{key}")];
            options.depends_on = vec![format!("input-{key}")];
            assert!(cb.set_with(key, key.into(), &options).unwrap());
        }
    };
    let held = || ["p:1", "p:2", "q:1"].into_iter().filter(|k| cb.get(k).is_some()).collect::<Vec<_>>();
    let check = |receipt: unstale::Receipt, left: &[&str]| {
        assert!(blocking::wait_for(&b, &receipt.token(), S).unwrap());
        assert_eq!(held(), left);
    };
    fill();
    check(ca.invalidate_tags(["tag-p:1"]).unwrap(), &["p:2", "q:1"]);
    fill();
    check(ca.invalidate_prefix("p:").unwrap(), &["q:1"]);
    fill();
    check(ca.invalidate("input-q:1").unwrap(), &["p:1", "p:2"]);
    fill();
    check(ca.invalidate_all().unwrap(), &[]);
    fill();
    assert_eq!(held().len(), 3, "what is stored after `all` is served");
}

#[test]
fn concurrent_readers_share_one_load() {
    let (_a, ca, _b, _cb) = pair("share");
    let loads = AtomicU32::new(0);
    let barrier = Barrier::new(8);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| {
                barrier.wait();
                let value = blocking::get_or_load(&ca, "k", &SetOptions::new(), || {
                    loads.fetch_add(1, Ordering::SeqCst);
                    until("the others wait", || ca.stats().joins == 7);
                    Ok::<_, std::io::Error>(Some("v".to_owned()))
                });
                assert_eq!(value.unwrap().as_deref(), Some("v"));
            });
        }
    });
    assert_eq!(loads.load(Ordering::SeqCst), 1);
}

#[test]
fn a_loaders_own_error_reaches_every_reader() {
    let (_a, ca, _b, _cb) = pair("error");
    let fail = || Err::<Option<String>, _>(std::io::Error::other("no database"));
    let e = blocking::get_or_load(&ca, "k", &SetOptions::new(), fail).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Load);
    assert_eq!(e.load_source().unwrap().downcast_ref::<std::io::Error>().unwrap().to_string(), "no database");
    let none = blocking::get_or_load(&ca, "k", &SetOptions::new(), || Ok::<_, std::io::Error>(None));
    assert_eq!(none.unwrap(), None);
    assert_eq!(ca.stats().entries, 0, "neither is stored");
}

#[test]
fn listeners_hear_of_local_and_remote_invalidations() {
    let (_a, ca, _b, cb) = pair("listen");
    let heard = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let sink = heard.clone();
    let subscription = cb.on_invalidated(move |i| sink.lock().push((i.keys.clone(), i.origin)));
    cb.on_invalidated(|_| panic!("a listener's panic goes no further"));
    ca.invalidate("remote").unwrap();
    until("remote", || heard.lock().len() == 1);
    cb.invalidate("local").unwrap();
    until("local", || heard.lock().len() == 2);
    assert_eq!(heard.lock()[0], (vec!["remote".to_owned()], unstale::Origin::Remote));
    assert_eq!(heard.lock()[1], (vec!["local".to_owned()], unstale::Origin::Local));
    subscription.cancel();
    cb.invalidate("later").unwrap();
    until("own events went through", || cb.stats().own >= 2);
    assert_eq!(heard.lock().len(), 2);
}

#[test]
fn a_closed_client_serves_and_takes_nothing() {
    let (a, ca, _b, _cb) = pair("closed");
    ca.set("k", "v".into()).unwrap();
    ca.invalidate("other").unwrap();
    assert_eq!(blocking::close(&a, S).unwrap(), 0, "the outbox was drained");
    assert_eq!(blocking::close(&a, S).unwrap(), 0, "a second time is harmless");
    assert_eq!(ca.get("k"), None);
    for e in [
        ca.set("k", "v".into()).unwrap_err(),
        ca.invalidate("k").unwrap_err(),
        ca.check("k").unwrap_err(),
        a.cache::<u8>("x", CacheConfig::default()).err().unwrap(),
        blocking::wait_for(&a, "u1:x:1:users", S).unwrap_err(),
    ] {
        assert_eq!(e.kind(), ErrorKind::Closed);
    }
    assert_eq!(a.status().state, LinkState::Closed);
}

#[test]
fn bad_input_is_named_and_changes_nothing() {
    let (a, ca, _b, _cb) = pair("bad");
    let invalid = |r: Result<(), unstale::Error>| assert_eq!(r.unwrap_err().kind(), ErrorKind::InvalidArgument);
    let long = "k".repeat(1025);
    for key in ["", "a\0b", long.as_str()] {
        assert_eq!(ca.get(key), None);
        invalid(ca.check(key));
        invalid(ca.set(key, "v".into()).map(drop));
        invalid(ca.invalidate(key).map(drop));
        invalid(ca.invalidate_many([("good", None), (key, None)]).map(drop));
        invalid(ca.invalidate_tags([key]).map(drop));
        invalid(ca.invalidate_prefix(key).map(drop));
        invalid(ca.lease(key).map(drop));
        invalid(ca.evict(key).map(drop));
        invalid(ca.begin(key).map(drop));
    }
    invalid(ca.invalidate_version("k", 1 << 53).map(drop));
    invalid(ca.update("k", "v".into(), &SetOptions::new()).map(drop));
    let mut options = SetOptions::new();
    options.lease = Some(ca.lease("other").unwrap());
    invalid(ca.set_with("k", "v".into(), &options).map(drop));
    invalid(a.cache::<u8>("users", CacheConfig::default()).map(drop));
    invalid(a.cache::<u8>("_probe", CacheConfig::default()).map(drop));
    invalid(blocking::wait_for(&a, "nonsense", S).map(drop));
    assert_eq!(ca.stats().invalidations_local, 0);
    assert!(ca.is_empty());
}

#[test]
fn nothing_to_invalidate_is_a_receipt_that_everyone_has_applied() {
    let (_a, ca, b, _cb) = pair("nothing");
    let receipt = ca.invalidate_many([]).unwrap();
    assert!(blocking::delivered(&receipt, Duration::ZERO));
    assert!(blocking::wait_for(&b, &receipt.token(), Duration::ZERO).unwrap());
}

#[test]
fn wait_for_ends_with_its_time() {
    let (_a, _ca, b, _cb) = pair("time");
    assert!(!blocking::wait_for(&b, "u1:someone:7:users", Duration::from_millis(20)).unwrap());
    assert!(blocking::wait_for(&b, "u1:someone:7:elsewhere", Duration::ZERO).unwrap(), "no cache of that namespace");
}

#[test]
fn a_loader_that_asks_for_its_own_key_is_told_so() {
    let (_a, ca, _b, _cb) = pair("own-key");
    let mut inner = None;
    let outer = blocking::get_or_load(&ca, "k", &SetOptions::new(), || {
        inner = Some(blocking::get_or_load(&ca, "k", &SetOptions::new(), || Ok::<_, std::io::Error>(None)));
        Ok::<_, std::io::Error>(Some("v".to_owned()))
    });
    assert_eq!(inner.unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(outer.unwrap().as_deref(), Some("v"));
}
