//! Requests that are wrong, and the answer each gets. None of them reaches the upstream, and none keeps a connection.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;

use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::{Gateway, until};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// What follows the request line; the status.
#[rustfmt::skip]
const HEADS: &[(&str, u16)] = &[
    ("Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", 400),
    ("Host: a\r\nContent-Length: 1, 2\r\n\r\nxx", 400),
    ("Host: a\r\nContent-Length: +1\r\n\r\nx", 400),
    ("Host: a\r\nContent-Length: -1\r\n\r\n", 400),
    ("Host: a\r\nContent-Length: 0x1\r\n\r\nx", 400),
    ("Host: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
    ("Host: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    ("Host: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
    ("Host: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
    ("Host: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n", 400),
    ("Host : a\r\n\r\n", 400),
    (" Host: a\r\n\r\n", 400),
    ("Host: a\r\nX y: 1\r\n\r\n", 400),
    ("Host: a\r\nX\x01: 1\r\n\r\n", 400),
    ("Host: a\r\nX: a\x00b\r\n\r\n", 400),
    ("Host: a\r\n: empty\r\n\r\n", 400),
    ("Host: a\r\nX: 1\r\n folded\r\n\r\n", 400),
    ("\r\n", 400),
    ("Host: a\r\nHost: a\r\n\r\n", 400),
    ("Host: a\r\nHost: b\r\n\r\n", 400),
    ("Host:\r\n\r\n", 400),
    ("Host: a b\r\n\r\n", 400),
    ("Host: a/b\r\n\r\n", 400),
    ("Host: a:99x\r\n\r\n", 400),
    ("Host: a:65536\r\n\r\n", 400),
    ("Host: a\r\nX\"y: 1\r\n\r\n", 400),
    ("Host: a\r\nX(y): 1\r\n\r\n", 400),
    ("Host: a\r\nX\u{e9}: 1\r\n\r\n", 400),
];

#[rustfmt::skip]
const LINES: &[(&str, u16)] = &[
    ("GET / HTTP/1.1 x", 400),
    ("GET  / HTTP/1.1", 400),
    ("G\x01T / HTTP/1.1", 400),
    ("GET /a b HTTP/1.1", 400),
    ("GET /a\tb HTTP/1.1", 400),
    ("GET /a\x01b HTTP/1.1", 400),
    ("GET /a\x7fb HTTP/1.1", 400),
    ("GET / HTTP/3.1", 400),
    ("GET * HTTP/1.1", 400),
    ("GET /../x HTTP/1.1", 400),
    ("GET /%00 HTTP/1.1", 400),
    ("TRACE / HTTP/1.1", 405),
    ("CONNECT a:1 HTTP/1.1", 405),
];

fn check(gateway: &Gateway, request: &str, status: u16) {
    let mut client = gateway.connect();
    client.send(request.as_bytes());
    let answer = client.answer("GET");
    assert_eq!(answer.status, status, "{request:?}");
}

#[test]
fn what_is_wrong_is_refused_and_goes_no_further() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    for (head, status) in HEADS {
        check(&gateway, &format!("GET / HTTP/1.1\r\n{head}"), *status);
    }
    for (line, status) in LINES {
        check(&gateway, &format!("{line}\r\nHost: a\r\n\r\n"), *status);
    }
    assert_eq!(backend.seen().len(), 0);
    assert!(gateway.is_deserted());
    check(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
}

/// Whoever refuses a request, client and operator see the same as of every other exchange.
#[test]
fn every_refusal_has_an_error_body_a_request_id_and_a_log_line() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let heads = HEADS.iter().map(|(head, _)| format!("GET / HTTP/1.1\r\n{head}"));
    let lines = LINES.iter().map(|(line, _)| format!("{line}\r\nHost: a\r\n\r\n"));
    let long = [format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(9_000)), "\x16\x03\x01\r\n\r\n".to_owned()];
    let mut asked = 0;
    for request in heads.chain(lines).chain(long) {
        let answer = gateway.ask(&request);
        asked += 1;
        let id = answer.header("x-kong-request-id").unwrap_or_default();
        assert!(id.len() == 32 && answer.text().contains(id), "{request:.60} {answer:?}");
        assert!(answer.header("server").is_some_and(|server| server.starts_with("tidegate/")), "{answer:?}");
        assert!(answer.header("x-kong-response-latency").is_some() && answer.header("date").is_some());
        assert!(until(|| gateway.log_lines().len() == asked), "{request:.60}");
        let lines = gateway.log_lines();
        let expected = format!("\" {} ", answer.status);
        assert!(lines[asked - 1].contains(id) && lines[asked - 1].contains(&expected), "{lines:?}");
    }
}

#[test]
fn bytes_that_clients_should_encode_pass_in_queries_and_are_encoded_in_paths() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(b"GET /a{|}\"<>^`\xe9?q={\"a\":[1]}&<>^`|\xe9\\ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("GET").status, 200);
    let line = "GET /a%7B%7C%7D%22%3C%3E%5E%60%E9?q={\"a\":[1]}&<>^`|";
    let seen = backend.last_bytes();
    assert!(seen.starts_with(line.as_bytes()), "{:?}", String::from_utf8_lossy(&seen));
    assert!(seen[line.len()..].starts_with(b"\xe9\\ HTTP/1.1\r\n"));
}

#[test]
fn heads_and_lines_that_are_too_long_are_refused() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    check(&gateway, &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(9_000)), 414);
    check(&gateway, &format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "q".repeat(70_000)), 414);
    check(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(100_000)), 400);
    let lines = "X: 0123456789\r\n".repeat(90);
    check(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"), 200);
    check(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.repeat(11)), 200);
    check(&gateway, &format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.repeat(12)), 400);
    let answer = gateway.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000)));
    assert!(answer.text().starts_with("Request header or cookie too large\n"), "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(gateway.is_deserted());
}

