//! The request on its way to the upstream, as far as it differs from the one that the client sent.

use bytes::Bytes;
use http::{HeaderValue, Method};

use crate::http1::edits::HeaderEdits;

/// Changes by plugins. `None`: as the client sent it.
#[derive(Debug, Default)]
pub struct Upward {
    pub method: Option<Method>,
    /// The whole path, in place of the service's path and the rest of the request's; percent-encoded where it must be.
    pub path: Option<Vec<u8>>,
    /// The query string; empty: none.
    pub query: Option<String>,
    /// `Host`, in place of the target's.
    pub host: Option<HeaderValue>,
    pub headers: HeaderEdits,
    /// The whole body. Only for a request whose body was shown.
    pub body: Option<Bytes>,
}

impl Upward {
    /// Makes it the original request again.
    pub fn clear(&mut self) {
        self.headers.clear();
        (self.method, self.path, self.query, self.host, self.body) = (None, None, None, None, None);
    }
}
