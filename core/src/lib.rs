//! In-process caches that stay fresh across services and languages.

#![deny(missing_docs)]

pub mod clock;
pub mod config;
pub mod error;
pub mod fill;
pub mod freshness;
pub mod message;
pub mod outbox;
pub mod store;
#[doc(hidden)]
pub mod transport;

pub use config::{CacheConfig, ClientConfig, Dialect};
pub use error::{Error, ErrorKind, Result};
