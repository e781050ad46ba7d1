//! Options of a client and of a cache: the only definition, the only defaults and the only parser, for every language.
//!
//! A binding hands over a JSON object and says how it spells names and which unit a bare number has ([`Dialect`]).
//! Options come from, first wins: the argument, the URL's query, the environment (`UNSTALE_URL` and one `UNSTALE_…`
//! variable per option, `UNSTALE_TLS_CA_FILE` for nested ones), the default.

pub(crate) mod aws;
mod secret;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

pub use self::aws::AwsConfig;
pub use self::secret::Secret;
use crate::error::{Error, Result};
use crate::message::SigningKeys;

/// Shortest staleness bound: below it heartbeats and probes would outweigh the traffic they guard.
pub const MIN_STALENESS_BOUND: Duration = Duration::from_millis(500);
/// Longest staleness bound.
pub const MAX_STALENESS_BOUND: Duration = Duration::from_secs(3600);
/// Longest duration that any option or argument accepts (ten years).
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a bare number means where a duration is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds, fractions allowed (JSON, Python).
    Seconds,
    /// Milliseconds (Node).
    Millis,
}

/// How option names are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// `staleness_bound`
    Snake,
    /// `stalenessBound`
    Camel,
}

/// A language's manner of writing options.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Unit of bare numbers.
    pub unit: Unit,
    /// Spelling of names.
    pub case: Case,
}

impl Dialect {
    /// Snake case and seconds: JSON (C, Go, .NET), the URL's query, the environment, Python.
    pub const JSON: Dialect = Dialect { unit: Unit::Seconds, case: Case::Snake };
    /// Camel case and milliseconds.
    pub const NODE: Dialect = Dialect { unit: Unit::Millis, case: Case::Camel };

    /// A per-call duration in this dialect's unit.
    ///
    /// # Errors
    /// `InvalidArgument` naming `name`, when `value` is negative, not a number, or longer than ten years.
    pub fn duration(&self, name: &str, value: f64) -> Result<Duration> {
        let seconds = match self.unit {
            Unit::Seconds => value,
            Unit::Millis => value / 1e3,
        };
        seconds_to_duration(seconds)
            .ok_or_else(|| Error::invalid(format!("`{name}` must be a duration from 0 to ten years, not {value}")))
    }

    /// The error with options named as they are here.
    fn spell(&self, e: Error) -> Error {
        if self.case == Case::Snake {
            return e;
        }
        // Every second part is between backticks.
        let part = |(i, part): (usize, &str)| if i % 2 == 1 { snake_to_camel(part) } else { part.to_owned() };
        let message = e.message().split('`').enumerate().map(part).collect::<Vec<_>>().join("`");
        Error::new(e.kind(), message)
    }

    /// Options as the parser wants them: snake case, bare durations in seconds.
    fn normalise(&self, options: Map<String, Value>) -> Result<Map<String, Value>> {
        let mut out = Map::new();
        for (name, value) in options {
            let snake = match self.case {
                Case::Snake => name.clone(),
                Case::Camel => camel_to_snake(&name).ok_or_else(|| {
                    Error::config(format!("unknown option `{name}`; options are spelled in camelCase here"))
                })?,
            };
            let value = match value {
                Value::Null => continue,
                Value::Object(nested) if snake == "tls" || snake == "aws" => Value::Object(self.normalise(nested)?),
                Value::Number(n) if self.unit == Unit::Millis && DURATIONS.contains(&snake.as_str()) => {
                    Value::String(format!("{n}ms"))
                }
                other => other,
            };
            out.insert(snake, value);
        }
        Ok(out)
    }
}

/// The options that are durations.
const DURATIONS: [&str; 10] = [
    "staleness_bound",
    "connect_timeout",
    "keep_alive",
    "tombstone_ttl",
    "ttl",
    "idle_ttl",
    "negative_ttl",
    "stale_while_revalidate",
    "stale_if_error",
    "load_timeout",
];

/// Where a client without a URL connects to.
const DEFAULT_URL: &str = "memory://";

