//! MQTT over TCP, TLS and WebSockets, on Paho's C client.
//!
//! Each call of [`Transport::connect`] makes an [`Attempt`] with a client of its own in the library, so nothing that an
//! old connection still says can be taken for the new one's. A thread per attempt, its guard, makes that client, keeps
//! the limits of time and destroys it: nothing here blocks the caller, and nothing is ever destroyed in a callback.

mod diagnose;
mod explain;
mod paho;
mod roots;
mod upgrade;

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;

use self::paho::{Client, Failure, Listener, WebSocketTurn};
use super::aws::Access;
use super::wire;
use super::{ended_by_us, not_connected, Event, Transport};
use crate::config::{ClientConfig, Endpoint, MqttVersion, Scheme, TlsConfig};
use crate::error::{Error, ErrorKind, Result};

/// How long a dropped transport waits for the library to let go of its last connection.
const DROP_WAIT: Duration = Duration::from_secs(1);
/// How long finding out why an attempt failed may take: what is left of the attempt's time, but within these.
const DIAGNOSIS: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(3);

/// One client's way to one MQTT broker.
pub(super) struct Mqtt {
    target: Arc<Target>,
    events: UnboundedSender<Event>,
    attempt: Option<Arc<Attempt>>,
    guards: Arc<Guards>,
}

/// Where to connect and how.
struct Target {
    endpoint: Endpoint,
    /// With `awsiot://`.
    access: Option<Access>,
    options: paho::Options,
    /// For schemes with TLS.
    tls: Option<TlsConfig>,
    connect_timeout: Duration,
}

/// One attempt at a connection, and the connection that came of it.
struct Attempt {
    target: Arc<Target>,
    deadline: Instant,
    events: UnboundedSender<Event>,
    /// Events are sent while it is held: after [`Phase::Ended`] there are none.
    state: Mutex<State>,
    /// Tells the guard of a new phase, or that nothing is outstanding any more.
    changed: Condvar,
    /// Put in and taken out by the guard. Locked before `state`, never in a callback.
    client: Mutex<Option<Client>>,
}

struct State {
    phase: Phase,
    /// Publications and subscriptions without an answer.
    outstanding: usize,
    /// What the TLS library said first.
    tls_trouble: Option<String>,
    /// The last message's topic: nearly always the next one's too.
    topic: Option<Arc<str>>,
}

enum Phase {
    Connecting,
    /// The library gave up; the guard finds out why and reports it.
    Failed(Failure),
    Connected,
    /// Told to disconnect; what is outstanding may be answered until then.
    Draining(Instant),
    /// Being disconnected.
    Closing,
    /// Reported as over.
    Ended,
}

/// Counts the guards of a transport.
#[derive(Default)]
struct Guards {
    running: Mutex<usize>,
    ended: Condvar,
}

impl Mqtt {
    pub(super) fn new(
        config: &ClientConfig,
        endpoint: Endpoint,
        client_id: &str,
        events: UnboundedSender<Event>,
    ) -> Result<Mqtt> {
        let target = Arc::new(Target::new(config, endpoint, client_id)?);
        if !paho::enter_process() {
            return Err(Error::new(
                ErrorKind::Forked,
                "this process was forked from one that had already used MQTT, and cannot connect; fork before the first connection, or start the child with exec",
            ));
        }
        Ok(Mqtt { target, events, attempt: None, guards: Arc::default() })
    }

    fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

impl Transport for Mqtt {
    fn connect(&mut self) {
        self.disconnect(Duration::ZERO);
        let attempt = Arc::new(Attempt::new(Arc::clone(&self.target), self.events.clone()));
        self.attempt = Some(Arc::clone(&attempt));
        let running = self.guards.enter();
        let guarded = Arc::clone(&attempt);
        let spawned = thread::Builder::new().name("unstale-mqtt".into()).spawn(move || {
            let _running = running;
            guarded.contain(|| guarded.guard());
        });
        if let Err(e) = spawned {
            attempt.end(Error::new(ErrorKind::Internal, format!("cannot start a thread for the connection: {e}")));
        }
    }

    fn subscribe(&mut self, id: u64, topics: &[String]) {
        if topics.is_empty() {
            return self.report(Event::Subscribed { id, results: Vec::new() });
        }
        let batch = Arc::new(Batch { id, results: Mutex::new(vec![None; topics.len()]) });
        for (i, topic) in topics.iter().enumerate() {
            let done = {
                let (batch, topic) = (Arc::clone(&batch), topic.clone());
                move |answer| batch.done(i, explain::granted(&topic, answer))
            };
            let what = format_args!("the subscription to `{topic}`");
            if let Err(e) = self.request(topic, what, done, |client, topic, answer| client.subscribe(topic, answer)) {
                if let Some(event) = batch.done(i, Err(e)) {
                    self.report(event);
                }
            }
        }
    }

