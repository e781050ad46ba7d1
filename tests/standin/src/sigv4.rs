//! Signature Version 4 of a presigned WebSocket URL, recomputed and compared.
//!
//! "Protocols, port mappings, and authentication" and "Create a signed AWS API request" (AWS documentation): the service is
//! `iotdevicegateway`, only `host` is signed, the body's hash is that of nothing, and, unlike elsewhere, the session token is appended
//! after signing ("MQTT over the WebSocket protocol": "X-Amz-Security-Token … is not included in the signature").

use openssl::hash::{hash, MessageDigest};
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use crate::config::Credentials;

const SERVICE: &str = "iotdevicegateway";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// How far a signer's clock may be off.
const SKEW_SECONDS: i64 = 300;

/// What was wrong with it, in words; nothing when the request is signed by `credentials` for `region`, now.
pub fn verify(
    credentials: &Credentials,
    region: &str,
    path_and_query: &str,
    host: &str,
    now: i64,
) -> Result<(), String> {
    let (path, query) = path_and_query.split_once('?').ok_or("the URL is not signed: it has no query")?;
    let pairs: Vec<(&str, &str)> = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
    let one = |name: &str| -> Result<String, String> {
        let mut found = pairs.iter().filter(|pair| pair.0 == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => percent_decode(value).ok_or(format!("{name} is not percent-encoded UTF-8")),
            _ => Err(format!("{name} must be there exactly once")),
        }
    };
    equal("X-Amz-Algorithm", &one("X-Amz-Algorithm")?, ALGORITHM)?;
    equal("X-Amz-SignedHeaders", &one("X-Amz-SignedHeaders")?, "host")?;
    let date = one("X-Amz-Date")?;
    let signed_at = parse_date(&date).ok_or_else(|| format!("X-Amz-Date {date} is not a date"))?;
    let expires: i64 = one("X-Amz-Expires")?.parse().map_err(|_| "X-Amz-Expires is not a number")?;
    if !(1..=604_800).contains(&expires) {
        return Err(format!("X-Amz-Expires {expires} is not from 1 to 604800"));
    }
    // Stricter than AWS, which accepts a URL up to its expiry: unstale signs anew at every connect.
    if (now - signed_at).abs() > SKEW_SECONDS || now > signed_at + expires {
        return Err(format!("the URL was signed {} s ago and expires after {expires} s", now - signed_at));
    }
    let scope = format!("{}/{region}/{SERVICE}/aws4_request", &date[..8]);
    equal("X-Amz-Credential", &one("X-Amz-Credential")?, &format!("{}/{scope}", credentials.access_key))?;
    match (&credentials.session_token, one("X-Amz-Security-Token")) {
        (Some(token), given) => equal("X-Amz-Security-Token", &given?, token)?,
        (None, Ok(_)) => return Err("X-Amz-Security-Token is given, and these credentials have none".into()),
        (None, Err(_)) => {}
    }
    let mut signed: Vec<String> = pairs
        .iter()
        .filter(|(name, _)| !["X-Amz-Signature", "X-Amz-Security-Token"].contains(name))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    signed.sort();
    let request = format!("GET\n{path}\n{}\nhost:{host}\n\nhost\n{}", signed.join("&"), sha256(b""));
    equal("X-Amz-Signature", &one("X-Amz-Signature")?, &signature(&credentials.secret_key, &date, &scope, &request))
}

fn equal(name: &str, given: &str, expected: &str) -> Result<(), String> {
    if given.len() == expected.len() && memcmp::eq(given.as_bytes(), expected.as_bytes()) {
        return Ok(());
    }
    // What is expected may be a secret.
    Err(format!("{name} does not match"))
}

/// Of a canonical request; `scope` is `date/region/service/aws4_request`.
fn signature(secret: &str, date: &str, scope: &str, request: &str) -> String {
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", sha256(request.as_bytes()));
    hex(&hmac(&signing_key(secret, scope), text.as_bytes()))
}

fn signing_key(secret: &str, scope: &str) -> Vec<u8> {
    scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()))
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).expect("any bytes are an HMAC key");
    let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("SHA-256 is there");
    signer.sign_oneshot_to_vec(text).expect("HMAC cannot fail")
}

