//! Settings of the listeners: the proxy's towards clients and upstreams, the Admin API's, the status listener's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::http1::HeadLimits;
use crate::listen::tls::Sources;
use crate::node::settings::listen::Entry;
use crate::node::settings::reader::{Reader, size, span};
use crate::proxy::options::{Patience, ResponseHeaders};
use crate::proxy::upstream::options::UpstreamOptions;

/// The data plane.
#[derive(Clone, Debug)]
pub struct Proxy {
    pub listen: Vec<Entry>,
    pub certificates: Sources,
    pub trusted_ips: Vec<IpNet>,
    pub real_ip_header: HeaderName,
    pub real_ip_from_proxy_protocol: bool,
    pub real_ip_recursive: bool,
    pub response_headers: ResponseHeaders,
    pub request_id_upstream: bool,
    /// Bytes; 0: no limit.
    pub client_max_body_size: u64,
    /// (external port, listening port), as `port_maps` has them.
    pub port_maps: Vec<(u16, u16)>,
    pub error_default_type: String,
    pub allow_debug_header: bool,
    pub allow_fly_replay: bool,
    pub keepalive_requests: u32,
    pub patience: Patience,
    pub head: HeadLimits,
    pub upstream: UpstreamOptions,
}

/// The Admin API and the status listener.
#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: Vec<Entry>,
    pub certificates: Sources,
    pub status_listen: Vec<Entry>,
    pub status_certificates: Sources,
    pub token: Option<String>,
    pub token_readonly: Option<String>,
    pub max_body_size: usize,
    pub gui_origins: Vec<String>,
}

impl Proxy {
    pub fn read(reader: &mut Reader) -> Self {
        let real_ip_header = reader.text("real_ip_header").unwrap_or_default();
        Self {
            listen: reader.listeners("proxy_listen"),
            certificates: certificates(reader, "ssl_cert", "ssl_cert_key"),
            trusted_ips: trusted_ips(reader),
            real_ip_from_proxy_protocol: real_ip_header == "proxy_protocol",
            real_ip_header: reader
                .parsed("real_ip_header", "a header name, or proxy_protocol", |text| text.parse().ok())
                .unwrap_or(HeaderName::from_static("x-real-ip")),
            real_ip_recursive: reader.flag("real_ip_recursive"),
            response_headers: response_headers(reader),
            request_id_upstream: request_id_upstream(reader),
            client_max_body_size: client_max_body_size(reader),
            port_maps: reader.each(
                "port_maps",
                |item| format!("invalid port mapping (`port_maps`): {item}"),
                |item| {
                    let (external, listening) = item.split_once(':')?;
                    Some((port(external)?, port(listening)?))
                },
            ),
            error_default_type: reader.text("error_default_type").unwrap_or_default(),
            allow_debug_header: reader.flag("allow_debug_header"),
            allow_fly_replay: reader.flag("allow_fly_replay"),
            keepalive_requests: reader.whole("nginx_http_keepalive_requests", 0..=u64::from(u32::MAX)).unwrap_or(0)
                as u32,
            patience: patience(reader),
            head: head_limits(reader),
            upstream: upstream_options(reader),
        }
    }
}

impl Admin {
    pub fn read(reader: &mut Reader) -> Self {
        let max_body = reader.parsed("nginx_admin_client_max_body_size", "bytes, as in 10m", |text| {
            size(text).and_then(|bytes| usize::try_from(bytes).ok())
        });
        Self {
            listen: reader.listeners("admin_listen"),
            certificates: certificates(reader, "admin_ssl_cert", "admin_ssl_cert_key"),
            status_listen: reader.listeners("status_listen"),
            status_certificates: certificates(reader, "status_ssl_cert", "status_ssl_cert_key"),
            token: reader.text("admin_token"),
            token_readonly: reader.text("admin_token_readonly"),
            max_body_size: max_body.unwrap_or(10 << 20),
            gui_origins: reader.list("admin_gui_url"),
        }
    }

    /// Whether others than this machine can reach the Admin API and need no token.
    pub fn is_open(&self) -> bool {
        self.token.is_none() && self.listen.iter().any(|entry| !entry.is_loopback())
    }
}

/// Two lists of equal length, with Kong's sentences when they are not.
fn certificates(reader: &mut Reader, cert: &str, key: &str) -> Sources {
    let sources = Sources { certs: reader.list(cert), keys: reader.list(key) };
    let (certs, keys) = (sources.certs.len(), sources.keys.len());
    match (certs, keys) {
        (0, 0) => {}
        (_, 0) => reader.problem(format!("{key} must be specified")),
        (0, _) => reader.problem(format!("{cert} must be specified")),
        _ if certs != keys => {
            reader.problem(format!("{cert} was specified {certs} times while {key} was specified {keys} times"))
        }
        _ => {}
    }
    sources
}

fn trusted_ips(reader: &mut Reader) -> Vec<IpNet> {
    let complaint = |item: &str| {
        format!(
            "trusted_ips must be a comma separated list in the form of IPv4 or IPv6 address or CIDR block or 'unix:', \
             got '{item}'"
        )
    };
    let parse = |item: &str| match item {
        // Nothing here listens on a unix socket.
        "unix:" => Some(None),
        _ => item.parse::<IpNet>().ok().or_else(|| item.parse::<IpAddr>().ok().map(IpNet::from)).map(Some),
    };
    reader.each("trusted_ips", complaint, parse).into_iter().flatten().collect()
}

