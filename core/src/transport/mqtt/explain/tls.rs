//! What a [`Finding`] means for a person. `docs/tls.md` has the table.

use std::time::Duration;

use crate::config::TlsConfig;
use crate::error::{Error, ErrorKind};
use crate::transport::mqtt::diagnose::{Certificate, FileFault, FileWhy, Finding, ServerFault};
use crate::transport::mqtt::{roots, Target};

/// Why there is no connection. `said` is what the MQTT library heard of OpenSSL, for a fault that did not show again.
pub(super) fn refusal(
    target: &Target,
    tls: &TlsConfig,
    finding: &Finding,
    said: Option<&str>,
    took: Duration,
) -> Error {
    let at = &target.endpoint;
    let host = &at.host;
    let failed = |what: String, remedy: &str| {
        Error::new(ErrorKind::Tls, format!("the TLS handshake with {at} failed: {what}; {remedy}"))
    };
    match finding {
        Finding::Fine | Finding::Unreachable(_) | Finding::Silent if said.is_some() => {
            failed(said.unwrap_or_default().to_owned(), "it may be well at the next attempt; look into the broker's log")
        }
        Finding::Fine => super::closed_early(target, "TLS is in order, but "),
        Finding::Unreachable(e) => super::unreachable(target, e),
        Finding::Silent => failed(
            format!("the broker did not end it within {took:.1?}"),
            "check that the port is one for TLS, and what is between this machine and the broker",
        ),
        Finding::Closed => failed(
            "the broker closed the connection without an answer in TLS, as a port without TLS does".into(),
            PORT,
        ),
        Finding::NotTls => failed("the port answers, but not in TLS".into(), PORT),
        Finding::ClosedAfter => {
            let sent = match tls.cert_file {
                Some(_) => "does not take this client's certificate, or its access rules deny this client",
                None => "wants a client certificate",
            };
            Error::new(
                ErrorKind::Tls,
                format!(
                    "{at} closed the connection right after the TLS handshake, most likely because it {sent}; check `tls.cert_file` and \
                     `tls.key_file`, the broker's access rules, and that the port is one for MQTT"
                ),
            )
        }
        Finding::NoRoots(e) => e.clone(),
        Finding::File(fault) => file(fault),
        Finding::KeyMismatch => Error::new(
            ErrorKind::Tls,
            format!(
                "the key in `tls.key_file` ({}) does not match the certificate in `tls.cert_file` ({}); give the two that belong together, \
                 the client's own certificate first in its file",
                shown(&tls.key_file),
                shown(&tls.cert_file)
            ),
        ),
        Finding::Server(fault, certificate) => {
            let (what, remedy) = server(*fault, certificate, host, tls);
            failed(what, &remedy)
        }
        Finding::CertificateWanted => failed(
            "the broker wants a client certificate, and none is given".into(),
            "give `tls.cert_file` and `tls.key_file`",
        ),
        Finding::CertificateRefused { alert, own } => {
            let (what, remedy) = refused(*alert, own);
            failed(format!("the broker refuses this client's certificate `{}`: {what}", own.subject), remedy)
        }
        Finding::OldProtocol => failed(
            "the broker speaks no version of TLS from 1.2 on".into(),
            "allow TLS 1.2 or 1.3 on the broker; older versions are broken and not used",
        ),
        Finding::NoCommonProtocol => failed(
            format!("the broker speaks none of the protocols in `tls.alpn` ({})", tls.alpn.join(", ")),
            "give the name that the broker expects, or leave `tls.alpn` out",
        ),
        Finding::UnknownName => failed(
            format!("the broker does not know the host name `{host}`"),
            "use the name in `url` that the broker is configured with",
        ),
        Finding::Other(words) => {
            failed(words.clone(), "check the port and the files in `tls`, and look into the broker's log")
        }
    }
}

const PORT: &str =
    "use the broker's port for TLS (usually 8883, for WebSockets 443), or mqtt:// or ws:// if this one is meant";

