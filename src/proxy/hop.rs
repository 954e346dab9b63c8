//! Headers that belong to one connection and stop here, on both ways (`kong/proxy.md` §4.3 and §5).
//!
//! One pass finds what is present, then only that is removed: most messages carry two or three of these names.
//!
//! Kong: it removes them after the plugins ran, so that a client may name `X-Consumer-ID` in `Connection` and have what
//! authentication wrote taken away again. Here they go first.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use smallvec::SmallVec;

/// What a client said about its connection and its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `Upgrade: websocket`.
    pub websocket: bool,
    /// `TE` names `trailers`.
    pub trailers: bool,
    /// HTTP/1.0 with `Connection: keep-alive`.
    pub keep_alive: bool,
    /// A body was announced, if only an empty one.
    pub has_body: bool,
}

/// The names that are removed.
type Gone = SmallVec<[HeaderName; 6]>;

/// Reads and removes them from a request. `Host` and `Content-Length` go too: they are made anew.
pub fn strip_request(headers: &mut HeaderMap) -> Wishes {
    let (mut wishes, mut upgrade, mut gone) = (Wishes::default(), None, Gone::new());
    for (name, value) in &*headers {
        match *name {
            UPGRADE => _ = upgrade.get_or_insert(value),
            TE => wishes.trailers |= lists(value, b"trailers"),
            CONNECTION => wishes.keep_alive |= lists(value, b"keep-alive"),
            CONTENT_LENGTH | TRANSFER_ENCODING => wishes.has_body = true,
            EXPECT | HOST => {}
            _ if matches!(name.as_str(), "keep-alive" | "proxy" | "proxy-connection") => {}
            _ => continue,
        }
        gone.push(name.clone());
    }
    wishes.websocket = upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    strip(headers, gone);
    wishes
}

/// Removes them from a response. `switched`: the protocol that the upstream has switched to may be named.
pub fn strip_response(headers: &mut HeaderMap, switched: bool, client_takes_trailers: bool) {
    let mut gone = Gone::new();
    for name in headers.keys() {
        let goes = match *name {
            UPGRADE => !switched,
            TRAILER => !client_takes_trailers,
            CONNECTION | TRANSFER_ENCODING => true,
            _ => matches!(name.as_str(), "keep-alive" | "proxy-connection"),
        };
        if goes {
            gone.push(name.clone());
        }
    }
    strip(headers, gone);
}

/// Whether a comma list holds the token, whatever its case and parameters.
pub fn lists(value: &HeaderValue, token: &[u8]) -> bool {
    tokens(value).any(|found| {
        let bare = found.split(|&byte| byte == b';').next().unwrap_or_default();
        bare.trim_ascii().eq_ignore_ascii_case(token)
    })
}

fn strip(headers: &mut HeaderMap, mut gone: Gone) {
    if gone.contains(&CONNECTION) {
        gone.extend(named_by_connection(headers));
    }
    for name in &gone {
        headers.remove(name);
    }
}

/// The names that `Connection` lists. `Upgrade` is left to the caller, and framing is not the sender's to unmake.
fn named_by_connection(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    let values = headers.get_all(CONNECTION).iter();
    let usual: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];
    let unusual = values.filter(|value| !usual.iter().any(|usual| value.as_bytes().eq_ignore_ascii_case(usual)));
    let names = unusual.flat_map(tokens).filter_map(|token| HeaderName::from_bytes(token).ok());
    names.filter(|name| !matches!(*name, UPGRADE | CONTENT_LENGTH)).collect()
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_request_loses_what_belongs_to_its_connection() {
        let mut headers = map(&[
            ("Host", "a"),
            ("Connection", "keep-alive, X-Drop-Me"),
            ("X-Drop-Me", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy", "x"),
            ("Upgrade", "h2c"),
            ("TE", "gzip"),
            ("Expect", "100-continue"),
            ("Transfer-Encoding", "chunked"),
            ("Proxy-Authorization", "kept"),
            ("X-Keep", "2"),
        ]);
        let wishes = strip_request(&mut headers);
        assert_eq!(names(&headers), ["proxy-authorization", "x-keep"]);
        assert_eq!(wishes, Wishes { keep_alive: true, has_body: true, ..Wishes::default() });
    }

    #[test]
    fn wishes_are_read_before_they_are_removed() {
        let wishes = |lines: &[(&str, &str)]| strip_request(&mut map(lines));
        assert!(wishes(&[("Upgrade", "WebSocket"), ("Connection", "Upgrade")]).websocket);
        assert!(!wishes(&[("Upgrade", "foo/2"), ("Connection", "Upgrade")]).websocket);
        assert!(wishes(&[("TE", "trailers, deflate;q=0.5")]).trailers);
        assert!(!wishes(&[("TE", "deflate")]).trailers);
    }

    #[test]
    fn several_connection_lines_count_together() {
        let mut headers =
            map(&[("Connection", "close"), ("Connection", "X-A, x-b"), ("X-A", "1"), ("X-B", "1"), ("X-C", "1")]);
        strip_request(&mut headers);
        assert_eq!(names(&headers), ["x-c"]);
    }

    #[test]
    fn a_response_loses_its_own_and_keeps_the_rest() {
        let lines = [
            ("Connection", "keep-alive, X-Priv"),
            ("X-Priv", "1"),
            ("Keep-Alive", "9"),
            ("Trailer", "T"),
            ("X-Pub", "2"),
        ];
        let mut headers = map(&lines);
        strip_response(&mut headers, false, false);
        assert_eq!(names(&headers), ["x-pub"]);
        let mut headers = map(&lines);
        strip_response(&mut headers, false, true);
        assert_eq!(names(&headers), ["trailer", "x-pub"]);
    }

    #[test]
    fn a_switch_keeps_its_upgrade_header() {
        let lines = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "x")];
        let mut headers = map(&lines);
        strip_response(&mut headers, true, false);
        assert_eq!(names(&headers), ["sec-websocket-accept", "upgrade"]);
    }

    #[test]
    fn connection_cannot_unmake_framing() {
        let mut headers = map(&[("Connection", "close, content-length"), ("Content-Length", "3")]);
        strip_response(&mut headers, false, false);
        assert_eq!(names(&headers), ["content-length"]);
    }
}
