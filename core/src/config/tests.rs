use super::*;
use crate::error::ErrorKind;
use serde_json::json;

fn object(v: Value) -> Map<String, Value> {
    v.as_object().unwrap().clone()
}

#[test]
fn errors_name_options_as_they_are_spelled_where_they_were_given() {
    let e = client(None, json!({"stalenesbound": 1}), Dialect::NODE, &[]).unwrap_err();
    assert!(e.message().contains("`stalenessBound`") && !e.message().contains('_'), "{e}");
    let e = client(None, json!({"stalenessBound": 5}), Dialect::NODE, &[]).unwrap_err();
    assert!(e.message().starts_with("option `stalenessBound` must be from 500ms"), "{e}");
    let e = CacheConfig::parse(object(json!({"tll": 1})), Dialect::NODE).unwrap_err();
    assert!(
        e.message().ends_with("expected one of `ttl`, `ttlJitter`, `maxEntries`, `negativeTtl`, `loadTimeout`"),
        "{e}"
    );
}

#[test]
fn an_empty_variable_is_none_and_a_url_without_a_scheme_is_told_the_schemes() {
    let config = client(None, json!({}), Dialect::JSON, &[("UNSTALE_URL", ""), ("UNSTALE_APP", "")]).unwrap();
    assert_eq!((config.url.as_str(), config.app), ("", ClientConfig::default().app));
    let e = client(Some("localhost"), json!({}), Dialect::JSON, &[]).unwrap_err();
    assert!(e.message().contains("it does not begin with mqtt://"), "{e}");
}

#[test]
fn the_version_of_mqtt_may_be_a_number() {
    let version =
        |given: Value| client(None, json!({"mqtt_version": given}), Dialect::JSON, &[]).map(|c| c.mqtt_version);
    assert_eq!((version(json!(5)).unwrap(), version(json!("3.1.1")).unwrap()), (MqttVersion::V5, MqttVersion::V3));
    let e = version(json!(3)).unwrap_err();
    assert!(e.message().ends_with("`mqtt_version`: must be \"5\" or \"3.1.1\", not 3"), "{e}");
}

#[test]
fn probes_take_no_more_than_half_of_the_publish_rate() {
    for (bound, least) in [("500ms", 20), ("2s", 5), ("30s", 1)] {
        let with =
            |rate: u32| client(None, json!({"staleness_bound": bound, "max_publish_rate": rate}), Dialect::JSON, &[]);
        assert_eq!(with(least).unwrap().max_publish_rate, Some(least));
        if least > 1 {
            let e = with(least - 1).unwrap_err();
            assert!(e.message().contains("`max_publish_rate` must be at least") && e.message().contains(bound), "{e}");
        }
    }
}

fn client(url: Option<&str>, options: Value, dialect: Dialect, env: &[(&str, &str)]) -> Result<ClientConfig> {
    let env: Vec<_> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    ClientConfig::parse_with_env(url, object(options), dialect, env.into_iter())
}

fn refused(url: Option<&str>, options: Value, dialect: Dialect, env: &[(&str, &str)], names: &str) {
    let e = client(url, options.clone(), dialect, env).expect_err(&format!("{options} must be refused"));
    assert_eq!(e.kind(), ErrorKind::Config);
    assert!(e.message().contains(names), "{e} should name {names}");
}

#[test]
fn argument_beats_query_beats_environment_beats_default() {
    let env = [
        ("UNSTALE_STALENESS_BOUND", "4s"),
        ("UNSTALE_APP", "env"),
        ("UNSTALE_URL", "mqtt://env:1"),
        ("UNSTALE_OUTBOX_LIMIT", "7"),
        ("PATH", "x"),
    ];
    let c = client(Some("mqtt://h?staleness_bound=3s&app=query"), json!({"staleness_bound": 2}), Dialect::JSON, &env)
        .unwrap();
    assert_eq!(c.staleness_bound, Duration::from_secs(2));
    assert_eq!(c.app, "query");
    assert_eq!(c.outbox_limit, 7);
    assert_eq!(c.endpoint().unwrap().to_string(), "mqtt://h:1883");
    assert_eq!(client(None, json!({}), Dialect::JSON, &env).unwrap().endpoint().unwrap().host, "env");
    assert_eq!(client(None, json!({}), Dialect::JSON, &[]).unwrap().endpoint().unwrap().to_string(), "memory://");
}

