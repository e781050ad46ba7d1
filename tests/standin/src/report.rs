//! What was refused, and what the stand-in did to its clients: a JSON line for each refusal, and the sums at the end.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, MutexGuard};

use serde_json::{json, Value};

use crate::rules::{Loss, Rule};

pub struct Report {
    inner: Mutex<Inner>,
}

struct Inner {
    out: Box<dyn Write + Send>,
    /// A rule that a client broke.
    rejections: BTreeMap<&'static str, u64>,
    /// A message that did not reach a subscriber, and why.
    losses: BTreeMap<&'static str, u64>,
    counts: BTreeMap<&'static str, u64>,
    peaks: BTreeMap<&'static str, usize>,
}

impl Report {
    /// To this file, or to stderr.
    pub fn new(path: Option<&str>) -> Result<Report, String> {
        let out: Box<dyn Write + Send> = match path {
            Some(path) => Box::new(std::fs::File::create(path).map_err(|error| format!("{path}: {error}"))?),
            None => Box::new(std::io::stderr()),
        };
        let empty = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (rejections, losses, counts, peaks) = empty;
        Ok(Report { inner: Mutex::new(Inner { out, rejections, losses, counts, peaks }) })
    }

    pub fn rejection(&self, rule: Rule, client: &str, detail: &str) {
        let mut inner = self.lock();
        *inner.rejections.entry(rule.name()).or_default() += 1;
        let line = json!({"rejection": rule.name(), "client": client, "detail": detail});
        inner.write(&line);
    }

    /// The query of a URL whose signature was accepted, without the signature and the session token.
    pub fn signed(&self, query: &str) {
        let secret =
            |pair: &&str| ["X-Amz-Signature=", "X-Amz-Security-Token="].iter().any(|name| pair.starts_with(name));
        let pairs: Vec<&str> = query.split('&').filter(|pair| !secret(pair)).collect();
        self.lock().write(&json!({"signed": pairs.join("&")}));
    }

    pub fn loss(&self, why: Loss) {
        *self.lock().losses.entry(why.name()).or_default() += 1;
    }

    pub fn count(&self, what: &'static str) {
        *self.lock().counts.entry(what).or_default() += 1;
    }

    pub fn peak(&self, what: &'static str, value: usize) {
        let mut inner = self.lock();
        let peak = inner.peaks.entry(what).or_default();
        *peak = value.max(*peak);
    }

    pub fn summary(&self) -> Value {
        let inner = self.lock();
        json!({"rejections": inner.rejections, "losses": inner.losses, "counts": inner.counts, "peaks": inner.peaks})
    }

    /// The sums, as the last line.
    pub fn end(&self) {
        let summary = self.summary();
        self.lock().write(&summary);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}

impl Inner {
    fn write(&mut self, line: &Value) {
        // A reader that has gone must not end the broker.
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }
}
