//! In-process caches that stay fresh across services and languages.

#![deny(missing_docs)]

pub mod error;

pub use error::{Error, ErrorKind, Result};
