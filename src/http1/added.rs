//! Headers that the gateway adds to a message, kept beside the map of those that it arrived with.
//!
//! HTTP/1 writes them after the map's lines, and leaves out the lines that they replace. Rejected: inserting them into the
//! map first. An entry that is made only to be written costs a hash, a place in the map and its removal; together they
//! took a fifth of a small request's instructions.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::http1::name::Name;

/// Number of headers that an ordinary request gets.
const USUAL: usize = 12;

/// Added headers. Each replaces what the message has under its name.
#[derive(Default)]
pub struct AddedHeaders<'a> {
    lines: SmallVec<[(&'static Name, Value<'a>); USUAL]>,
    /// The marks of all names.
    marks: u64,
}

/// The value of an added header.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Shared(&'a HeaderValue),
    Static(&'static str),
    Text(Visible<'a>),
    Made(HeaderValue),
    /// The message loses the header of this name.
    Nothing,
}

/// Bytes that may stand in a header value: none of them is a control character.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// `None` when the bytes may not stand in a header value.
    pub fn text(bytes: &'a [u8]) -> Option<Self> {
        // Without an early exit, many bytes are looked at in one step.
        let visible = bytes.iter().fold(true, |all, &byte| all & ((byte >= b' ') & (byte != 0x7f) | (byte == b'\t')));
        visible.then_some(Self::Text(Visible(bytes)))
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Shared(value) => Some(value.as_bytes()),
            Self::Static(text) => Some(text.as_bytes()),
            Self::Text(Visible(bytes)) => Some(bytes),
            Self::Made(value) => Some(value.as_bytes()),
            Self::Nothing => None,
        }
    }

    fn into_header(self) -> Option<HeaderValue> {
        match self {
            Self::Shared(value) => Some(value.clone()),
            Self::Static(text) => Some(HeaderValue::from_static(text)),
            Self::Text(Visible(bytes)) => HeaderValue::from_bytes(bytes).ok(),
            Self::Made(value) => Some(value),
            Self::Nothing => None,
        }
    }
}

impl<'a> AddedHeaders<'a> {
    /// Adds a header. Each name is set once.
    pub fn set(&mut self, name: &'static Name, value: Value<'a>) {
        self.marks |= name.mark;
        self.lines.push((name, value));
    }

    /// Adds a header whose name may have been set before: the last value counts.
    pub fn put(&mut self, name: &'static Name, value: Value<'a>) {
        let may_stand = self.marks & name.mark != 0;
        match self.lines.iter_mut().find(|(own, _)| may_stand && own.header == name.header) {
            Some((_, standing)) => *standing = value,
            None => self.set(name, value),
        }
    }

    /// The marks of all names.
    pub fn marks(&self) -> u64 {
        self.marks
    }

    /// Whether the message's own headers of this name are replaced. `mark`: the name's.
    pub fn replaces(&self, name: &HeaderName, mark: u64) -> bool {
        self.marks & mark != 0 && self.lines.iter().any(|(own, _)| own.header == *name)
    }

    /// The lines to write.
    pub fn lines(&self) -> impl Iterator<Item = (&'static Name, &[u8])> {
        self.lines.iter().filter_map(|(name, value)| Some((*name, value.as_bytes()?)))
    }

    /// Moves the headers into a map.
    pub fn settle(&mut self, headers: &mut HeaderMap) {
        self.marks = 0;
        for (name, value) in self.lines.drain(..) {
            match value.into_header() {
                Some(value) => drop(headers.insert(&name.header, value)),
                None => drop(headers.remove(&name.header)),
            }
        }
    }
}

/// A list field that continues with `value`, in one line. `before`: the values that the message has.
pub fn listed<'a, 'v>(before: impl Iterator<Item = &'v HeaderValue>, value: &'a HeaderValue) -> Value<'a> {
    let mut line = Vec::new();
    for before in before {
        line.extend_from_slice(before.as_bytes());
        line.extend_from_slice(b", ");
    }
    if line.is_empty() {
        return Value::Shared(value);
    }
    line.extend_from_slice(value.as_bytes());
    let line = HeaderValue::from_maybe_shared(bytes::Bytes::from(line));
    line.map_or(Value::Shared(value), Value::Made)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http1::name::name;

    static REQUEST_ID: Name = name!("x-kong-request-id");
    static VIA: Name = name!("via");
    static X_FORWARDED_PREFIX: Name = name!("x-forwarded-prefix");

    #[test]
    fn what_is_added_takes_the_place_of_what_was_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("via", "1.0 a"), ("via", "1.0 b"), ("x-forwarded-prefix", "/x"), ("x-other", "1")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mark = HeaderValue::from_static("1.1 ours");
        let mut added = AddedHeaders::default();
        added.set(&VIA, listed(headers.get_all(&VIA.header).iter(), &mark));
        added.set(&X_FORWARDED_PREFIX, Value::Nothing);
        added.set(&REQUEST_ID, Value::text(b"id").unwrap());
        let lines: Vec<_> = added.lines().map(|(name, value)| (name.lower, value)).collect();
        assert_eq!(lines, [("via", &b"1.0 a, 1.0 b, 1.1 ours"[..]), ("x-kong-request-id", b"id")]);
        assert!(added.replaces(&VIA.header, VIA.mark) && added.replaces(&REQUEST_ID.header, REQUEST_ID.mark));
        assert!(!added.replaces(&"x-other".parse().unwrap(), u64::MAX));
        added.settle(&mut headers);
        assert_eq!(headers["via"], "1.0 a, 1.0 b, 1.1 ours");
        assert_eq!((headers.len(), &headers["x-kong-request-id"]), (3, &HeaderValue::from_static("id")));
    }

    #[test]
    fn the_last_of_what_is_put_counts() {
        let mut added = AddedHeaders::default();
        for (name, value) in [(&VIA, "1"), (&REQUEST_ID, "2"), (&VIA, "3")] {
            added.put(name, Value::Static(value));
        }
        let lines: Vec<_> = added.lines().map(|(name, value)| (name.lower, value)).collect();
        assert_eq!(lines, [("via", &b"3"[..]), ("x-kong-request-id", b"2")]);
    }

    #[test]
    fn nothing_that_could_end_a_line_is_text() {
        for bytes in [&b"a\r\nb: c"[..], b"\n", b"a\0", b"\x7f"] {
            assert!(Value::text(bytes).is_none(), "{bytes:?}");
            assert!(HeaderValue::from_bytes(bytes).is_err(), "{bytes:?}");
        }
        for bytes in [&b"/a b\tc"[..], "/ä".as_bytes(), b"", b"\xff"] {
            assert!(Value::text(bytes).is_some() && HeaderValue::from_bytes(bytes).is_ok(), "{bytes:?}");
        }
    }
}
