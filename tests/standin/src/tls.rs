//! TLS as AWS IoT Core asks for it.
//!
//! "Transport security in AWS IoT Core": TLS 1.2 or 1.3, and "Connection attempts that don't include the SNI are refused".
//! "Protocols, port mappings, and authentication": what the ALPN names mean on port 443.

use std::sync::Arc;

use openssl::ssl::{
    select_next_proto, AlpnError, NameType, SniError, SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod,
    SslVerifyMode, SslVersion,
};
use openssl::x509::X509;

use crate::config;
use crate::report::Report;
use crate::rules::Rule;

/// MQTT with a client certificate.
pub const ALPN_MTLS: &[u8] = b"x-amzn-mqtt-ca";
/// MQTT with a custom authorizer.
pub const ALPN_CUSTOM: &[u8] = b"mqtt";
/// As length and name, in the broker's order. The last is what HTTP clients say that open a WebSocket.
const ALPN_NAMES: &[u8] = b"\x0ex-amzn-mqtt-ca\x04mqtt\x08http/1.1";

/// For the port at which a client certificate is needed.
pub fn mtls(config: &config::Tls, report: Arc<Report>) -> Result<SslAcceptor, String> {
    let mut builder = builder(config, report)?;
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    Ok(builder.build())
}

/// For the port at which ALPN says what is needed.
pub fn alpn(config: &config::Tls, report: Arc<Report>) -> Result<SslAcceptor, String> {
    let mut builder = builder(config, report)?;
    builder.set_alpn_select_callback(|ssl, offered| {
        let chosen = select_next_proto(ALPN_NAMES, offered).ok_or(AlpnError::ALERT_FATAL)?;
        if chosen == ALPN_MTLS {
            ssl.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        Ok(chosen)
    });
    Ok(builder.build())
}

fn builder(config: &config::Tls, report: Arc<Report>) -> Result<SslAcceptorBuilder, String> {
    let told = |path: &str| {
        let path = path.to_owned();
        move |error: openssl::error::ErrorStack| format!("{path}: {error}")
    };
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(told("TLS"))?;
    builder.set_min_proto_version(Some(SslVersion::TLS1_2)).map_err(told("TLS 1.2"))?;
    builder.set_certificate_chain_file(&config.cert_file).map_err(told(&config.cert_file))?;
    builder.set_private_key_file(&config.key_file, SslFiletype::PEM).map_err(told(&config.key_file))?;
    if !config.client_ca_file.is_empty() {
        let path = &config.client_ca_file;
        builder.set_ca_file(path).map_err(told(path))?;
        let pem = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        for authority in X509::stack_from_pem(&pem).map_err(told(path))? {
            builder.add_client_ca(&authority).map_err(told(path))?;
        }
    }
    // Without it OpenSSL refuses to resume a session of a client with a certificate.
    builder.set_session_id_context(b"aws-standin").map_err(told("session id context"))?;
    builder.set_servername_callback(move |ssl, _| match ssl.servername(NameType::HOST_NAME) {
        Some(_) => Ok(()),
        None => {
            report.rejection(Rule::NoSni, "", "a TLS connection without a server name");
            Err(SniError::ALERT_FATAL)
        }
    });
    Ok(builder)
}
