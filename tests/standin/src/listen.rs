//! The ports, and what is spoken at each.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::{Ssl, SslAcceptor};
use serde_json::{json, Value};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_openssl::SslStream;

use crate::config::{Config, Listener};
use crate::connection;
use crate::rules::Rule;
use crate::server::Hub;
use crate::session::Peer;
use crate::tls::{self, ALPN_CUSTOM, ALPN_MTLS};
use crate::websocket::{self, Gate};

const HANDSHAKE: Duration = Duration::from_secs(10);

/// What a port speaks.
#[derive(Clone)]
enum Kind {
    Plain,
    Mtls(Arc<SslAcceptor>),
    Alpn(Arc<SslAcceptor>, Arc<Gate>),
}

/// Binds them all; the real ports by name.
pub async fn open(config: &mut Config, hub: &Arc<Hub>) -> Result<Value, String> {
    let mut ports = json!({});
    let asked = &config.listeners;
    let (plain, mtls, alpn) = (asked.plain, asked.mtls, asked.alpn);
    if let Some(listener) = plain {
        ports["plain"] = listen(listener, Kind::Plain, hub).await?.into();
    }
    if let Some(listener) = mtls {
        let acceptor = Arc::new(tls::mtls(&config.tls, hub.report.clone())?);
        ports["mtls"] = listen(listener, Kind::Mtls(acceptor), hub).await?.into();
    }
    if let Some(listener) = alpn {
        let acceptor = Arc::new(tls::alpn(&config.tls, hub.report.clone())?);
        let gate = Gate { credentials: std::mem::take(&mut config.sigv4), region: config.account.region.clone() };
        ports["alpn"] = listen(listener, Kind::Alpn(acceptor, Arc::new(gate)), hub).await?.into();
    }
    Ok(ports)
}

async fn listen(asked: Listener, kind: Kind, hub: &Arc<Hub>) -> Result<u16, String> {
    let told = |error| format!("127.0.0.1:{}: {error}", asked.port);
    let listener = TcpListener::bind(("127.0.0.1", asked.port)).await.map_err(told)?;
    let port = listener.local_addr().map_err(told)?.port();
    let hub = hub.clone();
    tokio::spawn(async move {
        loop {
            // Out of descriptors, say: those who wait are served when there are some again.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, kind.clone(), hub.clone()));
        }
    });
    Ok(port)
}

async fn serve(stream: TcpStream, kind: Kind, hub: Arc<Hub>) {
    match kind {
        Kind::Plain => connection::serve(stream, Peer::default(), hub).await,
        Kind::Mtls(acceptor) => {
            let Some(stream) = handshake(stream, &acceptor, &hub).await else { return };
            connection::serve(stream, Peer::default(), hub).await;
        }
        Kind::Alpn(acceptor, gate) => {
            let Some(stream) = handshake(stream, &acceptor, &hub).await else { return };
            match stream.ssl().selected_alpn_protocol() {
                Some(ALPN_MTLS) => connection::serve(stream, Peer::default(), hub).await,
                Some(ALPN_CUSTOM) => connection::serve(stream, Peer { is_custom: true }, hub).await,
                _ => websocket::serve(stream, gate, hub).await,
            }
        }
    }
}

async fn handshake(stream: TcpStream, acceptor: &SslAcceptor, hub: &Hub) -> Option<SslStream<TcpStream>> {
    let ssl = Ssl::new(acceptor.context()).ok()?;
    let mut stream = SslStream::new(ssl, stream).ok()?;
    match timeout(HANDSHAKE, Pin::new(&mut stream).accept()).await {
        Ok(Ok(())) => Some(stream),
        Ok(Err(error)) => {
            hub.report.rejection(Rule::TlsHandshake, "", &error.to_string());
            None
        }
        Err(_) => {
            hub.report.rejection(Rule::TlsHandshake, "", "it took too long");
            None
        }
    }
}
