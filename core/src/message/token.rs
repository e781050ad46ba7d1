//! The token that a receipt hands out, so that another process can wait for an invalidation.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::{Error, Result};

use super::check::{check_namespace, quoted, valid_src};
use super::MAX_INTEGER;

/// Names one message: `u1:{src}:{seq}:{namespace}`, printable ASCII without spaces, fit for an HTTP header.
///
/// ```
/// let token: unstale::message::Token = "u1:a1B2c3:7:users".parse().unwrap();
/// assert_eq!((token.seq, &*token.namespace), (7, "users"));
/// assert_eq!(token.to_string(), "u1:a1B2c3:7:users");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The publisher stream.
    pub src: Arc<str>,
    /// The message's number.
    pub seq: u64,
    /// The cache's namespace; empty for none.
    pub namespace: Arc<str>,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u1:{}:{}:{}", self.src, self.seq, self.namespace)
    }
}

impl FromStr for Token {
    type Err = Error;

    /// Reads a token; anything that [`Display`](fmt::Display) would not write is `InvalidArgument`.
    fn from_str(text: &str) -> Result<Token> {
        let invalid = |what: &str| {
            Error::invalid(format!("token {} is not valid: {what}; pass on what a receipt gave", quoted(text)))
        };
        let mut parts = text.splitn(4, ':');
        let (Some("u1"), Some(src), Some(seq), Some(namespace)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("it is not of the form \"u1:{src}:{seq}:{namespace}\""));
        };
        if !valid_src(src) {
            return Err(invalid("its src is not 1 to 64 letters, digits, '_' or '-'"));
        }
        // One spelling per number: no sign, no leading zero.
        let canonical = seq.bytes().all(|b| b.is_ascii_digit()) && !seq.starts_with('0');
        let seq = match seq.parse::<u64>() {
            Ok(seq) if canonical && seq <= MAX_INTEGER => seq,
            _ => return Err(invalid("its number is not an integer from 1 to 2^53 - 1")),
        };
        if check_namespace(namespace).is_err() {
            return Err(invalid("its namespace is not one"));
        }
        Ok(Token { src: src.into(), seq, namespace: namespace.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_spelling_is_a_token() {
        for good in ["u1:a:1:", "u1:a:9007199254740991:users", "u1:-_:10:a.b"] {
            assert_eq!(good.parse::<Token>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "u1",
            "u1:a:1",
            "u2:a:1:n",
            "U1:a:1:n",
            "u1::1:n",
            "u1:a::n",
            "u1:a:0:n",
            "u1:a:01:n",
            "u1:a:+1:n",
            "u1:a:-1:n",
            "u1:a:9007199254740992:n",
            "u1:a:99999999999999999999:n",
            "u1:a:1:_n",
            "u1:a:1:a:b",
            "u1:a.b:1:n",
            " u1:a:1:n",
            "u1:a:1:n ",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_the_same(text in "(u1:)?[a-z:0-9_.\\PC]{0,40}") {
            if let Ok(token) = text.parse::<Token>() {
                prop_assert_eq!(token.to_string(), text);
            }
        }
    }
}
