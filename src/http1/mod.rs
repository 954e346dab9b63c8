//! The HTTP/1.1 and 1.0 codec without IO: heads, body framing, chunks. Used for clients and for upstreams.
//!
//! Bytes go in, types of the `http` crate come out, and the reverse. httparse parses field lines; the request line is
//! parsed here, because targets may hold bytes that are not UTF-8. What is ambiguous is refused: two lengths, a length
//! beside chunks, a transfer coding other than `chunked`, a field name that is no token (RFC 9112 §6, RFC 9110 §5.1).

pub mod added;
pub mod body;
pub mod chunked;
pub mod edits;
mod field_lines;
pub mod fields;
pub mod framing;
pub mod name;
pub mod request;
pub mod response;
pub mod room;
pub mod spelling;
pub mod target;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
pub mod write;

/// Bounds of a message head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest line in bytes without its CRLF, the request line included; nginx's size of one large buffer.
    pub line_bytes: usize,
    /// Longest head in bytes; nginx's size of all large buffers.
    pub head_bytes: usize,
}

/// Maximum number of field lines in a head, in both directions and in all versions of HTTP.
pub const FIELDS_MAX: usize = 1_000;

impl Default for HeadLimits {
    /// nginx and Kong: lines of 8 KiB. Kong bounds a request's head to 32 KiB, and a response's to 8 KiB.
    fn default() -> Self {
        Self { line_bytes: 8 * 1024, head_bytes: 64 * 1024 }
    }
}

/// Why the bytes of a head are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidHead {
    /// Not HTTP/1, or contradictory; the text says what is wrong, for logs.
    Malformed(&'static str),
    /// The request line is longer than `HeadLimits::line_bytes`.
    LineTooLong,
    /// A field line or the whole head is too long, or there are more than `FIELDS_MAX` fields.
    TooLarge,
    /// The preface of an HTTP/2 connection (RFC 9113 §3.4).
    Http2Preface,
}

impl InvalidHead {
    /// What is wrong, for logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed(reason) => reason,
            Self::LineTooLong => "request line too long",
            Self::TooLarge => "head too large",
            Self::Http2Preface => "HTTP/2 preface on a connection of HTTP/1",
        }
    }
}

/// What the beginning of a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A head of this many bytes.
    Head(usize),
    /// The beginning of a head.
    Partial,
    Invalid(InvalidHead),
}

/// A decimal length: digits and nothing else.
pub fn digits(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let append = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    if text.is_empty() { None } else { text.iter().try_fold(0, append) }
}

/// Whether a byte may stand in a token (RFC 9110 §5.6.2): in methods and field names.
pub const fn is_token(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+'
        | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}