fn server(fault: ServerFault, certificate: &Certificate, host: &str, tls: &TlsConfig) -> (String, String) {
    let Certificate { subject, issuer, names, not_before, not_after } = certificate;
    let trusted = match &tls.ca_file {
        Some(path) => format!("in `tls.ca_file` ({})", path.display()),
        None => match roots::system() {
            Ok(roots) => format!("among those that this system trusts ({})", roots.places()),
            Err(_) => "among those that this system trusts".to_owned(),
        },
    };
    match fault {
        ServerFault::Expired => (
            format!("the certificate `{subject}` that the broker shows has expired on {not_after}"),
            "renew it there; if it is valid there, set this machine's clock right".into(),
        ),
        ServerFault::NotYetValid => (
            format!("the certificate `{subject}` that the broker shows is not yet valid, only from {not_before} on"),
            "set the clock right, of this machine or of the one that issued it".into(),
        ),
        ServerFault::WrongHost => {
            let names = match names.is_empty() {
                true => format!("but only to `{subject}`"),
                false => {
                    let more = if names.len() > 10 { ", …" } else { "" };
                    format!("but to {}{more}", names[..names.len().min(10)].join(", "))
                }
            };
            (
                format!("the broker's certificate is not made out to `{host}`, {names}"),
                format!("use such a name in `url`, or have a certificate issued for `{host}`"),
            )
        }
        ServerFault::UnknownAuthority => (
            format!("the issuer of the broker's certificate, `{issuer}`, is unknown: it is not {trusted}"),
            "name the PEM file of the authority that the broker's operator uses with `tls.ca_file`; if it does, the broker must send its intermediate certificates too".into(),
        ),
        ServerFault::SelfSigned => (
            format!("the broker's certificate `{subject}` is self-signed, and it is not {trusted}"),
            "if it is the right one, name its PEM file with `tls.ca_file`".into(),
        ),
        ServerFault::Other(words) => (
            format!("the broker's certificate `{subject}` does not hold: {words}"),
            "have another one issued for the broker".into(),
        ),
    }
}

/// What an alert says about this client's certificate, and what to do.
fn refused(alert: u8, own: &Certificate) -> (String, &'static str) {
    let renew = "have a new one issued, and put it in the place of `tls.cert_file` and `tls.key_file`";
    match alert {
        44 => ("it has been revoked".into(), renew),
        45 => (format!("it has expired on {}", own.not_after), renew),
        48 => (
            format!("its issuer `{}` is unknown to the broker", own.issuer),
            "use one of an authority that the broker trusts, with the intermediate certificates behind it in `tls.cert_file`",
        ),
        number => (
            // A certificate that is not yet valid has no alert of its own.
            format!("alert {number}, {}; it is valid from {} to {}", alert_name(number), own.not_before, own.not_after),
            "check that the broker trusts its issuer, that it is for clients, and the clocks of both machines",
        ),
    }
}

fn alert_name(number: u8) -> &'static str {
    match number {
        40 => "handshake failure",
        42 => "bad certificate",
        43 => "unsupported certificate",
        46 => "certificate unknown",
        49 => "access denied",
        51 => "decrypt error",
        116 => "certificate required",
        _ => "unknown",
    }
}

fn file(fault: &FileFault) -> Error {
    let FileFault { option, path, why } = fault;
    let (what, remedy) = match why {
        FileWhy::Unreadable(e) => {
            (format!("cannot be read: {e}"), "name a PEM file that this process may read".to_owned())
        }
        FileWhy::Empty => ("is empty".into(), "name a PEM file".into()),
        FileWhy::Der => {
            let command = if *option == "tls.key_file" { "pkey" } else { "x509" };
            ("is not PEM but DER".into(), format!("convert it: openssl {command} -inform DER -in FILE -out FILE.pem"))
        }
        FileWhy::NoPem => {
            let (block, what) = match *option {
                "tls.key_file" => ("PRIVATE KEY", "key"),
                _ => ("CERTIFICATE", "certificate"),
            };
            (format!("holds no {what} in PEM"), format!("it must have a line `-----BEGIN {block}-----`"))
        }
        FileWhy::Broken => {
            ("is damaged: a block of PEM in it cannot be read".into(), "copy it again from where it was issued".into())
        }
        FileWhy::Encrypted => (
            "is an encrypted key, and there is nobody to ask for its password".into(),
            "decrypt it (openssl pkey -in FILE -out FILE.plain) and protect the file by its permissions".into(),
        ),
    };
    Error::new(ErrorKind::Tls, format!("option `{option}`: {} {what}; {remedy}", path.display()))
}

fn shown(path: &Option<std::path::PathBuf>) -> String {
    path.as_ref().map(|p| p.display().to_string()).unwrap_or_default()
}
