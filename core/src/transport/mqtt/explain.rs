//! What a broker's or the library's refusal means for a person: the kind, what happened where, and what to do.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::paho::{self, Failure};
use super::Target;
use crate::error::{Error, ErrorKind};

/// Bad user name or password, not authorized, banned, bad authentication method (MQTT 5, 2.4).
const NOT_ALLOWED: [u8; 4] = [0x86, 0x87, 0x8a, 0x8c];

/// Why an attempt failed. May try the address once more, for at most `limit`, to tell a closed port from a failed handshake.
pub(super) fn refusal(
    target: &Target,
    failure: &Failure,
    tls: Option<&str>,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Error {
    if let Some(reason) = failure.reason {
        return connack(target, reason);
    }
    let at = &target.endpoint;
    if let Some(words) = tls {
        return Error::new(
            ErrorKind::Tls,
            format!("the TLS handshake with {at} failed: {words}; {}", tls_remedy(target, words)),
        );
    }
    if failure.place.as_deref() == Some("TCP connect completion failure") {
        return closed_early(target);
    }
    match probe(addresses, limit) {
        Some(Err(e)) => Error::new(
            ErrorKind::Connect,
            format!("cannot connect to {at}: {e}; check that a broker listens there and that host and port in `url` are right"),
        ),
        _ if target.endpoint.scheme.is_tls() => Error::new(
            ErrorKind::Tls,
            format!(
                "the TLS handshake with {at} failed: the broker's certificate is not made out to `{}`, or a certificate or key of `tls` is \
                 not usable; check the host in `url`, and `tls.ca_file`, `tls.cert_file` and `tls.key_file`",
                at.host
            ),
        ),
        _ => closed_early(target),
    }
}

/// The broker hung up between the connection and its CONNACK.
fn closed_early(target: &Target) -> Error {
    let at = &target.endpoint;
    if at.scheme.is_tls() {
        let sent =
            if target.sends_certificate() { "refuses this client's certificate" } else { "wants a client certificate" };
        return Error::new(
            ErrorKind::Tls,
            format!(
                "{at} closed the connection right after the TLS handshake, most likely because it {sent}; check `tls.cert_file` and \
                 `tls.key_file`, and that the port is one for MQTT"
            ),
        );
    }
    Error::new(
        ErrorKind::Connect,
        format!(
            "{at} closed the connection before it accepted the client; check that the port is one for {}, and set `mqtt_version` to \
             \"3.1.1\" if the broker does not speak MQTT 5",
            if target.options.websocket { "MQTT over WebSockets, that the path is right" } else { "MQTT without TLS" }
        ),
    )
}

fn connack(target: &Target, reason: u8) -> Error {
    let at = &target.endpoint;
    // A broker of MQTT 3 answers with its own codes, also to a CONNECT of MQTT 5.
    let (kind, what, remedy) = match reason {
        1 | 0x84 => (
            ErrorKind::Connect,
            "unsupported protocol version".to_owned(),
            if target.options.v5 { "set `mqtt_version` to \"3.1.1\"" } else { "set `mqtt_version` to \"5\"" },
        ),
        2 | 0x85 => (
            ErrorKind::Connect,
            format!("client id {:?} not accepted", target.options.client_id),
            "set `client_id` to one that the broker accepts",
        ),
        3 => (ErrorKind::Connect, "server unavailable".to_owned(), "try again later"),
        4 => (ErrorKind::Auth, "bad user name or password".to_owned(), credentials_remedy(target)),
        5 => (ErrorKind::Auth, "not authorized".to_owned(), credentials_remedy(target)),
        code if NOT_ALLOWED.contains(&code) => (ErrorKind::Auth, paho::reason_text(code), credentials_remedy(target)),
        code => (ErrorKind::Connect, paho::reason_text(code), "look into the broker's log"),
    };
    let who = match &target.options.username {
        Some(name) if kind == ErrorKind::Auth => format!(" as user {:?}", name.to_string_lossy()),
        _ => String::new(),
    };
    Error::new(kind, format!("{at} refused the connection{who}: {what}; {remedy}"))
}

fn credentials_remedy(target: &Target) -> &'static str {
    if target.options.username.is_some() {
        "check `username` and `password`"
    } else {
        "give `username` and `password`, or allow anonymous clients in the broker"
    }
}

