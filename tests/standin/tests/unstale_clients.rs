//! unstale itself comes in by each of AWS's ways, is heard, and breaks no rule.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::Standin;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use serde_json::{json, Value};
use unstale::{Cache, CacheConfig, Client, ClientConfig, Dialect};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const SOON: Duration = Duration::from_secs(10);
const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";

fn allow(action: &[&str], resource: &[&str]) -> Value {
    let resource: Vec<String> = resource.iter().map(|name| format!("{ARN}{name}")).collect();
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

/// A stand-in with every port, whose policy allows what unstale needs and no more.
fn standin(folder: &Path) -> Standin {
    standin_with(
        folder,
        json!([
            allow(&["iot:Connect"], &["client/unstale-*"]),
            allow(&["iot:Publish", "iot:Receive"], &["topic/cache/invalidate", "topic/cache/invalidate/*"]),
            allow(&["iot:Subscribe"], &["topicfilter/cache/invalidate", "topicfilter/cache/invalidate/*"]),
        ]),
    )
}

/// One whose policy allows all but this.
fn denying(folder: &Path, action: &str, resource: &str) -> Standin {
    let denial = json!({"Effect": "Deny", "Action": action, "Resource": format!("{ARN}{resource}")});
    standin_with(folder, json!([{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}, denial]))
}

fn standin_with(folder: &Path, statements: Value) -> Standin {
    unstale_standin::certificates::write(folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let server_key = PKey::private_key_from_pem(&std::fs::read(folder.join("server.key")).unwrap()).unwrap();
    std::fs::write(folder.join("token.pub"), server_key.public_key_to_pem().unwrap()).unwrap();
    let config = json!({
        "listeners": {"mtls": {}, "alpn": {}},
        "tls": {"cert_file": file("server.pem"), "key_file": file("server.key"), "client_ca_file": file("ca.pem")},
        "policy": {"Version": "2012-10-17", "Statement": statements},
        "authorizer": {"name": "mine", "password": "pass", "token": {"key_name": "tokenKey", "public_key_file": file("token.pub")}},
        "sigv4": {"access_key": "AKID", "secret_key": SECRET, "session_token": "a/b+c"},
    });
    Standin::start(folder.to_owned(), config)
}

fn config(standin: &Standin, folder: &Path, port: &str, options: serde_json::Value) -> ClientConfig {
    let url = format!("awsiot://localhost:{}", standin.port(port));
    let mut all = json!({"url": url, "connect_timeout": "10s", "tls": {"ca_file": folder.join("ca.pem")}});
    for (name, value) in options.as_object().unwrap() {
        match value.as_object() {
            Some(group) if name == "tls" => all["tls"].as_object_mut().unwrap().extend(group.clone()),
            _ => all[name] = value.clone(),
        }
    }
    ClientConfig::parse(None, all.as_object().unwrap().clone(), Dialect::JSON).unwrap()
}

/// What one invalidates, the other drops.
async fn hear_each_other(one: ClientConfig, other: ClientConfig) {
    let (one, other) = (Client::connect(one).await.unwrap(), Client::connect(other).await.unwrap());
    let (writer, reader) = (
        one.cache::<u64>("n", CacheConfig::default()).unwrap(),
        other.cache::<u64>("n", CacheConfig::default()).unwrap(),
    );
    let deadline = Instant::now() + SOON;
    loop {
        reader.set("k", 1).unwrap();
        let receipt = writer.invalidate("k").unwrap();
        assert!(receipt.delivered(SOON).await, "the invalidation was not accepted");
        // A cache that was opened a moment ago hears from its subscription on.
        if other.wait_for(&receipt.token(), Duration::from_millis(500)).await.unwrap() {
            break;
        }
        assert!(Instant::now() < deadline, "the invalidation was not heard");
    }
    assert_eq!(reader.get("k"), None);
    assert_eq!(one.close(SOON).await.unwrap() + other.close(SOON).await.unwrap(), 0);
}

#[tokio::test]
async fn by_a_client_certificate_on_either_port() {
    let folder = common::folder();
    let standin = standin(&folder);
    let tls = json!({"cert_file": folder.join("client.pem"), "key_file": folder.join("client.key")});
    let mut alpn = tls.clone();
    alpn["alpn"] = json!(["x-amzn-mqtt-ca"]);
    let own_port = config(&standin, &folder, "mtls", json!({"tls": tls}));
    let shared_port = config(&standin, &folder, "alpn", json!({"tls": alpn}));
    hear_each_other(own_port, shared_port).await;
    assert_eq!(standin.rejections(), json!({}));
}

#[tokio::test]
async fn by_a_custom_authorizer() {
    let folder = common::folder();
    let standin = standin(&folder);
    let key = PKey::private_key_from_pem(&std::fs::read(folder.join("server.key")).unwrap()).unwrap();
    let signature = Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(b"to/ken").unwrap();
    let aws = json!({
        "authorizer": "mine", "token_key_name": "tokenKey", "token": "to/ken",
        "token_signature": openssl::base64::encode_block(&signature)
    });
    let options = json!({"aws": aws, "username": "me", "password": "pass"});
    let client = || config(&standin, &folder, "alpn", options.clone());
    hear_each_other(client(), client()).await;
    assert_eq!(standin.rejections(), json!({}));
}

#[tokio::test]
async fn by_a_signed_websocket() {
    let folder = common::folder();
    let standin = standin(&folder);
    let aws =
        json!({"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": SECRET, "session_token": "a/b+c"});
    let tls = json!({"cert_file": folder.join("client.pem"), "key_file": folder.join("client.key")});
    // A process has one connection over WebSockets.
    let other = config(&standin, &folder, "mtls", json!({"tls": tls}));
    hear_each_other(config(&standin, &folder, "alpn", json!({"aws": aws})), other).await;
    assert_eq!(standin.rejections(), json!({}));
}

#[tokio::test]
async fn with_all_the_caches_that_one_connection_may_have() {
    let folder = common::folder();
    let standin = standin(&folder);
    let tls = json!({"cert_file": folder.join("client.pem"), "key_file": folder.join("client.key")});
    let client = Client::connect(config(&standin, &folder, "mtls", json!({"tls": tls}))).await.unwrap();
    let caches: Vec<_> =
        (0..49).map(|number| client.cache::<u64>(&format!("n{number}"), CacheConfig::default()).unwrap()).collect();
    // More than the broker takes in a second.
    let receipts: Vec<_> =
        (0..300).map(|number| caches[number % 49].invalidate(&format!("k{number}")).unwrap()).collect();
    for receipt in receipts {
        assert!(receipt.delivered(SOON).await);
    }
    client.close(SOON).await.unwrap();
    let sums = standin.summary();
    assert_eq!((&sums["rejections"], &sums["peaks"]["subscriptions"]), (&json!({}), &json!(50)), "{sums}");
}

/// A client that connects in the background, with these caches.
async fn with_caches(config: ClientConfig, namespaces: &[&str]) -> (Client, Vec<Cache<u64>>) {
    let client = Client::connect(ClientConfig { lazy: true, ..config }).await.unwrap();
    let open = |name: &&str| client.cache::<u64>(name, CacheConfig::default()).unwrap();
    let caches = namespaces.iter().map(open).collect();
    (client, caches)
}

/// What its status says once it says this.
async fn says(client: &Client, words: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let status = client.status();
        if status.reason.contains(words) {
            assert_ne!(status.state, unstale::LinkState::Live);
            return status.reason;
        }
        assert!(Instant::now() < deadline, "{status:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The words for a connection that the broker ended over `needs`: with its reason, unless the end of the socket is seen first.
fn must_allow(standin: &Standin, needs: &str) -> [String; 2] {
    let at = format!("awsiot://localhost:{}", standin.port("mtls"));
    let said = format!(
        "{at} closed the connection over something that its access rules do not allow this client: not authorized (0x87)"
    );
    [said, format!("the connection to {at} was lost")].map(|ended| {
        format!("{ended}; the policy of this client's identity must allow {needs}; a change of it takes up to 8 minutes to be seen")
    })
}

fn certificate(folder: &Path) -> Value {
    json!({"cert_file": folder.join("client.pem"), "key_file": folder.join("client.key")})
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_to_change() {
    let folder = common::folder();
    let standin = standin(&folder);
    let refused = |port: &'static str, options: Value, words: &'static str| {
        let config = config(&standin, &folder, port, options);
        async move {
            // With a cache that wants its subscription.
            let (client, _caches) = with_caches(config, &["n"]).await;
            says(&client, words).await
        }
    };
    let wrong = json!({"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "not-the-secret", "session_token": "a/b+c"});
    let reason = refused("alpn", json!({"aws": wrong}), "HTTP").await;
    assert!(reason.contains("refused the signature") && reason.contains("HTTP 403"), "{reason}");
    assert!(!reason.contains("not-the-secret"), "{reason}");

    let aws = json!({"authorizer": "mine", "token_key_name": "tokenKey", "token": "other", "token_signature": "hush"});
    let reason = refused("alpn", json!({"aws": aws}), "refused").await;
    let words =
        "refused the connection: not authorized (0x87); check what the custom authorizer looks at: `aws.authorizer`";
    assert!(reason.contains(words) && !reason.contains("hush"), "{reason}");

    let tls = certificate(&folder);
    let reason = refused("mtls", json!({"tls": tls.clone(), "app": "stranger"}), "must allow").await;
    let words = "refused the connection: not authorized (0x87); check that the client's certificate is active and that a policy is \
                 attached to it; the policy of this client's identity must allow `iot:Connect` on `client/stranger-";
    assert!(reason.contains(words), "{reason}");
    let reason = refused("mtls", json!({"tls": tls, "topic": "elsewhere"}), "must allow").await;
    assert!(reason.contains("`iot:Subscribe` on `topicfilter/elsewhere/_probe/"), "{reason}");
}

#[tokio::test]
async fn a_cache_that_may_not_be_subscribed_to_is_named_and_not_the_one_beside_it() {
    for version in ["5", "3.1.1"] {
        let folder = common::folder();
        let standin = denying(&folder, "iot:Subscribe", "topicfilter/cache/invalidate/denied");
        let options = json!({"tls": certificate(&folder), "mqtt_version": version});
        for namespaces in [["allowed", "denied"], ["denied", "allowed"]] {
            let (client, _caches) = with_caches(config(&standin, &folder, "mtls", options.clone()), &namespaces).await;
            let reason = says(&client, "must allow").await;
            let needs = "`iot:Subscribe` on `topicfilter/cache/invalidate/denied`";
            // First the SUBACK is told of, then the end.
            let ended = must_allow(&standin, needs);
            let reason = if ended.contains(&reason) { reason } else { says(&client, "onnection").await };
            assert!(ended.contains(&reason), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_cache_that_may_not_be_published_to_is_named_and_asked_for_again_after_minutes() {
    for version in ["5", "3.1.1"] {
        let folder = common::folder();
        let standin = denying(&folder, "iot:Publish", "topic/cache/invalidate/n");
        let options = json!({"tls": certificate(&folder), "mqtt_version": version});
        let begin = Instant::now();
        let (client, _caches) = with_caches(config(&standin, &folder, "mtls", options), &["n", "m"]).await;
        let reason = says(&client, "must allow").await;
        let ended = must_allow(&standin, "`iot:Publish` on `topic/cache/invalidate/n`");
        // Without reason codes it is told by what was not answered.
        let both = must_allow(&standin, "`iot:Publish` on `topic/cache/invalidate/n`, `topic/cache/invalidate/m`");
        assert!(ended.contains(&reason) || (version == "3.1.1" && both.contains(&reason)), "{reason}");
        // One that did not back off made one a second.
        while begin.elapsed() < Duration::from_secs(12) {
            let connects = standin.summary()["counts"]["connects"].as_u64().unwrap();
            assert!(connects <= 2, "{connects} connects in {:?}", begin.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
