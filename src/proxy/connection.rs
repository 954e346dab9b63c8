//! One client connection: what is known of it, how it is counted, and how HTTP is spoken on it.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::proxy::Patience;
use crate::proxy::admission::Refusal;
use crate::proxy::lean;
use crate::proxy::pipeline;
use crate::proxy::wire::{Signals, Wire};
use crate::proxy::worker::{Listener, Worker};

/// What hyper may hold of a head or of a body. Heads beyond 32 KiB are refused by `admission`, with Kong's body; those
/// that do not even fit here are refused by hyper, with 431.
const BUFFER_BYTES: usize = 128 * 1024;

/// HTTP/2: streams at a time, as nginx.
const STREAMS: u32 = 128;
const HEADER_LIST_BYTES: u32 = 32 * 1024;
/// Streams that a client reset before they were even taken up: more at a time, and the connection ends.
const PENDING_RESETS: usize = 20;
/// Streams that we reset for errors of the client's: more, and the connection ends.
const ERROR_RESETS: usize = 128;
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// An HTTP/2 connection is looked at so often, or more often when there is less patience.
const LOOK: Duration = Duration::from_secs(5);
/// Time for a client to read that a connection is closing.
const PARTING: Duration = Duration::from_secs(10);

/// What is known of a connection. It lives as long as any exchange of it, tunnels included.
pub struct Connection {
    pub worker: Rc<Worker>,
    pub listener: Rc<Listener>,
    pub peer_ip: IpAddr,
    /// `peer_ip` as text.
    pub peer: HeaderValue,
    /// Whose connection it is, by the PROXY protocol.
    pub proxied_ip: Option<IpAddr>,
    /// TLS: the server name asked for, or nothing. `None`: not TLS.
    pub sni: Option<Box<str>>,
    signals: Signals,
    exchanges: Cell<u32>,
    served: Cell<u32>,
    /// Exchanges that wait for us or an upstream rather than for the client.
    awaiting: Cell<u32>,
    /// Changes whenever something moves.
    progress: Cell<u64>,
}

/// Where a connection comes from.
#[derive(Clone, Copy)]
pub struct From {
    pub peer_ip: IpAddr,
    /// By the PROXY protocol.
    pub proxied_ip: Option<IpAddr>,
}

/// While it lives, an exchange does not wait for its client.
pub struct Waiting(Rc<Connection>);

impl Waiting {
    pub fn on(connection: &Rc<Connection>) -> Self {
        connection.note_progress();
        connection.awaiting.set(connection.awaiting.get() + 1);
        Self(Rc::clone(connection))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.note_progress();
        self.0.awaiting.set(self.0.awaiting.get() - 1);
    }
}

