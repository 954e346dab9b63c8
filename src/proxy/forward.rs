//! What the upstream is told about the client (`kong/proxy.md` §4.2).
//!
//! A trusted peer may speak for the client: each `X-Forwarded-*` header it sent stands, each it left out is made here.
//! Everybody else's are overwritten, but for `X-Forwarded-For`, which Kong lengthens whoever sent it.
//! Values that do not change between the requests of a connection are made once and shared.

use std::net::IpAddr;

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE, VIA};

use crate::proxy::hop::Wishes;
use crate::proxy::names::{
    REQUEST_ID, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PATH, X_FORWARDED_PORT, X_FORWARDED_PREFIX,
    X_FORWARDED_PROTO, X_REAL_IP,
};

/// Facts about one request, for its headers.
pub struct Facts<'a> {
    /// The TCP peer is trusted.
    pub trusted: bool,
    /// As text, made once per connection.
    pub peer: &'a HeaderValue,
    pub peer_ip: IpAddr,
    pub client_ip: IpAddr,
    pub tls: bool,
    pub port: &'a HeaderValue,
    /// As the client said it.
    pub host: &'a HeaderValue,
    /// Before normalising, without its query.
    pub path: &'a str,
    /// What was stripped from the path.
    pub prefix: Option<&'a [u8]>,
    /// `1.1 tidegate/VERSION`, with the client's version.
    pub via: &'a HeaderValue,
    /// `None`: not told.
    pub request_id: Option<&'a HeaderValue>,
    pub wishes: Wishes,
}

/// Writes them into headers that `hop::strip_request` has been through.
pub fn write(headers: &mut HeaderMap, facts: &Facts<'_>) {
    addresses(headers, facts);
    decide(headers, &X_FORWARDED_PROTO, facts.trusted, || Some(scheme(facts.tls)));
    decide(headers, &X_FORWARDED_HOST, facts.trusted, || host_value(facts.host));
    decide(headers, &X_FORWARDED_PORT, facts.trusted, || Some(facts.port.clone()));
    decide(headers, &X_FORWARDED_PATH, facts.trusted, || text(facts.path));
    decide(headers, &X_FORWARDED_PREFIX, facts.trusted, || HeaderValue::from_bytes(facts.prefix?).ok());
    append(headers, VIA, facts.via);
    if let Some(id) = facts.request_id {
        headers.insert(&REQUEST_ID, id.clone());
    }
    connection(headers, facts.wishes);
}

/// The scheme that the client used, as far as we believe what we hear.
pub fn is_https(headers: &HeaderMap, trusted: bool, tls: bool) -> bool {
    match headers.get(&X_FORWARDED_PROTO) {
        Some(told) if trusted => told == "https",
        _ => tls,
    }
}

/// The host that the client used, likewise; lower case, no port.
pub fn host(headers: &HeaderMap, trusted: bool, said: &str) -> String {
    let told = headers.get(&X_FORWARDED_HOST).filter(|_| trusted);
    told.and_then(|told| told.to_str().ok()).map_or_else(|| host_only(said), str::to_owned)
}

fn addresses(headers: &mut HeaderMap, facts: &Facts<'_>) {
    let client =
        if facts.client_ip == facts.peer_ip { Some(facts.peer.clone()) } else { text(&facts.client_ip.to_string()) };
    let Some(client) = client else { return };
    if headers.contains_key(&X_FORWARDED_FOR) {
        append(headers, X_FORWARDED_FOR.clone(), facts.peer);
    } else {
        headers.insert(&X_FORWARDED_FOR, client.clone());
    }
    headers.insert(&X_REAL_IP, client);
}