/// Options of a client. Built by [`ClientConfig::parse`], or from [`Default`] and the public fields.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// Where the broker is: `memory://name` (inside this process), `mqtt://`, `mqtts://`, `ws://`, `wss://`, `awsiot://endpoint`. Default none, which is
    /// `memory://` with one warning that nothing leaves this process.
    pub url: String,
    /// A name for this service, 1 to 32 of `[A-Za-z0-9_-]`; it begins the client id and the stream's name. Default `"unstale"`.
    pub app: String,
    /// Root of the topics. Default `"cache/invalidate"`.
    pub topic: String,
    /// No read is staler than this. 500 ms to 1 h, default 30 s.
    #[serde(deserialize_with = "duration")]
    pub staleness_bound: Duration,
    /// How long `connect` waits for the broker; also the limit of each later attempt. Default 5 s.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Duration,
    /// Return from `connect` before the broker answers, and keep trying. Default false.
    pub lazy: bool,
    /// MQTT keep-alive, whole seconds, 5 s to 1,200 s, with AWS IoT Core from 30 s. Default 30 s.
    #[serde(deserialize_with = "duration")]
    pub keep_alive: Duration,
    /// How many operations may wait to be published before they are collapsed to coarser ones. Default 10,000.
    pub outbox_limit: usize,
    /// A folder in which invalidations wait that the broker has not taken yet, so that they survive this process and are
    /// sent at the next start. Made if missing. Processes may share one; use one per broker. Default none. Unix only.
    pub outbox_dir: Option<PathBuf>,
    /// Most publications a second, 1 to 1,000,000, and at least ten in a `staleness_bound`: probes are five of them. Default none; 80
    /// with AWS IoT Core, which takes 100.
    pub max_publish_rate: Option<u32>,
    /// Whether the broker may reorder one publisher's messages. Default: true with AWS IoT Core, else false.
    pub reordering: Option<bool>,
    /// How long a version that was invalidated is remembered. Default 5 min.
    #[serde(deserialize_with = "duration")]
    pub tombstone_ttl: Duration,
    /// The MQTT client id, 1 to 128 bytes, no `$`. Default: made from `app`, unique per connection owner.
    pub client_id: Option<String>,
    /// `"5"` (default) or `"3.1.1"`.
    pub mqtt_version: MqttVersion,
    /// Keys, each `id:secret`, of which the first signs what this client publishes; what it receives must be signed with one of
    /// them, or is refused. Default none.
    pub signing_key: Option<SigningKeys>,
    /// With `signing_key`: whether to refuse what is not signed. False while keys are being introduced. Default true.
    pub require_signatures: Option<bool>,
    /// AWS IoT Core, for `awsiot://`.
    #[serde(deserialize_with = "secret::within")]
    pub aws: Option<AwsConfig>,
    /// The broker's user name.
    pub username: Option<String>,
    /// The broker's password.
    pub password: Option<Secret>,
    /// TLS, for `mqtts://`, `wss://` and `awsiot://`.
    #[serde(deserialize_with = "secret::within")]
    pub tls: TlsConfig,
}

/// Which MQTT to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MqttVersion {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V3,
}

impl<'de> Deserialize<'de> for MqttVersion {
    /// `"5"` and `"3.1.1"`, and what people write for them: the number 5, and 4, which 3.1.1 calls itself on the wire.
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<MqttVersion, D::Error> {
        let given = Value::deserialize(d)?;
        match given.as_str().map_or_else(|| given.to_string(), str::to_owned).as_str() {
            "5" | "5.0" => Ok(MqttVersion::V5),
            "3.1.1" | "4" => Ok(MqttVersion::V3),
            _ => Err(de::Error::custom(format!("must be \"5\" or \"3.1.1\", not {given}"))),
        }
    }
}

/// TLS options.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with this client's certificate; goes with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM file with this client's private key.
    pub key_file: Option<PathBuf>,
    /// Protocols to offer by ALPN.
    pub alpn: Vec<String>,
}

impl TlsConfig {
    /// The options that name files.
    fn files(&self) -> [(&'static str, Option<&Path>); 3] {
        [
            ("tls.ca_file", self.ca_file.as_deref()),
            ("tls.cert_file", self.cert_file.as_deref()),
            ("tls.key_file", self.key_file.as_deref()),
        ]
    }
}

impl fmt::Debug for TlsConfig {
    /// Paths are shown, but not a key that was given in the place of its path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsConfig");
        for (name, path) in self.files() {
            let name = name.trim_start_matches("tls.");
            match path {
                Some(path) if is_content(path) => shown.field(name, &"***"),
                path => shown.field(name, &path),
            };
        }
        shown.field("alpn", &self.alpn).finish()
    }
}

