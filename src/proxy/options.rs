//! What the data plane gets from the settings.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::http1::HeadLimits;
use crate::listen::access_log::AccessLog;
use crate::listen::bind::Address;
use crate::listen::tls::Certificates;
use crate::proxy::upstream::options::UpstreamOptions;

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
    /// (external port, listening port): routing and forwarded headers use the external port of a listening port.
    pub port_maps: Vec<(u16, u16)>,
    /// Media type of server-made errors when the client states none.
    pub error_default_type: String,
    pub allow_debug_header: bool,
    /// Whether `fly-replay` and its kin may pass from an upstream to the edge.
    pub allow_fly_replay: bool,
    /// Requests per client connection; 0: no limit.
    pub keepalive_requests: u32,
    pub patience: Patience,
    pub head: HeadLimits,
    pub upstream: UpstreamOptions,
    pub access_log: AccessLog,
}

/// Time limits of clients.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the connection to the end of a PROXY protocol header, and again to the end of a TLS handshake.
    pub greeting: Duration,
    /// For a whole head, from the end of the exchange before; so also for silence between exchanges.
    pub head: Duration,
    /// Between two reads of a body.
    pub body: Duration,
    /// Between two writes of an answer.
    pub send: Duration,
}

impl Default for Patience {
    /// nginx's limits, and so Kong's; but nginx allows 75 s of silence and then 60 s for a head: here one limit holds for
    /// both together.
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(15),
            head: Duration::from_secs(65),
            body: Duration::from_secs(60),
            send: Duration::from_secs(60),
        }
    }
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