/// The turn of another WebSocket did not end in time.
pub(super) fn another_websocket(target: &Target) -> Error {
    Error::new(
        ErrorKind::Connect,
        format!(
            "cannot connect to {}: this process already has a connection over WebSockets, and in this version there is one at most; use mqtt:// or mqtts:// for the others",
            target.endpoint
        ),
    )
}

/// Why a connection that stood is gone.
pub(super) fn lost(target: &Target, reason: Option<u8>) -> Error {
    let at = &target.endpoint;
    match reason {
        None | Some(0) => Error::new(ErrorKind::Connect, format!("the connection to {at} was lost")),
        // Both would go on to push each other out; only a person can mend it.
        Some(0x8e) => Error::new(
            ErrorKind::Config,
            format!(
                "{at} closed the connection because another client connected with the client id {:?}; give each process its own, or leave `client_id` out",
                target.options.client_id
            ),
        ),
        Some(code) => Error::new(ErrorKind::Connect, format!("{at} closed the connection: {}", paho::reason_text(code))),
    }
}

/// What a SUBACK says about one topic.
pub(super) fn granted(topic: &str, answer: Result<u8, Failure>) -> Result<(), Error> {
    let code = match answer {
        Ok(code) => code,
        Err(Failure { reason: Some(code), .. }) => code,
        Err(failure) => return Err(unsent(format_args!("the subscription to `{topic}`"), &failure)),
    };
    match code {
        1 | 2 => Ok(()),
        0 => Err(Error::new(
            ErrorKind::Connect,
            format!("the broker grants only QoS 0 for `{topic}`, which may lose messages; allow QoS 1 there"),
        )),
        // 0x80 is all that a broker of MQTT 3.1.1 can say, and nearly always an access rule.
        0x80 | 0x87 => Err(Error::new(
            ErrorKind::Auth,
            format!(
                "the broker does not allow this client to subscribe to `{topic}`; change its access rules or `topic`"
            ),
        )),
        code => Err(Error::new(
            ErrorKind::Connect,
            format!("the broker refused the subscription to `{topic}`: {}", paho::reason_text(code)),
        )),
    }
}

/// What a PUBACK that refuses says.
pub(super) fn not_published(topic: &str, reason: u8) -> Error {
    match reason {
        0x87 => Error::new(
            ErrorKind::Auth,
            format!(
                "the broker does not allow this client to publish to `{topic}`; change its access rules or `topic`"
            ),
        ),
        code => Error::new(
            ErrorKind::Connect,
            format!("the broker refused the message on `{topic}`: {}", paho::reason_text(code)),
        ),
    }
}

/// A request that the library did not take.
pub(super) fn unsent(what: impl std::fmt::Display, failure: &Failure) -> Error {
    let why = failure.place.clone().unwrap_or_else(|| format!("the MQTT library answered {}", failure.code));
    Error::new(ErrorKind::Connect, format!("{what} was not sent: {why}"))
}

/// The reason in a line of OpenSSL's error queue: `…:error:0A000086:SSL routines:function:reason:file:line:data`.
pub(super) fn openssl_reason(line: &str) -> String {
    let mut fields = line.trim().split(':').skip_while(|field| *field != "error").skip(4);
    match fields.next() {
        Some(reason) if !reason.is_empty() => reason.to_owned(),
        _ => line.trim().to_owned(),
    }
}

fn tls_remedy(target: &Target, words: &str) -> String {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    if has(&["verify failed"]) {
        return match target.trusts() {
            Some(file) => format!("the broker's certificate must be valid and signed by an authority in `tls.ca_file` ({file})"),
            None => "the broker's certificate must be valid and signed by an authority that this system trusts; name another with `tls.ca_file`".into(),
        };
    }
    if has(&["certificate required", "bad certificate", "unknown ca", "certificate unknown", "handshake failure"]) {
        return "the broker refuses this client's certificate; check `tls.cert_file` and `tls.key_file`".into();
    }
    if has(&["wrong version number", "packet length", "unexpected eof", "record layer"]) {
        return "check that the port is one for TLS, or use mqtt:// or ws://".into();
    }
    "check `tls.ca_file`, `tls.cert_file`, `tls.key_file` and the port".into()
}

/// Whether the address that the library uses (IPv4 before IPv6, one only) can be connected to.
fn probe(addresses: &[SocketAddr], limit: Duration) -> Option<std::io::Result<()>> {
    let address = addresses.iter().find(|a| a.is_ipv4()).or(addresses.last())?;
    if limit.is_zero() {
        return None;
    }
    Some(TcpStream::connect_timeout(address, limit).map(drop))
}
