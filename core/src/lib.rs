//! In-process caches that stay fresh across services and languages.

#![deny(missing_docs)]

pub mod config;
pub mod error;
pub mod message;

pub use config::{CacheConfig, ClientConfig, Dialect};
pub use error::{Error, ErrorKind, Result};
