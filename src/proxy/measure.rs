//! A door for `tidegate-bench-micro`: the steps of an exchange that deal with a request's head, without a connection.
//!
//! The steps and their order are those of `exchange::steps`, by the same functions, for a route without plugins that strips
//! its path; a test compares the result with what a node sends. Rejected: sockets in the benchmark. Instructions then include
//! the runtime, and do not repeat.

use std::net::{IpAddr, Ipv4Addr};

use http::Version;
use http::header::HeaderValue;

use crate::entity::path;
use crate::http1::added::AddedHeaders;
use crate::http1::edits::HeaderEdits;
use crate::http1::fields::{HopByHop, RequestFields};
use crate::http1::request::{HeadScan, RequestHead};
use crate::http1::write::{RequestHeaders, write_request};
use crate::http1::{HeadLimits, Parsed};
use crate::proxy::exchange::admission::admit;
use crate::proxy::exchange::forwarded::{ForwardedFacts, add_forwarded};
use crate::proxy::exchange::request_id::RequestId;
use crate::proxy::exchange::upstream_path::{self, RequestPath, UpstreamPath};

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
    /// The head that goes up for this one, when the route's path is `stripped_len` bytes long. `None`: it is refused.
    pub fn forward(&mut self, bytes: &[u8], stripped_len: usize) -> Option<&[u8]> {
        let Parsed::Head(_) = self.head.parse(bytes, &HeadLimits::default(), &mut HeadScan::default()) else {
            return None;
        };
        let head = &self.head;
        // The next head replaces it.
        let fields = RequestFields::read(&head.headers, head.version).ok()?;
        let host = admit(head, fields.hosts).ok().filter(|_| head.version == Version::HTTP_11)?;
        let path = path::normalise(head.target.path());
        let request_path = RequestPath {
            path: &path,
            matched_len: stripped_len,
            replaced: None,
            query: head.target.query(),
            is_query_replaced: false,
        };
        let target = UpstreamPath::new(None, true, request_path)?;
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let hop_by_hop = HopByHop::of(&head.headers, &fields);
        let mut added = AddedHeaders::default();
        add_forwarded(
            &mut added,
            &head.headers,
            &ForwardedFacts {
                trusted: false,
                peer: &self.peer,
                peer_ip: localhost,
                client_ip: localhost,
                tls: false,
                port: &self.port,
                host: host.value(),
                path: head.target.path(),
                prefix: upstream_path::stripped(true, &path, stripped_len),
                via: &self.via,
                request_id: Some(&self.request_id),
                fields,
                hop_by_hop: &hop_by_hop,
            },
        );
        self.out.clear();
        let edits = HeaderEdits::default();
        let headers = RequestHeaders {
            map: &head.headers,
            spelling: &head.spelling,
            hop_by_hop: &hop_by_hop,
            edits: &edits,
            added: &added,
        };
        write_request(&mut self.out, &head.method, |out| target.write(out), &self.upstream, headers);
        self.out.extend_from_slice(b"\r\n");
        Some(&self.out)
    }
}
