//! Ways to a broker: one trait, chosen by the URL's scheme.
//!
//! A transport makes one attempt at a connection when told to, and reports everything that happens as an [`Event`].
//! It retries nothing and knows nothing of caches: when to connect again, what to send and what a message means is
//! the link's business.

mod aws;
pub mod http;
mod memory;
mod mqtt;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::config::{ClientConfig, Scheme};
use crate::error::{Error, ErrorKind, Result};

/// What happened, in the order in which it happened.
///
/// Every [`Transport::connect`] is answered by exactly one `Connected` or `Refused`, every `Connected` is followed by
/// exactly one `Lost`, and between two connections nothing else is reported. Requests that a connection takes with
/// it when it ends are not answered: `Lost` answers them all.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the connection; the session is a new one, without subscriptions.
    Connected,
    /// The attempt failed. Kind `Connect`, `Auth`, `Tls`, `Timeout` or `Forked`; `Closed` when [`Transport::disconnect`] ended it.
    Refused(Error),
    /// The connection ended. Kind `Connect`; `Auth` when the broker says that it was over something not allowed; `Config`
    /// when another client took over the client id; `Closed` when [`Transport::disconnect`] ended it.
    Lost(Error),
    /// Answers [`Transport::subscribe`]. A topic is in order when the broker granted QoS 1 for it.
    Subscribed {
        /// The number given to `subscribe`.
        id: u64,
        /// One result per topic, in the order given.
        results: Vec<Result<(), Error>>,
    },
    /// Answers [`Transport::publish`]: the broker took the message over (PUBACK), or refused it.
    Published {
        /// The number given to `publish`.
        id: u64,
        /// `Auth` when the broker does not allow the topic, `Connect` when it refused the message otherwise.
        result: Result<(), Error>,
    },
    /// A message on a topic subscribed to.
    Message {
        /// Where it was published.
        topic: Arc<str>,
        /// What was published, unchanged.
        payload: Vec<u8>,
        /// Whether the broker kept it from earlier and sent it because of the subscription.
        retained: bool,
        /// The quality of service with which it was delivered. 0: it may have overtaken others.
        qos: u8,
    },
}

/// One client's way to one broker.
///
/// No method blocks on the network; every answer comes as an [`Event`]. A request made without a connection is
/// answered with an error of kind `Connect`. Dropping a transport ends its connection without a farewell.
pub trait Transport: Send {
    /// Makes one attempt. A connection or an attempt that still exists is ended first, as by [`Transport::disconnect`]
    /// without time.
    fn connect(&mut self);
    /// Subscribes to exact topics, QoS 1.
    fn subscribe(&mut self, id: u64, topics: &[String]);
    /// Ends subscriptions. Not answered; a message under way may still come.
    fn unsubscribe(&mut self, topics: &[String]);
    /// Publishes with QoS 1, not retained. Messages go out in the order of these calls.
    fn publish(&mut self, id: u64, topic: &str, payload: Vec<u8>);
    /// Ends the connection cleanly, within `timeout`: what was published before still goes out, the broker gets a
    /// DISCONNECT. Reports `Lost` (or `Refused`, during an attempt) of kind `Closed`; nothing when there is no connection.
    fn disconnect(&mut self, timeout: Duration);
}

/// The transport for the URL in `config`. Events go to `events` for as long as it lives.
///
/// # Errors
/// `Config` when the URL or an option cannot be used, `Tls` when a certificate or key file cannot be read, `Forked` in a
/// child of a process that had used MQTT.
pub fn open(config: &ClientConfig, client_id: &str, events: UnboundedSender<Event>) -> Result<Box<dyn Transport>> {
    let endpoint = config.endpoint()?;
    Ok(match endpoint.scheme {
        Scheme::Memory => Box::new(memory::Memory::new(&endpoint.host, events)),
        Scheme::Mqtt | Scheme::Mqtts | Scheme::Ws | Scheme::Wss | Scheme::AwsIot => {
            Box::new(mqtt::Mqtt::new(config, endpoint, client_id, events)?)
        }
    })
}

/// The answer to a request that nothing can carry.
fn not_connected(what: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Connect,
        format!("{what} was not sent: there is no connection to the broker; wait until it is back"),
    )
}

fn ended_by_us() -> Error {
    Error::new(ErrorKind::Closed, "the connection was closed by this client")
}
