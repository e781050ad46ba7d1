//! MQTT in WebSocket messages, behind a presigned URL.
//!
//! "MQTT over the WebSocket protocol": path `/mqtt`, sub-protocol `mqtt`, binary messages, a query signed with Signature Version 4.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{header, HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::WebSocketStream;

use crate::config::Credentials;
use crate::rules::Rule;
use crate::server::Hub;
use crate::session::Peer;
use crate::{connection, sigv4};

const PIPE: usize = 64 * 1024;
const PROTOCOL: &str = "mqtt";

/// Whose signatures are accepted, and for where.
pub struct Gate {
    pub credentials: Vec<Credentials>,
    pub region: String,
}

/// Checks the upgrade, then serves the MQTT in it.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, gate: Arc<Gate>, hub: Arc<Hub>) {
    let check = Check { gate: &gate, hub: &hub };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, check).await else { return };
    let (ours, theirs) = tokio::io::duplex(PIPE);
    tokio::join!(pump(socket, theirs), connection::serve(ours, Peer::default(), hub.clone()));
}

struct Check<'a> {
    gate: &'a Gate,
    hub: &'a Hub,
}

impl Callback for Check<'_> {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        match self.gate.judge(request) {
            Ok(()) => {
                self.hub.report.signed(request.uri().query().unwrap_or_default());
                response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
                Ok(response)
            }
            Err((rule, why)) => {
                self.hub.report.rejection(rule, "", &why);
                let mut refusal = ErrorResponse::new(Some(why));
                *refusal.status_mut() = StatusCode::FORBIDDEN;
                Err(refusal)
            }
        }
    }
}

impl Gate {
    fn judge(&self, request: &Request) -> Result<(), (Rule, String)> {
        let wanted = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
        let mut names = wanted.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        if !names.any(|name| name.trim() == PROTOCOL) {
            return Err((Rule::WebsocketProtocol, "Sec-WebSocket-Protocol is not mqtt".into()));
        }
        if request.uri().path() != "/mqtt" {
            return Err((Rule::WebsocketPath, format!("the path is {}, not /mqtt", request.uri().path())));
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let url = request.uri().path_and_query().map_or("", |url| url.as_str());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        let mut outcome = Err((Rule::Sigv4, "no credentials are configured".to_owned()));
        for credentials in &self.credentials {
            outcome = sigv4::verify(credentials, &self.region, url, host, now).map_err(|why| (Rule::Sigv4, why));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// Messages to bytes and back, until either side ends.
async fn pump<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<S>, pipe: DuplexStream) {
    let (mut outgoing, mut incoming) = socket.split();
    let (mut from_broker, mut to_broker) = tokio::io::split(pipe);
    let inward = async {
        while let Some(Ok(message)) = incoming.next().await {
            match message {
                Message::Binary(bytes) if to_broker.write_all(&bytes).await.is_ok() => {}
                // Answered by the library.
                Message::Ping(_) | Message::Pong(_) => {}
                // [MQTT-6.0.0-1]: data frames other than binary end the connection.
                _ => return,
            }
        }
    };
    let outward = async {
        let mut buffer = BytesMut::with_capacity(PIPE);
        while from_broker.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
            if outgoing.send(Message::Binary(buffer.split().freeze())).await.is_err() {
                return;
            }
        }
        let _ = outgoing.close().await;
    };
    tokio::select! {
        () = inward => {}
        () = outward => {}
    }
}
