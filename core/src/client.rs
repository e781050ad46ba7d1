//! A client: one connection, many caches. Wiring only; what happens on the connection is the link's business.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::cache::Cache;
use crate::cache::Inner;
use crate::config::{CacheConfig, ClientConfig};
use crate::error::{Error, Result};
pub use crate::events::Subscription;
use crate::link::{self, Channel, Command, Shared};
use crate::message::{self, Token};

/// How long `close` drains the outbox unless told otherwise.
pub const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a broker, and the caches that it keeps fresh. A handle: cheap to clone, safe to use from any thread.
///
/// The client closes when the last handle to it and to its caches is dropped, without waiting; [`Client::close`] waits.
#[derive(Clone)]
pub struct Client {
    inner: Arc<ClientInner>,
}

/// Kept alive by the handles to the client and to its caches.
pub(crate) struct ClientInner {
    pub(crate) shared: Arc<Shared>,
    namespaces: Mutex<HashSet<String>>,
}

impl Drop for ClientInner {
    fn drop(&mut self) {
        if !self.shared.is_forked() {
            self.shared.shut();
            self.shared.command(Command::Close { timeout: Duration::from_secs(1), reply: None });
        }
    }
}

/// The state of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Never connected so far.
    Connecting,
    /// Connected, and every cache proved fresh.
    Live,
    /// Not connected, or a cache not yet proved fresh: entries are served by their age.
    Degraded,
    /// Closed.
    Closed,
}

/// What is known of a client. Serialises with these names in every language; durations in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// State of the link.
    pub state: LinkState,
    /// Why, in words; empty when live.
    pub reason: String,
    /// How messages travel: `memory`, `mqtt`, `mqtts`, `ws`, `wss`, `awsiot`.
    pub transport: String,
    /// The broker, without secrets.
    pub url: String,
    /// The MQTT client id.
    pub client_id: String,
    /// This client's publisher stream.
    pub src: String,
    /// The staleness bound.
    pub staleness_bound_ms: u64,
    /// Caches open.
    pub caches: u64,
    /// Connections made so far.
    pub connects: u64,
    /// Messages not yet acknowledged.
    pub unsent: u64,
    /// Events that no listener saw because their queue was full.
    pub events_dropped: u64,
    /// Why what is unsent would not survive this process, if `outbox_dir` is given and cannot be written.
    pub outbox_dir_error: Option<String>,
}

impl Client {
    /// Connects. Waits until the broker answered and a first probe came back, at most `connect_timeout`; with `lazy` not at all.
    ///
    /// The connection lives on a thread of its own, so the future runs under any executor.
    ///
    /// # Errors
    /// `Config`, `Connect`, `Auth`, `Tls`, `Timeout`. Nothing is left running.
    pub async fn connect(config: ClientConfig) -> Result<Client> {
        config.validate()?;
        let (shared, ready) = link::start(config)?;
        // Made before waiting: a dropped future drops it, and with it the link.
        let client = Client { inner: Arc::new(ClientInner { shared, namespaces: Mutex::default() }) };
        ready.await.map_err(|_| Error::internal("the link's thread ended early"))??;
        Ok(client)
    }