#[test]
fn a_bare_number_has_the_languages_unit() {
    let node = client(None, json!({"stalenessBound": 2500, "tls": null}), Dialect::NODE, &[]).unwrap();
    let python = client(None, json!({"staleness_bound": 2.5}), Dialect::JSON, &[]).unwrap();
    assert_eq!(node.staleness_bound, python.staleness_bound);
    let cache = CacheConfig::parse(object(json!({"negativeTtl": 1500, "ttl": "5m"})), Dialect::NODE).unwrap();
    assert_eq!((cache.negative_ttl, cache.ttl), (Some(Duration::from_millis(1500)), Duration::from_secs(300)));
}

#[test]
fn every_bad_option_is_named() {
    let j = Dialect::JSON;
    refused(Some(""), json!({}), j, &[], "url");
    refused(None, json!({"url": ""}), j, &[], "url");
    refused(None, json!({"stalenes_bound": 1}), j, &[], "`stalenes_bound`");
    refused(None, json!({"staleness_bound": "1 fortnight"}), j, &[], "staleness_bound");
    refused(None, json!({"staleness_bound": -1}), j, &[], "staleness_bound");
    refused(None, json!({"staleness_bound": 0.1}), j, &[], "staleness_bound");
    refused(None, json!({"staleness_bound": 1e300}), j, &[], "staleness_bound");
    refused(None, json!({"stalenessBound": 1}), j, &[], "stalenessBound");
    refused(None, json!({"staleness_bound": 1}), Dialect::NODE, &[], "staleness_bound");
    refused(None, json!({"lazy": 1}), j, &[], "lazy");
    refused(None, json!({"topic": "a/#"}), j, &[], "topic");
    refused(None, json!({"outbox_dir": ""}), j, &[], "outbox_dir");
    refused(None, json!({"outbox_dir": 7}), j, &[], "outbox_dir");
    refused(None, json!({"mqtt_version": "6"}), j, &[], "mqtt_version");
    refused(None, json!({"tls": {"ca_file": "x"}}), j, &[], "tls");
    refused(Some("mqtts://h"), json!({"tls": {"cert_file": "x"}}), j, &[], "tls.key_file");
    refused(Some("mqtts://h"), json!({"tls": {"ca": "x"}}), j, &[], "ca");
    refused(Some("http://h"), json!({}), j, &[], "http");
    refused(Some("localhost"), json!({}), j, &[], "url");
    refused(Some("mqtt://h/path"), json!({}), j, &[], "path");
    refused(Some("mqtt://h?nope=1"), json!({}), j, &[], "nope");
    refused(Some("mqtt://h"), json!({"url": "mqtt://g"}), j, &[], "url");
    refused(None, json!({}), j, &[("UNSTALE_FOO", "1")], "UNSTALE_FOO");
    refused(None, json!({}), j, &[("UNSTALE_LAZY", "maybe")], "UNSTALE_LAZY");
    let e = CacheConfig::parse(object(json!({"max_entries": 0})), j).unwrap_err();
    assert!(e.message().contains("max_entries"));
}

#[test]
fn nested_options_come_from_the_environment_too() {
    let env = [
        ("UNSTALE_TLS_CA_FILE", "/ca"),
        ("UNSTALE_TLS_ALPN", "mqtt, x"),
        ("UNSTALE_LAZY", "true"),
        ("UNSTALE_PASSWORD", "12"),
        ("UNSTALE_USERNAME", "u"),
    ];
    let c = client(Some("mqtts://h"), json!({}), Dialect::JSON, &env).unwrap();
    assert_eq!(c.tls.ca_file, Some(PathBuf::from("/ca")));
    assert_eq!(c.tls.alpn, ["mqtt", "x"]);
    assert!(c.lazy);
    assert_eq!(c.password, Some(Secret::from("12")));
}

#[test]
fn a_password_is_never_shown() {
    let c = client(Some("mqtt://me:s%40crit@h"), json!({}), Dialect::JSON, &[]).unwrap();
    assert_eq!(c.password, Some(Secret::from("s@crit")));
    assert!(!format!("{c:?}").contains("crit"));
    assert!(!redacted("mqtt://me:secret@h").contains("secret"));
    assert_eq!(redacted("mqtt://me:secret@h?password=secret#secret"), "mqtt://me:***@h");
    let both = client(Some("mqtt://me@h?password=secret"), json!({}), Dialect::JSON, &[]).unwrap();
    assert!(!format!("{both:?}").contains("secret"));
}

#[test]
fn what_an_authorizer_is_told_behind_the_user_name_is_never_shown() {
    let name = "me?x-amz-customauthorizer-signature=7351&token=7352";
    let config = ClientConfig {
        url: "awsiot://me%3Ftoken=7353@h".into(),
        username: Some(name.into()),
        ..ClientConfig::default()
    };
    let shown = format!("{config:?}");
    assert!(shown.contains("\"me\"") && !shown.contains("735"), "{shown}");
}

