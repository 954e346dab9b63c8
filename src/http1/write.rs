//! Writes heads. A name keeps the spelling in which it arrived; a name of ours is capitalised for clients and lower case
//! for upstreams.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use crate::http1::added::AddedHeaders;
use crate::http1::edits::HeaderEdits;
use crate::http1::fields::HopByHop;
use crate::http1::name::{capitalise, mark};
use crate::http1::spelling::Spelling;

/// The headers of a request on its way to an upstream.
#[derive(Clone, Copy)]
pub struct RequestHeaders<'a, 'v> {
    pub map: &'a HeaderMap,
    pub spelling: &'a Spelling,
    /// Not written.
    pub hop_by_hop: &'a HopByHop,
    /// Changes by plugins.
    pub edits: &'a HeaderEdits,
    /// Headers of the gateway; they replace all others.
    pub added: &'a AddedHeaders<'v>,
}

/// The headers of a response on its way to a client.
#[derive(Clone, Copy)]
pub struct ResponseHeaders<'a, 'v> {
    pub map: &'a HeaderMap,
    pub spelling: &'a Spelling,
    pub added: &'a AddedHeaders<'v>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Letters {
    Lower,
    Capitalised,
}

/// Writes `METHOD TARGET HTTP/1.1`, `Host`, and then the headers. `target` appends the request target.
pub fn write_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: impl FnOnce(&mut Vec<u8>),
    host: &HeaderValue,
    headers: RequestHeaders<'_, '_>,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    target(out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_line(out, b"host", host.as_bytes());
    let RequestHeaders { map, spelling, hop_by_hop, edits, added } = headers;
    let (mut at, marks) = (0, hop_by_hop.marks() | edits.marks() | added.marks());
    for (name, value) in map {
        let mark = mark(name.as_str().as_bytes());
        let is_left_out =
            || added.replaces(name, mark) || hop_by_hop.contains(name, mark) || edits.replaces(name, mark);
        if marks & mark == 0 || !is_left_out() {
            write_field(out, (name, mark), value, (spelling, &mut at), Letters::Lower);
        }
    }
    for (name, value) in edits.lines() {
        if !added.replaces(name, mark(name.as_str().as_bytes())) {
            write_line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    for (name, value) in added.lines() {
        write_line(out, name.lower.as_bytes(), value);
    }
}

/// Writes `HTTP/1.1 STATUS REASON` and the headers. An empty reason is the status's own.
pub fn write_response(out: &mut Vec<u8>, status: StatusCode, reason: &[u8], headers: ResponseHeaders<'_, '_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let own = || status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(if reason.is_empty() { own() } else { reason });
    out.extend_from_slice(b"\r\n");
    let ResponseHeaders { map, spelling, added } = headers;
    let mut at = 0;
    for (name, value) in map {
        let mark = mark(name.as_str().as_bytes());
        if !added.replaces(name, mark) {
            write_field(out, (name, mark), value, (spelling, &mut at), Letters::Capitalised);
        }
    }
    for (name, value) in added.lines() {
        write_line(out, name.capitalised.as_bytes(), value);
    }
}

/// Writes the field lines that follow a last chunk, and the empty line.
pub fn write_trailers(out: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        write_line(out, name.as_str().as_bytes(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes one header line.
pub fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_field(
    out: &mut Vec<u8>,
    (name, mark): (&HeaderName, u64),
    value: &HeaderValue,
    (spelling, at): (&Spelling, &mut usize),
    letters: Letters,
) {
    let lower = name.as_str().as_bytes();
    match spelling.of(lower, mark, at) {
        Some(spelled) => write_line(out, spelled, value.as_bytes()),
        None => {
            let start = out.len();
            write_line(out, lower, value.as_bytes());
            if letters == Letters::Capitalised {
                capitalise(&mut out[start..start + lower.len()]);
            }
        }
    }
}
