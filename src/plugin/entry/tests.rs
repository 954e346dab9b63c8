//! The log document, as a specification: what an entry holds, and what the document says of it.

use http::HeaderValue;
use serde_json::json;

use super::*;
use crate::entity::Kind;

fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn entity(kind: Kind, doc: Value) -> Option<Arc<Entity>> {
    Some(Arc::new(Entity::from_doc(kind, doc.as_object().unwrap()).unwrap()))
}

fn document(entry: &Entry) -> Value {
    let document: Value = serde_json::from_str(&entry.to_json()).unwrap();
    assert_eq!(Value::Object(entry.to_doc()), document, "text and tree say the same");
    document
}

/// Changes the HTTP part of an entry about which nothing else is known, and answers the document.
fn http(change: impl FnOnce(&mut LoggedHttp)) -> Value {
    let mut http = LoggedHttp::default();
    change(&mut http);
    document(&Entry { traffic: LoggedTraffic::Http(Box::new(http)), ..Entry::default() })
}

const ID: &str = "0123abcd-0000-4000-8000-000000000001";
const OTHER_ID: &str = "0123abcd-0000-4000-8000-000000000002";

#[test]
fn a_proxied_request() {
    let request = LoggedRequest {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        method: Method::POST,
        scheme: "https",
        host: "api.test".to_owned(),
        port: 8443,
        uri: Bytes::from_static(b"/a/p%20q?x=1"),
        query: Bytes::from_static(b"x=1"),
        size: 220,
        headers: headers(&[("host", b"up.test"), ("authorization", b"Bearer secret"), ("x-a", b"v")]),
        tls: Some(LoggedTls { version: "TLSv1.3", cipher: "TLS_AES_256_GCM_SHA384", client_verify: "NONE".to_owned() }),
    };
    let response = LoggedResponse { status: 200, size: 300, headers: headers(&[("content-type", b"text/plain")]) };
    let entry = Entry {
        started_at_ms: 1_764_000_020_123,
        client_ip: "192.0.2.7".parse().unwrap(),
        traffic: LoggedTraffic::Http(Box::new(LoggedHttp {
            request,
            response,
            upstream_uri: Bytes::from_static(b"/p%20q?x=1"),
            upstream_status: vec![502, 200],
            source: LogSource::Upstream,
            latencies: HttpLatencies { kong_ms: 3, proxy_ms: Some(20), request_ms: 25, receive_ms: 2 },
        })),
        tries: vec![
            LoggedTry {
                ip: "10.0.0.1".parse().unwrap(),
                port: 80,
                balancer_start_ns: 1_764_000_020_124_000_007,
                balancer_latency_ns: 1_999_999,
                failure: Some(TryFailure { kind: TryFailureKind::Connection, code: 502 }),
            },
            LoggedTry {
                ip: "::1".parse().unwrap(),
                port: 81,
                balancer_start_ns: 1_764_000_020_130_999_999,
                balancer_latency_ns: 512,
                failure: None,
            },
        ],
        route: entity(
            Kind::ROUTES,
            json!({"id": ID, "name": "r", "paths": ["/a"], "hosts": null, "service": {"id": OTHER_ID}, "created_at": 1}),
        ),
        service: entity(Kind::SERVICES, json!({"id": OTHER_ID, "host": "up.test", "path": null, "retries": 5})),
        consumer: entity(Kind::CONSUMERS, json!({"id": ID, "username": "bob", "custom_id": null, "tags": ["t"]})),
        authenticated_entity: Some(LoggedCredential { id: OTHER_ID.to_owned(), consumer_id: None }),
        added: Doc::new(),
    };
    let expected = json!({
        "request": {
            "id": "0123456789abcdef0123456789abcdef", "method": "POST", "uri": "/a/p%20q?x=1",
            "url": "https://api.test:8443/a/p%20q?x=1", "querystring": {"x": "1"}, "size": 220,
            "headers": {"host": "up.test", "authorization": "REDACTED", "x-a": "v"},
            "tls": {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "client_verify": "NONE"}
        },
        "response": {"status": 200, "size": 300, "headers": {"content-type": "text/plain"}},
        "upstream_uri": "/p%20q?x=1", "upstream_status": "502, 200", "source": "upstream",
        "latencies": {"kong": 3, "proxy": 20, "request": 25, "receive": 2},
        "tries": [
            {"ip": "10.0.0.1", "port": 80, "balancer_start": 1_764_000_020_124_u64,
                "balancer_start_ns": 1_764_000_020_124_000_007_u64, "balancer_latency": 1,
                "balancer_latency_ns": 1_999_999, "state": "failed", "code": 502},
            {"ip": "::1", "port": 81, "balancer_start": 1_764_000_020_130_u64,
                "balancer_start_ns": 1_764_000_020_130_999_999_u64, "balancer_latency": 0, "balancer_latency_ns": 512}
        ],
        "route": {"id": ID, "name": "r", "paths": ["/a"], "service": {"id": OTHER_ID}, "created_at": 1, "ws_id": WORKSPACE},
        "service": {"id": OTHER_ID, "host": "up.test", "retries": 5, "ws_id": WORKSPACE},
        "consumer": {"id": ID, "username": "bob", "tags": ["t"], "ws_id": WORKSPACE},
        "authenticated_entity": {"id": OTHER_ID},
        "client_ip": "192.0.2.7", "started_at": 1_764_000_020_123_u64,
        "workspace": WORKSPACE, "workspace_name": "default"
    });
    assert_eq!(document(&entry), expected);
}

