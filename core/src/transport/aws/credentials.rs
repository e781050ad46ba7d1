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
