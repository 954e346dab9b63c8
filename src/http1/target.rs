//! The target of a request (RFC 9112 §3.2), as bytes.
//!
//! `http::Uri` is not used: it refuses bytes that browsers and clients send without encoding them (`<`, `>`, `^`, `` ` ``,
//! bytes from 0x80 on), which nginx, and so Kong, passes on unchanged.

use bytes::Bytes;
use http::Uri;
use memchr::{memchr, memchr2, memmem};

/// A request's target, without its fragment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Path and query of the origin form; what was sent in the other forms without a path (`*`, `host:port`).
    text: Bytes,
    /// Bytes of the path.
    path_len: usize,
    /// Host and port of the absolute form.
    authority: Option<Bytes>,
}

impl Target {
    /// Reads a target whose bytes are visible characters or at least 0x80. `None`: the absolute form without a host.
    pub fn parse(text: Bytes) -> Option<Self> {
        if text.first() == Some(&b'/') {
            return Some(Self::origin(text, None));
        }
        let Some(scheme_end) = memmem::find(&text, b"://").filter(|end| is_scheme(&text[..*end])) else {
            let path_len = text.len();
            return Some(Self { text, path_len, authority: None });
        };
        let rest = text.slice(scheme_end + 3..);
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
        let authority = rest.slice(..end);
        if authority.is_empty() {
            return None;
        }
        let path =
            if rest.get(end) == Some(&b'/') { rest.slice(end..) } else { Bytes::from([b"/", &rest[end..]].concat()) };
        Some(Self::origin(path, Some(authority)))
    }

    /// The target of an HTTP/2 request.
    pub fn of(uri: &Uri) -> Self {
        let text =
            uri.path_and_query().map_or_else(Bytes::new, |target| Bytes::copy_from_slice(target.as_str().as_bytes()));
        let authority = uri.authority().map(|authority| Bytes::copy_from_slice(authority.as_str().as_bytes()));
        Self::origin(text, authority)
    }

    fn origin(mut text: Bytes, authority: Option<Bytes>) -> Self {
        let end = memchr2(b'?', b'#', &text);
        let path_len = end.unwrap_or(text.len());
        if let Some(end) = end
            && let Some(fragment) = memchr(b'#', &text[end..])
        {
            text.truncate(end + fragment);
        }
        Self { text, path_len, authority }
    }

    /// The path as it was sent.
    pub fn path(&self) -> &[u8] {
        &self.text[..self.path_len.min(self.text.len())]
    }

    /// What follows the first `?`; `None` without one.
    pub fn query(&self) -> Option<&[u8]> {
        self.text.get(self.path_len + 1..)
    }

    pub fn path_and_query(&self) -> &Bytes {
        &self.text
    }

    /// Host and port, where the target names them.
    pub fn authority(&self) -> Option<&Bytes> {
        self.authority.as_ref()
    }
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn check(text: &str, path: &str, query: Option<&str>, authority: Option<&str>) {
        let target = Target::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        assert_eq!(target.path(), path.as_bytes(), "{text}");
        assert_eq!(target.query(), query.map(str::as_bytes), "{text}");
        assert_eq!(target.authority().map(|bytes| &bytes[..]), authority.map(str::as_bytes), "{text}");
    }

    #[test]
    fn each_form_has_its_parts() {
        check("/", "/", None, None);
        check("/a?b?c", "/a", Some("b?c"), None);
        check("/a?", "/a", Some(""), None);
        check("/a#b?c", "/a", None, None);
        check("/a?b#c", "/a", Some("b"), None);
        check("/p?u=http://h/", "/p", Some("u=http://h/"), None);
        check("http://h:1/a?b", "/a", Some("b"), Some("h:1"));
        check("http://h", "/", None, Some("h"));
        check("http://h?q", "/", Some("q"), Some("h"));
        check("*", "*", None, None);
        check("h:443", "h:443", None, None);
        check("/{\"<>|^`\u{e9}", "/{\"<>|^`\u{e9}", None, None);
        assert_eq!(Target::parse(Bytes::from_static(b"http:///a")), None);
    }
}
