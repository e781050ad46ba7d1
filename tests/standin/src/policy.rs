//! An AWS IoT Core policy: may this client do this to that resource?
//!
//! "AWS IoT Core policies": what no statement allows is denied, and a statement with `Deny` wins. "AWS IoT Core policy actions" and
//! "AWS IoT Core action resources" name the actions and what they act upon: `iot:Connect` on `client/`, `iot:Publish`, `iot:Receive` and
//! `iot:RetainPublish` on `topic/`, `iot:Subscribe` on `topicfilter/`. "Using wildcard characters in MQTT and AWS IoT Core policies": `*` stands for any characters,
//! `?` for one; `+` and `#` are only themselves. "Basic AWS IoT Core policy variables": `${iot:ClientId}`.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Policy {
    #[serde(rename = "Version")]
    _version: String,
    statement: Vec<Statement>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Statement {
    #[serde(rename = "Sid", default)]
    _sid: Option<String>,
    effect: Effect,
    action: OneOrMany,
    resource: OneOrMany,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn any(&self, holds: impl Fn(&str) -> bool) -> bool {
        match self {
            OneOrMany::One(text) => holds(text),
            OneOrMany::Many(texts) => texts.iter().any(|text| holds(text)),
        }
    }
}

impl Policy {
    pub fn allows(&self, client_id: &str, action: &str, resource: &str) -> bool {
        let applies = |statement: &&Statement| {
            statement.action.any(|pattern| glob(pattern, action))
                && statement.resource.any(|pattern| glob(&pattern.replace("${iot:ClientId}", client_id), resource))
        };
        let mut found = self.statement.iter().filter(applies).peekable();
        found.peek().is_some() && found.all(|statement| statement.effect == Effect::Allow)
    }
}

/// Does `text` match `pattern`, in which `*` is any characters and `?` any one?
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where the last `*` stands, and up to where it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, eaten)) = star {
            star = Some((at, eaten + 1));
            (p, t) = (at + 1, eaten + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iot:us-east-1:123456789012:";

    fn policy(statements: serde_json::Value) -> Policy {
        serde_json::from_value(serde_json::json!({"Version": "2012-10-17", "Statement": statements})).unwrap()
    }

    fn allows(policy: &Policy, action: &str, resource: &str) -> bool {
        policy.allows("me", action, &format!("{ARN}{resource}"))
    }

    #[test]
    fn what_is_not_allowed_is_denied() {
        let policy = policy(serde_json::json!([
            {"Effect": "Allow", "Action": "iot:Publish", "Resource": format!("{ARN}topic/cache/*")}
        ]));
        assert!(allows(&policy, "iot:Publish", "topic/cache/a"));
        assert!(!allows(&policy, "iot:Publish", "topic/cache"));
        assert!(!allows(&policy, "iot:Receive", "topic/cache/a"));
        assert!(!allows(&policy, "iot:Publish", "topicfilter/cache/a"));
    }

    #[test]
    fn a_denial_wins_over_any_permission() {
        let policy = policy(serde_json::json!([
            {"Effect": "Allow", "Action": "iot:*", "Resource": "*"},
            {"Sid": "no", "Effect": "Deny", "Action": ["iot:Publish", "iot:Receive"], "Resource": [format!("{ARN}topic/secret/*")]},
            {"Effect": "Allow", "Action": "iot:Publish", "Resource": "*"}
        ]));
        assert!(allows(&policy, "iot:Publish", "topic/a"));
        assert!(!allows(&policy, "iot:Publish", "topic/secret/a"));
    }

    #[test]
    fn the_client_id_variable_is_the_clients_own() {
        let policy = policy(serde_json::json!([
            {"Effect": "Allow", "Action": "iot:Connect", "Resource": format!("{ARN}client/${{iot:ClientId}}")},
            {"Effect": "Allow", "Action": "iot:Publish", "Resource": format!("{ARN}topic/of/${{iot:ClientId}}/*")}
        ]));
        assert!(allows(&policy, "iot:Connect", "client/me"));
        assert!(allows(&policy, "iot:Publish", "topic/of/me/x"));
        assert!(!allows(&policy, "iot:Publish", "topic/of/you/x"));
    }

    #[test]
    fn mqtt_wildcards_are_literal_in_a_resource() {
        let policy = policy(serde_json::json!([
            {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": format!("{ARN}topicfilter/cache/+/x")},
            {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": format!("{ARN}topicfilter/one/?")}
        ]));
        assert!(allows(&policy, "iot:Subscribe", "topicfilter/cache/+/x"));
        assert!(!allows(&policy, "iot:Subscribe", "topicfilter/cache/a/x"));
        assert!(allows(&policy, "iot:Subscribe", "topicfilter/one/a"));
        assert!(!allows(&policy, "iot:Subscribe", "topicfilter/one/ab"));
    }

    #[test]
    fn a_star_may_eat_nothing_or_much() {
        assert!(glob("a*b*c", "abc"));
        assert!(glob("a*b*c", "axxbyybzc"));
        assert!(!glob("a*b*c", "axxbyybz"));
        assert!(glob("*", ""));
    }
}