    fn unsubscribe(&mut self, topics: &[String]) {
        let Some(attempt) = &self.attempt else { return };
        if let Some(client) = &*attempt.client.lock() {
            for topic in topics.iter().filter_map(|t| CString::new(t.as_str()).ok()) {
                // Without a connection there is no subscription either.
                let _ = client.unsubscribe(&topic);
            }
        }
    }

    fn publish(&mut self, id: u64, topic: &str, payload: Vec<u8>) {
        let done = {
            let topic = topic.to_owned();
            move |answer| {
                let result = match answer {
                    Ok(_) => Ok(()),
                    Err(Failure { reason: Some(reason), .. }) => Err(explain::not_published(&topic, reason)),
                    Err(failure) => Err(explain::unsent(format_args!("the message on `{topic}`"), &failure)),
                };
                Some(Event::Published { id, result })
            }
        };
        let what = format_args!("the message on `{topic}`");
        if let Err(e) = self.request(topic, what, done, |client, topic, answer| client.publish(topic, &payload, answer))
        {
            self.report(Event::Published { id, result: Err(e) });
        }
    }

    fn disconnect(&mut self, timeout: Duration) {
        // Kept while it drains: the next attempt ends it first, so that its `Lost` comes before that one's events.
        if let Some(attempt) = &self.attempt {
            attempt.close(timeout);
        }
    }
}

impl Mqtt {
    /// Makes a request of the library. `done` turns the answer into an event, if it is time for one. An error here means
    /// that `done` will not be called.
    fn request(
        &self,
        topic: &str,
        what: std::fmt::Arguments<'_>,
        done: impl FnOnce(Result<u8, Failure>) -> Option<Event> + Send + 'static,
        call: impl FnOnce(&Client, &std::ffi::CStr, paho::Answer) -> Result<(), (Failure, paho::Answer)>,
    ) -> Result<()> {
        let topic = CString::new(topic).map_err(|_| Error::invalid(format!("a topic must not hold NUL: {topic:?}")))?;
        let Some(attempt) = self.attempt.as_ref().filter(|a| a.begin()) else { return Err(not_connected(what)) };
        let client = attempt.client.lock();
        let Some(client) = &*client else {
            attempt.state.lock().outstanding -= 1;
            return Err(not_connected(what));
        };
        let answered = Arc::clone(attempt);
        call(client, &topic, Box::new(move |answer| answered.answered(answer, done))).map_err(|(failure, _)| {
            attempt.state.lock().outstanding -= 1;
            if failure.is_disconnected() {
                attempt.end(explain::lost(&attempt.target, None));
            }
            explain::unsent(what, &failure)
        })
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take().filter(|a| !a.is_closing()) {
            attempt.close(Duration::ZERO);
        }
        self.guards.wait(DROP_WAIT);
    }
}

/// One `subscribe` of several topics, each a request of its own.
struct Batch {
    id: u64,
    results: Mutex<Vec<Option<Result<(), Error>>>>,
}

impl Batch {
    /// Notes a result; the event when it was the last.
    fn done(&self, i: usize, result: Result<(), Error>) -> Option<Event> {
        let mut results = self.results.lock();
        results[i] = Some(result);
        if results.iter().any(Option::is_none) {
            return None;
        }
        Some(Event::Subscribed { id: self.id, results: results.drain(..).flatten().collect() })
    }
}

impl Attempt {
    fn new(target: Arc<Target>, events: UnboundedSender<Event>) -> Attempt {
        Attempt {
            deadline: Instant::now() + target.connect_timeout,
            target,
            events,
            state: Mutex::new(State { phase: Phase::Connecting, outstanding: 0, tls_trouble: None, topic: None }),
            changed: Condvar::new(),
            client: Mutex::new(None),
        }
    }

    /// Runs the guard's life. A panic is a fault of ours; without this the link would wait for ever for an answer.
    fn contain(&self, life: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(life)).is_err() {
            let client = self.client.lock().take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
            let what = "the thread of the MQTT connection panicked; please report it";
            self.end(Error::new(ErrorKind::Internal, what));
        }
    }

