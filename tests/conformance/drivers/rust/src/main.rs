//! The Rust driver of the conformance script: commands in, public API calls, answers out. See `tests/conformance/README.md`.

mod load;
mod log;
mod request;

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::{Arc, Mutex};

use serde_json::{json, Value};
use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, Dialect, ErrorKind, Lease, Receipt};

use load::Loads;
use request::{Failure, Request};

type Answer = Result<Value, Failure>;

struct Opened {
    cache: Cache<String>,
    events: Arc<Mutex<Vec<Value>>>,
}

#[derive(Default)]
struct Driver {
    client: Option<Client>,
    caches: HashMap<String, Opened>,
    leases: HashMap<String, Lease>,
    receipts: HashMap<String, Receipt>,
    loads: Loads,
}

fn main() {
    let mut driver = Driver::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("stdin is readable");
        let (answer, last) = match Request::parse(&line) {
            Ok(request) => (driver.serve(&request), request.command == "quit"),
            Err(failure) => (Err(failure), false),
        };
        let answer = match answer {
            Ok(result) => json!({ "ok": result }),
            Err(failure) => json!({ "error": failure.to_json() }),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).expect("stdout is writable");
        if last {
            break;
        }
    }
    // Loads may still be open: their threads must not keep the process.
    std::process::exit(0);
}

impl Driver {
    fn serve(&mut self, r: &Request) -> Answer {
        Ok(match r.command.as_str() {
            "hello" => json!({ "language": "rust", "protocol": 1 }),
            "log" => {
                log::to_stderr();
                Value::Null
            }
            "connect" => {
                let config = ClientConfig::parse(Some(r.text("url")?), r.object("options"), Dialect::JSON)?;
                self.client = Some(blocking::connect(config)?);
                self.caches.clear();
                Value::Null
            }
            "cache" => {
                let config = CacheConfig::parse(r.object("options"), Dialect::JSON)?;
                let cache = self.client()?.cache(r.text("ns")?, config)?;
                let events = Arc::default();
                self.caches.insert(r.text("ns")?.to_owned(), Opened { cache, events });
                Value::Null
            }
            "get" => json!(self.cache(r)?.get(r.text("key")?)),
            "set" => {
                let stored =
                    self.cache(r)?.set_with(r.text("key")?, r.text("value")?.to_owned(), &r.options(&self.leases)?)?;
                json!(stored)
            }
            "get_or_load" => load::blocking(self.cache(r)?, r, &r.options(&self.leases)?)?,
            "load_start" => {
                let (cache, options) = (self.cache(r)?.clone(), r.options(&self.leases)?);
                self.loads.start(r.text("id")?, cache, r.text("key")?, options);
                Value::Null
            }
            "load_state" => self.loads.state(r.text("id")?)?,
            "load_finish" => {
                self.loads.finish(r.text("id")?, r.outcome()?)?;
                Value::Null
            }
            "lease" => {
                let lease = self.cache(r)?.lease(r.text("key")?)?;
                self.leases.insert(r.text("id")?.to_owned(), lease);
                Value::Null
            }
            "lease_drop" => {
                self.leases.remove(r.text("id")?).ok_or_else(|| Failure::driver("no such lease"))?;
                Value::Null
            }
            "update" => {
                let options = r.options(&self.leases)?;
                let receipt = self.cache(r)?.update(r.text("key")?, r.text("value")?.to_owned(), &options)?;
                self.keep(receipt)
            }
            "invalidate" => {
                let (cache, key) = (self.cache(r)?, r.text("key")?);
                let receipt = match r.version()? {
                    Some(version) => cache.invalidate_version(key, version)?,
                    None => cache.invalidate(key)?,
                };
                self.keep(receipt)
            }
            "invalidate_many" => {
                let keys = r.keys()?;
                let receipt =
                    self.cache(r)?.invalidate_many(keys.iter().map(|(key, version)| (key.as_str(), *version)))?;
                self.keep(receipt)
            }
            "invalidate_tags" => {
                let receipt = self.cache(r)?.invalidate_tags(r.texts("tags")?.iter().map(String::as_str))?;
                self.keep(receipt)
            }
            "invalidate_prefix" => {
                let receipt = self.cache(r)?.invalidate_prefix(r.text("prefix")?)?;
                self.keep(receipt)
            }
            "invalidate_all" => {
                let receipt = self.cache(r)?.invalidate_all()?;
                self.keep(receipt)
            }
            "evict" => json!(self.cache(r)?.evict(r.text("key")?)?),
            "clear_local" => json!(self.cache(r)?.clear_local()?),
            "delivered" => {
                let receipt =
                    self.receipts.get(r.text("token")?).ok_or_else(|| Failure::driver("no receipt with this token"))?;
                json!(blocking::delivered(receipt, r.duration("timeout_ms")?))
            }
            "wait_for" => json!(blocking::wait_for(self.client()?, r.text("token")?, r.duration("timeout_ms")?)?),
            "stats" => serde_json::to_value(self.cache(r)?.stats()).expect("plain numbers"),
            "status" => serde_json::to_value(self.client()?.status()).expect("plain data"),
            "watch" => {
                let opened = self.opened(r)?;
                let events = opened.events.clone();
                opened.cache.on_invalidated(move |event| {
                    events.lock().unwrap().push(serde_json::to_value(event).expect("plain data"));
                });
                Value::Null
            }
            "events" => Value::Array(self.opened(r)?.events.lock().unwrap().clone()),
            "close" => json!(blocking::close(self.client()?, r.duration("timeout_ms")?)?),
            "quit" => Value::Null,
            other => return Err(Failure::driver(format!("unknown command {other}"))),
        })
    }

    fn client(&self) -> Result<&Client, Failure> {
        self.client.as_ref().ok_or_else(|| Failure::driver("not connected"))
    }

    fn opened(&self, r: &Request) -> Result<&Opened, Failure> {
        self.caches.get(r.text("ns")?).ok_or_else(|| Failure::driver("no cache of this namespace is open"))
    }

    fn cache(&self, r: &Request) -> Result<&Cache<String>, Failure> {
        Ok(&self.opened(r)?.cache)
    }

    fn keep(&mut self, receipt: Receipt) -> Value {
        let token = receipt.token();
        let answer = json!({ "token": token, "stored": receipt.stored() });
        self.receipts.insert(token, receipt);
        answer
    }
}

/// The number that the API gives a kind.
fn code(kind: ErrorKind) -> u8 {
    kind as u8
}
