//! docs/status.md has every field of `status()` and `stats()`, every reason of doubt, and no other.

use std::collections::BTreeSet;

use serde_json::Value;
use unstale::stream::Doubt;
use unstale::{blocking, CacheConfig, ClientConfig};

/// The names in the first column of the table below a heading.
fn named(page: &str, heading: &str) -> BTreeSet<String> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")).filter_map(|row| row.split('|').next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

fn fields(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_page_names_what_is_told() {
    let page = include_str!("../../docs/status.md");
    let client = blocking::connect(ClientConfig::from_url("memory://status").unwrap()).unwrap();
    let cache = client.cache::<u64>("n", CacheConfig::default()).unwrap();
    assert_eq!(named(page, "`status()`"), fields(&serde_json::to_value(client.status()).unwrap()));
    assert_eq!(named(page, "`stats()`"), fields(&serde_json::to_value(cache.stats()).unwrap()));
    let doubts = [
        Doubt::FirstProbe,
        Doubt::LateProbe,
        Doubt::OvertakenProbe,
        Doubt::Hole,
        Doubt::UnknownStream,
        Doubt::Unconfirmed,
        Doubt::Malformed,
        Doubt::NewerVersion,
        Doubt::Suspended,
    ];
    assert_eq!(named(page, "Doubts"), doubts.map(|doubt| doubt.name().to_owned()).into());
}
