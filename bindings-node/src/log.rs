//! The core's log lines on their way to `'log'` events.
//!
//! Quiet by default: a line goes nowhere but into a short memory until a client has a listener. The memory is there because
//! the most useful lines are written while `connect` runs, when nobody can have a listener yet.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::{json, Map, Value};
use tracing::field::{Field, Visit};
use tracing::{span, Event, Level, Metadata, Subscriber};

use crate::mailbox::{self, Mailbox};

/// Lines remembered for listeners to come.
const REMEMBERED: usize = 64;

struct Log {
    /// The number of the next line.
    next: u32,
    remembered: VecDeque<(u32, String)>,
    sinks: Vec<Weak<Mailbox>>,
}

static LOG: Mutex<Log> = Mutex::new(Log { next: 0, remembered: VecDeque::new(), sinks: Vec::new() });

/// Starts to collect lines; once per process.
pub fn install() {
    // It fails if this process's copy of the library has one already: this very one.
    let _ = tracing::subscriber::set_global_default(Bridge);
}

/// The number that the next line will have.
pub fn position() -> u32 {
    LOG.lock().next
}

/// Sends what is remembered, and from now on every line, to `mailbox`; or stops that.
pub fn listen(mailbox: &Arc<Mailbox>, wanted: bool) {
    let mut log = LOG.lock();
    log.sinks.retain(|sink| sink.strong_count() > 0 && sink.as_ptr() != Arc::as_ptr(mailbox));
    if wanted {
        for (number, line) in &log.remembered {
            mailbox.post(mailbox::Event::Log(*number, line.clone()));
        }
        log.sinks.push(Arc::downgrade(mailbox));
    }
}

struct Bridge;

impl Subscriber for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let line = json!({
            "level": metadata.level().as_str().to_ascii_lowercase(),
            "target": metadata.target(),
            "message": fields.message,
            "fields": fields.others,
        });
        let line = line.to_string();
        let mut log = LOG.lock();
        let number = log.next;
        log.next = log.next.wrapping_add(1);
        for sink in log.sinks.iter().filter_map(Weak::upgrade) {
            sink.post(mailbox::Event::Log(number, line.clone()));
        }
        log.remembered.push_back((number, line));
        if log.remembered.len() > REMEMBERED {
            log.remembered.pop_front();
        }
    }

    // The core has events only.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut text = String::new();
        let _ = write!(text, "{value:?}");
        self.put(field, text.into());
    }
}
