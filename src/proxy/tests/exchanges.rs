//! Exchanges that go well.

use serde_json::json;

use crate::entity::Kind;
use crate::proxy::measure::Desk;
use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::{Gateway, entity, plain_route, plain_service};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Mixed-Case: 1\r\n\r\nhello";

#[test]
fn a_request_reaches_the_upstream_and_its_answer_the_client() {
    let backend = Backend::saying(HELLO);
    let gateway =
        Gateway::with(backend.address, json!({"path": "/up"}), json!({"paths": ["/api"], "strip_path": true}), |_| {});
    let answer = gateway.ask("GET /api/x%20y?q=%2F HTTP/1.1\r\nHost: Web.Test:99\r\nX-My-Header: a\r\n\r\n");
    assert_eq!((answer.status, answer.text()), (200, "hello"));
    assert!(answer.head.contains("\r\nX-Mixed-Case: 1\r\n"), "{}", answer.head);
    assert_eq!(answer.header("via"), Some(concat!("1.1 tidegate/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(answer.header("server"), Some(concat!("tidegate/", env!("CARGO_PKG_VERSION"))));
    assert!(answer.header("date").is_some());
    for latency in ["x-kong-proxy-latency", "x-kong-upstream-latency"] {
        assert!(answer.header(latency).is_some_and(|value| value.parse::<u64>().is_ok()), "{}", answer.head);
    }
    let seen = backend.last();
    assert_eq!(seen.line(), "GET /up/x%20y?q=%2F HTTP/1.1");
    assert!(seen.head.contains("\r\nX-My-Header: a\r\n"), "{}", seen.head);
    let port = gateway.address().port().to_string();
    let host = backend.address.to_string();
    for (name, value) in [
        ("host", host.as_str()),
        ("connection", "keep-alive"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "web.test"),
        ("x-forwarded-port", port.as_str()),
        ("x-forwarded-path", "/api/x%20y"),
        ("x-forwarded-prefix", "/api"),
        ("x-kong-request-id", answer.header("x-kong-request-id").unwrap()),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

/// What instructions are counted of has to be what is done.
#[test]
fn the_door_for_benchmarks_writes_what_a_node_sends() {
    let asked = "GET /api/x?q=1 HTTP/1.1\r\nHost: Web.Test:99\r\nX-My-Header: a\r\n\r\n";
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({"paths": ["/api"], "strip_path": true}), |_| {});
    assert_eq!(gateway.ask(asked).status, 200);
    // All but what differs from node to node and from request to request.
    let lines = |head: &str| {
        let varies = |line: &&str| {
            let line = line.to_ascii_lowercase();
            !["host:", "x-forwarded-port:", "x-kong-request-id:"].iter().any(|name| line.starts_with(name))
        };
        let mut lines: Vec<String> = head.trim_end().lines().filter(varies).map(str::to_owned).collect();
        lines.sort_unstable();
        (lines, head.trim_end().lines().count())
    };
    let mut desk = Desk::default();
    let written = String::from_utf8(desk.forward(asked.as_bytes(), "/api".len()).unwrap().to_vec()).unwrap();
    assert_eq!(lines(&written), lines(&backend.last().head));
    assert!(desk.forward(b"GET / HTTP/1.0\r\n\r\n", 0).is_none());
}

#[test]
fn a_connection_carries_many_requests_also_at_once() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer("GET").text(), "hello");
    }
    client.send(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(5));
    for _ in 0..5 {
        assert_eq!(client.answer("GET").text(), "hello");
    }
    client.finish();
    assert!(client.is_closed() && gateway.is_deserted());
    assert_eq!(gateway.log_lines().len(), 8);
}

#[test]
fn a_connection_ends_after_its_share_of_requests() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.keepalive_requests = 2);
    let mut client = gateway.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("GET").header("connection"), None);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("GET").header("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn an_answer_to_head_has_a_length_and_no_body() {
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer("HEAD");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
    }
    assert_eq!(backend.last().line(), "HEAD / HTTP/1.1");
}

#[test]
fn answers_without_a_body_have_none() {
    for status in ["204 No Content", "304 Not Modified"] {
        let backend = Backend::saying(format!("HTTP/1.1 {status}\r\nETag: \"x\"\r\n\r\n"));
        let gateway = Gateway::before(backend.address);
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            let answer = client.answer("GET");
            assert_eq!(answer.status.to_string(), status[..3]);
            assert_eq!((answer.header("etag"), answer.header("transfer-encoding")), (Some("\"x\""), None));
        }
    }
}

#[test]
fn bodies_without_a_length_arrive_whole_in_both_directions() {
    let backend =
        Backend::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n");
    let gateway = Gateway::before(backend.address);
    let answer = gateway
        .ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n");
    assert_eq!((answer.text(), answer.header("content-length")), ("abcdefg", None));
    let seen = backend.last();
    assert_eq!(seen.body, b"hello, world");
    assert_eq!((seen.header("content-length"), seen.header("transfer-encoding")), (Some("12"), None));
}

#[test]
fn a_body_too_long_to_hold_is_streamed_as_the_client_framed_it() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let body = "x".repeat(300_000);
    gateway.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert_eq!((backend.last().body.len(), backend.last().header("content-length")), (300_000, Some("300000")));
    gateway.ask(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    ));
    assert_eq!((backend.last().body.len(), backend.last().header("transfer-encoding")), (300_000, Some("chunked")));
}

