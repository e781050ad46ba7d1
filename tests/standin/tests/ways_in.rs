//! The ways in that AWS has: a client certificate, ALPN, a custom authorizer, a signed WebSocket. Each is tried as it should be, and wrongly.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{Client, Standin, Stream, V5};
use openssl::hash::{hash, MessageDigest};
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::ssl::{HandshakeError, SslConnector, SslFiletype, SslMethod, SslStream, SslVersion};
use rumqttd::protocol::Login;
use serde_json::json;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

const SOON: Duration = Duration::from_secs(5);
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The stand-in with all its TLS ports, and where the certificates lie.
fn standin() -> (Standin, PathBuf) {
    let folder = common::folder();
    unstale_standin::certificates::write(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let server_key = PKey::private_key_from_pem(&std::fs::read(folder.join("server.key")).unwrap()).unwrap();
    std::fs::write(folder.join("token.pub"), server_key.public_key_to_pem().unwrap()).unwrap();
    let config = json!({
        "listeners": {"mtls": {}, "alpn": {}},
        "tls": {"cert_file": file("server.pem"), "key_file": file("server.key"), "client_ca_file": file("ca.pem")},
        "authorizer": {"name": "mine", "password": "pass", "token": {"key_name": "tokenKey", "public_key_file": file("token.pub")}},
        "sigv4": {"access_key": "AKID", "secret_key": SECRET, "session_token": "a/b+c"},
        "limits": {"connect_interval_ms": 0}
    });
    (Standin::start(folder.clone(), config), folder)
}

struct Way<'a> {
    port: &'a str,
    alpn: Option<&'a [u8]>,
    certificate: Option<&'a str>,
    server_name: bool,
    newest: SslVersion,
}

impl Way<'_> {
    fn new(port: &str) -> Way<'_> {
        Way { port, alpn: None, certificate: None, server_name: true, newest: SslVersion::TLS1_3 }
    }

    /// After the handshake; in TLS 1.3 a refusal of the client's certificate may come only then.
    fn open(&self, standin: &Standin, folder: &Path) -> Result<SslStream<TcpStream>, String> {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.set_ca_file(folder.join("ca.pem")).unwrap();
        builder.set_max_proto_version(Some(self.newest)).unwrap();
        if self.newest == SslVersion::TLS1_1 {
            builder.set_min_proto_version(Some(self.newest)).unwrap();
            builder.set_cipher_list("ALL:@SECLEVEL=0").unwrap();
        }
        if let Some(alpn) = self.alpn {
            let wire: Vec<u8> = [&[alpn.len() as u8], alpn].concat();
            builder.set_alpn_protos(&wire).unwrap();
        }
        if let Some(name) = self.certificate {
            builder.set_certificate_chain_file(folder.join(format!("{name}.pem"))).unwrap();
            builder.set_private_key_file(folder.join(format!("{name}.key")), SslFiletype::PEM).unwrap();
        }
        let configuration = builder.build().configure().unwrap().use_server_name_indication(self.server_name);
        let socket = TcpStream::connect(("127.0.0.1", standin.port(self.port))).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        configuration.connect("localhost", socket).map_err(|error| match error {
            HandshakeError::Failure(stream) => stream.error().to_string(),
            other => other.to_string(),
        })
    }

    /// Is a CONNECT accepted? The connection, when it is.
    fn client(&self, standin: &Standin, folder: &Path, login: Option<Login>) -> Option<Client> {
        let stream = self.open(standin, folder).ok()?;
        let mut client = Client::new(Box::new(Tls(stream)), V5);
        client.send_connect(&format!("c{:?}", SystemTime::now()), 60, true, login);
        let welcome = client.next_of(2, SOON)?;
        (welcome.body[1] == 0).then_some(client)
    }
}

struct Tls(SslStream<TcpStream>);

