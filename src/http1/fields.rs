//! What the fields of a request's head say about its body and its connection. One pass over all fields.

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use smallvec::SmallVec;

use crate::http1::framing::Framing;
use crate::http1::name::mark;
use crate::http1::{InvalidHead, digits};

/// The facts of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFields {
    /// `Content-Length` in bytes.
    pub content_length: Option<u64>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// Number of `Host` fields.
    pub hosts: usize,
    /// `Connection` lists `close`.
    pub close: bool,
    /// `Connection` lists `keep-alive`.
    pub keep_alive: bool,
    /// `Connection` lists other names than `keep-alive`, `close` and `upgrade`: these fields end here.
    pub names_fields: bool,
    /// `Upgrade: websocket`, in the first `Upgrade` field.
    pub websocket: bool,
    /// `TE` lists `trailers`.
    pub trailers: bool,
    /// `Expect: 100-continue`.
    pub expects_continue: bool,
}

impl RequestFields {
    /// Reads the fields of a request. Refused: what would let two readers disagree about where the body ends (RFC 9112 §6.1
    /// and §6.3; nginx refuses a length beside chunks as well).
    pub fn read(headers: &HeaderMap, version: Version) -> Result<Self, InvalidHead> {
        let (mut fields, mut upgrades) = (Self::default(), 0);
        for (name, value) in headers {
            match *name {
                HOST => fields.hosts += 1,
                CONTENT_LENGTH => {
                    let length = digits(value.as_bytes()).ok_or(InvalidHead::Malformed("invalid Content-Length"))?;
                    if fields.content_length.replace(length).is_some() {
                        return Err(InvalidHead::Malformed("more than one Content-Length"));
                    }
                }
                TRANSFER_ENCODING => {
                    let is_known = value.as_bytes().eq_ignore_ascii_case(b"chunked") && version == Version::HTTP_11;
                    if !is_known || std::mem::replace(&mut fields.chunked, true) {
                        return Err(InvalidHead::Malformed("unsupported Transfer-Encoding"));
                    }
                }
                CONNECTION => fields.read_connection(value),
                UPGRADE => {
                    fields.websocket |= upgrades == 0 && value.as_bytes().eq_ignore_ascii_case(b"websocket");
                    upgrades += 1;
                }
                TE => fields.trailers |= lists(value, b"trailers"),
                EXPECT => fields.expects_continue |= value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        if fields.chunked && fields.content_length.is_some() {
            return Err(InvalidHead::Malformed("Content-Length beside Transfer-Encoding"));
        }
        Ok(fields)
    }

    fn read_connection(&mut self, value: &HeaderValue) {
        for token in tokens(value) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !token.eq_ignore_ascii_case(b"upgrade") {
                self.names_fields = true;
            }
        }
    }

    /// How the body ends. A request without a length has none (RFC 9112 §6.3).
    pub fn framing(&self) -> Framing {
        match self.content_length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::None,
        }
    }

    /// Whether a body was announced, if only an empty one.
    pub fn announces_body(&self) -> bool {
        self.chunked || self.content_length.is_some()
    }

    /// Whether the client wants the connection to end after the response.
    pub fn closes(&self, version: Version) -> bool {
        self.close || (version < Version::HTTP_11 && !self.keep_alive)
    }
}

/// The fields of a request that end at this hop, and those that are generated anew (`kong/proxy.md` §4.3).
///
/// Kong: it removes them after the plugins ran, so a client can name `X-Consumer-ID` in `Connection` and have what
/// authentication wrote removed again. Here plugins' fields are not affected.
#[derive(Clone, Debug, Default)]
pub struct HopByHop {
    named: SmallVec<[HeaderName; 2]>,
    marks: u64,
}

/// Field names that never pass from a request of a client to an upstream.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

const HOP_BY_HOP_MARKS: u64 = {
    let (mut marks, mut at) = (0, 0);
    while at < HOP_BY_HOP.len() {
        marks |= mark(HOP_BY_HOP[at].as_bytes());
        at += 1;
    }
    marks
};

impl HopByHop {
    /// Of a request with these fields.
    pub fn of(headers: &HeaderMap, fields: &RequestFields) -> Self {
        let mut hop = Self { named: SmallVec::new(), marks: HOP_BY_HOP_MARKS };
        if fields.names_fields {
            let names = headers.get_all(CONNECTION).iter().flat_map(tokens);
            for name in names.filter_map(|token| HeaderName::from_bytes(token).ok()) {
                hop.marks |= mark(name.as_str().as_bytes());
                hop.named.push(name);
            }
        }
        hop
    }

    /// The marks of all names.
    pub fn marks(&self) -> u64 {
        self.marks
    }

    /// Whether a field stays behind. `mark`: the name's.
    pub fn contains(&self, name: &HeaderName, mark: u64) -> bool {
        self.marks & mark != 0 && (HOP_BY_HOP.contains(&name.as_str()) || self.named.contains(name))
    }
}

/// Whether a comma-separated list holds a token, whatever its case and parameters.
pub fn lists(value: &HeaderValue, token: &[u8]) -> bool {
    tokens(value).any(|found| {
        let bare = found.split(|&byte| byte == b';').next().unwrap_or_default();
        bare.trim_ascii().eq_ignore_ascii_case(token)
    })
}

/// The members of a comma-separated list.
pub fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
