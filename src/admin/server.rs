//! Sockets of the Admin API: accept, TLS, HTTP, limits, the access log. No decision about any request is made here.
//!
//! Everything a client can hold is bounded: connections, the time for a handshake, a head, a body, an answer it does
//! not read, and the bytes of all of them. Plain listeners speak HTTP/1.1; TLS ones what ALPN agreed on. hyper-util's
//! connection that guesses the version lost: it waits without end for the first byte.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, ORIGIN, REFERER, USER_AGENT};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::admin::front::{self, Service};
use crate::admin::reply::{self, Reply};
use crate::admin::stall::Unstalled;
use crate::listen::access_log::{AccessLog, Line};
use crate::listen::bind::{self, Address};
use crate::listen::tls::Certificates;
use crate::pace;

/// For a pause after the kernel refused a connection, so that being out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const HEAD_BYTES: usize = 64 * 1024;
const STREAMS_MAX: u32 = 100;

/// What a client may hold, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections of one listener; further ones wait in the kernel's queue.
    pub connections: usize,
    pub handshake: Duration,
    /// For a whole head, and between two requests of a connection.
    pub head: Duration,
    pub body: Duration,
    /// For an answer that the client does not take a byte of.
    pub stall: Duration,
    /// Between two questions whether an HTTP/2 client is there.
    pub ping: Duration,
}

/// What the connections of one surface (Admin or status) share.
pub(crate) struct Surface<S> {
    pub service: S,
    pub access_log: AccessLog,
    /// Bytes of a request body.
    pub max_body_size: usize,
    pub limits: Limits,
}

impl Default for Limits {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            connections: 1024,
            handshake: 10 * second,
            head: 60 * second,
            body: 60 * second,
            stall: 60 * second,
            ping: 30 * second,
        }
    }
}

/// Ends listeners and connections.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    pub token: CancellationToken,
    pub tasks: TaskTracker,
}

/// Binds `address` and serves it until `stop`. Answers the address that was bound.
pub(crate) fn listen<S: Service>(
    address: &Address,
    certificates: Option<&Arc<Certificates>>,
    surface: &Arc<Surface<S>>,
    stop: &Stop,
) -> io::Result<SocketAddr> {
    let acceptor = if address.ssl {
        let certificates = certificates.ok_or_else(|| io::Error::other("an ssl listener needs certificates"))?;
        Some(TlsAcceptor::from(certificates.server_config(address.http2)?))
    } else {
        None
    };
    let mut bound = address.socket;
    for socket in bind::bind(address, 1)? {
        let listener = TcpListener::from_std(socket)?;
        bound = listener.local_addr()?;
        stop.tasks.spawn(accept(listener, acceptor.clone(), surface.clone(), stop.clone()));
    }
    Ok(bound)
}

