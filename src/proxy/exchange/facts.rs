//! What one request is, from its first step to its last. Determined once, when its head has arrived; the clock is read here.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{Method, Version};

use crate::http1::fields::RequestFields;
use crate::http1::request::RequestHead;
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::error_body;
use crate::proxy::exchange::request_id::RequestId;
use crate::proxy::names::DEBUG;

/// One request's facts.
pub struct ExchangeFacts {
    pub connection: Rc<Connection>,
    pub id: RequestId,
    pub started: Instant,
    pub started_at: SystemTime,
    /// Unix milliseconds.
    pub now_ms: u64,
    pub version: Version,
    /// HEAD: the response's body is not sent.
    pub head_only: bool,
    pub client_ip: IpAddr,
    /// The TCP peer may say whom it speaks for.
    pub trusted: bool,
    pub fields: RequestFields,
    /// `Kong-Debug` was sent and is allowed.
    pub debug: bool,
    /// gRPC: the content type says so, over HTTP/2.
    pub grpc: bool,
}

impl ExchangeFacts {
    /// `fields`: of `head`.
    pub fn new(connection: Rc<Connection>, head: &RequestHead, fields: RequestFields) -> Self {
        let (started, started_at) = (Instant::now(), SystemTime::now());
        let worker = &connection.worker;
        Self {
            id: worker.ids.next(),
            started,
            started_at,
            now_ms: started_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
            version: head.version,
            head_only: head.method == Method::HEAD,
            client_ip: worker.real_ip.resolve(connection.peer_ip, connection.proxied_ip, &head.headers),
            trusted: worker.real_ip.trusts(connection.peer_ip),
            fields,
            debug: worker.options.allow_debug_header && head.headers.contains_key(&DEBUG.header),
            grpc: head.version == Version::HTTP_2 && error_body::is_grpc(&head.headers),
            connection,
        }
    }

    /// Whether the connection ends with this exchange: the client wants that, or has had its share of requests, or the node
    /// stops.
    pub fn is_last(&self) -> bool {
        self.fields.closes(self.version) || self.connection.is_spent() || self.connection.worker.stop.is_asked()
    }
}
