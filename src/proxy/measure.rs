//! A door for `tidegate-bench-micro`: what the lean path does with a request's head, without a connection.
//!
//! The steps and their order are those of `lean::exchange` and `pipeline`, by the same functions, for a route without
//! plugins that strips its path; a test holds it against what a node sends. Serving over sockets in the benchmark lost:
//! instructions then count the runtime and the poll of the moment, and do not repeat.

use std::net::{IpAddr, Ipv4Addr};

use http::header::HeaderValue;

use crate::entity::path;
use crate::proxy::admission::admit;
use crate::proxy::forward::{self, Facts};
use crate::proxy::gained::Gained;
use crate::proxy::hop;
use crate::proxy::lean::fit::fit;
use crate::proxy::lean::head::{self, Found, Headers, RequestHead};
use crate::proxy::request_id::RequestId;
use crate::proxy::upstream_path::{self, Request, Target};

/// Takes heads of requests and writes those for the upstream; its memory is used again, as a connection's is.
pub struct Desk {
    peer: HeaderValue,
    port: HeaderValue,
    via: HeaderValue,
    request_id: RequestId,
    upstream: HeaderValue,
    head: RequestHead,
    out: Vec<u8>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            peer: HeaderValue::from_static("127.0.0.1"),
            port: HeaderValue::from_static("8000"),
            via: HeaderValue::from_static("1.1 tidegate/0.1.0"),
            request_id: RequestId(*b"0123456789abcdef0123456789abcdef"),
            upstream: HeaderValue::from_static("origin.test"),
            head: RequestHead::default(),
            out: Vec::new(),
        }
    }
}

impl Desk {
    /// The head that goes up for this one, when the route's path is `stripped_len` bytes long. `None`: it is not for the
    /// lean path, or is refused.
    pub fn forward(&mut self, bytes: &[u8], stripped_len: usize) -> Option<&[u8]> {
        let Found::Head(_) = head::request(bytes, &mut self.head) else { return None };
        let RequestHead { parts: head, spelling, .. } = &mut self.head;
        fit(head, 0).ok()?;
        let host = admit(head).ok()?;
        let path = path::normalise(head.uri.path());
        let wishes = hop::strip_request(&mut head.headers);
        let request = Request { sent: head.uri.path_and_query(), path: &path, matched_len: stripped_len, query: None };
        let target = Target::new(None, true, request)?;
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let facts = Facts {
            trusted: false,
            peer: &self.peer,
            peer_ip: localhost,
            client_ip: localhost,
            tls: false,
            port: &self.port,
            host: host.value(),
            path: head.uri.path(),
            prefix: upstream_path::stripped(true, &path, stripped_len),
            via: &self.via,
            request_id: Some(&self.request_id),
            wishes,
        };
        let mut gained = Gained::default();
        forward::tell(&mut gained, &head.headers, &facts);
        self.out.clear();
        let headers = Headers { map: &head.headers, spelling, gained: &gained };
        head::write_request(&mut self.out, &head.method, &target, &self.upstream, headers);
        self.out.extend_from_slice(b"\r\n");
        drop(gained);
        self.head.clear();
        Some(&self.out)
    }
}
