//! The path of the request to the upstream: the service's path and the rest of the request's (`kong/proxy.md` §6).
//!
//! Kong: only `path_handling = v0` exists here. Under the default router flavor Kong accepts `v1` and does `v0`.
//! The query passes byte for byte, a lone `?` included.

use std::borrow::Cow;

use crate::entity::path;

/// A request's path and query.
#[derive(Clone, Copy, Debug)]
pub struct RequestPath<'a> {
    /// Normalised.
    pub path: &'a [u8],
    /// Bytes of `path` that the route's path matched.
    pub matched_len: usize,
    /// A plugin's replacement of the whole upstream path.
    pub replaced: Option<&'a [u8]>,
    /// As the client sent it, or a plugin's replacement, which may be empty: then there is none.
    pub query: Option<&'a [u8]>,
    /// Whether `query` is a plugin's.
    pub is_query_replaced: bool,
}

/// The target of a request to an upstream. It is put together only when it is written.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamPath<'a> {
    /// The service's path.
    base: &'a [u8],
    strip: bool,
    request: RequestPath<'a>,
}

impl<'a> UpstreamPath<'a> {
    /// `None` when a plugin's path or query has bytes that cannot stand in a request line. `base`: the service's path;
    /// without one it is `/`.
    pub fn new(base: Option<&'a str>, strip: bool, request: RequestPath<'a>) -> Option<Self> {
        let is_visible = |text: &[u8]| text.iter().all(|byte| *byte > b' ' && *byte != 0x7f && *byte != b'#');
        let replaced = request.query.filter(|_| request.is_query_replaced).into_iter().chain(request.replaced);
        // A fragment in the service's path is not sent.
        let base = base.unwrap_or("/").as_bytes();
        let base = &base[..base.iter().position(|&byte| byte == b'#').unwrap_or(base.len())];
        replaced.into_iter().all(is_visible).then_some(Self { base, strip, request })
    }

    /// Appends it to a request line.
    pub fn write(&self, out: &mut Vec<u8>) {
        let Self { base, strip, request } = *self;
        let start = out.len();
        match request.replaced {
            Some(path) => out.extend_from_slice(path),
            None => join(out, base, request.path, request.matched_len, strip),
        }
        if let Cow::Owned(escaped) = path::escape(&out[start..]) {
            out.truncate(start);
            out.extend_from_slice(escaped.as_bytes());
        }
        if let Some(query) = request.query.filter(|query| !request.is_query_replaced || !query.is_empty()) {
            out.push(b'?');
            out.extend_from_slice(query);
        }
    }
}

/// The part of the path that `X-Forwarded-Prefix` names: what was stripped, unless that is nothing or only `/`.
pub fn stripped(strip: bool, path: &[u8], matched_len: usize) -> Option<&[u8]> {
    let prefix = path.get(..matched_len)?;
    (strip && !matches!(prefix, b"" | b"/")).then_some(prefix)
}

/// Appends the joined path, unescaped.
fn join(into: &mut Vec<u8>, base: &[u8], path: &[u8], matched_len: usize, strip: bool) {
    let trunk = base.strip_suffix(b"/");
    // Without a path in the route, the rest is what follows the leading slash.
    let rest = undotted(path.get(matched_len.max(1)..).unwrap_or_default());
    match trunk {
        Some(trunk) if strip && rest.is_empty() => {
            let slash = trunk.is_empty() || path.ends_with(b"/");
            into.extend_from_slice(if slash { base } else { trunk });
        }
        None if strip && rest.is_empty() => {
            into.extend_from_slice(base);
            if path.len() > 1 && path.ends_with(b"/") {
                into.push(b'/');
            }
        }
        _ if strip => {
            into.extend_from_slice(trunk.unwrap_or(base));
            if !rest.starts_with(b"/") {
                into.push(b'/');
            }
            into.extend_from_slice(rest);
        }
        None if path == b"/" => into.extend_from_slice(base),
        _ => {
            into.extend_from_slice(trunk.unwrap_or(base));
            into.extend_from_slice(path);
        }
    }
}

