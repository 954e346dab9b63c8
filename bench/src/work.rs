//! What is compared: the works, each with its requests.

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
    /// Bodies of [`UPLOAD_LEN`].
    Upload,
    ConnectionPerRequest,
}

pub const WORKS: [Work; 7] = [
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
    Work { name: "big", title: "answers of 1 MiB", kind: Kind::Plain, answer_len: 1 << 20, connections: 16 },
    Work { name: "upload", title: "POST of 64 KiB", kind: Kind::Upload, answer_len: 1024, connections: 32 },
    Work {
        name: "connect",
        title: "a connection per request",
        kind: Kind::ConnectionPerRequest,
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
const UPLOAD_LEN: usize = 64 * 1024;
/// Different requests that are sent in turn in the work of many routes.
const DIFFERENT: usize = 1_000;

impl Work {
    /// The requests as they are sent over HTTP/1.1.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        match self.kind {
            Kind::Plain | Kind::Http2 => vec![request("GET", "/plain/x", "", 0)],
            Kind::Limited => vec![request("GET", "/limited/x", &format!("apikey: {KEY}\r\n"), 0)],
            // 7,919 is prime, so neighbours in the list are far apart in the configuration.
            Kind::Routes => (0..DIFFERENT).map(|step| among_routes(step * 7_919 % ROUTES)).collect(),
            Kind::Upload => vec![request("POST", "/plain/x", "Content-Type: text/plain\r\n", UPLOAD_LEN)],
            Kind::ConnectionPerRequest => vec![request("GET", "/plain/x", "Connection: close\r\n", 0)],
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
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\nAccept: */*\r\n{headers}{length}\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + body_len, b'x');
    bytes
}
