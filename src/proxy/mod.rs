//! The data plane: proxy listeners, the request pipeline, upstream connections, failures.
//!
//! One current-thread runtime per worker, each with its own listening sockets and its own upstream connections:
//! nothing that a request touches is shared by workers but the snapshot (read-only), the counters and the log queue.
//! This module cannot name `store`: it serves whatever snapshot is live.

mod admission;
mod answer_body;
mod body;
mod calendar;
mod client_address;
mod connection;
mod delivery;
mod error_body;
mod failure;
mod forward;
mod gained;
mod greeting;
mod hop;
mod lean;
#[doc(hidden)]
pub mod measure;
mod names;
mod origins;
mod pipeline;
mod proxy_header;
mod record;
mod reply;
mod request_id;
mod screen;
mod stage;
mod stall;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod turn;
mod upgrade;
pub mod upstream;
mod upstream_path;
mod wire;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::IpNet;
use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{oneshot, watch};

use crate::counter::Counters;
use crate::listen::Traffic;
use crate::listen::access_log::AccessLog;
use crate::listen::bind::{self, Address};
use crate::listen::tls::Certificates;
use crate::proxy::upstream::SharedNames;
use crate::proxy::worker::Worker;
use crate::snapshot::Live;

/// What the proxy gets from the settings.
pub struct Options {
    pub listen: Vec<Address>,
    pub workers: usize,
    pub certificates: Option<Arc<Certificates>>,
    pub trusted_ips: Vec<IpNet>,
    pub real_ip_header: http::HeaderName,
    /// `real_ip_header = proxy_protocol`.
    pub real_ip_from_proxy_protocol: bool,
    pub real_ip_recursive: bool,
    pub response_headers: ResponseHeaders,
    /// `headers_upstream`: whether the upstream gets `X-Kong-Request-Id`.
    pub request_id_upstream: bool,
    /// Bytes; 0: no limit.
    pub client_max_body_size: u64,
    /// External port of a listening port, as routing and forwarded headers see it.
    pub port_maps: Vec<(u16, u16)>,
    /// Media type of server-made errors when the client states none.
    pub error_default_type: String,
    pub allow_debug_header: bool,
    /// Whether `fly-replay` and its kin may pass from an upstream to the edge.
    pub allow_fly_replay: bool,
    /// Whether HTTP/1.1 is spoken by the lean path where it can.
    pub lean: bool,
    /// Requests per client connection; 0: no limit.
    pub keepalive_requests: u32,
    pub patience: Patience,
    pub upstream: upstream::Options,
    pub access_log: AccessLog,
}

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the connection to the end of a PROXY protocol header, and again to the end of a TLS handshake.
    pub greeting: Duration,
    /// For a whole head, from the end of the exchange before; so also for silence between exchanges.
    pub head: Duration,
    /// Between two reads of a body.
    pub body: Duration,
    /// Between two writes of an answer.
    pub send: Duration,
}

impl Default for Patience {
    /// What nginx gives, and so Kong; but for heads, which nginx gives 60 s after 75 s of silence: here both are one.
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(15),
            head: Duration::from_secs(65),
            body: Duration::from_secs(60),
            send: Duration::from_secs(60),
        }
    }
}

/// Which headers the `headers` property switches on.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHeaders {
    pub server: bool,
    pub via: bool,
    pub proxy_latency: bool,
    pub response_latency: bool,
    pub upstream_latency: bool,
    pub admin_latency: bool,
    pub upstream_status: bool,
    pub request_id: bool,
}

/// The running data plane.
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    /// How long running exchanges may take once it is set.
    stop: watch::Sender<Option<Duration>>,
    workers: Vec<Thread>,
}

struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

/// A listening socket for one worker, and what all copies of it have in common.
type Parts = Vec<(TcpListener, Shape)>;

#[derive(Clone)]
struct Shape {
    /// After `port_maps`.
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    http2: bool,
    proxy_protocol: bool,
}

/// What each worker is started with.
#[derive(Clone)]
struct Supplies {
    options: Arc<Options>,
    names: SharedNames,
    live: Arc<Live>,
    counters: Arc<Counters>,
    traffic: Arc<Traffic>,
    stop: watch::Receiver<Option<Duration>>,
}