/// Whether this is what the file holds, not where it is.
fn is_content(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains(['\n', '\r']) || text.contains("-----BEGIN")
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            url: String::new(),
            app: "unstale".into(),
            topic: "cache/invalidate".into(),
            staleness_bound: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            lazy: false,
            keep_alive: Duration::from_secs(30),
            outbox_limit: 10_000,
            outbox_dir: None,
            max_publish_rate: None,
            reordering: None,
            tombstone_ttl: Duration::from_secs(300),
            client_id: None,
            mqtt_version: MqttVersion::V5,
            signing_key: None,
            require_signatures: None,
            aws: None,
            username: None,
            password: None,
            tls: TlsConfig::default(),
        }
    }
}

impl fmt::Debug for ClientConfig {
    /// Only what is named here is shown, and secrets show as `***`: a configuration ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("url", &redacted(self.url_or_default()))
            .field("app", &self.app)
            .field("topic", &self.topic)
            .field("staleness_bound", &self.staleness_bound)
            .field("username", &self.username.as_deref().map(shown_user))
            .field("password", &self.password)
            .field("signing_key", &self.signing_key)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// A URL without its password, for messages.
pub(crate) fn redacted(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut u) => {
            if u.password().is_some() {
                let _ = u.set_password(Some("***"));
            }
            // A `?` in a user name is escaped in a URL.
            if let Some((user, _)) = u.username().to_ascii_uppercase().split_once("%3F") {
                let shown = u.username()[..user.len()].to_owned();
                let _ = u.set_username(&shown);
            }
            u.set_query(None);
            u.set_fragment(None);
            u.to_string()
        }
        Err(_) => "(not a URL)".into(),
    }
}

/// What may be shown of a user name: behind a `?` AWS's custom authorizers are told their token and its signature.
pub(crate) fn shown_user(name: &str) -> &str {
    name.split('?').next().unwrap_or_default()
}

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub scheme: Scheme,
    /// Host name or address; for `memory://` the broker's name.
    pub host: String,
    pub port: u16,
    /// Path of a WebSocket, `/mqtt` unless given.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Memory,
    Mqtt,
    Mqtts,
    Ws,
    Wss,
    AwsIot,
}

impl Scheme {
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Scheme::Mqtts | Scheme::Wss | Scheme::AwsIot)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, path) = match self.scheme {
            Scheme::Memory => return write!(f, "memory://{}", self.host),
            Scheme::Mqtt => ("mqtt", ""),
            Scheme::Mqtts => ("mqtts", ""),
            Scheme::Ws => ("ws", self.path.as_str()),
            Scheme::Wss => ("wss", self.path.as_str()),
            Scheme::AwsIot => ("awsiot", ""),
        };
        write!(f, "{name}://{}:{}{path}", self.host, self.port)
    }
}

impl ClientConfig {
    /// Reads options from all their sources.
    ///
    /// `url` is the argument of that name; an `url` among `options` counts the same and must not differ.
    ///
    /// # Errors
    /// `Config`, naming the option: unknown, wrong type, out of range, contradictory, or not available in this version.
    pub fn parse(url: Option<&str>, options: Map<String, Value>, dialect: Dialect) -> Result<ClientConfig> {
        Self::parse_with_env(
            url,
            options,
            dialect,
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
        )
    }

    /// Options from a URL, its query, the environment and the defaults.
    ///
    /// # Errors
    /// As [`ClientConfig::parse`].
    pub fn from_url(url: &str) -> Result<ClientConfig> {
        Self::parse(Some(url), Map::new(), Dialect::JSON)
    }

