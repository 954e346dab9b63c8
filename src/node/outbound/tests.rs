//! Calls over loopback sockets: what goes over the wire, which connections are used, and how calls fail.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ::http::{HeaderValue, StatusCode};
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::node::outbound::connect::Stream;
use crate::plugin::queue::core::QueueTotals;
use crate::plugin::queue::driver::{Queue, Sink};
use crate::plugin::queue::options::QueueOptions;
use crate::plugin::testing::sink::LogServer;
use crate::plugin::testing::tools::{FakeTools, ToolScript};
use crate::plugin::tools::outbound::{Peer, Security};

const OK: &str = "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 4\r\n\r\nbody";

/// A server that answers every request with the same bytes, or not at all.
struct Server {
    address: SocketAddr,
    /// Number of the connection from 1, and the request.
    requests: mpsc::UnboundedReceiver<(usize, String)>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(answer: &'static str) -> Self {
        Self::start_with(answer, None).await
    }

    async fn start_with(answer: &'static str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            for connection in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tell, tls) = (tell.clone(), tls.clone());
                tokio::spawn(async move {
                    let stream: Box<dyn Stream> = match tls {
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            Box::new(stream)
                        }
                        None => Box::new(stream),
                    };
                    answer_all(stream, connection, answer, tell).await;
                });
            }
        });
        Self { address, requests, _task: AbortOnDropHandle::new(task) }
    }

    fn peer(&self) -> Peer {
        Peer::plain("127.0.0.1", self.address.port())
    }

    fn tls_peer(&self, verify: bool) -> Peer {
        let security = Security::Tls { verify, server_name: Some("h.test".into()) };
        Peer { security, ..self.peer() }
    }

    async fn next(&mut self) -> (usize, String) {
        self.requests.recv().await.unwrap()
    }
}

/// Requests in these tests end with their heads or with `!`.
async fn answer_all(
    mut stream: Box<dyn Stream>,
    connection: usize,
    answer: &str,
    tell: mpsc::UnboundedSender<(usize, String)>,
) {
    let mut received = String::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        received.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        if received.ends_with('!') || (received.starts_with("GET") && received.ends_with("\r\n\r\n")) {
            let _ = tell.send((connection, std::mem::take(&mut received)));
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

fn outbound() -> NodeOutbound {
    NodeOutbound::new(Vec::new())
}

#[tokio::test]
async fn a_request_goes_out_as_it_was_given() {
    let mut server = Server::start(OK).await;
    let mut call = HttpCall::post(server.peer(), "/log?a=%20b", "{}!");
    call.headers.append("x-key", HeaderValue::from_static("v"));
    let reply = outbound().http(call).await.unwrap();
    assert_eq!((reply.status, &reply.body[..]), (StatusCode::OK, &b"body"[..]));
    assert_eq!(reply.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    let (_, request) = server.next().await;
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let mut lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "POST /log?a=%20b HTTP/1.1");
    lines.sort();
    let host = format!("host: 127.0.0.1:{}", server.address.port());
    let agent = format!("user-agent: tidegate/{}", crate::VERSION);
    assert_eq!(lines, ["content-length: 3", &host, &agent, "x-key: v"]);
    assert_eq!(body, "{}!");
}

#[tokio::test]
async fn a_header_of_the_call_replaces_the_one_that_would_be_added() {
    let mut server = Server::start(OK).await;
    let mut call = HttpCall::get(server.peer(), "/");
    call.headers.insert(::http::header::HOST, HeaderValue::from_static("other.test"));
    call.headers.insert(::http::header::USER_AGENT, HeaderValue::from_static("me"));
    outbound().http(call).await.unwrap();
    let (_, request) = server.next().await;
    assert!(request.contains("host: other.test\r\n") && request.contains("user-agent: me\r\n"), "{request}");
    assert_eq!(request.matches("host:").count(), 1);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call_when_the_call_says_so() {
    let (mut server, outbound) = (Server::start(OK).await, outbound());
    let call = HttpCall::get(server.peer(), "/");
    let once = HttpCall { keepalive: Duration::ZERO, ..call.clone() };
    let mut used = Vec::new();
    for call in [&call, &call, &once, &call] {
        outbound.http(call.clone()).await.unwrap();
        used.push(server.next().await.0);
    }
    assert_eq!(used, [1, 1, 1, 2]);
}

#[tokio::test]
async fn a_connection_that_the_peer_closes_is_not_used_again() {
    let closing = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    let (mut server, outbound) = (Server::start(closing).await, outbound());
    for expected in 1..4 {
        let reply = outbound.http(HttpCall::get(server.peer(), "/")).await.unwrap();
        assert_eq!((reply.status, server.next().await.0), (StatusCode::NO_CONTENT, expected));
    }
}

#[tokio::test]
async fn a_failed_call_says_what_failed_and_whether_the_peer_may_have_the_request() {
    let check = async |call: HttpCall, text: &str, arrived: bool| {
        let error = outbound().http(call).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.may_have_arrived(), arrived, "{error}");
    };
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = format!("failed to connect to 127.0.0.1:{refusing}: ");
    check(HttpCall::get(Peer::plain("127.0.0.1", refusing), "/"), &refused, false).await;
    check(HttpCall::get(Peer::plain("", 80), "/"), "failed to resolve :80: ", false).await;
    check(HttpCall::get(Peer::plain("h.test", 80), "no/slash"), "does not begin with '/'", false).await;
    check(HttpCall::get(Peer::plain("h.test", 80), "/a b"), "the target '/a b': ", false).await;
    let silent = Server::start("").await;
    let hasty = HttpCall { timeout: Duration::from_millis(20), ..HttpCall::get(silent.peer(), "/") };
    check(hasty, "timeout", true).await;
    let long = Server::start(OK).await;
    check(HttpCall { body_max: 3, ..HttpCall::get(long.peer(), "/") }, "longer than 3 bytes", true).await;
    let broken = Server::start("no HTTP\r\n\r\n").await;
    check(HttpCall::get(broken.peer(), "/"), "failed request to 127.0.0.1", true).await;
    let plain = Server::start(OK).await;
    check(HttpCall::get(plain.tls_peer(false), "/"), "failed to perform TLS handshake to", false).await;
}

#[tokio::test]
async fn connecting_has_a_limit_of_its_own() {
    // Accepts connections in the kernel and never takes part in a handshake.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer::tls("127.0.0.1", listener.local_addr().unwrap().port(), false);
    let call = HttpCall { connect_timeout: Duration::from_millis(20), ..HttpCall::get(peer.clone(), "/") };
    let error = outbound().http(call).await.unwrap_err();
    assert_eq!(error, OutboundError::ConnectTimeout { peer: peer.to_string() });
}

#[tokio::test]
async fn certificates_are_verified_when_the_call_says_so() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["h.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(&bundle, certificate.pem()).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let server = Server::start_with(OK, Some(TlsAcceptor::from(Arc::new(config)))).await;
    let check = async |outbound: &NodeOutbound, peer: Peer, accepted: bool| {
        let reply = outbound.http(HttpCall::get(peer.clone(), "/")).await;
        assert_eq!(reply.is_ok(), accepted, "{peer:?}: {reply:?}");
    };
    let (knowing, ignorant) = (NodeOutbound::new(vec![bundle]), outbound());
    check(&ignorant, server.tls_peer(false), true).await;
    check(&ignorant, server.tls_peer(true), false).await;
    check(&knowing, server.tls_peer(true), true).await;
    let other = Security::Tls { verify: true, server_name: Some("other.test".into()) };
    check(&knowing, Peer { security: other, ..server.peer() }, false).await;
    check(&NodeOutbound::new(vec![folder.path().join("missing.pem")]), server.tls_peer(false), false).await;
}

#[tokio::test]
async fn the_number_of_calls_is_bounded_and_dropping_one_makes_room() {
    let (mut silent, outbound) = (Server::start("").await, NodeOutbound::with_limits(Vec::new(), 1, 1));
    let call = || outbound.http(HttpCall::get(silent.peer(), "/"));
    let (running, waiting) = (call(), call());
    assert_eq!(call().await, Err(OutboundError::Busy));
    assert_eq!(silent.next().await.0, 1);
    drop(running);
    assert_eq!(silent.next().await.0, 2, "the waiting call has its turn");
    drop(waiting);
}

#[test]
fn a_call_is_answered_on_any_runtime() {
    let node = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, outbound) = node.block_on(async { (Server::start(OK).await, outbound()) });
    let worker = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let reply = worker.block_on(outbound.http(HttpCall::get(server.peer(), "/"))).unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    drop(node);
    let gone = worker.block_on(outbound.http(HttpCall::get(server.peer(), "/")));
    assert_eq!(gone, Err(OutboundError::Stopped("the node stops")));
}

/// Sends each entry of a batch as a line, as tcp-log would.
struct Lines {
    outbound: NodeOutbound,
    peer: Peer,
}

impl Sink<String> for Lines {
    fn deliver(&self, batch: Arc<[String]>) -> BoxFuture<'static, Result<(), String>> {
        let data = Bytes::from(batch.iter().map(|line| format!("{line}\n")).collect::<String>());
        let (timeout, keepalive) = (Duration::from_secs(5), Duration::from_secs(60));
        let sent = self.outbound.tcp(TcpSend { peer: self.peer.clone(), data, timeout, keepalive });
        Box::pin(async move { sent.await.map_err(|error| error.to_string()) })
    }
}

