//! What a web server says to the request for a WebSocket. The MQTT library does not tell, so after a failure it is asked once more.

use std::io;
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use super::super::http;
use super::super::wire::Wire;
use super::{diagnose, Target};

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// 101 where it agrees.
    pub status: u16,
    /// The server's clock.
    pub date: Option<SystemTime>,
}

/// Asks for a WebSocket at `path`, as the library did; nothing if the server does not get that far in time.
pub(super) fn ask(target: &Target, path: &str, address: SocketAddr, deadline: Instant) -> Option<Answer> {
    let endpoint = &target.endpoint;
    let host = http::authority(&endpoint.host, endpoint.port, if endpoint.scheme.is_tls() { 443 } else { 80 });
    // The nonce of RFC 6455, section 1.3; there will be no WebSocket.
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    match &target.tls {
        Some(tls) => answer(http::ask(diagnose::open(&endpoint.host, address, tls, deadline)?, &request)),
        None => answer(http::ask(Wire::connect(address, deadline).ok()?, &request)),
    }
}

fn answer<S>(answer: io::Result<http::Answer<S>>) -> Option<Answer> {
    let http::Answer { status, date, .. } = answer.ok()?;
    Some(Answer { status, date })
}
