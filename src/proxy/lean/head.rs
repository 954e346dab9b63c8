//! Heads of HTTP/1 messages: from bytes to the types of the `http` crate, and back.
//!
//! The parser is the one that hyper uses, with the same strictness. Names keep the spelling in which they came, as on
//! the general path; a name of ours goes to clients capitalised and to upstreams in lower case.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri, Version, request, response};
use httparse::{Header, Status};
use smallvec::SmallVec;

use crate::plugin::name::{Name, capitalise, mark};
use crate::proxy::gained::Gained;
use crate::proxy::upstream_path::Target;

/// Header lines of a request; more are left to the general path.
const REQUEST_LINES: usize = 64;
/// Header lines of an answer. Kong bounds their bytes only, to 4 or 8 KiB, which few heads of so many lines would fit.
const ANSWER_LINES: usize = 128;

/// Header lines that an answer gains here at most, as a rule: a map that grows moves all that is in it.
const ADDED_LINES: usize = 8;
/// Header lines that there is room for between two messages.
const KEPT_LINES: usize = 64;
/// Text of a head whose memory is used again.
const KEPT_TEXT_BYTES: usize = 2 * 1024;

/// What was found at the beginning of some bytes.
#[derive(Debug)]
pub enum Found {
    /// A head of so many bytes.
    Head(usize),
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

/// Where the texts of one head after the other stand.
#[derive(Debug, Default)]
struct Room(BytesMut);

impl Room {
    /// A copy of a head. It takes the place of the last one where nobody has kept a part of that.
    fn hold(&mut self, text: &[u8]) -> Bytes {
        if text.len() > KEPT_TEXT_BYTES {
            return Bytes::copy_from_slice(text);
        }
        self.0.extend_from_slice(text);
        self.0.split().freeze()
    }
}

/// The head of a request. Its memory is used for one after the other: moving heads about costs more than reading them.
#[derive(Debug)]
pub struct RequestHead {
    pub parts: request::Parts,
    pub spelling: Spelling,
    room: Room,
}

/// The head of an answer, likewise.
#[derive(Debug)]
pub struct AnswerHead {
    pub parts: response::Parts,
    pub spelling: Spelling,
    /// As the upstream gave it.
    pub reason: Bytes,
    room: Room,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self { parts: Request::new(()).into_parts().0, spelling: Spelling::default(), room: Room::default() }
    }
}

impl Default for AnswerHead {
    fn default() -> Self {
        Self {
            parts: Response::new(()).into_parts().0,
            spelling: Spelling::default(),
            reason: Bytes::new(),
            room: Room::default(),
        }
    }
}

impl RequestHead {
    /// Lets go of what was read.
    pub fn clear(&mut self) {
        empty(&mut self.parts.headers);
        self.parts.uri = Uri::default();
        // The reader puts nothing there; a plugin may, and the next request is another's.
        self.parts.extensions.clear();
        self.spelling.clear();
    }
}

impl AnswerHead {
    /// Lets go of what was read.
    pub fn clear(&mut self) {
        empty(&mut self.parts.headers);
        self.reason = Bytes::new();
        self.spelling.clear();
    }
}

/// Takes everything out, and the memory too where one message needed much.
fn empty(map: &mut HeaderMap) {
    if map.capacity() > KEPT_LINES {
        *map = HeaderMap::new();
    } else {
        map.clear();
    }
}

/// The spelling of names that did not come from anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    Lower,
    Capitalised,
}

/// Reads a request's head. What is left in `head` means something only when one was found.
pub fn request(bytes: &[u8], head: &mut RequestHead) -> Found {
    let mut lines = [const { std::mem::MaybeUninit::uninit() }; REQUEST_LINES];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Found::Part,
        Err(_) => return Found::Nothing("not a head of HTTP/1"),
    };
    let text = head.room.hold(&bytes[..length]);
    let (method, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
    let target = target.starts_with('/').then(|| text.slice(range(bytes, target.as_bytes())));
    let target = target.and_then(|target| PathAndQuery::from_maybe_shared(target).ok());
    let (Ok(method), Some(target)) = (Method::from_bytes(method.as_bytes()), target) else {
        return Found::Nothing("no plain request line");
    };
    let RequestHead { parts, spelling, .. } = head;
    if read_lines(bytes, text, parsed.headers, &mut parts.headers, spelling).is_none() {
        return Found::Nothing("no plain headers");
    }
    parts.method = method;
    parts.uri = Uri::from(target);
    parts.version = version(parsed.version);
    Found::Head(length)
}

