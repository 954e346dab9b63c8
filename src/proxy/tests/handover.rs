//! Connections that the lean path leaves to the general one: nobody notices, but for the metric.

use serde_json::json;

use crate::listen::handover::Handover;
use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::Gateway;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A plain request, the one in question and another plain one, pipelined: the status of the second.
fn check(request: &str, status: u16, expected: Handover) {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.keepalive_requests = 3);
    let mut client = gateway.connect();
    client.send(format!("{GET}{request}").as_bytes());
    assert_eq!(client.answer("GET").text(), "hello");
    if request.contains("100-continue") {
        assert!(client.head().starts_with("HTTP/1.1 100 "));
        client.send(b"body");
    }
    let answer = client.answer("POST");
    assert_eq!(answer.status, status, "{request}");
    if status == 200 && answer.header("connection").is_none() {
        client.send(GET.as_bytes());
        // Requests are counted across the two paths.
        assert_eq!(client.answer("GET").header("connection"), Some("close"), "{request}");
    }
    assert!(client.is_closed());
    for handover in Handover::ALL {
        let count = gateway.traffic.handovers.count(handover);
        assert_eq!(count, u64::from(handover == expected), "{handover:?}: {request}");
    }
    assert!(gateway.is_deserted());
}

#[test]
fn what_is_not_plain_goes_to_the_general_path_in_the_middle_of_a_connection() {
    let post = |head: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}");
    check("GET / HTTP/1.0\r\nHost: a\r\n\r\n", 200, Handover::Version);
    check(&post("Upgrade: foo/2\r\nConnection: Upgrade", ""), 200, Handover::Upgrade);
    check(&post("Expect: 100-continue\r\nContent-Length: 4", ""), 200, Handover::Expect);
    check(&post("TE: trailers", ""), 200, Handover::Trailers);
    check(&post("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"), 200, Handover::Body);
    check(&post("Content-Length: 70000", &"x".repeat(70_000)), 200, Handover::Body);
    check("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 200, Handover::Head);
    check(&post(&format!("X: {}\r\nY: {}", "x".repeat(5_000), "y".repeat(5_000)), ""), 200, Handover::Head);
    check(&post("Content-Length: 1\r\nContent-Length: 1", "x"), 400, Handover::Head);
    check("TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405, Handover::Head);
}

#[test]
fn plain_requests_stay() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(GET.repeat(5).as_bytes());
    client.send(b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody");
    for _ in 0..6 {
        assert_eq!(client.answer("GET").text(), "hello");
    }
    assert!(client.is_closed() && gateway.is_deserted());
    assert_eq!(Handover::ALL.map(|handover| gateway.traffic.handovers.count(handover)), [0; 7]);
    assert_eq!(gateway.log_lines().len(), 6);
}

#[test]
fn bodies_of_any_size_leave_what_was_pipelined_behind_them() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    for (round, length) in [1, 4_096, 4_097, 9_000, 65_536, 5_000].into_iter().enumerate() {
        let body: String = (0..length).map(|at| char::from(b'a' + ((at + round) % 26) as u8)).collect();
        let head = format!("POST /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        client.send(format!("{head}{body}{GET}").as_bytes());
        assert_eq!((client.answer("POST").text(), client.answer("GET").text()), ("hello", "hello"), "{length}");
        let seen = backend.seen();
        let [.., post, get] = &seen[..] else { panic!("{length}: two were asked") };
        assert!(post.line().contains(&format!("/{length} ")) && post.body == body.as_bytes(), "{length}");
        assert!(get.body.is_empty(), "{length}");
    }
    assert_eq!(Handover::ALL.map(|handover| gateway.traffic.handovers.count(handover)), [0; 7]);
}

#[test]
fn a_connection_without_the_lean_path_is_served_all_the_same() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.lean = false);
    assert_eq!(gateway.ask(GET).text(), "hello");
    assert_eq!(gateway.traffic.handovers.count(Handover::Version), 0);
}
