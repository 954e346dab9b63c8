//! What the tasks of a mesh share.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use quinn::Endpoint;
use tidegate_proto::close::Close;
use tidegate_proto::frame::{Frame, Hello};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::transport::connections::{Link, Table};
use crate::cluster::transport::dials::Dials;
use crate::cluster::transport::endpoint;
use crate::cluster::transport::endpoint::Configs;
use crate::cluster::transport::figures::Counters;
use crate::cluster::transport::identity::Credentials;
use crate::cluster::transport::options::Options;
use crate::cluster::transport::reports::Reports;

/// Strangers in the middle of a handshake at once; above it they are ignored.
pub const STRANGERS_MAX: usize = 256;
/// Transfers that a node serves at once.
const TRANSFERS_MAX: usize = 2;

/// What the tasks of a mesh share.
pub struct Hub {
    pub endpoint: Endpoint,
    pub configs: ArcSwap<Configs>,
    /// This node's.
    pub hello: Hello,
    pub segmentation_offload: bool,
    pub keeper: Arc<dyn Keeper>,
    pub reports: Reports,
    pub counters: Counters,
    /// Transfers that this node serves at once.
    pub donations: Arc<Semaphore>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    /// Strangers in the middle of a handshake.
    pub strangers: Arc<Semaphore>,
    table: Mutex<Table>,
    dials: Mutex<Dials>,
    /// Addresses of this node, which are not dialled.
    pub own: [SocketAddr; 2],
}

impl Hub {
    /// Binds; nothing runs yet.
    pub fn bind(options: Options, keeper: Arc<dyn Keeper>, reports: Reports) -> io::Result<Arc<Self>> {
        let Options { listen, advertise, identity, mut hello, segmentation_offload } = options;
        let configs = Configs::new(Credentials::load(&identity, &hello.node_id)?, segmentation_offload)?;
        let endpoint = endpoint::bind(listen, &configs)?;
        let listen = endpoint.local_addr()?;
        let port = if advertise.port() == 0 { listen.port() } else { advertise.port() };
        let advertise = SocketAddr::new(advertise.ip(), port);
        hello.cluster_id = configs.credentials.cluster().to_owned();
        hello.address = advertise.to_string();
        hello.oldest = tidegate_proto::frame::VERSION_OLDEST;
        hello.newest = tidegate_proto::frame::VERSION;
        let sayable = Frame::Hello(hello.clone()).encode(hello.newest);
        sayable.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        Ok(Arc::new(Self {
            endpoint,
            configs: ArcSwap::from_pointee(configs),
            hello,
            segmentation_offload,
            keeper,
            reports,
            counters: Counters::new(),
            donations: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            table: Mutex::default(),
            dials: Mutex::default(),
            own: [listen, advertise],
        }))
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn dials(&self) -> MutexGuard<'_, Dials> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a connection for what its peer did, and counts it.
    pub fn punish(&self, link: &Link, close: Close, why: &'static str) {
        if link.is_open() {
            self.counters.misbehaved(why);
            tracing::warn!(peer = link.hello.node_id, why, "connection closed for what the peer sent");
            link.end(close, why);
        }
    }
}
