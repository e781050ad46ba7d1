//! `memory://name`: a broker inside the process, one per name, with the same guarantees as a real one.
//!
//! All clients of a process that give the same name hear each other. Delivery is in one order for all, a publication
//! is acknowledged after every subscriber's event was queued, and nothing is kept for later subscribers.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::{ended_by_us, not_connected, Event, Transport};

/// One client's connection to the broker of its name.
pub(super) struct Memory {
    broker: Arc<Broker>,
    /// Number of the connection; `None` without one.
    connection: Option<u64>,
    events: UnboundedSender<Event>,
}

/// The brokers that some client still holds. By process, too: a child of `fork` inherits brokers whose subscribers have no
/// threads any more, and perhaps one that a thread of the parent had locked.
static BROKERS: LazyLock<Mutex<Brokers>> = LazyLock::new(Mutex::default);

type Brokers = HashMap<(u32, String), Weak<Broker>>;

#[derive(Default)]
struct Broker {
    /// Held while a message is handed to its subscribers: that is what makes the order the same for all.
    routes: Mutex<Routes>,
}

#[derive(Default)]
struct Routes {
    connections: u64,
    topics: HashMap<Arc<str>, Vec<(u64, UnboundedSender<Event>)>>,
}

impl Memory {
    pub(super) fn new(name: &str, events: UnboundedSender<Event>) -> Memory {
        let name = (std::process::id(), name.to_owned());
        let mut brokers = BROKERS.lock();
        let broker = brokers.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            brokers.retain(|_, broker| broker.strong_count() > 0);
            let broker = Arc::<Broker>::default();
            brokers.insert(name, Arc::downgrade(&broker));
            broker
        });
        Memory { broker, connection: None, events }
    }

    /// Ends the connection, if there is one; whether there was.
    fn leave(&mut self) -> bool {
        let Some(connection) = self.connection.take() else { return false };
        self.broker.routes.lock().topics.retain(|_, subscribers| {
            subscribers.retain(|(c, _)| *c != connection);
            !subscribers.is_empty()
        });
        true
    }

    /// A receiver that is gone is a client that is gone: nobody is left to tell.
    fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Transport for Memory {
    fn connect(&mut self) {
        self.disconnect(Duration::ZERO);
        let mut routes = self.broker.routes.lock();
        routes.connections += 1;
        self.connection = Some(routes.connections);
        drop(routes);
        self.report(Event::Connected);
    }

    fn subscribe(&mut self, id: u64, topics: &[String]) {
        let results = match self.connection {
            None => topics.iter().map(|t| Err(not_connected(format_args!("the subscription to `{t}`")))).collect(),
            Some(connection) => {
                let mut routes = self.broker.routes.lock();
                for topic in topics {
                    let subscribers = routes.topics.entry(topic.as_str().into()).or_default();
                    if !subscribers.iter().any(|(c, _)| *c == connection) {
                        subscribers.push((connection, self.events.clone()));
                    }
                }
                vec![Ok(()); topics.len()]
            }
        };
        self.report(Event::Subscribed { id, results });
    }

    fn unsubscribe(&mut self, topics: &[String]) {
        let Some(connection) = self.connection else { return };
        let mut routes = self.broker.routes.lock();
        for topic in topics {
            if let Some(subscribers) = routes.topics.get_mut(topic.as_str()) {
                subscribers.retain(|(c, _)| *c != connection);
                if subscribers.is_empty() {
                    routes.topics.remove(topic.as_str());
                }
            }
        }
    }

    fn publish(&mut self, id: u64, topic: &str, payload: Vec<u8>) {
        if self.connection.is_none() {
            return self
                .report(Event::Published { id, result: Err(not_connected(format_args!("the message on `{topic}`"))) });
        }
        let routes = self.broker.routes.lock();
        if let Some((topic, subscribers)) = routes.topics.get_key_value(topic) {
            for (_, events) in subscribers {
                let _ = events.send(Event::Message {
                    topic: topic.clone(),
                    payload: payload.clone(),
                    retained: false,
                    qos: 1,
                });
            }
        }
        // Still under the lock: an acknowledgement never overtakes the message it is for.
        self.report(Event::Published { id, result: Ok(()) });
    }

    fn disconnect(&mut self, _timeout: Duration) {
        if self.leave() {
            self.report(Event::Lost(ended_by_us()));
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.leave();
    }
}