#[test]
fn framing_that_says_two_things_is_refused_with_a_body_and_a_log_line() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let heads = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ];
    for head in heads {
        let mut client = gateway.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.answer("GET").status, 200);
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        client.send(
            format!("POST /x HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n{head}\r\n\r\n0\r\n\r\n{smuggled}").as_bytes(),
        );
        let answer = client.answer("POST");
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{head}");
        assert!(answer.text().contains("<p>Bad request.</p>"), "{}", answer.text());
        assert!(client.is_closed());
    }
    assert_eq!(backend.seen().len(), heads.len());
    assert!(gateway.is_deserted());
    let refused = gateway.log_lines().iter().filter(|line| line.contains("\"POST /x HTTP/1.1\" 400 ")).count();
    assert_eq!(refused, heads.len());
}

#[test]
fn requests_in_pieces_and_in_heaps_are_the_same_requests() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let request = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut client = gateway.connect();
    client.send(request.repeat(3).as_bytes());
    for _ in 0..3 {
        assert_eq!(client.answer("POST").text(), "hello");
    }
    for piece in request.as_bytes().chunks(7) {
        client.send(piece);
    }
    assert_eq!(client.answer("POST").text(), "hello");
    assert!(backend.seen().iter().all(|seen| seen.body == b"abc"));
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_length_and_by_counting() {
    let backend = Backend::saying(HELLO);
    for buffered in [true, false] {
        let route = json!({"request_buffering": buffered});
        let gateway = Gateway::with(backend.address, json!({}), route, |options| options.client_max_body_size = 1000);
        let ok =
            gateway.ask(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000)));
        assert_eq!(ok.status, 200);
        let mut client = gateway.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
        let answer = client.answer("POST");
        assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
        assert!(answer.text().starts_with("Payload too large\n"));
        let mut client = gateway.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send(format!("{:x}\r\n{}\r\n", 1001, "x".repeat(1001)).as_bytes());
        assert_eq!(client.answer("POST").status, 413);
        drop(client);
        assert!(gateway.is_deserted());
    }
}

#[test]
fn a_client_still_sending_gets_to_read_that_it_is_refused() {
    let backend = Backend::saying(HELLO);
    let route = json!({"paths": ["/a"]});
    let gateway = Gateway::with(backend.address, json!({}), route, |options| options.client_max_body_size = 4_000_000);
    for (path, length, status) in [("/a", 5_000_000, 413), ("/b", 3_000_000, 404), ("/b", 5_000_000, 413)] {
        let mut client = gateway.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        assert!(client.try_send(&[b'x'; 3_000_000]), "the connection was reset under the client");
        assert_eq!(client.answer("POST").status, status);
    }
}

#[test]
fn broken_chunks_are_refused() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    for chunks in ["zz\r\n", "-1\r\n", "3\r\nabcd\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "3 ;x\nabc\r\n"] {
        check(&gateway, &format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), 400);
    }
    assert_eq!(backend.seen().len(), 0);
    assert!(gateway.is_deserted());
}

#[test]
fn noise_and_silence_leave_nothing_behind() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let silent: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    let mut noisy = gateway.connect();
    noisy.send(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03, b'\r', b'\n', b'\r', b'\n']);
    assert_eq!(noisy.answer("GET").status, 400);
    let mut half = gateway.connect();
    half.send(b"GET / HTTP/1.1\r\nHos");
    drop((silent, noisy, half));
    assert!(gateway.is_deserted());
}

#[test]
fn whatever_is_sent_is_answered_in_http_or_not_at_all() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let pieces = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"POST /x HTTP/1.1\r\nHost: a\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Expect: 100-continue\r\n".to_vec()),
        Just(b"Connection: X, Upgrade\r\nUpgrade: websocket\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"5\r\nhello\r\n0\r\n\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..20),
    ];
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let checked = TestRunner::new(config).run(&prop::collection::vec(pieces, 0..12), |pieces| {
        let mut client = gateway.connect();
        client.try_send(&pieces.concat());
        client.finish();
        let said = client.rest();
        prop_assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 "), "{:?}", String::from_utf8_lossy(&said));
        Ok(())
    });
    checked.unwrap();
    assert!(gateway.is_deserted());
    check(&gateway, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
}