fn response_headers(reader: &mut Reader) -> ResponseHeaders {
    let none = ResponseHeaders {
        server: false,
        via: false,
        proxy_latency: false,
        response_latency: false,
        upstream_latency: false,
        admin_latency: false,
        upstream_status: false,
        request_id: false,
    };
    let mut headers = none;
    let parse = |item: &str| {
        let token = item.to_ascii_lowercase();
        RESPONSE_TOKENS.iter().find(|(name, _)| *name == token).map(|(_, switch)| *switch)
    };
    for switch in reader.each("headers", |item| format!("headers: invalid entry '{item}'"), parse) {
        switch(&mut headers);
    }
    if reader.list("headers").iter().any(|item| item == "off") { none } else { headers }
}

type Switch = fn(&mut ResponseHeaders);

static RESPONSE_TOKENS: &[(&str, Switch)] = &[
    ("off", |_| {}),
    ("server_tokens", |headers| (headers.server, headers.via) = (true, true)),
    ("latency_tokens", |headers| {
        (headers.proxy_latency, headers.response_latency) = (true, true);
        (headers.upstream_latency, headers.admin_latency) = (true, true);
    }),
    ("server", |headers| headers.server = true),
    ("via", |headers| headers.via = true),
    ("x-kong-proxy-latency", |headers| headers.proxy_latency = true),
    ("x-kong-response-latency", |headers| headers.response_latency = true),
    ("x-kong-upstream-latency", |headers| headers.upstream_latency = true),
    ("x-kong-admin-latency", |headers| headers.admin_latency = true),
    ("x-kong-upstream-status", |headers| headers.upstream_status = true),
    ("x-kong-request-id", |headers| headers.request_id = true),
];

fn request_id_upstream(reader: &mut Reader) -> bool {
    let parse = |item: &str| match item.to_ascii_lowercase().as_str() {
        "x-kong-request-id" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    let said = reader.each("headers_upstream", |item| format!("headers_upstream: invalid entry '{item}'"), parse);
    !said.is_empty() && said.into_iter().all(|on| on)
}

/// Our short name wins over Kong's directive.
fn client_max_body_size(reader: &mut Reader) -> u64 {
    const ALLOWED: &str = "bytes, as in 10m; 0: no limit";
    reader
        .parsed("client_max_body_size", ALLOWED, size)
        .or_else(|| reader.parsed("nginx_http_client_max_body_size", ALLOWED, size))
        .unwrap_or(0)
}

/// nginx's directives. It gives a head and the silence before it a time each; here the shorter one holds for both.
fn patience(reader: &mut Reader) -> Patience {
    let mut given =
        |name| reader.parsed(name, "a time above 0, as in 60s", |text| span(text).filter(|it| !it.is_zero()));
    let default = Patience::default();
    let head = [given("nginx_http_client_header_timeout"), given("nginx_http_keepalive_timeout")];
    Patience {
        greeting: default.greeting,
        head: head.into_iter().flatten().min().unwrap_or(default.head),
        body: given("nginx_http_client_body_timeout").unwrap_or(default.body),
        send: given("nginx_http_send_timeout").unwrap_or(default.send),
    }
}

/// nginx's directive: number and size of the buffers for a request's head. A line fits into one buffer.
fn head_limits(reader: &mut Reader) -> HeadLimits {
    let parse = |text: &str| {
        let (count, bytes) = text.trim().split_once(char::is_whitespace)?;
        let count: usize = count.parse().ok().filter(|count| (1..=1_024).contains(count))?;
        let line_bytes = usize::try_from(size(bytes.trim())?).ok().filter(|bytes| (512..=1 << 20).contains(bytes))?;
        Some(HeadLimits { line_bytes, head_bytes: (count * line_bytes).min(HEAD_BYTES_MAX) })
    };
    let allowed = "a number of buffers and the size of one, as in 8 8k";
    reader.parsed("nginx_http_large_client_header_buffers", allowed, parse).unwrap_or_default()
}

/// Largest head that a setting can allow, in bytes.
const HEAD_BYTES_MAX: usize = 4 << 20;

fn upstream_options(reader: &mut Reader) -> UpstreamOptions {
    let valid_ttl = reader.seconds("dns_valid_ttl").or_else(|| reader.seconds("resolver_valid_ttl"));
    let stale_ttl = reader.seconds("resolver_stale_ttl").or_else(|| reader.seconds("dns_stale_ttl"));
    let mut resolvers = name_servers(reader, "dns_resolver");
    resolvers.extend(name_servers(reader, "resolver_address"));
    let bundles = reader.list("lua_ssl_trusted_certificate");
    UpstreamOptions {
        keepalive_pool_size: reader.whole("upstream_keepalive_pool_size", 0..=1_000_000).unwrap_or(0) as usize,
        keepalive_max_requests: reader.whole("upstream_keepalive_max_requests", 0..=u64::from(u32::MAX)).unwrap_or(0),
        keepalive_idle_timeout: reader.seconds("upstream_keepalive_idle_timeout").unwrap_or_default(),
        trusted_certificates: bundles.iter().filter(|path| *path != "system").map(Into::into).collect(),
        dns_resolver: resolvers,
        dns_valid_ttl: valid_ttl,
        dns_stale_ttl: stale_ttl.unwrap_or(Duration::ZERO),
        head_bytes: HeadLimits::default().head_bytes,
    }
}

fn name_servers(reader: &mut Reader, name: &str) -> Vec<SocketAddr> {
    let complaint = |item: &str| {
        format!("{name} must be a comma separated list in the form of IPv4/6 or IPv4/6:port, got '{item}'")
    };
    let parse = |item: &str| {
        let bare = item.trim_start_matches('[').trim_end_matches(']');
        item.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53)))
    };
    reader.each(name, complaint, parse)
}

fn port(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|port| *port > 0)
}
