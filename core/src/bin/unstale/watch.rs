//! `unstale watch`: one line per message, live.

use std::time::Duration;

use serde_json::{json, Value};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use unstale::message;
use unstale::transport::{self, Event, Transport};
use unstale::{ClientConfig, Error, ErrorKind};

use crate::connection::Connection;
use crate::describe::{now_ms, utc, verdict_name, Reading};
use crate::failure::Failure;
use crate::output::{quoted, Look, Output};
use crate::signals;

/// Pause before the first attempt to connect again; each further one doubles it, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How long a farewell to the broker may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Show invalidations live, one line per message.
///
/// Looks at the topic and everything below it, or at the namespaces given. It takes no part in the protocol: it has no
/// cache, sends nothing and changes nothing. Messages published while it is not connected are not shown.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,

    /// Only this namespace; may be repeated. "" is the cache without a namespace.
    #[arg(short, long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,

    /// One JSON object per line.
    #[arg(long)]
    json: bool,

    /// Also what invalidates nothing: probes, hellos, heartbeats, farewells, empty payloads.
    #[arg(short, long)]
    all_messages: bool,

    /// End after this many lines.
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  unstale watch --url mqtt://localhost
  unstale watch --url mqtt://localhost --namespace users --namespace prices
  unstale watch --url mqtt://localhost --json | jq 'select(.kind == \"malformed\")'
  unstale watch --url mqtts://broker.example.com --username me --ca-file ca.pem

Says on stderr when it is connected. Ends on Ctrl-C or SIGTERM, with exit code 0.";

pub fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
    let config = arguments.connection.config()?;
    for namespace in &arguments.namespaces {
        message::check_namespace(namespace)?;
    }
    let stop = signals::stop_requests()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Work(format!("cannot start: {e}")))?;
    runtime.block_on(async {
        let (sender, events) = unbounded_channel();
        // Unique enough: two watchers of one name would throw each other out of the broker.
        let id =
            config.client_id.clone().unwrap_or_else(|| format!("unstale-watch-{}-{:x}", std::process::id(), now_ms()));
        let transport = transport::open(&config, &id, sender)?;
        let mut watch = Watch { arguments, output, config: &config, transport, events, stop, shown: 0 };
        let result = watch.until_the_end().await;
        watch.say_goodbye().await;
        result
    })
}

struct Watch<'a> {
    arguments: &'a Arguments,
    output: &'a Output,
    config: &'a ClientConfig,
    transport: Box<dyn Transport>,
    events: UnboundedReceiver<Event>,
    stop: UnboundedReceiver<()>,
    shown: u64,
}

impl Watch<'_> {
    async fn until_the_end(&mut self) -> Result<(), Failure> {
        let filters = self.filters();
        let mut pause = FIRST_PAUSE;
        let mut watched_before = false;
        self.transport.connect();
        loop {
            let event = tokio::select! {
                biased;
                _ = self.stop.recv() => return Ok(()),
                event = self.events.recv() => event,
            };
            match event {
                None => return Err(Error::new(ErrorKind::Internal, "the connection's events ended").into()),
                Some(Event::Connected) => self.transport.subscribe(0, &filters),
                Some(Event::Subscribed { results, .. }) => {
                    results.into_iter().collect::<Result<Vec<()>, Error>>()?;
                    let gap = if watched_before { " again; what was published meanwhile is not shown" } else { "" };
                    self.output.note(&format!("watching {}{gap}", filters.join(", ")));
                    (pause, watched_before) = (FIRST_PAUSE, true);
                }
                Some(Event::Message { topic, payload, retained, .. }) => {
                    self.show(&topic, &payload, retained)?;
                    if Some(self.shown) == self.arguments.count {
                        return Ok(());
                    }
                }
                // A wrong URL or password does not mend itself, a broker that was there may come back.
                Some(Event::Refused(e) | Event::Lost(e)) if !watched_before => return Err(e.into()),
                Some(Event::Refused(e) | Event::Lost(e)) => {
                    self.output.warning(&format!("{e}; trying again in {pause:?}"));
                    tokio::select! {
                        biased;
                        _ = self.stop.recv() => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(LAST_PAUSE);
                    self.transport.connect();
                }
                Some(Event::Published { .. }) => {}
            }
        }
    }

    async fn say_goodbye(&mut self) {
        self.transport.disconnect(FAREWELL);
        let gone = async {
            while let Some(event) = self.events.recv().await {
                if matches!(event, Event::Lost(_) | Event::Refused(_)) {
                    break;
                }
            }
        };
        // Nothing is reported when there was no connection.
        let _ = tokio::time::timeout(FAREWELL, gone).await;
    }

    fn filters(&self) -> Vec<String> {
        let root = &self.config.topic;
        if self.arguments.namespaces.is_empty() {
            // MQTT 5, section 4.7.1.2: `a/#` matches `a` too.
            return vec![format!("{root}/#")];
        }
        let topic =
            |namespace: &String| if namespace.is_empty() { root.clone() } else { format!("{root}/{namespace}") };
        self.arguments.namespaces.iter().map(topic).collect()
    }

    fn show(&mut self, topic: &str, payload: &[u8], retained: bool) -> Result<(), Failure> {
        let place = Place::of(&self.config.topic, topic);
        let keys = self.config.signing_key.as_ref();
        let reading = Reading::of(payload).checked(topic, keys);
        let upkeep = matches!(place, Place::Probe(_)) || reading.kind().is_upkeep();
        if upkeep && !self.arguments.all_messages {
            return Ok(());
        }
        self.shown += 1;
        let line = if self.arguments.json {
            let probe = keys.map(|keys| verdict_name(keys.verify_probe(topic, payload).map(drop)));
            as_json(topic, &place, &reading, payload, retained, probe)
        } else {
            self.as_text(topic, &place, &reading, payload, retained)
        };
        self.output.line(&line)
    }

    fn as_text(&self, topic: &str, place: &Place, reading: &Reading, payload: &[u8], retained: bool) -> String {
        let pen = self.output.pen();
        let time = utc(now_ms());
        let name = match place {
            Place::Cache("") => pen.paint(Look::Cyan, format!("{:<10}", "(none)")),
            Place::Cache(namespace) => pen.paint(Look::Cyan, format!("{namespace:<10}")),
            Place::Probe(_) => pen.paint(Look::Dim, format!("{:<10}", "(probe)")),
            Place::Stray => pen.paint(Look::Yellow, quoted(topic)),
        };
        let text = match place {
            Place::Probe(src) => pen
                .paint(Look::Dim, format!("{}  from {}", quoted(&String::from_utf8_lossy(payload)), quoted(src)))
                .into_owned(),
            _ => reading.line(pen),
        };
        let mut line = format!("{}  {name}  {text}", pen.paint(Look::Dim, &time[11..]));
        if matches!(place, Place::Stray) {
            line.push_str(&pen.paint(Look::Yellow, "  no cache listens here"));
        }
        if retained {
            line.push_str(&pen.paint(Look::Yellow, "  retained: caches ignore it"));
        }
        line
    }
}

