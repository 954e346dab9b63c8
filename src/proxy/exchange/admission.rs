//! Requests that go no further than the edge, and the reason (`kong/proxy.md` §3). The codecs have already refused what is
//! not HTTP; this refuses what HTTP allows and Kong does not.

use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Method, Version};

use crate::entity::path;
use crate::http1::request::RequestHead;
use crate::http1::{FIELDS_MAX, HeadLimits, InvalidHead};

/// Why a request is refused; what HTTP calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The text says what is wrong, for logs.
    BadRequest(&'static str),
    /// As `BadRequest`, but told in plain text whatever the client accepts: Kong refuses it before it reads `Accept`.
    BadPath,
    MethodNotAllowed,
    UriTooLong,
    HeadTooLarge,
    /// Plain HTTP on a TLS port.
    PlainOnTls,
}

impl From<InvalidHead> for Refusal {
    fn from(invalid: InvalidHead) -> Self {
        match invalid {
            InvalidHead::Malformed(reason) => Self::BadRequest(reason),
            InvalidHead::LineTooLong => Self::UriTooLong,
            InvalidHead::TooLarge => Self::HeadTooLarge,
            InvalidHead::Http2Preface => Self::BadRequest(invalid.reason()),
        }
    }
}

/// The host that a request is for, as the client sent it, port included; empty when it sent none (HTTP/1.0).
#[derive(Clone, Debug)]
pub struct Host(HeaderValue);

impl Host {
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// As it was sent.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// For `Host` of a request that goes up; `None` when there is none.
    pub fn header(&self) -> Option<&HeaderValue> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

/// Checks a request's head. `hosts`: number of its `Host` fields.
pub fn admit(head: &RequestHead, hosts: usize) -> Result<Host, Refusal> {
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(Refusal::MethodNotAllowed);
    }
    let host = host(head, hosts)?;
    let path = head.target.path();
    if path.first() != Some(&b'/') {
        return Err(Refusal::BadRequest("the request target is not a path"));
    }
    if path::refused(path) {
        return Err(Refusal::BadPath);
    }
    Ok(host)
}

/// Bounds the head of an HTTP/2 request as heads of HTTP/1 are bounded.
pub fn bound_fields(target_len: usize, headers: &HeaderMap, limits: &HeadLimits) -> Result<(), Refusal> {
    if target_len > limits.line_bytes {
        return Err(Refusal::UriTooLong);
    }
    let mut left = limits.head_bytes;
    for (name, value) in headers {
        let line = name.as_str().len() + value.len() + ": \r\n".len();
        left = left.checked_sub(line).filter(|_| line <= limits.line_bytes).ok_or(Refusal::HeadTooLarge)?;
    }
    if headers.len() > FIELDS_MAX { Err(Refusal::HeadTooLarge) } else { Ok(()) }
}

/// A host in the target wins over the field (RFC 9112 §3.2.2). In HTTP/2 both must name the same host (RFC 9113 §8.3.1).
fn host(head: &RequestHead, hosts: usize) -> Result<Host, Refusal> {
    if hosts > 1 {
        return Err(Refusal::BadRequest("more than one Host"));
    }
    let invalid = Refusal::BadRequest("invalid Host");
    let field = head.headers.get(HOST);
    let stated = match (head.target.authority(), field) {
        (Some(authority), Some(field))
            if head.version == Version::HTTP_2 && !field.as_bytes().eq_ignore_ascii_case(authority) =>
        {
            return Err(Refusal::BadRequest("Host differs from :authority"));
        }
        (Some(authority), _) => HeaderValue::from_maybe_shared(authority.clone()).map_err(|_| invalid)?,
        (None, Some(field)) => field.clone(),
        (None, None) if head.version < Version::HTTP_11 => return Ok(Host(HeaderValue::from_static(""))),
        (None, None) => return Err(Refusal::BadRequest("no Host")),
    };
    if is_host(stated.as_bytes()) { Ok(Host(stated)) } else { Err(invalid) }
}

/// What nginx takes for a host: no slash, blank or control byte, no empty label; and a port is a number.
fn is_host(stated: &[u8]) -> bool {
    let is_odd = |byte: &u8| *byte <= b' ' || matches!(byte, b'/' | b'\\' | b'@' | b',' | 0x7f);
    if stated.is_empty() || stated.iter().any(is_odd) || str::from_utf8(stated).is_err() {
        return false;
    }
    let name_len = match stated.first() {
        Some(b'[') => stated.iter().position(|byte| *byte == b']').map_or(0, |end| end + 1),
        _ => stated.iter().position(|byte| *byte == b':').unwrap_or(stated.len()),
    };
    let (name, port) = stated.split_at(name_len);
    let is_doubled = name.windows(2).any(|pair| pair == b"..");
    !name.is_empty() && name != b"." && !is_doubled && is_port(port)
}

