//! A stand-in for AWS IoT Core: its documented contract, enforced more strictly than AWS does. See README.md beside this crate.

mod authorizer;
mod broker;
pub mod certificates;
pub mod codec;
mod config;
mod connection;
mod delivery;
mod faults;
mod limits;
mod listen;
mod policy;
mod report;
pub mod rules;
mod server;
mod session;
mod sigv4;
mod tls;
mod topic;
mod websocket;

pub use server::run;
