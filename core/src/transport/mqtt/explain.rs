//! What a broker's or the library's refusal means for a person: the kind, what happened where, and what to do.

mod http;
#[cfg(test)]
mod tests;
mod tls;

use std::net::SocketAddr;
use std::time::Instant;

use super::super::wire::Wire;
use super::paho::{self, Failure};
use super::{diagnose, upgrade, Access, Target};
use crate::config::aws::Way;
use crate::config::shown_user;
use crate::error::{Error, ErrorKind};

/// Bad user name or password, not authorized, banned, bad authentication method (MQTT 5, 2.4).
const NOT_ALLOWED: [u8; 4] = [0x86, 0x87, 0x8a, 0x8c];

/// Why an attempt failed, which asked for `path`. `tls` is what the library heard of OpenSSL. Finding out may take until
/// `deadline` and other connections: what the library says does not tell a closed port from a wrong certificate.
pub(super) fn refusal(
    target: &Target,
    failure: &Failure,
    tls: Option<&str>,
    path: &str,
    addresses: &[SocketAddr],
    deadline: Instant,
) -> Error {
    if let Some(reason) = failure.reason {
        return connack(target, reason);
    }
    // The one that the library uses.
    let Some(address) = addresses.iter().find(|a| a.is_ipv4()).or(addresses.last()) else {
        return closed_early(target, "");
    };
    let host = &target.endpoint.host;
    if target.options.websocket {
        // Half of the time, so that a server that says nothing leaves some for the handshake.
        let half = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
        if let Some(answer) = upgrade::ask(target, path, *address, half).filter(|answer| answer.status != 101) {
            return http::refusal(target, &answer);
        }
    }
    if let Some(options) = &target.tls {
        let begin = Instant::now();
        let finding = diagnose::diagnose(host, *address, options, deadline);
        return tls::refusal(target, options, &finding, tls, begin.elapsed());
    }
    match Wire::connect(*address, deadline) {
        Err(e) => unreachable(target, &e),
        Ok(wire) => match diagnose::speaks_tls(host, wire) {
            true => wants_tls(target),
            false => closed_early(target, ""),
        },
    }
}

fn unreachable(target: &Target, e: &std::io::Error) -> Error {
    Error::new(
        ErrorKind::Connect,
        format!(
            "cannot connect to {}: {e}; check that a broker listens there and that host and port in `url` are right",
            target.endpoint
        ),
    )
}

fn wants_tls(target: &Target) -> Error {
    let with_tls = if target.options.websocket { "wss://" } else { "mqtts://" };
    Error::new(
        ErrorKind::Connect,
        format!(
            "{} closed the connection before it accepted the client: the port is one for TLS; use {with_tls}, or the broker's port without TLS",
            target.endpoint
        ),
    )
}

/// The broker hung up between the connection and its CONNACK.
fn closed_early(target: &Target, before: &str) -> Error {
    let at = &target.endpoint;
    if target.access.is_some() {
        return Error::new(
            ErrorKind::Connect,
            format!(
                "{before}{at} closed the connection before it accepted the client, as AWS IoT Core does with one that it does not let in; check that \
                 the certificate is active or the credentials are valid, that a policy allows `iot:Connect`, and this machine's clock"
            ),
        );
    }
    let port = match (target.options.websocket, at.scheme.is_tls()) {
        (true, _) => "MQTT over WebSockets, that the path is right",
        (false, true) => "MQTT, that the broker's access rules let this client in",
        (false, false) => "MQTT without TLS",
    };
    Error::new(
        ErrorKind::Connect,
        format!(
            "{before}{at} closed the connection before it accepted the client; check that the port is one for {port}, and set `mqtt_version` to \
             \"3.1.1\" if the broker does not speak MQTT 5"
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
    let user = target.options.username.as_ref().map(|name| name.to_string_lossy());
    let who = match user.as_deref().map(shown_user) {
        Some(name) if kind == ErrorKind::Auth && !name.is_empty() => format!(" as user {name:?}"),
        _ => String::new(),
    };
    Error::new(kind, format!("{at} refused the connection{who}: {what}; {remedy}"))
}

fn credentials_remedy(target: &Target) -> &'static str {
    let certificate = target.tls.as_ref().is_some_and(|tls| tls.cert_file.is_some());
    match target.access.as_ref().map(Access::way) {
        Some(Way::Certificate) => "check that the client's certificate is active and that a policy is attached to it",
        Some(Way::Authorizer) => {
            "check what the custom authorizer looks at: `aws.authorizer`, `aws.token_key_name`, `aws.token` and its `aws.token_signature`, \
             `username`, `password`; and the policy that it answers with"
        }
        Some(Way::Signed) => "check the policy of the AWS credentials' owner",
        None if target.options.username.is_some() => "check `username` and `password`",
        None if certificate => "check what the broker's access rules allow the owner of this client's certificate",
        None => "give `username` and `password`, or allow anonymous clients in the broker",
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
        Some(code @ 0x87) => Error::new(
            ErrorKind::Auth,
            format!(
                "{at} closed the connection over something that its access rules do not allow this client: {}",
                paho::reason_text(code)
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
