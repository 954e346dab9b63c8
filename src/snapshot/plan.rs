//! What a matched request does, precomputed: plain typed facts, no documents.

use std::sync::Arc;

use http::StatusCode;
use uuid::Uuid;

use crate::plugin::chain::Chain;

/// What a matched request does.
#[derive(Clone)]
pub struct Plan {
    pub route_id: Uuid,
    pub route_name: Option<Box<str>>,
    pub protocols: Protocols,
    /// What a plain request gets when `protocols.https_only()`: 426, or a redirect to https.
    pub https_redirect_status_code: StatusCode,
    pub strip_path: bool,
    pub preserve_host: bool,
    pub request_buffering: bool,
    pub response_buffering: bool,
    /// `None`: answered 503 after the plugins.
    pub service: Option<Arc<Destination>>,
    pub chain: Arc<Chain>,
    /// Set when a piece could not be built; every request of this route is then answered 500. The text is for the
    /// log. (A plugin instance that could not be built fails in the chain instead, when it is its turn.)
    pub problem: Option<Box<str>>,
}

/// The protocols of a route, as far as HTTP goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protocols {
    pub http: bool,
    pub https: bool,
    pub grpc: bool,
    pub grpcs: bool,
}

impl Protocols {
    pub fn from_names(names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|other| other == name);
        Self { http: has("http"), https: has("https"), grpc: has("grpc"), grpcs: has("grpcs") }
    }

    /// Plain requests are answered `https_redirect_status_code`.
    pub fn https_only(self) -> bool {
        self.https && !self.http
    }

    /// Requests have to be gRPC.
    pub fn any_grpc(self) -> bool {
        self.grpc || self.grpcs
    }

    /// No HTTP at all: a stream route, which takes no part in HTTP routing.
    pub fn none(self) -> bool {
        self == Self::default()
    }
}

/// What the requests of a service are sent to. Each try chooses a target in it, and the target decides `Host`, TLS name and
/// address.
#[derive(Debug, PartialEq, Eq)]
pub enum Backend {
    /// A host name or address.
    Host { host: Box<str>, port: u16 },
    /// Hosts and ports that take turns.
    Group(Box<[(Box<str>, u16)]>),
}

/// Where the requests of a service go.
#[derive(Debug)]
pub struct Destination {
    pub id: Uuid,
    pub name: Option<Box<str>>,
    /// `https` or `grpcs`.
    pub tls: bool,
    /// `grpc` or `grpcs`.
    pub grpc: bool,
    pub backend: Backend,
    pub path: Option<Box<str>>,
    /// Tries after the first.
    pub retries: u32,
    pub connect_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub read_timeout_ms: u64,
    /// `None`: as the node is set.
    pub tls_verify: Option<bool>,
    pub tls_verify_depth: Option<u32>,
}