#[test]
fn a_request_without_a_route_has_no_tries_and_no_entities() {
    let document = document(&Entry::default());
    let names: Vec<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "request",
        "response",
        "upstream_uri",
        "upstream_status",
        "source",
        "latencies",
        "client_ip",
        "started_at",
        "workspace",
        "workspace_name",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        (&document["upstream_uri"], &document["upstream_status"], &document["source"]),
        (&json!(""), &json!(""), &json!("kong"))
    );
    assert_eq!(document["latencies"], json!({"kong": 0, "proxy": -1, "request": 0, "receive": 0}));
}

#[test]
fn a_request_with_a_route_that_was_not_proxied_has_an_empty_list_of_tries() {
    let route = entity(Kind::ROUTES, json!({"id": ID, "service": null}));
    let document = document(&Entry { route, ..Entry::default() });
    assert_eq!(document["tries"], json!([]));
    assert_eq!(document["route"], json!({"id": ID, "ws_id": WORKSPACE}));
    assert_eq!(document.get("service"), None);
}

#[test]
fn header_names_are_in_lower_case_and_repeated_values_a_list() {
    let sent = headers(&[("X-A", b"1"), ("set-cookie", b"a=1"), ("set-cookie", b"b=2"), ("x-empty", b"")]);
    let document = http(|http| (http.request.headers, http.response.headers) = (sent.clone(), sent));
    let expected = json!({"x-a": "1", "set-cookie": ["a=1", "b=2"], "x-empty": ""});
    assert_eq!((&document["request"]["headers"], &document["response"]["headers"]), (&expected, &expected));
}

#[test]
fn credentials_of_the_request_are_redacted_and_cookies_are_not() {
    let lines: &[(&str, &[u8])] = &[
        ("authorization", b"one"),
        ("authorization", b"two"),
        ("proxy-authorization", b"three"),
        ("cookie", b"session=four"),
    ];
    let document = http(|http| (http.request.headers, http.response.headers) = (headers(lines), headers(&lines[..1])));
    let expected = json!({"authorization": "REDACTED", "proxy-authorization": "REDACTED", "cookie": "session=four"});
    assert_eq!(document["request"]["headers"], expected);
    assert_eq!(document["response"]["headers"], json!({"authorization": "one"}));
}

#[test]
fn at_most_100_header_lines_are_told_and_redaction_holds_beyond_them() {
    let mut many = HeaderMap::new();
    for number in 0..150 {
        many.append(http::HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from_static("v"));
    }
    many.append("authorization", HeaderValue::from_static("secret"));
    let document = http(|http| http.request.headers = many);
    let told = document["request"]["headers"].as_object().unwrap();
    assert_eq!((told.len(), &told["authorization"]), (100, &json!("REDACTED")));
}

#[test]
fn a_query_is_decoded_into_arguments() {
    let check = |query: &'static str, expected: Value| {
        let document = http(|http| http.request.query = Bytes::from_static(query.as_bytes()));
        assert_eq!(document["request"]["querystring"], expected, "{query}");
    };
    check("", json!({}));
    check("a=1&b&c=2&c=3", json!({"a": "1", "b": true, "c": ["2", "3"]}));
    check("c=1&c&c=3", json!({"c": ["1", true, "3"]}));
    check("a=&%61%20b=x+y%2F", json!({"a": "", "a b": "x y/"}));
    check("=1&&a", json!({"a": true}));
}

