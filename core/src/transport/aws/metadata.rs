//! Credentials that the machine hands out: to a container, and to an instance, with version 2 of its metadata service ("AWS
//! SDKs and Tools Reference Guide", "Container credential provider" and "IMDS credential provider").

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use url::Url;

use super::credentials::{failed, from_json, Credentials, Sources};
use crate::error::Result;
use crate::transport::http;
use crate::transport::wire::{self, Wire};

/// Where to ask is in one of these; ECS sets the first, EKS the second.
const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
/// Where containers of ECS ask.
const CONTAINER: &str = "http://169.254.170.2";
/// Where containers may be told to ask, beside loopback addresses: ECS, and EKS (both families).
const CONTAINER_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
const INSTANCE: &str = "http://169.254.169.254";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// These services are on the machine or next to it.
const ANSWER: Duration = Duration::from_secs(1);

/// A container's credentials; none if this is not one that has any.
pub(super) fn container(sources: &Sources<'_>) -> Result<Option<Credentials>> {
    let url = match (sources.set(RELATIVE), sources.set(FULL)) {
        (Some(path), _) => {
            let url = format!("{CONTAINER}{path}");
            if !may_ask(&url) {
                return Err(failed(format_args!("{RELATIVE} is {path:?}; it must be a path that begins with /")));
            }
            url
        }
        (None, Some(url)) if may_ask(&url) => url,
        (None, Some(url)) => {
            return Err(failed(format_args!(
                "{FULL} is {url:?}; it must be http:// and a loopback address, 169.254.170.2, 169.254.170.23 or fd00:ec2::23"
            )))
        }
        (None, None) => return Ok(None),
    };
    let token = match sources.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => Some(std::fs::read_to_string(&path).map_err(|e| {
            failed(format_args!("cannot read {path}, which AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names: {e}"))
        })?),
        None => sources.set("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let token = token.map(|token| ("Authorization", token.trim().to_owned()));
    let answer = ask("GET", &url, token.as_ref().map(|(n, v)| (*n, v.as_str())), sources.deadline)
        .map_err(|why| failed(format_args!("the container's credential service did not give any: {why}")))?;
    let found = from_json(&answer, "Token");
    found.map(Some).ok_or_else(|| failed("the container's credential service answered without keys"))
}

/// An instance's credentials: the last place to look.
pub(super) fn instance(sources: &Sources<'_>) -> Result<Credentials> {
    let looked = "options `aws.access_key_id` and `aws.profile`, AWS_ACCESS_KEY_ID, the shared files, the container";
    if sources.set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Err(failed(format_args!(
            "there are none in {looked}, and AWS_EC2_METADATA_DISABLED is set; give one of these, or a certificate (`tls.cert_file`)"
        )));
    }
    let service = sources.set("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| INSTANCE.into());
    let service = service.trim_end_matches('/');
    let none = |why: String| {
        failed(format_args!(
            "there are none in {looked}, and the instance's metadata service did not give any ({why}); give one of these, a role to the \
             instance, or a certificate (`tls.cert_file`)"
        ))
    };
    let lifetime = ("X-aws-ec2-metadata-token-ttl-seconds", "60");
    let token = ask("PUT", &format!("{service}/latest/api/token"), Some(lifetime), sources.deadline).map_err(none)?;
    let header = Some(("X-aws-ec2-metadata-token", token.as_str()));
    let role = ask("GET", &format!("{service}{ROLES}"), header, sources.deadline).map_err(none)?;
    let role = role.lines().next().unwrap_or_default().trim().to_owned();
    let answer = ask("GET", &format!("{service}{ROLES}{role}"), header, sources.deadline).map_err(none)?;
    from_json(&answer, "Token").ok_or_else(|| none(format!("the role {role:?} has no keys")))
}

/// Plain HTTP is only for the machine itself and the services at its link.
fn may_ask(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "http" && (loopback || CONTAINER_HOSTS.contains(&host.as_str()))
}

/// One request; the body of an answer with status 200, or what was wrong.
fn ask(
    method: &str,
    url: &str,
    header: Option<(&str, &str)>,
    deadline: Instant,
) -> std::result::Result<String, String> {
    if Instant::now() >= deadline {
        return Err("out of time; raise `connect_timeout`".into());
    }
    let deadline = deadline.min(Instant::now() + ANSWER);
    // What goes wrong names addresses and causes, never headers.
    match request(method, url, header, deadline) {
        Ok((200, body)) => String::from_utf8(body).map_err(|e| format!("{url}: {e}")),
        Ok((code, _)) => Err(format!("{url} answered with status {code}")),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(format!("{url} did not answer within {ANSWER:?}")),
        Err(e) => Err(format!("{url}: {e}")),
    }
}

fn request(method: &str, url: &str, header: Option<(&str, &str)>, deadline: Instant) -> io::Result<(u16, Vec<u8>)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, what);
    let parsed = Url::parse(url).map_err(|e| invalid(&e.to_string()))?;
    let port = parsed.port_or_known_default().filter(|_| parsed.scheme() == "http");
    let (Some(host), Some(port)) = (parsed.host_str(), port) else { return Err(invalid("it is not http://")) };
    let host = host.trim_matches(['[', ']']);
    let more = header.map_or(String::new(), |(name, value)| format!("{name}: {value}\r\n"));
    if more.matches(char::is_control).count() > 2 {
        return Err(invalid("a token with a line break is not sent"));
    }
    let request = format!(
        "{method} {} HTTP/1.1\r\nHost: {}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n",
        &parsed[url::Position::BeforePath..url::Position::AfterQuery],
        http::authority(host, port, 80),
    );
    let mut failed = io::ErrorKind::NotFound.into();
    for address in wire::look_up(host, port, deadline)? {
        match Wire::connect(address, deadline) {
            Ok(wire) => {
                let answer = http::ask(wire, &request)?;
                return Ok((answer.status, answer.body()?));
            }
            Err(e) => failed = e,
        }
    }
    Err(failed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::AwsConfig;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    pub const KEYS: &str =
        r#"{"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": "2030-01-01T00:00:00Z"}"#;

    /// Answers so many requests and returns what was asked: first line and headers of each. A redirection's body is where to.
    pub fn service(
        answers: &'static [(&'static str, u16, &'static str)],
    ) -> (String, std::thread::JoinHandle<Vec<String>>) {
        service_at("127.0.0.1:0", answers)
    }

    fn service_at(
        address: &str,
        answers: &'static [(&'static str, u16, &'static str)],
    ) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for _ in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                    .lines()
                    .map(|line| line.unwrap())
                    .take_while(|line| !line.is_empty())
                    .collect();
                let path = lines[0].split(' ').nth(1).unwrap().to_owned();
                let (_, status, body) = answers.iter().find(|(p, _, _)| *p == path).unwrap_or(&("", 404, ""));
                let length = body.len();
                let to = if *status == 302 { format!("Location: {body}\r\n") } else { String::new() };
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\n{to}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                )
                .unwrap();
                asked.push(lines.join("\n"));
            }
            asked
        });
        (url, server)
    }

    fn look<T>(vars: &[(&str, &str)], f: impl FnOnce(&Sources<'_>) -> T) -> T {
        let options = AwsConfig::default();
        let variable = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string());
        f(&Sources { options: &options, variable: &variable, deadline: Instant::now() + Duration::from_secs(5) })
    }

    #[test]
    fn an_instance_gives_its_roles_credentials_for_a_token_only() {
        let (url, server) = service(&[
            ("/latest/api/token", 200, "TOKEN"),
            ("/latest/meta-data/iam/security-credentials/", 200, "my-role\n"),
            ("/latest/meta-data/iam/security-credentials/my-role", 200, KEYS),
        ]);
        let found = look(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)], |s| instance(s).unwrap());
        assert_eq!((found.access_key_id.as_str(), found.session_token.as_deref()), ("A", Some("T")));
        let asked = server.join().unwrap();
        assert!(asked[0].starts_with("PUT ") && asked[0].contains("ttl-seconds: 60"), "{asked:?}");
        assert!(asked[1..].iter().all(|a| a.contains("X-aws-ec2-metadata-token: TOKEN")), "{asked:?}");
    }

    #[test]
    fn a_container_is_asked_with_its_token_and_nowhere_else_than_next_door() {
        let (url, server) = service(&[("/creds", 200, KEYS)]);
        let full = format!("{url}/creds");
        let vars =
            [("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str()), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "tok")];
        assert_eq!(look(&vars, |s| container(s).unwrap().unwrap()).access_key_id, "A");
        assert!(server.join().unwrap()[0].contains("Authorization: tok"));
        for url in ["http://example.com/creds", "https://127.0.0.1/", "http://169.254.170.3/", "nonsense"] {
            let error = look(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)], |s| container(s).unwrap_err());
            assert!(error.message().contains("must be http://"), "{error}");
        }
        assert!(look(&[], |s| container(s).unwrap().is_none()));
    }

    #[test]
    fn a_service_with_an_ipv6_address_is_asked() {
        let (url, server) = service_at("[::1]:0", &[("/creds", 200, KEYS)]);
        let full = format!("{url}/creds");
        let found = look(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &full)], |s| container(s).unwrap().unwrap());
        assert_eq!(found.access_key_id, "A");
        let host = url.strip_prefix("http://").unwrap();
        assert!(server.join().unwrap()[0].lines().any(|line| line == format!("Host: {host}")));
        assert!(may_ask("http://[fd00:ec2::23]/v1/credentials"));
    }

    #[test]
    fn the_variable_that_was_read_is_named() {
        let path = "@example.com/creds";
        let e = look(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path)], |s| container(s).unwrap_err());
        assert!(e.message().contains("RELATIVE_URI") && !e.message().contains("FULL_URI"), "{e}");
        let e = look(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://h/")], |s| container(s).unwrap_err());
        assert!(e.message().contains("FULL_URI") && !e.message().contains("RELATIVE_URI"), "{e}");
    }

    #[test]
    fn a_service_that_has_nothing_or_hangs_is_named() {
        let (url, server) = service(&[("/other", 200, "")]);
        let error = look(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)], |s| instance(s).unwrap_err());
        assert!(error.message().contains("status 404"), "{error}");
        server.join().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let error = look(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)], |s| instance(s).unwrap_err());
        assert!(error.message().contains(&url), "{error}");
        let (mut stream, _) = silent.accept().unwrap();
        let _ = stream.read(&mut [0; 16]);
        let error = look(&[("AWS_EC2_METADATA_DISABLED", "true")], |s| instance(s).unwrap_err());
        assert!(error.message().contains("AWS_EC2_METADATA_DISABLED"), "{error}");
    }

    #[test]
    fn only_the_machine_and_its_neighbours_are_asked_and_in_plain_http() {
        for url in [
            "http://localhost/",
            "http://127.0.0.2:80/x",
            "http://[::1]:8080/",
            "http://169.254.170.23/v1",
            "http://[fd00:ec2::23]/v1",
        ] {
            assert!(may_ask(url), "{url}");
        }
        for url in [
            "http://[::2]/",
            "http://169.254.169.254/",
            "https://[::1]/",
            "ftp://localhost/",
            "http://localhost.example.com/",
        ] {
            assert!(!may_ask(url), "{url}");
        }
    }

    #[test]
    fn a_containers_token_may_be_in_a_file() {
        let file = std::env::temp_dir().join(format!("unstale-token-{}", std::process::id()));
        std::fs::write(&file, "from-file\n").unwrap();
        let (url, server) = service(&[("/creds", 200, KEYS)]);
        let (full, path) = (format!("{url}/creds"), file.to_str().unwrap());
        let vars = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", full.as_str()),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "from-variable"),
        ];
        assert!(look(&vars, |s| container(s).unwrap()).is_some());
        let asked = server.join().unwrap();
        assert!(asked[0].contains("Authorization: from-file"), "{asked:?}");
        // It is written anew, and may be gone: then nothing is asked without it.
        std::fs::remove_file(&file).unwrap();
        let error = look(&vars, |s| container(s).unwrap_err());
        assert!(error.message().contains(path), "{error}");
    }

    #[test]
    fn a_service_is_not_followed_elsewhere() {
        let (url, _) = service(&[("/creds", 302, "/elsewhere"), ("/elsewhere", 200, KEYS)]);
        let full = format!("{url}/creds");
        let error = look(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &full)], |s| container(s).map(|_| ()).unwrap_err());
        assert!(error.message().contains("did not give any"), "{error}");
    }

    #[test]
    fn the_instance_is_asked_unless_that_is_switched_off_and_only_while_there_is_time() {
        let (url, server) = service(&[
            ("/latest/api/token", 200, "TOKEN"),
            ("/latest/meta-data/iam/security-credentials/", 200, "my-role"),
            ("/latest/meta-data/iam/security-credentials/my-role", 200, KEYS),
        ]);
        let vars = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
        assert_eq!(look(&vars, |s| instance(s).unwrap()).access_key_id, "A");
        server.join().unwrap();
        let late = |s: &Sources<'_>| instance(&Sources { deadline: Instant::now(), ..*s }).unwrap_err();
        let error = look(&vars, late);
        assert!(error.message().contains("out of time"), "{error}");
    }
}