    fn parse_with_env(
        url: Option<&str>,
        options: Map<String, Value>,
        dialect: Dialect,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<ClientConfig> {
        let mut merged = environment(env)?;
        let arguments = dialect.normalise(options)?;
        let url = match (url, arguments.get("url")) {
            (Some(a), Some(Value::String(b))) if a != b => {
                return Err(Error::config("`url` is given twice, with different values; give it once"))
            }
            (Some(a), _) => Some(a.to_owned()),
            (None, Some(Value::String(b))) => Some(b.clone()),
            // What it holds is not shown: it may be a URL with a password, in a list.
            (None, Some(_)) => {
                return Err(Error::config("option `url` must be a string, such as \"mqtt://localhost:1883\""))
            }
            (None, None) => match merged.get("url") {
                Some(Value::String(u)) => Some(u.clone()),
                _ => None,
            },
        };
        if let Some(url) = url {
            let parsed = parse_url(&url)?;
            check_cut_off(&parsed)?;
            for (name, value) in parsed.query_pairs() {
                if name == "url" {
                    return Err(Error::config("option `url` cannot be in the URL's own query"));
                }
                set_text(&mut merged, &name, &value, "the URL's query")?;
            }
            merged.insert("url".into(), Value::String(url));
        }
        for (name, value) in arguments {
            if name == "url" {
                continue;
            }
            match (merged.get_mut(&name), value) {
                (Some(Value::Object(old)), Value::Object(new)) => old.extend(new),
                (_, value) => {
                    merged.insert(name, value);
                }
            }
        }
        let made = typed(merged).and_then(|mut config: ClientConfig| {
            config.take_userinfo()?;
            config.validate()?;
            Ok(config)
        });
        made.map_err(|e| dialect.spell(e))
    }

    /// User and password of the URL become the options of that name.
    fn take_userinfo(&mut self) -> Result<()> {
        let mut url = parse_url(self.url_or_default())?;
        let decode = |s: &str| {
            percent_decode(s)
                .ok_or_else(|| Error::config("the URL's user or password is not UTF-8 after percent-decoding"))
        };
        if !url.username().is_empty() {
            let name = decode(url.username())?;
            if self.username.as_ref().is_some_and(|u| *u != name) {
                return Err(Error::config("option `username` contradicts the user in the URL; give one"));
            }
            self.username = Some(name);
        }
        if let Some(password) = url.password() {
            let password = Secret::from(decode(password)?);
            if self.password.as_ref().is_some_and(|p| *p != password) {
                return Err(Error::config("option `password` contradicts the password in the URL; give one"));
            }
            self.password = Some(password);
        }
        if url.has_host() && (!url.username().is_empty() || url.password().is_some()) {
            let _ = url.set_password(None);
            let _ = url.set_username("");
            self.url = url.to_string();
        }
        Ok(())
    }

    /// Checks ranges and contradictions.
    ///
    /// # Errors
    /// `Config`, naming the option.
    pub fn validate(&self) -> Result<()> {
        for (name, path) in self.tls.files() {
            if path.is_some_and(is_content) {
                return Err(Error::config(format!(
                    "option `{name}` holds what belongs into a file; give the file's path, not its contents (they are not shown here)"
                )));
            }
        }
        let endpoint = self.endpoint()?;
        range("staleness_bound", self.staleness_bound, MIN_STALENESS_BOUND, MAX_STALENESS_BOUND)?;
        range("connect_timeout", self.connect_timeout, Duration::from_millis(1), Duration::from_secs(600))?;
        range("keep_alive", self.keep_alive, Duration::from_secs(5), Duration::from_secs(1200))?;
        range("tombstone_ttl", self.tombstone_ttl, Duration::from_secs(1), MAX_DURATION)?;
        if self.outbox_limit == 0 {
            return Err(Error::config("option `outbox_limit` must be at least 1"));
        }
        if self.outbox_dir.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(Error::config("option `outbox_dir` is empty; name a folder, or leave the option out"));
        }
        if matches!(self.max_publish_rate, Some(0) | Some(1_000_001..)) {
            return Err(Error::config("option `max_publish_rate` must be from 1 to 1,000,000 a second"));
        }
        if let Some(rate) = self.max_publish_rate {
            // Probes, five in a bound, may take half of it; more, and nothing else would ever have its turn.
            let least = (10.0 / self.staleness_bound.as_secs_f64()).ceil();
            if f64::from(rate) < least {
                return Err(Error::config(format!(
                    "option `max_publish_rate` must be at least {least} a second with a `staleness_bound` of {:?}, not {rate}: \
                     its probes would leave nothing for invalidations; raise one of the two",
                    self.staleness_bound
                )));
            }
        }
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if self.app.is_empty() || self.app.len() > 32 || !self.app.chars().all(name) {
            return Err(Error::config(format!("option `app` must be 1 to 32 of A-Z a-z 0-9 _ -, not {:?}", self.app)));
        }
        if let Some(id) = &self.client_id {
            if id.is_empty() || id.len() > 128 || id.contains(['$', '\0']) {
                return Err(Error::config(format!(
                    "option `client_id` must be 1 to 128 bytes without `$` and NUL, not {id:?}"
                )));
            }
        }
        crate::message::check_topic(&self.topic)
            .map_err(|e| Error::config(format!("option `topic`: {}", e.message())))?;
        if self.password.is_some() && self.username.is_none() && self.mqtt_version == MqttVersion::V3 {
            return Err(Error::config("option `password` needs `username` in MQTT 3.1.1"));
        }
        let tls = &self.tls;
        if *tls != TlsConfig::default() && !endpoint.scheme.is_tls() {
            return Err(Error::config(format!(
                "option `tls` needs a URL that begins with mqtts://, wss:// or awsiot://, not {}",
                redacted(self.url_or_default())
            )));
        }
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            return Err(Error::config("options `tls.cert_file` and `tls.key_file` go together; give both or none"));
        }
        if self.require_signatures.is_some() && self.signing_key.is_none() {
            return Err(Error::config("option `require_signatures` needs `signing_key`"));
        }
        self.validate_aws(&endpoint)
    }

    /// The keys with which what arrives is checked; none where nothing is refused.
    pub(crate) fn required_keys(&self) -> Option<&SigningKeys> {
        self.signing_key.as_ref().filter(|_| self.require_signatures != Some(false))
    }

    pub(crate) fn url_or_default(&self) -> &str {
        if self.url.is_empty() {
            DEFAULT_URL
        } else {
            &self.url
        }
    }

    /// The broker's host and port.
    ///
    /// # Errors
    /// `Config` when the URL cannot be used.
    pub fn address(&self) -> Result<(String, u16)> {
        let endpoint = self.endpoint()?;
        Ok((endpoint.host, endpoint.port))
    }

    /// Where the URL points.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let url = parse_url(self.url_or_default())?;
        let (scheme, port) = match url.scheme() {
            "memory" => (Scheme::Memory, 0),
            "mqtt" => (Scheme::Mqtt, 1883),
            "mqtts" => (Scheme::Mqtts, 8883),
            "ws" => (Scheme::Ws, 80),
            "wss" => (Scheme::Wss, 443),
            "awsiot" => (Scheme::AwsIot, self.aws_port()),
            other => {
                return Err(Error::config(format!(
                    "unknown URL scheme `{other}://`; use memory://, mqtt://, mqtts://, ws://, wss:// or awsiot://"
                )))
            }
        };
        let host = url.host_str().unwrap_or("").trim_matches(['[', ']']).to_owned();
        if host.is_empty() && scheme != Scheme::Memory {
            return Err(Error::config(format!("option `url` has no host: {}", redacted(self.url_or_default()))));
        }
        let path = match url.path() {
            "" | "/" => "/mqtt".to_owned(),
            path if matches!(scheme, Scheme::Ws | Scheme::Wss) => path.to_owned(),
            path => {
                return Err(Error::config(format!(
                    "option `url` has a path, `{path}`, which only ws:// and wss:// use; remove it"
                )));
            }
        };
        Ok(Endpoint { scheme, host, port: url.port().unwrap_or(port), path })
    }
}

