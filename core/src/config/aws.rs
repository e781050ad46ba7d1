//! Options of AWS IoT Core, and which of its ways in they choose.

use std::fmt;

use serde::Deserialize;

use super::{ClientConfig, Endpoint, Scheme, Secret};
use crate::error::{Error, Result};

/// Port of MQTT with a client certificate.
const MQTT_PORT: u16 = 8883;
/// Port of all else, and of the certificate too: there the protocol's name (ALPN) tells the ways apart.
pub(crate) const HTTPS_PORT: u16 = 443;
/// What AWS IoT Core asks of a keep-alive, in seconds ("AWS IoT Core message broker and protocol limits and quotas").
const KEEP_ALIVE: std::ops::RangeInclusive<u64> = 30..=1_200;
/// Publications a second and connection that it takes (the same page).
const MOST_PUBLISHES: u32 = 100;

/// Options of `awsiot://` URLs. How a client authenticates follows from what is given: `tls.cert_file` and `tls.key_file`
/// (mutual TLS); `authorizer`, `token`, `username` or `password` (a custom authorizer); else AWS credentials (WebSocket, SigV4).
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AwsConfig {
    /// The endpoint's region. Default: from the endpoint's name, else `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile's.
    pub region: Option<String>,
    /// The profile in the shared credentials and config files. Default: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// An access key; goes with `secret_access_key`. Default: the usual chain of environment, shared files, container and
    /// instance metadata, asked at every connect.
    pub access_key_id: Option<String>,
    /// Its secret.
    pub secret_access_key: Option<Secret>,
    /// The session token that temporary credentials come with.
    pub session_token: Option<Secret>,
    /// The custom authorizer's name. Default: the one that the account has as default.
    pub authorizer: Option<String>,
    /// The name under which the authorizer expects its token.
    pub token_key_name: Option<String>,
    /// The token; goes with `token_key_name`.
    pub token: Option<Secret>,
    /// The token's signature, in Base64, if the authorizer wants one.
    pub token_signature: Option<Secret>,
}

impl fmt::Debug for AwsConfig {
    /// Secrets are left out: a configuration ends up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsConfig")
            .field("region", &self.region)
            .field("profile", &self.profile)
            .field("authorizer", &self.authorizer)
            .field("token_key_name", &self.token_key_name)
            .finish_non_exhaustive()
    }
}

/// How a client proves to AWS IoT Core who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A client certificate.
    Certificate,
    /// A custom authorizer, which sees user name, password and token.
    Authorizer,
    /// A WebSocket whose URL is signed with AWS credentials.
    Signed,
}

impl ClientConfig {
    /// The way in that the options choose.
    pub(crate) fn aws_way(&self) -> Way {
        let aws = self.aws.clone().unwrap_or_default();
        if self.tls.cert_file.is_some() {
            Way::Certificate
        } else if aws.authorizer.is_some() || aws.token.is_some() || self.username.is_some() || self.password.is_some()
        {
            Way::Authorizer
        } else {
            Way::Signed
        }
    }

    pub(super) fn aws_port(&self) -> u16 {
        match self.aws_way() {
            Way::Certificate => MQTT_PORT,
            Way::Authorizer | Way::Signed => HTTPS_PORT,
        }
    }

