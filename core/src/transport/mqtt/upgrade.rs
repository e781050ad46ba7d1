//! What a web server says to the request for a WebSocket. The MQTT library does not tell, so after a failure it is asked once more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::diagnose::{self, Wire};
use super::Target;

/// More than any server's status line and headers need.
const MOST: u64 = 16 * 1024;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// 101 where it agrees.
    pub status: u16,
    /// The server's clock.
    pub date: Option<SystemTime>,
}

/// Asks for a WebSocket, as the library does; nothing if the server does not get that far within `limit`.
pub(super) fn ask(target: &Target, address: SocketAddr, limit: Duration) -> Option<Answer> {
    let deadline = Instant::now() + limit;
    let endpoint = &target.endpoint;
    let path = target.path(deadline).ok()?;
    let host = if endpoint.host.contains(':') { format!("[{}]", endpoint.host) } else { endpoint.host.clone() };
    let default = if endpoint.scheme.is_tls() { 443 } else { 80 };
    let port = if endpoint.port == default { String::new() } else { format!(":{}", endpoint.port) };
    // The nonce of RFC 6455, section 1.3; there will be no WebSocket.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    match &target.tls {
        Some(tls) => talk(diagnose::open(&endpoint.host, address, tls, limit)?, &request),
        None => talk(Wire::connect(address, deadline).ok()?, &request),
    }
}

fn talk(mut stream: impl Read + Write, request: &str) -> Option<Answer> {
    stream.write_all(request.as_bytes()).ok()?;
    let mut head = String::new();
    let mut lines = BufReader::new(stream.take(MOST));
    // Up to the empty line; what is not text is no answer either.
    while !head.ends_with("\r\n\r\n") && lines.read_line(&mut head).is_ok_and(|length| length > 0) {}
    read(&head)
}

fn read(head: &str) -> Option<Answer> {
    let mut lines = head.lines();
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let date = lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("date"));
    Some(Answer { status, date: date.and_then(|(_, value)| httpdate::parse_http_date(value.trim()).ok()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_anything_else_is_none() {
        let answer = read("HTTP/1.1 403 Forbidden\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n").unwrap();
        assert_eq!(answer.status, 403);
        assert_eq!(answer.date, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777)));
        assert_eq!(read("HTTP/1.0 101 Yes\r\n").unwrap().status, 101);
        assert!(["", "HTTP/2 200", "\x10\x02", "HTTP/1.1 abc x"].iter().all(|head| read(head).is_none()));
    }
}