#[test]
fn a_key_that_is_given_in_place_of_its_path_is_refused_and_shown_nowhere() {
    let j = Dialect::JSON;
    let pem = "-----BEGIN PRIVATE KEY-----\nMIG7351\n-----END PRIVATE KEY-----\n";
    for text in [pem, "7351\nx", "7351\rx", "-----BEGIN 7351"] {
        for name in ["ca_file", "cert_file", "key_file"] {
            let (option, variable) = (format!("tls.{name}"), format!("UNSTALE_TLS_{}", name.to_uppercase()));
            let query = Url::parse_with_params("mqtts://h", [(&option, text)]).unwrap();
            for e in [
                client(Some("mqtts://h"), json!({"tls": {name: text}}), j, &[]),
                client(Some("mqtt://h"), json!({"tls": {name: text}}), j, &[]),
                client(Some("mqtts://h"), json!({}), j, &[(&variable, text)]),
                client(Some(query.as_str()), json!({}), j, &[]),
            ] {
                let e = e.unwrap_err();
                assert_eq!(e.kind(), ErrorKind::Config);
                assert!(e.message().contains(&format!("`{option}`")) && e.message().contains("path"), "{e}");
                assert!(!e.message().contains("735"), "{e}");
            }
        }
        let tls = TlsConfig { key_file: Some(text.into()), ca_file: Some("/ca".into()), ..TlsConfig::default() };
        let shown = format!("{tls:?} {:?}", ClientConfig { tls: tls.clone(), ..ClientConfig::default() });
        assert!(shown.contains("/ca") && !shown.contains("735"), "{shown}");
    }
}

#[test]
fn an_error_does_not_quote_a_secret() {
    let j = Dialect::JSON;
    let cases = [
        (None, json!({"password": 7351}), "password"),
        (None, json!({"signing_key": ["7351"]}), "signing_key"),
        (None, json!({"url": ["mqtt://me:7351@h"]}), "url"),
        (Some("mqtt://me:7351@h"), json!({"password": "7352"}), "password"),
        (Some("mqtt://me:1/7351@h"), json!({}), "%2F"),
        (Some("mqtt://me:1?7351@h"), json!({}), "%3F"),
        (Some("mqtt://me:1#7351@h"), json!({}), "%23"),
        (Some("mqtt://me:7351/@h"), json!({}), "url"),
        (Some("mqtt://:7351@"), json!({}), "url"),
        (Some("mqtt://h?signing_key=7351"), json!({}), "signing_key"),
    ];
    for (url, options, names) in cases {
        let e = client(url, options, j, &[("UNSTALE_PASSWORD", "7350")]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config, "{e}");
        assert!(e.message().contains(names) && !e.message().contains("735"), "{e}");
    }
    assert!(client(Some("wss://u:p@h/a@b"), json!({}), j, &[]).is_ok(), "a path may hold one");
}

#[test]
fn signing_keys_come_from_everywhere_and_are_never_shown() {
    let digits = |digit: &str| digit.repeat(64);
    let (new, old) = (format!("new:{}", digits("a")), format!("old:{}", digits("b")));
    let env = [("UNSTALE_SIGNING_KEY", format!("{new}, {old}"))];
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let by_env = client(None, json!({}), Dialect::JSON, &env).unwrap();
    let query = format!("memory://?signing_key={new},{old}&require_signatures=false");
    let by_query = client(Some(&query), json!({}), Dialect::JSON, &[]).unwrap();
    let by_list = client(None, json!({"signingKey": [new, old]}), Dialect::NODE, &[]).unwrap();
    for config in [&by_env, &by_query, &by_list] {
        let shown = format!("{config:?}");
        assert!(shown.contains("new:***") && shown.contains("old:***"), "{shown}");
        assert!(!shown.contains("aaaa") && !shown.contains("bbbb"), "{shown}");
    }
    assert!(by_env.required_keys().is_some() && by_query.required_keys().is_none());
    for wrong in [json!("aaaaaaaa"), json!(["id:aaaaaaaa"]), json!([7351]), json!(7351), json!({"id": "aaaaaaaa"})] {
        let e = client(None, json!({"signing_key": wrong}), Dialect::JSON, &[]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.message().contains("`signing_key`"), "{e}");
        assert!(!e.message().contains("aaaa") && !e.message().contains("7351"), "{e}");
    }
    let e = client(None, json!({}), Dialect::JSON, &[("UNSTALE_SIGNING_KEY", "aaaaaaaa")]).unwrap_err();
    assert!(e.message().contains("UNSTALE_SIGNING_KEY") && !e.message().contains("aaaa"), "{e}");
    refused(None, json!({"require_signatures": true}), Dialect::JSON, &[], "require_signatures");
}