/// Options of a cache. Built by [`CacheConfig::parse`], or from [`Default`] and the public fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// How long an entry lives at most, 1 ms to ten years. Default 5 min. The staleness bound ends it earlier when freshness cannot be proved.
    #[serde(deserialize_with = "duration")]
    pub ttl: Duration,
    /// Lives end early by up to this share, so that entries loaded together do not expire together. 0 to 1, default 0.1.
    pub ttl_jitter: f64,
    /// Entries held at most, 1 to 2^32. Default 10,000.
    pub max_entries: u64,
    /// How long "not found" is cached. Default: not at all.
    #[serde(deserialize_with = "optional_duration")]
    pub negative_ttl: Option<Duration>,
    /// How long callers wait for a load of another caller. Default: as long as it takes.
    #[serde(deserialize_with = "optional_duration")]
    pub load_timeout: Option<Duration>,
    /// Life since the last read. Not available in this version.
    #[serde(deserialize_with = "optional_duration")]
    pub idle_ttl: Option<Duration>,
    /// Bytes held at most. Not available in this version.
    pub max_bytes: Option<u64>,
    /// Not available in this version.
    #[serde(deserialize_with = "optional_duration")]
    pub stale_while_revalidate: Option<Duration>,
    /// Not available in this version.
    #[serde(deserialize_with = "optional_duration")]
    pub stale_if_error: Option<Duration>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            ttl: Duration::from_secs(300),
            ttl_jitter: 0.1,
            max_entries: 10_000,
            negative_ttl: None,
            load_timeout: None,
            idle_ttl: None,
            max_bytes: None,
            stale_while_revalidate: None,
            stale_if_error: None,
        }
    }
}

