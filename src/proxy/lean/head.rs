//! Heads of HTTP/1 messages: from bytes to the types of the `http` crate, and back.
//!
//! The parser is the one that hyper uses, with the same strictness. Names keep the spelling in which they came, as on
//! the general path; a name of ours goes to clients capitalised and to upstreams in lower case.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version, request, response};
use httparse::{Header, Status};
use smallvec::SmallVec;

/// Header lines of a request; more are left to the general path.
const REQUEST_LINES: usize = 64;
/// Header lines of an answer. Kong bounds their bytes only, to 4 or 8 KiB, which few heads of so many lines would fit.
const ANSWER_LINES: usize = 128;

/// Header lines that an answer gains here at most, as a rule: a map that grows moves all that is in it.
const ADDED_LINES: usize = 16;

/// What was found at the beginning of some bytes.
#[derive(Debug)]
pub enum Found<T> {
    /// A head, and its bytes.
    Head(T, usize),
    /// The beginning of one.
    Part,
    /// Something else.
    Nothing(&'static str),
}

/// How the names of a head were spelled.
#[derive(Clone, Debug, Default)]
pub struct Spelling {
    text: Bytes,
    names: SmallVec<[(u16, u16); 24]>,
    /// The marks of all names.
    marks: u64,
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    pub parts: response::Parts,
    pub spelling: Spelling,
    /// As the upstream gave it.
    pub reason: Bytes,
}

/// The spelling of names that did not come from anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    Lower,
    Capitalised,
}

/// Reads a request's head. `map` is an empty map whose memory is used.
pub fn request(bytes: &[u8], map: HeaderMap) -> Found<(request::Parts, Spelling)> {
    let mut lines = [const { std::mem::MaybeUninit::uninit() }; REQUEST_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Found::Part,
        Err(_) => return Found::Nothing("not a head of HTTP/1"),
    };
    let text = Bytes::copy_from_slice(&bytes[..length]);
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let target = target.starts_with('/').then(|| text.slice(range(bytes, target.as_bytes())));
    let target = target.and_then(|target| PathAndQuery::from_maybe_shared(target).ok());
    let (Ok(method), Some(target)) = (Method::from_bytes(method.as_bytes()), target) else {
        return Found::Nothing("no plain request line");
    };
    let Some((headers, spelling)) = headers(bytes, text, parsed.headers, map) else {
        return Found::Nothing("no plain headers");
    };
    let mut parts = Request::new(()).into_parts().0;
    parts.method = method;
    parts.uri = Uri::from(target);
    parts.version = version(parsed.version);
    parts.headers = headers;
    Found::Head((parts, spelling), length)
}

/// Reads an answer's head. `map` is an empty map whose memory is used, and is left empty.
pub fn answer(bytes: &[u8], map: &mut HeaderMap) -> Found<AnswerHead> {
    let mut lines = [const { std::mem::MaybeUninit::uninit() }; ANSWER_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Found::Part,
        Err(_) => return Found::Nothing("not an answer of HTTP/1"),
    };
    let text = Bytes::copy_from_slice(&bytes[..length]);
    let reason = parsed.reason.map(|reason| text.slice(range(bytes, reason.as_bytes()))).unwrap_or_default();
    let Ok(status) = StatusCode::from_u16(parsed.code.unwrap_or_default()) else {
        return Found::Nothing("no status");
    };
    let mut map = std::mem::take(map);
    map.reserve(parsed.headers.len() + ADDED_LINES);
    let Some((headers, spelling)) = headers(bytes, text, parsed.headers, map) else {
        return Found::Nothing("no plain headers");
    };
    let mut parts = Response::new(()).into_parts().0;
    parts.status = status;
    parts.version = version(parsed.version);
    parts.headers = headers;
    Found::Head(AnswerHead { parts, spelling, reason }, length)
}

/// `None` when a line that the parser let through is none for the `http` crate.
fn headers(bytes: &[u8], text: Bytes, lines: &[Header<'_>], mut map: HeaderMap) -> Option<(HeaderMap, Spelling)> {
    let (mut names, mut marks) = (SmallVec::new(), 0);
    for line in lines {
        let place = range(bytes, line.name.as_bytes());
        names.push((u16::try_from(place.start).ok()?, u16::try_from(place.len()).ok()?));
        marks |= mark(line.name.as_bytes());
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(text.slice(range(bytes, line.value))).ok()?;
        map.try_append(name, value).ok()?;
    }
    Some((map, Spelling { text, names, marks }))
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Where `part`, which is borrowed from `whole`, stands in it.
fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()).min(whole.len());
    start..(start + part.len()).min(whole.len())
}

impl Spelling {
    /// The name as it came. `at` is where to begin looking; it is left behind what was found, because names are mostly
    /// asked for in their order.
    fn of(&self, name: &HeaderName, at: &mut usize) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        if self.marks & mark(name) == 0 {
            return None;
        }
        let (before, after) = self.names.split_at_checked(*at)?;
        for (step, &(start, length)) in after.iter().chain(before).enumerate() {
            let (start, length) = (usize::from(start), usize::from(length));
            let spelled = self.text.get(start..start + length)?;
            if length == name.len() && spelled.eq_ignore_ascii_case(name) {
                let place = *at + step;
                *at = if place < self.names.len() { place + 1 } else { place + 1 - self.names.len() };
                return Some(spelled);
            }
        }
        None
    }
}

