//! A custom authorizer: what it is given in the user name and the password.
//!
//! "Connecting to AWS IoT Core by using custom authentication": the user name carries `?x-amz-customauthorizer-name=…`, and, when
//! signing is on, `x-amz-customauthorizer-signature` and the token under the name that the authorizer has for it. ALPN is `mqtt`.

use openssl::base64;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Verifier;
use rumqttd::protocol::Login;

use crate::config::{Authorizer, Token};
use crate::sigv4::percent_decode;

impl Authorizer {
    /// What is wrong with them, in words without any secret; nothing when they are right.
    pub fn check(&self, login: Option<&Login>) -> Result<(), String> {
        let login = login.ok_or("there is no user name")?;
        let (_, query) = login.username.split_once('?').ok_or("the user name has no ?x-amz-customauthorizer-name=")?;
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|pair| pair.0 == name).and_then(|(_, value)| percent_decode(value))
        };
        if field("x-amz-customauthorizer-name").as_deref() != Some(&self.name) {
            return Err("x-amz-customauthorizer-name is not there or names another authorizer".into());
        }
        if self.password.as_ref().is_some_and(|password| *password != login.password) {
            return Err("the password is wrong".into());
        }
        let Some(token) = &self.token else { return Ok(()) };
        let given = field(&token.key_name).ok_or_else(|| format!("there is no {}", token.key_name))?;
        let signature =
            field("x-amz-customauthorizer-signature").ok_or("there is no x-amz-customauthorizer-signature")?;
        match token.is_signed(&given, &signature) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err("x-amz-customauthorizer-signature is not the token's".into()),
        }
    }
}

impl Token {
    fn is_signed(&self, token: &str, signature: &str) -> Result<bool, openssl::error::ErrorStack> {
        let pem = std::fs::read(&self.public_key_file).unwrap_or_default();
        let key = PKey::public_key_from_pem(&pem)?;
        let mut verifier = Verifier::new(MessageDigest::sha256(), &key)?;
        verifier.verify_oneshot(&base64::decode_block(signature)?, token.as_bytes())
    }
}
