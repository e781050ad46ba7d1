//! The C library of unstale. `include/unstale.h` is written from these files; its opening comment has the conventions.
//!
//! One file per concept. Support is apart: [`ffi`] (what comes in and goes out), [`handle`] (handles that notice their
//! misuse), [`fork`] (a child can free), [`panic`] (no panic leaves), [`error`] (numbers and messages). There is no
//! policy here: every decision is the core's.

#![deny(missing_docs)]
// The names are C's.
#![allow(non_camel_case_types)]

// Nothing of it is called from here; see Cargo.toml.
use openssl_sys as _;

// In the order in which the header speaks of them, which a blank line keeps.
pub mod error;

pub mod text;

pub mod client;

pub mod cache;

pub mod value;

pub mod options;

pub mod invalidate;

pub mod receipt;

pub mod lease;

pub mod load;

pub mod subscription;

pub mod log;

pub mod ffi;
mod fork;
mod handle;
mod panic;

#[cfg(test)]
mod layout;