    /// Whether the broker is AWS IoT Core, by the URL's scheme or its host's name.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        self.endpoint().is_ok_and(|endpoint| endpoint.is_aws())
    }

    /// Whether the broker may reorder one publisher's messages.
    pub(crate) fn reorders(&self) -> bool {
        self.reordering.unwrap_or_else(|| self.is_aws())
    }

    pub(super) fn validate_aws(&self, endpoint: &Endpoint) -> Result<()> {
        if endpoint.is_aws() {
            if !KEEP_ALIVE.contains(&self.keep_alive.as_secs()) {
                return Err(Error::config(format!(
                    "option `keep_alive` must be from 30 s to 20 min with AWS IoT Core, not {:?}",
                    self.keep_alive
                )));
            }
            if self.max_publish_rate.is_some_and(|rate| rate > MOST_PUBLISHES) {
                return Err(Error::config(format!(
                    "option `max_publish_rate` must be at most {MOST_PUBLISHES} with AWS IoT Core, which refuses more from one connection"
                )));
            }
        }
        let Some(aws) = &self.aws else { return Ok(()) };
        if endpoint.scheme != Scheme::AwsIot {
            return Err(Error::config("option `aws` needs a URL that begins with awsiot://"));
        }
        let both = |a: &str, has_a: bool, b: &str, has_b: bool| {
            (has_a == has_b)
                .then_some(())
                .ok_or_else(|| Error::config(format!("options `aws.{a}` and `aws.{b}` go together; give both or none")))
        };
        both("access_key_id", aws.access_key_id.is_some(), "secret_access_key", aws.secret_access_key.is_some())?;
        both("token_key_name", aws.token_key_name.is_some(), "token", aws.token.is_some())?;
        let needs = |name: &str, given: bool, other: &str, has: bool| {
            (!given || has)
                .then_some(())
                .ok_or_else(|| Error::config(format!("option `aws.{name}` needs `aws.{other}`; give it too")))
        };
        needs("session_token", aws.session_token.is_some(), "access_key_id", aws.access_key_id.is_some())?;
        needs("token_signature", aws.token_signature.is_some(), "token", aws.token.is_some())?;
        let authorizer = aws.authorizer.is_some() || aws.token.is_some();
        let credentials = aws.access_key_id.is_some() || aws.profile.is_some();
        let clash = match (self.aws_way(), authorizer, credentials) {
            (Way::Certificate, true, _) => "`tls.cert_file` and a custom authorizer",
            (Way::Certificate, _, true) => "`tls.cert_file` and AWS credentials",
            (Way::Authorizer, _, true) => "a custom authorizer and AWS credentials",
            _ => return Ok(()),
        };
        Err(Error::config(format!("option `aws`: {clash} are two ways to authenticate; give one")))
    }
}

impl Endpoint {
    /// Whether this is AWS IoT Core, by the URL's scheme or by the name of its data endpoints.
    pub(crate) fn is_aws(&self) -> bool {
        self.scheme == Scheme::AwsIot || aws_region(&self.host).is_some()
    }
}