/// Reads an answer's head. What is left in `head` means something only when one was found.
pub fn answer(bytes: &[u8], head: &mut AnswerHead) -> Found {
    let mut lines = [const { std::mem::MaybeUninit::uninit() }; ANSWER_LINES];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Found::Part,
        Err(_) => return Found::Nothing("not an answer of HTTP/1"),
    };
    let text = head.room.hold(&bytes[..length]);
    let Ok(status) = StatusCode::from_u16(parsed.code.unwrap_or_default()) else {
        return Found::Nothing("no status");
    };
    let AnswerHead { parts, spelling, reason, .. } = head;
    *reason = parsed.reason.map(|reason| text.slice(range(bytes, reason.as_bytes()))).unwrap_or_default();
    parts.headers.reserve(parsed.headers.len() + ADDED_LINES);
    if read_lines(bytes, text, parsed.headers, &mut parts.headers, spelling).is_none() {
        return Found::Nothing("no plain headers");
    }
    parts.status = status;
    parts.version = version(parsed.version);
    Found::Head(length)
}

/// `None` when a line that the parser let through is none for the `http` crate.
fn read_lines(
    bytes: &[u8],
    text: Bytes,
    lines: &[Header<'_>],
    map: &mut HeaderMap,
    spelling: &mut Spelling,
) -> Option<()> {
    map.clear();
    spelling.clear();
    for line in lines {
        let place = range(bytes, line.name.as_bytes());
        spelling.names.push((u16::try_from(place.start).ok()?, u16::try_from(place.len()).ok()?));
        spelling.marks |= mark(line.name.as_bytes());
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        let value = HeaderValue::from_maybe_shared(text.slice(range(bytes, line.value))).ok()?;
        map.try_append(name, value).ok()?;
    }
    spelling.text = text;
    Some(())
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
    fn clear(&mut self) {
        self.text = Bytes::new();
        self.names.clear();
        self.marks = 0;
    }

    /// False when no line of the head is called so, as it came.
    pub fn may_have(&self, name: &Name) -> bool {
        self.marks & name.mark != 0
    }

    /// The name as it came. `at` is where to begin looking; it is left behind what was found, because names are mostly
    /// asked for in their order.
    fn of(&self, name: &[u8], mark: u64, at: &mut usize) -> Option<&[u8]> {
        if self.marks & mark == 0 {
            return None;
        }
        let spelled = |&(start, length): &(u16, u16)| {
            let (start, length) = (usize::from(start), usize::from(length));
            self.text.get(start..start + length).filter(|text| length == name.len() && text.eq_ignore_ascii_case(name))
        };
        let (before, after) = self.names.split_at_checked(*at)?;
        let mut lines = (*at..).zip(after).chain((0..).zip(before));
        let (place, text) = lines.find_map(|(place, line)| Some((place, spelled(line)?)))?;
        *at = place + 1;
        Some(text)
    }
}

/// The headers of a message that is to be written.
#[derive(Clone, Copy)]
pub struct Headers<'a, 'v> {
    pub map: &'a HeaderMap,
    pub spelling: &'a Spelling,
    pub gained: &'a Gained<'v>,
}

/// Writes `METHOD TARGET HTTP/1.1`, `Host`, and then the headers.
pub fn write_request(
    out: &mut Vec<u8>,
    method: &Method,
    target: &Target<'_>,
    host: &HeaderValue,
    headers: Headers<'_, '_>,
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    target.write(out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_line(out, b"host", host.as_bytes());
    write_headers(out, headers, Letters::Lower);
}

/// Writes `HTTP/1.1 STATUS REASON` and the headers. An empty reason is the status's own.
pub fn write_answer(out: &mut Vec<u8>, status: StatusCode, reason: &[u8], headers: Headers<'_, '_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let own = || status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(if reason.is_empty() { own() } else { reason });
    out.extend_from_slice(b"\r\n");
    write_headers(out, headers, Letters::Capitalised);
}

/// One header line.
pub fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn write_headers(out: &mut Vec<u8>, headers: Headers<'_, '_>, letters: Letters) {
    let Headers { map, spelling, gained } = headers;
    let mut at = 0;
    for (name, value) in map {
        let lower = name.as_str().as_bytes();
        let mark = mark(lower);
        if gained.replaces(name, mark) {
            continue;
        }
        match spelling.of(lower, mark, &mut at) {
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
    for (name, value) in gained.lines() {
        let name = if letters == Letters::Capitalised { name.capitalised } else { name.lower };
        write_line(out, name.as_bytes(), value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proxy::gained::Value;
    use crate::proxy::names::{VIA, X_FORWARDED_PREFIX, X_REAL_IP};
    use crate::proxy::upstream_path::Request;

    fn read(text: &str) -> (RequestHead, usize) {
        let mut head = RequestHead::default();
        match request(text.as_bytes(), &mut head) {
            Found::Head(length) => (head, length),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    fn is_none(found: Found) -> bool {
        matches!(found, Found::Nothing(_))
    }

    #[test]
    fn a_head_goes_up_as_it_was_spelled() {
        let text = "GET /a%20b?c HTTP/1.1\r\nHOST: a\r\nX-MiXed: 1\r\nx-twice: 2\r\nX-TWICE: 3\r\n\
            X-Real-IP: 9\r\nx-forwarded-prefix: /a\r\n\r\nrest";
        let (RequestHead { mut parts, spelling, .. }, length) = read(text);
        assert_eq!(&text[length..], "rest");
        assert_eq!((parts.method.as_str(), parts.uri.to_string().as_str()), ("GET", "/a%20b?c"));
        let host = parts.headers.remove("host").unwrap();
        parts.headers.insert("x-ours", HeaderValue::from_static("4"));
        let mut out = Vec::new();
        let mut gained = Gained::default();
        gained.set(&X_REAL_IP, Value::Static("::1"));
        gained.set(&X_FORWARDED_PREFIX, Value::Nothing);
        let headers = Headers { map: &parts.headers, spelling: &spelling, gained: &gained };
        let sent = parts.uri.path_and_query();
        let request = Request { sent, path: parts.uri.path().as_bytes(), matched_len: 0, query: None };
        let target = Target::new(None, false, request).unwrap();
        write_request(&mut out, &parts.method, &target, &host, headers);
        let lines = "GET /a%20b?c HTTP/1.1\r\nhost: a\r\n";
        let out = String::from_utf8(out).unwrap();
        let mut headers: Vec<_> = out.strip_prefix(lines).unwrap().lines().collect();
        headers.sort_unstable();
        assert_eq!(headers, ["X-MiXed: 1", "X-TWICE: 3", "x-ours: 4", "x-real-ip: ::1", "x-twice: 2"]);
    }

    #[test]
    fn an_answer_keeps_its_reason_and_ours_are_capitalised() {
        let text = b"HTTP/1.0 299 So so\r\netag: x\r\n\r\n";
        let mut head = AnswerHead::default();
        let Found::Head(length) = answer(text, &mut head) else { panic!("no head") };
        assert_eq!((length, head.parts.status.as_u16(), head.parts.version), (text.len(), 299, Version::HTTP_10));
        head.parts.headers.insert("x-of-a-plugin", HeaderValue::from_static("1"));
        let mut gained = Gained::default();
        gained.set(&VIA, Value::Static("1.1 ours"));
        let mut out = Vec::new();
        let headers = Headers { map: &head.parts.headers, spelling: &head.spelling, gained: &gained };
        write_answer(&mut out, head.parts.status, &head.reason, headers);
        assert_eq!(out, b"HTTP/1.1 299 So so\r\netag: x\r\nX-Of-A-Plugin: 1\r\nVia: 1.1 ours\r\n");
        let mut out = Vec::new();
        let (map, spelling, gained) = (HeaderMap::new(), Spelling::default(), Gained::default());
        write_answer(&mut out, StatusCode::NOT_FOUND, b"", Headers { map: &map, spelling: &spelling, gained: &gained });
        assert_eq!(out, b"HTTP/1.1 404 Not Found\r\n");
    }

    #[test]
    fn what_is_not_a_plain_head_is_none() {
        let mut head = RequestHead::default();
        for text in ["GET http://a/ HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n", "G@T / HTTP/1.1\r\nX y: 1\r\n\r\n"]
        {
            assert!(is_none(request(text.as_bytes(), &mut head)), "{text:?}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(REQUEST_LINES + 1));
        assert!(is_none(request(many.as_bytes(), &mut head)));
        assert!(matches!(request(b"GET / HTTP/1.1\r\nHo", &mut head), Found::Part));
        assert!(is_none(answer(b"garbage\r\n\r\n", &mut AnswerHead::default())));
        assert!(matches!(answer(b"HTTP/1.1 2", &mut AnswerHead::default()), Found::Part));
    }

    #[test]
    fn nothing_of_a_head_is_left_in_the_next() {
        let mut head = read("GET /a HTTP/1.0\r\nHost: a\r\nX-One: 1\r\n\r\n").0;
        assert!(is_none(request(b"GET /b HTTP/1.1\r\nX-Two: 2\r\nHost: \x01\r\n\r\n", &mut head)));
        let text = b"POST /c HTTP/1.1\r\nx-three: 3\r\n\r\n";
        assert!(matches!(request(text, &mut head), Found::Head(_)));
        assert_eq!(
            (head.parts.method.as_str(), head.parts.uri.path(), head.parts.version),
            ("POST", "/c", Version::HTTP_11)
        );
        let names: Vec<_> = head.parts.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!((names, head.spelling.names.len()), (vec!["x-three"], 1));
        head.parts.extensions.insert("of a plugin");
        head.clear();
        assert!(head.parts.headers.is_empty() && head.spelling.text.is_empty() && head.parts.extensions.is_empty());
    }
}
