//! Headers that a message gains on its way, beside the map of those that it came with.
//!
//! The general path puts them into the map in the end. The lean path writes them behind the map's lines, and leaves out
//! the lines that they replace: an entry that is made only to be written costs a hash, a place and its end. Putting ours
//! into the map on both paths lost; it took a fifth of a small request's instructions.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::plugin::name::Name;

/// As many as a request gains when nothing is special about it.
const USUAL: usize = 12;

/// Each takes the place of whatever the message has under its name.
#[derive(Default)]
pub struct Gained<'a> {
    lines: SmallVec<[(&'static Name, Value<'a>); USUAL]>,
    /// The marks of all names.
    marks: u64,
}

/// What one of them says.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    Shared(&'a HeaderValue),
    Static(&'static str),
    Text(Visible<'a>),
    Made(HeaderValue),
    /// The message has no such header any more.
    Nothing,
}

/// Bytes that can stand in a header: no control character is among them.
#[derive(Clone, Copy, Debug)]
pub struct Visible<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// `None` when it would not be the value of a header.
    pub fn text(bytes: &'a [u8]) -> Option<Self> {
        // Without a way out in the middle, many bytes are looked at in one step.
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

impl<'a> Gained<'a> {
    /// Each name is to be set once.
    pub fn set(&mut self, name: &'static Name, value: Value<'a>) {
        self.marks |= name.mark;
        self.lines.push((name, value));
    }

    /// The same for names that may be set again: the last counts.
    pub fn put(&mut self, name: &'static Name, value: Value<'a>) {
        let may_stand = self.marks & name.mark != 0;
        match self.lines.iter_mut().find(|(own, _)| may_stand && own.header == name.header) {
            Some((_, standing)) => *standing = value,
            None => self.set(name, value),
        }
    }

    /// Whether what the message has under this name is gone. `mark`: the name's.
    pub fn replaces(&self, name: &HeaderName, mark: u64) -> bool {
        self.marks & mark != 0 && self.lines.iter().any(|(own, _)| own.header == *name)
    }

    /// What is to be written.
    pub fn lines(&self) -> impl Iterator<Item = (&'static Name, &[u8])> {
        self.lines.iter().filter_map(|(name, value)| Some((*name, value.as_bytes()?)))
    }

    /// Puts them into the map.
    pub fn settle(self, headers: &mut HeaderMap) {
        for (name, value) in self.lines {
            match value.into_header() {
                Some(value) => drop(headers.insert(&name.header, value)),
                None => drop(headers.remove(&name.header)),
            }
        }
    }
}

/// A list that goes on with `value`, in one line. `before`: what the message has of it.
pub fn listed<'a>(before: &HeaderMap, name: &HeaderName, value: &'a HeaderValue) -> Value<'a> {
    let mut line = Vec::new();
    for before in before.get_all(name) {
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
    use crate::proxy::names::{REQUEST_ID, VIA, X_FORWARDED_PREFIX};

    #[test]
    fn what_is_gained_takes_the_place_of_what_was_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("via", "1.0 a"), ("via", "1.0 b"), ("x-forwarded-prefix", "/x"), ("x-other", "1")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let mark = HeaderValue::from_static("1.1 ours");
        let mut gained = Gained::default();
        gained.set(&VIA, listed(&headers, &VIA.header, &mark));
        gained.set(&X_FORWARDED_PREFIX, Value::Nothing);
        gained.set(&REQUEST_ID, Value::text(b"id").unwrap());
        let lines: Vec<_> = gained.lines().map(|(name, value)| (name.lower, value)).collect();
        assert_eq!(lines, [("via", &b"1.0 a, 1.0 b, 1.1 ours"[..]), ("x-kong-request-id", b"id")]);
        assert!(gained.replaces(&VIA.header, VIA.mark) && gained.replaces(&REQUEST_ID.header, REQUEST_ID.mark));
        assert!(!gained.replaces(&"x-other".parse().unwrap(), u64::MAX));
        gained.settle(&mut headers);
        assert_eq!(headers["via"], "1.0 a, 1.0 b, 1.1 ours");
        assert_eq!((headers.len(), &headers["x-kong-request-id"]), (3, &HeaderValue::from_static("id")));
    }

    #[test]
    fn the_last_of_what_is_put_counts() {
        let mut gained = Gained::default();
        for (name, value) in [(&VIA, "1"), (&REQUEST_ID, "2"), (&VIA, "3")] {
            gained.put(name, Value::Static(value));
        }
        let lines: Vec<_> = gained.lines().map(|(name, value)| (name.lower, value)).collect();
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