impl Read for Tls {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A connection that was refused is written to at most in vain.
        self.0.write(bytes).or(Ok(bytes.len()))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Stream for Tls {
    fn set_timeout(&self, timeout: Duration) {
        self.0.get_ref().set_timeout(timeout);
    }
}

fn works(client: Option<Client>) -> bool {
    client.is_some_and(|mut client| client.publish("t", b"x").kind == 4)
}

#[test]
fn a_client_certificate_of_the_authority_is_needed() {
    let (standin, folder) = standin();
    let way = Way { certificate: Some("client"), ..Way::new("mtls") };
    assert!(works(way.client(&standin, &folder, None)));
    for certificate in [None, Some("stranger")] {
        let way = Way { certificate, ..Way::new("mtls") };
        assert!(way.client(&standin, &folder, None).is_none(), "{certificate:?}");
    }
    assert_eq!(standin.rejections(), json!({"tls_handshake": 2}));
}

#[test]
fn the_example_of_the_readme_works() {
    let readme = include_str!("../README.md");
    let config = readme.split_once("    echo '").and_then(|(_, rest)| rest.split_once("' >")).expect("the example").0;
    let outer = common::folder();
    let folder = outer.join("not/there/yet");
    let config = config.replace("/tmp/aws", folder.to_str().unwrap()).replace("8883", "0");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_aws-standin"));
    let written = command.arg("--certificates").arg(&folder).output().unwrap();
    assert!(written.status.success(), "{written:?}");
    let standin = Standin::start(outer, serde_json::from_str(&config).unwrap());
    let way = Way { certificate: Some("client"), ..Way::new("mtls") };
    assert!(works(way.client(&standin, &folder, None)));
}

#[test]
fn a_connection_without_a_server_name_is_refused() {
    let (standin, folder) = standin();
    for port in ["mtls", "alpn"] {
        let way = Way { certificate: Some("client"), server_name: false, ..Way::new(port) };
        assert!(way.open(&standin, &folder).is_err(), "{port}");
    }
    assert_eq!(standin.rejections()["no_sni"], 2);
}

#[test]
fn tls_1_1_is_refused() {
    let (standin, folder) = standin();
    let way = Way { certificate: Some("client"), newest: SslVersion::TLS1_1, ..Way::new("mtls") };
    assert!(way.open(&standin, &folder).is_err());
    let way = Way { certificate: Some("client"), newest: SslVersion::TLS1_2, ..Way::new("mtls") };
    assert!(works(way.client(&standin, &folder, None)));
}

#[test]
fn alpn_says_what_is_spoken() {
    let (standin, folder) = standin();
    let mqtt = Way { alpn: Some(b"x-amzn-mqtt-ca"), certificate: Some("client"), ..Way::new("alpn") };
    assert!(works(mqtt.client(&standin, &folder, None)));
    let bare = Way { certificate: None, ..mqtt };
    assert!(bare.client(&standin, &folder, None).is_none());
    let other = Way { alpn: Some(b"h2"), certificate: Some("client"), ..Way::new("alpn") };
    assert!(other.open(&standin, &folder).is_err());
    // MQTT without a name is taken for a WebSocket.
    let unnamed = Way { certificate: Some("client"), ..Way::new("alpn") };
    assert!(unnamed.client(&standin, &folder, None).is_none());
}

#[test]
fn a_custom_authorizer_checks_its_name_the_password_and_the_signed_token() {
    let (standin, folder) = standin();
    let key = PKey::private_key_from_pem(&std::fs::read(folder.join("server.key")).unwrap()).unwrap();
    let signature = Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(b"token").unwrap();
    let signature = percent(&openssl::base64::encode_block(&signature));
    let right =
        format!("me?x-amz-customauthorizer-name=mine&tokenKey=token&x-amz-customauthorizer-signature={signature}");
    let way = Way { alpn: Some(b"mqtt"), ..Way::new("alpn") };
    let accepts = |username: &str, password: &str| {
        let login = Login { username: username.into(), password: password.into() };
        works(way.client(&standin, &folder, Some(login)))
    };
    assert!(accepts(&right, "pass"));
    assert!(!accepts(&right, "wrong"));
    assert!(!accepts(&right.replace("=mine", "=other"), "pass"));
    assert!(!accepts(&right.replace("=token&", "=forged&"), "pass"));
    assert!(!accepts("me", "pass"));
    assert!(way.client(&standin, &folder, None).is_none());
    assert_eq!(standin.rejections(), json!({"custom_authorizer": 5}));
}

#[test]
fn a_websocket_needs_a_signature_and_its_sub_protocol() {
    let (standin, folder) = standin();
    let host = format!("localhost:{}", standin.port("alpn"));
    let token = "&X-Amz-Security-Token=a%2Fb%2Bc";
    let open = |url: &str, protocol: &str| {
        let stream = Way::new("alpn").open(&standin, &folder).unwrap();
        let mut request = format!("wss://{host}{url}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
        tungstenite::client(request, stream).ok()
    };
    let (socket, response) = open(&(presigned(&host, SECRET, 0) + token), "mqtt").expect("the upgrade is granted");
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "mqtt");
    let mut client = Client::new(Box::new(Web { socket, rest: Vec::new() }), V5);
    client.send_connect("w", 60, true, None);
    assert!(works(Some(client.welcomed())));

    let refused = [
        (presigned(&host, SECRET, 0), "mqtt"),
        (presigned(&host, SECRET, 0) + "&X-Amz-Security-Token=other", "mqtt"),
        (presigned(&host, "other", 0) + token, "mqtt"),
        (presigned("elsewhere", SECRET, 0) + token, "mqtt"),
        (presigned(&host, SECRET, 400) + token, "mqtt"),
        ("/mqtt".into(), "mqtt"),
    ];
    for (number, (url, protocol)) in refused.iter().enumerate() {
        assert!(open(url, protocol).is_none(), "number {number} was accepted");
    }
    assert!(open(&(presigned(&host, SECRET, 0) + token), "chat").is_none());
    assert!(open(&(presigned(&host, SECRET, 0) + token).replace("/mqtt", "/other"), "mqtt").is_none());
    assert_eq!(standin.rejections(), json!({"sigv4": 6, "websocket_protocol": 1, "websocket_path": 1}));
}

struct Web {
    socket: WebSocket<SslStream<TcpStream>>,
    rest: Vec<u8>,
}

impl Read for Web {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(data)) => self.rest = data.to_vec(),
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(_) => return Ok(0),
            }
        }
        let count = bytes.len().min(self.rest.len());
        bytes[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

impl Write for Web {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.socket.send(Message::Binary(bytes.to_vec().into()));
        sent.map(|()| bytes.len()).map_err(|error| std::io::Error::new(ErrorKind::BrokenPipe, error))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Stream for Web {
    fn set_timeout(&self, timeout: Duration) {
        self.socket.get_ref().get_ref().set_timeout(timeout);
    }
}

/// Of this host, `age` seconds ago; without the session token, which is appended after signing.
fn presigned(host: &str, secret: &str, age: u64) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - age;
    // Not with the code under test: `date` knows the calendar.
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("@{seconds}"), "+%Y%m%dT%H%M%SZ"])
        .output()
        .unwrap();
    let date = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let scope = format!("{}/us-east-1/iotdevicegateway/aws4_request", &date[..8]);
    let credential = percent(&format!("AKID/{scope}"));
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}&X-Amz-Expires=300&X-Amz-SignedHeaders=host"
    );
    let sha256 = |text: &str| hex(&hash(MessageDigest::sha256(), text.as_bytes()).unwrap());
    let request = format!("GET\n/mqtt\n{query}\nhost:{host}\n\nhost\n{}", sha256(""));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(&request));
    let mut key = format!("AWS4{secret}").into_bytes();
    for part in scope.split('/').chain([text.as_str()]) {
        let signer = PKey::hmac(&key).unwrap();
        key = Signer::new(MessageDigest::sha256(), &signer).unwrap().sign_oneshot_to_vec(part.as_bytes()).unwrap();
    }
    format!("/mqtt?{query}&X-Amz-Signature={}", hex(&key))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2F").replace('+', "%2B").replace('=', "%3D")
}
