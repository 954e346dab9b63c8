//! Heads of requests: from bytes to typed values.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Version};
use httparse::Status;
use memchr::{memchr, memchr_iter};

use crate::http1::field_lines::{empty, malformed, read_fields};
use crate::http1::room::{Room, range};
use crate::http1::spelling::Spelling;
use crate::http1::target::Target;
use crate::http1::{FIELDS_MAX, HeadLimits, InvalidHead, Parsed, is_token};

/// Field lines that are parsed at first; a head with more is parsed once again, with room for `FIELDS_MAX`.
const USUAL_FIELDS: usize = 64;

/// The head of a request as the client sent it. One value serves one request after the other: moving heads costs more
/// than parsing them.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub target: Target,
    pub version: Version,
    pub headers: HeaderMap,
    pub spelling: Spelling,
    room: Room,
}

/// How far a head that arrives in pieces has been searched for its end. Each byte is looked at once, so a client that
/// sends byte by byte costs no more than one that sends all at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    looked: usize,
    /// Where the line begins that was not whole.
    line_start: usize,
}

impl RequestHead {
    /// Empties the head. Memory that an unusually large head needed is freed.
    pub fn clear(&mut self) {
        empty(&mut self.headers);
        self.target = Target::default();
        self.spelling.clear();
    }

    /// Parses the head at the beginning of `bytes`, after `skip_empty_lines`. The head means something only when one was
    /// found. `scan`: of the same head, from call to call.
    pub fn parse(&mut self, bytes: &[u8], limits: &HeadLimits, scan: &mut HeadScan) -> Parsed {
        if scan.looked > 0 && !scan.finds_end(bytes) {
            return scan.within(bytes, limits);
        }
        match self.parse_whole(bytes, limits) {
            Parsed::Partial => {
                scan.finds_end(bytes);
                scan.within(bytes, limits)
            }
            parsed => parsed,
        }
    }

    fn parse_whole(&mut self, bytes: &[u8], limits: &HeadLimits) -> Parsed {
        let mut fields = [const { std::mem::MaybeUninit::uninit() }; USUAL_FIELDS];
        let mut parsed = httparse::Request::new(&mut []);
        if let Ok(Status::Complete(length)) = parsed.parse_with_uninit_headers(bytes, &mut fields)
            && let (Some(method), Some(target)) = (parsed.method, parsed.path)
        {
            let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
            let line = RequestLine { method: method.as_bytes(), target: target.as_bytes(), version, length: 0 };
            return self.take(bytes, &line, length, parsed.headers, limits);
        }
        self.parse_unusual(bytes, limits)
    }

    /// Parses a head that is not whole or not valid, has many fields, or a target that is not UTF-8.
    fn parse_unusual(&mut self, bytes: &[u8], limits: &HeadLimits) -> Parsed {
        let line = match RequestLine::parse(bytes, limits) {
            Ok(Some(line)) => line,
            Ok(None) => return Parsed::Partial,
            Err(invalid) => return Parsed::Invalid(invalid),
        };
        let mut fields = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
        match httparse::parse_headers(&bytes[line.length..], &mut fields) {
            Ok(Status::Complete((length, fields))) => self.take(bytes, &line, line.length + length, fields, limits),
            Ok(Status::Partial) => Parsed::Partial,
            Err(httparse::Error::TooManyHeaders) => Parsed::Invalid(InvalidHead::TooLarge),
            Err(error) => Parsed::Invalid(malformed(error)),
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        line: &RequestLine<'_>,
        length: usize,
        fields: &[httparse::Header<'_>],
        limits: &HeadLimits,
    ) -> Parsed {
        if let Some(invalid) = exceeded(bytes, line, length, limits) {
            return Parsed::Invalid(invalid);
        }
        let text = self.room.hold(&bytes[..length]);
        let Ok(method) = Method::from_bytes(line.method) else {
            return Parsed::Invalid(InvalidHead::Malformed("invalid method"));
        };
        let Some(target) = Target::parse(text.slice(range(bytes, line.target))) else {
            return Parsed::Invalid(InvalidHead::Malformed("request target without a host"));
        };
        if read_fields(bytes, text, fields, &mut self.headers, &mut self.spelling).is_none() {
            return Parsed::Invalid(InvalidHead::Malformed("invalid header field"));
        }
        (self.method, self.target, self.version) = (method, target, line.version);
        Parsed::Head(length)
    }

    /// Fills the head with what can be told of a request that is not valid: its request line, and the fields that decide
    /// the format of the error body. For its access-log line and its error response.
    pub fn salvage(&mut self, bytes: &[u8], limits: &HeadLimits) {
        self.clear();
        (self.method, self.version) = (Method::GET, Version::HTTP_11);
        let bytes = &bytes[..bytes.len().min(limits.head_bytes)];
        if let Ok(Some(line)) = RequestLine::parse(bytes, limits) {
            self.method = Method::from_bytes(line.method).unwrap_or(Method::GET);
            self.target = Target::parse(Bytes::copy_from_slice(line.target)).unwrap_or_default();
            self.version = line.version;
        }
        for line in bytes.split(|byte| *byte == b'\n').skip(1) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(colon) = memchr(b':', line).filter(|_| line.len() <= SALVAGED_BYTES) else { continue };
            for name in [http::header::ACCEPT, http::header::CONTENT_TYPE] {
                if line[..colon].eq_ignore_ascii_case(name.as_str().as_bytes())
                    && let Ok(value) = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii())
                {
                    self.headers.append(name, value);
                }
            }
        }
    }
}