fn as_json(
    topic: &str,
    place: &Place,
    reading: &Reading,
    payload: &[u8],
    retained: bool,
    probe: Option<&str>,
) -> String {
    let mut object = json!({ "time": utc(now_ms()), "topic": topic });
    let fields = object.as_object_mut().expect("made as an object above");
    match place {
        Place::Cache(namespace) => drop(fields.insert("namespace".into(), (*namespace).into())),
        Place::Probe(_) | Place::Stray => drop(fields.insert("namespace".into(), Value::Null)),
    }
    if retained {
        fields.insert("retained".into(), true.into());
    }
    if let Place::Probe(src) = place {
        fields.insert("kind".into(), "probe".into());
        fields.insert("src".into(), (*src).into());
        fields.insert("payload".into(), String::from_utf8_lossy(payload).into());
        fields.extend(probe.map(|verdict| ("signature".into(), verdict.into())));
    } else {
        fields.extend(reading.json());
    }
    object.to_string()
}

/// What a topic is for.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    /// The cache of a namespace; "" for the one without.
    Cache(&'a str),
    /// A client's probes; its stream's name.
    Probe(&'a str),
    /// Below the root, but no cache can have it.
    Stray,
}

impl<'a> Place<'a> {
    fn of(root: &str, topic: &'a str) -> Self {
        match topic.strip_prefix(root) {
            Some("") => Place::Cache(""),
            Some(rest) => match rest.strip_prefix('/') {
                Some(name) => match name.strip_prefix("_probe/") {
                    Some(src) => Place::Probe(src),
                    None if !name.is_empty() && message::check_namespace(name).is_ok() => Place::Cache(name),
                    None => Place::Stray,
                },
                None => Place::Stray,
            },
            None => Place::Stray,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::Kind;

    #[test]
    fn a_topic_has_one_purpose() {
        let place = |topic| Place::of("cache/invalidate", topic);
        assert_eq!(place("cache/invalidate"), Place::Cache(""));
        assert_eq!(place("cache/invalidate/users"), Place::Cache("users"));
        assert_eq!(place("cache/invalidate/_probe/abc-1"), Place::Probe("abc-1"));
        for stray in ["cache/invalidate/", "cache/invalidate/a/b", "cache/invalidate/_x", "cache/invalidates", "other"]
        {
            assert_eq!(place(stray), Place::Stray, "{stray}");
        }
    }

    #[test]
    fn upkeep_is_what_invalidates_nothing() {
        for (payload, kind) in [
            ("", Kind::Empty),
            ("user:1", Kind::Invalidation),
            (r#"{"v":1,"all":true}"#, Kind::Invalidation),
            (r#"{"v":1,"src":"a","seq":3}"#, Kind::Heartbeat),
            (r#"{"v":1,"src":"a","seq":3,"bye":true}"#, Kind::Bye),
            (r#"{"v":1,"src":"a","hello":true,"bound":30000}"#, Kind::Hello),
            (r#"{"v":1,"#, Kind::Malformed),
        ] {
            assert_eq!(Reading::of(payload.as_bytes()).kind(), kind, "{payload}");
        }
        assert!(!Kind::Invalidation.is_upkeep() && !Kind::Malformed.is_upkeep());
    }
}
