//! Ties the cores to the transport, the keeper and the clock.

use std::sync::Arc;

use tidegate_proto::frame::Span;
use tokio::sync::broadcast;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::core::view::Cluster;
use crate::cluster::transport;

/// What the cluster layer gets from the settings.
pub struct Options {
    pub transport: transport::Options,
    /// `HOST[:PORT]`, resolved again and again; all addresses count.
    pub seeds: Vec<String>,
    pub hostname: String,
}

/// Starts the mesh, membership and replication. `spans`: what this node commits or learns from its store.
pub async fn start(
    options: Options,
    keeper: Arc<dyn Keeper>,
    spans: broadcast::Receiver<Arc<Span>>,
) -> std::io::Result<Arc<dyn Cluster>> {
    let _ = (options, keeper, spans);
    unimplemented!()
}
