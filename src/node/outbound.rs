//! Makes the calls of plugins on the node's main runtime: plugins ask from worker threads, tasks here do the work and
//! answer over a channel.
//!
//! At most `CALLS_MAX` calls are in progress and `WAITING_MAX` wait for their turn; further ones fail at once. Connections
//! are kept for the next call to the same peer, at most `IDLE_MAX` of them in all (`idle`). Nothing is tried again, with
//! one exception: a kept connection that turns out to be closed before anything was sent is replaced by a new one.

mod connect;
mod http;
mod idle;
mod send;

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::node::outbound::connect::Connector;
use crate::node::outbound::http::KeptHttp;
use crate::node::outbound::idle::Idle;
use crate::node::outbound::send::KeptStream;
use crate::plugin::tools::outbound::{HttpCall, HttpReply, Outbound, OutboundError, TcpSend, UdpSend};

/// Calls in progress at a time. Each holds a socket and at most a request and a reply in memory.
const CALLS_MAX: usize = 256;
/// Calls that wait for their turn, beside those in progress.
const WAITING_MAX: usize = 4_096;
/// Pause between two sweeps over kept connections: so much longer than asked for a connection may stay open.
const SWEEP_PAUSE: Duration = Duration::from_secs(5);

/// The node's side of `Outbound`; clones share everything.
#[derive(Clone)]
pub struct NodeOutbound {
    runtime: Handle,
    shared: Arc<Shared>,
}

struct Shared {
    /// One permit per call in progress or waiting.
    accepted: Arc<Semaphore>,
    /// One permit per call in progress.
    running: Semaphore,
    connector: Connector,
    http: Idle<KeptHttp>,
    streams: Idle<KeptStream>,
}

impl NodeOutbound {
    /// Makes calls on the current runtime. `bundles`: PEM files of authorities to trust beside the system's; with one that
    /// cannot be read every TLS call fails.
    pub fn new(bundles: Vec<PathBuf>) -> Self {
        Self::with_limits(bundles, CALLS_MAX, WAITING_MAX)
    }

    fn with_limits(bundles: Vec<PathBuf>, calls_max: usize, waiting_max: usize) -> Self {
        let shared = Shared {
            accepted: Arc::new(Semaphore::new(calls_max + waiting_max)),
            running: Semaphore::new(calls_max),
            connector: Connector::new(bundles),
            http: Idle::default(),
            streams: Idle::default(),
        };
        let (runtime, shared) = (Handle::current(), Arc::new(shared));
        runtime.spawn(close_idle(Arc::downgrade(&shared)));
        Self { runtime, shared }
    }

    /// Runs `call` on the main runtime once it is its turn. Dropping the future ends the call.
    fn run<T: Send + 'static, F>(
        &self,
        call: impl FnOnce(Arc<Shared>) -> F,
    ) -> BoxFuture<'static, Result<T, OutboundError>>
    where
        F: Future<Output = Result<T, OutboundError>> + Send + 'static,
    {
        let Ok(accepted) = self.shared.accepted.clone().try_acquire_owned() else {
            return Box::pin(std::future::ready(Err(OutboundError::Busy)));
        };
        let (shared, call) = (self.shared.clone(), call(self.shared.clone()));
        let task = self.runtime.spawn(async move {
            let _accepted = accepted;
            let _running = shared.running.acquire().await.map_err(|_| OutboundError::Stopped("the node stops"))?;
            call.await
        });
        let task = AbortOnDropHandle::new(task);
        // The task is gone without an answer only where the runtime ended, or where it panicked.
        Box::pin(async move { task.await.unwrap_or(Err(OutboundError::Stopped("the node stops"))) })
    }
}

/// Closes connections whose time is over, until nothing makes calls any more.
async fn close_idle(shared: Weak<Shared>) {
    loop {
        tokio::time::sleep(SWEEP_PAUSE).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.http.close_expired();
        shared.streams.close_expired();
    }
}

impl Outbound for NodeOutbound {
    fn http(&self, call: HttpCall) -> BoxFuture<'static, Result<HttpReply, OutboundError>> {
        self.run(|shared| async move { http::call(&shared.connector, &shared.http, call).await })
    }

    fn tcp(&self, send: TcpSend) -> BoxFuture<'static, Result<(), OutboundError>> {
        self.run(|shared| async move { send::tcp(&shared.connector, &shared.streams, send).await })
    }

    fn udp(&self, send: UdpSend) -> BoxFuture<'static, Result<(), OutboundError>> {
        self.run(|_| async move { send::udp(send).await })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
