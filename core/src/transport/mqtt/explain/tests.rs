//! What is said to whom, by the way in that was chosen.

use serde_json::{json, Value};

use super::super::upgrade::Answer;
use super::*;
use crate::config::{ClientConfig, Dialect};

const AWS: &str = "awsiot://a-ats.iot.eu-west-1.amazonaws.com";

fn target(url: &str, options: Value) -> Target {
    let config = ClientConfig::parse(Some(url), options.as_object().unwrap().clone(), Dialect::JSON).unwrap();
    let endpoint = config.endpoint().unwrap();
    Target::new(&config, endpoint, "me").unwrap()
}

fn answered(url: &str, status: u16) -> Error {
    http::refusal(&target(url, json!({})), &Answer { status, date: None })
}

/// Any file will do: it is not looked into here.
fn certificate() -> Value {
    let any = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    json!({"tls": {"cert_file": any, "key_file": any}})
}

#[test]
fn only_what_a_signature_can_mend_is_called_a_refused_signature() {
    for status in [401, 403] {
        let error = answered(AWS, status);
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert!(error.message().contains("refused the signature"), "{error}");
    }
    for status in [429, 500, 502, 503, 504] {
        let error = answered(AWS, status);
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        let words = error.message();
        assert!(words.contains(&format!("(HTTP {status})")) && words.contains("it is tried again"), "{error}");
    }
    for status in [200, 302, 400, 404, 407, 426] {
        let error = answered(AWS, status);
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(error.message().contains("a proxy may be in between"), "{error}");
    }
}

#[test]
fn other_web_servers_are_told_apart_too() {
    for (status, kind, words) in [
        (403, ErrorKind::Auth, "it wants to know who asks"),
        (404, ErrorKind::Connect, "there is nothing at the path `/mqtt`"),
        (503, ErrorKind::Connect, "it is tried again"),
        (200, ErrorKind::Connect, "check that the port is one for MQTT over WebSockets"),
    ] {
        let error = answered("ws://h/mqtt", status);
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn who_is_refused_is_told_what_to_look_at_by_his_way_in() {
    let token = json!({"aws": {"authorizer": "mine", "token_key_name": "k", "token": "t", "token_signature": "hush"}});
    let at = "a-ats.iot.eu-west-1.amazonaws.com";
    for (url, options, words) in [
        (AWS, certificate(), "refused the connection: not authorized (0x87); check that the client's certificate is active and that a policy is attached to it"),
        (AWS, token, "refused the connection: not authorized (0x87); check what the custom authorizer looks at: `aws.authorizer`, `aws.token_key_name`, `aws.token` and its `aws.token_signature`, `username`, `password`; and the policy that it answers with"),
        (AWS, json!({"aws": {"authorizer": "mine"}, "username": "ann"}), "refused the connection as user \"ann\": not authorized (0x87); check what the custom authorizer"),
        (AWS, json!({}), "refused the connection: not authorized (0x87); check the policy of the AWS credentials' owner"),
        ("mqtts://h", certificate(), "refused the connection: not authorized (0x87); check what the broker's access rules allow the owner of this client's certificate"),
        ("mqtts://h", json!({"username": "ann"}), "refused the connection as user \"ann\": not authorized (0x87); check `username` and `password`"),
        ("mqtt://h", json!({}), "refused the connection: not authorized (0x87); give `username` and `password`, or allow anonymous clients in the broker"),
    ] {
        let error = connack(&target(url, options), 0x87);
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert!(error.message().contains(words), "{error}");
        assert!(url != AWS || error.message().contains(at));
        assert!(!error.message().contains("hush"));
    }
}

#[test]
fn a_broker_that_ends_a_connection_over_access_is_quoted_so() {
    let target = target("mqtt://h", json!({}));
    let error = lost(&target, Some(0x87));
    assert_eq!(error.kind(), ErrorKind::Auth);
    assert!(error.message().contains("not authorized (0x87)"), "{error}");
    assert_eq!(lost(&target, Some(0x97)).kind(), ErrorKind::Connect);
    assert_eq!(lost(&target, None).kind(), ErrorKind::Connect);
    assert_eq!(not_published("t", 0x87).kind(), ErrorKind::Auth);
}
