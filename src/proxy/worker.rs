//! A worker: one thread, one runtime, its own sockets and its own upstream connections.
//!
//! What a request touches is this thread's alone, so it needs no locks and its tasks need not be `Send`. A runtime that
//! moves tasks between threads lost: it costs more per request, and it makes every pool a shared one.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::counter::Counters;
use crate::listen::Traffic;
use crate::proxy::calendar::Calendar;
use crate::proxy::client_address::RealIp;
use crate::proxy::connection::{self, Local};
use crate::proxy::greeting;
use crate::proxy::lean::buffer::Shelf;
use crate::proxy::origins::Origins;
use crate::proxy::reply::Marks;
use crate::proxy::request_id::RequestIds;
use crate::proxy::upstream::SharedNames;
use crate::proxy::upstream::Upstreams;
use crate::proxy::{Options, Parts};
use crate::snapshot::{Live, Loaded, Reader};

/// Client connections at a time; more wait in the kernel's queue until one closes.
const CONNECTIONS: usize = 16_384;
/// TLS handshakes at a time: they are what costs most. More wait their turn, within their own time limit.
const HANDSHAKES: usize = 512;
/// After running out of file descriptors or memory: first and longest pause.
const BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// Everything that the requests of one thread share.
pub struct Worker {
    pub options: Arc<Options>,
    pub real_ip: RealIp,
    pub counters: Arc<Counters>,
    pub traffic: Arc<Traffic>,
    /// For bodies on the lean path.
    pub shelf: Shelf,
    pub upstreams: Upstreams,
    pub origins: Origins,
    pub ids: RequestIds,
    pub marks: Marks,
    pub calendar: Calendar,
    pub http1: http1::Builder,
    pub http2: http2::Builder<Local>,
    pub tasks: TaskTracker,
    pub stop: Stop,
    pub handshakes: Arc<Semaphore>,
    reader: RefCell<Reader>,
    room: Arc<Semaphore>,
}

/// One listening address, as its connections need it.
pub struct Listener {
    /// After `port_maps`.
    pub port: u16,
    pub port_value: HeaderValue,
    pub tls: Option<TlsAcceptor>,
    pub http2: bool,
    pub proxy_protocol: bool,
}

/// Tells the tasks of one worker to come to an end.
#[derive(Default)]
pub struct Stop {
    is_asked: Cell<bool>,
    bell: Notify,
}

impl Stop {
    pub fn is_asked(&self) -> bool {
        self.is_asked.get()
    }

    pub async fn asked(&self) {
        let mut rung = pin!(self.bell.notified());
        // Listening first: what is asked from here on is heard.
        rung.as_mut().enable();
        if !self.is_asked() {
            rung.await;
        }
    }

    fn ask(&self) {
        self.is_asked.set(true);
        self.bell.notify_waiters();
    }
}

impl Worker {
    /// Call on the worker's runtime.
    pub fn new(
        options: Arc<Options>,
        names: SharedNames,
        live: &Live,
        counters: Arc<Counters>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        Ok(Self {
            real_ip: RealIp {
                trusted: options.trusted_ips.clone(),
                header: options.real_ip_header.clone(),
                recursive: options.real_ip_recursive,
                from_proxy_protocol: options.real_ip_from_proxy_protocol,
            },
            shelf: Shelf::default(),
            upstreams: Upstreams::sharing(&options.upstream, names)?,
            http1: connection::http1(options.patience),
            options,
            counters,
            traffic,
            origins: Origins::default(),
            ids: RequestIds::new(),
            marks: Marks::new(),
            calendar: Calendar::default(),
            http2: connection::http2(),
            tasks: TaskTracker::new(),
            stop: Stop::default(),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            reader: RefCell::new(live.reader()),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// The world of this moment.
    pub fn snapshot(&self) -> Option<Loaded> {
        self.reader.borrow_mut().load()
    }

    /// Accepts until `stopped` says how long running exchanges may still take; then waits for them so long.
    pub async fn run(
        self: Rc<Self>,
        sockets: Vec<(TcpListener, Rc<Listener>)>,
        stopped: impl Future<Output = Duration>,
    ) {
        for (socket, listener) in sockets {
            self.tasks.spawn_local(Rc::clone(&self).listen(socket, listener));
        }
        let limit = stopped.await;
        self.stop.ask();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "exchanges that did not end in time were cut off");
        }
    }

    async fn listen(self: Rc<Self>, socket: TcpListener, listener: Rc<Listener>) {
        let socket = match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "a listening socket cannot be used"),
        };
        let mut pause = BACK_OFF;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.asked() => break,
                accepted = self.accept(&socket) => accepted,
            };
            match accepted {
                Ok((stream, peer, room)) => {
                    pause = BACK_OFF;
                    self.welcome(stream, peer, &listener, room);
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "no connection can be accepted");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_BACK_OFF);
                }
            }
        }
        self.sweep(&socket, &listener).await;
    }

    async fn accept(
        &self,
        socket: &tokio::net::TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = socket.accept().await?;
        Ok((stream, peer, room))
    }

    /// Clients that are already in the queue would be reset when the socket closes: they are served as well.
    async fn sweep(self: &Rc<Self>, socket: &tokio::net::TcpListener, listener: &Rc<Listener>) {
        let mut accepting = pin!(async {
            while let Ok((stream, peer, room)) = self.accept(socket).await {
                self.welcome(stream, peer, listener, room);
            }
        });
        std::future::poll_fn(|cx| {
            let _ = accepting.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }

    fn welcome(
        self: &Rc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        listener: &Rc<Listener>,
        room: OwnedSemaphorePermit,
    ) {
        self.traffic.accepted.fetch_add(1, Relaxed);
        self.traffic.handled.fetch_add(1, Relaxed);
        let (worker, listener) = (Rc::clone(self), Rc::clone(listener));
        self.tasks.spawn_local(async move {
            greeting::greet(worker, listener, stream, peer.ip()).await;
            drop(room);
        });
    }
}

/// Listeners of one worker, made from what the node gave all workers.
pub fn listeners(parts: Parts) -> Vec<(TcpListener, Rc<Listener>)> {
    let make = |(socket, shape): (TcpListener, crate::proxy::Shape)| {
        let listener = Listener {
            port: shape.port,
            port_value: HeaderValue::from(shape.port),
            tls: shape.tls.map(TlsAcceptor::from),
            http2: shape.http2,
            proxy_protocol: shape.proxy_protocol,
        };
        (socket, Rc::new(listener))
    };
    parts.into_iter().map(make).collect()
}

/// Whether an accept failed for a reason of the connection's own, so that the next may well succeed.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
