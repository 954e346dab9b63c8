//! The first bytes of a connection: PROXY protocol, TLS, and which HTTP the client speaks. All of it has a time limit.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listen::Traffic;
use crate::proxy::client_address::canonical;
use crate::proxy::connection::{Connection, From, speak_http1, speak_http2};
use crate::proxy::proxy_header;
use crate::proxy::worker::{Listener, Worker};

/// How an HTTP/2 connection begins; no method of HTTP/1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// Serves a new connection to its end.
pub async fn greet(worker: Rc<Worker>, listener: Rc<Listener>, mut stream: TcpStream, peer: IpAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a client was gone before it was greeted");
    }
    let mut from = From { peer_ip: canonical(peer), proxied_ip: None };
    if listener.proxy_protocol {
        match timeout(worker.options.patience.greeting, proxy_header::read(&mut stream)).await {
            Ok(Ok(said)) => from.proxied_ip = said,
            Ok(Err(error)) => return tracing::info!(%error, %peer, "a connection was refused"),
            Err(_) => return tracing::info!(%peer, "a PROXY protocol header took too long"),
        }
    }
    match listener.tls.clone() {
        None => greet_plain(worker, listener, stream, from).await,
        Some(acceptor) => greet_tls(worker, listener, stream, from, acceptor).await,
    }
}

async fn greet_plain(worker: Rc<Worker>, listener: Rc<Listener>, mut stream: TcpStream, from: From) {
    let may_be_http2 = listener.http2;
    let connection = Connection::open(worker, listener, from, None);
    if !may_be_http2 {
        return speak_http1(connection, stream, Bytes::new()).await;
    }
    let patience = connection.worker.options.patience.head;
    match timeout(patience, first_bytes(&mut stream)).await {
        Ok(Ok(early)) if early.starts_with(PREFACE) => Box::pin(speak_http2(connection, stream, early)).await,
        Ok(Ok(early)) => speak_http1(connection, stream, early).await,
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn greet_tls(worker: Rc<Worker>, listener: Rc<Listener>, stream: TcpStream, from: From, acceptor: TlsAcceptor) {
    let shaken = {
        let _reading = Reading::count(&worker.traffic);
        // Boxed, as below: a connection should not hold room all its life for what is over, or for what it never does.
        Box::pin(timeout(worker.options.patience.greeting, shake_hands(&worker, stream, acceptor))).await
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, peer = %from.peer_ip, "a TLS handshake failed"),
        Err(_) => return tracing::debug!(peer = %from.peer_ip, "a TLS handshake took too long"),
    };
    let tls = stream.get_ref().1;
    let sni = tls.server_name().unwrap_or_default().into();
    let is_http2 = tls.alpn_protocol() == Some(b"h2");
    let connection = Connection::open(worker, listener, from, Some(sni));
    if is_http2 {
        Box::pin(speak_http2(connection, stream, Bytes::new())).await;
    } else {
        speak_http1(connection, stream, Bytes::new()).await;
    }
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

async fn shake_hands(worker: &Worker, stream: TcpStream, acceptor: TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    // Whoever sends nothing takes nobody's turn.
    stream.readable().await?;
    let _turn = Arc::clone(&worker.handshakes).acquire_owned().await.map_err(io::Error::other)?;
    acceptor.accept(stream).await
}

/// As many bytes as it takes to tell HTTP/2 from HTTP/1.
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
