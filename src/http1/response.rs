//! Heads of responses: from bytes to typed values.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{StatusCode, Version};
use httparse::Status;

use crate::http1::field_lines::{empty, malformed, read_fields};
use crate::http1::room::{Room, range};
use crate::http1::spelling::Spelling;
use crate::http1::{FIELDS_MAX, InvalidHead, Parsed};

/// Field lines that are parsed at first; a head with more is parsed once again, with room for `FIELDS_MAX`.
const USUAL_FIELDS: usize = 64;
/// Fields that are added to a response as a rule: a map that grows moves all that is in it.
const ADDED_FIELDS: usize = 8;

/// The head of a response. One value serves one response after the other.
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub version: Version,
    /// As the upstream sent it; empty: the usual one of the status.
    pub reason: Bytes,
    pub headers: HeaderMap,
    pub spelling: Spelling,
    room: Room,
}

impl ResponseHead {
    /// Empties the head. Memory that an unusually large head needed is freed.
    pub fn clear(&mut self) {
        empty(&mut self.headers);
        self.reason = Bytes::new();
        self.spelling.clear();
    }

    /// Parses the head at the beginning of `bytes`. The head means something only when one was found. The caller bounds
    /// the bytes.
    pub fn parse(&mut self, bytes: &[u8]) -> Parsed {
        let mut lines = [const { std::mem::MaybeUninit::uninit() }; USUAL_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines) {
            Ok(Status::Complete(length)) => self.take(bytes, &parsed, length),
            Ok(Status::Partial) => Parsed::Partial,
            Err(httparse::Error::TooManyHeaders) => self.parse_many(bytes),
            Err(error) => Parsed::Invalid(malformed(error)),
        }
    }

    fn parse_many(&mut self, bytes: &[u8]) -> Parsed {
        let mut lines = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut lines);
        match parsed.parse(bytes) {
            Ok(Status::Complete(length)) => self.take(bytes, &parsed, length),
            Ok(Status::Partial) => Parsed::Partial,
            Err(httparse::Error::TooManyHeaders) => Parsed::Invalid(InvalidHead::TooLarge),
            Err(error) => Parsed::Invalid(malformed(error)),
        }
    }

    fn take(&mut self, bytes: &[u8], parsed: &httparse::Response<'_, '_>, length: usize) -> Parsed {
        let text = self.room.hold(&bytes[..length]);
        let Ok(status) = StatusCode::from_u16(parsed.code.unwrap_or_default()) else {
            return Parsed::Invalid(InvalidHead::Malformed("invalid status"));
        };
        self.reason = parsed.reason.map(|reason| text.slice(range(bytes, reason.as_bytes()))).unwrap_or_default();
        self.headers.reserve(parsed.headers.len() + ADDED_FIELDS);
        if read_fields(bytes, text, parsed.headers, &mut self.headers, &mut self.spelling).is_none() {
            return Parsed::Invalid(InvalidHead::Malformed("invalid header field"));
        }
        self.status = status;
        self.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
        Parsed::Head(length)
    }
}
