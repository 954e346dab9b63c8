//! Bad input from clients and from upstreams: each row with the status it gets and whether the upstream may see it. After
//! each table the node still serves, and no connection is left over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::process::Node;

/// What a client is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    Status(u16),
    /// Nothing: the connection just ends.
    Closed,
}

struct Row {
    name: &'static str,
    sent: Vec<u8>,
    told: Told,
    /// Whether the upstream may have received a request.
    reaches: bool,
}

fn row(name: &'static str, sent: impl Into<Vec<u8>>, status: u16) -> Row {
    Row { name, sent: sent.into(), told: Told::Status(status), reaches: status == 200 }
}

fn rows() -> Vec<Row> {
    let get = |headers: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    let post = |headers: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}");
    let long = "x".repeat(100_000);
    vec![
        row("a good request", get(""), 200),
        row("conflicting lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), 400),
        row("the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400),
        row("a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), 400),
        row("a negative length", post("Content-Length: -5\r\n", "hello"), 400),
        row("a signed length", post("Content-Length: +5\r\n", "hello"), 400),
        row("a length that is no number", post("Content-Length: 0x5\r\n", "hello"), 400),
        row("a length past 64 bits", post("Content-Length: 99999999999999999999\r\n", "hello"), 400),
        row("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        row("an unknown coding", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), 400),
        row("chunked not last", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"), 400),
        row("a coding before the chunks", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400),
        row("a blank before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400),
        row("a vertical tab in the coding", post("Transfer-Encoding:\x0bchunked\r\n", "0\r\n\r\n"), 400),
        row("chunks in HTTP/1.0", "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        row(
            "a chunk size past 64 bits",
            post("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n"),
            400,
        ),
        row("a chunk size that is none", post("Transfer-Encoding: chunked\r\n", "zz\r\nx\r\n0\r\n\r\n"), 400),
        row("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
        row("two Hosts", get("Host: other\r\n"), 400),
        row("the same Host twice", get("Host: h\r\n"), 400),
        row("a folded header", get("X-A: b\r\n c\r\n"), 400),
        row("a control character in a name", get("X\x01A: b\r\n"), 400),
        row("a blank in a name", get("X A: b\r\n"), 400),
        row("an empty name", get(": b\r\n"), 400),
        row("a NUL in a value", get("X-A: b\0c\r\n"), 400),
        row("a bare CR in a value", get("X-A: b\rc\r\n"), 400),
        row("no colon", get("X-A\r\n"), 400),
        row("one header of 100 kB", get(&format!("X-Long: {long}\r\n")), 400),
        row(
            "many headers of 100 kB",
            get(&(0..90).map(|i| format!("X-{i}: {}\r\n", &long[..1100])).collect::<String>()),
            400,
        ),
        row("a path of 100 kB", format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), 414),
        row("a body over the limit", post("Content-Length: 2000000\r\n", ""), 413),
        row("a Host with an invalid port", "GET / HTTP/1.1\r\nHost: a:99x\r\n\r\n", 400),
        row("a Host with a port past 65535", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400),
        row("a quote in a name", get("X\"A: b\r\n"), 400),
        row("a byte past 127 in a name", get("X\u{e9}: b\r\n"), 400),
        row(
            "a target that clients should encode",
            b"GET /{|}\"<>^`\xe9?{\"<>^`|\xe9 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            200,
        ),
        row("a blank in the target", "GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        row("DEL in the target", "GET /a\x7fb HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        row("900 header fields", get(&"X: y\r\n".repeat(900)), 200),
        row("1001 header fields", get(&"X: y\r\n".repeat(1_000)), 400),
        row("a length beside chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400),
        row("a chunk extension without end", post("Transfer-Encoding: chunked\r\n", &format!("1;{long}\r\n")), 400),
        row("a line feed alone after a chunk", post("Transfer-Encoding: chunked\r\n", "1\nx\r\n0\r\n\r\n"), 400),
        row("trailers without end", post("Transfer-Encoding: chunked\r\n", &format!("0\r\nX: {long}\r\n")), 400),
        row("TRACE", "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        row("CONNECT", "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n", 405),
        row("a path that climbs", "GET /../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        row("an encoded path that climbs", "GET /a/%2e%2e/%2e%2e/b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        row("a control character in the path", "GET /a\x01b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        row("no path", "GET HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        row("an unknown version", "GET / HTTP/9.9\r\nHost: h\r\n\r\n", 400),
        row("no HTTP at all", "hello world\r\n\r\n", 400),
        row(
            "a TLS hello on the plain port",
            b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c\x03\x03abcdefgh\r\n\r\n".to_vec(),
            400,
        ),
        Row {
            name: "an HTTP/2 preface on the plain port",
            sent: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            told: Told::Closed,
            reaches: false,
        },
    ]
}

fn chunks(count: usize, size: usize) -> String {
    let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
    chunk.repeat(count) + "0\r\n\r\n"
}

#[test]
fn bad_requests_get_their_status_and_reach_no_upstream() {
    let backend = Backend::answering();
    let node = node_before(&backend, &[("client_max_body_size", "1m")]);
    let mut wrong = Vec::new();
    for row in rows() {
        let before = backend.request_count();
        let (status, text) = speak(node.proxy, &row.sent, Duration::from_secs(5));
        let reached = backend.request_count() > before;
        let told = match row.told {
            Told::Status(want) => status == Some(want),
            Told::Closed => text.is_empty(),
        };
        // A refusal is an exchange like any other: it has a request id and the gateway's name.
        let is_marked = text.contains("\r\nX-Kong-Request-Id: ") && text.contains("\r\nServer: ");
        if !told || (reached && !row.reaches) || (!text.is_empty() && !is_marked) {
            wrong.push(format!("{}: wanted {:?}, got {status:?}, reached {reached}: {text:.120}", row.name, row.told));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    still_serves_with_nothing_left(&node);
}

/// The upstream may see the beginning of a request, and then its connection end.
#[test]
fn chunks_over_the_limit_are_refused_when_they_get_there() {
    let backend = Backend::answering();
    let node = node_before(&backend, &[("client_max_body_size", "1m")]);
    let sent = format!("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunks(20, 100_000));
    let (status, text) = speak(node.proxy, sent.as_bytes(), Duration::from_secs(5));
    assert_eq!(status, Some(413), "{text:.200}");
    still_serves_with_nothing_left(&node);
}

/// The chunks decide (RFC 9112 6.3), the length goes no further, and the connection ends, so nobody can read it another
/// way.
#[test]
fn a_length_beside_chunks_never_reaches_the_upstream() {
    let backend = Backend::answering();
    let node = node_before(&backend, &[]);
    for headers in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"]
    {
        let sent =
            format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n");
        let (status, _) = speak(node.proxy, sent.as_bytes(), Duration::from_secs(5));
        let head = backend.last_head().to_ascii_lowercase();
        assert!(matches!(status, Some(200 | 400)), "{status:?}");
        assert!(status == Some(400) || head.starts_with("post / "), "{head}");
        assert!(!(head.contains("content-length: 3") && head.contains("transfer-encoding")), "{head}");
    }
}

#[test]
fn slow_and_deaf_clients_are_let_go() {
    let backend = Backend::with(|mut stream| {
        let mut head = [0; 4096];
        let _ = stream.read(&mut head);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let part = vec![b'x'; 65_536];
        while stream.write_all(&part).is_ok() {}
    });
    let timeouts = [
        ("nginx_http_client_header_timeout", "1s"),
        ("nginx_http_client_body_timeout", "1s"),
        ("nginx_http_send_timeout", "1s"),
        ("nginx_http_keepalive_timeout", "2s"),
    ];
    let node = node_before(&backend, &timeouts);

    let begun = Instant::now();
    drip(node.proxy, b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
    println!("a head at a byte per 100 ms is let go after {} ms", begun.elapsed().as_millis());
    assert!(begun.elapsed() < Duration::from_secs(4));

    let begun = Instant::now();
    let (status, _) =
        speak(node.proxy, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc", Duration::from_secs(6));
    assert!(matches!(status, Some(408) | None), "a body that does not come: {status:?}");
    assert!(begun.elapsed() < Duration::from_secs(4));

    let silent = TcpStream::connect(node.proxy).expect("a connection");
    let mut deaf = TcpStream::connect(node.proxy).expect("a connection");
    deaf.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").expect("a request");
    wait_for_no_connection(&node, Duration::from_secs(8));
    drop((silent, deaf));
}

#[test]
fn bad_upstreams_become_502_and_504() {
    type Serve = fn(TcpStream);
    let rows: [(&str, Serve, &[u16]); 11] = [
        (
            "a name that is no token",
            |stream| answer(stream, b"HTTP/1.1 200 OK\r\nX y: 1\r\nContent-Length: 2\r\n\r\nok"),
            &[502],
        ),
        (
            "1001 header fields",
            |stream| {
                answer(stream, &[b"HTTP/1.1 200 OK\r\n".to_vec(), b"X: y\r\n".repeat(1_001), b"\r\n".to_vec()].concat())
            },
            &[502],
        ),
        ("garbage", |stream| answer(stream, b"\x00\x01\x02 nonsense\r\n\r\n"), &[502]),
        ("another protocol", |stream| answer(stream, b"220 mail.example ESMTP\r\n"), &[502]),
        ("closed without an answer", |stream| answer(stream, b""), &[502]),
        ("closed inside the head", |stream| answer(stream, b"HTTP/1.1 200 OK\r\nContent-"), &[502]),
        (
            "a head without end",
            |stream| answer(stream, &[b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 2_000_000]].concat()),
            &[502],
        ),
        (
            "conflicting lengths",
            |stream| answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"),
            &[502],
        ),
        ("a status that is none", |stream| answer(stream, b"HTTP/1.1 99999 What\r\n\r\n"), &[502]),
        ("never an answer", |stream| hold(stream), &[504]),
        (
            "a head that never ends in time",
            |mut stream| {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX-A: b\r\n");
                hold(stream);
            },
            &[504],
        ),
    ];
    for (name, serve, wanted) in rows {
        let backend = Backend::with(serve);
        let node = node_before(&backend, &[]);
        let (status, text) =
            speak(node.proxy, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", Duration::from_secs(8));
        assert!(
            status.is_some_and(|status| wanted.contains(&status)),
            "{name}: {status:?} {text:.200}\n{}",
            node.log()
        );
        wait_for_no_connection(&node, Duration::from_secs(5));
    }
}

#[test]
fn an_answer_cut_short_is_cut_short_for_the_client_too() {
    let backend = Backend::with(|stream| answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"));
    let node = node_before(&backend, &[]);
    let (status, text) = speak(node.proxy, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", Duration::from_secs(5));
    assert_eq!(status, Some(200));
    assert!(text.ends_with("short"), "the client must see that 95 bytes are missing: {text:?}");
    wait_for_no_connection(&node, Duration::from_secs(5));
}

fn answer(mut stream: TcpStream, bytes: &[u8]) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head);
    let _ = stream.write_all(bytes);
}

/// Says nothing until the other side closes.
fn hold(mut stream: TcpStream) {
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest), Ok(count) if count > 0) {}
}

fn node_before(backend: &Backend, settings: &[(&str, &str)]) -> Node {
    let node = Node::started([&[("database", "embedded")], settings].concat());
    let service =
        json!({"name": "s", "url": backend.url(), "retries": 1, "read_timeout": 300, "connect_timeout": 1000});
    node.admin_ok("POST", "/services", &service);
    node.admin_ok("POST", "/services/s/routes", &json!({"name": "r", "paths": ["/"]}));
    let begun = Instant::now();
    while node.get(node.proxy, "/").is_ok_and(|answer| answer.status == 404) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the route does not become live");
        thread::sleep(Duration::from_millis(5));
    }
    node
}

/// Sends bytes as they are and reads until the node closes or falls silent; the first status and all that came.
fn speak(address: SocketAddr, bytes: &[u8], limit: Duration) -> (Option<u16>, String) {
    let mut stream = TcpStream::connect(address).expect("the node accepts");
    stream.set_read_timeout(Some(limit)).expect("a timeout can be set");
    let _ = stream.write_all(bytes);
    let mut got = Vec::new();
    let mut part = [0; 65_536];
    while let Ok(count) = stream.read(&mut part) {
        if count == 0 {
            break;
        }
        got.extend_from_slice(&part[..count]);
        if complete(&got) {
            break;
        }
    }
    let text = String::from_utf8_lossy(&got).into_owned();
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|word| word.parse().ok());
    (status, text)
}

/// Whether an answer with a stated length is here whole.
fn complete(got: &[u8]) -> bool {
    let text = String::from_utf8_lossy(got);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

/// Sends a byte every 100 ms until the node closes the connection.
fn drip(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the node accepts");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
    let mut answer = [0; 1024];
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => continue,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
    }
    panic!("the node listened to a slow head for {} bytes", bytes.len());
}

fn still_serves_with_nothing_left(node: &Node) {
    let answer = node.get(node.proxy, "/").expect("the node still serves");
    assert_eq!(answer.status, 200);
    wait_for_no_connection(node, Duration::from_secs(5));
}

fn wait_for_no_connection(node: &Node, limit: Duration) {
    let begun = Instant::now();
    loop {
        let document: Value = node.get(node.status, "/status").ok().and_then(|answer| answer.json()).expect("a status");
        let active = document["server"]["connections_active"].as_u64().expect("a count");
        if active == 0 {
            return;
        }
        assert!(begun.elapsed() < limit, "{active} connections are left after {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
