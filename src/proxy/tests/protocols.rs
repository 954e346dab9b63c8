//! Tunnels, TLS and HTTP/2.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;

use crate::listen::tls::{Certificates, Sources};
use crate::listen::trust::AcceptAny;
use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::{Gateway, loopback};

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nKeep-Alive: 5\r\n\r\nhello";
const UPGRADE: &[u8] = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn a_websocket_is_a_tunnel_that_is_logged_when_it_closes() {
    let backend = Backend::tunnelling(|mut stream| {
        stream.write_all(SWITCH).unwrap();
        let mut ping = [0; 4];
        stream.read_exact(&mut ping).unwrap();
        stream.write_all(b"pong:").unwrap();
        stream.write_all(&ping).unwrap();
    });
    let gateway = Gateway::before(backend);
    let mut client = gateway.connect();
    client.send(UPGRADE);
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: websocket"), "{head}");
    assert_eq!(gateway.log_lines().len(), 0);
    client.send(b"ping");
    assert_eq!(client.rest(), b"pong:ping");
    drop(client);
    assert!(gateway.is_deserted());
    let lines = gateway.log_lines();
    assert!(lines.len() == 1 && lines[0].contains("\" 101 9 "), "{lines:?}");
}

#[test]
fn a_silent_tunnel_ends_after_the_read_timeout() {
    let backend = Backend::tunnelling(|mut stream| {
        stream.write_all(SWITCH).unwrap();
        std::thread::spawn(move || stream.read_to_end(&mut Vec::new()));
    });
    let gateway = Gateway::with(backend, json!({"read_timeout": 100}), json!({}), |_| {});
    let mut client = gateway.connect();
    client.send(UPGRADE);
    client.head();
    assert!(client.is_closed());
    assert!(gateway.is_deserted());
}

#[test]
fn an_upgrade_that_the_upstream_declines_is_an_ordinary_exchange() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::before(backend.address);
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.answer("GET").text(), "hello");
    let seen = backend.last();
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (Some("keep-alive, Upgrade"), Some("websocket")));
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo/2\r\n\r\n");
    assert_eq!(client.answer("GET").text(), "hello");
    assert_eq!((backend.last().header("connection"), backend.last().header("upgrade")), (Some("keep-alive"), None));
}

#[test]
fn a_switch_nobody_asked_for_is_no_answer() {
    let backend = Backend::saying(SWITCH);
    let gateway = Gateway::with(backend.address, json!({"retries": 0}), json!({}), |_| {});
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 502);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn http2_is_spoken_without_tls_where_the_listener_says_so() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| options.listen[0].http2 = true);
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "hello");
    runtime().block_on(async {
        let stream = TcpStream::connect(gateway.address()).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let driving = tokio::spawn(connection);
        for _ in 0..3 {
            let request = Request::get("http://two.test/x").body(Full::new(Bytes::from_static(b"body"))).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers().get("connection"), None);
            assert_eq!(response.headers()["via"], concat!("1.1 tidegate/", env!("CARGO_PKG_VERSION")));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
        drop(sender);
        driving.await.unwrap().unwrap();
    });
    let seen = backend.last();
    assert_eq!((seen.header("x-forwarded-host"), &seen.body[..]), (Some("two.test"), &b"body"[..]));
    assert!(seen.header("via").unwrap().starts_with("2 tidegate/"));
    assert!(gateway.is_deserted());
}

#[test]
fn a_grpc_client_reads_its_refusal_in_headers() {
    let backend = Backend::saying(HELLO);
    let gateway =
        Gateway::with(backend.address, json!({}), json!({"paths": ["/a"]}), |options| options.listen[0].http2 = true);
    runtime().block_on(async {
        let stream = TcpStream::connect(gateway.address()).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("http://a/b").header("content-type", "application/grpc");
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (StatusCode::NOT_FOUND, &"5".parse().unwrap())
        );
    });
}

