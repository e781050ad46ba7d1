//! The way to the broker's port.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Instant;

use unstale::ClientConfig;

use super::report::Check;

/// What is looked at, and what can be said of the options alone.
pub fn options(config: &ClientConfig) -> Check {
    let (host, port) = address(config);
    let scheme = scheme(config);
    let what = format!("{scheme}://{host}:{port}, topic {}, bound {:?}", config.topic, config.staleness_bound);
    let near = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if matches!(scheme, "mqtt" | "ws") && config.password.is_some() && !near {
        return Check::warning(
            "options",
            format!("{what}; the password travels unencrypted to another machine: use mqtts:// or wss://"),
        );
    }
    Check::ok("options", what)
}

/// The host's addresses, in the order in which they are tried.
pub fn resolve(config: &ClientConfig) -> (Check, Vec<SocketAddr>) {
    let (host, port) = address(config);
    let begin = Instant::now();
    let found = (host.as_str(), port).to_socket_addrs().map(Vec::from_iter).map_err(|e| e.to_string());
    match found {
        Ok(mut addresses) if !addresses.is_empty() => {
            // The MQTT library tries one address, IPv4 before IPv6.
            addresses.sort_by_key(SocketAddr::is_ipv6);
            let shown: Vec<String> = addresses.iter().map(|a| a.ip().to_string()).collect();
            (
                Check::ok("resolve", format!("{host} is {} ({} ms)", shown.join(", "), begin.elapsed().as_millis())),
                addresses,
            )
        }
        other => {
            let why = other.err().unwrap_or_else(|| "it has no address".into());
            let remedy = "check the host in the URL and this machine's name service";
            (Check::failed("resolve", format!("the host {host} cannot be found: {why}; {remedy}")), Vec::new())
        }
    }
}

/// Whether somebody listens there.
pub fn connect(config: &ClientConfig, addresses: &[SocketAddr]) -> Check {
    let begin = Instant::now();
    let Some(address) = addresses.first() else { return Check::failed("connect", "there is no address to connect to") };
    match TcpStream::connect_timeout(address, config.connect_timeout) {
        Ok(_) => Check::ok("connect", format!("{address} answers ({} ms)", begin.elapsed().as_millis())),
        Err(e) => {
            let remedy = match e.kind() {
                std::io::ErrorKind::ConnectionRefused => "start the broker, or correct host and port in the URL",
                std::io::ErrorKind::TimedOut => {
                    "a firewall or security group most likely drops the packets; open the port for this machine"
                }
                _ => "check host, port and the network between",
            };
            Check::failed("connect", format!("cannot connect to {address}: {e}; {remedy}"))
        }
    }
}

pub fn address(config: &ClientConfig) -> (String, u16) {
    // The configuration was validated when it was made.
    config.address().unwrap_or_default()
}

pub fn scheme(config: &ClientConfig) -> &str {
    config.url.split_once("://").map_or("", |(scheme, _)| scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Verdict;

    #[test]
    fn a_password_that_travels_unencrypted_to_another_machine_is_a_warning() {
        let verdict = |url: &str| options(&ClientConfig::from_url(url).unwrap()).verdict;
        for url in ["mqtt://u:p@broker.example", "ws://u:p@192.0.2.7"] {
            assert_eq!(verdict(url), Verdict::Warning, "{url}");
        }
        for url in ["mqtt://u:p@localhost", "ws://u:p@127.0.0.9", "mqtts://u:p@broker.example", "mqtt://broker.example"]
        {
            assert_eq!(verdict(url), Verdict::Ok, "{url}");
        }
    }
}
