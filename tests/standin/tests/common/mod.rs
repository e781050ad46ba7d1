//! A running `aws-standin`, and a client that speaks MQTT in bytes.

// Each test file uses its own part.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use rumqttd::protocol::{
    self, Connect, ConnectProperties, Filter, LastWill, Login, PubAck, PubAckReason, QoS, RetainForwardRule, Subscribe,
};
use serde_json::{json, Value};
use unstale_standin::codec::{self, Packet, Publish, Version};

pub const V3: Version = Version::V3;
pub const V5: Version = Version::V5;
const SOON: Duration = Duration::from_secs(5);

static FOLDERS: AtomicU32 = AtomicU32::new(0);

pub struct Standin {
    process: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    pub ports: Value,
    folder: PathBuf,
}

/// A folder of this test's own, gone with its `Standin`.
pub fn folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("unstale-standin-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn start(folder: &std::path::Path, config: &Value) -> Child {
    let path = folder.join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_aws-standin"));
    command.arg("--config").arg(&path).arg("--report").arg(folder.join("report"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Standin {
    pub fn plain(mut config: Value) -> Standin {
        config["listeners"] = json!({"plain": {}});
        Standin::start(folder(), config)
    }

    pub fn start(folder: PathBuf, config: Value) -> Standin {
        let mut process = start(&folder, &config);
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ports = serde_json::from_str::<Value>(&line).expect("the line of the ports")["ports"].clone();
        let pipes = Mutex::new((process.stdin.take().unwrap(), out));
        Standin { process, pipes, ports, folder }
    }

    /// What it says when it does not start.
    pub fn fails(config: Value) -> String {
        let folder = folder();
        let output = start(&folder, &config).wait_with_output().unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn port(&self, name: &str) -> u16 {
        self.ports[name].as_u64().expect("the listener is there") as u16
    }

    pub fn summary(&self) -> Value {
        self.command(&json!("summary"))
    }

    /// Ends every connection.
    pub fn cut(&self) {
        self.command(&json!("cut"));
    }

    /// A line on stdin; the sums that answer it.
    fn command(&self, command: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap();
        writeln!(pipes.0, "{command}").unwrap();
        let mut line = String::new();
        pipes.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub fn rejections(&self) -> Value {
        self.summary()["rejections"].clone()
    }

    /// The queries of the signed URLs that it accepted so far.
    pub fn signed(&self) -> Vec<String> {
        // Lines are whole once the sums that came after them are here.
        self.summary();
        let report = std::fs::read_to_string(self.folder.join("report")).unwrap();
        let lines = report.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["signed"].as_str().map(str::to_owned)).collect()
    }

    /// The last line of its report after SIGTERM.
    pub fn terminate(&mut self) -> Value {
        let done = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(done.success() && self.process.wait().unwrap().success());
        let report = std::fs::read_to_string(self.folder.join("report")).unwrap();
        serde_json::from_str(report.lines().last().unwrap()).unwrap()
    }

    fn socket(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port("plain"))).unwrap()
    }

    /// A CONNECT is sent; its answer is not awaited.
    pub fn offer(&self, version: Version, id: &str, keep_alive: u16) -> Client {
        let mut client = Client::new(Box::new(self.socket()), version);
        client.send_connect(id, keep_alive, true, None);
        client
    }

    /// A CONNECT with a will for this topic, of QoS 1; its answer is not awaited.
    pub fn offer_will(&self, version: Version, id: &str, topic: &str) -> Client {
        let will = LastWill {
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            message: Bytes::from_static(b"x"),
            qos: QoS::AtLeastOnce,
            retain: false,
        };
        let connect = Connect { keep_alive: 60, client_id: id.into(), clean_session: true };
        let mut client = Client::new(Box::new(self.socket()), version);
        client.send(Packet::Other(protocol::Packet::Connect(connect, None, Some(will), None, None)));
        client
    }

    /// A CONNECT and a SUBSCRIBE in one segment.
    pub fn eager(&self, version: Version, id: &str) -> Client {
        let mut client = Client::new(Box::new(self.socket()), version);
        let mut bytes = client.connect_bytes(id, 60, true, None);
        bytes.put_slice(&[0xc0, 0]);
        client.send_raw(&bytes);
        client
    }

    /// Connected, clean.
    pub fn client(&self, version: Version, id: &str) -> Client {
        self.offer(version, id, 60).welcomed()
    }

    /// Connected, with a session that is kept.
    pub fn client_of_session(&self, version: Version, id: &str) -> Client {
        let mut client = Client::new(Box::new(self.socket()), version);
        client.send_connect(id, 60, false, None);
        client.welcomed()
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What MQTT is spoken on. Reads must time out.
pub trait Stream: Read + Write {
    fn set_timeout(&self, timeout: Duration);
}

impl Stream for TcpStream {
    fn set_timeout(&self, timeout: Duration) {
        self.set_read_timeout(Some(timeout.max(Duration::from_millis(1)))).unwrap();
    }
}

/// A packet as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
    version: Version,
}

impl Frame {
    /// Of an acknowledgement.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.body[0], self.body[1]])
    }

    /// Of a PUBLISH.
    pub fn message(&self) -> Message {
        let length = usize::from(u16::from_be_bytes([self.body[0], self.body[1]]));
        let topic = String::from_utf8(self.body[2..2 + length].to_vec()).unwrap();
        let mut rest = &self.body[2 + length..];
        let mut id = 0;
        if self.flags & 6 != 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        if self.version == V5 {
            rest = &rest[1 + usize::from(rest[0])..];
        }
        Message { topic, id, payload: rest.to_vec() }
    }
}

pub struct Message {
    pub topic: String,
    pub id: u16,
    pub payload: Vec<u8>,
}

pub struct Client {
    stream: Box<dyn Stream>,
    version: Version,
    received: Vec<u8>,
    /// Came while something else was waited for.
    kept: Vec<Frame>,
    pub acknowledges: bool,
    pub session_present: bool,
    last_id: u16,
}

impl Client {
    pub fn new(stream: Box<dyn Stream>, version: Version) -> Client {
        let (received, kept) = (Vec::new(), Vec::new());
        Client { stream, version, received, kept, acknowledges: true, session_present: false, last_id: 1000 }
    }

    pub fn welcomed(mut self) -> Client {
        let welcome = self.next_of(2, SOON).expect("a CONNACK");
        assert_eq!(welcome.body[1], 0, "the CONNECT was refused");
        self.session_present = welcome.body[0] == 1;
        self
    }

    fn connect_bytes(&self, id: &str, keep_alive: u16, is_clean: bool, login: Option<Login>) -> BytesMut {
        let connect = Connect { keep_alive, client_id: id.into(), clean_session: is_clean };
        let properties: Option<ConnectProperties> = None;
        let mut bytes = BytesMut::new();
        codec::encode(
            self.version,
            Packet::Other(protocol::Packet::Connect(connect, properties, None, None, login)),
            &mut bytes,
        );
        bytes
    }

    pub fn send_connect(&mut self, id: &str, keep_alive: u16, is_clean: bool, login: Option<Login>) {
        let bytes = self.connect_bytes(id, keep_alive, is_clean, login);
        self.send_raw(&bytes);
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        codec::encode(self.version, packet, &mut bytes);
        self.send_raw(&bytes);
    }

    pub fn send_publish(&mut self, topic: &str, payload: &[u8], qos: u8, id: u16) {
        let (topic, payload) = (Bytes::copy_from_slice(topic.as_bytes()), Bytes::copy_from_slice(payload));
        self.send(Packet::Publish(Publish { qos, id, topic, payload, ..Publish::default() }));
    }

    pub fn publish_retained(&mut self, topic: &str, payload: &[u8]) {
        let (topic, payload) = (Bytes::copy_from_slice(topic.as_bytes()), Bytes::copy_from_slice(payload));
        self.send(Packet::Publish(Publish { qos: 1, id: 7, retain: true, topic, payload, properties: None }));
        self.next_of(4, SOON).expect("a PUBACK");
    }

    /// With QoS 1; its PUBACK.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Frame {
        self.last_id += 1;
        self.send_publish(topic, payload, 1, self.last_id);
        let ack = self.next_of(4, SOON).expect("a PUBACK");
        assert_eq!(ack.id(), self.last_id);
        ack
    }

    pub fn send_subscribe(&mut self, filters: &[&str], qos: u8) {
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
        let filter = |path: &&str| Filter {
            path: (*path).into(),
            qos,
            nolocal: false,
            preserve_retain: false,
            retain_forward_rule: RetainForwardRule::OnEverySubscribe,
        };
        let filters = filters.iter().map(filter).collect();
        self.last_id += 1;
        self.send(Packet::Other(protocol::Packet::Subscribe(Subscribe { pkid: self.last_id, filters }, None)));
    }

    /// With QoS 1; the codes of its SUBACK.
    pub fn subscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        self.send_subscribe(filters, 1);
        let ack = self.next_of(9, SOON).expect("a SUBACK");
        ack.body[ack.body.len() - filters.len()..].to_vec()
    }

    pub fn send_puback(&mut self, id: u16) {
        self.send(Packet::Other(protocol::Packet::PubAck(PubAck { pkid: id, reason: PubAckReason::Success }, None)));
    }

    /// Whatever was sent before is handled when this returns, and what it led to has come.
    pub fn ping(&mut self) {
        self.send_raw(&[0xc0, 0]);
        self.next_of(13, SOON).expect("a PINGRESP");
    }

    /// All of this kind that have come by now.
    pub fn all_of(&mut self, kind: u8) -> Vec<Frame> {
        self.ping();
        std::iter::from_fn(|| self.next_of(kind, Duration::ZERO)).collect()
    }

    /// The next packet of this kind; others are kept. Messages are acknowledged.
    pub fn next_of(&mut self, kind: u8, within: Duration) -> Option<Frame> {
        if let Some(at) = self.kept.iter().position(|frame| frame.kind == kind) {
            return Some(self.kept.remove(at));
        }
        let deadline = Instant::now() + within;
        loop {
            while let Some(frame) = self.parse() {
                if frame.kind == 3 && frame.flags & 6 != 0 && self.acknowledges {
                    self.send_puback(frame.message().id);
                }
                if frame.kind == kind {
                    return Some(frame);
                }
                self.kept.push(frame);
            }
            if !self.fill(deadline).unwrap_or(false) {
                return None;
            }
        }
    }

    /// Is it closed by then?
    pub fn is_closed(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            match self.fill(deadline) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(()) => return true,
            }
        }
    }

    pub fn close(mut self) {
        self.send_raw(&[0xe0, 0]);
        assert!(self.is_closed(SOON));
    }

    /// Reads some; false when the time is over.
    fn fill(&mut self, deadline: Instant) -> Result<bool, ()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        self.stream.set_timeout(left);
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(()),
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&error.kind()) =>
            {
                Ok(true)
            }
            Err(_) => Err(()),
        }
    }

    fn parse(&mut self) -> Option<Frame> {
        let (mut length, mut at) = (0usize, 1);
        loop {
            let byte = *self.received.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        if self.received.len() < at + length {
            return None;
        }
        let (first, body) = (self.received[0], self.received[at..at + length].to_vec());
        self.received.drain(..at + length);
        Some(Frame { kind: first >> 4, flags: first & 15, body, version: self.version })
    }
}
