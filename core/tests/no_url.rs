//! A client that was given no URL. Alone in its process: the warning comes once, and the subscriber is the process's.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use unstale::{blocking, ClientConfig};

/// Keeps the warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").unwrap();
        }
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target() == "unstale"
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn only_without_any_url_one_warning_says_that_nothing_leaves_the_process() {
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).unwrap();
    let connect = |config: ClientConfig| {
        let client = blocking::connect(config).unwrap();
        assert_eq!((client.status().transport, client.status().url), ("memory".into(), "memory://".into()));
        warnings.0.lock().unwrap().len()
    };
    assert_eq!(connect(ClientConfig::from_url("memory://").unwrap()), 0, "it was asked for");
    assert_eq!(connect(ClientConfig::default()), 1);
    assert_eq!(connect(ClientConfig::default()), 1);
    let text = warnings.0.lock().unwrap()[0].clone();
    assert!(text.contains("`url`") && text.contains("nothing leaves this process"), "{text}");
}
