//! Exchanges that one side leaves, spoils or never ends.

use std::io::Write;
use std::time::Duration;

use serde_json::json;

use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::{Gateway, until};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn check(backend: &Backend, status: u16, tries: usize) {
    let gateway = Gateway::with(backend.address, json!({"read_timeout": 300}), json!({}), |_| {});
    let answer = gateway.ask(GET);
    assert_eq!(answer.status, status);
    assert!(answer.header("via").is_some() && answer.header("x-kong-proxy-latency").is_some(), "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(backend.seen().len(), tries);
    assert!(gateway.is_deserted());
}

#[test]
fn an_upstream_that_answers_nothing_or_garbage_is_502() {
    check(&Backend::saying(""), 502, 3);
    // Once it has said something, it is not asked again.
    check(&Backend::saying("garbage\r\n\r\nConnection: close"), 502, 1);
    for name in ["X y", "X\"", "X\u{e9}", ""] {
        let answer = format!("HTTP/1.1 200 OK\r\n{name}: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        check(&Backend::saying(answer), 502, 1);
    }
    let many = "X: 1\r\n".repeat(1_001);
    check(&Backend::saying(format!("HTTP/1.1 200 OK\r\n{many}Connection: close\r\n\r\n")), 502, 1);
}

#[test]
fn an_upstream_that_never_answers_is_504_after_its_tries() {
    let backend = Backend::start(|_, _| {
        std::thread::sleep(Duration::from_millis(1500));
        Vec::new()
    });
    check(&backend, 504, 3);
}

#[test]
fn a_dead_upstream_is_502_in_the_clients_format() {
    // Bound and not listening: nobody else can come to listen there meanwhile.
    let dead = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    dead.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let gateway = Gateway::before(dead.local_addr().unwrap().as_socket().unwrap());
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
        let answer = client.answer("GET");
        assert_eq!((answer.status, answer.header("content-type")), (502, Some("application/json; charset=utf-8")));
        assert!(answer.text().contains("An invalid response was received from the upstream server"));
    }
}

#[test]
fn a_try_that_failed_is_followed_by_another_with_the_same_body() {
    let backend = Backend::start(|_, before| if before < 2 { Vec::new() } else { HELLO.into() });
    let gateway = Gateway::before(backend.address);
    let answer = gateway.ask("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!((answer.status, backend.seen().len()), (200, 3));
    assert!(backend.seen().iter().all(|seen| seen.body == b"body"));
}

#[test]
fn a_post_that_was_sent_is_not_sent_again() {
    let backend = Backend::saying("");
    let gateway = Gateway::before(backend.address);
    assert_eq!(gateway.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").status, 502);
    assert_eq!(backend.seen().len(), 1);
}

#[test]
fn an_answer_cut_short_is_cut_short_for_the_client_too() {
    let backend = Backend::saying("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nonly this");
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(GET.as_bytes());
    let head = client.head();
    assert!(head.contains("100\r\n"), "{head}");
    assert_eq!(client.rest(), b"only this");
    assert!(gateway.is_deserted());
}

#[test]
fn a_client_that_leaves_before_the_answer_is_logged_as_499() {
    let backend = Backend::start(|_, _| {
        std::thread::sleep(Duration::from_millis(400));
        HELLO.into()
    });
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(GET.as_bytes());
    assert!(until(|| backend.seen().len() == 1));
    drop(client);
    assert!(gateway.is_deserted());
    let lines = gateway.log_lines();
    assert!(lines.len() == 1 && lines[0].contains("\" 499 0 "), "{lines:?}");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind() {
    let backend = Backend::saying(HELLO);
    for buffered in [true, false] {
        let gateway = Gateway::with(backend.address, json!({}), json!({"request_buffering": buffered}), |_| {});
        let mut client = gateway.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
        drop(client);
        assert!(gateway.is_deserted());
        assert_eq!(gateway.log_lines().len(), 1);
    }
    assert_eq!(backend.seen().len(), 0);
}

#[test]
fn a_client_that_reads_slowly_slows_its_upstream_and_gets_everything() {
    let size = 20_000_000;
    let backend = Backend::start(move |_, _| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + size, b'x');
        answer
    });
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(GET.as_bytes());
    client.head();
    assert_eq!(client.read_bytes(size).len(), size);
}

#[test]
fn a_client_that_leaves_while_it_is_answered_leaves_nothing_behind() {
    let size = 20_000_000;
    let backend = Backend::start(move |_, _| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + size, b'x');
        answer
    });
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(GET.as_bytes());
    client.head();
    drop(client);
    assert!(gateway.is_deserted());
    let lines = gateway.log_lines();
    assert!(lines.len() == 1 && lines[0].contains("\" 200 "), "{lines:?}");
}

#[test]
fn draining_finishes_what_runs_and_takes_nothing_new() {
    let backend = Backend::start(|_, _| {
        std::thread::sleep(Duration::from_millis(300));
        HELLO.into()
    });
    let mut gateway = Gateway::before(backend.address);
    let (mut busy, mut idle) = (gateway.connect(), gateway.connect());
    let address = gateway.address();
    busy.send(GET.as_bytes());
    assert!(until(|| backend.seen().len() == 1));
    let took = gateway.drain(Duration::from_secs(10));
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(busy.answer("GET").text(), "hello");
    assert!(busy.is_closed() && idle.is_closed());
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn draining_does_not_wait_for_ever() {
    let backend = Backend::start(|_, _| {
        std::thread::sleep(Duration::from_secs(3));
        HELLO.into()
    });
    let mut gateway = Gateway::with(backend.address, json!({"read_timeout": 60000}), json!({}), |_| {});
    let mut client = gateway.connect();
    client.send(GET.as_bytes());
    assert!(until(|| backend.seen().len() == 1));
    assert!(gateway.drain(Duration::from_millis(100)) < Duration::from_secs(2));
    assert!(client.is_closed());
}

#[test]
fn an_answer_before_the_body_was_sent_arrives() {
    let backend = Backend::tunnelling(|mut stream| {
        let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        stream.write_all(answer).unwrap();
    });
    let gateway = Gateway::before(backend);
    let mut client = gateway.connect();
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    let answer = client.answer("POST");
    assert_eq!((answer.status, answer.text()), (401, "no"));
    drop(client);
    assert!(gateway.is_deserted());
}
