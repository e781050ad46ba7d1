//! In-process caches that stay fresh across services and languages.
//!
//! Every service keeps its hot values in memory. When one of them changes a value at the source it says so over MQTT, and
//! the others drop theirs. No read is staler than [`ClientConfig::staleness_bound`], even if messages are lost.
//!
//! ```
//! use unstale::{blocking, CacheConfig, ClientConfig, SetOptions};
//!
//! let client = blocking::connect(ClientConfig::from_url("memory://")?)?; // mqtt://localhost:1883 to leave the process
//! let prices = client.cache::<u64>("prices", CacheConfig::default())?;
//! let price = blocking::get_or_load(&prices, "apple", &SetOptions::default(), || {
//!     Ok::<_, std::io::Error>(Some(120)) // read the database here
//! })?;
//! assert_eq!(price, Some(120));
//! prices.invalidate("apple")?; // after the database was written: here at once, elsewhere in a millisecond
//! assert_eq!(prices.get("apple"), None);
//! # Ok::<(), unstale::Error>(())
//! ```

#![deny(missing_docs)]

pub mod blocking;
pub mod cache;
pub mod client;
pub mod clock;
pub mod config;
pub mod error;
mod events;
#[doc(hidden)]
pub mod fill;
#[doc(hidden)]
pub mod freshness;
mod journal;
#[doc(hidden)]
pub mod link;
pub mod message;
#[doc(hidden)]
pub mod outbox;
#[doc(hidden)]
pub mod stats;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod stream;
#[doc(hidden)]
pub mod transport;

pub use cache::{Begin, Cache, Facts, Lease, Load, Pending, SetOptions};
pub use client::{Client, LinkState, Receipt, Status, DEFAULT_CLOSE_TIMEOUT};
pub use clock::now as now_ns;
pub use config::{CacheConfig, ClientConfig, Dialect, Secret};
pub use error::{Error, ErrorKind, Result};
pub use events::{Invalidation, Origin, Subscription};
pub use fill::{Failure, Joined};
pub use freshness::Vitals;
pub use message::SigningKeys;
pub use stats::CacheStats;
