//! Clients that do what they should not, on real sockets.

#![allow(clippy::unwrap_used)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::admin::front::Manners;
use crate::admin::token::Door;
use crate::listen::access_log::Target;

/// Answers with the length of the body; `/wait` only when told to.
struct Echo {
    manners: Manners,
    door: Door,
    go: Arc<Semaphore>,
}

impl Service for Echo {
    fn manners(&self) -> &Manners {
        &self.manners
    }

    fn door(&self) -> &Door {
        &self.door
    }

    async fn answer(&self, request: Request<Bytes>) -> Reply {
        if request.uri().path() == "/wait" {
            let _ = self.go.acquire().await;
        }
        if request.uri().path() == "/big" {
            return reply::text(vec![b'x'; 8 * 1024 * 1024]);
        }
        if request.uri().path() == "/echo" {
            return reply::text(request.into_body().to_vec());
        }
        reply::text(request.body().len().to_string())
    }
}

struct Running {
    address: SocketAddr,
    stop: Stop,
    go: Arc<Semaphore>,
}

fn run(door: Door, limits: Limits) -> Running {
    let manners = Manners { server_header: true, latency_header: true, credentials: true, origins: Vec::new() };
    let go = Arc::new(Semaphore::new(0));
    let surface = Arc::new(Surface {
        service: Echo { manners, door, go: go.clone() },
        access_log: AccessLog::open(Target::Off, 1).unwrap(),
        max_body_size: 1000,
        limits,
    });
    let stop = Stop::default();
    let address = Address::plain("127.0.0.1:0".parse().unwrap());
    let address = listen(&address, None, &surface, &stop).unwrap();
    Running { address, stop, go }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything that comes back until the connection ends.
    async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        // The answer may come, and the connection end, before all is sent.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn check(&self, text: &str, status: &str) {
        let answer = self.say(text).await;
        let got = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(got, status, "{text:.60}\n{answer}");
    }

    /// Waits until no connection is left.
    async fn end(self) {
        self.stop.token.cancel();
        self.stop.tasks.close();
        tokio::time::timeout(Duration::from_secs(5), self.stop.tasks.wait()).await.unwrap();
    }
}

fn quick() -> Limits {
    let soon = Duration::from_millis(200);
    Limits { head: soon, body: soon, stall: soon, handshake: soon, ..Limits::default() }
}

#[tokio::test]
async fn a_request_is_answered_with_kongs_header_names() {
    let node = run(Door::default(), Limits::default());
    let answer = node.say("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n3"), "{answer}");
    assert!(answer.contains("\r\nX-Kong-Admin-Latency: "), "{answer}");
    node.end().await;
}

#[tokio::test]
async fn heads_that_mean_two_things_are_refused() {
    let node = run(Door::default(), Limits::default());
    let close = "Connection: close\r\n";
    node.check(&format!("GET / HTTP/1.1\r\n{close}\r\n"), "400").await;
    node.check(&format!("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n{close}\r\n"), "400").await;
    node.check(&format!("GET / HTTP/1.0\r\n{close}\r\n"), "200").await;
    node.check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", "400").await;
    node.check("GARBAGE\r\n\r\n", "400").await;
    let long = "a".repeat(100_000);
    node.check(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "414").await;
    node.check(&format!("GET / HTTP/1.1\r\nHost: a\r\n{close}X: {long}\r\n\r\n"), "431").await;
    node.end().await;
}

#[tokio::test]
async fn bodies_are_bounded_however_they_come() {
    let node = run(Door::default(), Limits::default());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
    node.check(&format!("{head}Content-Length: 1001\r\n\r\n"), "413").await;
    let chunk = "x".repeat(1001);
    node.check(&format!("{head}Transfer-Encoding: chunked\r\n\r\n3e9\r\n{chunk}\r\n0\r\n\r\n"), "413").await;
    node.check(&format!("{head}Content-Length: 1000\r\n\r\n{}", "x".repeat(1000)), "200").await;
    let half = format!("1f5\r\n{}\r\n", "x".repeat(501));
    node.check(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{half}{half}0\r\n\r\n"), "413").await;
    node.end().await;
}

#[tokio::test]
async fn a_body_in_pieces_is_the_same_body() {
    let node = run(Door::default(), Limits::default());
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (chunks, body) in [("0\r\n\r\n", ""), ("1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\nT: 1\r\n\r\n", "abcdef")] {
        let answer = node.say(&format!("{head}{chunks}")).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
    node.end().await;
}

#[tokio::test]
async fn without_a_token_no_body_is_read() {
    let node = run(Door::new(Some("secret"), None), Limits::default());
    node.check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", "401").await;
    node.end().await;
}

#[tokio::test]
async fn slow_clients_lose_their_connection() {
    let node = run(Door::default(), quick());
    assert_eq!(node.say("").await, "");
    assert_eq!(node.say("GET / HT").await, "");
    node.check("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", "408").await;
    let mut idle = node.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    idle.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    node.end().await;
}

#[tokio::test]
async fn a_client_that_stops_reading_is_given_up() {
    let node = run(Door::default(), quick());
    let mut stream = node.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    node.end().await;
    drop(stream);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait() {
    let node = run(Door::default(), Limits { connections: 1, ..Limits::default() });
    let first = node.connect().await;
    let mut second = node.connect().await;
    second.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let waited = tokio::time::timeout(Duration::from_millis(50), second.read_to_string(&mut answer)).await;
    assert!(waited.is_err(), "{answer}");
    drop(first);
    second.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    node.end().await;
}

#[tokio::test]
async fn what_runs_is_finished_before_the_end() {
    let node = run(Door::default(), Limits::default());
    let mut stream = node.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    while node.stop.tasks.len() < 2 {
        tokio::task::yield_now().await;
    }
    node.stop.token.cancel();
    node.go.add_permits(1);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('0'), "{answer}");
    assert!(TcpStream::connect(node.address).await.is_err());
    node.end().await;
}