#[tokio::test]
async fn a_queue_delivers_lines_over_a_kept_connection_and_after_the_server_was_away() {
    let (node, first) = (FakeTools::new(ToolScript::default()), LogServer::start().await);
    let address = first.address;
    let sink = Lines { outbound: outbound(), peer: Peer::plain("127.0.0.1", address.port()) };
    let retry = Duration::from_millis(5);
    let options = QueueOptions { initial_retry_delay: retry, max_retry_delay: retry, ..QueueOptions::default() };
    let queue = Queue::start(&*node, "test".into(), options, Arc::new(sink));
    (0..50).for_each(|entry| queue.push(entry.to_string(), 1));
    let expected: Vec<_> = (0..50).map(|entry| entry.to_string()).collect();
    assert_eq!(first.lines(50).await, expected);
    drop(first);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    (50..60).for_each(|entry| queue.push(entry.to_string(), 1));
    let second = LogServer::start_at(address).await;
    let expected: Vec<_> = (50..60).map(|entry| entry.to_string()).collect();
    assert_eq!(second.lines(10).await, expected);
    node.stop().await;
    assert_eq!(queue.totals(), QueueTotals { pushed: 60, delivered: 60, ..QueueTotals::default() });
}

#[tokio::test]
async fn datagrams_arrive_one_by_one() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let datagrams = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let timeout = Duration::from_secs(5);
    outbound().udp(UdpSend { host: "127.0.0.1".into(), port, datagrams, timeout }).await.unwrap();
    let mut buffer = [0; 16];
    for expected in ["one", "two"] {
        let len = socket.recv(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..len], expected.as_bytes());
    }
    let oversized = vec![Bytes::from(vec![0; 70_000])];
    let error = outbound().udp(UdpSend { host: "127.0.0.1".into(), port, datagrams: oversized, timeout }).await;
    assert!(matches!(error, Err(OutboundError::Broken { .. })), "{error:?}");
}