    /// The guard's life: makes the client, waits for its end, destroys it.
    fn guard(self: &Arc<Self>) {
        block_signals();
        let addresses = match resolve(&self.target.endpoint, self.deadline) {
            Ok(addresses) => addresses,
            Err(e) => return self.end(e),
        };
        let turn = match self.target.options.websocket {
            false => None,
            true => match WebSocketTurn::wait(self.deadline) {
                Some(turn) => Some(turn),
                None => return self.end(explain::another_websocket(&self.target)),
            },
        };
        // One signature, and one run of the program that may give the keys for it, for all that this attempt asks.
        let path = match self.target.path(self.deadline) {
            Ok(path) => path,
            Err(e) => return self.end(e),
        };
        let uri = match self.target.uri(&path) {
            Ok(uri) => uri,
            Err(e) => return self.end(e),
        };
        if let Err(failure) = self.start(&uri) {
            self.end(explain::unsent(format_args!("the request to connect to {}", self.target.endpoint), &failure));
        }
        let failure = self.wait();
        // Out of the lock before it is destroyed: that takes as long as the library is busy.
        let client = self.client.lock().take();
        drop(client);
        drop(turn);
        match failure {
            Some(failure) => {
                let tls = self.state.lock().tls_trouble.take();
                let now = Instant::now();
                let until = self.deadline.clamp(now + *DIAGNOSIS.start(), now + *DIAGNOSIS.end());
                self.end(explain::refusal(&self.target, &failure, tls.as_deref(), &path, &addresses, until));
            }
            None => self.end(ended_by_us()),
        }
    }

    fn start(self: &Arc<Self>, uri: &CStr) -> Result<(), Failure> {
        // Held until the client is in its place: whoever hears `Connected` finds it there.
        let mut place = self.client.lock();
        if matches!(self.state.lock().phase, Phase::Ended) {
            return Ok(());
        }
        let client = Client::new(uri, &self.target.options, Arc::clone(self) as Arc<dyn Listener>)?;
        client.connect(&self.target.options)?;
        *place = Some(client);
        Ok(())
    }

    /// Waits until the client is to be destroyed; the failure, when that is why.
    fn wait(&self) -> Option<Failure> {
        let mut state = self.state.lock();
        loop {
            match &state.phase {
                Phase::Ended => return None,
                Phase::Failed(failure) => return Some(failure.clone()),
                Phase::Connected => self.changed.wait(&mut state),
                Phase::Connecting if Instant::now() < self.deadline => {
                    self.changed.wait_until(&mut state, self.deadline);
                }
                Phase::Connecting => {
                    let error = timed_out(&self.target);
                    self.end_locked(&mut state, error);
                }
                Phase::Draining(deadline) if state.outstanding > 0 && Instant::now() < *deadline => {
                    let deadline = *deadline;
                    self.changed.wait_until(&mut state, deadline);
                }
                Phase::Draining(_) | Phase::Closing => {
                    state.phase = Phase::Closing;
                    return None;
                }
            }
        }
    }

    /// Whether a request can be made now; it is counted.
    fn begin(&self) -> bool {
        let mut state = self.state.lock();
        let can = matches!(state.phase, Phase::Connected);
        state.outstanding += usize::from(can);
        can
    }

    /// In a callback: the answer to a request.
    fn answered(&self, answer: Result<u8, Failure>, done: impl FnOnce(Result<u8, Failure>) -> Option<Event>) {
        let mut state = self.state.lock();
        state.outstanding -= 1;
        if state.outstanding == 0 {
            self.changed.notify_all();
        }
        if !matches!(state.phase, Phase::Connected | Phase::Draining(_)) {
            return;
        }
        if matches!(answer, Err(Failure { reason: None, .. })) {
            // The library gives requests back only when their connection is gone: that answers them all.
            return self.end_locked(&mut state, explain::lost(&self.target, None));
        }
        if let Some(event) = done(answer) {
            let _ = self.events.send(event);
        }
    }

    /// Whether it was told to end and has its own time for that.
    fn is_closing(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Draining(_) | Phase::Closing)
    }

    /// Ends this attempt on the caller's behalf.
    fn close(&self, timeout: Duration) {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Connected if !timeout.is_zero() => {
                state.phase = Phase::Draining(Instant::now() + timeout);
                self.changed.notify_all();
            }
            Phase::Draining(_) | Phase::Closing if !timeout.is_zero() => {}
            _ => self.end_locked(&mut state, ended_by_us()),
        }
    }

    /// Reports the end, unless that was done.
    fn end(&self, error: Error) {
        self.end_locked(&mut self.state.lock(), error);
    }

    fn end_locked(&self, state: &mut State, error: Error) {
        let event = match state.phase {
            Phase::Ended => return,
            Phase::Connecting | Phase::Failed(_) => Event::Refused(error),
            Phase::Connected | Phase::Draining(_) | Phase::Closing => Event::Lost(error),
        };
        state.phase = Phase::Ended;
        let _ = self.events.send(event);
        self.changed.notify_all();
    }
}

