//! What the proxy and the Admin API share at the edge: sockets with Kong's flags, TLS by server name, the access log.
//!
//! A room of its own below both (DESIGN.md has listeners in `proxy`), since the siblings must not know each other.

pub mod access_log;
pub mod bind;
pub mod tls;
pub mod trust;

use std::sync::atomic::AtomicU64;

/// Connections and requests of the proxy listeners, as `/status` shows them.
#[derive(Debug, Default)]
pub struct Traffic {
    pub accepted: AtomicU64,
    pub active: AtomicU64,
    pub handled: AtomicU64,
    pub reading: AtomicU64,
    pub writing: AtomicU64,
    pub waiting: AtomicU64,
    pub requests: AtomicU64,
}
