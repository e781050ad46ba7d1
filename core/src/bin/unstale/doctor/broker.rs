//! What the broker does with a client: lets it in, subscribes it, carries its messages, forgets it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::time::timeout;
use unstale::transport::{self, Event, Transport};
use unstale::{ClientConfig, Error, ErrorKind};

use super::network::scheme;
use super::report::{Check, Report};
use crate::describe::now_ms;
use crate::failure::Failure;

/// Round trips that are measured.
const TRIPS: usize = 5;
/// Messages sent at once, to see whether all come back and in order.
const BURST: usize = 1_500;
/// The same for AWS IoT Core, which takes 100 a second.
const BURST_AWS: usize = 60;
/// The longest message that is sent to a broker; to AWS IoT Core.
const LONGEST: usize = 64 * 1024;
const LONGEST_AWS: usize = 4_800;
/// For how long nothing may happen before it is settled that nothing will.
const SILENCE: Duration = Duration::from_secs(1);

/// All checks; those that build on a failed one are left out.
pub async fn check(config: &ClientConfig, namespaces: &[String], report: &mut Report<'_>) -> Result<(), Failure> {
    // As the services' names are made, so that access rules for them fit.
    let name = format!("{}-doctor-{:x}", config.app, now_ms());
    let id = config.client_id.clone().unwrap_or_else(|| name.clone());
    let (sender, events) = unbounded_channel();
    let transport = match transport::open(config, &id, sender) {
        Ok(transport) => transport,
        Err(e) => return report.add(Check::failed("mqtt", e.to_string())),
    };
    let topics = match namespaces {
        [] => vec![config.topic.clone()],
        names => names
            .iter()
            .map(|n| if n.is_empty() { config.topic.clone() } else { format!("{}/{n}", config.topic) })
            .collect(),
    };
    // Where this client's probes would go.
    let own = format!("{}/_probe/{name}", config.topic);
    let mut patient = Patient { config, transport, events, topics, own, next: 1, retained: Vec::new() };
    let result = patient.check(report).await;
    patient.transport.disconnect(SILENCE);
    let _ =
        timeout(SILENCE, async { while !matches!(patient.events.recv().await, Some(Event::Lost(_)) | None) {} }).await;
    result
}

struct Patient<'a> {
    config: &'a ClientConfig,
    transport: Box<dyn Transport>,
    events: UnboundedReceiver<Event>,
    /// The caches' topics.
    topics: Vec<String>,
    own: String,
    next: u64,
    /// Topics on which the broker keeps a message.
    retained: Vec<String>,
}