/// A bit that equal names share, however they are spelled, and few others: most names of ours need no search.
fn mark(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, |first| first | 0x20);
    1 << ((name.len() + 29 * usize::from(first)) % 64)
}

/// Writes `METHOD TARGET HTTP/1.1`, `Host`, and then the headers.
pub fn write_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &PathAndQuery,
    host: &HeaderValue,
    headers: &HeaderMap,
    spelling: &Spelling,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_str().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_line(out, b"host", host.as_bytes());
    write_headers(out, headers, spelling, Letters::Lower);
}

/// Writes `HTTP/1.1 STATUS REASON` and the headers. An empty reason is the status's own.
pub fn write_answer(out: &mut Vec<u8>, status: StatusCode, reason: &[u8], headers: &HeaderMap, spelling: &Spelling) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let own = || status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(if reason.is_empty() { own() } else { reason });
    out.extend_from_slice(b"\r\n");
    write_headers(out, headers, spelling, Letters::Capitalised);
}

/// One header line.
pub fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_headers(out: &mut Vec<u8>, headers: &HeaderMap, spelling: &Spelling, letters: Letters) {
    let mut at = 0;
    for (name, value) in headers {
        match spelling.of(name, &mut at) {
            Some(spelled) => write_line(out, spelled, value.as_bytes()),
            None => {
                let start = out.len();
                write_line(out, name.as_str().as_bytes(), value.as_bytes());
                if letters == Letters::Capitalised {
                    capitalise(&mut out[start..start + name.as_str().len()]);
                }
            }
        }
    }
}

/// `x-real-ip` becomes `X-Real-Ip`.
fn capitalise(name: &mut [u8]) {
    let mut begins = true;
    for letter in name {
        if begins {
            letter.make_ascii_uppercase();
        }
        begins = *letter == b'-';
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> (request::Parts, Spelling, usize) {
        match request(text.as_bytes(), HeaderMap::new()) {
            Found::Head((parts, spelling), length) => (parts, spelling, length),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_head_goes_up_as_it_was_spelled() {
        let text = "GET /a%20b?c HTTP/1.1\r\nHOST: a\r\nX-MiXed: 1\r\nx-twice: 2\r\nX-TWICE: 3\r\n\r\nrest";
        let (mut parts, spelling, length) = read(text);
        assert_eq!(&text[length..], "rest");
        assert_eq!((parts.method.as_str(), parts.uri.to_string().as_str()), ("GET", "/a%20b?c"));
        let host = parts.headers.remove("host").unwrap();
        parts.headers.insert("x-ours", HeaderValue::from_static("4"));
        let mut out = Vec::new();
        write_request(&mut out, &parts.method, parts.uri.path_and_query().unwrap(), &host, &parts.headers, &spelling);
        let lines = "GET /a%20b?c HTTP/1.1\r\nhost: a\r\n";
        let out = String::from_utf8(out).unwrap();
        let mut headers: Vec<_> = out.strip_prefix(lines).unwrap().lines().collect();
        headers.sort_unstable();
        assert_eq!(headers, ["X-MiXed: 1", "X-TWICE: 3", "x-ours: 4", "x-twice: 2"]);
    }

    #[test]
    fn an_answer_keeps_its_reason_and_ours_are_capitalised() {
        let text = b"HTTP/1.0 299 So so\r\netag: x\r\n\r\n";
        let Found::Head(mut head, length) = answer(text, &mut HeaderMap::new()) else { panic!("no head") };
        assert_eq!((length, head.parts.status.as_u16(), head.parts.version), (text.len(), 299, Version::HTTP_10));
        head.parts.headers.insert("x-kong-proxy-latency", HeaderValue::from_static("1"));
        let mut out = Vec::new();
        write_answer(&mut out, head.parts.status, &head.reason, &head.parts.headers, &head.spelling);
        assert_eq!(out, b"HTTP/1.1 299 So so\r\netag: x\r\nX-Kong-Proxy-Latency: 1\r\n");
        let mut out = Vec::new();
        write_answer(&mut out, StatusCode::NOT_FOUND, b"", &HeaderMap::new(), &Spelling::default());
        assert_eq!(out, b"HTTP/1.1 404 Not Found\r\n");
    }

    #[test]
    fn what_is_not_a_plain_head_is_none() {
        for text in ["GET http://a/ HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n", "G@T / HTTP/1.1\r\nX y: 1\r\n\r\n"]
        {
            assert!(matches!(request(text.as_bytes(), HeaderMap::new()), Found::Nothing(_)), "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(REQUEST_LINES + 1));
        assert!(matches!(request(many.as_bytes(), HeaderMap::new()), Found::Nothing(_)));
        assert!(matches!(request(b"GET / HTTP/1.1\r\nHo", HeaderMap::new()), Found::Part));
        assert!(matches!(answer(b"garbage\r\n\r\n", &mut HeaderMap::new()), Found::Nothing(_)));
        assert!(matches!(answer(b"HTTP/1.1 2", &mut HeaderMap::new()), Found::Part));
    }
}
