//! The command-line tool as its users meet it: the real binary, a real broker, pipes and signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

/// How long anything may take before a test gives up; far more than it should.
const PATIENCE: Duration = Duration::from_secs(20);

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
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("wait for a child") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("the process did not end within {PATIENCE:?}");
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
        self.out.recv_timeout(PATIENCE).expect("a line on stdout in time")
    }

    fn json(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line} is not JSON: {e}"))
    }

    /// Waits for a line on stderr that contains `text`.
    fn wait_for_note(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
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
