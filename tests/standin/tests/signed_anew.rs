//! A signed WebSocket that is cut is made again with a new signature, by the credentials that hold then. Alone in its
//! process, since it sets variables of the environment.

mod common;

use std::time::{Duration, Instant};

use common::Standin;
use serde_json::json;
use unstale::{CacheConfig, Client, ClientConfig, Dialect, LinkState};

const SOON: Duration = Duration::from_secs(20);

/// Two of one account, as a rotation gives them.
const KEYS: [(&str, &str, &str); 2] = [("AKIDONE", "secret-one", "token/one"), ("AKIDTWO", "secret-two", "token/two")];

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn parameter(query: &str, name: &str) -> String {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|pair| pair.0 == name).unwrap_or_else(|| panic!("no {name} in {query}")).1.to_owned()
}

#[tokio::test]
async fn a_cut_websocket_comes_back_with_another_signature_by_the_credentials_of_now() {
    let folder = common::folder();
    unstale_standin::certificates::write(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let accepted = KEYS.map(|(id, key, token)| json!({"access_key": id, "secret_key": key, "session_token": token}));
    let standin = Standin::start(
        folder.clone(),
        json!({
            "listeners": {"alpn": {}},
            "tls": {"cert_file": file("server.pem"), "key_file": file("server.key"), "client_ca_file": file("ca.pem")},
            "sigv4": accepted,
        }),
    );
    let hold = |(id, key, token): (&str, &str, &str)| {
        let text = format!(
            "[default]\naws_access_key_id = {id}\naws_secret_access_key = {key}\naws_session_token = {token}\n"
        );
        // Whoever reads meanwhile sees one or the other.
        std::fs::write(file("credentials.new"), text).unwrap();
        std::fs::rename(file("credentials.new"), file("credentials")).unwrap();
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
        std::env::remove_var(name);
    }
    std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", file("credentials"));
    std::env::set_var("AWS_CONFIG_FILE", file("none"));
    hold(KEYS[0]);

    let options = json!({
        "url": format!("awsiot://localhost:{}", standin.port("alpn")), "connect_timeout": "10s",
        "tls": {"ca_file": file("ca.pem")}, "aws": {"region": "us-east-1"},
    });
    let config = ClientConfig::parse(None, options.as_object().unwrap().clone(), Dialect::JSON).unwrap();
    let client = Client::connect(config).await.unwrap();
    let cache = client.cache::<u64>("n", CacheConfig::default()).unwrap();
    until("the cache is live", || client.status().state == LinkState::Live).await;
    let first = standin.signed();
    assert_eq!(first.len(), 1, "{first:?}");

    hold(KEYS[1]);
    // Dates of signatures have seconds.
    let begin = Instant::now();
    until("the next second", || begin.elapsed() > Duration::from_secs(1)).await;
    standin.cut();
    until("a second signature", || standin.signed().len() == 2).await;
    until("the cache is live again", || client.status().state == LinkState::Live).await;
    assert!(cache.invalidate("k").unwrap().delivered(SOON).await);

    let both = standin.signed();
    let of = |name: &str| [parameter(&both[0], name), parameter(&both[1], name)];
    let dates = of("X-Amz-Date");
    assert!(dates[0] < dates[1], "{dates:?}");
    for (credential, (id, ..)) in of("X-Amz-Credential").iter().zip(KEYS) {
        assert!(credential.starts_with(id), "{both:?}");
    }
    assert_eq!(standin.rejections(), json!({}));
    client.close(SOON).await.unwrap();
}