impl CacheConfig {
    /// Reads options.
    ///
    /// # Errors
    /// `Config`, naming the option.
    pub fn parse(options: Map<String, Value>, dialect: Dialect) -> Result<CacheConfig> {
        let made =
            typed(dialect.normalise(options)?).and_then(|config: CacheConfig| config.validate().map(|()| config));
        made.map_err(|e| dialect.spell(e))
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// `Config`, naming the option.
    pub fn validate(&self) -> Result<()> {
        let shortest = Duration::from_millis(1);
        range("ttl", self.ttl, shortest, MAX_DURATION)?;
        for (name, value) in [("negative_ttl", self.negative_ttl), ("load_timeout", self.load_timeout)] {
            if let Some(value) = value {
                range(name, value, shortest, MAX_DURATION)?;
            }
        }
        if !(0.0..=1.0).contains(&self.ttl_jitter) {
            return Err(Error::config(format!("option `ttl_jitter` must be from 0 to 1, not {}", self.ttl_jitter)));
        }
        if self.max_entries == 0 || self.max_entries > 1 << 32 {
            return Err(Error::config(format!(
                "option `max_entries` must be from 1 to 2^32, not {}",
                self.max_entries
            )));
        }
        for (name, given) in [
            ("idle_ttl", self.idle_ttl.is_some()),
            ("max_bytes", self.max_bytes.is_some()),
            ("stale_while_revalidate", self.stale_while_revalidate.is_some()),
            ("stale_if_error", self.stale_if_error.is_some()),
        ] {
            if given {
                return Err(unavailable(name));
            }
        }
        Ok(())
    }
}

/// Options that are known and do nothing yet.
const UNAVAILABLE: [&str; 4] = ["idle_ttl", "max_bytes", "stale_while_revalidate", "stale_if_error"];

fn unavailable(name: &str) -> Error {
    Error::config(format!("option `{name}` is not available in this version; remove it"))
}

fn range(name: &str, value: Duration, min: Duration, max: Duration) -> Result<()> {
    if value < min || value > max {
        return Err(Error::config(format!("option `{name}` must be from {min:?} to {max:?}, not {value:?}")));
    }
    Ok(())
}

fn parse_url(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|e| {
        let why = match e {
            url::ParseError::RelativeUrlWithoutBase => {
                "it does not begin with mqtt://, mqtts://, ws://, wss://, awsiot:// or memory://".into()
            }
            other => other.to_string(),
        };
        Error::config(format!("option `url` is not a URL ({why}); write for example mqtt://localhost:1883"))
    })
}

/// A password with `/`, `?` or `#` ends the authority early, and what follows would be shown as a path or an option.
fn check_cut_off(url: &Url) -> Result<()> {
    let cut_off = |rest: &str| rest.contains('@') && url.username().is_empty() && url.password().is_none();
    let in_query = url.query().and_then(|q| q.split(['&', '=']).next()).is_some_and(cut_off);
    if cut_off(url.path()) || in_query || url.fragment().is_some_and(cut_off) {
        return Err(Error::config(
            "option `url` has an `@` behind its host; write `/`, `?`, `#` and `@` in the user, the password or the path as %2F, %3F, %23 and %40",
        ));
    }
    Ok(())
}

/// Reads the whole, and on a failure each option alone, so that the message can name the one at fault.
fn typed<T: for<'de> Deserialize<'de>>(options: Map<String, Value>) -> Result<T> {
    match T::deserialize(Value::Object(options.clone())) {
        Ok(config) => Ok(config),
        Err(whole) => {
            for (name, value) in options {
                if let Err(e) = accepts::<T>(&name, value) {
                    return Err(Error::config(option_message(&name, &e)));
                }
            }
            Err(Error::config(whole.to_string()))
        }
    }
}

fn option_message(name: &str, e: &serde_json::Error) -> String {
    let mut text = e.to_string();
    for unavailable in UNAVAILABLE {
        text = text.replace(&format!("`{unavailable}`, "), "").replace(&format!(", `{unavailable}`"), "");
    }
    match text.strip_prefix("unknown field") {
        Some(rest) if rest.starts_with(&format!(" `{name}`")) => {
            format!("unknown option `{name}`{}", rest[name.len() + 3..].trim_end())
        }
        _ => format!("option `{name}`: {text}"),
    }
}

