//! `outbox_dir` with a real mosquitto and real processes: what one leaves unsent when it dies, the next start sends.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::{until, Mosquitto, TempDir, DEADLINE};
use unstale::{blocking, Cache, CacheConfig, Client, ClientConfig, ErrorKind, LinkState};

fn open(url: &str) -> (Client, Cache<String>) {
    let client = blocking::connect(ClientConfig::from_url(url).unwrap()).unwrap();
    let cache = client.cache("users", CacheConfig::default()).unwrap();
    (client, cache)
}

fn live(client: &Client) {
    until("live", || client.status().state == LinkState::Live);
}

fn with(url: &str, folder: &Path) -> String {
    format!("{url}?outbox_dir={}", folder.display())
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

// ---- the process that dies ----

const URL: &str = "OUTBOX_TEST_URL";
/// The test that is this other process when it is started again with that.
const HOST: &str = "what_a_killed_process_had_not_sent_the_next_start_sends";

/// What [`Other`] runs, one command per line.
fn another_process(url: &str) {
    let (client, cache) = open(url);
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let (command, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let said = match command {
            "invalidate" => cache.invalidate(argument).unwrap().token(),
            "deliver" => blocking::delivered(&cache.invalidate(argument).unwrap(), DEADLINE).to_string(),
            "fork" => fork().to_string(),
            "close" => blocking::close(&client, DEADLINE).unwrap().to_string(),
            _ => panic!("{line}"),
        };
        // The harness prints to stdout, too.
        println!("\nsays {said}");
    }
}

/// A child that lives on when its parent is gone, with all that it inherited.
fn fork() -> i32 {
    // SAFETY: the child only waits to be killed.
    let child = unsafe { libc::fork() };
    if child == 0 {
        loop {
            // SAFETY: as above.
            unsafe { libc::pause() };
        }
    }
    child
}

struct Other {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Other {
    fn start(url: &str) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", HOST, "--nocapture"])
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Other { child, answers }
    }

    fn ask(&mut self, command: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{command}").unwrap();
        let mut line = String::new();
        while !line.starts_with("says ") {
            line.clear();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "it ended before it answered {command}");
        }
        line["says ".len()..].trim().to_owned()
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_a_killed_process_had_not_sent_the_next_start_sends() {
    if let Ok(url) = std::env::var(URL) {
        return another_process(&url);
    }
    let (mut broker, folder) = (Mosquitto::start(), TempDir::new());
    let url = with(&broker.url(), folder.path());
    let (reader, reads) = open(&broker.url());
    live(&reader);
    let mut writer = Other::start(&url);
    assert_eq!(writer.ask("deliver first"), "true");
    broker.kill();
    until("noticed", || reader.status().state == LinkState::Degraded);
    let tokens: Vec<_> = (0..300).map(|i| writer.ask(&format!("invalidate user:{i}"))).collect();
    writer.kill();
    assert_eq!(files(folder.path()), 1);

    broker.restart();
    live(&reader);
    for i in 0..300 {
        reads.set(&format!("user:{i}"), "old".into()).unwrap();
    }
    reads.set("kept", "v".into()).unwrap();
    let before = reads.stats();
    let (next, _) = open(&url);
    assert!(blocking::wait_for(&reader, &tokens[299], DEADLINE).unwrap());
    assert!((0..300).all(|i| reads.get(&format!("user:{i}")).is_none()), "all that it had invalidated fell");
    assert_eq!(reads.get("kept").as_deref(), Some("v"));
    until("the file is gone", || files(folder.path()) == 0);
    let after = reads.stats();
    assert_eq!((&after.doubts, after.epoch), (&before.doubts, before.epoch), "the stream went on without a hole");
    assert_eq!(blocking::close(&next, DEADLINE).unwrap(), 0);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn processes_that_live_share_a_folder_and_leave_each_others_files_alone() {
    let (mut broker, folder) = (Mosquitto::start(), TempDir::new());
    let url = with(&broker.url(), folder.path());
    let mut other = Other::start(&url);
    assert_eq!(other.ask("deliver first"), "true");
    broker.kill();
    other.ask("invalidate theirs");
    let (client, cache) = open(&format!("{url}&lazy=true"));
    let ours = cache.invalidate("ours").unwrap();
    assert_eq!(files(folder.path()), 2);
    // It looks for what was left before it first tries to connect.
    until("tried", || !client.status().reason.contains("not connected yet"));
    assert_eq!((client.status().unsent, files(folder.path())), (1, 2));
    broker.restart();
    assert!(blocking::delivered(&ours, DEADLINE));
    assert_eq!(blocking::close(&client, DEADLINE).unwrap(), 0);
    assert_eq!(files(folder.path()), 1, "its own is gone, the other's is not");
    assert_eq!(other.ask("deliver more"), "true");
    assert_eq!(other.ask("close"), "0");
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn close_tells_how_much_the_next_start_will_send() {
    let (mut broker, folder) = (Mosquitto::start(), TempDir::new());
    let url = with(&broker.url(), folder.path());
    let (client, cache) = open(&url);
    live(&client);
    assert!(blocking::delivered(&cache.invalidate("sent").unwrap(), DEADLINE));
    broker.kill();
    until("noticed", || client.status().state == LinkState::Degraded);
    let receipt = cache.invalidate("user:1").unwrap();
    assert_eq!(client.status().outbox_dir_error, None);
    assert_eq!(blocking::close(&client, Duration::from_millis(50)).unwrap(), 1);
    assert_eq!(files(folder.path()), 1);
    // A start that does not reach the broker either leaves it there.
    let (client, _) = open(&format!("{url}&lazy=true"));
    until("taken up", || client.status().unsent == 1);
    assert_eq!(blocking::close(&client, Duration::from_millis(50)).unwrap(), 1);
    assert_eq!(files(folder.path()), 1);
    broker.restart();
    let (reader, reads) = open(&broker.url());
    live(&reader);
    reads.set("user:1", "old".into()).unwrap();
    let (client, _) = open(&url);
    assert!(blocking::wait_for(&reader, &receipt.token(), DEADLINE).unwrap());
    assert_eq!(reads.get("user:1"), None);
    assert_eq!(blocking::close(&client, DEADLINE).unwrap(), 0);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn what_another_topic_left_is_sent_to_that_topic() {
    let (mut broker, folder) = (Mosquitto::start(), TempDir::new());
    let url = with(&broker.url(), folder.path());
    broker.kill();
    let (client, cache) = open(&format!("{url}&lazy=true&topic=other"));
    let receipt = cache.invalidate("user:1").unwrap();
    assert_eq!(blocking::close(&client, Duration::from_millis(50)).unwrap(), 1);
    broker.restart();
    let (reader, reads) = open(&format!("{}?topic=other", broker.url()));
    live(&reader);
    reads.set("user:1", "old".into()).unwrap();
    let (client, _) = open(&url);
    assert!(blocking::wait_for(&reader, &receipt.token(), DEADLINE).unwrap());
    assert_eq!(reads.get("user:1"), None);
    assert_eq!(blocking::close(&client, DEADLINE).unwrap(), 0);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_forked_child_that_outlives_its_parent_does_not_keep_its_file() {
    let (mut broker, folder) = (Mosquitto::start(), TempDir::new());
    let url = with(&broker.url(), folder.path());
    let mut writer = Other::start(&url);
    assert_eq!(writer.ask("deliver first"), "true");
    broker.kill();
    let token = writer.ask("invalidate user:1");
    let orphan: i32 = writer.ask("fork").parse().unwrap();
    let alive = || {
        // SAFETY: signal 0 only asks.
        unsafe { libc::kill(orphan, 0) == 0 }
    };
    writer.kill();
    broker.restart();
    let (reader, _reads) = open(&broker.url());
    live(&reader);
    let (client, _) = open(&url);
    let sent = blocking::wait_for(&reader, &token, DEADLINE).unwrap();
    let lived = alive();
    // SAFETY: ends the process that this test made.
    unsafe { libc::kill(orphan, libc::SIGKILL) };
    assert!(sent && lived);
    assert_eq!(blocking::close(&client, DEADLINE).unwrap(), 0);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn a_folder_that_cannot_be_used_is_a_configuration_error() {
    let folder = TempDir::new();
    let file = folder.write("file", "x");
    for path in [file.as_path(), Path::new("/proc/none")] {
        let e = blocking::connect(ClientConfig::from_url(&with("memory://x", path)).unwrap()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Config);
        assert!(e.message().contains("`outbox_dir`") && e.message().contains(path.to_str().unwrap()), "{e}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn a_folder_that_is_lost_is_told_of_and_costs_no_invalidation() {
    let (broker, folder) = (Mosquitto::start(), TempDir::new());
    let below = folder.path().join("a/b");
    let (client, cache) = open(&with(&broker.url(), &below));
    live(&client);
    fs::remove_dir_all(folder.path().join("a")).unwrap();
    assert!(blocking::delivered(&cache.invalidate("k").unwrap(), DEADLINE));
    let said = client.status().outbox_dir_error.unwrap();
    assert!(said.contains("a/b"), "{said}");
    assert_eq!(blocking::close(&client, DEADLINE).unwrap(), 0);
}
