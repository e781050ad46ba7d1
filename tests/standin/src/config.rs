//! The one JSON file that says what is served and how strictly. Everything has a default; an unknown name is an error.

use serde::Deserialize;

use crate::faults::Faults;
use crate::limits::Limits;
use crate::policy::Policy;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub listeners: Listeners,
    pub tls: Tls,
    /// What every principal may do; without it, everything.
    pub policy: Option<Policy>,
    pub account: Account,
    pub authorizer: Option<Authorizer>,
    /// Each is accepted; one alone needs no list.
    #[serde(deserialize_with = "one_or_many")]
    pub sigv4: Vec<Credentials>,
    pub limits: Limits,
    pub faults: Faults,
}

/// Each is optional. Port 0 is a free one. All listen on 127.0.0.1.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listeners {
    /// MQTT without TLS, which AWS does not have: for suites that test something else.
    pub plain: Option<Listener>,
    /// MQTT with a client certificate, as on port 8883.
    pub mtls: Option<Listener>,
    /// As on port 443: what is spoken is told by ALPN.
    pub alpn: Option<Listener>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    pub port: u16,
}

/// PEM files.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    pub cert_file: String,
    pub key_file: String,
    pub client_ca_file: String,
}

/// Where the resources of the policy lie.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    pub region: String,
    pub id: String,
}

impl Default for Account {
    fn default() -> Account {
        Account { region: "us-east-1".into(), id: "123456789012".into() }
    }
}

/// A custom authorizer that knows one password, or one signed token, or both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorizer {
    pub name: String,
    #[serde(default)]
    pub password: Option<String>,
    #[serde(default)]
    pub token: Option<Token>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub key_name: String,
    /// PEM file: what the token's signature is checked with.
    pub public_key_file: String,
}

/// Whose signatures are accepted on WebSockets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    #[serde(default)]
    pub session_token: Option<String>,
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Credentials>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(Credentials),
        Many(Vec<Credentials>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(credentials) => vec![credentials],
        OneOrMany::Many(all) => all,
    })
}

impl Config {
    pub fn read(path: &str) -> Result<Config, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))
    }
}
