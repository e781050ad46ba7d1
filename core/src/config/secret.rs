//! Texts that must not be shown: a password, a key. Whoever prints a configuration prints `***`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _};
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_in_no_text() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "*** Some(\n    ***,\n)");
        for wrong in [serde_json::json!(7351), serde_json::json!(["7351"]), serde_json::json!({"a": "7351"})] {
            let e = serde_json::from_value::<Secret>(wrong).unwrap_err();
            assert!(!e.to_string().contains("7351"), "{e}");
        }
    }
}