impl Listener for Attempt {
    fn connected(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Connecting) {
            state.phase = Phase::Connected;
            let _ = self.events.send(Event::Connected);
            self.changed.notify_all();
        }
    }

    fn failed(&self, failure: Failure) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Connecting) {
            state.phase = Phase::Failed(failure);
            self.changed.notify_all();
        }
    }

    fn lost(&self, reason: Option<u8>) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Connected | Phase::Draining(_)) {
            let error = explain::lost(&self.target, reason);
            self.end_locked(&mut state, error);
        }
    }

    fn message(&self, topic: &str, payload: &[u8], retained: bool, qos: u8) {
        let payload = payload.to_vec();
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Connected | Phase::Draining(_)) {
            return;
        }
        let topic = match &state.topic {
            Some(last) if **last == *topic => Arc::clone(last),
            _ => Arc::clone(state.topic.insert(topic.into())),
        };
        let _ = self.events.send(Event::Message { topic, payload, retained, qos });
    }

    fn tls_trouble(&self, text: &str) {
        self.state.lock().tls_trouble.get_or_insert_with(|| explain::openssl_reason(text));
    }

    fn panicked(&self) {
        // Something that the broker thinks delivered is gone. Only a new connection makes that good.
        self.end(Error::new(ErrorKind::Internal, "a callback of the MQTT connection panicked; please report it"));
    }
}

impl Guards {
    fn enter(self: &Arc<Self>) -> Running {
        *self.running.lock() += 1;
        Running(Arc::clone(self))
    }

    fn wait(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut running = self.running.lock();
        while *running > 0 && !self.ended.wait_until(&mut running, deadline).timed_out() {}
    }
}

/// Held by a running guard.
struct Running(Arc<Guards>);

impl Drop for Running {
    fn drop(&mut self) {
        *self.0.running.lock() -= 1;
        self.0.ended.notify_all();
    }
}

impl Target {
    fn new(config: &ClientConfig, endpoint: Endpoint, client_id: &str) -> Result<Target> {
        let v5 = config.mqtt_version == MqttVersion::V5;
        let access = (endpoint.scheme == Scheme::AwsIot).then(|| Access::new(config, &endpoint));
        let username = match &access {
            Some(access) => access.username(config.username.as_deref()),
            None => config.username.clone(),
        };
        let mut tls = endpoint.scheme.is_tls().then(|| config.tls.clone());
        if let (Some(tls), Some(protocol)) = (&mut tls, access.as_ref().and_then(Access::alpn)) {
            if tls.alpn.is_empty() {
                tls.alpn.push(protocol.to_owned());
            }
        }
        let options = paho::Options {
            client_id: text("client_id", client_id)?,
            v5,
            websocket: matches!(endpoint.scheme, Scheme::Ws | Scheme::Wss)
                || access.as_ref().is_some_and(Access::websocket),
            keep_alive_s: i32::try_from(config.keep_alive.as_secs()).unwrap_or(i32::MAX),
            connect_timeout_s: i32::try_from(config.connect_timeout.as_secs() + 60).unwrap_or(i32::MAX),
            username: username.map(|name| text("username", &name)).transpose()?,
            password: config.password.clone(),
            tls: tls.as_ref().map(for_paho).transpose()?,
        };
        Ok(Target { endpoint, access, options, tls, connect_timeout: config.connect_timeout })
    }

    /// The library's spelling of where to connect.
    fn uri(&self, path: &str) -> Result<CString> {
        let mut endpoint = Endpoint { path: path.to_owned(), ..self.endpoint.clone() };
        if self.access.is_some() {
            endpoint.scheme = if self.options.websocket { Scheme::Wss } else { Scheme::Mqtts };
        }
        text("url", &uri(&endpoint))
    }

    /// The path to ask a web server for; with a signature, a new one each time.
    fn path(&self, deadline: Instant) -> Result<String> {
        match &self.access {
            Some(access) if access.websocket() => access.signed_path(deadline),
            _ => Ok(self.endpoint.path.clone()),
        }
    }
}

fn timed_out(target: &Target) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!(
            "no answer from {} within {:?}; check host, port and firewall, or raise `connect_timeout`",
            target.endpoint, target.connect_timeout
        ),
    )
}

