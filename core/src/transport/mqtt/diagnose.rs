//! Why TLS with a broker does not come about. The MQTT library does not say, so after a failure the files are looked at, and
//! one handshake is made with the same files, roots, names and limits; what it shows is a [`Finding`], put in words by
//! `explain/tls.rs`. Nothing but the handshake is sent.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{ErrorCode, HandshakeError, Ssl, SslContext, SslContextBuilder, SslMethod, SslStream};
use openssl::ssl::{SslVerifyMode, SslVersion};
use openssl::x509::{X509NameRef, X509Ref, X509};
use parking_lot::Mutex;

use super::super::wire::Wire;
use super::roots;
use crate::config::TlsConfig;
use crate::error::Error;

/// How long the broker may object to a handshake that is complete for us: in TLS 1.3 it looks at our certificate only then.
const OBJECTION: Duration = Duration::from_secs(1);

/// What one handshake with the broker showed.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It is complete, and the broker has nothing against it.
    Fine,
    /// It is complete, and then the broker closed the connection without a word.
    ClosedAfter,
    /// There is no TCP connection.
    Unreachable(io::Error),
    /// It was not complete in time.
    Silent,
    /// The connection ended before the broker said anything.
    Closed,
    /// The broker answered, but not in TLS.
    NotTls,
    /// The system has no authorities to trust.
    NoRoots(Error),
    /// A file cannot be used.
    File(FileFault),
    /// `tls.key_file` is not the key of `tls.cert_file`.
    KeyMismatch,
    /// The broker's certificate does not hold.
    Server(ServerFault, Box<Certificate>),
    /// The broker wants a certificate, and this client has none to show.
    CertificateWanted,
    /// The broker does not take this client's certificate.
    CertificateRefused {
        /// Which alert it sent (RFC 8446, 6.2).
        alert: u8,
        /// The certificate.
        own: Box<Certificate>,
    },
    /// The broker speaks no version from TLS 1.2 on.
    OldProtocol,
    /// None of the names in `tls.alpn` is one of the broker's.
    NoCommonProtocol,
    /// The broker does not know the host's name.
    UnknownName,
    /// Anything else, in the words of OpenSSL.
    Other(String),
}

/// What is wrong with a file.
#[derive(Debug)]
pub(crate) struct FileFault {
    /// The option that names it.
    pub option: &'static str,
    /// Its path.
    pub path: PathBuf,
    /// What is wrong.
    pub why: FileWhy,
}

/// What can be wrong with a file.
#[derive(Debug)]
pub(crate) enum FileWhy {
    Unreadable(io::Error),
    Empty,
    /// Binary, which only DER is likely to be.
    Der,
    /// No PEM block of the right kind.
    NoPem,
    /// A block that cannot be read.
    Broken,
    /// A key that needs a password.
    Encrypted,
}

/// What is wrong with the broker's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerFault {
    Expired,
    NotYetValid,
    /// It is not made out to this host.
    WrongHost,
    /// Its issuer, or the issuer's, is not among the trusted.
    UnknownAuthority,
    /// It is its own issuer, and not among the trusted.
    SelfSigned,
    /// Anything else, in the words of OpenSSL.
    Other(&'static str),
}

/// What a certificate says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// The hosts that it is made out to.
    pub names: Vec<String>,
    pub not_before: String,
    pub not_after: String,
}

