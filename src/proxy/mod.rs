//! The data plane: proxy listeners, exchanges, upstream connections, failures.
//!
//! One current-thread runtime per worker, each with its own listening sockets and its own upstream connections: requests of
//! different workers share nothing but the snapshot (read-only), the counters and the log queue. This module cannot name
//! `store`: it serves whatever snapshot is live.
//!
//! `exchange` has the steps of a request in their one order; `client` speaks with clients, `upstream` with upstreams, and
//! both use the codec `http1`.

mod client;
mod exchange;
mod io;
#[doc(hidden)]
pub mod measure;
mod names;
pub mod options;
pub mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
pub mod upstream;
mod worker;

use std::io::{Error, Result};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::HeaderValue;
use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::counter::Counters;
use crate::listen::Traffic;
use crate::listen::bind::{self, Address};
use crate::proxy::exchange::context::{Listener, WorkerContext};
use crate::proxy::options::Options;
use crate::proxy::upstream::SharedNames;
use crate::proxy::worker::Worker;
use crate::snapshot::Live;

/// The running data plane.
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    /// Set to how long running exchanges may still take.
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
    pub fn start(options: Options, live: Arc<Live>, counters: Arc<Counters>, traffic: Arc<Traffic>) -> Result<Self> {
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
        let workers = started.collect::<Result<Vec<_>>>()?;
        let (workers, ready): (Vec<_>, Vec<_>) = workers.into_iter().unzip();
        for worker in ready {
            worker.recv().map_err(Error::other)??;
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
fn bind_all(options: &Options) -> Result<(Vec<Parts>, Vec<SocketAddr>)> {
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

fn shape(options: &Options, address: &Address, port: u16) -> Result<Shape> {
    let mapped = options.port_maps.iter().find(|(_, listening)| *listening == port);
    let tls = match (address.ssl, &options.certificates) {
        (false, _) => None,
        (true, Some(certificates)) => Some(certificates.server_config(address.http2)?),
        (true, None) => {
            return Err(Error::other(format!("no certificate for the TLS listener {}", address.socket)));
        }
    };
    Ok(Shape {
        port: mapped.map_or(port, |(external, _)| *external),
        tls,
        http2: address.http2,
        proxy_protocol: address.proxy_protocol,
    })
}

type Ready = std::sync::mpsc::Receiver<Result<()>>;

fn start(number: usize, parts: Parts, supplies: Supplies) -> Result<(Thread, Ready)> {
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

async fn work(parts: Parts, supplies: Supplies, ready: std::sync::mpsc::SyncSender<Result<()>>) {
    let Supplies { options, names, live, counters, traffic, mut stop } = supplies;
    let context = WorkerContext::new(options, names, &live, counters, traffic);
    let told = context.as_ref().map(|_| ()).map_err(|error| Error::new(error.kind(), error.to_string()));
    let (Ok(context), Ok(())) = (context, ready.send(told)) else { return };
    // When the other end is gone, no one waits for exchanges any more.
    let stopped = async move { stop.wait_for(Option::is_some).await.ok().and_then(|limit| *limit).unwrap_or_default() };
    Rc::new(Worker::new(context)).run(listeners(parts), stopped).await;
}

/// The listeners of one worker.
fn listeners(parts: Parts) -> Vec<(TcpListener, Rc<Listener>)> {
    let make = |(socket, shape): (TcpListener, Shape)| {
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
