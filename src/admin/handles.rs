//! The parts of a node that the Admin API reads and changes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cluster::core::view::Cluster;
use crate::entity::declare::Plugins;
use crate::listen::Traffic;
use crate::snapshot::Live;
use crate::store::ledger::Ledger;

/// What the Admin API looks at and acts on.
#[derive(Clone)]
pub struct Handles {
    pub ledger: Arc<Ledger>,
    pub live: Arc<Live>,
    pub plugins: Plugins,
    pub traffic: Arc<Traffic>,
    /// Who else there is, and what they run.
    pub cluster: Arc<dyn Cluster>,
    /// Cancelled when the node is told to leave the cluster: it then drains, says goodbye and ends.
    pub leave: CancellationToken,
    /// Cancelled when the node drains, by a signal or by `POST /status/ready`.
    pub draining: CancellationToken,
    pub log_level: Arc<dyn LogLevel>,
}

/// The level of the error log, changeable while running. Names are Kong's: debug info notice warn error crit alert emerg.
pub trait LogLevel: Send + Sync {
    fn current(&self) -> String;
    /// The configured level returns after `hold`.
    fn set(&self, level: &str, hold: Duration);
}
