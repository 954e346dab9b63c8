//! The data plane: proxy listeners, the request pipeline, upstream connections, failures.
//!
//! One current-thread runtime per worker, each with its own listening sockets and its own upstream connections:
//! nothing that a request touches is shared by workers but the snapshot (read-only), the counters and the log queue.
//! This module cannot name `store`: it serves whatever snapshot is live.

pub mod upstream;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::counter::Counters;
use crate::listen::Traffic;
use crate::listen::access_log::AccessLog;
use crate::listen::bind::Address;
use crate::listen::tls::Certificates;
use crate::snapshot::Live;

/// What the proxy gets from the settings.
pub struct Options {
    pub listen: Vec<Address>,
    pub workers: usize,
    pub certificates: Option<Arc<Certificates>>,
    pub trusted_ips: Vec<IpNet>,
    pub real_ip_header: http::HeaderName,
    /// `real_ip_header = proxy_protocol`.
    pub real_ip_from_proxy_protocol: bool,
    pub real_ip_recursive: bool,
    pub response_headers: ResponseHeaders,
    /// `headers_upstream`: whether the upstream gets `X-Kong-Request-Id`.
    pub request_id_upstream: bool,
    /// Bytes; 0: no limit.
    pub client_max_body_size: u64,
    /// External port of a listening port, as routing and forwarded headers see it.
    pub port_maps: Vec<(u16, u16)>,
    /// Media type of server-made errors when the client states none.
    pub error_default_type: String,
    pub allow_debug_header: bool,
    /// Whether `fly-replay` and its kin may pass from an upstream to the edge.
    pub allow_fly_replay: bool,
    pub keepalive_requests: u32,
    pub upstream: upstream::Options,
    pub access_log: AccessLog,
}

/// Which headers the `headers` property switches on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHeaders {
    pub server: bool,
    pub via: bool,
    pub proxy_latency: bool,
    pub response_latency: bool,
    pub upstream_latency: bool,
    pub admin_latency: bool,
    pub upstream_status: bool,
    pub request_id: bool,
}

/// The running data plane.
pub struct Proxy {}

impl Proxy {
    /// Binds every listener and starts the workers. Call it once a configuration is live: an open port says so.
    pub fn start(
        options: Options,
        live: Arc<Live>,
        counters: Arc<Counters>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        let _ = (options, live, counters, traffic);
        unimplemented!()
    }

    /// Stops accepting, lets running exchanges finish, at most `limit` long; then ends the workers.
    pub async fn drain(self, limit: Duration) {
        let _ = limit;
    }
}
