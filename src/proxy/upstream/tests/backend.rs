//! A backend that does with each connection what a test says, byte by byte.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) struct Backend {
    pub(super) address: SocketAddr,
    /// Every request, head and body as they came.
    pub(super) seen: Rc<RefCell<Vec<String>>>,
    pub(super) accepted: Rc<Cell<usize>>,
}

pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// The backend's side of one connection.
pub(super) struct Peer {
    pub(super) stream: Box<dyn Duplex>,
    seen: Rc<RefCell<Vec<String>>>,
    buffer: Vec<u8>,
}

impl Backend {
    /// `handle` gets each connection with its number, from 0.
    pub(super) async fn start<F: Future<Output = ()> + 'static>(handle: impl Fn(usize, Peer) -> F + 'static) -> Self {
        Self::start_at("127.0.0.1:0", None, handle).await
    }

    pub(super) async fn start_at<F: Future<Output = ()> + 'static>(
        address: &str,
        tls: Option<tokio_rustls::TlsAcceptor>,
        handle: impl Fn(usize, Peer) -> F + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let (seen, accepted) = (Rc::<RefCell<Vec<String>>>::default(), Rc::<Cell<usize>>::default());
        let backend = Self { address: listener.local_addr().unwrap(), seen: seen.clone(), accepted: accepted.clone() };
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = accepted.replace(accepted.get() + 1);
                let stream: Box<dyn Duplex> = match &tls {
                    None => Box::new(stream),
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => Box::new(stream),
                        Err(_) => continue,
                    },
                };
                tokio::task::spawn_local(handle(number, Peer { stream, seen: seen.clone(), buffer: Vec::new() }));
            }
        });
        backend
    }

    /// Answers every request with the same bytes.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |_, mut peer| async move { while peer.exchange(answer).await {} }).await
    }

    pub(super) fn requests(&self) -> usize {
        self.seen.borrow().len()
    }

    pub(super) fn last(&self) -> String {
        self.seen.borrow().last().unwrap().clone()
    }
}

impl Peer {
    /// Reads a request and answers it; false when the other side has closed.
    pub(super) async fn exchange(&mut self, answer: &str) -> bool {
        let open = self.request().await;
        if open {
            self.write(answer).await;
        }
        open
    }

    /// Reads a whole request; false when the other side has closed.
    pub(super) async fn request(&mut self) -> bool {
        loop {
            if let Some(length) = complete(&self.buffer) {
                let request: Vec<u8> = self.buffer.drain(..length).collect();
                self.seen.borrow_mut().push(String::from_utf8(request).unwrap());
                return true;
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    }

    pub(super) async fn write(&mut self, text: &str) {
        // The other side may have closed already: then it has what it wanted.
        let _ = self.stream.write_all(text.as_bytes()).await;
        let _ = self.stream.flush().await;
    }

    /// Waits until the other side has closed.
    pub(super) async fn closed(&mut self) {
        while self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) > 0 {}
    }
}

/// The length of the request at the start of `bytes`, when all of it is there.
fn complete(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("transfer-encoding: chunked") {
        let body = &bytes[head..];
        let last = body.windows(3).position(|window| window == b"0\r\n")?;
        let end = body[last..].windows(4).position(|window| window == b"\r\n\r\n")?;
        return Some(head + last + end + 4);
    }
    let length = text
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
    (bytes.len() >= head + length).then_some(head + length)
}
