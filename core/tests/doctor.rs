//! `unstale doctor` names what is wrong: one fault planted at a time.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{free_port, program, Mosquitto, TempDir};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509NameBuilder, X509};
use serde_json::Value;

struct Report {
    code: i32,
    checks: Vec<(String, String, String)>,
}

impl Report {
    /// The checks that are not in order; what this machine's clock is like is not the test's.
    fn complaints(&self) -> Vec<(&str, &str)> {
        let wrong = self.checks.iter().filter(|(name, verdict, _)| verdict != "ok" && name != "clock");
        wrong.map(|(name, verdict, _)| (name.as_str(), verdict.as_str())).collect()
    }

    fn finding(&self, check: &str) -> &str {
        let found = self.checks.iter().find(|(name, _, _)| name == check);
        &found.unwrap_or_else(|| panic!("no check {check} in {:?}", self.checks)).2
    }
}

fn doctor(arguments: &[&str]) -> Report {
    doctor_with(arguments, &[])
}

fn doctor_with(arguments: &[&str], variables: &[(&str, &str)]) -> Report {
    // One that never ends gives no report.
    let mut command = Command::new("timeout");
    command.arg("120").arg(env!("CARGO_BIN_EXE_unstale"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UNSTALE_") {
            command.env_remove(name);
        }
    }
    let output = command.arg("doctor").args(arguments).arg("--json").envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text:?} {:?}", String::from_utf8_lossy(&output.stderr)));
    let field = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    let checks: Vec<_> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (field(c, "check"), field(c, "verdict"), field(c, "finding")))
        .collect();
    assert_eq!(report["ok"], checks.iter().all(|(_, verdict, _)| verdict != "failed"));
    Report { code: output.status.code().unwrap(), checks }
}

/// Exactly this check complains, in these words among others.
fn one_fault(report: &Report, check: &str, verdict: &str, words: &[&str]) {
    assert_eq!(report.complaints(), [(check, verdict)], "{:?}", report.checks);
    for word in words {
        assert!(report.finding(check).contains(word), "{:?} should say {word:?}", report.finding(check));
    }
    assert_eq!(report.code, i32::from(verdict == "failed"));
}

#[test]
fn a_healthy_broker_has_no_complaints() {
    let broker = Mosquitto::start();
    let report = doctor(&[&broker.url(), "--namespace", "users", "--namespace", ""]);
    assert!(report.complaints().is_empty(), "{:?}", report.checks);
    assert_eq!(report.code, 0);
    let names: Vec<&str> = report.checks.iter().map(|(name, _, _)| name.as_str()).collect();
    let all = "options resolve connect clock mqtt subscribe publish roundtrip retained size burst session";
    assert_eq!(names.join(" "), all);
}

#[test]
fn a_host_that_does_not_exist() {
    one_fault(&doctor(&["mqtt://nobody.invalid"]), "resolve", "failed", &["nobody.invalid", "name service"]);
}

#[test]
fn a_port_where_nobody_listens() {
    let url = format!("mqtt://127.0.0.1:{}", free_port());
    one_fault(&doctor(&[&url]), "connect", "failed", &["refused", "start the broker"]);
}

#[test]
fn a_port_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", silent.local_addr().unwrap());
    let report = doctor(&[&url, "-o", "connect_timeout=1s"]);
    one_fault(&report, "mqtt", "failed", &["no answer", "connect_timeout"]);
}

#[test]
fn tls_with_a_port_that_does_not_speak_it() {
    let broker = Mosquitto::start();
    let report = doctor(&[&format!("mqtts://127.0.0.1:{}", broker.port())]);
    let words =
        ["closed the connection without an answer in TLS", "use the broker's port for TLS (usually 8883", "mqtt://"];
    one_fault(&report, "tls", "failed", &words);
}