/// A cut through a segment can leave dots that would climb: `/api` taken from `/api../x`.
fn undotted(rest: &[u8]) -> &[u8] {
    match rest {
        b"." | b".." => b"",
        _ => rest.strip_prefix(b"./").or_else(|| rest.strip_prefix(b"../")).unwrap_or(rest),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http1::target::Target;

    fn path_of(base: Option<&str>, matched_len: usize, sent: &str, strip: bool, query: Option<&str>) -> String {
        let sent = Target::parse(Bytes::copy_from_slice(sent.as_bytes())).unwrap();
        let path = path::normalise(sent.path());
        let is_query_replaced = query.is_some();
        let query = query.map(str::as_bytes).or(sent.query());
        let request = RequestPath { path: &path, matched_len, replaced: None, query, is_query_replaced };
        let target = UpstreamPath::new(base, strip, request).unwrap();
        let mut written = b"GET ".to_vec();
        target.write(&mut written);
        String::from_utf8(written.split_off(4)).unwrap()
    }

    /// Service path, route path (empty: none), request path, upstream path when stripped, and when kept.
    #[rustfmt::skip]
    const TABLE: &[(&str, &str, &str, &str, &str)] = &[
        ("/", "", "/", "/", "/"),
        ("/", "", "/a", "/a", "/a"),
        ("/", "", "/a/", "/a/", "/a/"),
        ("/", "/", "/", "/", "/"),
        ("/", "/", "/a", "/a", "/a"),
        ("/", "/", "/a/", "/a/", "/a/"),
        ("/", "/", "/a/b", "/a/b", "/a/b"),
        ("/", "/api", "/api", "/", "/api"),
        ("/", "/api", "/api/", "/", "/api/"),
        ("/", "/api", "/apix", "/x", "/apix"),
        ("/", "/api", "/api/x", "/x", "/api/x"),
        ("/", "/api/", "/api/", "/", "/api/"),
        ("/", "/api/", "/api/x", "/x", "/api/x"),
        ("/up", "", "/", "/up", "/up"),
        ("/up", "", "/a", "/up/a", "/up/a"),
        ("/up", "", "/a/", "/up/a/", "/up/a/"),
        ("/up", "/", "/", "/up", "/up"),
        ("/up", "/", "/a", "/up/a", "/up/a"),
        ("/up", "/", "/a/", "/up/a/", "/up/a/"),
        ("/up", "/", "/a/b", "/up/a/b", "/up/a/b"),
        ("/up", "/api", "/api", "/up", "/up/api"),
        ("/up", "/api", "/api/", "/up/", "/up/api/"),
        ("/up", "/api", "/apix", "/up/x", "/up/apix"),
        ("/up", "/api", "/api/x", "/up/x", "/up/api/x"),
        ("/up", "/api/", "/api/", "/up/", "/up/api/"),
        ("/up", "/api/", "/api/x", "/up/x", "/up/api/x"),
        ("/up/", "", "/", "/up/", "/up/"),
        ("/up/", "", "/a", "/up/a", "/up/a"),
        ("/up/", "", "/a/", "/up/a/", "/up/a/"),
        ("/up/", "/", "/", "/up/", "/up/"),
        ("/up/", "/", "/a", "/up/a", "/up/a"),
        ("/up/", "/", "/a/", "/up/a/", "/up/a/"),
        ("/up/", "/", "/a/b", "/up/a/b", "/up/a/b"),
        ("/up/", "/api", "/api", "/up", "/up/api"),
        ("/up/", "/api", "/api/", "/up/", "/up/api/"),
        ("/up/", "/api", "/apix", "/up/x", "/up/apix"),
        ("/up/", "/api", "/api/x", "/up/x", "/up/api/x"),
        ("/up/", "/api/", "/api/", "/up/", "/up/api/"),
        ("/up/", "/api/", "/api/x", "/up/x", "/up/api/x"),
        ("/up", "/api", "/api../x", "/up/x", "/up/api../x"),
        ("/up", "/api", "/api./x", "/up/x", "/up/api./x"),
        ("/up", "/api", "/api%2e%2e/x", "/up/x", "/up/api../x"),
        ("/up", "/api", "/api..", "/up", "/up/api.."),
    ];

    #[test]
    fn service_path_and_request_path_are_joined_as_kong_joins_them() {
        for (base, route, sent, stripped, kept) in TABLE {
            assert_eq!(path_of(Some(base), route.len(), sent, true, None), *stripped, "{base} {route} {sent} stripped");
            assert_eq!(path_of(Some(base), route.len(), sent, false, None), *kept, "{base} {route} {sent} kept");
        }
    }

    #[test]
    fn a_service_without_a_path_is_one_with_a_slash() {
        for (_, route, sent, stripped, kept) in TABLE.iter().filter(|row| row.0 == "/") {
            assert_eq!(path_of(None, route.len(), sent, true, None), *stripped, "{route} {sent} stripped");
            assert_eq!(path_of(None, route.len(), sent, false, None), *kept, "{route} {sent} kept");
        }
    }

    #[test]
    fn what_normalising_decoded_is_escaped_again() {
        let cases = [
            ("/p/a%20b", "/a%20b"),
            ("/p/%41%62c", "/Abc"),
            ("/p/a%2fb", "/a%2Fb"),
            ("/p/caf%C3%A9", "/caf%C3%A9"),
            ("/p/caf%e9", "/caf%E9"),
            ("/p/x%7Cy", "/x%7Cy"),
            ("/p/p%2541", "/p%2541"),
            ("/p/s%3Fq", "/s%3Fq"),
        ];
        for (sent, expected) in cases {
            assert_eq!(path_of(None, 2, sent, true, None), expected);
        }
    }

    #[test]
    fn the_query_passes_byte_for_byte_unless_a_plugin_replaces_it() {
        let cases = [
            ("/p/x?a=%20&b=%2F&c=+", None, "/x?a=%20&b=%2F&c=+"),
            ("/p/x?{\"<>|^`}", None, "/x?{\"<>|^`}"),
            ("/p/{x|y}", None, "/%7Bx%7Cy%7D"),
            ("/p/x?", None, "/x?"),
            ("/p/x", None, "/x"),
            ("/p/x?u=http://h/p?q=1&z", None, "/x?u=http://h/p?q=1&z"),
            ("/p/x?a=1&key=s", Some("a=1"), "/x?a=1"),
            ("/p/x?key=s", Some(""), "/x"),
        ];
        for (sent, query, expected) in cases {
            assert_eq!(path_of(None, 2, sent, true, query), expected);
        }
    }

    #[test]
    fn a_query_that_is_none_is_refused() {
        for query in ["a b\r\n", "a b", "a#b", "\n"] {
            let query = Some(query.as_bytes());
            let request = RequestPath { path: b"/", matched_len: 0, replaced: None, query, is_query_replaced: true };
            assert!(UpstreamPath::new(None, true, request).is_none(), "{query:?}");
        }
    }

    #[test]
    fn a_fragment_does_not_go_up() {
        assert_eq!(path_of(Some("/up#x"), 4, "/api/a?b", true, None), "/up/a?b");
        assert_eq!(path_of(None, 4, "/api/a%23b#c", true, None), "/a%23b");
    }

    #[test]
    fn only_a_real_prefix_is_named() {
        let check = |strip, path: &[u8], matched_len, expected: Option<&[u8]>| {
            assert_eq!(stripped(strip, path, matched_len), expected);
        };
        check(true, b"/api/x", 4, Some(b"/api"));
        check(false, b"/api/x", 4, None);
        check(true, b"/x", 1, None);
        check(true, b"/x", 0, None);
    }
}
