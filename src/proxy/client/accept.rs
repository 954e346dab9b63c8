//! The beginning of a connection: PROXY protocol, TLS, and which HTTP the client speaks. Each step has a time limit.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listen::Traffic;
use crate::proxy::client::proxy_header;
use crate::proxy::client::{http1, http2};
use crate::proxy::exchange::admission::Refusal;
use crate::proxy::exchange::client_address::canonical;
use crate::proxy::exchange::connection::{ClientAddress, Connection};
use crate::proxy::exchange::context::{Listener, WorkerContext};

/// The beginning of an HTTP/2 connection; no method of HTTP/1 is called so.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// The first byte of a TLS connection: a handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Maximum number of TLS handshakes of one worker at a time: they are the most expensive step. More wait, within their own
/// time limit.
const HANDSHAKES: usize = 512;

/// Permits for TLS handshakes.
#[derive(Clone)]
pub struct Handshakes(Arc<Semaphore>);

impl Default for Handshakes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(HANDSHAKES)))
    }
}

/// Serves a new connection to its end.
pub async fn serve(
    worker: Rc<WorkerContext>,
    listener: Rc<Listener>,
    handshakes: Handshakes,
    mut stream: TcpStream,
    peer: IpAddr,
) {
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a client closed its connection at once");
    }
    let mut from = ClientAddress { peer_ip: canonical(peer), proxied_ip: None };
    if listener.proxy_protocol {
        match timeout(worker.options.patience.greeting, proxy_header::read(&mut stream)).await {
            Ok(Ok(stated)) => from.proxied_ip = stated,
            Ok(Err(error)) => return tracing::info!(%error, %peer, "connection refused"),
            Err(_) => return tracing::info!(%peer, "timeout: no PROXY protocol header"),
        }
    }
    match listener.tls.clone() {
        None => serve_plain(worker, listener, stream, from).await,
        Some(acceptor) => serve_tls(worker, listener, stream, from, (acceptor, handshakes)).await,
    }
}

async fn serve_plain(worker: Rc<WorkerContext>, listener: Rc<Listener>, mut stream: TcpStream, from: ClientAddress) {
    let may_be_http2 = listener.http2;
    let connection = Connection::open(worker, listener, from, None);
    if !may_be_http2 {
        return http1::serve(connection, stream, Bytes::new(), None).await;
    }
    let limit = connection.worker.options.patience.head;
    match timeout(limit, first_bytes(&mut stream)).await {
        Ok(Ok(early)) if early.starts_with(PREFACE) => Box::pin(http2::serve(connection, stream, early)).await,
        Ok(Ok(early)) => http1::serve(connection, stream, early, None).await,
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn serve_tls(
    worker: Rc<WorkerContext>,
    listener: Rc<Listener>,
    stream: TcpStream,
    from: ClientAddress,
    (acceptor, handshakes): (TlsAcceptor, Handshakes),
) {
    // Boxed: a connection should not hold room all its life for steps that are over, or that it never takes.
    let limit = worker.options.patience.greeting;
    let greeted = {
        let _reading = Reading::count(&worker.traffic);
        Box::pin(timeout(limit, greet(stream, acceptor, handshakes))).await
    };
    let stream = match greeted {
        Ok(Ok(Greeted::Tls(stream))) => stream,
        Ok(Ok(Greeted::Plain(stream))) => {
            let connection = Connection::open(worker, listener, from, None);
            return Box::pin(http1::serve(connection, stream, Bytes::new(), Some(Refusal::PlainOnTls))).await;
        }
        Ok(Err(error)) => return tracing::debug!(%error, peer = %from.peer_ip, "TLS handshake failed"),
        Err(_) => return tracing::debug!(peer = %from.peer_ip, "timeout: TLS handshake"),
    };
    let tls = stream.get_ref().1;
    let sni = tls.server_name().unwrap_or_default().into();
    let is_http2 = tls.alpn_protocol() == Some(b"h2");
    let connection = Connection::open(worker, listener, from, Some(sni));
    if is_http2 {
        Box::pin(http2::serve(connection, *stream, Bytes::new())).await;
    } else {
        http1::serve(connection, *stream, Bytes::new(), None).await;
    }
}

/// What a client on a TLS port speaks.
enum Greeted {
    Tls(Box<TlsStream<TcpStream>>),
    /// Something that begins with a letter, as a request of HTTP does.
    Plain(TcpStream),
}

/// Counts a connection that is not ready for requests yet, also when its task is cut off.
struct Reading<'a>(&'a Traffic);

impl<'a> Reading<'a> {
    fn count(traffic: &'a Traffic) -> Self {
        traffic.active.fetch_add(1, Relaxed);
        traffic.reading.fetch_add(1, Relaxed);
        Self(traffic)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
        self.0.reading.fetch_sub(1, Relaxed);
    }
}

async fn greet(stream: TcpStream, acceptor: TlsAcceptor, handshakes: Handshakes) -> io::Result<Greeted> {
    // A client that sends nothing holds no permit.
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0] != TLS_HANDSHAKE && first[0].is_ascii_alphabetic() {
        return Ok(Greeted::Plain(stream));
    }
    let _permit = handshakes.0.acquire_owned().await.map_err(io::Error::other)?;
    acceptor.accept(stream).await.map(Box::new).map(Greeted::Tls)
}

/// Reads enough bytes to distinguish HTTP/2 from HTTP/1.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Bytes> {
    let mut early = BytesMut::with_capacity(1024);
    while early.len() < PREFACE.len() && PREFACE.starts_with(&early) {
        if stream.read_buf(&mut early).await? == 0 {
            break;
        }
    }
    Ok(early.freeze())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn check(pieces: &[&[u8]], expected: &[u8]) {
        let (mut client, mut server) = tokio::io::duplex(1);
        let sending = async {
            for piece in pieces {
                let _ = client.write_all(piece).await;
            }
            drop(client);
        };
        let (early, ()) = tokio::join!(
            async {
                let early = first_bytes(&mut server).await.unwrap();
                drop(server);
                early
            },
            sending
        );
        assert_eq!(early, expected);
    }

    #[tokio::test]
    async fn the_first_bytes_tell_the_version() {
        check(&[b"PRI * HT", b"TP/2.0\r\n"], PREFACE).await;
        check(&[b"GET / HTTP/1.1"], b"G").await;
        check(&[b"PRINT /"], b"PRIN").await;
        check(&[b"PR"], b"PR").await;
        check(&[b""], b"").await;
    }
}
