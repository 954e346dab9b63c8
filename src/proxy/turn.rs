//! What one request is, from its first step to its last.
//!
//! Made once, when the request comes: the clock is read here, and what later steps need of headers that go to the
//! upstream is kept here.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::request::Parts;
use http::{Method, Version};

use crate::proxy::connection::Connection;
use crate::proxy::error_body::Asked;
use crate::proxy::hop::Wishes;
use crate::proxy::names::DEBUG;
use crate::proxy::record::Record;
use crate::proxy::request_id::RequestId;

/// One request's facts.
pub struct Turn {
    pub connection: Rc<Connection>,
    pub record: Record,
    pub id: RequestId,
    pub started: Instant,
    /// Unix milliseconds.
    pub now_ms: u64,
    pub version: Version,
    /// HEAD: the answer's body is not sent.
    pub head_only: bool,
    pub asked: Asked,
    pub client_ip: IpAddr,
    /// The TCP peer may say whom it speaks for.
    pub trusted: bool,
    pub wishes: Wishes,
    /// `Kong-Debug` was sent and is heeded.
    pub debug: bool,
}

impl Turn {
    pub fn begin(connection: Rc<Connection>, head: &Parts) -> Self {
        let (started, now) = (Instant::now(), SystemTime::now());
        let worker = &connection.worker;
        let id = worker.ids.next();
        let client_ip = worker.real_ip.resolve(connection.peer_ip, connection.proxied_ip, &head.headers);
        Self {
            id,
            started,
            now_ms: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            version: head.version,
            head_only: head.method == Method::HEAD,
            asked: Asked::by(&head.headers),
            client_ip,
            trusted: worker.real_ip.trusts(connection.peer_ip),
            wishes: Wishes::default(),
            debug: worker.options.allow_debug_header && head.headers.contains_key(&DEBUG.header),
            record: Record::open(Rc::clone(&connection), head, client_ip, id, now),
            connection,
        }
    }

    /// gRPC, by the request's own word and HTTP/2.
    pub fn is_grpc(&self) -> bool {
        self.version == Version::HTTP_2 && self.asked.is_grpc()
    }
}
