//! One client's bytes: decoded for the broker, encoded from it, both at the documented pace.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::{unbounded_channel, UnboundedReceiver};
use tokio::time::{sleep, timeout};

use crate::broker::{Input, Output};
use crate::codec::{self, Version};
use crate::limits::Pace;
use crate::rules::Rule;
use crate::server::Hub;
use crate::session::Peer;

/// For how long a closed connection is still read, so that its last packet is not lost in a reset.
const LINGER: Duration = Duration::from_millis(300);
/// What one write takes at most.
const CHUNK: usize = 64 * 1024;

/// Serves it until either side ends it.
pub async fn serve<S: AsyncRead + AsyncWrite>(stream: S, peer: Peer, hub: Arc<Hub>) {
    let (sender, receiver) = unbounded_channel();
    let id = hub.open(peer, sender);
    let (reader, writer) = tokio::io::split(stream);
    let (reader, writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    let (mut reader, mut writer) = (reader, writer);
    tokio::select! {
        () = read(&mut reader, id, &hub) => {}
        () = write(&mut writer, receiver, &hub) => {
            let mut rest = [0; 4096];
            let drain = async { while reader.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
            let _ = timeout(LINGER, drain).await;
        }
    }
    hub.tell(id, Input::Closed);
}

async fn read<S: AsyncRead>(stream: &mut std::pin::Pin<&mut ReadHalf<S>>, id: u64, hub: &Hub) {
    let mut buffer = BytesMut::new();
    let mut pace = Pace::new(hub.bytes_per_second);
    let mut version = None;
    let mut is_told = false;
    loop {
        match stream.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {
                let wait = pace.spend(hub.now(), count);
                if !wait.is_zero() {
                    if !std::mem::replace(&mut is_told, true) {
                        hub.report.rejection(Rule::ThroughputIn, "", "more than the bytes of a second");
                    }
                    sleep(wait).await;
                }
            }
            _ => return,
        }
        let is_first = version.is_none();
        if let Err((rule, why)) =
            decode(&mut version, &mut buffer, |version, packet| hub.tell(id, Input::Packet(version, packet)))
        {
            hub.tell(id, Input::Refused(rule, why));
            // The broker answers, and ends the connection.
            return std::future::pending().await;
        }
        // "AWS IoT differences from MQTT specifications": before anything else, "the client must wait for the CONNACK".
        if is_first && version.is_some() && !buffer.is_empty() {
            hub.tell(id, Input::Refused(Rule::BeforeConnack, "a packet came before the CONNACK was sent".into()));
            return std::future::pending().await;
        }
    }
}

/// All packets that are complete; the first only, when it is the CONNECT.
fn decode(
    known: &mut Option<Version>,
    buffer: &mut BytesMut,
    mut take: impl FnMut(Version, codec::Packet),
) -> Result<(), (Rule, String)> {
    let malformed = |why| (Rule::Malformed, why);
    loop {
        if buffer.is_empty() {
            return Ok(());
        }
        let version = match *known {
            Some(version) => version,
            None => match codec::version(buffer).map_err(malformed)? {
                Some(version) => version,
                None => return Ok(()),
            },
        };
        let Some(packet) = codec::decode(version, buffer).map_err(malformed)? else { return Ok(()) };
        take(version, packet);
        if known.replace(version).is_none() {
            return Ok(());
        }
    }
}

async fn write<S: AsyncWrite>(
    stream: &mut std::pin::Pin<&mut WriteHalf<S>>,
    mut outputs: UnboundedReceiver<Output>,
    hub: &Hub,
) {
    let mut buffer = BytesMut::new();
    let mut pace = Pace::new(hub.bytes_per_second);
    let mut is_open = true;
    while is_open {
        let Some(first) = outputs.recv().await else { return };
        let mut next = Some(first);
        while let Some(output) = next {
            match output {
                Output::Packet(version, packet) => codec::encode(version, packet, &mut buffer),
                Output::Close => is_open = false,
            }
            next = if is_open && buffer.len() < CHUNK { outputs.try_recv().ok() } else { None };
        }
        let wait = pace.spend(hub.now(), buffer.len());
        if !wait.is_zero() {
            hub.report.count("throughput_out_delayed");
            sleep(wait).await;
        }
        if stream.write_all(&buffer).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        buffer.clear();
    }
    let _ = stream.shutdown().await;
}
