//! TLS: whom this client trusts, what it shows, and what it says when there is no agreement. The faults are in
//! `tests/tls/faults.json`, for every language; here is what takes a look at the other side.

mod common;
#[path = "common/peer.rs"]
mod peer;

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{free_port, program, run, until, Mosquitto, TempDir};
use openssl::ssl::{NameType, SslAcceptor, SslAcceptorBuilder, SslFiletype, SslMethod, SslVersion};
use peer::Peer;
use unstale::{ClientConfig, Error, ErrorKind};

/// An authority of the test's own.
struct Authority {
    dir: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let dir = TempDir::new();
        let authority = Authority { dir };
        authority.openssl("ca", &["-subj", "/CN=test authority", "-addext", "basicConstraints=critical,CA:TRUE"]);
        authority
    }

    /// Makes `name.crt` and `name.key` for these alternative names.
    fn issue(&self, name: &str, names: &str) {
        let (ca, key) = (self.file("ca.crt"), self.file("ca.key"));
        let subject = format!("/CN={name}");
        let names = format!("subjectAltName={names}");
        let ca = ["-CA", ca.to_str().unwrap(), "-CAkey", key.to_str().unwrap()];
        self.openssl(
            name,
            &[&["-subj", &subject, "-addext", &names, "-addext", "basicConstraints=CA:FALSE"], &ca[..]].concat(),
        );
    }

    fn openssl(&self, name: &str, arguments: &[&str]) {
        run(Command::new(program("openssl"))
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
            .arg("-keyout")
            .arg(self.file(&format!("{name}.key")))
            .arg("-out")
            .arg(self.file(&format!("{name}.crt")))
            .args(arguments));
    }

    /// The server's side of a handshake, with the certificate `name`.
    fn acceptor(&self, name: &str) -> SslAcceptorBuilder {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate_chain_file(self.file(&format!("{name}.crt"))).unwrap();
        acceptor.set_private_key_file(self.file(&format!("{name}.key")), SslFiletype::PEM).unwrap();
        acceptor
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A broker with the certificate `name` of this authority.
    fn broker(&self, name: &str, more: &str) -> Mosquitto {
        let (cert, key, ca) =
            (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")), self.file("ca.crt"));
        let tls = format!("certfile {}\nkeyfile {}\ncafile {}\n", cert.display(), key.display(), ca.display());
        Mosquitto::with(&format!("allow_anonymous true\n{tls}{more}"))
    }
}

/// The name that a hello was made to, and whether the client went on when the handshake was complete.
type Call = (Option<String>, bool);

/// Completes handshakes, notes them, and hangs up.
struct Stranger {
    port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Stranger {
    fn start(authority: &Authority, certificate: &str) -> Stranger {
        Stranger::at("127.0.0.1:0", authority, certificate)
    }

    fn at(address: &str, authority: &Authority, certificate: &str) -> Stranger {
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let acceptor = authority.acceptor(certificate).build();
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::clone(&calls);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Far longer than a client takes that goes on; the one that finds out why says nothing.
                stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
                if let Ok(mut stream) = acceptor.accept(stream) {
                    let name = stream.ssl().servername(NameType::HOST_NAME).map(str::to_owned);
                    let said = stream.read(&mut [0]).is_ok_and(|n| n > 0);
                    heard.lock().unwrap().push((name, said));
                }
            }
        });
        Stranger { port, calls }
    }

    /// Fails unless those who called, in this order, named `host`: the library, which goes on, whoever asks a web server what
    /// it has against a WebSocket, and whoever finds out why TLS failed, and says nothing.
    fn was_called(&self, scheme: &str, host: Option<&str>, e: &Error) {
        let said: &[bool] = if scheme == "wss" { &[true, true, false] } else { &[true, false] };
        until("all connections", || self.calls.lock().unwrap().len() >= said.len());
        let expected: Vec<Call> = said.iter().map(|said| (host.map(str::to_owned), *said)).collect();
        assert_eq!(*self.calls.lock().unwrap(), expected, "{e}");
    }
}

