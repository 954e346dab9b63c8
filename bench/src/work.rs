//! What is compared: the works, each with its requests.

use crate::message::push_chunked;
use crate::wire::Wire;

/// A work. Peers see it as the requests that come; what tidegate does with them is in its own configuration.
pub struct Work {
    /// For the command line and the raw results.
    pub name: &'static str,
    pub title: &'static str,
    pub kind: Kind,
    pub answer_len: usize,
    pub connections: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// key-auth and rate-limiting with policy `cluster`, on a node that is a cluster of its own.
    Limited,
    /// The same among [`ROUTES`] routes.
    Routes,
    /// TLS and HTTP/2 from the client.
    Http2,
    /// POST with a body of that many bytes and `Content-Length`.
    Upload(usize),
    /// POST with a body of that many bytes in chunks of [`CHUNK_LEN`].
    ChunkedUpload(usize),
    /// Answers in chunks of [`CHUNK_LEN`].
    ChunkedAnswer,
    ConnectionPerRequest,
    /// HTTP/1.0 without `Connection: keep-alive`: a connection per request, which the gateway closes.
    Http10,
    /// HTTP/1.0 with `Connection: keep-alive`.
    Http10KeepAlive,
}

pub const WORKS: [Work; 12] = [
    Work { name: "plain", title: "plain route", kind: Kind::Plain, answer_len: 1024, connections: 64 },
    Work {
        name: "limited",
        title: "key-auth + rate-limiting, policy cluster",
        kind: Kind::Limited,
        answer_len: 1024,
        connections: 64,
    },
    Work {
        name: "routes",
        title: "the same among 10,000 routes",
        kind: Kind::Routes,
        answer_len: 1024,
        connections: 64,
    },
    Work { name: "h2", title: "TLS + HTTP/2 from the client", kind: Kind::Http2, answer_len: 1024, connections: 16 },
    Work { name: "big", title: "answers of 1 MiB", kind: Kind::Plain, answer_len: MIB, connections: 16 },
    Work { name: "upload", title: "POST of 64 KiB", kind: Kind::Upload(64 * 1024), answer_len: 1024, connections: 32 },
    Work {
        name: "chunked-64k",
        title: "POST of 64 KiB in chunks of 16 KiB",
        kind: Kind::ChunkedUpload(64 * 1024),
        answer_len: 1024,
        connections: 32,
    },
    Work {
        name: "chunked-1m",
        title: "POST of 1 MiB in chunks of 16 KiB",
        kind: Kind::ChunkedUpload(MIB),
        answer_len: 1024,
        connections: 16,
    },
    Work {
        name: "chunked-answer",
        title: "answers of 1 MiB in chunks of 16 KiB",
        kind: Kind::ChunkedAnswer,
        answer_len: MIB,
        connections: 16,
    },
    Work {
        name: "connect",
        title: "a connection per request",
        kind: Kind::ConnectionPerRequest,
        answer_len: 1024,
        connections: 64,
    },
    Work {
        name: "http10",
        title: "HTTP/1.0, a connection per request",
        kind: Kind::Http10,
        answer_len: 1024,
        connections: 64,
    },
    Work {
        name: "http10-keep",
        title: "HTTP/1.0 with keep-alive",
        kind: Kind::Http10KeepAlive,
        answer_len: 1024,
        connections: 64,
    },
];

/// Routes of tidegate in that work. Half are told apart by path, half by a header on one of [`SHARED`] paths.
pub const ROUTES: usize = 10_000;
pub const SHARED: usize = 500;
/// Rules that the other peers have in that work: half of each sort, beside one for everything else.
pub const RULES: usize = 10;
/// The key of the one consumer.
pub const KEY: &str = "bench-key";
/// Bytes in a chunk, of requests and of answers.
pub const CHUNK_LEN: usize = 16 * 1024;
const MIB: usize = 1 << 20;
/// Different requests that are sent in turn in the work of many routes.
const DIFFERENT: usize = 1_000;

