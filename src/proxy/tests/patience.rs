//! Clients that take too long. Each is let go, and nothing of it stays.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

use crate::listen::tls::{Certificates, Sources};
use crate::proxy::options::Options;
use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::Gateway;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const SHORT: Duration = Duration::from_millis(200);

fn hurry(options: &mut Options) {
    let patience = &mut options.patience;
    for limit in [&mut patience.greeting, &mut patience.head, &mut patience.body, &mut patience.send] {
        *limit = SHORT;
    }
}

fn hurried(backend: &Backend) -> Gateway {
    Gateway::with(backend.address, json!({}), json!({}), hurry)
}

/// More than all socket buffers on the way hold.
fn large() -> Backend {
    let size = 50_000_000;
    Backend::start(move |_, _| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + size, b'x');
        answer
    })
}

#[test]
fn silence_and_half_a_head_are_given_up() {
    let backend = Backend::saying(HELLO);
    let gateway = hurried(&backend);
    let (mut silent, mut half, mut idle) = (gateway.connect(), gateway.connect(), gateway.connect());
    half.send(b"GET / HTTP/1.1\r\nHo");
    idle.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.answer("GET").text(), "hello");
    assert!(silent.is_closed() && half.is_closed() && idle.is_closed());
    assert!(gateway.is_deserted());
    assert_eq!(backend.seen().len(), 1);
}

#[test]
fn a_head_that_comes_byte_by_byte_is_given_up_too() {
    let backend = Backend::saying(HELLO);
    let gateway = hurried(&backend);
    let mut client = gateway.connect();
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(4000));
    let sent = head.bytes().take_while(|byte| {
        std::thread::sleep(Duration::from_millis(5));
        client.try_send(&[*byte])
    });
    assert!(sent.count() < 1000);
    assert!(gateway.is_deserted());
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let backend = Backend::saying(HELLO);
    for length in [1000, 1_000_000] {
        let gateway = hurried(&backend);
        let mut client = gateway.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nabc").as_bytes());
        let answer = client.answer("POST");
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
        assert!(answer.text().starts_with("Request timeout\n"));
        drop(client);
        assert!(gateway.is_deserted());
    }
}

#[test]
fn a_client_that_stops_reading_is_given_up() {
    let backend = large();
    let gateway = hurried(&backend);
    let mut client = gateway.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head();
    assert!(gateway.is_deserted());
}

#[test]
fn a_handshake_that_does_not_come_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(&Sources::default(), directory.path(), "proxy").unwrap();
    let gateway = Gateway::with("127.0.0.1:1".parse().unwrap(), json!({}), json!({}), |options| {
        hurry(options);
        options.certificates = Some(certificates);
        options.listen[0].ssl = true;
    });
    let (mut silent, mut half) = (gateway.connect(), gateway.connect());
    half.send(&[0x16, 3, 1]);
    assert!(silent.is_closed() && half.is_closed());
    assert!(gateway.is_deserted());
}

#[test]
fn http2_connections_are_given_up_when_idle_or_when_nothing_is_read() {
    let backend = large();
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| {
        hurry(options);
        options.listen[0].http2 = true;
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for asks in [false, true] {
            let stream = TcpStream::connect(gateway.address()).await.unwrap();
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            let driving = tokio::spawn(connection);
            let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
            // Held, and never read.
            let _response = if asks { Some(sender.send_request(request).await.unwrap()) } else { None };
            let ended = tokio::time::timeout(Duration::from_secs(10), driving).await;
            assert!(ended.is_ok(), "the connection stayed, asked: {asks}");
        }
    });
    assert!(gateway.is_deserted());
}