/// What a server of [`in_turn`] does with a connection when the handshake is complete.
enum Turn {
    HangsUp(SslAcceptor),
    /// Until the test ends.
    SaysNothing(SslAcceptor),
}

/// Takes as many connections, one after the other.
fn in_turn(turns: impl IntoIterator<Item = Turn> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for turn in turns {
            let (stream, _) = listener.accept().unwrap();
            // Some are to fail.
            match turn {
                Turn::HangsUp(acceptor) => drop(acceptor.accept(stream)),
                Turn::SaysNothing(acceptor) => silent.push(acceptor.accept(stream)),
            }
        }
        std::thread::park();
    });
    port
}

fn config(url: &str, ca: &Path) -> ClientConfig {
    let mut config = ClientConfig::from_url(url).unwrap();
    config.tls.ca_file = Some(ca.to_owned());
    // No test here is about time, and another may need the processor.
    config.connect_timeout = Duration::from_secs(60);
    config
}

fn refused(config: &ClientConfig) -> Error {
    let mut peer = Peer::configured(config).unwrap();
    peer.transport.connect();
    let e = peer.refused();
    peer.quiet();
    e
}

fn connects(config: &ClientConfig) {
    let mut peer = Peer::configured(config).unwrap();
    peer.connect();
    peer.round_trip_alone();
}

#[test]
fn a_broker_of_a_trusted_authority_is_connected_to_by_address_and_by_name() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1,DNS:localhost");
    let broker = authority.broker("server", "");
    for host in ["127.0.0.1", "localhost"] {
        for version in ["5", "3.1.1"] {
            let mut config =
                config(&format!("mqtts://{host}:{}?mqtt_version={version}", broker.port()), &authority.file("ca.crt"));
            connects(&config);
            config.tls.alpn = vec!["mqtt".into(), "x-amzn-mqtt-ca".into()];
            connects(&config);
        }
    }
}

#[test]
fn a_broker_of_another_authority_is_a_tls_error_that_names_the_file() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("server", "IP:127.0.0.1");
    let broker = authority.broker("server", "");
    let e = refused(&config(&format!("mqtts://127.0.0.1:{}", broker.port()), &other.file("ca.crt")));
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    let file = other.file("ca.crt");
    assert!(e.message().contains("is unknown") && e.message().contains(file.to_str().unwrap()), "{e}");
}

#[test]
fn without_an_authority_of_its_own_a_test_broker_is_not_trusted() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    let broker = authority.broker("server", "");
    let e = refused(&ClientConfig::from_url(&format!("mqtts://127.0.0.1:{}", broker.port())).unwrap());
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("`tls.ca_file`"), "{e}");
}

#[test]
fn a_certificate_for_another_name_is_a_tls_error() {
    let authority = Authority::new();
    authority.issue("server", "DNS:broker.example,IP:127.0.0.2");
    let broker = authority.broker("server", "");
    for host in ["127.0.0.1", "localhost"] {
        let e = refused(&config(&format!("mqtts://{host}:{}", broker.port()), &authority.file("ca.crt")));
        assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
        assert!(e.message().contains(&format!("`{host}`")), "{e}");
    }
}

#[test]
fn a_port_without_tls_is_a_tls_error_and_a_port_with_it_a_connect_error_for_mqtt() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    let plain = Mosquitto::start();
    let e = refused(&config(&format!("mqtts://127.0.0.1:{}", plain.port()), &authority.file("ca.crt")));
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    let secure = authority.broker("server", "");
    let e = refused(&ClientConfig::from_url(&secure.url()).unwrap());
    assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
    assert!(e.message().contains("TLS"), "{e}");
}

#[test]
fn a_closed_port_is_a_connect_error_with_tls_too() {
    let authority = Authority::new();
    let e = refused(&config(&format!("mqtts://127.0.0.1:{}", free_port()), &authority.file("ca.crt")));
    assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
}