/// Finds out why, until `deadline` at most, but for reading files.
pub(super) fn diagnose(host: &str, address: SocketAddr, tls: &TlsConfig, deadline: Instant) -> Finding {
    let verdict = Arc::new(Mutex::new(None));
    let (context, own) = match context(tls, &verdict) {
        Ok(made) => made,
        Err(finding) => return finding,
    };
    let wire = match Wire::connect(address, deadline) {
        Ok(wire) => wire,
        Err(e) => return Finding::Unreachable(e),
    };
    match handshake(&context, host, wire) {
        Ok(stream) => objection(stream, own),
        Err(HandshakeError::SetupFailure(e)) => Finding::Other(words(&e)),
        Err(HandshakeError::WouldBlock(_)) => Finding::Silent,
        Err(HandshakeError::Failure(failed)) => {
            if let Some((fault, certificate)) = verdict.lock().take() {
                return Finding::Server(fault, Box::new(certificate));
            }
            let wire = failed.get_ref();
            match (wire.first(), alert(failed.error())) {
                _ if wire.timed_out() => Finding::Silent,
                (None, _) => Finding::Closed,
                (Some(first), _) if !is_record(first) => Finding::NotTls,
                // From a broker that saw our hello alone it is about versions and ciphers, later it is about us.
                (_, Some(HANDSHAKE_FAILURE)) if failed.ssl().peer_certificate().is_none() => {
                    Finding::Other("the broker and this client have no cipher in common".into())
                }
                (_, Some(number)) => alerted(number, own),
                _ => failed.error().ssl_error().map_or(Finding::Closed, |e| {
                    match e.errors().iter().any(|e| e.reason_code() == UNSUPPORTED_PROTOCOL) {
                        true => Finding::OldProtocol,
                        false => Finding::Other(words(e)),
                    }
                }),
            }
        }
    }
}

/// A connection with TLS that is in order, until `deadline` at most.
pub(super) fn open(host: &str, address: SocketAddr, tls: &TlsConfig, deadline: Instant) -> Option<SslStream<Wire>> {
    let (context, _) = context(tls, &Verdict::default()).ok()?;
    handshake(&context, host, Wire::connect(address, deadline).ok()?).ok()
}

/// Whether the port answers a TLS hello in TLS.
pub(super) fn speaks_tls(host: &str, wire: Wire) -> bool {
    let Ok(mut builder) = SslContext::builder(SslMethod::tls_client()) else { return false };
    builder.set_verify(SslVerifyMode::NONE); // nothing is sent, nothing is believed
    let first = match handshake(&builder.build(), host, wire) {
        Ok(stream) => stream.get_ref().first(),
        Err(HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed)) => failed.get_ref().first(),
        Err(HandshakeError::SetupFailure(_)) => None,
    };
    first.is_some_and(is_record)
}

/// `SSL_R_UNSUPPORTED_PROTOCOL`: the broker chose a version that we do not take.
const UNSUPPORTED_PROTOCOL: i32 = 258;
/// Alerts (RFC 8446, 6.2).
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;
const UNRECOGNIZED_NAME: u8 = 112;
const CERTIFICATE_REQUIRED: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;
/// `SSL_AD_REASON_OFFSET`: an alert that was received is an error with its number above this.
const ALERT_OFFSET: i32 = 1000;

/// Whether a record of TLS begins so (RFC 8446, 5.1: alert or handshake).
fn is_record(first: u8) -> bool {
    matches!(first, 21 | 22)
}

type Verdict = Arc<Mutex<Option<(ServerFault, Certificate)>>>;

/// As the MQTT library makes its own, with this client's certificate, if it has one.
fn context(tls: &TlsConfig, verdict: &Verdict) -> Result<(SslContext, Option<Certificate>), Finding> {
    let other = |e: ErrorStack| Finding::Other(words(&e));
    let mut builder = SslContext::builder(SslMethod::tls_client()).map_err(other)?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(other)?;
    trust(&mut builder, tls)?;
    let own = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(identify(&mut builder, cert, key)?),
        _ => None,
    };
    let alpn: Vec<u8> = tls.alpn.iter().flat_map(|n| [&[n.len() as u8], n.as_bytes()].concat()).collect();
    if !alpn.is_empty() {
        builder.set_alpn_protos(&alpn).map_err(other)?;
    }
    let verdict = Arc::clone(verdict);
    builder.set_verify_callback(SslVerifyMode::PEER, move |ok, store| {
        if !ok {
            let certificate = store.current_cert().map(Certificate::of).unwrap_or_default();
            verdict.lock().get_or_insert((ServerFault::of(store.error()), certificate));
        }
        ok
    });
    Ok((builder.build(), own))
}

