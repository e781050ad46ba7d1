//! `unstale invalidate`: invalidations by hand or from a script, numbered like a service's.

use std::time::{Duration, Instant};

use unstale::{blocking, message, CacheConfig, Dialect};

use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Look, Output};

/// Invalidate entries in every service; return when the broker has accepted it.
///
/// Keys, tags, prefixes and --all may be combined; they go to one namespace. Exit code 0 means that the broker has
/// acknowledged all of it, so every cache hears of it within its staleness bound, in health within milliseconds.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["keys", "tags", "prefixes", "all"]))]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,

    /// Keys to invalidate.
    #[arg(value_name = "KEY")]
    keys: Vec<String>,

    /// The namespace; none means the cache without a namespace.
    #[arg(short, long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    /// Invalidate the entries that carry this tag; may be repeated.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,

    /// Invalidate the entries whose key starts with this; may be repeated.
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,

    /// Invalidate the whole namespace.
    #[arg(long)]
    all: bool,

    /// The version of the keys that is now current: entries that have it or a higher one stay. 0 to 2^53 - 1.
    #[arg(long, value_name = "N", requires = "keys")]
    version: Option<u64>,

    /// How long to wait for the broker once connected, such as 10s or 500ms.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    timeout: Duration,

    /// Print one JSON object, {"namespace", "tokens", "ms"}, instead of text.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  unstale invalidate --url mqtt://localhost --namespace users user:42 user:43
  unstale invalidate --url mqtt://localhost --namespace users user:42 --version 7
  unstale invalidate --url mqtt://localhost --namespace users --tag vip --prefix team:9:
  unstale invalidate --url mqtt://localhost --namespace users --all

A key that begins with a dash goes after `--`. A service that calls `wait_for`
with a printed token returns once its own cache has applied the invalidation.

Exit codes: 0 accepted by the broker, 2 wrong usage, 13 no connection,
14 refused credentials or topic, 15 TLS, 16 not confirmed in time: the message
may or may not have been accepted; sending it again does no harm.";

pub fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    check(arguments)?;
    let config = arguments.connection.config()?;
    let client = blocking::connect(config)?;
    let started = Instant::now();
    let left = || arguments.timeout.saturating_sub(started.elapsed());

    let cache = client.cache::<()>(&arguments.namespace, CacheConfig::default())?;
    let mut receipts = Vec::new();
    if !arguments.keys.is_empty() {
        receipts.push(cache.invalidate_many(arguments.keys.iter().map(|key| (key.as_str(), arguments.version)))?);
    }
    if !arguments.tags.is_empty() {
        receipts.push(cache.invalidate_tags(arguments.tags.iter().map(String::as_str))?);
    }
    for prefix in &arguments.prefixes {
        receipts.push(cache.invalidate_prefix(prefix)?);
    }
    if arguments.all {
        receipts.push(cache.invalidate_all()?);
    }
    let delivered = receipts.iter().all(|receipt| blocking::delivered(receipt, left()));
    let elapsed = started.elapsed();
    // Also says farewell, so that caches forget this stream soon; its outcome changes nothing about what was delivered.
    let closed = blocking::close(&client, left());
    if !delivered {
        closed?;
        return Err(Failure::timeout(format!(
            "the broker did not confirm within {:?}; it may or may not have the message. Sending it again does no harm",
            arguments.timeout
        )));
    }

    let mut tokens: Vec<String> = receipts.iter().map(|receipt| receipt.token()).collect();
    tokens.dedup();
    let ms = (elapsed.as_secs_f64() * 1e4).round() / 10.0;
    if arguments.json {
        let json = serde_json::json!({ "namespace": arguments.namespace, "tokens": tokens, "ms": ms });
        return output.line(&json.to_string());
    }
    let pen = output.pen();
    let tokens = pen.paint(Look::Dim, format!("in {ms} ms  {}", tokens.join(" ")));
    output.line(&format!("{} {}  {tokens}", pen.paint(Look::Green, "accepted:"), summary(arguments)))
}

/// Refuses what is wrong before anything is sent, so that it is all or nothing.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    message::check_namespace(&arguments.namespace)?;
    arguments.keys.iter().try_for_each(|key| message::check_key(key))?;
    arguments.tags.iter().try_for_each(|tag| message::check_tag(tag))?;
    arguments.prefixes.iter().try_for_each(|prefix| message::check_prefix(prefix))?;
    arguments.version.map_or(Ok(()), message::check_version)?;
    Ok(())
}

/// `2 keys, 1 tag in users`
fn summary(arguments: &Arguments) -> String {
    let count = |n: usize, one: &str, many: &str| (n > 0).then(|| format!("{n} {}", if n == 1 { one } else { many }));
    let parts: Vec<String> = [
        count(arguments.keys.len(), "key", "keys"),
        count(arguments.tags.len(), "tag", "tags"),
        count(arguments.prefixes.len(), "prefix", "prefixes"),
        arguments.all.then(|| "everything".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    let place = if arguments.namespace.is_empty() { "the cache without a namespace" } else { &arguments.namespace };
    format!("{} in {place}", parts.join(", "))
}

/// By the library's parser, so that a duration is written the same everywhere.
fn duration(text: &str) -> Result<Duration, String> {
    let mut options = serde_json::Map::new();
    options.insert("load_timeout".into(), text.into());
    match CacheConfig::parse(options, Dialect::JSON) {
        Ok(config) => config.load_timeout.ok_or_else(|| "expected a duration".into()),
        Err(_) => Err("expected a duration such as 500ms, 10s or 2m".into()),
    }
}
