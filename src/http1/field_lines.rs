//! From the field lines of a parsed head to a map of header fields; for requests and responses.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::InvalidHead;
use crate::http1::name::mark;
use crate::http1::room::range;
use crate::http1::spelling::Spelling;

/// Header fields whose memory a head keeps from one message to the next.
const KEPT_FIELDS: usize = 64;

/// Copies parsed field lines into a map. `None`: the `http` crate refuses one that the parser let through.
pub(crate) fn read_fields(
    bytes: &[u8],
    text: Bytes,
    lines: &[httparse::Header<'_>],
    map: &mut HeaderMap,
    spelling: &mut Spelling,
) -> Option<()> {
    map.clear();
    spelling.clear();
    for line in lines {
        read_field(bytes, &text, line, map, spelling)?;
    }
    spelling.set_text(text);
    Some(())
}

/// Removes all fields, and the memory too where one message needed much.
pub(crate) fn empty(map: &mut HeaderMap) {
    if map.capacity() > KEPT_FIELDS {
        *map = HeaderMap::new();
    } else {
        map.clear();
    }
}

pub(crate) fn malformed(error: httparse::Error) -> InvalidHead {
    InvalidHead::Malformed(match error {
        httparse::Error::HeaderName => "invalid field name",
        httparse::Error::HeaderValue => "invalid field value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status => "invalid status",
        httparse::Error::Token => "invalid token",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "invalid HTTP version",
    })
}

/// Copies one field line into a map, with its spelling. `None`: the `http` crate refuses it.
fn read_field(
    bytes: &[u8],
    text: &Bytes,
    line: &httparse::Header<'_>,
    map: &mut HeaderMap,
    spelling: &mut Spelling,
) -> Option<()> {
    let name = line.name.as_bytes();
    spelling.push(range(bytes, name).start, name.len(), mark(name))?;
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_maybe_shared(text.slice(range(bytes, line.value))).ok()?;
    map.try_append(name, value).ok()?;
    Some(())
}
