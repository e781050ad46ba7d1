//! The way into AWS IoT Core: which port, protocol name, user name or signed URL the options ask for.
//!
//! It makes no connection; [`super::mqtt`] does, with what is told here. Sources: AWS IoT Core developer guide, "Device
//! communication protocols", "Connecting to AWS IoT Core by using custom authentication".

mod credentials;
mod metadata;
mod process;
mod profile;
mod sigv4;

use std::time::{Instant, SystemTime};

use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

use crate::config::aws::{aws_region, Way, HTTPS_PORT};
use crate::config::{AwsConfig, ClientConfig, Endpoint, Secret};
use crate::error::{Error, Result};

use super::http;
use credentials::{Credentials, Sources};

/// All but RFC 3986's unreserved characters.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The way in that a configuration chose.
pub(super) struct Access {
    way: Way,
    options: AwsConfig,
    host: String,
    port: u16,
}

impl Access {
    pub fn new(config: &ClientConfig, endpoint: &Endpoint) -> Access {
        Access {
            way: config.aws_way(),
            options: config.aws.clone().unwrap_or_default(),
            host: endpoint.host.clone(),
            port: endpoint.port,
        }
    }

    /// Which one.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whether MQTT is carried by a WebSocket.
    pub fn websocket(&self) -> bool {
        self.way == Way::Signed
    }

