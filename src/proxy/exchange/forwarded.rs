//! The headers that describe the client to the upstream (`kong/proxy.md` §4.2).
//!
//! A trusted peer may speak for the client: each `X-Forwarded-*` header that it sent passes, each that it left out is set
//! here. Those of other peers are replaced, but for `X-Forwarded-For`, which Kong extends whoever sent it. Values that do
//! not change between the requests of a connection are made once and shared.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderValue};

use crate::http1::added::{AddedHeaders, Value, listed};
use crate::http1::fields::{HopByHop, RequestFields};
use crate::http1::name::Name;
use crate::proxy::exchange::request_id::RequestId;
use crate::proxy::names::{
    CONNECTION, REQUEST_ID, TE, UPGRADE, VIA, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PATH, X_FORWARDED_PORT,
    X_FORWARDED_PREFIX, X_FORWARDED_PROTO, X_REAL_IP,
};

/// Facts about one request, for its headers.
pub struct ForwardedFacts<'a> {
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
    pub path: &'a [u8],
    /// What was stripped from the path.
    pub prefix: Option<&'a [u8]>,
    /// `1.1 tidegate/VERSION`, with the client's version.
    pub via: &'a HeaderValue,
    /// `None`: not told.
    pub request_id: Option<&'a RequestId>,
    pub fields: RequestFields,
    /// Fields of the client that do not pass.
    pub hop_by_hop: &'a HopByHop,
}

/// Adds the headers that the gateway adds to a request. `headers`: as the client sent them.
pub fn add_forwarded<'a>(added: &mut AddedHeaders<'a>, headers: &HeaderMap, facts: &ForwardedFacts<'a>) {
    addresses(added, headers, facts);
    let mut decide = |name: &'static Name, ours| {
        let is_trusted = facts.trusted && !facts.hop_by_hop.contains(&name.header, name.mark);
        added.set(name, decided(headers, name, is_trusted, ours));
    };
    decide(&X_FORWARDED_PROTO, Some(Value::Static(if facts.tls { "https" } else { "http" })));
    decide(&X_FORWARDED_HOST, host_value(facts.host));
    decide(&X_FORWARDED_PORT, Some(Value::Shared(facts.port)));
    decide(&X_FORWARDED_PATH, Value::text(facts.path));
    decide(&X_FORWARDED_PREFIX, facts.prefix.and_then(Value::text));
    added.set(&VIA, listed(own(headers, &VIA, facts), facts.via));
    if let Some(id) = facts.request_id {
        added.set(&REQUEST_ID, id.value());
    }
    connection(added, &facts.fields);
}

/// The client's values of a field that may pass.
fn own<'h>(
    headers: &'h HeaderMap,
    name: &'static Name,
    facts: &ForwardedFacts<'_>,
) -> impl Iterator<Item = &'h HeaderValue> {
    let passes = !facts.hop_by_hop.contains(&name.header, name.mark);
    headers.get_all(&name.header).iter().filter(move |_| passes)
}

/// Whether the client used TLS: as a trusted peer says, else as the connection is.
pub fn is_https(headers: &HeaderMap, trusted: bool, tls: bool) -> bool {
    match trusted.then(|| headers.get(&X_FORWARDED_PROTO.header)).flatten() {
        Some(told) => told == "https",
        None => tls,
    }
}

/// The host that the client used: as a trusted peer says, else as the request says; lower case, without a port.
pub fn host(headers: &HeaderMap, trusted: bool, said: &str) -> String {
    let told = headers.get(&X_FORWARDED_HOST.header).filter(|_| trusted);
    let told = told.and_then(|told| told.to_str().ok());
    told.map_or_else(|| String::from_utf8_lossy(bare(said.as_bytes())).to_ascii_lowercase(), str::to_owned)
}

fn addresses<'a>(added: &mut AddedHeaders<'a>, headers: &HeaderMap, facts: &ForwardedFacts<'a>) {
    let client = if facts.client_ip == facts.peer_ip {
        Value::Shared(facts.peer)
    } else {
        let text = HeaderValue::try_from(facts.client_ip.to_string());
        text.map_or(Value::Shared(facts.peer), Value::Made)
    };
    let path = match listed(own(headers, &X_FORWARDED_FOR, facts), facts.peer) {
        Value::Shared(_) => client.clone(),
        longer => longer,
    };
    added.set(&X_FORWARDED_FOR, path);
    added.set(&X_REAL_IP, client);
}

fn connection(added: &mut AddedHeaders<'_>, fields: &RequestFields) {
    if fields.websocket {
        added.set(&CONNECTION, Value::Static("keep-alive, Upgrade"));
        added.set(&UPGRADE, Value::Static("websocket"));
    } else {
        added.set(&CONNECTION, Value::Static("keep-alive"));
    }
    if fields.trailers {
        added.set(&TE, Value::Static("trailers"));
    }
}

/// A trusted peer's first value, else ours, or none.
fn decided<'a>(headers: &HeaderMap, name: &Name, trusted: bool, ours: Option<Value<'a>>) -> Value<'a> {
    let told = trusted.then(|| headers.get(&name.header)).flatten();
    told.map(|told| Value::Made(told.clone())).or(ours).unwrap_or(Value::Nothing)
}

/// Without its port and in lower case, as it mostly is already.
fn host_value(said: &HeaderValue) -> Option<Value<'_>> {
    let said = bare(said.as_bytes());
    if said.iter().any(u8::is_ascii_uppercase) {
        return HeaderValue::from_bytes(&said.to_ascii_lowercase()).ok().map(Value::Made);
    }
    Value::text(said)
}

fn bare(said: &[u8]) -> &[u8] {
    match said.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !said[colon..].contains(&b']') => &said[..colon],
        _ => said,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: &str = "77777777777777777777777777777777";

    fn written(trusted: bool, client: &str, sent: &[(&'static str, &str)], prefix: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, value.parse().unwrap());
        }
        let fields = RequestFields::default();
        let facts = ForwardedFacts {
            trusted,
            peer: &HeaderValue::from_static("127.0.0.1"),
            peer_ip: "127.0.0.1".parse().unwrap(),
            client_ip: client.parse().unwrap(),
            tls: false,
            port: &HeaderValue::from_static("8000"),
            host: &HeaderValue::from_static("Web.Test:8080"),
            path: b"/pre/x%20y",
            prefix: prefix.map(str::as_bytes),
            via: &HeaderValue::from_static("1.1 tidegate/0"),
            request_id: Some(&RequestId([b'7'; 32])),
            fields,
            hop_by_hop: &HopByHop::of(&headers, &fields),
        };
        let mut added = AddedHeaders::default();
        add_forwarded(&mut added, &headers, &facts);
        added.settle(&mut headers);
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
            ("x-kong-request-id", Some(ID)),
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
            ("x-kong-request-id", Some(ID)),
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
        let mut added = AddedHeaders::default();
        let fields = RequestFields { websocket: true, trailers: true, ..RequestFields::default() };
        connection(&mut added, &fields);
        added.settle(&mut headers);
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
