//! The upstream side: names, connections, keep-alive pools, TLS, timeouts, tries.
//!
//! One `Upstreams` per worker, used by that worker's thread only: pools and timers are plain cells. Workers share nothing
//! here but the names that they have resolved.

pub mod body_source;
mod connect;
pub mod download;
pub mod failure;
mod http1;
mod key;
pub mod options;
pub mod origin;
mod pool;
mod resolve;
mod rules;
pub mod stream;
#[cfg(test)]
mod tests;
mod tls;
pub mod tries;
mod upload;
pub mod upstreams;

pub use crate::proxy::upstream::resolve::SharedNames;
