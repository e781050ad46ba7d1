//! What the tests share: a mosquitto of their own, on a free loopback port, that ends with the test.

#![allow(dead_code)] // each test binary uses its part

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up: far longer than it needs on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A folder of the test's own, removed with it.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> TempDir {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("unstale-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running mosquitto; killed when dropped.
pub struct Mosquitto {
    child: Option<Child>,
    port: u16,
    config: PathBuf,
    dir: TempDir,
}

impl Mosquitto {
    /// One that lets everybody in and queues without a limit.
    pub fn start() -> Mosquitto {
        Mosquitto::with("allow_anonymous true\n")
    }

    /// One with these lines in the configuration of its only listener.
    pub fn with(config: &str) -> Mosquitto {
        Mosquitto::with_files(TempDir::new(), config)
    }

    /// The same, with files that the configuration names; they go with the broker.
    pub fn with_files(dir: TempDir, config: &str) -> Mosquitto {
        // Another process can take the port between our look and the broker's start: then it ends at once, and we look again.
        for _ in 0..10 {
            let port = free_port();
            let text =
                format!("user root\npersistence false\nmax_queued_messages 0\nlistener {port} 127.0.0.1\n{config}");
            let file = dir.write("mosquitto.conf", text);
            if let Some(child) = spawn(&file, dir.path()) {
                return Mosquitto { child: Some(child), port, config: file, dir };
            }
        }
        panic!("mosquitto does not start; its log: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default());
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running mosquitto").id()
    }

    /// What the broker wrote so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Ends it without warning, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Ends it as an operator would.
    pub fn stop(&mut self) {
        self.signal("TERM");
        if let Some(mut child) = self.child.take() {
            let deadline = Instant::now() + DEADLINE;
            while child.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "mosquitto does not stop");
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Starts it again, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + DEADLINE;
        while self.child.is_none() {
            assert!(Instant::now() < deadline, "mosquitto does not start again: {}", self.log());
            self.child = spawn(&self.config, self.dir.path());
        }
    }

    /// Sends a signal, e.g. `"STOP"`, `"CONT"`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for something that will happen, at most [`DEADLINE`].
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A port that nobody listens on just now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Starts the broker and waits until all its listeners are open; `None` when it ended at once.
fn spawn(config: &Path, dir: &Path) -> Option<Child> {
    let log = dir.join("log");
    let output = fs::File::create(&log).unwrap();
    let mut child = Command::new(program("mosquitto"))
        .arg("-c")
        .arg(config)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .expect("mosquitto starts");
    let deadline = Instant::now() + DEADLINE;
    while !fs::read_to_string(&log).unwrap_or_default().contains(" running") {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
    Some(child)
}

/// A program that Debian keeps outside of users' search path.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!("`{name}` is not installed; on Debian: apt-get install mosquitto mosquitto-clients openssl")
        })
}

/// Runs a program to its end; its output on success.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