    /// Opens a cache. Its `namespace` is empty or 1 to 64 of `[A-Za-z0-9._-]`, not beginning with `_`.
    ///
    /// Returns at once; until its subscription is proved, entries are served by their age only.
    ///
    /// # Errors
    /// `InvalidArgument` for a bad namespace or one that this client has open already, `Config` for a bad option or the 50th
    /// cache of a client of AWS IoT Core, `Closed`, `Forked`.
    pub fn cache<V: Clone + Send + Sync + 'static>(&self, namespace: &str, config: CacheConfig) -> Result<Cache<V>> {
        let shared = &self.inner.shared;
        shared.check_usable()?;
        message::check_namespace(namespace)?;
        config.validate()?;
        let mut namespaces = self.inner.namespaces.lock();
        if namespaces.contains(namespace) {
            return Err(Error::invalid(format!(
                "namespace {namespace:?} is open already in this client; keep the cache that was returned and share it"
            )));
        }
        // One subscription is the probe's.
        let most = shared.quotas.subscriptions - 1;
        if namespaces.len() >= most {
            return Err(Error::config(format!(
                "this client has {most} caches open, and the broker takes no more subscriptions on one connection; \
                 open another client for {namespace:?}, or put several kinds of entries into one cache, told apart by prefix"
            )));
        }
        let channel = Arc::new(Channel::new(shared, namespace));
        let cache = Cache::<V>::new(namespace, &config, self.inner.clone(), channel.clone());
        let target: Arc<Inner<V>> = cache.inner.clone();
        shared.open(target, channel);
        namespaces.insert(namespace.to_owned());
        Ok(cache)
    }

    /// What is known of the link.
    pub fn status(&self) -> Status {
        self.inner.shared.status()
    }

    /// Calls `listener` after every change of the link's state, on the client's own event thread.
    pub fn on_status(&self, listener: impl Fn(&Status) + Send + Sync + 'static) -> Subscription {
        self.inner.shared.status_listeners.add(Box::new(listener))
    }

    /// Waits until this process has applied the invalidation that `token` names, so that a read sees what was written
    /// before it; true at once if no cache of its namespace is open here. False: `timeout` ran out.
    ///
    /// # Errors
    /// `InvalidArgument` for a token that no receipt gave, `Closed`, `Forked`.
    pub fn wait_for(&self, token: &str, timeout: Duration) -> impl Future<Output = Result<bool>> + Send + 'static {
        let answer = self.ask_for(token, timeout);
        async move {
            match answer? {
                None => Ok(true),
                Some(answer) => answer.await.map_err(|_| Error::closed()),
            }
        }
    }

    fn ask_for(&self, token: &str, timeout: Duration) -> Result<Option<tokio::sync::oneshot::Receiver<bool>>> {
        let shared = &self.inner.shared;
        shared.check_usable()?;
        if names_nothing(token) {
            return Ok(None);
        }
        let token: Token = token.parse()?;
        if *token.src == *shared.src || !self.inner.namespaces.lock().contains(&*token.namespace) {
            return Ok(None);
        }
        let (reply, answer) = tokio::sync::oneshot::channel();
        shared.command(Command::WaitFor { token, timeout, reply });
        Ok(Some(answer))
    }

    /// Publishes what is still unsent, says good-bye and disconnects, within `timeout`. Returns how many messages were
    /// left unsent. Calls after the first wait for the same end and return the same number.
    ///
    /// Caches of a closed client hold nothing; their calls fail with `Closed`.
    ///
    /// # Errors
    /// `Forked`.
    pub fn close(&self, timeout: Duration) -> impl Future<Output = Result<usize>> + Send + 'static {
        let shared = self.inner.shared.clone();
        let forked = shared.is_forked();
        let (reply, answer) = tokio::sync::oneshot::channel();
        if !forked {
            shared.shut();
            shared.command(Command::Close { timeout, reply: Some(reply) });
        }
        async move {
            if forked {
                return Err(Error::forked());
            }
            // No answer: the link had ended before.
            Ok(answer.await.unwrap_or_else(|_| shared.left_unsent()))
        }
    }
}

/// The receipt of a call that had nothing to invalidate carries number 0, which every process has applied.
fn names_nothing(token: &str) -> bool {
    let mut parts = token.splitn(4, ':');
    parts.next() == Some("u1")
        && parts.next().is_some_and(|src| message::check_src(src).is_ok())
        && parts.next() == Some("0")
}

/// Proof that an invalidation was applied here, and the means to follow it elsewhere.
#[derive(Clone)]
pub struct Receipt {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    seq: u64,
    stored: bool,
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Receipt({})", self.token())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.inner.shared.src)
    }
}

impl Receipt {
    pub(crate) fn new(shared: Arc<Shared>, channel: Arc<Channel>, seq: u64, stored: bool) -> Self {
        Receipt { shared, channel, seq, stored }
    }

    /// Names the invalidation for [`Client::wait_for`] in another process: `u1:{src}:{seq}:{namespace}`, fit for an HTTP header.
    pub fn token(&self) -> String {
        let namespace: Arc<str> = self.channel.namespace().into();
        Token { src: self.shared.src.clone(), seq: self.seq, namespace }.to_string()
    }

    /// Whether `update` stored the value here; false for an invalidation.
    pub fn stored(&self) -> bool {
        self.stored
    }

    /// Waits until the broker acknowledged the invalidation. False: `timeout` ran out, or the client closed before.
    pub fn delivered(&self, timeout: Duration) -> impl Future<Output = bool> + Send + 'static {
        let answer = if self.channel.acked() >= self.seq {
            Ok(true)
        } else if self.shared.is_forked() {
            Ok(false)
        } else {
            let (reply, answer) = tokio::sync::oneshot::channel();
            self.shared.command(Command::Delivered { channel: self.channel.clone(), seq: self.seq, timeout, reply });
            Err(answer)
        };
        let (channel, seq) = (self.channel.clone(), self.seq);
        async move {
            match answer {
                Ok(known) => known,
                // No answer: the link ended.
                Err(answer) => answer.await.unwrap_or_else(|_| channel.acked() >= seq),
            }
        }
    }
}