/// The library's spelling of the endpoint.
fn uri(endpoint: &Endpoint) -> String {
    let Endpoint { scheme, host, port, path } = endpoint;
    // The library finds the port after the last colon, also behind the path's; and it checks a certificate against an
    // IPv6 address only when that has no brackets, which the `Host` line of a WebSocket needs.
    let path = path.replace(':', "%3A");
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    match scheme {
        Scheme::Ws => format!("ws://{bracketed}:{port}{path}"),
        Scheme::Wss => format!("wss://{bracketed}:{port}{path}"),
        Scheme::Mqtts | Scheme::AwsIot => format!("mqtts://{host}:{port}"),
        Scheme::Mqtt | Scheme::Memory => format!("mqtt://{host}:{port}"),
    }
}

/// TLS options as the library wants them.
fn for_paho(tls: &TlsConfig) -> Result<paho::Tls> {
    let file = |name: &str, path: &Option<std::path::PathBuf>| path.as_deref().map(|p| readable(name, p)).transpose();
    let mut alpn = Vec::new();
    for name in &tls.alpn {
        if name.is_empty() || name.len() > 255 {
            return Err(Error::config(format!("option `tls.alpn` must hold names of 1 to 255 bytes, not {name:?}")));
        }
        alpn.push(name.len() as u8);
        alpn.extend_from_slice(name.as_bytes());
    }
    let alpn = match alpn.is_empty() {
        true => None,
        false => Some(CString::new(alpn).map_err(|_| Error::config("option `tls.alpn` must not hold NUL"))?),
    };
    let (ca_file, ca_dir) = match &tls.ca_file {
        Some(_) => (file("tls.ca_file", &tls.ca_file)?, None),
        None => {
            let roots = roots::system()?;
            let path = |path: OsString| CString::new(path.into_encoded_bytes()).ok();
            (roots.file.map(OsString::from).and_then(path), roots.dir.and_then(path))
        }
    };
    Ok(paho::Tls {
        ca_file,
        ca_dir,
        cert_file: file("tls.cert_file", &tls.cert_file)?,
        key_file: file("tls.key_file", &tls.key_file)?,
        alpn,
    })
}

/// A file that can be opened now, as the library wants its name: what it finds wrong later it does not tell.
fn readable(name: &str, path: &Path) -> Result<CString> {
    let bad = |why: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Tls,
            format!(
                "option `{name}`: cannot read {}: {why}; name a PEM file that this process may read",
                path.display()
            ),
        )
    };
    let meta = File::open(path).and_then(|f| f.metadata()).map_err(|e| bad(&e))?;
    if !meta.is_file() {
        return Err(bad(&"it is not a file"));
    }
    text(name, path.to_str().ok_or_else(|| bad(&"its name is not UTF-8"))?)
}

fn text(name: &str, value: &str) -> Result<CString> {
    CString::new(value).map_err(|_| Error::config(format!("option `{name}` must not hold NUL")))
}

/// The addresses of the endpoint's host. The library looks them up again, but under its lock and without a limit of
/// time, so a name that cannot be found should not get that far.
fn resolve(endpoint: &Endpoint, deadline: Instant) -> Result<Vec<SocketAddr>> {
    wire::look_up(&endpoint.host, endpoint.port, deadline).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => Error::new(
            ErrorKind::Timeout,
            format!("the host of {endpoint} was not found in time; check this machine's name service, or raise `connect_timeout`"),
        ),
        _ => Error::new(
            ErrorKind::Connect,
            format!("cannot find the host of {endpoint}: {e}; check the host in `url` and this machine's name service"),
        ),
    })
}

/// Keeps the host program's signals off this thread and the library's, which inherit its mask. Faults stay: the host may handle its own.
fn block_signals() {
    #[cfg(unix)]
    // SAFETY: plain data, filled before it is used; only this thread's mask changes.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&mut set);
        for fault in
            [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS]
        {
            libc::sigdelset(&mut set, fault);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc::unbounded_channel;

    #[test]
    fn a_panic_of_the_guard_ends_the_attempt() {
        let config = ClientConfig::from_url("mqtt://127.0.0.1:1").unwrap();
        let (events, mut heard) = unbounded_channel();
        let target = Target::new(&config, config.endpoint().unwrap(), "me").unwrap();
        let attempt = Attempt::new(Arc::new(target), events);
        attempt.contain(|| panic!("as a fault in the guard would"));
        match heard.try_recv() {
            Ok(Event::Refused(e)) => assert_eq!(e.kind(), ErrorKind::Internal, "{e}"),
            other => panic!("{other:?}"),
        }
    }
}