async fn accept<S: Service>(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    surface: Arc<Surface<S>>,
    stop: Stop,
) {
    let places = Arc::new(Semaphore::new(surface.limits.connections));
    let next = async || -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, place))
    };
    loop {
        let accepted = tokio::select! {
            () = stop.token.cancelled() => return,
            accepted = next() => accepted,
        };
        match accepted {
            Ok((stream, peer, place)) => {
                let (acceptor, surface, stop_token) = (acceptor.clone(), surface.clone(), stop.token.clone());
                stop.tasks.spawn(async move {
                    let _place = place;
                    connection(stream, peer.ip(), acceptor, surface, stop_token).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the Admin API could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A client's mistakes end its connection and are nobody else's business, so errors are not logged loudly.
async fn connection<S: Service>(
    stream: TcpStream,
    peer: IpAddr,
    acceptor: Option<TlsAcceptor>,
    surface: Arc<Surface<S>>,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let stream = Unstalled::new(stream, surface.limits.stall);
    let Some(acceptor) = acceptor else { return serve_http1(stream, peer, surface, stop).await };
    match tokio::time::timeout(surface.limits.handshake, acceptor.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            serve_http2(stream, peer, surface, stop).await;
        }
        Ok(Ok(stream)) => serve_http1(stream, peer, surface, stop).await,
        Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake with the Admin API failed"),
        Err(_) => tracing::debug!(%peer, "a TLS handshake with the Admin API took too long"),
    }
}

async fn serve_http1<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: IpAddr,
    surface: Arc<Surface<S>>,
    stop: CancellationToken,
) {
    let service = service_fn(|request| exchange(&surface, peer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(surface.limits.head)
        .max_buf_size(HEAD_BYTES)
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the Admin API ended early");
    }
}

async fn serve_http2<S: Service>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: IpAddr,
    surface: Arc<Surface<S>>,
    stop: CancellationToken,
) {
    let limits = surface.limits;
    let service = service_fn(move |request| {
        let surface = surface.clone();
        async move { exchange(&surface, peer, request).await }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping)
        .keep_alive_timeout(limits.handshake)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES as u32)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection to the Admin API ended early");
    }
}

async fn exchange<S: Service>(
    surface: &Surface<S>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let mut line = line_of(&head, peer);
    let origin = head.headers.get(ORIGIN).cloned();
    let is_head = head.method == Method::HEAD;
    let reply = match read(surface, head, body).await {
        Ok(request) => front::answer(&surface.service, request).await,
        Err(mut refusal) => {
            front::finish(surface.service.manners(), &mut refusal, origin.as_ref(), is_head, started);
            refusal
        }
    };
    line.status = reply.status().as_u16();
    line.body_bytes = reply.body().len() as u64;
    surface.access_log.write(line);
    Ok(reply.map(Full::new))
}

/// The request with its body, or the answer to a client that may not send one, or sends too much or too slowly.
async fn read<S: Service>(surface: &Surface<S>, head: Parts, body: Incoming) -> Result<Request<Bytes>, Reply> {
    if head.version == Version::HTTP_11 && head.headers.get_all(HOST).iter().count() != 1 {
        return Err(reply::bad_request("exactly one Host header is needed"));
    }
    if head_bytes(&head) > HEAD_BYTES {
        return Err(reply::message(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's head is too large"));
    }
    if let Some(refusal) = front::refuse(&surface.service, &head) {
        return Err(refusal);
    }
    let too_large = || reply::message(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large");
    let stated = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|length| length > surface.max_body_size as u64) {
        return Err(too_large());
    }
    let body = whole(Limited::new(body, surface.max_body_size));
    match tokio::time::timeout(surface.limits.body, body).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, body)),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(reply::bad_request("the request body ended early")),
        Err(_) => Err(reply::message(StatusCode::REQUEST_TIMEOUT, "the request body came too slowly")),
    }
}

/// A body to its end, put together as it comes: joining the many pieces of a long one keeps the core for milliseconds.
async fn whole(mut body: Limited<Incoming>) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
            pace::offer();
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// hyper's own bound is where it stops reading, which can be a buffer later.
fn head_bytes(head: &Parts) -> usize {
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    head.uri.path().len() + head.uri.query().map_or(0, str::len) + headers
}

fn line_of(head: &Parts, remote: IpAddr) -> Line {
    let mut request_id = [0; 32];
    Uuid::new_v4().as_simple().encode_lower(&mut request_id);
    Line {
        remote,
        at: SystemTime::now(),
        method: head.method.clone(),
        target: target(head),
        version: head.version,
        status: 0,
        body_bytes: 0,
        referer: head.headers.get(REFERER).cloned(),
        user_agent: head.headers.get(USER_AGENT).cloned(),
        request_id,
    }
}

fn target(head: &Parts) -> Bytes {
    let target = head.uri.path_and_query().map_or("", |target| target.as_str());
    Bytes::copy_from_slice(target.as_bytes())
}

#[cfg(test)]
mod tests;