#[test]
fn a_broker_that_wants_a_client_certificate_gets_it_or_is_a_tls_error() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("server", "IP:127.0.0.1");
    authority.issue("client", "DNS:client");
    other.issue("client", "DNS:client");
    let broker = authority.broker("server", "require_certificate true\n");
    let mut config = config(&format!("mqtts://127.0.0.1:{}", broker.port()), &authority.file("ca.crt"));
    let e = refused(&config);
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("`tls.cert_file`"), "{e}");
    config.tls.cert_file = Some(other.file("client.crt"));
    config.tls.key_file = Some(other.file("client.key"));
    assert_eq!(refused(&config).kind(), ErrorKind::Tls);
    config.tls.cert_file = Some(authority.file("client.crt"));
    let e = refused(&config); // with the key of another
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("`tls.key_file`"), "{e}");
    config.tls.key_file = Some(authority.file("client.key"));
    connects(&config);
}

#[test]
fn replaced_files_are_used_at_the_next_connection() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    authority.issue("first", "DNS:first");
    authority.issue("second", "DNS:second");
    let mut broker = authority.broker("server", "require_certificate true\nuse_identity_as_username true\n");
    let mut config = config(&format!("mqtts://127.0.0.1:{}", broker.port()), &authority.file("ca.crt"));
    config.tls.cert_file = Some(authority.file("client.crt"));
    config.tls.key_file = Some(authority.file("client.key"));
    let put = |name: &str| {
        for ending in ["crt", "key"] {
            // As certificates are renewed: the new file takes the old one's place at once.
            let new = authority.file(&format!("new.{ending}"));
            std::fs::copy(authority.file(&format!("{name}.{ending}")), &new).unwrap();
            std::fs::rename(new, authority.file(&format!("client.{ending}"))).unwrap();
        }
    };
    put("first");
    let mut peer = Peer::configured(&config).unwrap();
    peer.connect();
    until("the broker sees the first", || broker.log().contains("u'first'"));
    put("second");
    broker.restart();
    peer.lost();
    peer.connect();
    until("the broker sees the second", || broker.log().contains("u'second'"));
    // The authority changes too: the broker is no longer trusted at the next connection.
    let other = Authority::new();
    std::fs::copy(other.file("ca.crt"), authority.file("ca.crt")).unwrap();
    broker.kill();
    peer.lost();
    let broker = Stranger::start(&authority, "server");
    let mut config = config.clone();
    config.url = format!("mqtts://127.0.0.1:{}", broker.port);
    let e = refused(&config);
    assert!(e.message().contains("is unknown"), "{e}");
}

#[test]
fn a_host_name_is_sent_with_the_hello_and_an_address_is_not() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1,IP:::1,DNS:localhost");
    for (host, sent) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
        for scheme in ["mqtts", "wss"] {
            let broker = Stranger::start(&authority, "server");
            let config = config(&format!("{scheme}://{host}:{}", broker.port), &authority.file("ca.crt"));
            let e = refused(&config);
            broker.was_called(scheme, sent, &e);
        }
    }
}

#[test]
fn an_ipv6_address_is_compared_with_the_certificate() {
    let authority = Authority::new();
    authority.issue("server", "IP:::1");
    authority.issue("other", "IP:::2");
    for scheme in ["mqtts", "wss"] {
        let broker = Stranger::at("[::1]:0", &authority, "server");
        let config = config(&format!("{scheme}://[::1]:{}", broker.port), &authority.file("ca.crt"));
        let e = refused(&config);
        broker.was_called(scheme, None, &e);
        let broker = Stranger::at("[::1]:0", &authority, "other");
        let mut config = config.clone();
        config.url = format!("{scheme}://[::1]:{}", broker.port);
        let e = refused(&config);
        assert!(e.message().contains("not made out to `::1`, but to ::2"), "{e}");
    }
}

#[test]
fn an_encrypted_key_is_a_tls_error_and_nobody_is_asked_for_a_password() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    authority.issue("client", "DNS:client");
    let (plain, locked) = (authority.file("client.key"), authority.file("locked.key"));
    let out = Command::new(program("openssl"))
        .args(["ec", "-aes256", "-passout", "pass:secret", "-in"])
        .arg(&plain)
        .arg("-out")
        .arg(&locked)
        .output();
    assert!(out.unwrap().status.success());
    let broker = authority.broker("server", "require_certificate true\n");
    let mut config = config(&format!("mqtts://127.0.0.1:{}", broker.port()), &authority.file("ca.crt"));
    config.tls.cert_file = Some(authority.file("client.crt"));
    config.tls.key_file = Some(locked);
    assert_eq!(refused(&config).kind(), ErrorKind::Tls);
}

