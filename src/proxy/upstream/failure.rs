//! Outcomes of the upstream side.

use std::borrow::Cow;
use std::fmt;
use std::time::Instant;

use crate::proxy::upstream::body_source::ClientFault;

/// When things happened.
#[derive(Clone, Copy)]
pub struct Timing {
    /// End of the last choice of an address.
    pub balanced_at: Instant,
    /// First byte of the response, or the failure of the last try.
    pub answered_at: Instant,
    pub tries: u32,
}

/// For logs, where instants are unreadable.
impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waited_ms = self.answered_at.saturating_duration_since(self.balanced_at).as_millis();
        f.debug_struct("Timing").field("tries", &self.tries).field("waited_ms", &waited_ms).finish()
    }
}

/// Why there is no response from an upstream.
#[derive(Debug)]
pub enum Failure {
    /// The name does not exist, or has no address: 503 `name resolution failed`, no upstream was tried.
    NameNotFound,
    /// Any other failure of the first resolution: 500.
    Resolve { host: String, why: String },
    /// Refused, reset, handshake or verification failed, or no HTTP: 502 after all tries.
    BadAnswer { why: Cow<'static, str>, timing: Timing },
    /// Connecting, sending or reading took too long: 504 after all tries.
    Timeout { timing: Timing },
    /// The client's body ended the exchange, or the client left.
    Client(ClientFault),
}

/// Why the body of a response ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// The upstream sent nothing for longer than the read timeout.
    Timeout,
    /// The connection was closed or reset, or the framing is invalid.
    Broken(Cow<'static, str>),
    /// A plugin that streams the body failed.
    Plugin(Cow<'static, str>),
    /// The client broke off its own body meanwhile.
    Client(ClientFault),
}

impl fmt::Display for ResponseFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("read timeout"),
            Self::Broken(why) | Self::Plugin(why) => f.write_str(why),
            Self::Client(fault) => write!(f, "request body: {fault:?}"),
        }
    }
}

impl std::error::Error for ResponseFault {}
