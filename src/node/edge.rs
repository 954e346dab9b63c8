//! From settings to what the listeners take: certificates, access logs, addresses. They live as long as the node and
//! are what SIGHUP opens again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::admin;
use crate::listen::access_log::{AccessLog, CLIENTS_LINES, OPERATORS_LINES, Target};
use crate::listen::bind::Address;
use crate::listen::tls::{Certificates, Sources};
use crate::node::identity;
use crate::node::settings::Settings;
use crate::node::settings::listen::Entry;
use crate::proxy::options::Options;

/// What is open at the edge of the node.
pub struct Edge {
    proxy_certificates: Option<Arc<Certificates>>,
    admin_certificates: Option<Arc<Certificates>>,
    status_certificates: Option<Arc<Certificates>>,
    proxy_log: AccessLog,
    admin_log: AccessLog,
    status_log: AccessLog,
}

impl Edge {
    /// Loads certificates (where a listener wants TLS) and opens the access logs.
    pub fn open(settings: &Settings) -> Result<Self, String> {
        let (logs, prefix) = (&settings.logs, settings.node.prefix.as_path());
        let (proxy, admin) = (&settings.proxy, &settings.admin);
        let log =
            |target: &Target, lines_max| AccessLog::open(target.clone(), lines_max).map_err(|error| error.to_string());
        Ok(Self {
            proxy_certificates: certificates(&proxy.listen, &proxy.certificates, prefix, "proxy")?,
            admin_certificates: certificates(&admin.listen, &admin.certificates, prefix, "admin")?,
            status_certificates: certificates(&admin.status_listen, &admin.status_certificates, prefix, "status")?,
            proxy_log: log(&logs.proxy_access, CLIENTS_LINES)?,
            admin_log: log(&logs.admin_access, OPERATORS_LINES)?,
            status_log: log(&logs.status_access, OPERATORS_LINES)?,
        })
    }

    /// Certificates and log files again. What cannot be opened stays as it was.
    pub fn reload(&self) {
        for certificates in [&self.proxy_certificates, &self.admin_certificates, &self.status_certificates] {
            if let Some(Err(error)) = certificates.as_ref().map(|certificates| certificates.reload()) {
                tracing::error!("the old certificates stay: {error}");
            }
        }
        self.logs().into_iter().for_each(AccessLog::reopen);
    }

    /// Writes out the access logs; at most `limit` long each. Blocks the calling thread.
    pub fn flush(&self, limit: Duration) {
        self.logs().into_iter().for_each(|log| log.flush(limit));
    }

    /// Looks up the names in `admin_listen` and `status_listen`.
    pub fn admin_options(&self, settings: &Settings, node_id: &str) -> Result<admin::Options, String> {
        let admin = &settings.admin;
        Ok(admin::Options {
            admin_listen: addresses("admin_listen", &admin.listen)?,
            status_listen: addresses("status_listen", &admin.status_listen)?,
            admin_certificates: self.admin_certificates.clone(),
            status_certificates: self.status_certificates.clone(),
            admin_access_log: self.admin_log.clone(),
            status_access_log: self.status_log.clone(),
            token: admin.token.clone(),
            token_readonly: admin.token_readonly.clone(),
            server_header: settings.proxy.response_headers.server,
            latency_header: settings.proxy.response_headers.admin_latency,
            max_body_size: admin.max_body_size,
            gui_origins: admin.gui_origins.clone(),
            configuration: configuration(settings, node_id),
            node_id: node_id.to_owned(),
            hostname: identity::hostname(),
            warnings: settings.warnings(),
        })
    }

    /// Looks up the names in `proxy_listen`.
    pub fn proxy_options(&self, settings: &Settings) -> Result<Options, String> {
        let proxy = &settings.proxy;
        Ok(Options {
            listen: addresses("proxy_listen", &proxy.listen)?,
            workers: settings.node.workers,
            certificates: self.proxy_certificates.clone(),
            trusted_ips: proxy.trusted_ips.clone(),
            real_ip_header: proxy.real_ip_header.clone(),
            real_ip_from_proxy_protocol: proxy.real_ip_from_proxy_protocol,
            real_ip_recursive: proxy.real_ip_recursive,
            response_headers: proxy.response_headers,
            request_id_upstream: proxy.request_id_upstream,
            client_max_body_size: proxy.client_max_body_size,
            port_maps: proxy.port_maps.clone(),
            error_default_type: proxy.error_default_type.clone(),
            allow_debug_header: proxy.allow_debug_header,
            allow_fly_replay: proxy.allow_fly_replay,
            keepalive_requests: proxy.keepalive_requests,
            patience: proxy.patience,
            head: proxy.head,
            upstream: proxy.upstream.clone(),
            access_log: self.proxy_log.clone(),
        })
    }

    fn logs(&self) -> [&AccessLog; 3] {
        [&self.proxy_log, &self.admin_log, &self.status_log]
    }
}

/// The settings, with what was decided on this machine in place of what was left open.
fn configuration(settings: &Settings, node_id: &str) -> serde_json::Value {
    let mut document = settings.document.clone();
    document["node_id"] = node_id.into();
    document["region"] = settings.node.region.as_str().into();
    document["drain_delay"] = settings.node.drain.delay.as_secs_f64().into();
    document
}

fn certificates(
    listen: &[Entry],
    sources: &Sources,
    prefix: &Path,
    name: &str,
) -> Result<Option<Arc<Certificates>>, String> {
    if !listen.iter().any(Entry::ssl) {
        return Ok(None);
    }
    Certificates::load(sources, prefix, name).map(Some)
}

fn addresses(name: &str, entries: &[Entry]) -> Result<Vec<Address>, String> {
    let mut all = Vec::new();
    for entry in entries {
        let found = entry.addresses();
        all.extend(found.map_err(|error| format!("{name}: cannot look up '{entry}': {error}"))?);
    }
    Ok(all)
}