fn connection(headers: &mut HeaderMap, wishes: Wishes) {
    if wishes.websocket {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    if wishes.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Leaves a trusted peer's first value, else writes ours, or nothing.
fn decide(headers: &mut HeaderMap, name: &HeaderName, trusted: bool, ours: impl FnOnce() -> Option<HeaderValue>) {
    let told = headers.get(name).filter(|_| trusted).cloned();
    match told.or_else(ours) {
        Some(value) => {
            headers.insert(name, value);
        }
        None => {
            headers.remove(name);
        }
    }
}

/// Adds to the list that a header holds, in one line.
pub fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    let mut line = Vec::new();
    for before in headers.get_all(&name) {
        line.extend_from_slice(before.as_bytes());
        line.extend_from_slice(b", ");
    }
    if line.is_empty() {
        headers.insert(name, value.clone());
        return;
    }
    line.extend_from_slice(value.as_bytes());
    if let Ok(line) = HeaderValue::from_maybe_shared(bytes::Bytes::from(line)) {
        headers.insert(name, line);
    }
}

fn scheme(tls: bool) -> HeaderValue {
    HeaderValue::from_static(if tls { "https" } else { "http" })
}

/// The client's own value where it is already what is wanted, as it mostly is.
fn host_value(said: &HeaderValue) -> Option<HeaderValue> {
    let text = str::from_utf8(said.as_bytes()).ok()?;
    if text.bytes().any(|byte| byte == b':' || byte.is_ascii_uppercase()) {
        return HeaderValue::try_from(host_only(text)).ok();
    }
    Some(said.clone())
}

fn host_only(said: &str) -> String {
    let end = match said.rfind(':') {
        Some(colon) if !said[colon..].contains(']') => colon,
        _ => said.len(),
    };
    said[..end].to_ascii_lowercase()
}

fn text(value: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(trusted: bool, client: &str, sent: &[(&'static str, &str)], prefix: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().unwrap());
        }
        let facts = Facts {
            trusted,
            peer: &HeaderValue::from_static("127.0.0.1"),
            peer_ip: "127.0.0.1".parse().unwrap(),
            client_ip: client.parse().unwrap(),
            tls: false,
            port: &HeaderValue::from_static("8000"),
            host: &HeaderValue::from_static("Web.Test:8080"),
            path: "/pre/x%20y",
            prefix: prefix.map(str::as_bytes),
            via: &HeaderValue::from_static("1.1 tidegate/0"),
            request_id: Some(&HeaderValue::from_static("id")),
            wishes: Wishes::default(),
        };
        write(&mut headers, &facts);
        headers
    }

    fn check(headers: &HeaderMap, expected: &[(&str, Option<&str>)]) {
        for (name, value) in expected {
            let found = headers.get_all(*name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
            assert_eq!(found, value.iter().copied().collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn the_upstream_learns_who_asked_for_what() {
        let headers = written(false, "127.0.0.1", &[], Some("/pre"));
        let expected = [
            ("x-real-ip", Some("127.0.0.1")),
            ("x-forwarded-for", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("web.test")),
            ("x-forwarded-port", Some("8000")),
            ("x-forwarded-path", Some("/pre/x%20y")),
            ("x-forwarded-prefix", Some("/pre")),
            ("via", Some("1.1 tidegate/0")),
            ("x-kong-request-id", Some("id")),
            ("connection", Some("keep-alive")),
            ("upgrade", None),
            ("te", None),
        ];
        check(&headers, &expected);
    }

    const TOLD: &[(&str, &str)] = &[
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "other.test"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-path", "/other"),
        ("x-forwarded-prefix", "/pfx"),
        ("x-real-ip", "10.9.9.9"),
        ("x-kong-request-id", "mine"),
        ("via", "1.0 first"),
    ];

    #[test]
    fn an_untrusted_peers_word_counts_for_nothing() {
        let headers = written(false, "127.0.0.1", TOLD, None);
        let expected = [
            ("x-forwarded-for", Some("10.1.2.3, 127.0.0.1")),
            ("x-real-ip", Some("127.0.0.1")),
            ("x-forwarded-proto", Some("http")),
            ("x-forwarded-host", Some("web.test")),
            ("x-forwarded-port", Some("8000")),
            ("x-forwarded-path", Some("/pre/x%20y")),
            ("x-forwarded-prefix", None),
            ("x-kong-request-id", Some("id")),
            ("via", Some("1.0 first, 1.1 tidegate/0")),
        ];
        check(&headers, &expected);
    }

    #[test]
    fn a_trusted_peers_word_stands_header_by_header() {
        let headers = written(true, "10.1.2.3", TOLD, Some("/ours"));
        let expected = [
            ("x-forwarded-for", Some("10.1.2.3, 127.0.0.1")),
            ("x-real-ip", Some("10.1.2.3")),
            ("x-forwarded-proto", Some("https")),
            ("x-forwarded-host", Some("other.test")),
            ("x-forwarded-port", Some("443")),
            ("x-forwarded-path", Some("/other")),
            ("x-forwarded-prefix", Some("/pfx")),
        ];
        check(&headers, &expected);
        check(&written(true, "127.0.0.1", &[], Some("/ours")), &[("x-forwarded-prefix", Some("/ours"))]);
    }

    #[test]
    fn of_repeated_headers_the_first_stands_and_lists_are_joined() {
        let sent = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
        ];
        let headers = written(true, "127.0.0.1", &sent, None);
        check(
            &headers,
            &[("x-forwarded-proto", Some("https")), ("x-forwarded-for", Some("1.1.1.1, 2.2.2.2, 127.0.0.1"))],
        );
    }

    #[test]
    fn wishes_go_up_anew() {
        let mut headers = HeaderMap::new();
        connection(&mut headers, Wishes { websocket: true, trailers: true, ..Wishes::default() });
        check(
            &headers,
            &[("connection", Some("keep-alive, Upgrade")), ("upgrade", Some("websocket")), ("te", Some("trailers"))],
        );
    }

    #[test]
    fn the_client_s_scheme_and_host_are_believed_from_trusted_peers_only() {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        headers.insert("x-forwarded-host", HeaderValue::from_static("front.test"));
        assert!(
            is_https(&headers, true, false) && !is_https(&headers, false, false) && is_https(&headers, false, true)
        );
        assert_eq!(host(&headers, true, "a:1"), "front.test");
        assert_eq!(host(&headers, false, "A.test:1"), "a.test");
        assert_eq!(host(&headers, false, "[::1]:8000"), "[::1]");
        assert_eq!(host(&headers, false, "[::1]"), "[::1]");
    }
}