/// The region in the name of a data endpoint: `{id}-ats.iot.{region}.amazonaws.com`, also with `.cn` ("AWS IoT device data
/// and service endpoints").
pub(crate) fn aws_region(host: &str) -> Option<&str> {
    let name = host.strip_suffix(".cn").unwrap_or(host).strip_suffix(".amazonaws.com")?;
    let (_, region) = name.split_once(".iot.")?;
    (!region.is_empty() && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')).then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;
    use serde_json::{json, Value};

    fn config(url: &str, options: Value) -> Result<ClientConfig> {
        ClientConfig::parse_with_env(Some(url), options.as_object().unwrap().clone(), Dialect::JSON, std::iter::empty())
    }

    fn refused(url: &str, options: Value, names: &str) {
        let error = config(url, options.clone()).expect_err(&format!("{options} must be refused"));
        assert!(error.message().contains(names), "{error} should name {names}");
    }

    const URL: &str = "awsiot://abc-ats.iot.eu-central-1.amazonaws.com";

    #[test]
    fn what_is_given_chooses_the_way_in_and_the_port() {
        let way = |options| {
            let c = config(URL, options).unwrap();
            (c.aws_way(), c.endpoint().unwrap().port)
        };
        assert_eq!(way(json!({"tls": {"cert_file": "c", "key_file": "k"}})), (Way::Certificate, 8883));
        assert_eq!(way(json!({})), (Way::Signed, 443));
        assert_eq!(way(json!({"aws": {"profile": "p"}})), (Way::Signed, 443));
        assert_eq!(way(json!({"username": "u", "password": "p"})), (Way::Authorizer, 443));
        assert_eq!(way(json!({"username": "u"})), (Way::Authorizer, 443));
        assert_eq!(way(json!({"password": "p"})), (Way::Authorizer, 443));
        assert_eq!(way(json!({"aws": {"authorizer": "a"}})), (Way::Authorizer, 443));
        assert_eq!(config(&format!("{URL}:8443"), json!({})).unwrap().endpoint().unwrap().port, 8443);
    }

    #[test]
    fn an_endpoint_of_aws_has_its_limits_whatever_the_scheme() {
        for url in [URL, "mqtts://abc.iot.us-east-1.amazonaws.com", "wss://x.iot.cn-north-1.amazonaws.com.cn"] {
            let c = config(url, json!({})).unwrap();
            assert!(c.is_aws() && c.reorders(), "{url}");
            refused(url, json!({"keep_alive": 20}), "`keep_alive`");
            refused(url, json!({"keep_alive": 1_201}), "`keep_alive`");
            assert!(config(url, json!({"keep_alive": 1_200, "max_publish_rate": 100})).is_ok());
            refused(url, json!({"max_publish_rate": 101}), "`max_publish_rate`");
        }
        for url in ["mqtt://localhost", "mqtts://iot.example.com", "mqtts://x.iot.evil.com", "memory://"] {
            let c = config(url, json!({"keep_alive": 20})).unwrap();
            assert!(!c.is_aws() && !c.reorders(), "{url}");
        }
        assert!(!config(URL, json!({"reordering": false})).unwrap().reorders());
    }

    #[test]
    fn contradictions_are_named() {
        let certificate = json!({"cert_file": "c", "key_file": "k"});
        refused("mqtts://h", json!({"aws": {"region": "r"}}), "awsiot://");
        refused(URL, json!({"aws": {"access_key_id": "a"}}), "secret_access_key");
        refused(URL, json!({"aws": {"session_token": "a"}}), "access_key_id");
        refused(URL, json!({"aws": {"token": "a"}}), "token_key_name");
        refused(URL, json!({"aws": {"token_signature": "a"}}), "`aws.token`");
        refused(URL, json!({"aws": {"reigon": "a"}}), "reigon");
        refused(URL, json!({"tls": certificate.clone(), "aws": {"authorizer": "a"}}), "two ways");
        let keys = json!({"access_key_id": "a", "secret_access_key": "s"});
        refused(URL, json!({"tls": certificate.clone(), "aws": keys.clone()}), "two ways");
        refused(URL, json!({"username": "u", "aws": keys}), "two ways");
        refused(URL, json!({"tls": certificate, "aws": {"profile": "a"}}), "two ways");
        refused(URL, json!({"username": "u", "aws": {"profile": "a"}}), "two ways");
        refused("awsiot://h/path", json!({}), "path");
        refused("awsiot://", json!({}), "host");
    }

    #[test]
    fn secrets_are_never_shown() {
        let aws = json!({"access_key_id": "AKIA", "secret_access_key": "hush", "session_token": "hush"});
        let shown = format!("{:?}", config(URL, json!({"aws": aws})).unwrap().aws);
        assert!(!shown.contains("hush"), "{shown}");
        for name in ["secret_access_key", "session_token", "token", "token_signature"] {
            let error = config(URL, json!({"aws": {name: 7351}})).unwrap_err();
            assert!(error.message().contains("aws") && !error.message().contains("7351"), "{error}");
        }
    }

    #[test]
    fn the_region_is_in_the_endpoints_name() {
        assert_eq!(aws_region("a1b2-ats.iot.eu-west-1.amazonaws.com"), Some("eu-west-1"));
        assert_eq!(aws_region("a1b2.ats.iot.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(aws_region("a1b2.iot.amazonaws.com"), None);
        assert_eq!(aws_region("localhost"), None);
    }
}