#[test]
fn trailers_pass_to_a_client_that_takes_them() {
    let backend = Backend::saying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n",
    );
    let gateway = Gateway::before(backend.address);
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    assert_eq!((answer.header("trailer"), answer.text().to_lowercase().as_str()), (Some("X-Sum"), "abc|x-sum: 6"));
    assert_eq!(backend.last().header("te"), Some("trailers"));
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.header("trailer"), answer.text()), (None, "abc"));
}

#[test]
fn continue_is_said_by_the_gateway_and_expect_goes_no_further() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    client.send(b"body");
    assert_eq!(client.answer("POST").text(), "hello");
    assert_eq!((backend.last().header("expect"), &backend.last().body[..]), (None, &b"body"[..]));
}

#[test]
fn a_body_that_will_not_be_read_is_not_asked_for() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({"paths": ["/a"]}), |_| {});
    let mut client = gateway.connect();
    client.send(b"POST /b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.answer("POST").status, 404);
}

#[test]
fn a_length_of_zero_is_told_when_the_client_told_it() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(backend.last().header("content-length"), Some("0"));
    gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(backend.last().header("content-length"), Some("0"));
    gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(backend.last().header("content-length"), None);
}

#[test]
fn an_old_client_is_answered_and_its_connection_closed() {
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    let gateway = Gateway::before(backend.address);
    let answer = gateway.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(
        (answer.text(), answer.header("connection"), answer.header("transfer-encoding")),
        ("abc", Some("close"), None)
    );
    assert!(backend.last().header("via").unwrap().starts_with("1 tidegate/"));
}

#[test]
fn a_client_that_wants_to_close_is_closed() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer("GET").header("connection"), Some("close"));
    assert!(client.is_closed());
    assert_eq!(backend.last().header("connection"), Some("keep-alive"));
}

#[test]
fn a_host_in_the_target_is_the_host() {
    let backend = Backend::saying(HELLO);
    let gateway =
        Gateway::with(backend.address, json!({}), json!({"hosts": ["b.test"], "preserve_host": true}), |_| {});
    assert_eq!(gateway.ask("GET http://b.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n").status, 200);
    assert_eq!((backend.last().line(), backend.last().header("host")), ("GET /x?y HTTP/1.1", Some("b.test")));
}

#[test]
fn orders_to_the_edge_stop_here() {
    let backend = Backend::saying(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.fly.replay+json\r\nfly-replay: app=x\r\nContent-Length: 12\r\n\r\n{\"app\":\"xx\"}",
    );
    let gateway = Gateway::before(backend.address);
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.text(), answer.header("fly-replay"), answer.header("content-type")), ("", None, None));
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.allow_fly_replay = true);
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.text(), answer.header("fly-replay")), ("{\"app\":\"xx\"}", Some("app=x")));
}

#[test]
fn debug_headers_name_the_route_when_allowed() {
    let backend = Backend::saying(HELLO);
    let ask = |allowed| {
        let gateway =
            Gateway::with(backend.address, json!({}), json!({}), |options| options.allow_debug_header = allowed);
        let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nKong-Debug: 1\r\n\r\n");
        (answer.header("kong-route-name").map(str::to_owned), answer.header("kong-service-name").map(str::to_owned))
    };
    assert_eq!(ask(true), (Some("r".to_owned()), Some("s".to_owned())));
    assert_eq!(ask(false), (None, None));
}

#[test]
fn the_log_has_a_line_for_each_exchange() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    gateway.ask("GET /x?y=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: probe/1\r\nReferer: r\r\n\r\n");
    assert!(gateway.is_deserted());
    let lines = gateway.log_lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("127.0.0.1 - - ["), "{lines:?}");
    assert!(lines[0].contains("] \"GET /x?y=1 HTTP/1.1\" 200 5 \"r\" \"probe/1\" kong_request_id: \""), "{lines:?}");
}

#[test]
fn routes_without_a_service_or_with_a_stricter_protocol_say_so() {
    let backend = Backend::saying(HELLO);
    let route = |id, changes| entity(Kind::ROUTES, id, plain_route(), changes);
    let entities = vec![
        entity(Kind::SERVICES, 1, plain_service(backend.address), json!({})),
        route(2, json!({"paths": ["/none"], "service": null})),
        route(3, json!({"paths": ["/secure"], "protocols": ["https"]})),
        route(4, json!({"paths": ["/moved"], "protocols": ["https"], "https_redirect_status_code": 308})),
        route(5, json!({"paths": ["/grpc"], "protocols": ["grpc"]})),
    ];
    let gateway = Gateway::serving(entities, |_| {});
    let ask = |path: &str| gateway.ask(&format!("GET {path} HTTP/1.1\r\nHost: Web.Test:8000\r\n\r\n"));
    assert!(ask("/none").text().contains("no Service found with those values"));
    let answer = ask("/secure");
    assert_eq!((answer.status, answer.header("upgrade")), (426, Some("TLS/1.2, HTTP/1.1")));
    let answer = ask("/moved/a%20b?x=%2F");
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://web.test/moved/a%20b?x=%2F")));
    assert_eq!(ask("/grpc").status, 415);
    let answer = ask("/nothing");
    assert_eq!((answer.status, answer.header("content-type")), (404, Some("application/json; charset=utf-8")));
    assert!(answer.text().starts_with("{\n  \"message\":\"no Route matched with those values\",\n  \"request_id\":\""));
    assert!(answer.header("x-kong-response-latency").is_some() && answer.header("via").is_none());
    assert_eq!(backend.seen().len(), 0);
}
