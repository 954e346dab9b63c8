//! What the upstream side gets from the settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of one node's upstream side.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Idle connections kept per upstream and worker; 0: none.
    pub keepalive_pool_size: usize,
    /// Requests per connection; 0: no limit.
    pub keepalive_max_requests: u64,
    /// Zero: never.
    pub keepalive_idle_timeout: Duration,
    /// PEM bundles beside the system's roots (`lua_ssl_trusted_certificate`), by path.
    pub trusted_certificates: Vec<PathBuf>,
    /// Name servers in place of the system's.
    pub dns_resolver: Vec<SocketAddr>,
    /// Overrides the TTL of every answer.
    pub dns_valid_ttl: Option<Duration>,
    /// How long an answer is used after its TTL while it cannot be renewed.
    pub dns_stale_ttl: Duration,
    /// Maximum length of a response's head in bytes.
    pub head_bytes: usize,
}
