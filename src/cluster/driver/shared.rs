//! What the driver and those who ask the cluster both look at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tidegate_proto::Vector;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::core::members::Members;
use crate::cluster::core::view::{Cluster, Figures, LimitRow, State, View};
use crate::cluster::driver::coverage::Coverage;
use crate::cluster::driver::exchange::Exchange;
use crate::cluster::transport::Mesh;

/// The cluster as this node sees it, for readers of any thread.
pub struct Shared {
    known: Mutex<Known>,
    /// Told after each change that a waiting write could care about.
    changed: watch::Sender<()>,
    pub mesh: Mesh,
    pub counts: Counts,
    started: Instant,
    pub exchange: Arc<Exchange>,
    farewell: Farewell,
}

/// Where a node that leaves says so: first the counts are sent, then everybody is told.
pub struct Farewell {
    pub leave: mpsc::Sender<oneshot::Sender<()>>,
    pub drain: mpsc::Sender<oneshot::Sender<()>>,
}

/// Members and what they have. Locked for a moment, never across an await.
pub struct Known {
    pub members: Members,
    pub coverage: Coverage,
}

/// What the transport cannot count.
#[derive(Debug, Default)]
pub struct Counts {
    /// That are up now.
    pub connections: AtomicU64,
    pub repairs: AtomicU64,
    pub wholes_taken: AtomicU64,
    pub epochs_adopted: AtomicU64,
}

impl Shared {
    pub fn new(known: Known, mesh: Mesh, exchange: Arc<Exchange>, farewell: Farewell) -> Self {
        let (changed, _) = watch::channel(());
        let (known, counts, started) = (Mutex::new(known), Counts::default(), Instant::now());
        Self { known, changed, mesh, counts, started, exchange, farewell }
    }

    pub fn known<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn changed(&self) {
        self.changed.send_replace(());
    }

    /// Since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }

    /// Alive nodes that lack something of `vector`.
    fn missing(&self, vector: &Vector) -> Vec<String> {
        let now_ms = self.now_ms();
        self.known(|known| {
            let view = known.members.view(now_ms);
            let peers = view.nodes.into_iter().filter(|node| node.node_id != view.me && node.state == State::Alive);
            peers.map(|node| node.node_id).filter(|peer| !known.coverage.covers(peer, vector)).collect()
        })
    }
}

impl Cluster for Shared {
    fn view(&self) -> View {
        let now_ms = self.now_ms();
        self.known(|known| known.members.view(now_ms))
    }

    fn figures(&self) -> Figures {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Figures {
            connections: count(&self.counts.connections),
            repairs: count(&self.counts.repairs),
            wholes_taken: count(&self.counts.wholes_taken),
            epochs_adopted: count(&self.counts.epochs_adopted),
            limits: self.exchange.figures(),
            ..self.mesh.figures()
        }
    }

    fn limits(&self, max: usize) -> Vec<LimitRow> {
        self.exchange.hottest(max)
    }

    fn settled(&self, vector: Vector, limit: Duration) -> BoxFuture<'_, Result<(), Vec<String>>> {
        Box::pin(async move {
            let deadline = tokio::time::Instant::now() + limit;
            let mut changed = self.changed.subscribe();
            loop {
                let missing = self.missing(&vector);
                if missing.is_empty() {
                    return Ok(());
                }
                if !matches!(tokio::time::timeout_at(deadline, changed.changed()).await, Ok(Ok(()))) {
                    return Err(missing);
                }
            }
        })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            for step in [&self.farewell.drain, &self.farewell.leave] {
                let (done, heard) = oneshot::channel();
                if step.send(done).await.is_ok() {
                    let _ = heard.await;
                }
            }
        })
    }
}
