//! This machine's clock. The bound does not need it; certificates, signed URLs and the lag metric do.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime};

use unstale::transport::http;
use unstale::ClientConfig;

use super::network::{address, scheme};
use super::report::Check;

const NAME: &str = "clock";
/// AWS takes signatures that are at most so much off.
const MOST: Duration = Duration::from_secs(300);
const NOTICEABLE: Duration = Duration::from_secs(5);

/// Compares with what a web server at the broker's port says, where there is one; else asks the kernel.
pub fn check(config: &ClientConfig, addresses: &[SocketAddr]) -> Check {
    let told = (scheme(config) == "ws").then(|| addresses.first().and_then(|a| date(config, *a))).flatten();
    match told {
        Some(server) => compare(server),
        None => kernel(),
    }
}

fn compare(server: SystemTime) -> Check {
    let now = SystemTime::now();
    let off = now.duration_since(server).unwrap_or_else(|e| e.duration());
    let said = format!("this machine's clock is {} s off the server's", off.as_secs());
    if off > MOST {
        return Check::failed(
            NAME,
            format!("{said}: certificates and signatures will be refused; set it, for example with chrony"),
        );
    }
    if off > NOTICEABLE {
        return Check::warning(
            NAME,
            format!("{said}: the lag that is measured is off by that; set it, for example with chrony"),
        );
    }
    Check::ok(NAME, said)
}

/// What an answer to a plain HTTP request is dated.
fn date(config: &ClientConfig, at: SocketAddr) -> Option<SystemTime> {
    let limit = Duration::from_secs(2);
    let stream = TcpStream::connect_timeout(&at, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let (host, port) = address(config);
    let host = http::authority(&host, port, 80);
    http::ask(stream, &format!("HEAD / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).ok()?.date
}

#[cfg(target_os = "linux")]
fn kernel() -> Check {
    // SAFETY: plain data, zero means "change nothing"; the call fills it.
    let state = unsafe {
        let mut timex = std::mem::zeroed::<libc::timex>();
        libc::adjtimex(&mut timex)
    };
    match state {
        libc::TIME_ERROR => Check::warning(
            NAME,
            "the kernel says that nothing keeps this machine's clock right; certificates, signed URLs and the measured lag need it: run chrony or \
             systemd-timesyncd (in a container or a virtual machine the host may do so unseen)",
        ),
        -1 => Check::ok(NAME, "nobody here tells whether this machine's clock is right"),
        _ => Check::ok(NAME, "the kernel says that this machine's clock is kept right"),
    }
}

#[cfg(not(target_os = "linux"))]
fn kernel() -> Check {
    Check::ok(NAME, "nobody here tells whether this machine's clock is right")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::doctor::report::Verdict;

    #[test]
    fn a_clock_that_signatures_cannot_use_is_a_failure() {
        let verdict = |off: u64| compare(SystemTime::now() - Duration::from_secs(off)).verdict;
        assert_eq!((verdict(1), verdict(60), verdict(600)), (Verdict::Ok, Verdict::Warning, Verdict::Failed));
        assert_eq!(compare(SystemTime::now() + Duration::from_secs(600)).verdict, Verdict::Failed);
    }

    #[test]
    fn a_web_server_at_the_brokers_port_is_asked_for_the_time() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            // All of it: who closes before that cuts off the answer too.
            let (mut asked, mut byte) = (Vec::new(), [0]);
            while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                asked.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 400 No\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n").unwrap();
        });
        let config = ClientConfig::from_url(&format!("ws://{at}")).unwrap();
        assert_eq!(check(&config, &[at]).verdict, Verdict::Failed);
    }
}
