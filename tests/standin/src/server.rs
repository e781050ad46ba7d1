//! Brings it up and runs the one loop: what comes from connections, timers and stdin goes to the broker, its answers to connections.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{json, Value};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender};
use tokio::time::sleep_until;

use crate::broker::{Broker, Input, Output};
use crate::config::Config;
use crate::faults::Faults;
use crate::listen;
use crate::report::Report;
use crate::session::{ConnectionId, Peer};

/// What connections share.
pub struct Hub {
    pub report: Arc<Report>,
    pub bytes_per_second: usize,
    events: UnboundedSender<Event>,
    started: Instant,
    connections: AtomicU64,
}

#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one")]
enum Event {
    Opened(ConnectionId, Peer, UnboundedSender<Output>),
    Input(ConnectionId, Input),
    Line(String),
    End,
}

/// A line of stdin. Each is answered by a line on stdout: the sums so far.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Command {
    Summary,
    /// Ends every connection, without a word.
    Cut,
    Faults(Faults),
}

impl Hub {
    pub fn open(&self, peer: Peer, outputs: UnboundedSender<Output>) -> ConnectionId {
        let id = self.connections.fetch_add(1, Ordering::Relaxed);
        self.send(Event::Opened(id, peer, outputs));
        id
    }

    pub fn tell(&self, id: ConnectionId, input: Input) {
        self.send(Event::Input(id, input));
    }

    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn send(&self, event: Event) {
        // The loop has ended when this fails, and the process is about to.
        let _ = self.events.send(event);
    }
}

/// Serves until stdin ends or SIGTERM comes.
///
/// # Errors
/// In words, when the configuration cannot be read or a port not be opened.
pub fn run(config: &str, report: Option<&str>) -> Result<(), String> {
    let config = Config::read(config)?;
    let report = Arc::new(Report::new(report)?);
    let (events, received) = unbounded_channel();
    let bytes_per_second = config.limits.bytes_per_second;
    let hub = Hub {
        report: report.clone(),
        bytes_per_second,
        events,
        started: Instant::now(),
        connections: AtomicU64::new(0),
    };
    let hub = Arc::new(hub);
    wait_for_sigterm(hub.clone());
    wait_for_stdin(hub.clone());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(serve(config, hub, received));
    report.end();
    outcome
}

async fn serve(mut config: Config, hub: Arc<Hub>, mut events: UnboundedReceiver<Event>) -> Result<(), String> {
    let ports = listen::open(&mut config, &hub).await?;
    say(&json!({"ports": ports}));
    let mut broker = Broker::new(config, hub.report.clone());
    let mut senders: HashMap<ConnectionId, UnboundedSender<Output>> = HashMap::new();
    loop {
        let due = broker.next_due().map(|due| (hub.started + due).into());
        let event = tokio::select! {
            event = events.recv() => event.unwrap_or(Event::End),
            () = async { sleep_until(due.expect("checked")).await }, if due.is_some() => {
                broker.on_time(hub.now());
                pass_on(&mut broker, &mut senders);
                continue;
            }
        };
        let now = hub.now();
        match event {
            Event::Opened(id, peer, sender) => {
                senders.insert(id, sender);
                broker.handle(id, Input::Opened(peer), now);
            }
            Event::Input(id, input) => {
                let is_closed = matches!(input, Input::Closed);
                broker.handle(id, input, now);
                if is_closed {
                    senders.remove(&id);
                }
            }
            Event::Line(line) => {
                let answer = command(&mut broker, &line, now);
                say(&answer.map_or_else(|problem| json!({"error": problem}), |()| hub.report.summary()));
            }
            Event::End => return Ok(()),
        }
        // What is due by now, in the same turn.
        broker.on_time(hub.now());
        pass_on(&mut broker, &mut senders);
    }
}

fn command(broker: &mut Broker, line: &str, now: Duration) -> Result<(), String> {
    match serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))? {
        Command::Summary => {}
        Command::Cut => broker.cut_all(now),
        Command::Faults(faults) => broker.set_faults(faults),
    }
    Ok(())
}

fn pass_on(broker: &mut Broker, senders: &mut HashMap<ConnectionId, UnboundedSender<Output>>) {
    for (id, output) in broker.outputs() {
        if let Some(sender) = senders.get(&id) {
            // It fails when the connection ends just now.
            let _ = sender.send(output);
        }
    }
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn wait_for_stdin(hub: Arc<Hub>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            hub.send(Event::Line(line));
        }
        hub.send(Event::End);
    });
}

/// Blocks the signal in this thread, and so in all that are started after, but for the one that waits for it.
fn wait_for_sigterm(hub: Arc<Hub>) {
    // SAFETY: the set is initialised by `sigemptyset` before it is read, and both outlive the calls.
    let signals = unsafe {
        let mut signals = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
        signals
    };
    std::thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: both pointers are to locals.
        unsafe { libc::sigwait(&signals, &mut signal) };
        hub.send(Event::End);
    });
}
