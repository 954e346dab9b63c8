//! Connections to upstreams: addresses by DNS, keep-alive pools, TLS, timeouts, tries.
//!
//! One `Upstreams` per worker, used by that worker's thread only: pools, timers and turns are plain cells. Workers
//! share nothing here but the names they have resolved.

mod ask;
mod connect;
mod gate;
mod line;
mod line_body;
mod link;
mod place;
mod pool;
mod reply_body;
mod resolve;
mod rules;
#[cfg(test)]
mod tests;
mod tls;
mod tries;
mod upload;
mod wire;

pub use crate::proxy::upstream::ask::Question;
pub use crate::proxy::upstream::line::Line;
pub use crate::proxy::upstream::line_body::LineBody;
pub use crate::proxy::upstream::link::Limits;
pub use crate::proxy::upstream::place::Place;
pub use crate::proxy::upstream::reply_body::ReplyBody;
pub use crate::proxy::upstream::resolve::SharedNames;

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};

use crate::proxy::lean::deadline::Deadline;
use crate::proxy::lean::head::AnswerHead;

/// What the upstream side gets from the settings.
#[derive(Clone, Debug)]
pub struct Options {
    /// Idle connections kept per pool and worker; 0: none.
    pub keepalive_pool_size: usize,
    /// Requests per connection; 0: no limit.
    pub keepalive_max_requests: u64,
    /// Zero: never.
    pub keepalive_idle_timeout: Duration,
    /// PEM bundles beside the system's roots (`lua_ssl_trusted_certificate`), by path.
    pub trusted_certificates: Vec<std::path::PathBuf>,
    /// Name servers in place of the system's.
    pub dns_resolver: Vec<std::net::SocketAddr>,
    /// Overrides the TTL of every answer.
    pub dns_valid_ttl: Option<Duration>,
    /// How long an answer is used after its TTL while it cannot be renewed.
    pub dns_stale_ttl: Duration,
}

/// Where a service lives. Made once per service, when its snapshot is built or first used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    pub tls: bool,
    pub host: Box<str>,
    pub port: u16,
    pub connect_timeout: Duration,
    pub write_timeout: Duration,
    pub read_timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
    pub tls_verify: bool,
    pub tls_verify_depth: Option<u32>,
}

/// The body of a request on its way up. `replay` holds it whole when it is small enough to be sent again.
pub enum RequestBody {
    Empty,
    /// Buffered: can be sent again.
    Whole(Bytes, Option<HeaderMap>),
    /// Streamed: sent once. Ends with an error when the client misbehaves (`ClientFault`).
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = ClientFault>>>),
}

/// Why a client's body could not be read to its end.
#[derive(Debug)]
pub enum ClientFault {
    /// Longer than `client_max_body_size`.
    TooLarge,
    /// No byte for longer than the client is given.
    Timeout,
    /// Closed, or not HTTP.
    Broken(String),
}

/// A request ready to go, but for `Host`, which each try computes.
pub struct Outgoing {
    pub method: Method,
    /// Path and query, escaped.
    pub target: http::uri::PathAndQuery,
    /// Without `Host`, `Content-Length`, `Transfer-Encoding` and hop-by-hop headers.
    pub headers: HeaderMap,
    /// `preserve_host`: the client's Host header; else the origin's name is used.
    pub host: Option<HeaderValue>,
    pub body: RequestBody,
    /// Length of a streamed body, when the client stated one.
    pub content_length: Option<u64>,
    /// From the client's request: header case travels here.
    pub extensions: http::Extensions,
    /// The request asks for a switch of protocols.
    pub upgrade: bool,
}

/// An upstream's answer.
pub struct Reply {
    /// For a 101, `extensions` hold hyper's `OnUpgrade`.
    pub response: Response<ReplyBody>,
    pub timing: Timing,
}

/// When things happened.
#[derive(Clone, Copy)]
pub struct Timing {
    /// End of the last choice of an address.
    pub balanced_at: Instant,
    /// First byte of the answer, or the failure of the last try.
    pub answered_at: Instant,
    pub tries: u32,
}

/// For logs, where instants say nothing.
impl std::fmt::Debug for Timing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let waited_ms = self.answered_at.saturating_duration_since(self.balanced_at).as_millis();
        f.debug_struct("Timing").field("tries", &self.tries).field("waited_ms", &waited_ms).finish()
    }
}

/// Why the body of an answer ended before its end.
#[derive(Debug)]
pub enum ReplyFault {
    Timeout,
    Broken(String),
}

impl std::fmt::Display for ReplyFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("the upstream stopped sending"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ReplyFault {}

/// Why no answer came.
#[derive(Debug)]
pub enum Failure {
    /// The name does not exist, or has no address: 503 `name resolution failed`, no upstream was tried.
    NameNotFound,
    /// Any other failure of the first resolution: 500.
    Resolve { host: String, why: String },
    /// Refused, reset, handshake or verification failed, or no HTTP: 502 after all tries.
    BadAnswer { why: String, timing: Timing },
    /// Connecting, sending or reading took too long: 504 after all tries.
    Timeout { timing: Timing },
    /// The client's body broke the exchange.
    Client(ClientFault),
}

/// The upstream side of one worker.
pub struct Upstreams {
    places: place::Places,
    names: Rc<resolve::Names>,
    pool: Rc<pool::Pool<link::Link>>,
    lines: Rc<pool::Pool<Line>>,
    tls: tls::Tls,
}

impl Upstreams {
    /// Reads the roots and the resolver's configuration. Call on the worker's runtime.
    pub fn new(options: &Options) -> std::io::Result<Self> {
        Self::sharing(options, SharedNames::default())
    }

    /// The same, sharing what has been resolved with every worker that was given a clone of `names`.
    pub fn sharing(options: &Options, names: SharedNames) -> std::io::Result<Self> {
        Ok(Self {
            places: place::Places::default(),
            names: resolve::Names::new(options, names),
            pool: pool::Pool::new(options),
            lines: pool::Pool::new(options),
            tls: tls::Tls::new(&options.trusted_certificates)?,
        })
    }

    /// Sends, trying again as `kong/proxy.md` §7.1 says. Call it where tasks of this thread can be spawned:
    /// by such, names are renewed and idle connections closed.
    ///
    /// The future does all the work of its connection; dropping it, or the body of the reply, closes that.
    pub async fn send(&self, origin: &Origin, outgoing: Outgoing) -> Result<Reply, Failure> {
        tries::send(self, origin, outgoing).await
    }
    /// What is worked out once per origin.
    pub fn place(&self, origin: &Origin) -> Result<Rc<Place>, Failure> {
        self.places.find(origin).map_err(|why| Failure::Resolve { host: origin.host.to_string(), why })
    }

    /// Like `send`, for a request whose bytes are all there, over a connection that the caller reads the body from and
    /// gives to `keep` at its end. `deadline` is the caller's task's.
    pub async fn ask(
        &self,
        origin: &Origin,
        place: &Place,
        question: &Question<'_>,
        deadline: &mut Deadline,
    ) -> Result<(Box<AnswerHead>, Line, Timing), Failure> {
        let mut asking = ask::Asking { upstreams: self, origin, place, question, deadline };
        let ((head, line), timing) = tries::run(self, origin, place, &mut asking).await?;
        Ok((head, line, timing))
    }

    /// Takes back a connection after its exchange, for another.
    pub fn keep(&self, line: Line) {
        if line.is_kept() {
            self.lines.put(line);
        }
    }
}