#[test]
fn a_certificate_that_has_expired() {
    let dir = TempDir::new();
    let key =
        PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    // A day of 2020.
    builder.set_not_before(&Asn1Time::from_unix(1_600_000_000).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(1_600_086_400).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = dir.write("old.crt", builder.build().to_pem().unwrap()).display().to_string();
    let key = dir.write("old.key", key.private_key_to_pem_pkcs8().unwrap()).display().to_string();
    let config = format!("allow_anonymous true\ncertfile {certificate}\nkeyfile {key}\n");
    let broker = Mosquitto::with_files(dir, &config);
    let report = doctor(&[&format!("mqtts://localhost:{}", broker.port()), "--ca-file", &certificate]);
    one_fault(&report, "tls", "failed", &["expired", "2020"]);
}

#[test]
fn a_wrong_password() {
    let dir = TempDir::new();
    let file = dir.path().join("passwords");
    let made =
        Command::new(program("mosquitto_passwd")).args(["-c", "-b"]).arg(&file).args(["me", "right"]).status().unwrap();
    assert!(made.success());
    let config = format!("password_file {}\n", file.display());
    let broker = Mosquitto::with_files(dir, &config);
    let arguments = [&*broker.url(), "--username", "me"];
    let report = doctor_with(&arguments, &[("UNSTALE_PASSWORD", "hush-wrong")]);
    one_fault(&report, "login", "failed", &["\"me\"", "`password`"]);
    assert!(!report.finding("login").contains("hush"));
    assert!(doctor_with(&arguments, &[("UNSTALE_PASSWORD", "right")]).complaints().is_empty());
}

#[test]
fn a_topic_that_may_not_be_published_to() {
    let dir = TempDir::new();
    let file = dir.write("acl", "topic read cache/invalidate\ntopic readwrite cache/invalidate/_probe/#\n");
    let config = format!("allow_anonymous true\nacl_file {}\n", file.display());
    let broker = Mosquitto::with_files(dir, &config);
    let report = doctor(&[&broker.url()]);
    one_fault(&report, "publish", "failed", &["publish to `cache/invalidate`", "access rules"]);
}

#[test]
fn a_topic_whose_messages_never_come_back() {
    let dir = TempDir::new();
    let file = dir.write("acl", "topic write cache/invalidate/#\n");
    let config = format!("allow_anonymous true\nacl_file {}\n", file.display());
    let broker = Mosquitto::with_files(dir, &config);
    let report = doctor(&[&broker.url(), "-o", "connect_timeout=1s"]);
    let words = ["took a message on `cache/invalidate`, which did not come back", "`topic readwrite` in the ACL"];
    one_fault(&report, "publish", "failed", &words);
}

#[test]
fn a_topic_that_is_subscribed_to_and_never_heard() {
    let dir = TempDir::new();
    let file = dir.write("acl", "topic write cache/invalidate\ntopic readwrite cache/invalidate/_probe/#\n");
    let config = format!("allow_anonymous true\nacl_file {}\n", file.display());
    let broker = Mosquitto::with_files(dir, &config);
    let report = doctor(&[&broker.url(), "-o", "connect_timeout=1s"]);
    one_fault(&report, "publish", "failed", &["not receive", "readwrite"]);
}

#[test]
fn a_broker_that_grants_no_qos_1() {
    let broker = Mosquitto::with("allow_anonymous true\nmax_qos 0\n");
    let report = doctor(&[&broker.url(), "-o", "connect_timeout=2s"]);
    one_fault(&report, "subscribe", "failed", &["grants only QoS 0 for `cache/invalidate`", "allow QoS 1 there"]);
}

#[test]
fn a_message_that_the_broker_keeps() {
    let broker = Mosquitto::start();
    let port = broker.port().to_string();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-r", "-q", "1", "-t", "cache/invalidate/users", "-m", "user:1"];
    assert!(Command::new(program("mosquitto_pub")).args(arguments).status().unwrap().success());
    let report = doctor(&[&broker.url(), "--namespace", "users"]);
    one_fault(&report, "retained", "warning", &["cache/invalidate/users", "mosquitto_pub -r -n"]);
}

#[test]
fn a_limit_of_the_message_size() {
    let broker = Mosquitto::with("allow_anonymous true\nmessage_size_limit 20000\n");
    let report = doctor(&[&broker.url(), "-o", "connect_timeout=2s"]);
    one_fault(&report, "size", "failed", &["65536 bytes", "message_size_limit"]);
}

/// Says something on a topic again and again, for as long as it lives.
struct Chatter(Child);

impl Chatter {
    fn start(broker: &Mosquitto, topic: &str) -> Chatter {
        let port = broker.port().to_string();
        let mut process = Command::new(program("mosquitto_pub"))
            .args(["-h", "127.0.0.1", "-p", &port, "-t", topic, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = process.stdin.take().unwrap();
        thread::spawn(move || {
            while lines.write_all(b"x\n").is_ok() {
                thread::sleep(Duration::from_millis(50));
            }
        });
        Chatter(process)
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_queue_that_is_too_short_is_found_on_a_busy_broker_too() {
    let broker = Mosquitto::with("allow_anonymous true\nmax_queued_messages 10\nmax_inflight_messages 1\n");
    let _chatter = Chatter::start(&broker, "cache/invalidate");
    // In MQTT 5 the broker takes no more at once than it hands out.
    let report = doctor(&[&broker.url(), "-o", "mqtt_version=3.1.1"]);
    let words = ["of 1500 messages sent at once", "accepted and never delivered", "max_queued_messages"];
    one_fault(&report, "burst", "warning", &words);
}

#[test]
fn a_topic_that_is_never_heard_is_found_on_a_busy_broker_too() {
    let dir = TempDir::new();
    let file = dir.write(
        "acl",
        "topic readwrite cache/invalidate/a\ntopic write cache/invalidate/b\ntopic readwrite cache/invalidate/_probe/#\n",
    );
    let config = format!("allow_anonymous true\nacl_file {}\n", file.display());
    let broker = Mosquitto::with_files(dir, &config);
    let _chatter = Chatter::start(&broker, "cache/invalidate/a");
    let report = doctor(&[&broker.url(), "-o", "connect_timeout=1s", "--namespace", "a", "--namespace", "b"]);
    one_fault(&report, "publish", "failed", &["`cache/invalidate/b`", "`topic readwrite` in the ACL"]);
}

/// A shell and what it runs; all of it ends with the test.
struct Rival(Child);

impl Drop for Rival {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", "--"]).arg(format!("-{}", self.0.id())).status();
        let _ = self.0.wait();
    }
}

#[test]
fn a_client_id_that_another_client_has() {
    let broker = Mosquitto::start();
    let port = broker.port().to_string();
    let arguments = ["-h", "127.0.0.1", "-p", &port, "-i", "twin", "-t", "x", "-V", "5"];
    // Comes back whenever it is pushed out, as services do.
    let rival = Command::new("sh")
        .arg("-c")
        .arg("while true; do mosquitto_sub \"$@\" >/dev/null 2>&1; done")
        .arg("rival")
        .args(arguments)
        .process_group(0)
        .spawn()
        .unwrap();
    let rival = Rival(rival);
    let report = doctor(&[&broker.url(), "-o", "client_id=twin"]);
    drop(rival);
    assert_eq!(report.code, 1, "{:?}", report.checks);
    assert!(
        report.checks.iter().any(|(_, verdict, words)| verdict == "failed" && words.contains("\"twin\"")),
        "{:?}",
        report.checks
    );
}

#[test]
fn the_program_that_gives_credentials_is_run_once_for_an_attempt() {
    let dir = TempDir::new();
    let (count, json) = (dir.path().join("count"), r#"{"AccessKeyId": "A", "SecretAccessKey": "hush"}"#);
    let profile = format!("[default]\ncredential_process = echo x >> {}; echo '{json}'\n", count.display());
    let file = dir.write("config", &profile);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let variables = [
        ("AWS_CONFIG_FILE", file.to_str().unwrap()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/nowhere"),
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_PROFILE", ""),
        ("AWS_REGION", "eu-central-1"),
    ];
    let report = doctor_with(&[&format!("awsiot://127.0.0.1:{port}")], &variables);
    assert_eq!(report.code, 1, "{:?}", report.checks);
    assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n", "{:?}", report.checks);
}

/// What is wrong with a broker that no real one can be made to do.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// Takes its time over the messages that are measured.
    Slow,
    /// Delivers a message after the one that came after it.
    Swaps,
    /// Accepts a message and delivers it to nobody.
    Loses,
    /// Keeps the subscriptions of a client that asked for a clean session.
    Remembers,
}

/// A broker of MQTT 3.1.1 for one client, with one fault; its URL.
fn faulty(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}?mqtt_version=3.1.1", listener.local_addr().unwrap());
    // Ends with the test's process.
    thread::spawn(move || {
        let remembered: Arc<Mutex<bool>> = Arc::default();
        for stream in listener.incoming().flatten() {
            let remembered = Arc::clone(&remembered);
            thread::spawn(move || serve(stream, fault, &remembered));
        }
    });
    url
}

/// One connection, to its end. Whatever is published comes back, once there was a subscription.
fn serve(mut stream: TcpStream, fault: Fault, remembered: &Mutex<bool>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut subscribed = fault == Fault::Remembers && *remembered.lock().unwrap();
    let mut held = Vec::new();
    loop {
        let (packet, body) = packet(&mut stream)?;
        match packet[0] >> 4 {
            1 => stream.write_all(&[0x20, 2, 0, 0]).ok()?,
            8 => {
                // One answer for each filter: two bytes of length, the name, the QoS.
                let (mut at, mut codes) = (2, Vec::new());
                while at < body.len() {
                    at += 3 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
                    codes.push(1);
                }
                subscribed = true;
                *remembered.lock().unwrap() = true;
                stream.write_all(&[&[0x90, 2 + codes.len() as u8, body[0], body[1]], &codes[..]].concat()).ok()?;
            }
            3 => {
                let id_at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let payload = &body[id_at + 2..];
                stream.write_all(&[0x40, 2, body[id_at], body[id_at + 1]]).ok()?;
                match fault {
                    Fault::Slow if payload.len() == 1 => thread::sleep(Duration::from_millis(150)),
                    Fault::Loses if payload == b"burst 7" => continue,
                    Fault::Swaps if payload == b"burst 7" => {
                        held = packet;
                        continue;
                    }
                    _ => {}
                }
                if subscribed {
                    stream.write_all(&[packet, std::mem::take(&mut held)].concat()).ok()?;
                }
            }
            12 => stream.write_all(&[0xd0, 0]).ok()?,
            14 => return None,
            _ => {}
        }
    }
}

/// The next packet: all of it, and what follows its head.
fn packet(stream: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut head = vec![0; 1];
    stream.read_exact(&mut head).ok()?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        length |= usize::from(byte[0] & 0x7f) << shift;
        shift += 7;
        if byte[0] < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(([&head[..], &body[..]].concat(), body))
}

#[test]
fn a_broker_that_is_slow_for_the_bound() {
    let url = faulty(Fault::Slow);
    // A probe goes every 100 ms.
    let report = doctor(&[&url, "-o", "staleness_bound=500ms"]);
    one_fault(&report, "roundtrip", "warning", &["raise `staleness_bound`"]);
    assert!(doctor(&[&url]).complaints().is_empty(), "it is quick enough for the default");
}

#[test]
fn a_broker_that_keeps_no_order() {
    let url = faulty(Fault::Swaps);
    one_fault(&doctor(&[&url]), "burst", "failed", &["1 were overtaken", "`reordering=true`"]);
    let report = doctor(&[&url, "-o", "reordering=true"]);
    assert!(report.complaints().is_empty(), "{:?}", report.checks);
    assert!(report.finding("burst").contains("not all in order"), "{:?}", report.checks);
}

#[test]
fn a_broker_that_accepts_messages_and_drops_them() {
    one_fault(&doctor(&[&faulty(Fault::Loses)]), "burst", "warning", &["1 were accepted and never delivered"]);
}

#[test]
fn a_broker_that_remembers_who_asked_for_a_clean_session() {
    one_fault(&doctor(&[&faulty(Fault::Remembers)]), "session", "failed", &["persistent sessions"]);
}

#[test]
fn a_namespace_that_no_cache_can_have_is_refused_before_anything_is_asked() {
    let arguments = ["doctor", "mqtt://127.0.0.1:1", "--namespace", "_private"];
    let output = Command::new(env!("CARGO_BIN_EXE_unstale")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.stdout.is_empty() && said.contains("namespace") && said.contains("_private"), "{output:?}");
}