impl Connection {
    /// Counts it in, as one that waits for a request.
    pub fn open(worker: Rc<Worker>, listener: Rc<Listener>, from: From, sni: Option<Box<str>>) -> Rc<Self> {
        let traffic = &worker.traffic;
        traffic.active.fetch_add(1, Relaxed);
        traffic.waiting.fetch_add(1, Relaxed);
        let peer = HeaderValue::try_from(from.peer_ip.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
        Rc::new(Self {
            worker,
            listener,
            peer_ip: from.peer_ip,
            peer,
            proxied_ip: from.proxied_ip,
            sni,
            signals: Signals::default(),
            exchanges: Cell::new(0),
            served: Cell::new(0),
            awaiting: Cell::new(0),
            progress: Cell::new(0),
        })
    }

    pub fn tls(&self) -> bool {
        self.sni.is_some()
    }

    pub fn begin_exchange(&self) {
        let traffic = &self.worker.traffic;
        traffic.requests.fetch_add(1, Relaxed);
        if self.exchanges.get() == 0 {
            traffic.waiting.fetch_sub(1, Relaxed);
            traffic.writing.fetch_add(1, Relaxed);
        }
        self.exchanges.set(self.exchanges.get() + 1);
        self.served.set(self.served.get().saturating_add(1));
        self.note_progress();
    }

    pub fn end_exchange(&self) {
        self.exchanges.set(self.exchanges.get() - 1);
        if self.exchanges.get() == 0 {
            let traffic = &self.worker.traffic;
            traffic.writing.fetch_sub(1, Relaxed);
            traffic.waiting.fetch_add(1, Relaxed);
        }
        self.note_progress();
    }

    /// It has served as many requests as a connection may.
    pub fn is_spent(&self) -> bool {
        let most = self.worker.options.keepalive_requests;
        most > 0 && self.served.get() >= most
    }

    /// Why the request that was begun last has been refused on the wire.
    pub fn refusal(&self) -> Option<Refusal> {
        self.signals.refusal(self.served.get())
    }

    pub fn note_progress(&self) {
        self.progress.set(self.progress.get().wrapping_add(1));
    }

    pub fn expect_leftovers(&self) {
        self.signals.expect_leftovers();
    }

    pub fn leave_to_tunnel(&self) {
        self.signals.leave_to_tunnel();
    }

    /// Nothing moves unless the client does something.
    fn is_up_to_client(&self) -> bool {
        self.awaiting.get() == 0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.traffic.active.fetch_sub(1, Relaxed);
        self.worker.traffic.waiting.fetch_sub(1, Relaxed);
    }
}

/// Speaks HTTP/1 until the end. `early`: bytes that were read already.
pub async fn speak_http1<S>(connection: Rc<Connection>, stream: S, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let options = &connection.worker.options;
    let mut wire = Wire::new(stream, early, connection.signals.clone(), options.patience.send);
    if options.lean {
        match lean::speak(&connection, wire).await {
            None => return,
            Some(rest) => wire = rest,
        }
    }
    let wire = wire.screened(connection.served.get());
    // Boxed: most connections never come here, and should not hold room for it.
    Box::pin(speak_generally(connection, wire)).await;
}

async fn speak_generally<S>(connection: Rc<Connection>, wire: Wire<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let worker = Rc::clone(&connection.worker);
    let service = service_fn(move |request| {
        let connection = Rc::clone(&connection);
        async move { Ok::<_, Infallible>(pipeline::serve(connection, request).await) }
    });
    let serving = worker.http1.serve_connection(TokioIo::new(wire), service).with_upgrades();
    let mut serving = pin!(serving);
    let mut stop = pin!(worker.stop.asked());
    let (mut watching, mut stopping) = (false, false);
    let ended = std::future::poll_fn(|cx| {
        // Polled once to be woken by it; a look at a flag does for all the other times.
        if !stopping && (!watching || worker.stop.is_asked()) {
            watching = true;
            stopping = stop.as_mut().poll(cx).is_ready();
            if stopping {
                serving.as_mut().graceful_shutdown();
            }
        }
        serving.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "a client's connection broke");
    }
}

/// Speaks HTTP/2 until the end.
pub async fn speak_http2<S>(connection: Rc<Connection>, stream: S, early: Bytes)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let patience = connection.worker.options.patience.send;
    let wire = Wire::new(stream, early, connection.signals.clone(), patience);
    let worker = Rc::clone(&connection.worker);
    let watched = Rc::clone(&connection);
    let service = service_fn(move |request| {
        let connection = Rc::clone(&connection);
        // Boxed: hyper and the runtime move what they are given several times before they poll it.
        let serving = Box::pin(pipeline::serve(connection, request));
        async move { Ok::<_, Infallible>(serving.await) }
    });
    let mut serving = pin!(worker.http2.serve_connection(TokioIo::new(wire), service));
    let mut ended = tokio::select! {
        biased;
        ended = serving.as_mut() => Some(ended),
        () = reason_to_part(&watched) => None,
    };
    if ended.is_none() {
        serving.as_mut().graceful_shutdown();
        ended = tokio::select! {
            biased;
            ended = serving => Some(ended),
            () = quiet(&watched, PARTING.min(watched.worker.options.patience.head)) => None,
        };
    }
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a client's connection broke");
    }
}

/// Returns when an HTTP/2 connection should take no new streams: the worker stops, it has served its share, or its
/// client does nothing.
async fn reason_to_part(connection: &Connection) {
    let spent = async {
        while !connection.is_spent() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = connection.worker.stop.asked() => {}
        () = spent => {}
        () = quiet(connection, connection.worker.options.patience.head) => {}
    }
}

/// Returns when everything has waited for the client, and nothing moved, for `limit`.
async fn quiet(connection: &Connection, limit: Duration) {
    let mut seen = connection.progress.get();
    let mut since = Instant::now();
    while since.elapsed() < limit {
        tokio::time::sleep(LOOK.min(limit / 4)).await;
        if seen != connection.progress.get() || !connection.is_up_to_client() {
            seen = connection.progress.get();
            since = Instant::now();
        }
    }
}

/// How a worker speaks HTTP/1.
pub fn http1(patience: Patience) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(BUFFER_BYTES)
        .preserve_header_case(true)
        .title_case_headers(true);
    builder
}

/// How a worker speaks HTTP/2.
pub fn http2() -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(ERROR_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    builder
}

/// Runs the streams of a connection on its worker's thread.
#[derive(Clone, Copy)]
pub struct Local;

impl<F: Future + 'static> hyper::rt::Executor<F> for Local
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