#[test]
fn tls_clients_choose_their_http_by_alpn() {
    let backend = Backend::saying(HELLO);
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(&Sources::default(), directory.path(), "proxy").unwrap();
    let gateway = Gateway::with(backend.address, json!({}), json!({"protocols": ["https"]}), |options| {
        options.certificates = Some(certificates);
        options.listen[0].ssl = true;
        options.listen[0].http2 = true;
        options.listen.push(loopback());
    });
    runtime().block_on(async {
        let stream = tls(&gateway, b"http/1.1").await;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "tls.test").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
        let stream = tls(&gateway, b"h2").await;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://tls.test/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    });
    let port = gateway.address().port().to_string();
    for seen in backend.seen() {
        assert_eq!(
            (seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")),
            (Some("https"), Some(port.as_str()))
        );
    }
    assert!(gateway.is_deserted());
}

#[test]
fn plain_http_on_a_tls_port_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::load(&Sources::default(), directory.path(), "proxy").unwrap();
    let gateway = Gateway::with("127.0.0.1:1".parse().unwrap(), json!({}), json!({}), |options| {
        options.certificates = Some(certificates);
        options.listen[0].ssl = true;
    });
    let mut client = gateway.connect();
    client.send(b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n");
    let answer = client.answer("GET");
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    assert!(answer.text().contains("\"message\":\"The plain HTTP request was sent to HTTPS port\""), "{answer:?}");
    assert!(client.is_closed());
    let mut noise = gateway.connect();
    noise.send(&[0, 1, 2, 3]);
    noise.finish();
    noise.rest();
    drop((client, noise));
    assert!(gateway.is_deserted());
    assert!(gateway.log_lines()[0].contains("\"GET /x HTTP/1.1\" 400 "));
}

#[test]
fn a_mapped_port_is_the_external_one() {
    let backend = Backend::saying(HELLO);
    let free = std::net::TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::with(backend.address, json!({}), json!({"hosts": ["a.test:80"]}), |options| {
        options.listen[0] = crate::listen::bind::Address::plain(free);
        options.port_maps = vec![(80, free.port()), (free.port(), 1)];
    });
    assert_eq!(gateway.ask("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").status, 200);
    assert_eq!(backend.last().header("x-forwarded-port"), Some("80"));
}

#[test]
fn http2_requests_become_well_formed_ones_of_http1() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({"preserve_host": true}), |options| {
        options.listen[0].http2 = true;
    });
    let ask = |request: http::request::Builder| {
        let request = request.body(Bytes::new()).unwrap();
        crate::proxy::tests::http2::ask(gateway.address(), vec![request]).remove(0).0
    };
    let cookies = Request::get("http://a.test/").header("cookie", "a=1").header("x", "y").header("cookie", "b=2");
    assert_eq!(ask(cookies).status, 200);
    let seen = backend.last();
    assert_eq!((seen.header("cookie"), seen.head.to_lowercase().matches("cookie:").count()), (Some("a=1; b=2"), 1));
    assert_eq!(seen.header("host"), Some("a.test"));
    assert_eq!(ask(Request::get("http://a.test/").header("host", "b.test")).status, 400);
    assert_eq!(ask(Request::get("http://a.test/").header("host", "A.test")).status, 200);
    assert_eq!(ask(Request::get("http://a.test/").header("x", "v".repeat(9_000))).status, 400);
    let many = (0..1_001).fold(Request::get("http://a.test/"), |request, _| request.header("x", "v"));
    assert_eq!(ask(many).status, 400);
    let some = (0..990).fold(Request::get("http://a.test/"), |request, _| request.header("x", "v"));
    assert_eq!(ask(some).status, 200);
    assert_eq!(ask(Request::get("http://a.test:99999/")).status, 400);
}

#[test]
fn a_listener_with_proxy_protocol_wants_its_header_and_believes_a_trusted_balancer() {
    let backend = Backend::saying(HELLO);
    let gateway = Gateway::with(backend.address, json!({}), json!({}), |options| {
        options.listen[0].proxy_protocol = true;
        options.real_ip_from_proxy_protocol = true;
        options.trusted_ips = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let mut client = gateway.connect();
    client.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 5678 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer("GET").text(), "hello");
    assert_eq!(
        (backend.last().header("x-real-ip"), backend.last().header("x-forwarded-for")),
        (Some("192.0.2.7"), Some("192.0.2.7"))
    );
    let mut stranger = gateway.connect();
    stranger.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(stranger.is_closed());
    drop((client, stranger));
    assert!(gateway.is_deserted());
}

async fn tls(gateway: &Gateway, alpn: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let mut config =
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAny::new(provider))).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(gateway.address()).await.unwrap();
    let name = ServerName::try_from("tls.test").unwrap();
    let connecting = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream);
    tokio::time::timeout(Duration::from_secs(10), connecting).await.unwrap().unwrap()
}
