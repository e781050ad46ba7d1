//! AWS IoT Core ends the connection of a client that does what its policy does not allow, mostly without a word on what
//! that was ("AWS IoT Core policy actions"). What the client was doing tells.

use std::collections::HashSet;
use std::sync::Arc;

use super::session::{Phase, Session};
use super::topic::Subscription;
use crate::clock::Nanos;
use crate::error::{Error, ErrorKind};

/// Losses in a row that look like a denial and make one certain enough for a back-off of minutes. One may be the network.
const IN_A_ROW: u32 = 2;
/// AWS cuts at once. What was not answered for so long before the connection went was lost otherwise.
const WITHIN: Nanos = 10_000_000_000;
/// Resources that are named; all that wait for an answer may be many.
const NAMED: usize = 3;

/// What the connections show of the policy.
#[derive(Default)]
pub(super) struct Evidence {
    /// How many ended in a row as if something were denied.
    in_a_row: u32,
    /// Where this connection may publish: it was answered there.
    allowed: HashSet<Arc<str>>,
    /// What the broker itself said no to on this connection, in a policy's words.
    refused: Option<String>,
}

impl Evidence {
    /// A publication was taken, or came back.
    pub fn published(&mut self, topic: &Arc<str>) {
        if !self.allowed.contains(topic) {
            self.allowed.insert(topic.clone());
        }
    }

    /// A PUBACK or SUBACK said no.
    pub fn refused(&mut self, action: &str, kind: &str, topic: &str) {
        self.refused.get_or_insert_with(|| format!("`{action}` on `{kind}/{topic}`"));
    }
}

/// Why a connection ended, or was refused.
pub(super) struct Verdict {
    /// Over the policy, most likely, it is of kind `Auth` and names the action and the resource.
    pub error: Error,
    /// The broker itself called it a matter of access.
    pub said: bool,
    /// Only a person can mend it.
    pub certain: bool,
}

impl Session {
    /// Judges the end of a connection by what it shows, which is forgotten.
    pub(super) fn denied(&mut self, error: Error, now: Nanos) -> Verdict {
        let of_policy = self.shared.is_aws && matches!(error.kind(), ErrorKind::Auth | ErrorKind::Connect);
        let said = error.kind() == ErrorKind::Auth || of_policy && self.evidence.refused.is_some();
        let needs = if of_policy { self.needs(said, now) } else { None };
        let in_a_row = if needs.is_some() { self.evidence.in_a_row + 1 } else { 0 };
        self.evidence = Evidence { in_a_row, ..Evidence::default() };
        let certain = said || in_a_row >= IN_A_ROW;
        let error = match needs {
            // Where probes came back, a single loss was more likely the network's.
            Some(needs) if certain || !self.proved => {
                Error::new(ErrorKind::Auth, format!("{}; {}", error.message(), must_allow(&needs)))
            }
            _ => error,
        };
        Verdict { error, said, certain }
    }

    /// What the policy may lack, by what was under way when the connection ended.
    fn needs(&self, said: bool, now: Nanos) -> Option<String> {
        if let Some(refused) = &self.evidence.refused {
            return Some(refused.clone());
        }
        let topic = &self.shared.config.topic;
        match self.phase {
            Phase::Connecting => said.then(|| format!("`iot:Connect` on `client/{}`", self.shared.client_id)),
            Phase::Waiting(_) => None,
            Phase::Subscribing(_) => Some(format!(
                "`iot:Subscribe` on `topicfilter/{topic}`, `topicfilter/{topic}/*`, and `iot:Receive` on `topic/` of the same"
            )),
            Phase::Up => self.undone(said, now).or_else(|| {
                (said || !self.proved).then(|| format!("`iot:Publish` on `topic/{topic}` and `topic/{topic}/*`"))
            }),
        }
    }

    /// What was asked for on a connection that stood, and not answered.
    fn undone(&self, said: bool, now: Nanos) -> Option<String> {
        let asked = |wanted: Subscription| self.topics.iter().filter(move |t| t.subscription == wanted);
        let unheard = asked(Subscription::Granted)
            .filter(|t| !t.proofs.is_heard() && t.last_hello >= Some(t.granted_at) && now <= t.granted_at + WITHIN);
        named(
            "iot:Publish",
            "topic",
            &self.unanswered(|topic, at| !self.evidence.allowed.contains(topic) && now <= at + WITHIN),
        )
        .or_else(|| {
            named(
                "iot:Subscribe",
                "topicfilter",
                &asked(Subscription::Asked).map(|t| &t.channel.topic).collect::<Vec<_>>(),
            )
        })
        .or_else(|| {
            named("iot:Publish` and `iot:Receive", "topic", &unheard.map(|t| &t.channel.topic).collect::<Vec<_>>())
        })
        // A policy that was changed meanwhile denies what it had allowed.
        .or_else(|| named("iot:Publish", "topic", &self.unanswered(|_, _| said)))
    }

    /// The topics of unanswered publications, the longest unanswered first; `counts` is asked with the time of the first on each.
    fn unanswered(&self, counts: impl Fn(&Arc<str>, Nanos) -> bool) -> Vec<&Arc<str>> {
        let mut sent: Vec<_> = self.sent.iter().collect();
        sent.sort_by_key(|(id, _)| **id);
        let mut seen = HashSet::new();
        let first = sent.into_iter().map(|(_, p)| p).filter(|p| seen.insert(&p.topic));
        first.filter(|p| counts(&p.topic, p.at)).map(|p| &p.topic).collect()
    }
}

/// What is to be changed.
pub(super) fn must_allow(needs: &str) -> String {
    format!("the policy of this client's identity must allow {needs}; a change of it takes up to 8 minutes to be seen")
}

fn named(action: &str, kind: &str, topics: &[&Arc<str>]) -> Option<String> {
    let resources: Vec<String> = topics.iter().take(NAMED).map(|topic| format!("`{kind}/{topic}`")).collect();
    let more = match topics.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", and on {more} more"),
    };
    (!topics.is_empty()).then(|| format!("`{action}` on {}{more}", resources.join(", ")))
}