/// Longest field line of an invalid request that is looked at.
const SALVAGED_BYTES: usize = 1024;

/// Bytes of the empty lines at the beginning, which precede a request line (RFC 9112 §2.2).
pub fn skip_empty_lines(bytes: &[u8]) -> usize {
    let mut skipped = 0;
    loop {
        match &bytes[skipped..] {
            [b'\n', ..] => skipped += 1,
            [b'\r', b'\n', ..] => skipped += 2,
            _ => return skipped,
        }
    }
}

impl HeadScan {
    /// Looks at the bytes that were not looked at yet; true when an empty line ends among them.
    fn finds_end(&mut self, bytes: &[u8]) -> bool {
        let from = self.looked.min(bytes.len());
        self.looked = bytes.len();
        let mut found = false;
        for end in memchr_iter(b'\n', &bytes[from..]) {
            let line = &bytes[self.line_start..from + end];
            found |= self.line_start > 0 && matches!(line, b"" | b"\r");
            self.line_start = from + end + 1;
        }
        found
    }

    /// Whether a head that is not whole may still become a valid one.
    fn within(&self, bytes: &[u8], limits: &HeadLimits) -> Parsed {
        let line_bytes = without_return(&bytes[self.line_start.min(bytes.len())..]).len();
        match self.line_start {
            0 if line_bytes > limits.line_bytes => Parsed::Invalid(InvalidHead::LineTooLong),
            _ if line_bytes > limits.line_bytes || bytes.len() > limits.head_bytes => {
                Parsed::Invalid(InvalidHead::TooLarge)
            }
            _ => Parsed::Partial,
        }
    }
}

/// `METHOD TARGET HTTP/1.1`.
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
    /// With its end.
    length: usize,
}

impl<'a> RequestLine<'a> {
    /// `None`: the line is not whole.
    fn parse(bytes: &'a [u8], limits: &HeadLimits) -> Result<Option<Self>, InvalidHead> {
        let malformed = |what| Err(InvalidHead::Malformed(what));
        let Some(end) = memchr(b'\n', bytes) else {
            // Without the end of a line in sight, what cannot begin a method is told at once: a TLS handshake, for example.
            let is_possible = bytes.first().is_none_or(|first| is_token(*first) || *first == b'\r');
            return if is_possible { Ok(None) } else { malformed("invalid method") };
        };
        let line = without_return(&bytes[..end]);
        if line.len() > limits.line_bytes {
            return Err(InvalidHead::LineTooLong);
        }
        let method_len = memchr(b' ', line).unwrap_or(line.len());
        let method = &line[..method_len];
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return malformed("invalid method");
        }
        let Some(rest) = line.get(method_len + 1..) else { return malformed("no request target") };
        let Some(target_len) = memchr(b' ', rest) else { return malformed("no HTTP version") };
        let target = &rest[..target_len];
        // Without an early exit, many bytes are looked at in one step.
        let is_visible = target.iter().fold(true, |all, &byte| all & (byte > b' ') & (byte != 0x7f));
        if target.is_empty() || !is_visible {
            return malformed("invalid request target");
        }
        let version = match &rest[target_len + 1..] {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            b"HTTP/2.0" if method == b"PRI" && target == b"*" => return Err(InvalidHead::Http2Preface),
            _ => return malformed("unsupported HTTP version"),
        };
        Ok(Some(Self { method, target, version, length: end + 1 }))
    }
}

/// The limit that a head of `length` bytes exceeds. Counts the bytes that arrived, blanks around values included, because
/// `HeadScan::within` counts them too: the verdict does not depend on the pieces in which a head arrives.
fn exceeded(bytes: &[u8], line: &RequestLine<'_>, length: usize, limits: &HeadLimits) -> Option<InvalidHead> {
    // A head that is no longer than a line may be has no line that is too long.
    if length <= limits.line_bytes.min(limits.head_bytes) {
        return None;
    }
    if line.method.len() + line.target.len() + "  HTTP/1.1".len() > limits.line_bytes {
        return Some(InvalidHead::LineTooLong);
    }
    let mut lines = bytes[..length].split(|byte| *byte == b'\n');
    let is_too_large = length > limits.head_bytes || lines.any(|line| without_return(line).len() > limits.line_bytes);
    is_too_large.then_some(InvalidHead::TooLarge)
}

/// A line without the CR before its LF.
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