    /// The protocol to name by ALPN, unless the user named others.
    pub fn alpn(&self) -> Option<&'static str> {
        match self.way {
            Way::Certificate => (self.port == HTTPS_PORT).then_some("x-amzn-mqtt-ca"),
            Way::Authorizer => Some("mqtt"),
            Way::Signed => None,
        }
    }

    /// The user name with what a custom authorizer is to know; `given` is the user's.
    pub fn username(&self, given: Option<&str>) -> Option<String> {
        let given = given.unwrap_or_default();
        if self.way != Way::Authorizer {
            return None;
        }
        let options = &self.options;
        let token_key = options.token_key_name.as_deref().unwrap_or_default();
        let parameters = [
            ("x-amz-customauthorizer-name", options.authorizer.as_deref()),
            ("x-amz-customauthorizer-signature", options.token_signature.as_ref().map(Secret::expose)),
            (token_key, options.token.as_ref().map(Secret::expose)),
        ];
        let given_ones = parameters.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        let query: Vec<String> =
            given_ones.map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        match query.is_empty() {
            true => Some(given.to_owned()),
            false => Some(format!("{given}?{}", query.join("&"))),
        }
    }

    /// The path to ask for, with the signature that opens it; a new one for every connection. May ask services for
    /// credentials, until `deadline` at most.
    pub fn signed_path(&self, deadline: Instant) -> Result<String> {
        let sources = Sources { options: &self.options, variable: &|name| std::env::var(name).ok(), deadline };
        let found = credentials::find(&sources)?;
        let region = self.region(&sources)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(self.sign(&found, &region, now))
    }

    fn sign(&self, credentials: &Credentials, region: &str, now_s: u64) -> String {
        let host = http::authority(&self.host, self.port, HTTPS_PORT);
        sigv4::presigned_path(&host, region, credentials, now_s)
    }

    fn region(&self, sources: &Sources<'_>) -> Result<String> {
        let given = self.options.region.clone().filter(|region| !region.is_empty());
        let own = given.or_else(|| aws_region(&self.host).map(str::to_owned));
        let environment = || ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter().find_map(|name| sources.set(name));
        own.or_else(environment).or_else(|| profile::region(sources)).ok_or_else(|| {
            Error::config(format!(
                "the region of {} is not known: it is neither in the endpoint's name nor in AWS_REGION nor in the profile; set `aws.region`",
                self.host
            ))
        })
    }
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, STRICT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Dialect;
    use serde_json::{json, Value};

    fn access(port: u16, options: Value) -> Access {
        let url = format!("awsiot://a-ats.iot.eu-west-1.amazonaws.com:{port}");
        let config = ClientConfig::parse(Some(&url), options.as_object().unwrap().clone(), Dialect::JSON).unwrap();
        Access::new(&config, &config.endpoint().unwrap())
    }

    #[test]
    fn the_protocols_name_tells_the_ways_apart_on_the_port_they_share() {
        let tls = json!({"tls": {"cert_file": "c", "key_file": "k"}});
        assert_eq!(access(8883, tls.clone()).alpn(), None);
        assert_eq!(access(443, tls).alpn(), Some("x-amzn-mqtt-ca"));
        assert_eq!(access(443, json!({"aws": {"authorizer": "a"}})).alpn(), Some("mqtt"));
        let signed = access(443, json!({}));
        assert!(signed.websocket() && signed.alpn().is_none() && signed.username(None).is_none());
    }

    #[test]
    fn an_authorizer_gets_its_name_token_and_signature_in_the_user_name() {
        let aws = json!({"authorizer": "my auth", "token_key_name": "tok", "token": "a+b", "token_signature": "x/y="});
        let name = access(443, json!({"aws": aws})).username(Some("me")).unwrap();
        assert_eq!(
            name,
            "me?x-amz-customauthorizer-name=my%20auth&x-amz-customauthorizer-signature=x%2Fy%3D&tok=a%2Bb"
        );
        let plain = access(443, json!({"username": "me", "password": "p"}));
        assert_eq!(plain.username(Some("me")).as_deref(), Some("me"));
    }

    #[test]
    fn an_empty_region_is_none_wherever_it_stands() {
        let folder = std::env::temp_dir().join(format!("unstale-region-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("config");
        std::fs::write(&file, "[default]\nregion = eu-west-3\n[profile none]\nregion =\n").unwrap();
        let look = |options: Value, names: &[(&str, &str)]| {
            let config = ClientConfig::parse(
                Some("awsiot://iot.example.com"),
                options.as_object().unwrap().clone(),
                Dialect::JSON,
            );
            let config = config.unwrap();
            let access = Access::new(&config, &config.endpoint().unwrap());
            let variable = |name: &str| match name {
                "AWS_CONFIG_FILE" => Some(file.display().to_string()),
                name => names.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()),
            };
            access.region(&Sources { options: &access.options, variable: &variable, deadline: Instant::now() })
        };
        assert_eq!(look(json!({"aws": {"region": ""}}), &[]).unwrap(), "eu-west-3");
        assert_eq!(look(json!({}), &[("AWS_REGION", "")]).unwrap(), "eu-west-3");
        assert_eq!(look(json!({}), &[("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "r")]).unwrap(), "r");
        let e = look(json!({"aws": {"profile": "none"}}), &[]).unwrap_err();
        assert!(e.message().contains("set `aws.region`"), "{e}");
    }

    #[test]
    fn the_default_port_is_not_part_of_the_signed_host() {
        let credentials = Credentials { access_key_id: "A".into(), secret_access_key: "S".into(), session_token: None };
        let path = |port| access(port, json!({})).sign(&credentials, "r", 1_700_000_000);
        let by_hand = |host| sigv4::presigned_path(host, "r", &credentials, 1_700_000_000);
        assert_eq!(path(443), by_hand("a-ats.iot.eu-west-1.amazonaws.com"));
        assert_eq!(path(8443), by_hand("a-ats.iot.eu-west-1.amazonaws.com:8443"));
    }

    #[test]
    fn the_region_is_looked_for_from_the_options_to_the_profile() {
        let file = std::env::temp_dir().join(format!("unstale-regions-{}", std::process::id()));
        std::fs::write(&file, "[default]\nregion = of-profile\n").unwrap();
        let vars = [
            ("AWS_CONFIG_FILE", file.to_str().unwrap()),
            ("AWS_DEFAULT_REGION", "of-default"),
            ("AWS_REGION", "of-environment"),
        ];
        let region = |host: &str, options: Value, known: usize| {
            let url = format!("awsiot://{host}");
            let config = ClientConfig::parse(Some(&url), options.as_object().unwrap().clone(), Dialect::JSON).unwrap();
            let access = Access::new(&config, &config.endpoint().unwrap());
            let variable = |name: &str| vars[..known].iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            access.region(&Sources { options: &access.options, variable: &variable, deadline: Instant::now() })
        };
        let named = "a-ats.iot.eu-west-1.amazonaws.com";
        assert_eq!(region(named, json!({"aws": {"region": "of-option"}}), 3).unwrap(), "of-option");
        assert_eq!(region(named, json!({}), 3).unwrap(), "eu-west-1");
        assert_eq!(region("my.domain", json!({}), 3).unwrap(), "of-environment");
        assert_eq!(region("my.domain", json!({}), 2).unwrap(), "of-default");
        assert_eq!(region("my.domain", json!({}), 1).unwrap(), "of-profile");
        std::fs::remove_file(&file).unwrap();
        let error = region("my.domain", json!({}), 1).unwrap_err();
        assert!(error.message().contains("set `aws.region`"), "{error}");
    }
}
