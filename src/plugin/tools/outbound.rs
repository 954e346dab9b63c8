//! Calls of plugins to other machines: HTTP/1.1 requests, bytes over TCP or TLS, and datagrams.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};

/// Longest body of a reply in bytes that a call reads unless it says otherwise.
const BODY_MAX: usize = 1024 * 1024;

/// Makes the calls of plugins. The number of calls in progress and of those that wait for their turn is bounded
/// (`OutboundError::Busy`). Nothing is tried again: that is up to the plugin or its queue.
pub trait Outbound: Send + Sync {
    /// Sends a request and reads the whole reply. Redirects are not followed.
    fn http(&self, call: HttpCall) -> BoxFuture<'static, Result<HttpReply, OutboundError>>;

    /// Connects, or takes a kept connection, and writes `data`. Nothing is read. `Ok`: the kernel has taken all bytes.
    fn tcp(&self, send: TcpSend) -> BoxFuture<'static, Result<(), OutboundError>>;

    /// Sends each of `datagrams` from one socket. `Ok`: the kernel has taken all of them.
    fn udp(&self, send: UdpSend) -> BoxFuture<'static, Result<(), OutboundError>>;
}

/// The far end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub host: Arc<str>,
    pub port: u16,
    pub security: Security,
}

/// Whether and how a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    Plain,
    /// TLS 1.2 or 1.3.
    Tls {
        /// Whether the certificate must be valid for `server_name` or the host, and of a trusted authority: one of the
        /// system's, or of `lua_ssl_trusted_certificate`.
        verify: bool,
        /// Server name to send in place of the host.
        server_name: Option<Arc<str>>,
    },
}

impl Peer {
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.into(), port, security: Security::Plain }
    }

    pub fn tls(host: &str, port: u16, verify: bool) -> Self {
        Self { host: host.into(), port, security: Security::Tls { verify, server_name: None } }
    }
}

/// `HOST:PORT`, as error messages name a peer.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// An HTTP/1.1 request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCall {
    pub peer: Peer,
    pub method: Method,
    /// Path and query as they go over the wire; begins with `/`.
    pub target: String,
    /// `Host`, `User-Agent` and `Content-Length` are added where they are absent.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// For name resolution, connecting, and the TLS handshake together.
    pub connect_timeout: Duration,
    /// For sending the request and reading the whole reply.
    pub timeout: Duration,
    /// How long the connection is kept for a further call; zero: not at all.
    pub keepalive: Duration,
    /// Longest body of the reply in bytes; a longer one is `OutboundError::ReplyTooLarge`.
    pub body_max: usize,
}

impl HttpCall {
    /// A request without a body, with timeouts of ten seconds, whose connection is kept for a minute: the defaults of
    /// Kong's http-log.
    pub fn get(peer: Peer, target: impl Into<String>) -> Self {
        Self {
            peer,
            method: Method::GET,
            target: target.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            keepalive: Duration::from_secs(60),
            body_max: BODY_MAX,
        }
    }

    /// The same with a body.
    pub fn post(peer: Peer, target: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(peer, target) }
    }
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Bytes for a TCP or TLS peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSend {
    pub peer: Peer,
    pub data: Bytes,
    /// For connecting, and again for writing.
    pub timeout: Duration,
    /// How long the connection is kept for a further send; zero: not at all.
    pub keepalive: Duration,
}

/// Datagrams for one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpSend {
    pub host: Arc<str>,
    pub port: u16,
    pub datagrams: Vec<Bytes>,
    /// For name resolution and sending together.
    pub timeout: Duration,
}

/// Why a call failed. The text names the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboundError {
    /// The call cannot be made as it stands: a host or header that is not valid. Trying again does not help.
    Invalid(String),
    /// Too many calls are in progress and waiting. Nothing was sent.
    Busy,
    /// The node is not running, or stops.
    Stopped(&'static str),
    /// The name has no address, or looking it up failed. Nothing was sent.
    Resolve { peer: String, why: String },
    /// No connection came about. Nothing was sent.
    Connect { peer: String, why: String },
    /// The TLS handshake failed. Nothing was sent.
    Handshake { peer: String, why: String },
    /// Time was up while connecting. Nothing was sent.
    ConnectTimeout { peer: String },
    /// Time was up while sending or while waiting for the reply: the peer may have the request.
    Timeout { peer: String },
    /// The connection broke while sending or before the reply was complete: the peer may have the request.
    Broken { peer: String, why: String },
    /// The body of the reply is longer than `body_max`.
    ReplyTooLarge { peer: String, body_max: usize },
}

impl OutboundError {
    /// Whether the peer may have got the data although the call failed.
    pub fn may_have_arrived(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Broken { .. } | Self::ReplyTooLarge { .. } => true,
            Self::Invalid(_)
            | Self::Busy
            | Self::Stopped(_)
            | Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Handshake { .. }
            | Self::ConnectTimeout { .. } => false,
        }
    }

    pub fn connect(peer: &Peer, error: &io::Error) -> Self {
        Self::Connect { peer: peer.to_string(), why: error.to_string() }
    }

    pub fn broken(peer: &Peer, error: &dyn fmt::Display) -> Self {
        Self::Broken { peer: peer.to_string(), why: error.to_string() }
    }
}

impl fmt::Display for OutboundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "the call is not valid: {why}"),
            Self::Busy => f.write_str("the call was not made: too many calls are in progress"),
            Self::Stopped(why) => write!(f, "the call was not made: {why}"),
            Self::Resolve { peer, why } => write!(f, "failed to resolve {peer}: {why}"),
            Self::Connect { peer, why } => write!(f, "failed to connect to {peer}: {why}"),
            Self::Handshake { peer, why } => write!(f, "failed to perform TLS handshake to {peer}: {why}"),
            Self::ConnectTimeout { peer } => write!(f, "failed to connect to {peer}: timeout"),
            Self::Timeout { peer } => write!(f, "failed request to {peer}: timeout"),
            Self::Broken { peer, why } => write!(f, "failed request to {peer}: {why}"),
            Self::ReplyTooLarge { peer, body_max } => {
                write!(f, "failed request to {peer}: the reply is longer than {body_max} bytes")
            }
        }
    }
}

impl std::error::Error for OutboundError {}
