//! `unstale broker`: an MQTT broker for development, in this process and in memory.

use std::net::IpAddr;

/// Run an MQTT broker for development.
///
/// It keeps everything in memory, asks for no password, speaks no TLS and listens on this machine only unless told
/// otherwise. MQTT 5 and MQTT 3.1.1 have a port each; both see the same messages. For production use a real broker.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Address to listen on. 0.0.0.0 opens the broker to everyone who can reach this machine.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    listen: IpAddr,

    /// Port for MQTT 5, which `unstale` speaks by default; 0 takes a free one.
    #[arg(short, long, value_name = "PORT", default_value_t = 1883)]
    port: u16,

    /// Port for MQTT 3.1.1, which many other tools speak by default; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 1884)]
    port_v3: u16,

    /// Print one JSON object, {"url", "url_v3", "address", "port", "port_v3"}, once both ports are open.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  unstale broker
  unstale broker --port 0 --port-v3 0 --json       for a test, which reads the ports
  mosquitto_pub -p 1884 -q 1 -t cache/invalidate/users -m user:42

Ends on Ctrl-C or SIGTERM, with exit code 0.";

#[cfg(feature = "broker")]
pub use embedded::run;
#[cfg(not(feature = "broker"))]
pub use missing::run;

#[cfg(not(feature = "broker"))]
mod missing {
    use super::Arguments;
    use crate::failure::Failure;
    use crate::output::Output;

    /// Says where to get a broker.
    pub fn run(arguments: &Arguments, _: &Output) -> Result<(), Failure> {
        let Arguments { listen: _, port, port_v3: _, json: _ } = arguments;
        Err(Failure::Usage(format!(
            "this `unstale` was built without its broker; build it with `cargo install unstale --features broker`, or \
             run another one, for example `mosquitto -p {port}`"
        )))
    }
}

#[cfg(feature = "broker")]
mod embedded {
    use std::future::Future;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
    use std::pin::pin;
    use std::task::Poll;

    use rumqttd::protocol::{v4::V4, v5::V5};
    use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};

    use super::Arguments;
    use crate::failure::Failure;
    use crate::output::{Look, Output};
    use crate::signals;

    /// What the broker keeps per topic for subscribers that lag; older messages are dropped on them.
    const SEGMENT_BYTES: usize = 4 << 20;
    const SEGMENTS: usize = 16;
    /// Twice what the protocol allows, so that over-long payloads reach the caches' own check.
    const MAX_PAYLOAD: usize = 512 << 10;

    /// Runs until a signal or a failure.
    pub fn run(arguments: &Arguments, output: &Output) -> Result<(), Failure> {
        let mut stop = signals::stop_requests()?;
        let v5 = address(arguments.listen, arguments.port, "--port")?;
        let v3 = address(arguments.listen, arguments.port_v3, "--port-v3")?;
        if v5 == v3 {
            return Err(Failure::Usage(format!(
                "--port and --port-v3 are both {}; MQTT 5 and MQTT 3.1.1 need a port each",
                v5.port()
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::Work(format!("cannot start the broker: {e}")))?;
        // `Broker` of rumqttd would hide a port that is taken in its log, and never end; its parts do neither.
        let router = Router::new(
            0,
            RouterConfig {
                max_connections: 1_000,
                max_outgoing_packet_count: 200,
                max_segment_size: SEGMENT_BYTES,
                max_segment_count: SEGMENTS,
                ..RouterConfig::default()
            },
        )
        .spawn();
        runtime.block_on(async {
            let mut server_v5 = Server::new(settings("mqtt5", v5), router.clone(), V5);
            let mut server_v3 = Server::new(settings("mqtt3", v3), router, V4);
            let mut server_v5 = pin!(server_v5.start(LinkType::Remote));
            let mut server_v3 = pin!(server_v3.start(LinkType::Remote));
            // A server binds its port when it is polled for the first time.
            if let Some(result) = polled_once(&mut server_v5).await {
                return Err(cannot_listen(v5, "--port", result.err()));
            }
            if let Some(result) = polled_once(&mut server_v3).await {
                return Err(cannot_listen(v3, "--port-v3", result.err()));
            }
            announce(arguments, output, v5, v3)?;
            tokio::select! {
                _ = stop.recv() => Ok(()),
                result = &mut server_v5 => Err(ended(v5, result.err())),
                result = &mut server_v3 => Err(ended(v3, result.err())),
            }
        })?;
        output.note("broker ended");
        Ok(())
    }

    fn settings(name: &str, listen: SocketAddr) -> ServerSettings {
        ServerSettings {
            name: name.into(),
            listen,
            tls: None,
            next_connection_delay_ms: 1,
            connections: ConnectionSettings {
                connection_timeout_ms: 5_000,
                max_payload_size: MAX_PAYLOAD,
                max_inflight_count: 100,
                auth: None,
                external_auth: None,
                // Without it only topics named in advance can be subscribed to.
                dynamic_filters: true,
            },
        }
    }

    /// Port 0 has to become a number here, because rumqttd does not tell which one it got.
    fn address(ip: IpAddr, port: u16, option: &str) -> Result<SocketAddr, Failure> {
        let wanted = SocketAddr::new(ip, port);
        if port != 0 {
            return Ok(wanted);
        }
        TcpListener::bind(wanted)
            .and_then(|listener| listener.local_addr())
            .map_err(|e| cannot_listen(wanted, option, Some(e)))
    }

    /// The future's result if it ends at once, else `None`: it is waiting for connections.
    async fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn announce(arguments: &Arguments, output: &Output, v5: SocketAddr, v3: SocketAddr) -> Result<(), Failure> {
        let url = format!("mqtt://{}", reachable(v5));
        let url_v3 = format!("mqtt://{}?mqtt_version=3.1.1", reachable(v3));
        if arguments.json {
            let json = serde_json::json!({
                "url": url,
                "url_v3": url_v3,
                "address": reachable(v5).ip().to_string(),
                "port": v5.port(),
                "port_v3": v3.port(),
            });
            output.line(&json.to_string())?;
        } else {
            let pen = output.pen();
            output.line(&format!("MQTT 5      {}", pen.paint(Look::Bold, url.as_str())))?;
            output.line(&format!("MQTT 3.1.1  {}", pen.paint(Look::Bold, url_v3.as_str())))?;
            output.line(&pen.paint(Look::Dim, format!("try: unstale watch --url {url}")))?;
            output.line(&pen.paint(Look::Dim, "for development: in memory, no password, no TLS; Ctrl-C ends it"))?;
        }
        if !arguments.listen.is_loopback() {
            output.warning(&format!(
                "listening on {}: whoever can reach this machine can invalidate, and watch every key",
                arguments.listen
            ));
        }
        Ok(())
    }

    /// An address to connect to: "all addresses" is none.
    fn reachable(address: SocketAddr) -> SocketAddr {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, address.port())
    }

    fn cannot_listen(address: SocketAddr, option: &str, e: Option<impl std::fmt::Display>) -> Failure {
        let reason = e.map(reason).unwrap_or_default();
        Failure::Work(format!(
            "cannot listen on {address}{reason}; choose another port with {option} (0 takes a free one)"
        ))
    }

    /// `rumqttd` puts a word of its own before the system's message.
    fn reason(e: impl std::fmt::Display) -> String {
        format!(": {}", e.to_string().trim_start_matches("I/O "))
    }

    fn ended(address: SocketAddr, e: Option<impl std::fmt::Display>) -> Failure {
        let reason = e.map(reason).unwrap_or_default();
        Failure::Work(format!("the broker stopped listening on {address}{reason}"))
    }
}
