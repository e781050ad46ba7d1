//! What the broker does with a client: lets it in, subscribes it, carries its messages, forgets it.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::time::{timeout, timeout_at, Instant};
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
    let deadline = Instant::now();
    let mut patient = Patient { config, id, transport, events, topics, own, last: 1, deadline, retained: Vec::new() };
    let result = patient.check(report).await;
    patient.transport.disconnect(SILENCE);
    let _ =
        timeout(SILENCE, async { while !matches!(patient.events.recv().await, Some(Event::Lost(_)) | None) {} }).await;
    result
}

struct Patient<'a> {
    config: &'a ClientConfig,
    /// The client id.
    id: String,
    transport: Box<dyn Transport>,
    events: UnboundedReceiver<Event>,
    /// The caches' topics.
    topics: Vec<String>,
    own: String,
    last: u64,
    /// Until then what was asked for last must be answered, however much else comes meanwhile.
    deadline: Instant,
    /// Topics on which the broker keeps a message.
    retained: Vec<String>,
}

/// Something asked of the broker.
struct Asked {
    what: String,
    /// What AWS IoT Core calls it, and what it acts upon.
    action: &'static str,
    resource: String,
}

impl Asked {
    fn subscription(filter: &str) -> Asked {
        Asked {
            what: format!("the subscription to `{filter}`"),
            action: "iot:Subscribe",
            resource: format!("topicfilter/{filter}"),
        }
    }

    fn message(topic: &str) -> Asked {
        Asked { what: format!("a message on `{topic}`"), action: "iot:Publish", resource: format!("topic/{topic}") }
    }
}