fn sha256(text: &[u8]) -> String {
    hex(&hash(MessageDigest::sha256(), text).expect("SHA-256 is there"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20150830T123600Z` in seconds since 1970.
fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        text.get(from..to).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?.parse::<i64>().ok()
    };
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let seconds = digits(9, 11)? * 3600 + digits(11, 13)? * 60 + digits(13, 15)?;
    // Days from civil, after Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms"; dates are after 1970.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    Some(days * 86_400 + seconds)
}

/// Nothing when it is not percent-encoded UTF-8.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    // AWS General Reference, "Examples of how to derive a signing key for Signature Version 4".
    #[test]
    fn the_signing_key_is_that_of_awss_example() {
        let key = signing_key(SECRET, "20120215/us-east-1/iam/aws4_request");
        assert_eq!(hex(&key), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    // `get-vanilla` of the "Signature Version 4 Test Suite".
    #[test]
    fn a_signature_is_that_of_awss_test_suite() {
        let request = format!(
            "GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\nhost;x-amz-date\n{}",
            sha256(b"")
        );
        assert_eq!(
            signature(SECRET, "20150830T123600Z", "20150830/us-east-1/service/aws4_request", &request),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }

    // Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters", its example.
    #[test]
    fn a_presigned_query_is_that_of_awss_example() {
        let request = "GET\n/test.txt\nX-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request\
            &X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\nhost:examplebucket.s3.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD";
        assert_eq!(
            signature(
                "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
                "20130524T000000Z",
                "20130524/us-east-1/s3/aws4_request",
                request
            ),
            "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(parse_date("19700101T000000Z"), Some(0));
        assert_eq!(parse_date("20150830T123600Z"), Some(1_440_938_160));
        assert_eq!(parse_date("20240229T235959Z"), Some(1_709_251_199));
        assert_eq!(parse_date("2015-08-30T12:36Z"), None);
    }

    const HOST: &str = "localhost:1234";
    const NOW: i64 = 1_440_938_160;

    fn credentials(session_token: Option<&str>) -> Credentials {
        let session_token = session_token.map(str::to_owned);
        Credentials { access_key: "AKID".into(), secret_key: SECRET.into(), session_token }
    }

    /// As a client makes it.
    fn presigned(secret: &str, token: &str) -> String {
        let scope = "20150830/us-east-1/iotdevicegateway/aws4_request";
        let query = format!(
            "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential=AKID%2F{}&X-Amz-Date=20150830T123600Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host",
            scope.replace('/', "%2F")
        );
        let request = format!("GET\n/mqtt\n{query}\nhost:{HOST}\n\nhost\n{}", sha256(b""));
        let signed = signature(secret, "20150830T123600Z", scope, &request);
        format!("/mqtt?{query}&X-Amz-Signature={signed}{token}")
    }

    #[test]
    fn a_presigned_url_is_accepted_and_any_change_refused() {
        let check = |url: &str, host: &str, now: i64, token: Option<&str>| {
            verify(&credentials(token), "us-east-1", url, host, now)
        };
        let url = presigned(SECRET, "");
        assert_eq!(check(&url, HOST, NOW, None), Ok(()));
        assert_eq!(check(&presigned(SECRET, "&X-Amz-Security-Token=a%2Fb"), HOST, NOW, Some("a/b")), Ok(()));
        for (what, outcome) in [
            ("another host", check(&url, "localhost", NOW, None)),
            ("too late", check(&url, HOST, NOW + 301, None)),
            ("too early", check(&url, HOST, NOW - 301, None)),
            ("no token", check(&url, HOST, NOW, Some("a/b"))),
            ("a token too many", check(&presigned(SECRET, "&X-Amz-Security-Token=x"), HOST, NOW, None)),
            ("another secret", check(&presigned("other", ""), HOST, NOW, None)),
            ("another region", verify(&credentials(None), "eu-west-1", &url, HOST, NOW)),
            ("another path", check(&url.replace("/mqtt", "/"), HOST, NOW, None)),
            ("another expiry", check(&url.replace("=300", "=900"), HOST, NOW, None)),
            ("no query", check("/mqtt", HOST, NOW, None)),
        ] {
            assert!(outcome.is_err(), "{what} was accepted");
        }
    }
}
