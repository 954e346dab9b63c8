//! Ties the cores to the transport, the keeper and the clock.

mod coverage;
mod engine;
mod exchange;
mod exchange_task;
mod shared;
pub mod strict;
mod transfer;
mod unix_time;
mod work;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::frame::Span;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::core::members::Members;
use crate::cluster::core::replica::Replica;
use crate::cluster::core::tally;
use crate::cluster::core::view::{Cluster, HOSTNAME};
use crate::cluster::driver::coverage::Coverage;
use crate::cluster::driver::engine::{Engine, Inputs, Transfers};
use crate::cluster::driver::exchange::{Exchange, SAMPLES_MAX};
use crate::cluster::driver::shared::{Farewell, Known, Shared};
use crate::cluster::driver::work::Work;
use crate::cluster::membership::Membership;
use crate::cluster::membership::seeds::Seeds;
use crate::cluster::transport;
use crate::cluster::transport::{Mesh, Reports};
use crate::counter::Counters;

/// Frames and connections that wait for the driver; then reading from peers slows down.
const EVENTS_MAX: usize = 1024;
/// The same about limits: what waits is old soon.
const LIMIT_EVENTS_MAX: usize = 128;
/// Reports of the membership protocol that wait; more are dropped, and told again.
const HINTS_MAX: usize = 4;

/// What the cluster layer gets from the settings.
pub struct Options {
    pub transport: transport::Options,
    /// `HOST[:PORT]`, resolved again and again; all addresses count.
    pub seeds: Vec<String>,
    pub hostname: String,
    /// What requests are counted in.
    pub counters: Arc<Counters>,
    /// How counts are exchanged.
    pub limits: tally::Options,
    /// Where strict limits keep what they promised, and what the configuration says of them.
    pub strict: strict::Options,
    /// Cancelled when this node takes no more traffic: peers are told.
    pub draining: CancellationToken,
}

/// Starts the mesh, membership and replication. `spans`: what this node commits or learns from its store.
pub async fn start(
    options: Options,
    keeper: Arc<dyn Keeper>,
    spans: broadcast::Receiver<Arc<Span>>,
) -> std::io::Result<Arc<dyn Cluster>> {
    let Options { mut transport, seeds, hostname, draining, counters, limits, strict } = options;
    let (advertise, listen) = (transport.advertise, transport.listen);
    transport.hello.more.push((HOSTNAME, hostname.into_bytes()));
    let ((event, events), (limit_event, limit_events)) = (mpsc::channel(EVENTS_MAX), mpsc::channel(LIMIT_EVENTS_MAX));
    let mesh = Mesh::start(transport, keeper.clone(), Reports { events: event, limits: limit_event })?;

    let vector = keeper.vector();
    let me = mesh.hello().clone();
    let known = Known {
        members: Members::new(&me, vector.clone()),
        coverage: Coverage::new(&me.node_id, me.store == "postgres"),
    };
    let exchange = {
        let me = tally::Me { node_id: me.node_id.clone(), incarnation: me.incarnation };
        Arc::new(Exchange::new(me, counters, limits, strict::load(&strict.file)))
    };
    let ((leave, left), (drain, drains)) = (mpsc::channel(1), mpsc::channel(1));
    let shared = Arc::new(Shared::new(known, mesh.clone(), exchange, Farewell { leave, drain }));

    let (hint, hints) = mpsc::channel(HINTS_MAX);
    let stop = CancellationToken::new();
    let membership = Membership::start(me.clone(), advertise, mesh, hint, stop.clone());
    let (work, done) = Work::start(keeper.clone());
    let (report, collected) = mpsc::channel(1);
    let (found, finds) = mpsc::channel(1);
    let (sample, samples) = mpsc::channel(SAMPLES_MAX);
    tokio::spawn({
        let task = exchange_task::Task::new(shared.clone(), strict);
        task.run(exchange_task::Inputs { events: limit_events, samples, drain: drains }, stop.clone())
    });
    let engine = Engine {
        store: me.store,
        replica: Replica::new(vector.clone(), shared.now_ms()),
        shared: shared.clone(),
        keeper,
        spans,
        work,
        membership,
        seeds: Seeds::new(seeds, BTreeSet::from([advertise, listen])),
        transfers: Transfers::new(report),
        sample,
        found,
        draining,
        vector,
        connected: BTreeSet::new(),
        ticked: Duration::ZERO,
        tick_at: Duration::ZERO,
        measure_at: Duration::ZERO,
    };
    let inputs = Inputs { events, hints, done, collected, found: finds, leave: left };
    tokio::spawn(async move {
        engine.run(inputs).await;
        stop.cancel();
    });
    Ok(shared)
}
