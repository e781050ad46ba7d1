//! The core's `tracing` events, on their way to Python's `logging`.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::post::{post, Item};

/// Python's `logging.DEBUG` and so on; finer than debug is 5, as others have it.
fn level_number(level: &Level) -> u32 {
    match *level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// What the `unstale` logger takes, as the package last saw it.
static LOWEST: AtomicU32 = AtomicU32::new(30);

/// Tells which levels are wanted: this number and above.
pub fn set_lowest(level: u32) {
    LOWEST.store(level, Ordering::Relaxed);
}

/// Begins to collect events.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It only fails when someone else in this library came first, and nobody does.
        let _ = tracing::subscriber::set_global_default(Collector);
    });
}

/// Turns events into records. The library has no spans; they are accepted and ignored.
struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && level_number(metadata.level()) >= LOWEST.load(Ordering::Relaxed)
            && metadata.target().starts_with("unstale")
    }

    fn register_callsite(&self, _: &'static Metadata<'static>) -> tracing::subscriber::Interest {
        // The level can change at any time.
        tracing::subscriber::Interest::sometimes()
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        post().leave(Item::Record {
            level: level_number(metadata.level()),
            target: metadata.target().replace("::", "."),
            message: text.finish(),
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// `message, field=value, field=value`
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn finish(self) -> String {
        self.message + &self.fields
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }
}