fn accepts<T: for<'de> Deserialize<'de>>(name: &str, value: Value) -> std::result::Result<(), serde_json::Error> {
    let mut one = Map::new();
    one.insert(name.to_owned(), value);
    T::deserialize(Value::Object(one)).map(drop)
}

/// `UNSTALE_…` variables as options.
fn environment(env: impl Iterator<Item = (String, String)>) -> Result<Map<String, Value>> {
    let mut options = Map::new();
    for (name, text) in env {
        // An empty variable is how compose files and shells leave one out.
        if let Some(option) = name.strip_prefix("UNSTALE_").filter(|_| !text.is_empty()) {
            let option = option.to_ascii_lowercase();
            let option = match option.split_once('_') {
                Some((group @ ("tls" | "aws"), rest)) => format!("{group}.{rest}"),
                _ => option,
            };
            set_text(&mut options, &option, &text, &format!("environment variable {name}"))?;
        }
    }
    Ok(options)
}

/// Sets an option from text: as the string it is where the option takes one, else as the number, boolean or list it spells.
fn set_text(options: &mut Map<String, Value>, name: &str, text: &str, source: &str) -> Result<()> {
    let wrap = |value: Value| match name.split_once('.') {
        Some((group, inner)) => (group.to_owned(), Value::Object(Map::from_iter([(inner.to_owned(), value)]))),
        None => (name.to_owned(), value),
    };
    let (key, as_text) = wrap(Value::String(text.to_owned()));
    let mut accepted = accepts::<ClientConfig>(&key, as_text.clone()).map(|()| as_text);
    if accepted.is_err() {
        let parsed = serde_json::from_str(text)
            .unwrap_or_else(|_| Value::Array(text.split(',').map(|s| Value::String(s.trim().to_owned())).collect()));
        let (_, value) = wrap(parsed);
        if accepts::<ClientConfig>(&key, value.clone()).is_ok() {
            accepted = Ok(value);
        }
    }
    match accepted {
        Ok(Value::Object(inner)) if name.contains('.') => {
            if let Value::Object(group) = options.entry(key).or_insert_with(|| Value::Object(Map::new())) {
                group.extend(inner);
            }
        }
        Ok(value) => {
            options.insert(key, value);
        }
        Err(e) => return Err(Error::config(format!("{} (from {source})", option_message(name, &e)))),
    }
    Ok(())
}

/// Names alone: what is no snake case stays as it is.
fn snake_to_camel(name: &str) -> String {
    if !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'.') {
        return name.to_owned();
    }
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let mut letters = word.chars();
        let capital = letters.next().map(|c| c.to_ascii_uppercase());
        name + &capital.into_iter().chain(letters).collect::<String>()
    })
}

fn camel_to_snake(name: &str) -> Option<String> {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        match c {
            'A'..='Z' => {
                out.push('_');
                out.push(c.to_ascii_lowercase());
            }
            '_' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let hex = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

fn seconds_to_duration(seconds: f64) -> Option<Duration> {
    if !(0.0..=MAX_DURATION.as_secs_f64()).contains(&seconds) {
        return None;
    }
    Some(Duration::from_secs_f64(seconds))
}

/// `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"2d"`, fractions allowed.
fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    seconds_to_duration(number.parse::<f64>().ok()? * seconds)
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Duration, D::Error> {
    struct DurationVisitor;
    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"250ms\", \"30s\" or \"5m\"")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Duration, E> {
            parse_duration(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
        fn visit_f64<E: de::Error>(self, seconds: f64) -> std::result::Result<Duration, E> {
            seconds_to_duration(seconds).ok_or_else(|| E::invalid_value(de::Unexpected::Float(seconds), &self))
        }
        fn visit_u64<E: de::Error>(self, seconds: u64) -> std::result::Result<Duration, E> {
            self.visit_f64(seconds as f64)
        }
        fn visit_i64<E: de::Error>(self, seconds: i64) -> std::result::Result<Duration, E> {
            self.visit_f64(seconds as f64)
        }
    }
    d.deserialize_any(DurationVisitor)
}

fn optional_duration<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Option<Duration>, D::Error> {
    duration(d).map(Some)
}

#[cfg(test)]
mod tests;
