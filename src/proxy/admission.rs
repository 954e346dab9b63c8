//! Requests that go no further than the edge, and the status each gets (`kong/proxy.md` §3).
//!
//! hyper has already refused what is not HTTP, framing that contradicts itself and names with forbidden bytes; what it
//! lets through and Kong does not is refused here, before anything else looks at the request.

use http::header::{HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Version};

use crate::entity::path;

/// One line of a request's head, and the request line.
pub const LINE_BYTES: usize = 8 * 1024;
/// A whole head.
pub const HEAD_BYTES: usize = 32 * 1024;

/// Why a request is refused; what HTTP calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    BadRequest,
    /// As `BadRequest`, but told in plain text whatever the client accepts: Kong refuses it before it reads `Accept`.
    BadPath,
    MethodNotAllowed,
    UriTooLong,
    HeadTooLarge,
}

impl Refusal {
    /// In the order of their declaration.
    pub const ALL: [Refusal; 5] =
        [Self::BadRequest, Self::BadPath, Self::MethodNotAllowed, Self::UriTooLong, Self::HeadTooLarge];
}

/// The host that a request is for, as the client said it, port included; empty when it said none (HTTP/1.0).
#[derive(Clone, Debug)]
pub struct Host(HeaderValue);

impl Host {
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.0.as_bytes()).unwrap_or_default()
    }

    /// As it came.
    pub fn value(&self) -> &HeaderValue {
        &self.0
    }

    /// For `Host` of a request that goes up; `None` when there is none.
    pub fn header(&self) -> Option<HeaderValue> {
        (!self.0.is_empty()).then(|| self.0.clone())
    }
}

/// Looks at a request's head as the client sent it.
pub fn admit(head: &Parts) -> Result<Host, Refusal> {
    if line_bytes(head) > LINE_BYTES {
        return Err(Refusal::UriTooLong);
    }
    let coded_oddly = survey(&head.headers)?;
    if matches!(head.method, Method::TRACE | Method::CONNECT) {
        return Err(Refusal::MethodNotAllowed);
    }
    if coded_oddly {
        return Err(Refusal::BadRequest);
    }
    let host = host(head)?;
    if !head.uri.path().starts_with('/') {
        return Err(Refusal::BadRequest);
    }
    if path::refused(head.uri.path()) {
        return Err(Refusal::BadPath);
    }
    Ok(host)
}

fn line_bytes(head: &Parts) -> usize {
    let target = head.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    head.method.as_str().len() + authority + target + " HTTP/1.1\r\n".len()
}

/// Measures the lines. True when the body is coded in another way than in chunks: those are taken off here, and a coding
/// below them would go up unnamed.
fn survey(headers: &HeaderMap) -> Result<bool, Refusal> {
    let (mut left, mut coded_oddly) = (HEAD_BYTES, false);
    for (name, value) in headers {
        let line = name.as_str().len() + value.len() + ": \r\n".len();
        left = left.checked_sub(line).filter(|_| line <= LINE_BYTES).ok_or(Refusal::HeadTooLarge)?;
        coded_oddly |= *name == TRANSFER_ENCODING && !value.as_bytes().eq_ignore_ascii_case(b"chunked");
    }
    Ok(coded_oddly)
}

/// A host in the target wins over the header, as RFC 9112 and RFC 9113 want.
fn host(head: &Parts) -> Result<Host, Refusal> {
    let mut lines = head.headers.get_all(HOST).iter();
    let line = lines.next();
    if lines.next().is_some() {
        return Err(Refusal::BadRequest);
    }
    let said = match (head.uri.authority(), line) {
        (Some(authority), _) => HeaderValue::from_str(authority.as_str()).map_err(|_| Refusal::BadRequest)?,
        (None, Some(line)) => line.clone(),
        (None, None) if head.version < Version::HTTP_11 => return Ok(Host(HeaderValue::from_static(""))),
        (None, None) => return Err(Refusal::BadRequest),
    };
    if is_host(said.as_bytes()) { Ok(Host(said)) } else { Err(Refusal::BadRequest) }
}