fn trust(builder: &mut SslContextBuilder, tls: &TlsConfig) -> Result<(), Finding> {
    let Some(path) = &tls.ca_file else {
        let roots = roots::system().map_err(Finding::NoRoots)?;
        let (file, dir) = (roots.file.as_deref(), roots.dir.as_deref().map(Path::new));
        return builder.load_verify_locations(file, dir).map_err(|e| Finding::Other(words(&e)));
    };
    let fault = |why| Finding::File(FileFault { option: "tls.ca_file", path: path.clone(), why });
    certificates(path).map_err(fault)?;
    builder.set_ca_file(path).map_err(|_| fault(FileWhy::Broken))
}

/// Gives the context this client's certificate and key.
fn identify(builder: &mut SslContextBuilder, cert: &Path, key: &Path) -> Result<Certificate, Finding> {
    let fault = |option, path: &Path, why| Finding::File(FileFault { option, path: path.to_owned(), why });
    let chain = certificates(cert).map_err(|why| fault("tls.cert_file", cert, why))?;
    let private = private_key(key).map_err(|why| fault("tls.key_file", key, why))?;
    let first = &chain[0];
    if !first.public_key().is_ok_and(|public| public.public_eq(&private)) {
        return Err(Finding::KeyMismatch);
    }
    // Fails also where OpenSSL finds a key too weak, which the MQTT library meets in the same way.
    let refused = |e: ErrorStack| Finding::Other(format!("`tls.cert_file` cannot be used: {}", words(&e)));
    builder.set_certificate_chain_file(cert).map_err(refused)?;
    builder.set_private_key(&private).map_err(refused)?;
    Ok(Certificate::of(first))
}

/// One at least.
fn certificates(path: &Path) -> Result<Vec<X509>, FileWhy> {
    let bytes = pem(path)?;
    match X509::stack_from_pem(&bytes) {
        Ok(found) if found.is_empty() => Err(FileWhy::NoPem),
        Ok(found) => Ok(found),
        Err(_) => Err(FileWhy::Broken),
    }
}

fn private_key(path: &Path) -> Result<PKey<Private>, FileWhy> {
    let bytes = pem(path)?;
    let mut encrypted = false;
    let key = PKey::private_key_from_pem_callback(&bytes, |_| {
        encrypted = true;
        Err(ErrorStack::get())
    });
    let block = bytes.windows(16).any(|w| w == b"PRIVATE KEY-----");
    key.map_err(|_| match (encrypted, block) {
        (true, _) => FileWhy::Encrypted,
        (false, true) => FileWhy::Broken,
        (false, false) => FileWhy::NoPem,
    })
}

fn pem(path: &Path) -> Result<Vec<u8>, FileWhy> {
    let bytes = std::fs::read(path).map_err(FileWhy::Unreadable)?;
    match bytes.first() {
        None => Err(FileWhy::Empty),
        // An ASN.1 sequence.
        Some(0x30) if bytes.get(1).is_some_and(|b| *b >= 0x80) => Err(FileWhy::Der),
        Some(_) if !bytes.windows(11).any(|w| w == b"-----BEGIN ") => Err(FileWhy::NoPem),
        Some(_) => Ok(bytes),
    }
}

fn handshake(context: &SslContext, host: &str, wire: Wire) -> Result<SslStream<Wire>, HandshakeError<Wire>> {
    let mut ssl = Ssl::new(context)?;
    match host.parse::<IpAddr>() {
        Ok(ip) => ssl.param_mut().set_ip(ip)?,
        Err(_) => {
            ssl.set_hostname(host)?;
            ssl.param_mut().set_host(host)?;
        }
    }
    ssl.connect(wire)
}