impl Patient<'_> {
    async fn check(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        let begin = Instant::now();
        if let Err(e) = self.connect().await {
            return report.add(Check::failed(name_of(&e), e.message()));
        }
        if matches!(scheme(self.config), "mqtts" | "wss" | "awsiot") {
            report.add(Check::ok("tls", "certificate, host name and version are in order"))?;
        }
        report
            .add(Check::ok("mqtt", format!("the broker lets this client in ({} ms)", begin.elapsed().as_millis())))?;
        for step in
            [Step::Subscribe, Step::Publish, Step::Trips, Step::Retained, Step::Size, Step::Burst, Step::Session]
        {
            match self.step(step).await {
                Ok(check) => report.add(check)?,
                // Without a subscription or a connection the rest says nothing.
                Err(check) => return report.add(check),
            }
        }
        Ok(())
    }

    /// Kind and words of why not.
    async fn connect(&mut self) -> Result<(), Error> {
        self.transport.connect();
        loop {
            match self.events.recv().await {
                Some(Event::Connected) => return Ok(()),
                Some(Event::Refused(e)) => return Err(e),
                Some(_) => {}
                None => return Err(Error::new(ErrorKind::Internal, "the connection's events ended")),
            }
        }
    }

    /// An `Err` ends the examination.
    async fn step(&mut self, step: Step) -> Result<Check, Check> {
        match step {
            Step::Subscribe => self.subscribe().await,
            Step::Publish => self.publish_empty().await,
            Step::Trips => self.round_trips().await,
            Step::Retained => Ok(self.kept_messages()),
            Step::Size => self.long_message().await,
            Step::Burst => self.burst().await,
            Step::Session => self.session().await,
        }
    }

    /// The next event within the time that everything has; what it was for is told if there is none, or the connection goes.
    async fn event(&mut self, name: &'static str, what: &str) -> Result<Event, Check> {
        match timeout(self.config.connect_timeout, self.events.recv()).await {
            Ok(Some(Event::Lost(e))) => Err(Check::failed(name, self.thrown_out(what, &e))),
            Ok(Some(event)) => {
                if let Event::Message { topic, retained: true, .. } = &event {
                    self.retained.push(topic.to_string());
                }
                Ok(event)
            }
            _ => Err(Check::failed(
                name,
                format!(
                    "no answer to {what} within `connect_timeout` ({:?}); the broker or a proxy before it does not carry it: look into its log",
                    self.config.connect_timeout
                ),
            )),
        }
    }

    fn thrown_out(&self, what: &str, e: &Error) -> String {
        self.ended(
            what,
            e,
            "the broker's access rules most likely forbid it: allow it there (AWS IoT Core: in the policy)",
        )
    }

    /// The broker ended the connection over something; `else_why` if no other client explains it.
    fn ended(&self, what: &str, e: &Error, else_why: &str) -> String {
        let said = format!("the broker ended the connection over {what} ({})", e.message());
        match &self.config.client_id {
            // Its words say it all.
            _ if e.kind() == ErrorKind::Config => e.message().to_owned(),
            Some(id) => format!(
                "{said}; another client may use the `client_id` {id:?} too: leave it out here, or end that client; else {else_why}"
            ),
            None => format!("{said}; {else_why}"),
        }
    }

    async fn subscribe(&mut self) -> Result<Check, Check> {
        const NAME: &str = "subscribe";
        let mut filters = self.topics.clone();
        filters.push(self.own.clone());
        self.transport.subscribe(0, &filters);
        let what = format!("the subscription to {}", filters.join(", "));
        loop {
            if let Event::Subscribed { results, .. } = self.event(NAME, &what).await? {
                let refused: Vec<String> =
                    results.into_iter().filter_map(|r| r.err().map(|e| e.message().to_owned())).collect();
                return match refused.is_empty() {
                    true => Ok(Check::ok(NAME, format!("QoS 1 granted for {}", filters.join(", ")))),
                    false => Err(Check::failed(NAME, refused.join("; "))),
                };
            }
        }
    }

    /// An empty message says nothing to anybody: it shows whether this client may speak, and hear, where the caches do.
    async fn publish_empty(&mut self) -> Result<Check, Check> {
        const NAME: &str = "publish";
        for topic in self.topics.clone() {
            let id = self.send(&topic, Vec::new());
            let (mut taken, mut heard) = (false, false);
            while !(taken && heard) {
                let what = match taken {
                    false => format!("a message on `{topic}`"),
                    true => format!(
                        "a message on `{topic}`, which the broker took: it may let this client subscribe there and not receive (mosquitto: `topic readwrite` \
                         in the ACL; AWS IoT Core: `iot:Receive`). It should have come back as an answer"
                    ),
                };
                match self.event(NAME, &what).await? {
                    Event::Published { id: answered, result: Err(e) } if answered == id => {
                        return Err(Check::failed(NAME, e.message()))
                    }
                    Event::Published { id: answered, .. } => taken |= answered == id,
                    Event::Message { topic: on, payload, retained: false, .. } => {
                        heard |= *on == *topic && payload.is_empty()
                    }
                    _ => {}
                }
            }
        }
        Ok(Check::ok(NAME, format!("messages on {} are taken, and come back", self.topics.join(", "))))
    }

    async fn round_trips(&mut self) -> Result<Check, Check> {
        const NAME: &str = "roundtrip";
        let mut times = Vec::new();
        for i in 0..TRIPS {
            let begin = Instant::now();
            let payload = format!("{i}").into_bytes();
            self.send(&self.own.clone(), payload.clone());
            let what = format!("a message to this client itself on `{}`", self.own);
            loop {
                match self.event(NAME, &what).await? {
                    Event::Message { topic, payload: got, .. } if *topic == *self.own && got == payload => break,
                    Event::Published { result: Err(e), .. } => return Err(Check::failed(NAME, e.message())),
                    _ => {}
                }
            }
            times.push(begin.elapsed());
        }
        times.sort();
        let (median, worst) = (times[TRIPS / 2], times[TRIPS - 1]);
        let said = format!("{:.1} ms, at worst {:.1} ms", median.as_secs_f64() * 1e3, worst.as_secs_f64() * 1e3);
        // A probe goes every fifth of the bound and counts for 11/16 of it.
        let most = self.config.staleness_bound / 5;
        if worst > most {
            return Ok(Check::warning(
                NAME,
                format!("{said}, which is long for a bound of {:?}: entries will lapse without need; raise `staleness_bound`", self.config.staleness_bound),
            ));
        }
        Ok(Check::ok(NAME, said))
    }

    /// What came with the subscriptions.
    fn kept_messages(&self) -> Check {
        match self.retained.first() {
            None => Check::ok("retained", "the broker keeps no message on these topics"),
            Some(topic) => Check::warning(
                "retained",
                format!(
                    "the broker keeps a message on {topic}; caches ignore it, so whoever retains it is not heard after a reconnect: publish without \
                     `retain`, and remove it with mosquitto_pub -r -n -t {topic}"
                ),
            ),
        }
    }

    async fn long_message(&mut self) -> Result<Check, Check> {
        const NAME: &str = "size";
        let length = if self.config.is_aws() { LONGEST_AWS } else { LONGEST };
        let payload = vec![b'x'; length];
        self.send(&self.own.clone(), payload);
        let begin = Instant::now();
        let remedy = format!("raise the broker's limit of a message's size to {LONGEST} bytes and more (mosquitto: message_size_limit, max_packet_size)");
        while begin.elapsed() < self.config.connect_timeout {
            match timeout(self.config.connect_timeout, self.events.recv()).await {
                Ok(Some(Event::Message { payload, .. })) if payload.len() == length => {
                    return Ok(Check::ok(NAME, format!("messages of {length} bytes come through")));
                }
                Ok(Some(Event::Published { result: Err(e), .. })) => {
                    // Some brokers then end the connection.
                    return Err(Check::failed(
                        NAME,
                        format!("a message of {length} bytes was refused ({}); {remedy}", e.message()),
                    ));
                }
                Ok(Some(Event::Lost(e))) => {
                    let what = format!("a message of {length} bytes");
                    return Err(Check::failed(NAME, self.ended(&what, &e, &remedy)));
                }
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        Ok(Check::failed(NAME, format!("a message of {length} bytes was taken and never came back; {remedy}")))
    }

    /// Many messages at once: whether the broker's queue holds them, and their order.
    async fn burst(&mut self) -> Result<Check, Check> {
        const NAME: &str = "burst";
        let count = if self.config.is_aws() { BURST_AWS } else { BURST };
        let own = self.own.clone();
        for i in 0..count {
            self.send(&own, format!("burst {i}").into_bytes());
        }
        let (mut missing, mut last, mut swapped): (HashSet<usize>, usize, usize) = ((0..count).collect(), 0, 0);
        while !missing.is_empty() {
            match timeout(2 * SILENCE, self.events.recv()).await {
                Ok(Some(Event::Message { topic, payload, .. })) if *topic == *own => {
                    let number =
                        std::str::from_utf8(&payload).ok().and_then(|t| t.strip_prefix("burst ")?.parse().ok());
                    if let Some(number) = number {
                        swapped += usize::from(number < last);
                        last = last.max(number);
                        missing.remove(&number);
                    }
                }
                Ok(Some(Event::Lost(e))) => {
                    let remedy = "set `max_publish_rate` below its limit, or raise that";
                    return Err(Check::failed(NAME, self.ended(&format!("{count} messages at once"), &e, remedy)));
                }
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        if !missing.is_empty() {
            return Ok(Check::warning(
                NAME,
                format!(
                    "of {count} messages sent at once {} were accepted and never delivered: its queue for a client is too short, or it drops. Caches notice such a \
                     loss and stay within their bound, but entries lapse: raise it (mosquitto: max_queued_messages, max_queued_bytes)",
                    missing.len()
                ),
            ));
        }
        if swapped > 0 && !self.config.reordering.unwrap_or_else(|| self.config.is_aws()) {
            return Ok(Check::failed(
                NAME,
                format!("of {count} messages {swapped} were overtaken: this broker keeps no order, so the bound does not hold here without the option `reordering=true`"),
            ));
        }
        let order = if swapped > 0 { "not all in order, which `reordering` allows for" } else { "in order" };
        Ok(Check::ok(NAME, format!("{count} messages sent at once came back, {order}")))
    }

    /// Whether the broker forgets a client that comes back.
    async fn session(&mut self) -> Result<Check, Check> {
        const NAME: &str = "session";
        if let Err(e) = self.connect_again().await {
            return Err(Check::failed(
                NAME,
                format!("after the first connection a second one failed: {}", e.message()),
            ));
        }
        self.send(&self.own.clone(), b"session".to_vec());
        let begin = Instant::now();
        while begin.elapsed() < SILENCE {
            match timeout(SILENCE - begin.elapsed().min(SILENCE), self.events.recv()).await {
                Ok(Some(Event::Message { payload, .. })) if payload == b"session" => {
                    return Ok(Check::failed(
                        NAME,
                        "the broker still has the subscriptions of an earlier connection, though a clean session was asked for: what it queued meanwhile \
                         arrives late and in bursts; turn persistent sessions off for these clients",
                    ));
                }
                Ok(Some(Event::Lost(e))) => {
                    return Err(Check::failed(NAME, self.thrown_out("a second connection", &e)))
                }
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        Ok(Check::ok(NAME, "a connection begins without what an earlier one had"))
    }

    /// AWS IoT Core takes one connect a second from one client id.
    async fn connect_again(&mut self) -> Result<(), Error> {
        tokio::time::sleep(Duration::from_millis(if self.config.is_aws() { 1_200 } else { 0 })).await;
        self.connect().await
    }

    fn send(&mut self, topic: &str, payload: Vec<u8>) -> u64 {
        self.next += 1;
        self.transport.publish(self.next, topic, payload);
        self.next
    }
}

#[derive(Clone, Copy)]
enum Step {
    Subscribe,
    Publish,
    Trips,
    Retained,
    Size,
    Burst,
    Session,
}

/// The check that a failed connect belongs to.
fn name_of(e: &Error) -> &'static str {
    match e.kind() {
        ErrorKind::Tls => "tls",
        ErrorKind::Auth => "login",
        _ => "mqtt",
    }
}