impl Work {
    /// The requests as they are sent over HTTP/1.1.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        match self.kind {
            Kind::Plain | Kind::Http2 | Kind::ChunkedAnswer => vec![request("GET", "/plain/x", "", 0)],
            Kind::Limited => vec![request("GET", "/limited/x", &format!("apikey: {KEY}\r\n"), 0)],
            // 7,919 is prime, so neighbours in the list are far apart in the configuration.
            Kind::Routes => (0..DIFFERENT).map(|step| among_routes(step * 7_919 % ROUTES)).collect(),
            Kind::Upload(body_len) => vec![request("POST", "/plain/x", "Content-Type: text/plain\r\n", body_len)],
            Kind::ChunkedUpload(body_len) => vec![chunked_request(body_len)],
            Kind::ConnectionPerRequest => vec![request("GET", "/plain/x", "Connection: close\r\n", 0)],
            Kind::Http10 => vec![head("GET", "/plain/x", "HTTP/1.0", "")],
            Kind::Http10KeepAlive => vec![head("GET", "/plain/x", "HTTP/1.0", "Connection: keep-alive\r\n")],
        }
    }

    /// Whether each request gets a connection of its own, which the gateway closes.
    pub fn connection_per_request(&self) -> bool {
        matches!(self.kind, Kind::ConnectionPerRequest | Kind::Http10)
    }

    /// Whether only `Connection: keep-alive` in an answer keeps a connection open.
    pub fn keep_alive_by_field(&self) -> bool {
        self.kind == Kind::Http10KeepAlive
    }

    /// Sets the backend's answers.
    pub fn set_answer(&self, wire: &mut Wire) {
        match self.kind {
            Kind::ChunkedAnswer => wire.answer_in_chunks(self.answer_len, CHUNK_LEN),
            _ => wire.answer_with(self.answer_len),
        }
    }
}

/// Path prefix of the route `n`, when it is told apart by path.
pub fn prefix(n: usize) -> String {
    format!("/tenant-{n}/api")
}

/// Value of the header `x-tenant` of the route `n`, when it is told apart by that.
pub fn tenant(n: usize) -> String {
    format!("t{n}")
}

fn among_routes(n: usize) -> Vec<u8> {
    let key = format!("apikey: {KEY}\r\n");
    if n.is_multiple_of(2) {
        request("GET", &format!("{}/items/7", prefix(n)), &key, 0)
    } else {
        request("GET", &format!("/shared-{}/x", n % SHARED), &format!("{key}x-tenant: {}\r\n", tenant(n)), 0)
    }
}

fn request(method: &str, path: &str, headers: &str, body_len: usize) -> Vec<u8> {
    let length = if body_len > 0 { format!("Content-Length: {body_len}\r\n") } else { String::new() };
    let mut bytes = head(method, path, "HTTP/1.1", &format!("{headers}{length}"));
    bytes.resize(bytes.len() + body_len, b'x');
    bytes
}

/// A POST with a chunked body of `body_len` bytes.
pub fn chunked_request(body_len: usize) -> Vec<u8> {
    let headers = "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n";
    let mut bytes = head("POST", "/plain/x", "HTTP/1.1", headers);
    push_chunked(&mut bytes, body_len, CHUNK_LEN);
    bytes
}

fn head(method: &str, path: &str, version: &str, headers: &str) -> Vec<u8> {
    let lines = "Host: bench.test\r\nUser-Agent: bench\r\nAccept: */*\r\n";
    format!("{method} {path} {version}\r\n{lines}{headers}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    #[test]
    fn every_request_is_one_complete_message_with_the_body_of_its_work() {
        for work in &WORKS {
            let body_len = match work.kind {
                Kind::Upload(len) | Kind::ChunkedUpload(len) => len,
                _ => 0,
            };
            for request in work.requests() {
                let mut message = Message::default();
                assert_eq!(message.take(&request), Some(true), "{}", work.name);
                assert_eq!(message.body_len, body_len, "{}", work.name);
            }
        }
    }
}