impl Proxy {
    /// Binds every listener and starts the workers. Call it once a configuration is live: an open port says so.
    pub fn start(
        options: Options,
        live: Arc<Live>,
        counters: Arc<Counters>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        let (parts, addresses) = bind_all(&options)?;
        let (stop, stopped) = watch::channel(None);
        let supplies = Supplies {
            options: Arc::new(options),
            names: SharedNames::default(),
            live,
            counters,
            traffic,
            stop: stopped,
        };
        let started = parts.into_iter().enumerate().map(|(number, parts)| start(number, parts, supplies.clone()));
        let workers = started.collect::<io::Result<Vec<_>>>()?;
        let (workers, ready): (Vec<_>, Vec<_>) = workers.into_iter().unzip();
        for worker in ready {
            worker.recv().map_err(io::Error::other)??;
        }
        Ok(Self { addresses, stop, workers })
    }

    /// Where it listens, in the order of `Options::listen`, with the port that the system chose for port 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, lets running exchanges finish, at most `limit` long; then ends the workers.
    pub async fn drain(self, limit: Duration) {
        self.stop.send_replace(Some(limit));
        for worker in self.workers {
            let _ = worker.ended.await;
            if worker.handle.join().is_err() {
                tracing::error!("a proxy worker panicked");
            }
        }
    }
}

/// The sockets of each worker, and the addresses they are bound to.
fn bind_all(options: &Options) -> io::Result<(Vec<Parts>, Vec<SocketAddr>)> {
    let workers = options.workers.max(1);
    let mut parts: Vec<Parts> = (0..workers).map(|_| Vec::new()).collect();
    let mut addresses = Vec::new();
    for address in &options.listen {
        let sockets = bind::bind(address, workers)?;
        let bound = sockets.first().map_or(Ok(address.socket), TcpListener::local_addr)?;
        let shape = shape(options, address, bound.port())?;
        parts.iter_mut().zip(sockets).for_each(|(parts, socket)| parts.push((socket, shape.clone())));
        addresses.push(bound);
    }
    Ok((parts, addresses))
}

fn shape(options: &Options, address: &Address, port: u16) -> io::Result<Shape> {
    let mapped = options.port_maps.iter().find(|(listening, _)| *listening == port);
    let tls = match (address.ssl, &options.certificates) {
        (false, _) => None,
        (true, Some(certificates)) => Some(certificates.server_config(address.http2)?),
        (true, None) => {
            return Err(io::Error::other(format!("no certificate for the TLS listener {}", address.socket)));
        }
    };
    Ok(Shape {
        port: mapped.map_or(port, |(_, external)| *external),
        tls,
        http2: address.http2,
        proxy_protocol: address.proxy_protocol,
    })
}

type Ready = std::sync::mpsc::Receiver<io::Result<()>>;

fn start(number: usize, parts: Parts, supplies: Supplies) -> io::Result<(Thread, Ready)> {
    let (tell_ready, ready) = std::sync::mpsc::sync_channel(1);
    let (tell_ended, ended) = oneshot::channel();
    let handle = thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
        match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime.block_on(work(parts, supplies, tell_ready)),
            Err(error) => drop(tell_ready.send(Err(error))),
        }
        let _ = tell_ended.send(());
    })?;
    Ok((Thread { handle, ended }, ready))
}

async fn work(parts: Parts, supplies: Supplies, ready: std::sync::mpsc::SyncSender<io::Result<()>>) {
    let Supplies { options, names, live, counters, traffic, mut stop } = supplies;
    let worker = Worker::new(options, names, &live, counters, traffic);
    let told = ready.send(worker.as_ref().map(|_| ()).map_err(|error| io::Error::new(error.kind(), error.to_string())));
    let (Ok(worker), Ok(())) = (worker, told) else { return };
    // When the other end is gone nobody waits for exchanges any more.
    let stopped = async move { stop.wait_for(Option::is_some).await.ok().and_then(|limit| *limit).unwrap_or_default() };
    Rc::new(worker).run(worker::listeners(parts), stopped).await;
}