#[test]
fn what_is_no_utf_8_is_replaced() {
    let document = http(|http| {
        http.request.uri = Bytes::from_static(b"/\xff");
        http.request.query = Bytes::from_static(b"a=%ff");
        http.request.headers = headers(&[("x-a", b"\xe9")]);
        http.upstream_uri = Bytes::from_static(b"/\xff");
    });
    assert_eq!(document["request"]["uri"], json!("/\u{fffd}"));
    assert_eq!(document["request"]["querystring"], json!({"a": "\u{fffd}"}));
    assert_eq!(document["request"]["headers"], json!({"x-a": "\u{fffd}"}));
    assert_eq!(document["upstream_uri"], json!("/\u{fffd}"));
}

#[test]
fn an_answer_that_counts_as_a_failure_is_next() {
    let failure = Some(TryFailure { kind: TryFailureKind::Answer, code: 503 });
    let route = entity(Kind::ROUTES, json!({"id": ID}));
    let only = LoggedTry { ip: [127, 0, 0, 1].into(), port: 1, balancer_start_ns: 0, balancer_latency_ns: 0, failure };
    let document = document(&Entry { route, tries: vec![only], ..Entry::default() });
    assert_eq!((&document["tries"][0]["state"], &document["tries"][0]["code"]), (&json!("next"), &json!(503)));
}

#[test]
fn members_that_plugins_added_are_told_and_replace_others() {
    let added = json!({"correlation_id": "c#1", "trace_id": {"w3c": "ab"}, "client_ip": "hidden"});
    let document = document(&Entry { added: added.as_object().unwrap().clone(), ..Entry::default() });
    assert_eq!((&document["correlation_id"], &document["trace_id"]["w3c"]), (&json!("c#1"), &json!("ab")));
    assert_eq!(document["client_ip"], json!("hidden"));
}

#[test]
fn the_document_is_one_line_in_which_no_member_occurs_twice() {
    let added = json!({"request": "mine\n", "tries": 1, "service": 2});
    let (route, service) = (entity(Kind::ROUTES, json!({"id": ID})), entity(Kind::SERVICES, json!({"id": ID})));
    let text = Entry { route, service, added: added.as_object().unwrap().clone(), ..Entry::default() }.to_json();
    assert!(!text.contains('\n'), "{text}");
    for name in ["\"request\":\"", "\"tries\":", "\"service\":"] {
        assert_eq!(text.matches(name).count(), 1, "{name} in {text}");
    }
}

#[test]
fn a_consumer_id_is_told_where_the_credential_carries_one() {
    let consumer_id = Some(ID.parse().unwrap());
    let authenticated_entity = Some(LoggedCredential { id: "ldap".to_owned(), consumer_id });
    let document = document(&Entry { authenticated_entity, ..Entry::default() });
    assert_eq!(document["authenticated_entity"], json!({"id": "ldap", "consumer_id": ID}));
}

#[test]
fn a_stream_session() {
    let session = LoggedSession {
        tls: None,
        received: 10,
        sent: 20,
        status: 200,
        server_port: Some(9000),
        upstream_received: 21,
        upstream_sent: 11,
        kong_ms: 1,
        session_ms: 50,
    };
    let traffic = LoggedTraffic::Stream(session.clone());
    let expected = json!({
        "session": {"received": 10, "sent": 20, "status": 200, "server_port": 9000},
        "upstream": {"received": 21, "sent": 11}, "latencies": {"kong": 1, "session": 50},
        "client_ip": "0.0.0.0", "started_at": 0, "workspace": WORKSPACE, "workspace_name": "default"
    });
    let entry = Entry { traffic, ..Entry::default() };
    assert_eq!(document(&entry), expected);
    assert!(entry.http().is_none());
    let tls = Some(LoggedTls { version: "TLSv1.2", cipher: "", client_verify: "SUCCESS".to_owned() });
    let traffic = LoggedTraffic::Stream(LoggedSession { tls, server_port: None, ..session });
    let expected = json!({
        "tls": {"version": "TLSv1.2", "cipher": "", "client_verify": "SUCCESS"},
        "received": 10, "sent": 20, "status": 200
    });
    assert_eq!(document(&Entry { traffic, ..Entry::default() })["session"], expected);
}