/// What nginx takes for a host: no slash, blank or control, no empty label.
fn is_host(said: &[u8]) -> bool {
    let name = said.split(|&byte| byte == b':').next().unwrap_or_default();
    let odd = said.iter().any(|&byte| byte <= b' ' || matches!(byte, b'/' | b'\\' | b'@' | b',' | 0x7f));
    let doubled = name.windows(2).any(|pair| pair == b"..");
    !said.is_empty() && !odd && !doubled && name != b"." && str::from_utf8(said).is_ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::Request;

    use super::*;

    fn check(method: &str, target: &str, version: Version, headers: &[(&str, &str)], expected: Result<&str, Refusal>) {
        let mut request = Request::builder().method(method).uri(target).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        let admitted = admit(&head);
        assert_eq!(
            admitted.as_ref().map(Host::as_str).map_err(|refusal| *refusal),
            expected,
            "{method} {target} {version:?}"
        );
    }

    fn get(target: &str, headers: &[(&str, &str)], expected: Result<&str, Refusal>) {
        check("GET", target, Version::HTTP_11, headers, expected);
    }

    #[test]
    fn one_host_is_wanted_from_http_1_1_on() {
        get("/", &[("host", "a.test:80")], Ok("a.test:80"));
        get("/", &[], Err(Refusal::BadRequest));
        get("/", &[("host", "a"), ("host", "a")], Err(Refusal::BadRequest));
        check("GET", "/", Version::HTTP_10, &[], Ok(""));
        check("GET", "/", Version::HTTP_10, &[("host", "a")], Ok("a"));
        check("GET", "/", Version::HTTP_10, &[("host", "a"), ("host", "b")], Err(Refusal::BadRequest));
    }

    #[test]
    fn a_host_in_the_target_wins() {
        get("http://b.test:81/x", &[("host", "a.test")], Ok("b.test:81"));
        check("GET", "https://b.test/x", Version::HTTP_2, &[], Ok("b.test"));
        check("GET", "/x", Version::HTTP_2, &[("host", "b.test")], Ok("b.test"));
        check("GET", "/x", Version::HTTP_2, &[], Err(Refusal::BadRequest));
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        for host in ["", "a b", "a/b", "a..b", ".", "a@b", "a,b", "a\\b"] {
            get("/", &[("host", host)], Err(Refusal::BadRequest));
        }
        get("/", &[("host", "a.test.")], Ok("a.test."));
        get("/", &[("host", "[::1]:80")], Ok("[::1]:80"));
    }

    #[test]
    fn a_body_is_coded_in_chunks_or_not_at_all() {
        let host = ("host", "a");
        get("/", &[host, ("transfer-encoding", "Chunked")], Ok("a"));
        for coding in ["gzip, chunked", "identity", "chunked, chunked", ""] {
            get("/", &[host, ("transfer-encoding", coding)], Err(Refusal::BadRequest));
        }
    }

    #[test]
    fn trace_and_connect_never_reach_a_route() {
        let host = [("host", "a")];
        check("TRACE", "/", Version::HTTP_11, &host, Err(Refusal::MethodNotAllowed));
        check("CONNECT", "a:1", Version::HTTP_11, &host, Err(Refusal::MethodNotAllowed));
        check("PURGE", "/", Version::HTTP_11, &host, Ok("a"));
    }

    #[test]
    fn long_lines_and_heads_are_refused() {
        let host = ("host", "a");
        get(&format!("/{}", "q".repeat(9_000)), &[host], Err(Refusal::UriTooLong));
        get(&format!("/{}", "q".repeat(8_000)), &[host], Ok("a"));
        let line = "v".repeat(8_100);
        get("/", &[host, ("a", &line)], Ok("a"));
        get(
            "/",
            &[host, ("a", &line), ("b", &line), ("c", &line), ("d", &line), ("e", &line)],
            Err(Refusal::HeadTooLarge),
        );
        get("/", &[host, ("a", &"v".repeat(9_000))], Err(Refusal::HeadTooLarge));
    }

    #[test]
    fn a_path_above_the_root_is_refused() {
        get("/../../x", &[("host", "a")], Err(Refusal::BadPath));
        get("/a/%2e%2e/%2e%2e/x", &[("host", "a")], Err(Refusal::BadPath));
        get("/a/../x", &[("host", "a")], Ok("a"));
        check("OPTIONS", "*", Version::HTTP_11, &[("host", "a")], Err(Refusal::BadRequest));
    }
}