/// `:` and a port number, or nothing; the number may be missing (RFC 3986 §3.2.3).
fn is_port(text: &[u8]) -> bool {
    match text.split_first() {
        None => true,
        Some((b':', [])) => true,
        Some((b':', digits)) => crate::http1::digits(digits).is_some_and(|port| port <= u64::from(u16::MAX)),
        Some(_) => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http1::target::Target;

    fn check(method: &str, target: &str, version: Version, headers: &[(&'static str, &str)], expected: Option<&str>) {
        let target = Target::parse(Bytes::copy_from_slice(target.as_bytes())).unwrap();
        let mut head = RequestHead::default();
        (head.method, head.target, head.version) = (method.parse().unwrap(), target, version);
        for (name, value) in headers {
            head.headers.append(*name, value.parse().unwrap());
        }
        let hosts = head.headers.get_all(HOST).iter().count();
        let admitted = admit(&head, hosts);
        assert_eq!(admitted.as_ref().ok().map(Host::as_str), expected, "{method} {head:?}");
    }

    fn get(target: &str, headers: &[(&'static str, &str)], expected: Option<&str>) {
        check("GET", target, Version::HTTP_11, headers, expected);
    }

    #[test]
    fn one_host_is_wanted_from_http_1_1_on() {
        get("/", &[("host", "a.test:80")], Some("a.test:80"));
        get("/", &[], None);
        get("/", &[("host", "a"), ("host", "a")], None);
        check("GET", "/", Version::HTTP_10, &[], Some(""));
        check("GET", "/", Version::HTTP_10, &[("host", "a")], Some("a"));
        check("GET", "/", Version::HTTP_10, &[("host", "a"), ("host", "b")], None);
    }

    #[test]
    fn a_host_in_the_target_wins_and_in_http_2_both_are_the_same() {
        get("http://b.test:81/x", &[("host", "a.test")], Some("b.test:81"));
        check("GET", "https://b.test/x", Version::HTTP_2, &[], Some("b.test"));
        check("GET", "https://b.test/x", Version::HTTP_2, &[("host", "B.test")], Some("b.test"));
        check("GET", "https://b.test/x", Version::HTTP_2, &[("host", "c.test")], None);
        check("GET", "/x", Version::HTTP_2, &[("host", "b.test")], Some("b.test"));
        check("GET", "/x", Version::HTTP_2, &[], None);
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in
            ["", "a b", "a/b", "a..b", ".", "a@b", "a,b", "a\\b", "a:99x", "a:65536", "a:-1", ":80", "[::1", "[::1]x"]
        {
            get("/", &[("host", host)], None);
        }
        for host in ["a.test.", "[::1]:80", "[::1]", "a:", "a:65535", "a_b"] {
            get("/", &[("host", host)], Some(host));
        }
    }

    #[test]
    fn trace_and_connect_never_reach_a_route() {
        let host = [("host", "a")];
        check("TRACE", "/", Version::HTTP_11, &host, None);
        check("CONNECT", "a:1", Version::HTTP_11, &host, None);
        check("PURGE", "/", Version::HTTP_11, &host, Some("a"));
    }

    #[test]
    fn a_path_above_the_root_is_refused() {
        get("/../../x", &[("host", "a")], None);
        get("/a/%2e%2e/%2e%2e/x", &[("host", "a")], None);
        get("/a/../x", &[("host", "a")], Some("a"));
        check("OPTIONS", "*", Version::HTTP_11, &[("host", "a")], None);
    }

    #[test]
    fn heads_of_http_2_have_the_same_bounds() {
        let limits = HeadLimits { line_bytes: 100, head_bytes: 250 };
        let check = |target_len, lines: &[&str], expected| {
            let mut headers = HeaderMap::new();
            for value in lines {
                headers.append("x", value.parse().unwrap());
            }
            assert_eq!(bound_fields(target_len, &headers, &limits), expected);
        };
        let line = "v".repeat(90);
        check(100, &[&line, &line], Ok(()));
        check(101, &[], Err(Refusal::UriTooLong));
        check(1, &[&line, &line, &line], Err(Refusal::HeadTooLarge));
        check(1, &["v".repeat(100).as_str()], Err(Refusal::HeadTooLarge));
        let many = HeadLimits { line_bytes: 100, head_bytes: 1 << 20 };
        let mut headers = HeaderMap::new();
        for _ in 0..=FIELDS_MAX {
            headers.append("x", HeaderValue::from_static("v"));
        }
        assert_eq!(bound_fields(1, &headers, &many), Err(Refusal::HeadTooLarge));
    }
}
