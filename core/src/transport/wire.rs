//! TCP with a limit of time, for the few words that this library exchanges beside what the MQTT library does.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// A connection that remembers how the other side's words begin.
#[derive(Debug)]
pub(super) struct Wire {
    tcp: TcpStream,
    deadline: Instant,
    first: Option<u8>,
    timed_out: bool,
}

impl Wire {
    pub fn connect(address: SocketAddr, deadline: Instant) -> io::Result<Wire> {
        // Zero is no time for `connect_timeout`, but an error.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let tcp = TcpStream::connect_timeout(&address, left)?;
        Ok(Wire { tcp, deadline, first: None, timed_out: false })
    }

    /// The first byte that was received.
    pub fn first(&self) -> Option<u8> {
        self.first
    }

    /// Whether the time ran out.
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Leaves no more time than until then.
    pub fn hasten(&mut self, deadline: Instant) {
        self.deadline = self.deadline.min(deadline);
    }

    fn left(&mut self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            self.timed_out = true;
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(left)
    }

    /// A limit that ran out is a failure for OpenSSL, nothing to wait for.
    fn timed<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        match result {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                self.timed_out = true;
                Err(io::ErrorKind::TimedOut.into())
            }
            other => other,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.tcp.set_read_timeout(Some(left))?;
        let result = self.tcp.read(buf);
        if let (Ok(1..), None) = (&result, self.first) {
            self.first = Some(buf[0]);
        }
        self.timed(result)
    }
}

impl Write for Wire {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.tcp.set_write_timeout(Some(left))?;
        let result = self.tcp.write(buf);
        self.timed(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The addresses of a host, one at least. An error of kind `TimedOut` when they are not found in time.
pub(super) fn look_up(host: &str, port: u16, deadline: Instant) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (found, answer) = mpsc::channel();
    let host = host.to_owned();
    // The system's name service knows no limit of time.
    let look_up = move || found.send((host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    thread::Builder::new().name("unstale-dns".into()).spawn(look_up)?;
    match answer.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(Ok(addresses)) if addresses.is_empty() => Err(io::Error::other("it has no address")),
        Ok(found) => found,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
