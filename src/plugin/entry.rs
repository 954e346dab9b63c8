//! What log plugins see of an exchange or a stream session, and Kong's log document of it (`kong/plugins.md` G.1,
//! `kong/observability.md` §3).
//!
//! An `Entry` is built once, after the last byte, and shared by all log plugins of the exchange. It holds what the document
//! needs as it is at hand; JSON is made when a plugin asks for it, which may be on another thread.
//!
//! Departures from Kong: texts that are not UTF-8 have U+FFFD in place of their invalid bytes (Kong writes them raw), `/` is
//! not escaped, and numbers have all their digits.

mod document;
pub mod tls;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::Value;
use uuid::Uuid;

use crate::entity::{Doc, Entity};
use crate::plugin::entry::tls::LoggedTls;

/// The id of the one workspace, `default`, in `workspace` and `ws_id`. Kong draws it when it makes its database; here it is
/// the same on all nodes and for ever.
pub const WORKSPACE: Uuid = Uuid::from_u128(0x7469_6465_6761_4465_8061_756c_7400_0001);

/// One exchange or session. Times are Unix times, lengths of time whole units.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When the first byte of the request arrived, in milliseconds.
    pub started_at_ms: u64,
    /// After real-IP rules.
    pub client_ip: IpAddr,
    pub traffic: LoggedTraffic,
    /// In order. Without a route the document has no member `tries`.
    pub tries: Vec<LoggedTry>,
    /// `None`: no route matched.
    pub route: Option<Arc<Entity>>,
    pub service: Option<Arc<Entity>>,
    /// Set by an authentication plugin; also the anonymous consumer.
    pub consumer: Option<Arc<Entity>>,
    pub authenticated_entity: Option<LoggedCredential>,
    /// Members that plugins of the exchange added: `correlation_id`, `trace_id`, `ai`. They replace others of the same name.
    pub added: Doc,
}

/// What only HTTP or only streams have.
#[derive(Clone, Debug)]
pub enum LoggedTraffic {
    Http(Box<LoggedHttp>),
    Stream(LoggedSession),
}

/// A request and its response.
#[derive(Clone, Debug, Default)]
pub struct LoggedHttp {
    pub request: LoggedRequest,
    pub response: LoggedResponse,
    /// Path and query that went upstream, or would have; empty when no route matched.
    pub upstream_uri: Bytes,
    /// The statuses of the tries, in order; 502 or 504 for one that got no response. Empty: no try.
    pub upstream_status: Vec<u16>,
    pub source: LogSource,
    pub latencies: HttpLatencies,
}

#[derive(Clone, Debug, Default)]
pub struct LoggedRequest {
    /// 32 hexadecimal digits.
    pub id: String,
    pub method: Method,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The request's host without its port, in lower case; IPv6 addresses in brackets.
    pub host: String,
    /// The port that the client called, after `port_maps`.
    pub port: u16,
    /// The request target as the client sent it.
    pub uri: Bytes,
    /// The query string as plugins left it, without `?`.
    pub query: Bytes,
    /// Bytes of the request, head and body.
    pub size: u64,
    /// As they went upstream, after all changes; of a request that was not proxied as plugins left them.
    pub headers: HeaderMap,
    /// `None`: the connection is not encrypted.
    pub tls: Option<LoggedTls>,
}

#[derive(Clone, Debug, Default)]
pub struct LoggedResponse {
    pub status: u16,
    /// Bytes that were sent to the client, head and body.
    pub size: u64,
    /// As the client got them.
    pub headers: HeaderMap,
}

/// Who made the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogSource {
    /// The upstream.
    Upstream,
    /// The gateway: a plugin, an error, a failure of all tries.
    #[default]
    Kong,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HttpLatencies {
    /// From the first byte of the request to the last choice of a target, or to the gateway's own response.
    pub kong_ms: u64,
    /// From the last choice of a target to the head of the upstream's response. `None`, logged as -1: not proxied.
    pub proxy_ms: Option<u64>,
    /// From the first byte of the request to the last byte of the response.
    pub request_ms: u64,
    /// From the head of the upstream's response to its last byte; 0 if there was none.
    pub receive_ms: u64,
}

/// A stream session.
#[derive(Clone, Debug, Default)]
pub struct LoggedSession {
    pub tls: Option<LoggedTls>,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    pub status: u16,
    /// The port that the client called, after `port_maps`; `None` for TLS sessions.
    pub server_port: Option<u16>,
    /// Bytes from the upstream.
    pub upstream_received: u64,
    /// Bytes to the upstream.
    pub upstream_sent: u64,
    /// From the start of the session to the last choice of a target, in milliseconds.
    pub kong_ms: u64,
    pub session_ms: u64,
}

/// One try to reach a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedTry {
    pub ip: IpAddr,
    pub port: u16,
    /// When the choice of the target began, in nanoseconds.
    pub balancer_start_ns: u64,
    /// How long the choice of the target took, in nanoseconds.
    pub balancer_latency_ns: u64,
    /// `None`: the try succeeded.
    pub failure: Option<TryFailure>,
}

/// How a try failed. The last one of an exchange has it, too, if it used up the retries and its status is above 499.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TryFailure {
    pub kind: TryFailureKind,
    /// 502, 504, or the upstream's status.
    pub code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryFailureKind {
    /// The upstream's answer counts as a failure: `next`.
    Answer,
    /// No connection, or no answer: `failed`.
    Connection,
}

/// The credential that authenticated the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCredential {
    /// The credential's id; for ldap-auth its cache key.
    pub id: String,
    /// Only for credentials that carry it themselves (`kong/plugins.md` G.1).
    pub consumer_id: Option<Uuid>,
}

/// An HTTP exchange without a route about which nothing is known.
impl Default for Entry {
    fn default() -> Self {
        Self {
            started_at_ms: 0,
            client_ip: Ipv4Addr::UNSPECIFIED.into(),
            traffic: LoggedTraffic::Http(Box::default()),
            tries: Vec::new(),
            route: None,
            service: None,
            consumer: None,
            authenticated_entity: None,
            added: Doc::new(),
        }
    }
}

impl Entry {
    /// The log document as compact JSON on one line.
    pub fn to_json(&self) -> String {
        // The document has string keys and no numbers that JSON lacks, so making it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The log document as a tree, for plugins that change members.
    pub fn to_doc(&self) -> Doc {
        match serde_json::to_value(self) {
            Ok(Value::Object(doc)) => doc,
            Ok(_) | Err(_) => Doc::new(),
        }
    }

    /// The parts that an HTTP exchange has; `None` for a stream session.
    pub fn http(&self) -> Option<&LoggedHttp> {
        match &self.traffic {
            LoggedTraffic::Http(http) => Some(http),
            LoggedTraffic::Stream(_) => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
