//! AWS credentials, from where AWS's own tools find them: options, environment, shared files, container, instance ("AWS
//! SDKs and Tools Reference Guide", "Standardized credential providers"). Looked up anew for every connection, so that
//! temporary ones need no clock here.
//!
//! The `aws-config` crate would do this and more, with an HTTP client, a second TLS library and some two hundred crates
//! (see `docs/decisions/0009-aws-iot.md`); what it would add, `credential_process` brings in.

use std::fmt;
use std::time::Instant;

use super::{metadata, profile};
use crate::config::AwsConfig;
use crate::error::{Error, ErrorKind, Result};

/// What signs a request.
pub(super) struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    /// Secrets are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Where to look.
pub(super) struct Sources<'a> {
    pub options: &'a AwsConfig,
    /// An environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// Nothing is waited for longer.
    pub deadline: Instant,
}

impl Sources<'_> {
    /// A variable that is there and not empty.
    pub fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }
}

/// The first credentials that are there.
///
/// # Errors
/// `Auth` when there are none, or a source that is configured does not give any.
pub(super) fn find(sources: &Sources<'_>) -> Result<Credentials> {
    if let Some(given) = given(sources.options) {
        return Ok(given);
    }
    // Whoever names a profile in the options means it, whatever the environment says.
    let environment = sources.options.profile.is_none().then(|| environment(sources)).flatten();
    if let Some(found) = environment {
        return Ok(found);
    }
    if let Some(found) = profile::credentials(sources)? {
        return Ok(found);
    }
    if let Some(found) = metadata::container(sources)? {
        return Ok(found);
    }
    metadata::instance(sources)
}

fn given(options: &AwsConfig) -> Option<Credentials> {
    Some(Credentials {
        access_key_id: options.access_key_id.clone()?,
        secret_access_key: options.secret_access_key.as_ref()?.expose().to_owned(),
        session_token: options.session_token.as_ref().map(|t| t.expose().to_owned()),
    })
}

fn environment(sources: &Sources<'_>) -> Option<Credentials> {
    Some(Credentials {
        access_key_id: sources.set("AWS_ACCESS_KEY_ID")?,
        secret_access_key: sources.set("AWS_SECRET_ACCESS_KEY")?,
        session_token: sources.set("AWS_SESSION_TOKEN"),
    })
}

/// Credentials as services and programs print them.
pub(super) fn from_json(text: &str, token: &str) -> Option<Credentials> {
    let answer: serde_json::Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| Some(answer.get(name)?.as_str()?.to_owned()).filter(|value| !value.is_empty());
    Some(Credentials {
        access_key_id: field("AccessKeyId")?,
        secret_access_key: field("SecretAccessKey")?,
        session_token: field(token),
    })
}

pub(super) fn failed(what: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Auth, format!("no AWS credentials: {what}"))
}

#[cfg(test)]
mod tests {
    use super::super::metadata::tests::service;
    use super::*;
    use std::time::Duration;

    type Vars<'a> = &'a [(&'a str, &'a str)];

    fn look(options: &AwsConfig, vars: &[Vars<'_>]) -> Result<Credentials> {
        let variable = |name: &str| vars.concat().iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        find(&Sources { options, variable: &variable, deadline: Instant::now() + Duration::from_secs(5) })
    }

    #[test]
    fn the_first_place_that_has_credentials_gives_them() {
        let file = std::env::temp_dir().join(format!("unstale-chain-{}", std::process::id()));
        let keys = |name| format!("aws_access_key_id = {name}\naws_secret_access_key = S\n");
        std::fs::write(&file, format!("[default]\n{}[work]\n{}", keys("FILE"), keys("WORK"))).unwrap();
        let (url, _) = service(&[("/", 200, r#"{"AccessKeyId": "CONTAINER", "SecretAccessKey": "S"}"#)]);
        let environment: Vars<'_> =
            &[("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", "S"), ("AWS_SESSION_TOKEN", "T")];
        let files: Vars<'_> = &[("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())];
        let url = format!("{url}/");
        // No instance: a test asks nobody else.
        let container: Vars<'_> =
            &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url), ("AWS_EC2_METADATA_DISABLED", "true")];
        let none = AwsConfig::default();
        let given = AwsConfig {
            access_key_id: Some("OPTION".into()),
            secret_access_key: Some("S".into()),
            session_token: Some("T".into()),
            ..AwsConfig::default()
        };
        let profile = AwsConfig { profile: Some("work".into()), ..AwsConfig::default() };
        let empty: Vars<'_> = &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "S")];
        let found = |options: &AwsConfig, vars: &[Vars<'_>]| {
            let found = look(options, vars).unwrap();
            (found.access_key_id, found.session_token)
        };
        let token = || Some("T".to_owned());
        assert_eq!(found(&given, &[environment, files, container]), ("OPTION".into(), token()));
        assert_eq!(found(&none, &[environment, files, container]), ("ENV".into(), token()));
        assert_eq!(found(&profile, &[environment, files, container]), ("WORK".into(), None));
        assert_eq!(found(&none, &[empty, files, container]), ("FILE".into(), None));
        assert_eq!(found(&none, &[container]), ("CONTAINER".into(), None));
        assert_eq!(look(&none, &[&container[1..]]).unwrap_err().kind(), ErrorKind::Auth);
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn an_empty_field_is_none() {
        let read = |text| from_json(text, "Token");
        let found = read(r#"{"AccessKeyId": "A", "SecretAccessKey": "S", "Token": ""}"#).unwrap();
        assert_eq!(found.session_token, None);
        assert!(read(r#"{"AccessKeyId": "", "SecretAccessKey": "S"}"#).is_none());
        assert!(read(r#"{"AccessKeyId": "A", "SecretAccessKey": ""}"#).is_none());
    }

    #[test]
    fn secrets_are_not_shown() {
        let hush = || "hush".to_owned();
        let found =
            Credentials { access_key_id: "AKIA".into(), secret_access_key: hush(), session_token: Some(hush()) };
        let shown = format!("{found:?}");
        assert!(shown.contains("AKIA") && !shown.contains("hush"), "{shown}");
    }
}