#[test]
fn files_that_cannot_be_used_are_tls_errors_that_name_the_option() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    let broker = authority.broker("server", "");
    let url = format!("mqtts://127.0.0.1:{}", broker.port());
    for bad in [authority.file("missing.pem"), authority.dir.path().to_owned()] {
        let e = Peer::configured(&config(&url, &bad)).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
        assert!(e.message().contains("`tls.ca_file`") && e.message().contains(bad.to_str().unwrap()), "{e}");
    }
    let e = refused(&config(&url, &authority.dir.write("garbage.pem", "no certificate")));
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("`tls.ca_file`"), "{e}");
}

#[test]
fn who_hangs_up_after_the_handshake_is_asked_what_it_has_against_this_client() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    authority.issue("client", "DNS:client");
    let hangs_up = || Turn::HangsUp(authority.acceptor("server").build());
    let at = |turns: [Turn; 2]| config(&format!("mqtts://127.0.0.1:{}", in_turn(turns)), &authority.file("ca.crt"));
    let e = refused(&at([hangs_up(), hangs_up()]));
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("because it wants a client certificate"), "{e}");
    let mut shows = at([hangs_up(), hangs_up()]);
    shows.tls.cert_file = Some(authority.file("client.crt"));
    shows.tls.key_file = Some(authority.file("client.key"));
    let e = refused(&shows);
    assert!(e.message().contains("does not take this client's certificate"), "{e}");
    // One that listens on has nothing against TLS.
    let e = refused(&at([hangs_up(), Turn::SaysNothing(authority.acceptor("server").build())]));
    assert_eq!(e.kind(), ErrorKind::Connect, "{e}");
    assert!(e.message().contains("TLS is in order"), "{e}");
}

#[test]
fn a_fault_that_does_not_show_again_is_told_in_the_librarys_words() {
    let (authority, other) = (Authority::new(), Authority::new());
    authority.issue("server", "IP:127.0.0.1");
    other.issue("server", "IP:127.0.0.1");
    let turns =
        [Turn::HangsUp(other.acceptor("server").build()), Turn::SaysNothing(authority.acceptor("server").build())];
    let e = refused(&config(&format!("mqtts://127.0.0.1:{}", in_turn(turns)), &authority.file("ca.crt")));
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("certificate verify failed") && e.message().contains("next attempt"), "{e}");
}

#[test]
fn a_broker_with_other_ciphers_is_told_from_one_that_wants_a_certificate() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    let acceptor = || {
        let mut acceptor = authority.acceptor("server");
        acceptor.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap();
        // Its certificate is no RSA.
        acceptor.set_cipher_list("ECDHE-RSA-AES128-GCM-SHA256").unwrap();
        Turn::HangsUp(acceptor.build())
    };
    let port = in_turn([acceptor(), acceptor()]);
    let e = refused(&config(&format!("mqtts://127.0.0.1:{port}"), &authority.file("ca.crt")));
    assert_eq!(e.kind(), ErrorKind::Tls, "{e}");
    assert!(e.message().contains("no cipher in common"), "{e}");
}

#[test]
fn websockets_over_tls_connect() {
    let authority = Authority::new();
    authority.issue("server", "IP:127.0.0.1");
    let port = free_port();
    let file = |name: &str| authority.file(name).display().to_string();
    let tls = format!("certfile {}\nkeyfile {}\n", file("server.crt"), file("server.key"));
    let web = format!("listener {port} 127.0.0.1\nsocket_domain ipv4\nprotocol websockets\n{tls}");
    let _broker = Mosquitto::with(&format!("allow_anonymous true\n{web}"));
    connects(&config(&format!("wss://127.0.0.1:{port}/mqtt?connect_timeout=120"), &authority.file("ca.crt")));
}
