//! Texts that must not be shown: a password, a key. Whoever prints a configuration prints `***`.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

/// A secret text. Its `Debug` is `***`, it has no `Display`, and what cannot be read as one is not quoted in the error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself. Hand it to what needs it, never to a message.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Secret {
        Secret(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Secret, D::Error> {
        // serde's own words for a wrong type quote the value: a password of digits, given as a number, would be shown.
        match Value::deserialize(d)? {
            Value::String(text) => Ok(Secret(text)),
            _ => Err(D::Error::custom("must be a string (its value is not shown here)")),
        }
    }
}

/// Reads options that hold secrets. What is no object is not quoted either: it may be one of the secrets, or all in broken JSON.
pub(super) fn within<'de, D: Deserializer<'de>, T: DeserializeOwned>(d: D) -> Result<T, D::Error> {
    match Value::deserialize(d)? {
        value @ (Value::Object(_) | Value::Null) => serde_json::from_value(value).map_err(D::Error::custom),
        _ => Err(D::Error::custom("must be an object of options (its value is not shown here)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClientConfig, Dialect};

    #[test]
    fn a_secret_shows_in_no_text() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "*** Some(\n    ***,\n)");
        for wrong in [serde_json::json!(7351), serde_json::json!(["7351"]), serde_json::json!({"a": "7351"})] {
            let e = serde_json::from_value::<Secret>(wrong).unwrap_err();
            assert!(!e.to_string().contains("7351"), "{e}");
        }
    }
    #[test]
    fn what_is_given_in_place_of_options_with_secrets_is_not_quoted() {
        let parse = |json| ClientConfig::parse(None, serde_json::from_str(json).unwrap(), Dialect::JSON);
        for wrong in
            [r#"{"aws": "7351"}"#, r#"{"aws": ["7351"]}"#, r#"{"tls": 7351}"#, r#"{"tls": "{\"key_file\": 7351"}"#]
        {
            let e = parse(wrong).unwrap_err();
            assert!(!e.message().contains("7351") && e.message().contains("must be an object"), "{e}");
        }
        let e = parse(r#"{"aws": {"regoin": "a"}}"#).unwrap_err();
        assert!(e.message().starts_with("option `aws`: unknown field `regoin`, expected one of"), "{e}");
    }
}
