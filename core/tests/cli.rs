//! The command-line tool as its users meet it: the real binary, a real broker, pipes and signals.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use common::DEADLINE;
use serde_json::{json, Value};

/// The tool, without whatever configuration the tests' own environment holds.
fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_unstale"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("UNSTALE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Runs it to its end, which must come.
fn run(arguments: &[&str]) -> Output {
    finish(tool(arguments))
}

fn finish(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the tool");
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let stdout = std::thread::spawn(move || read_all(&mut out));
    let stderr = std::thread::spawn(move || read_all(&mut err));
    let status = ended(&mut child);
    Output { status, stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() }
}

fn read_all(from: &mut dyn Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("read a pipe");
    bytes
}

/// The child's status; kills it and fails the test when it does not end by itself.
fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the process did not end within {DEADLINE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The exit code, stdout and stderr.
fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    (output.status.code().expect("ended by itself"), text(&output.stdout), text(&output.stderr))
}

/// A tool that keeps running, its output line by line. Killed when dropped.
struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(tool(arguments))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the tool");
        let out = lines(child.stdout.take().unwrap());
        let err = lines(child.stderr.take().unwrap());
        Running { child, out, err }
    }

    fn line(&self) -> String {
        self.out.recv_timeout(DEADLINE).expect("a line on stdout in time")
    }

    fn json(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line} is not JSON: {e}"))
    }

    /// Waits for a line on stderr that contains `text`.
    fn wait_for_note(&self, text: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let line = self
                .err
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
                .unwrap_or_else(|e| panic!("no {text:?} on stderr: {e}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    #[cfg(unix)]
    fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so its id is still its own.
        assert_eq!(unsafe { libc::kill(self.child.id() as i32, signal) }, 0);
    }

    fn code(&mut self) -> i32 {
        ended(&mut self.child).code().expect("ended by itself, not by a signal")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

mod decode {
    use super::*;

    fn decoded(payload: &str) -> (i32, Value) {
        let (code, out, err) = outcome(&run(&["decode", "--json", "--", payload]));
        assert_eq!(err, "", "{payload}");
        (code, serde_json::from_str(&out).unwrap())
    }

    #[test]
    fn signatures_are_checked_where_topic_and_keys_are_given() {
        let secret = "5e".repeat(32);
        let keys = unstale::SigningKeys::parse([&*format!("k:{secret}")]).unwrap();
        let payload = keys.sign("t/users", br#"{"v":1,"keys":["a"]}"#.to_vec());
        let payload = String::from_utf8(payload).unwrap();
        let checked = |topic: &str, variable: Option<&str>, more: &[&str]| {
            let mut command = tool(&[&["decode", "--on", topic], more, &[&payload]].concat());
            command.envs(variable.map(|keys| ("UNSTALE_SIGNING_KEY", keys)));
            outcome(&finish(command))
        };
        let key = format!("k:{secret}");
        let json = |(code, out, _): (i32, String, String)| (code, serde_json::from_str::<Value>(&out).unwrap());
        let (code, value) = json(checked("t/users", Some(&key), &["--json"]));
        assert_eq!((code, &value["signature"], &value["key_id"]), (0, &json!("valid"), &json!("k")));
        let (code, value) = json(checked("t/prices", Some(&key), &["--json"]));
        assert_eq!((code, &value["signature"]), (1, &json!("bad_signature")));
        let (code, value) = json(checked("t/users", Some(&format!("j:{secret}")), &["--json"]));
        assert_eq!((code, &value["signature"]), (1, &json!("unknown_key")));
        assert!(checked("t/users", Some(&key), &[]).1.contains("right, by the key k"));
        assert!(checked("t/prices", Some(&key), &[]).1.contains("refuse it: its signature is wrong"));
        assert_eq!((checked("t/users", None, &[]).0, checked("t/users", Some("5e5e"), &[]).0), (2, 2));
        assert!(!checked("t/users", Some("5e5e"), &[]).2.contains("5e5e"));
        assert!(outcome(&run(&["decode", &payload])).1.contains("by the key k, not checked"));
    }

    #[test]
    fn payloads_are_explained_as_json() {
        assert_eq!(decoded("user:42"), (0, json!({"kind": "invalidation", "form": "plain", "keys": ["user:42"]})));
        assert_eq!(decoded(""), (0, json!({"kind": "empty"})));
        assert_eq!(
            decoded(
                r#"{"v":1,"src":"s-1","seq":7,"first":5,"keys":["a","b"],"versions":{"b":3},"tags":["t"],"prefixes":["p:"],"all":true,"ts":9,"later":1}"#
            ),
            (
                0,
                json!({
                    "kind": "invalidation", "form": "envelope", "src": "s-1", "seq": 7, "first": 5, "keys": ["a", "b"],
                    "versions": {"b": 3}, "tags": ["t"], "prefixes": ["p:"], "all": true, "ts": 9,
                })
            )
        );
        assert_eq!(
            decoded(r#"{"v":1,"src":"s","hello":true,"bound":30000}"#),
            (0, json!({"kind": "hello", "form": "envelope", "src": "s", "hello": true, "bound": 30000}))
        );
        assert_eq!(decoded(r#"{"v":1,"src":"s","seq":2}"#).1["kind"], "heartbeat");
        assert_eq!(decoded(r#"{"v":1,"src":"s","seq":2,"bye":true}"#).1["kind"], "bye");
    }

    #[test]
    fn malformed_payloads_say_why_and_exit_with_1() {
        for (payload, reason) in [
            (r#"{"v":2}"#, "\"v\" is 2"),
            (r#"{"v":1,"v":1}"#, "v"),
            (r#"{"keys":["a"]}"#, "v"),
            (r#"{"v":1,"src":"a","seq":1.0}"#, "1.0"),
            (r#"{"v":1,"keys":[""]}"#, "key"),
            ("{", ""),
        ] {
            let (code, value) = decoded(payload);
            assert_eq!((code, &value["kind"]), (1, &json!("malformed")), "{payload}");
            assert!(value["reason"].as_str().unwrap().contains(reason), "{payload}: {value}");
            assert_eq!(value["payload"], payload);
            let (code, out, err) = outcome(&run(&["decode", payload]));
            assert_eq!((code, err.as_str()), (1, ""));
            assert!(out.starts_with("malformed: "), "{out}");
        }
    }

    #[test]
    fn text_names_every_part() {
        let (code, out, _) = outcome(&run(&[
            "decode",
            r#"{"v":1,"src":"s-1","seq":7,"first":5,"keys":["a b"],"versions":{"a b":3},"tags":["t"],"prefixes":["p:"],"all":true}"#,
        ]));
        assert_eq!(code, 0);
        for part in ["\"a b\" (version 3)", "tags", "p:", "every entry", "s-1", "7, stands for 5 to 7", "effect"] {
            assert!(out.contains(part), "{part} is missing from:\n{out}");
        }
    }

    #[test]
    fn standard_input_is_read_byte_for_byte() {
        for arguments in [&["decode", "--json"][..], &["decode", "--json", "-"]] {
            let mut command = tool(arguments);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(b"user:42\n").unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap()["keys"], json!(["user:42\n"]));
        }
        let (code, out, _) = outcome(&run(&["decode", "--hex", "--json", "75 73 65 72 ff"]));
        assert_eq!((code, serde_json::from_str::<Value>(&out).unwrap()["kind"].clone()), (1, json!("malformed")));
    }

    #[test]
    fn a_payload_cannot_draw_on_the_terminal() {
        let (_, out, _) = outcome(&run(&["--color", "never", "decode", "a\u{1b}[2Jb\u{202e}c"]));
        assert!(!out.contains(['\u{1b}', '\u{202e}']), "{out:?}");
    }
}

mod usage {
    use super::*;

    #[test]
    fn wrong_usage_exits_with_2_and_changes_nothing() {
        for arguments in [
            &[][..],
            &["frobnicate"],
            &["decode", "--hex", "7b2"],
            &["decode", "--hex", "xy"],
            &["watch"],
            &["watch", "--url", "memory://x"],
            &["watch", "--url", "localhost"],
            &["watch", "--url", "http://localhost"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--topic", "a/#"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--namespace", "a/b"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--option", "nope=1"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--option", "keep_alive=soon"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--option", "keep_alive"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--ca-file", "/x"],
            &["watch", "--url", "mqtt://127.0.0.1:1", "--count", "0"],
            &["broker", "--port", "65536"],
            &["broker", "--listen", "here"],
        ] {
            let (code, out, err) = outcome(&run(arguments));
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
            assert!(err.contains("Usage:") || err.starts_with("error: "), "{arguments:?}: {err}");
        }
    }

    #[test]
    fn an_unknown_variable_is_named() {
        let mut command = tool(&["watch", "--url", "mqtt://127.0.0.1:1"]);
        command.env("UNSTALE_STALENES_BOUND", "1s");
        let (code, _, err) = outcome(&finish(command));
        assert_eq!(code, 2);
        assert!(err.contains("UNSTALE_STALENES_BOUND"), "{err}");
    }

    #[test]
    fn help_has_examples_and_exit_codes() {
        for arguments in [
            &["--help"][..],
            &["broker", "--help"],
            &["invalidate", "--help"],
            &["watch", "--help"],
            &["decode", "--help"],
        ] {
            let (code, out, _) = outcome(&run(arguments));
            assert_eq!(code, 0);
            assert!(out.contains("Examples:\n") && out.to_lowercase().contains("exit code"), "{arguments:?}: {out}");
            assert!(out.lines().all(|line| line.chars().count() <= 110), "{out}");
        }
    }

    #[test]
    fn pipes_get_plain_text_unless_colour_is_asked_for() {
        let plain = run(&["decode", "user:42"]);
        assert!(!plain.stdout.contains(&0x1b));
        let coloured = run(&["--color", "always", "decode", "user:42"]);
        assert!(coloured.stdout.contains(&0x1b));
        assert!(!run(&["decode", "{"]).stdout.contains(&0x1b));
        assert!(!run(&["watch"]).stderr.contains(&0x1b));
    }
}

#[cfg(not(feature = "broker"))]
#[test]
fn a_tool_without_a_broker_says_where_to_get_one() {
    let (code, _, err) = outcome(&run(&["broker"]));
    assert_eq!(code, 2);
    assert!(err.contains("--features broker") && err.contains("mosquitto -p 1883"), "{err}");
}

#[cfg(all(feature = "broker", unix))]
mod broker {
    use super::*;
    use std::net::TcpStream;

    /// The embedded broker on free ports, and what it says about itself.
    pub fn start() -> (Running, Value) {
        let running = Running::start(&["broker", "--port", "0", "--port-v3", "0", "--json"]);
        let about = running.json();
        (running, about)
    }

    #[test]
    fn it_ends_cleanly_on_signals_and_frees_its_ports() {
        for signal in [libc::SIGINT, libc::SIGTERM] {
            let (mut running, about) = start();
            let ports = ["port", "port_v3"].map(|name| about[name].as_u64().unwrap() as u16);
            for port in ports {
                TcpStream::connect(("127.0.0.1", port)).expect("the port is open when it is announced");
            }
            running.signal(signal);
            assert_eq!(running.code(), 0);
            for port in ports {
                TcpStream::connect(("127.0.0.1", port)).expect_err("the port is closed");
            }
        }
    }

    #[test]
    fn it_prints_the_urls_to_use() {
        let running = Running::start(&["broker", "--port", "0", "--port-v3", "0"]);
        let (v5, v3) = (running.line(), running.line());
        assert!(v5.starts_with("MQTT 5 ") && v5.contains(" mqtt://127.0.0.1:"), "{v5}");
        assert!(v3.starts_with("MQTT 3.1.1 ") && v3.ends_with("?mqtt_version=3.1.1"), "{v3}");
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_that_names_it() {
        let (_running, about) = start();
        for (option, other, name) in [("--port", "--port-v3", "port"), ("--port-v3", "--port", "port_v3")] {
            let port = about[name].to_string();
            let (code, out, err) = outcome(&run(&["broker", option, &port, other, "0"]));
            assert_eq!((code, out.as_str()), (1, ""), "{err}");
            assert!(err.contains(&port) && err.contains(option), "{err}");
        }
        let port = about["port"].to_string();
        assert_eq!(run(&["broker", "--port", &port, "--port-v3", &port]).status.code(), Some(2));
    }
}

#[cfg(unix)]
mod traffic {
    use super::*;
    use common::{Mosquitto, TempDir};
    use std::collections::BTreeSet;
    use std::net::TcpListener;

    /// A watch that is subscribed.
    fn watch(url: &str, more: &[&str]) -> Running {
        let watch = Running::start(&[&["watch", "--url", url], more].concat());
        watch.wait_for_note("watching");
        watch
    }

    fn invalidate(url: &str, more: &[&str]) -> (i32, String, String) {
        outcome(&run(&[&["invalidate", "--url", url], more].concat()))
    }

    /// A stranger's message; returns when the broker has it.
    fn publish(broker: &Mosquitto, topic: &str, payload: &str, more: &[&str]) {
        let mut command = Command::new(common::program("mosquitto_pub"));
        command.args(["-h", "127.0.0.1", "-p", &broker.port().to_string(), "-q", "1", "-t", topic, "-m", payload]);
        common::run(command.args(more));
    }

    fn with_password(user: &str, password: &str) -> Mosquitto {
        let dir = TempDir::new();
        let mut command = Command::new(common::program("mosquitto_passwd"));
        common::run(command.args(["-b", "-c", dir.write("passwords", "").to_str().unwrap(), user, password]));
        Mosquitto::with_files(dir, "allow_anonymous false\npassword_file passwords\n")
    }

    /// The URL of something that accepts connections and subscriptions (MQTT 5), and acknowledges no message.
    fn deaf_broker() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer_all_but_publishes(stream));
            }
        });
        url
    }

    fn answer_all_but_publishes(mut stream: std::net::TcpStream) -> std::io::Result<()> {
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            let kind = byte[0] >> 4;
            let (mut length, mut shift) = (0usize, 0);
            loop {
                stream.read_exact(&mut byte)?;
                length |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] < 0x80 {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            match kind {
                1 => stream.write_all(&[0x20, 3, 0, 0, 0])?,
                8 => {
                    // Packet id, properties (fewer than 128 bytes), then filters: length, text, options.
                    let mut rest = &body[3 + usize::from(body[2])..];
                    let mut answer = vec![body[0], body[1], 0];
                    while !rest.is_empty() {
                        rest = &rest[2 + usize::from(u16::from_be_bytes([rest[0], rest[1]])) + 1..];
                        answer.push(1);
                    }
                    stream.write_all(&[&[0x90, answer.len() as u8][..], &answer].concat())?;
                }
                12 => stream.write_all(&[0xd0, 0])?,
                _ => {}
            }
        }
    }

    fn strings(value: &Value) -> Vec<String> {
        value.as_array().into_iter().flatten().map(|s| s.as_str().unwrap().to_owned()).collect()
    }

    /// What the messages of one `unstale invalidate` ask for, seen by a watcher.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Asked {
        keys: BTreeSet<(String, Option<u64>)>,
        tags: BTreeSet<String>,
        prefixes: BTreeSet<String>,
        all: bool,
    }

    /// Runs the tool and reads what it sent, up to its farewell: one stream, numbered from 1 without a gap.
    fn asked(watch: &Running, url: &str, arguments: &[&str]) -> Asked {
        let (code, out, err) = invalidate(url, &[&["--json", "--namespace", "users"], arguments].concat());
        assert_eq!((code, err.as_str()), (0, ""));
        let said: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(said["namespace"], "users");
        assert!(said["ms"].as_f64().unwrap() > 0.0);

        let mut asked = Asked::default();
        let (mut sources, mut last) = (BTreeSet::new(), 0);
        loop {
            let message = watch.json();
            assert_eq!(message["namespace"], "users", "{message}");
            match message["kind"].as_str().unwrap() {
                "hello" => continue,
                "bye" => {
                    assert_eq!(message["seq"], last, "the farewell has the last number");
                    break;
                }
                "heartbeat" => assert!(message["seq"].as_u64().unwrap() <= last),
                "invalidation" => {
                    assert_eq!(message["first"], last + 1, "no gap");
                    last = message["seq"].as_u64().unwrap();
                }
                _ => panic!("{message}"),
            }
            sources.insert(message["src"].as_str().unwrap().to_owned());
            let version = |key: &String| message["versions"][key].as_u64();
            asked.keys.extend(strings(&message["keys"]).into_iter().map(|key| {
                let version = version(&key);
                (key, version)
            }));
            asked.tags.extend(strings(&message["tags"]));
            asked.prefixes.extend(strings(&message["prefixes"]));
            asked.all |= message["all"] == true;
        }
        let src = sources.pop_first().unwrap();
        assert!(sources.is_empty(), "one stream");
        let tokens = strings(&said["tokens"]);
        assert_eq!(*tokens.last().unwrap(), format!("u1:{src}:{last}:users"));
        asked
    }

    fn an_invalidation_arrives_whole(url: &str) {
        let watch = watch(url, &["--json", "--all-messages", "--namespace", "users"]);
        let set = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<BTreeSet<_>>();
        let arguments = ["a", "b", "--version", "7", "--tag", "vip", "--tag", "old", "--prefix", "team:9:"];
        assert_eq!(
            asked(&watch, url, &arguments),
            Asked {
                keys: BTreeSet::from([("a".into(), Some(7)), ("b".into(), Some(7))]),
                tags: set(&["old", "vip"]),
                prefixes: set(&["team:9:"]),
                all: false,
            }
        );
        assert_eq!(
            asked(&watch, url, &["--", "-k"]),
            Asked { keys: BTreeSet::from([("-k".into(), None)]), ..Asked::default() }
        );
        assert_eq!(asked(&watch, url, &["--all"]), Asked { all: true, ..Asked::default() });
    }

    /// A cache in this process, an `invalidate` in another: what the tool is for.
    fn a_cache_in_another_process_drops_the_entry(url: &str) {
        let client = unstale::blocking::connect(unstale::ClientConfig::from_url(url).unwrap()).unwrap();
        let cache = client.cache::<u32>("users", unstale::CacheConfig::default()).unwrap();
        cache.set("user:42", 1).unwrap();
        cache.set("user:43", 2).unwrap();
        let (code, out, err) = invalidate(url, &["--namespace", "users", "user:42"]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("accepted: 1 key in users  in "), "{out}");
        let token = out.split_whitespace().last().unwrap();
        assert!(unstale::blocking::wait_for(&client, token, DEADLINE).unwrap());
        assert_eq!((cache.get("user:42"), cache.get("user:43")), (None, Some(2)));
        unstale::blocking::close(&client, DEADLINE).unwrap();
    }

    #[test]
    fn an_invalidation_arrives_whole_through_mosquitto() {
        an_invalidation_arrives_whole(&Mosquitto::start().url());
    }

    #[test]
    fn a_cache_in_another_process_drops_the_entry_through_mosquitto() {
        a_cache_in_another_process_drops_the_entry(&Mosquitto::start().url());
    }

    #[cfg(feature = "broker")]
    #[test]
    fn an_invalidation_arrives_whole_through_the_embedded_broker() {
        let (_broker, about) = broker::start();
        an_invalidation_arrives_whole(about["url"].as_str().unwrap());
    }

    #[cfg(feature = "broker")]
    #[test]
    fn a_cache_in_another_process_drops_the_entry_through_the_embedded_broker() {
        let (_broker, about) = broker::start();
        for url in ["url", "url_v3"] {
            a_cache_in_another_process_drops_the_entry(about[url].as_str().unwrap());
        }
    }

    #[cfg(feature = "broker")]
    #[test]
    fn both_versions_of_mqtt_meet_in_the_embedded_broker() {
        let (_broker, about) = broker::start();
        let (v5, v3) = (about["url"].as_str().unwrap(), about["url_v3"].as_str().unwrap());
        for (publisher, watcher) in [(v5, v3), (v3, v5)] {
            let watch = watch(watcher, &["--json"]);
            assert_eq!(invalidate(publisher, &["a"]).0, 0);
            assert_eq!(watch.json()["keys"], json!(["a"]));
        }
    }

    #[test]
    fn signatures_are_made_and_shown_with_the_key_of_the_environment() {
        let broker = Mosquitto::start();
        let key = format!("k:{}", "5e".repeat(32));
        let start = |key: &str| {
            let mut command = tool(&["watch", "--url", &broker.url(), "--json", "--all-messages"]);
            command.env("UNSTALE_SIGNING_KEY", key);
            let watch = Running::spawn(command);
            watch.wait_for_note("watching");
            watch
        };
        let (insider, stranger) = (start(&key), start(&format!("other:{}", "5e".repeat(32))));
        let ignorant = watch(&broker.url(), &["--json", "--all-messages"]);
        let mut command = tool(&["invalidate", "--url", &broker.url(), "--namespace", "users", "user:42"]);
        command.env("UNSTALE_SIGNING_KEY", &key);
        let (code, out, err) = outcome(&finish(command));
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(!out.contains("5e5e"));
        let mut kinds = BTreeSet::new();
        while !kinds.contains("bye") {
            let (seen, refused, unchecked) = (insider.json(), stranger.json(), ignorant.json());
            let kind = seen["kind"].as_str().unwrap().to_owned();
            assert_eq!((&seen["signature"], &refused["signature"]), (&json!("valid"), &json!("unknown_key")), "{seen}");
            assert_eq!(unchecked["signature"], Value::Null);
            assert!(kind == "probe" || unchecked["key_id"] == "k", "{unchecked}");
            kinds.insert(kind);
        }
        assert!(kinds.contains("hello") && kinds.contains("invalidation") && kinds.contains("probe"), "{kinds:?}");
        publish(&broker, "cache/invalidate/users", "user:42", &[]);
        let plain = loop {
            let seen = insider.json();
            if seen["form"] == "plain" {
                break seen;
            }
        };
        assert_eq!(plain["signature"], "unsigned");
    }

    #[test]
    fn a_stranger_s_plain_key_is_shown() {
        let broker = Mosquitto::start();
        let watch = watch(&broker.url(), &["--json"]);
        publish(&broker, "cache/invalidate/users", "user:42", &[]);
        let mut message = watch.json();
        assert!(message["time"].as_str().unwrap().ends_with('Z'));
        message.as_object_mut().unwrap().remove("time");
        assert_eq!(
            message,
            json!({"topic": "cache/invalidate/users", "namespace": "users", "kind": "invalidation", "form": "plain", "keys": ["user:42"]})
        );
        publish(&broker, "cache/invalidate", "{oops", &[]);
        let message = watch.json();
        assert_eq!((&message["kind"], &message["namespace"]), (&json!("malformed"), &json!("")));
        publish(&broker, "cache/invalidate/a/b", "k", &[]);
        assert_eq!(watch.json()["namespace"], Value::Null);
    }

    #[test]
    fn lines_for_people_are_plain_in_a_pipe_and_cannot_be_forged() {
        let broker = Mosquitto::start();
        let watch = watch(&broker.url(), &[]);
        publish(&broker, "cache/invalidate/users", "a\nb\u{1b}[2J", &[]);
        let line = watch.line();
        assert!(line.contains("users") && line.contains(r#"key "a\nb\u{1b}[2J"  plain"#), "{line:?}");
        assert!(!line.contains('\u{1b}'));
        publish(
            &broker,
            "cache/invalidate",
            r#"{"v":1,"src":"s-1","seq":9,"first":7,"keys":["k"],"versions":{"k":3},"tags":["t","u"]}"#,
            &[],
        );
        let line = watch.line();
        assert!(line.ends_with("(none)      key k (version 3)  tags t, u  from s-1 #7-9"), "{line}");
    }

    #[test]
    fn a_retained_message_is_marked_because_caches_ignore_it() {
        let broker = Mosquitto::start();
        publish(&broker, "cache/invalidate/users", "old", &["-r"]);
        let watch = watch(&broker.url(), &["--json"]);
        let message = watch.json();
        assert_eq!((&message["keys"], &message["retained"]), (&json!(["old"]), &json!(true)));
    }

    #[test]
    fn upkeep_is_shown_on_request_only() {
        let broker = Mosquitto::start();
        let quiet = watch(&broker.url(), &["--json", "--count", "1"]);
        let chatty = watch(&broker.url(), &["--json", "--all-messages"]);
        publish(&broker, "cache/invalidate/_probe/abc", "1", &[]);
        publish(&broker, "cache/invalidate/users", r#"{"v":1,"src":"abc","seq":4}"#, &[]);
        publish(&broker, "cache/invalidate/users", "k", &[]);
        assert_eq!(quiet.json()["keys"], json!(["k"]));
        let probe = chatty.json();
        assert_eq!(
            (&probe["kind"], &probe["src"], &probe["namespace"]),
            (&json!("probe"), &json!("abc"), &Value::Null)
        );
        assert_eq!(chatty.json()["kind"], "heartbeat");
        assert_eq!(chatty.json()["keys"], json!(["k"]));
    }

    #[test]
    fn watch_ends_with_0_on_signals_after_its_count_and_when_its_reader_goes() {
        let broker = Mosquitto::start();
        for signal in [libc::SIGINT, libc::SIGTERM] {
            let mut watch = watch(&broker.url(), &[]);
            watch.signal(signal);
            assert_eq!(watch.code(), 0);
        }
        let mut counting = watch(&broker.url(), &["--count", "2"]);
        let mut command = tool(&["watch", "--url", &broker.url()]);
        let mut headless = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let notes = lines(headless.stderr.take().unwrap());
        assert!(notes.recv_timeout(DEADLINE).unwrap().contains("watching"));
        drop(headless.stdout.take());
        publish(&broker, "cache/invalidate", "a", &[]);
        publish(&broker, "cache/invalidate", "b", &[]);
        assert_eq!(counting.code(), 0);
        assert_eq!(ended(&mut headless).code(), Some(0));
    }

    #[test]
    fn watch_comes_back_with_the_broker() {
        let mut broker = Mosquitto::start();
        let watch = watch(&broker.url(), &["--json"]);
        broker.restart();
        watch.wait_for_note("watching cache/invalidate/# again");
        publish(&broker, "cache/invalidate", "after", &[]);
        assert_eq!(watch.json()["keys"], json!(["after"]));
    }

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let nobody = format!("mqtt://127.0.0.1:{}", common::free_port());
        let locked = with_password("me", "secret");
        let open = Mosquitto::start();
        let tls_to_plain = open.url().replace("mqtt://", "mqtts://");
        for (url, code, kind) in [
            (nobody.as_str(), 13, "Connect"),
            (locked.url().as_str(), 14, "Auth"),
            (tls_to_plain.as_str(), 15, "Tls"),
            (open.url().as_str(), 0, ""),
        ] {
            let (got, out, err) = invalidate(url, &["--namespace", "users", "user:42"]);
            assert_eq!(got, code, "{url}: {out}{err}");
            assert!(err.contains(kind), "{err}");
            if code != 0 {
                assert_eq!(out, "");
                let (got, out, err) = outcome(&run(&["watch", "--url", url]));
                assert_eq!((got, out.as_str()), (code, ""), "{err}");
            }
        }
    }

    #[test]
    fn the_password_comes_from_the_environment_and_is_never_shown() {
        let broker = with_password("me", "s3cret!");
        for (password, code) in [("s3cret!", 0), ("wr0ng!", 14)] {
            let mut command = tool(&["invalidate", "--url", &broker.url(), "--username", "me", "user:42"]);
            command.env("UNSTALE_PASSWORD", password);
            let (got, out, err) = outcome(&finish(command));
            assert_eq!(got, code, "{err}");
            assert!(!format!("{out}{err}").contains(password), "{out}{err}");
        }
    }

    #[test]
    fn a_bad_argument_sends_nothing() {
        let broker = Mosquitto::start();
        let watch = watch(&broker.url(), &["--json"]);
        let long = "k".repeat(1_025);
        for arguments in [
            &["--namespace", "users"][..],
            &["--namespace", "a/b", "k"],
            &["--namespace", "_users", "k"],
            &["k", ""],
            &["k", &long],
            &["k", "--tag", ""],
            &["k", "--prefix", ""],
            &["k", "--version", "-1"],
            &["k", "--version", "9007199254740992"],
            &["--tag", "t", "--version", "1"],
            &["k", "--timeout", "soon"],
            &["k", "--option", "lazy=perhaps"],
        ] {
            let (code, out, err) = invalidate(&broker.url(), arguments);
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        }
        assert_eq!(invalidate(&broker.url(), &["last"]).0, 0);
        assert_eq!(watch.json()["keys"], json!(["last"]));
    }

    #[test]
    fn a_broker_that_does_not_acknowledge_is_a_timeout() {
        let url = deaf_broker();
        let (code, out, err) = invalidate(&url, &["user:42", "--timeout", "300ms", "-o", "lazy=true"]);
        assert_eq!((code, out.as_str()), (16, ""), "{err}");
        assert!(err.contains("300ms") && err.contains("Timeout"), "{err}");
    }
}