impl Patient<'_> {
    async fn check(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        let begin = Instant::now();
        if let Err(e) = self.connect().await {
            let mut words = e.message().to_owned();
            if self.config.is_aws() && e.kind() == ErrorKind::Auth {
                words += &format!("; {}", must_allow("iot:Connect", &format!("client/{}", self.id)));
            }
            return report.add(Check::failed(name_of(&e), words));
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

    /// The next event, within the time that what was asked for has; an `Err` if there is none, or the connection goes.
    async fn event(&mut self, name: &'static str, asked: &Asked) -> Result<Event, Check> {
        match self.next().await {
            Some(Event::Lost(e)) => Err(Check::failed(name, self.thrown_out(asked, &e))),
            Some(event) => Ok(event),
            None => Err(Check::failed(
                name,
                format!(
                    "no answer to {} within `connect_timeout` ({:?}); the broker or a proxy before it does not carry it: look into its log",
                    asked.what, self.config.connect_timeout
                ),
            )),
        }
    }

    /// The next event before the deadline, which is looked at each time: where others are busy there always is one.
    async fn next(&mut self) -> Option<Event> {
        if Instant::now() >= self.deadline {
            return None;
        }
        let event = timeout_at(self.deadline, self.events.recv()).await.ok().flatten()?;
        if let Event::Message { topic, retained: true, .. } = &event {
            self.retained.push(topic.to_string());
        }
        Some(event)
    }

    fn thrown_out(&self, asked: &Asked, e: &Error) -> String {
        self.ended(&asked.what, e, &self.remedy(asked))
    }

    /// What lets this client do it.
    fn remedy(&self, asked: &Asked) -> String {
        match self.config.is_aws() {
            true => must_allow(asked.action, &asked.resource),
            false => "the broker's access rules most likely forbid it: allow it there".to_owned(),
        }
    }

    /// A refusal in the broker's words, and on AWS IoT Core in a policy's.
    fn refused(&self, asked: &Asked, e: &Error) -> String {
        match self.config.is_aws() && e.kind() == ErrorKind::Auth {
            true => format!("{}; {}", e.message(), self.remedy(asked)),
            false => e.message().to_owned(),
        }
    }

    /// The broker ended the connection over something; `else_why` if no other client explains it.
    fn ended(&self, what: &str, e: &Error, else_why: &str) -> String {
        let said = format!("the broker ended the connection over {what} ({})", e.message());
        match &self.config.client_id {
            // Its words say it all.
            _ if e.kind() == ErrorKind::Config => e.message().to_owned(),
            Some(id) if e.kind() != ErrorKind::Auth => format!(
                "{said}; another client may use the `client_id` {id:?} too: leave it out here, or end that client; else {else_why}"
            ),
            _ => format!("{said}; {else_why}"),
        }
    }

    /// One at a time: AWS IoT Core ends the connection over one that it does not allow, and does not say which it was.
    async fn subscribe(&mut self) -> Result<Check, Check> {
        const NAME: &str = "subscribe";
        let mut filters = self.topics.clone();
        filters.push(self.own.clone());
        let mut refusals = Vec::new();
        for filter in &filters {
            let (id, asked) = (self.ask(), Asked::subscription(filter));
            self.transport.subscribe(id, std::slice::from_ref(filter));
            let answer = loop {
                match self.event(NAME, &asked).await {
                    Ok(Event::Subscribed { id: answered, results }) if answered == id => break results,
                    Ok(_) => {}
                    // What was refused before says more than that the connection then ended.
                    Err(_) if !refusals.is_empty() => return Err(Check::failed(NAME, refusals.join("; "))),
                    Err(check) => return Err(check),
                }
            };
            refusals.extend(answer.into_iter().filter_map(Result::err).map(|e| self.refused(&asked, &e)));
        }
        match refusals.is_empty() {
            true => Ok(Check::ok(NAME, format!("QoS 1 granted for {}", filters.join(", ")))),
            false => Err(Check::failed(NAME, refusals.join("; "))),
        }
    }

    /// An empty message says nothing to anybody: it shows whether this client may speak, and hear, where the caches do.
    async fn publish_empty(&mut self) -> Result<Check, Check> {
        const NAME: &str = "publish";
        for topic in self.topics.clone() {
            self.there_and_back(NAME, &topic, Vec::new()).await?;
        }
        Ok(Check::ok(NAME, format!("messages on {} are taken, and come back", self.topics.join(", "))))
    }

    /// Sends it and waits until it is taken, and heard.
    async fn there_and_back(&mut self, name: &'static str, topic: &str, payload: Vec<u8>) -> Result<(), Check> {
        let asked = Asked::message(topic);
        let id = self.send(topic, payload.clone());
        let (mut taken, mut heard) = (false, false);
        while !(taken && heard) {
            match self.event(name, &asked).await {
                Ok(Event::Published { id: answered, result: Err(e) }) if answered == id => {
                    return Err(Check::failed(name, self.refused(&asked, &e)))
                }
                Ok(Event::Published { id: answered, .. }) => taken |= answered == id,
                Ok(Event::Message { topic: on, payload: got, retained: false, .. }) => {
                    heard |= *on == *topic && got == payload
                }
                Ok(_) => {}
                Err(_) if taken && Instant::now() >= self.deadline => {
                    return Err(Check::failed(name, self.unheard(topic)))
                }
                Err(check) => return Err(check),
            }
        }
        Ok(())
    }

    fn unheard(&self, topic: &str) -> String {
        let remedy = match self.config.is_aws() {
            true => must_allow("iot:Receive", &format!("topic/{topic}")),
            false => "it may let this client subscribe there and not receive (mosquitto: `topic readwrite` in the ACL)"
                .into(),
        };
        format!(
            "the broker took a message on `{topic}`, which did not come back within `connect_timeout` ({:?}); {remedy}",
            self.config.connect_timeout
        )
    }

    async fn round_trips(&mut self) -> Result<Check, Check> {
        const NAME: &str = "roundtrip";
        let mut times = Vec::new();
        for i in 0..TRIPS {
            let begin = Instant::now();
            self.there_and_back(NAME, &self.own.clone(), format!("{i}").into_bytes()).await?;
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
        let id = self.send(&self.own.clone(), payload);
        let remedy = format!("raise the broker's limit of a message's size to {LONGEST} bytes and more (mosquitto: message_size_limit, max_packet_size)");
        loop {
            match self.next().await {
                Some(Event::Message { payload, .. }) if payload.len() == length => {
                    return Ok(Check::ok(NAME, format!("messages of {length} bytes come through")));
                }
                Some(Event::Published { id: answered, result: Err(e) }) if answered == id => {
                    // Some brokers then end the connection.
                    return Err(Check::failed(
                        NAME,
                        format!("a message of {length} bytes was refused ({}); {remedy}", e.message()),
                    ));
                }
                Some(Event::Lost(e)) => {
                    let what = format!("a message of {length} bytes");
                    return Err(Check::failed(NAME, self.ended(&what, &e, &remedy)));
                }
                Some(_) => {}
                None => break,
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
        self.deadline = Instant::now() + 2 * SILENCE;
        while !missing.is_empty() {
            match self.next().await {
                Some(Event::Message { topic, payload, .. }) if *topic == *own => {
                    let number =
                        std::str::from_utf8(&payload).ok().and_then(|t| t.strip_prefix("burst ")?.parse().ok());
                    if let Some(number) = number {
                        self.deadline = Instant::now() + 2 * SILENCE;
                        swapped += usize::from(number < last);
                        last = last.max(number);
                        missing.remove(&number);
                    }
                }
                Some(Event::Lost(e)) => {
                    let remedy = "set `max_publish_rate` below its limit, or raise that";
                    return Err(Check::failed(NAME, self.ended(&format!("{count} messages at once"), &e, remedy)));
                }
                Some(_) => {}
                None => break,
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
        self.deadline = Instant::now() + SILENCE;
        while let Some(event) = self.next().await {
            match event {
                Event::Message { payload, .. } if payload == b"session" => {
                    return Ok(Check::failed(
                        NAME,
                        "the broker still has the subscriptions of an earlier connection, though a clean session was asked for: what it queued meanwhile \
                         arrives late and in bursts; turn persistent sessions off for these clients",
                    ));
                }
                Event::Lost(e) => {
                    let what = "a second connection";
                    return Err(Check::failed(NAME, self.ended(what, &e, "look into the broker's log")));
                }
                _ => {}
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
        let id = self.ask();
        self.transport.publish(id, topic, payload);
        id
    }

    /// A number for what is asked for now, and time for its answer.
    fn ask(&mut self) -> u64 {
        self.deadline = Instant::now() + self.config.connect_timeout;
        self.last += 1;
        self.last
    }
}

/// What AWS IoT Core's policy lacks.
fn must_allow(action: &str, resource: &str) -> String {
    format!("the policy of this client's identity must allow `{action}` on `{resource}`; a change of it takes up to 8 minutes to be seen")
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