/// Waits for what the broker may have against a handshake that is complete for us.
fn objection(mut stream: SslStream<Wire>, own: Option<Certificate>) -> Finding {
    stream.get_mut().hasten(Instant::now() + OBJECTION);
    match stream.ssl_read(&mut [0]) {
        Ok(_) => Finding::Fine,
        Err(_) if stream.get_ref().timed_out() => Finding::Fine,
        Err(e) => match alert(&e) {
            Some(number) => alerted(number, own),
            None => Finding::ClosedAfter,
        },
    }
}

fn alerted(number: u8, own: Option<Certificate>) -> Finding {
    match (number, own) {
        (PROTOCOL_VERSION, _) => Finding::OldProtocol,
        (NO_APPLICATION_PROTOCOL, _) => Finding::NoCommonProtocol,
        (UNRECOGNIZED_NAME, _) => Finding::UnknownName,
        (HANDSHAKE_FAILURE | CERTIFICATE_REQUIRED | 42..=49, None) => Finding::CertificateWanted,
        (HANDSHAKE_FAILURE | CERTIFICATE_REQUIRED | 42..=49 | 51, Some(own)) => {
            Finding::CertificateRefused { alert: number, own: Box::new(own) }
        }
        (number, _) => Finding::Other(format!("the broker sent the alert {number}")),
    }
}

/// The alert that was received, if that is what went wrong.
fn alert(e: &openssl::ssl::Error) -> Option<u8> {
    if e.code() != ErrorCode::SSL {
        return None;
    }
    e.ssl_error()?.errors().iter().find_map(|e| u8::try_from(e.reason_code() - ALERT_OFFSET).ok())
}

fn words(e: &ErrorStack) -> String {
    e.errors().first().and_then(|e| e.reason()).unwrap_or("unknown").to_owned()
}

impl ServerFault {
    fn of(result: openssl::x509::X509VerifyResult) -> ServerFault {
        // The X509_V_ERR_… of OpenSSL's x509_vfy.h.
        match result.as_raw() {
            9 => ServerFault::NotYetValid,
            10 => ServerFault::Expired,
            18 => ServerFault::SelfSigned,
            2 | 19 | 20 | 21 => ServerFault::UnknownAuthority,
            62 | 64 => ServerFault::WrongHost,
            _ => ServerFault::Other(result.error_string()),
        }
    }
}

impl Certificate {
    fn of(certificate: &X509Ref) -> Certificate {
        let names = certificate.subject_alt_names();
        let names = names.iter().flatten().filter_map(|name| match (name.dnsname(), name.ipaddress()) {
            (Some(dns), _) => Some(printable(dns)),
            (None, Some(bytes)) => address(bytes).map(|ip| ip.to_string()),
            (None, None) => None,
        });
        Certificate {
            names: names.collect(),
            subject: name(certificate.subject_name()),
            issuer: name(certificate.issuer_name()),
            not_before: certificate.not_before().to_string(),
            not_after: certificate.not_after().to_string(),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(v4) => Some(v4.into()),
        Err(_) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// `CN=broker, O=Example`
fn name(name: &X509NameRef) -> String {
    let entry = |e: &openssl::x509::X509NameEntryRef| {
        Some(format!("{}={}", e.object().nid().short_name().ok()?, e.data().to_string().ok()?))
    };
    printable(&name.entries().filter_map(entry).collect::<Vec<_>>().join(", "))
}

/// What a stranger wrote goes into a log line: no line breaks, no terminal's codes, no novels.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::x509::X509Name;

    #[test]
    fn what_a_stranger_wrote_in_a_certificate_is_one_short_line_without_codes() {
        let mut subject = X509Name::builder().unwrap();
        subject.append_entry_by_text("CN", "a\nfake line\x1b[2J").unwrap();
        assert_eq!(name(&subject.build()), "CN=a?fake line?[2J");
        assert_eq!(printable(&"x".repeat(1_000)).len(), 200);
    }
}
