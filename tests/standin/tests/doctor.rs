//! `unstale doctor` says which action on which resource a policy lacks.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::Standin;
use serde_json::{json, Value};

const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";
const TOPIC: &str = "cache/invalidate/prices";

/// The tool, which the same build has put beside the stand-in.
fn tool() -> PathBuf {
    let tool = Path::new(env!("CARGO_BIN_EXE_aws-standin")).with_file_name("unstale");
    assert!(tool.exists(), "{} is not there: build the whole workspace", tool.display());
    tool
}

/// One whose policy allows all but this.
fn denying(folder: &Path, action: &str, resource: &str) -> Standin {
    unstale_standin::certificates::write(folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let config = json!({
        "listeners": {"mtls": {}, "alpn": {}},
        "tls": {"cert_file": file("server.pem"), "key_file": file("server.key"), "client_ca_file": file("ca.pem")},
        "policy": {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
            {"Effect": "Deny", "Action": action, "Resource": format!("{ARN}{resource}")},
        ]},
        "sigv4": {"access_key": "AKID", "secret_key": "the-secret"},
    });
    Standin::start(folder.to_owned(), config)
}

/// The only check that failed, and what it found.
fn failed(url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    let mut command = Command::new(tool());
    for (name, _) in std::env::vars_os() {
        if ["UNSTALE_", "AWS_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let command = command.args(["doctor", url, "--json", "-o", "connect_timeout=3s"]).args(arguments);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let field = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let all = report["checks"].as_array().unwrap();
    let failed: Vec<_> = all.iter().filter(|check| check["verdict"] == "failed").collect();
    assert_eq!((failed.len(), output.status.code()), (1, Some(1)), "{report}");
    (field(failed[0], "check"), field(failed[0], "finding"))
}

/// By certificate, with two caches of which the first may do everything.
fn examined(action: &str, resource: &str) -> (String, String) {
    let folder = common::folder();
    let standin = denying(&folder, action, resource);
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let url = format!("awsiot://localhost:{}", standin.port("mtls"));
    let (ca, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let tls = ["--ca-file", &ca, "--cert-file", &certificate, "--key-file", &key];
    failed(&url, &[&tls[..], &["--namespace", "users", "--namespace", "prices"]].concat(), &[])
}

#[test]
fn each_denial_is_named_with_its_action_and_resource() {
    let topic = format!("topic/{TOPIC}");
    let filter = format!("topicfilter/{TOPIC}");
    for (check, action, resource) in [
        ("subscribe", "iot:Subscribe", &filter),
        ("publish", "iot:Publish", &topic),
        ("publish", "iot:Receive", &topic),
    ] {
        let (found, words) = examined(action, resource);
        let needs = format!(
            "; the policy of this client's identity must allow `{action}` on `{resource}`; a change of it takes up to 8 minutes to be seen"
        );
        assert!(found == check && words.ends_with(&needs), "{found}: {words}");
        assert_eq!(words.matches("iot:").count(), 1, "{words}");
    }
}

#[test]
fn a_client_id_that_the_policy_does_not_know_is_named() {
    let (found, words) = examined("iot:Connect", "client/unstale-doctor-*");
    assert!(found == "login" && words.contains("`iot:Connect` on `client/unstale-doctor-"), "{found}: {words}");
}

#[test]
fn a_wrong_signature_is_one() {
    let folder = common::folder();
    let standin = denying(&folder, "iot:Publish", "topic/nothing");
    let url = format!("awsiot://localhost:{}", standin.port("alpn"));
    let ca = folder.join("ca.pem");
    let variables =
        [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hush-wrong"), ("AWS_REGION", "us-east-1")];
    let (found, words) = failed(&url, &["--ca-file", ca.to_str().unwrap()], &variables);
    let said = "refused the signature of this client's URL (HTTP 403); check the AWS credentials";
    assert!(found == "login" && words.contains(said) && !words.contains("hush"), "{found}: {words}");
}
