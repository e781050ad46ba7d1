//! A client that was given no URL. Alone in its process: the warning comes once, and the subscriber is the process's.

#[path = "common/logs.rs"]
mod logs;

use logs::Logs;
use unstale::{blocking, ClientConfig};

#[test]
fn only_without_any_url_one_warning_says_that_nothing_leaves_the_process() {
    let logs = Logs::keep();
    let connect = |config: ClientConfig| {
        let client = blocking::connect(config).unwrap();
        assert_eq!((client.status().transport, client.status().url), ("memory".into(), "memory://".into()));
        logs.with("").len()
    };
    assert_eq!(connect(ClientConfig::from_url("memory://").unwrap()), 0, "it was asked for");
    assert_eq!(connect(ClientConfig::default()), 1);
    assert_eq!(connect(ClientConfig::default()), 1);
    let text = logs.with("").remove(0);
    assert!(text.contains("`url`") && text.contains("nothing leaves this process"), "{text}");
}
