//! What a web server's refusal of a WebSocket means for a person.

use std::time::{Duration, SystemTime};

use super::super::upgrade::Answer;
use super::Target;
use crate::error::{Error, ErrorKind};

/// AWS takes signatures that are at most so much off ("Troubleshoot Signature Version 4 signing for AWS API requests").
const CLOCK: Duration = Duration::from_secs(300);

pub(super) fn refusal(target: &Target, answer: &Answer) -> Error {
    let (at, status) = (&target.endpoint, answer.status);
    let aws = target.access.is_some();
    let (kind, remedy) = match status {
        401 | 403 if aws => {
            let remedy = off(answer).unwrap_or_else(|| {
                "check the AWS credentials, with their session token if they are temporary, `aws.region`, and that a policy allows them `iot:Connect`".into()
            });
            let said = format!("{at} refused the signature of this client's URL (HTTP {status})");
            return Error::new(ErrorKind::Auth, format!("{said}; {remedy}"));
        }
        401 | 403 | 407 if !aws => (
            ErrorKind::Auth,
            "it wants to know who asks before there is MQTT; let this client pass there, or use another port"
                .to_owned(),
        ),
        429 | 500..=599 => {
            (ErrorKind::Connect, "it has too much to do, or is not in order; it is tried again".to_owned())
        }
        _ if aws => (
            ErrorKind::Connect,
            "AWS IoT Core does not answer so: a proxy may be in between; let it pass WebSockets to this host"
                .to_owned(),
        ),
        404 => (
            ErrorKind::Connect,
            format!("there is nothing at the path `{}`; give the broker's, often /mqtt or /ws, in `url`", at.path),
        ),
        _ => (
            ErrorKind::Connect,
            "check that the port is one for MQTT over WebSockets, and that a proxy before it lets them through".into(),
        ),
    };
    Error::new(kind, format!("the web server at {at} refused the WebSocket (HTTP {status}); {remedy}"))
}

/// In words, if this machine's clock is too far off the server's.
fn off(answer: &Answer) -> Option<String> {
    let (now, server) = (SystemTime::now(), answer.date?);
    let off = now.duration_since(server).unwrap_or_else(|e| e.duration());
    (off > CLOCK).then(|| {
        format!(
            "this machine's clock is {} s off the server's, and {} s are taken; set it",
            off.as_secs(),
            CLOCK.as_secs()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_blamed_only_when_signatures_are_refused_for_it() {
        let now = SystemTime::now();
        let off = |date| off(&Answer { status: 403, date });
        for date in [now - Duration::from_secs(400), now + Duration::from_secs(400)] {
            let words = off(Some(date)).unwrap();
            assert!(words.contains("300 s are taken; set it"), "{words}");
        }
        assert_eq!((off(Some(now - Duration::from_secs(200))), off(None)), (None, None));
    }
}
