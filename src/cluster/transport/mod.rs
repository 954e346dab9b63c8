//! QUIC between nodes: one endpoint, mutual TLS, frames by kind on streams and datagrams.
//!
//! Who a peer is comes from its certificate and its Hello, never from its address. Every queue is bounded.

mod carriers;
mod connections;
mod dials;
mod endpoint;
mod figures;
mod framing;
mod greeting;
mod hub;
pub mod identity;
mod inbound;
mod lifecycle;
mod options;
mod outbox;
mod reload;
mod reports;
mod spread;
mod transfers;
mod verify;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::VarInt;
use tidegate_proto::close::Close;
use tidegate_proto::frame::{Chunk, Counts, Fetch, Frame, Hello};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::core::view::Figures;
use crate::cluster::transport::hub::Hub;

pub use crate::cluster::transport::identity::Identity;
pub use crate::cluster::transport::options::Options;
pub use crate::cluster::transport::reports::{Event, Reports};

/// What is queued has so long to be sent when the mesh is closed, and its peers as long again to hear of the end.
const FLUSH: Duration = Duration::from_secs(1);

/// A handle to the endpoint and its connections.
#[derive(Clone)]
pub struct Mesh {
    hub: Arc<Hub>,
}

impl Mesh {
    /// Binds and starts. `keeper` answers `Fetch`.
    pub fn start(options: Options, keeper: Arc<dyn Keeper>, reports: Reports) -> io::Result<Self> {
        let identity = options.identity.clone();
        let hub = Hub::bind(options, keeper, reports)?;
        hub.tasks.spawn(lifecycle::accept(hub.clone()));
        hub.tasks.spawn(reload::follow(hub.clone(), identity));
        Ok(Self { hub })
    }

    /// This node's Hello, complete.
    pub fn hello(&self) -> &Hello {
        &self.hub.hello
    }

    /// Where it is bound.
    pub fn listen(&self) -> io::Result<SocketAddr> {
        self.hub.endpoint.local_addr()
    }

    /// Wants a connection to whoever is at `address`; does nothing while there is one or one is being made. Returns at once.
    pub fn dial(&self, address: SocketAddr) {
        lifecycle::dial(&self.hub, address);
    }

    /// Queues a frame on the carrier of its kind. False: no connection, or its queue is full (see the kind's rule).
    pub fn send(&self, peer: &str, frame: &Frame) -> bool {
        let link = self.hub.table().link(peer);
        link.is_some_and(|link| carriers::push(&self.hub, &link, frame))
    }

    /// Sends counts to several peers, urgent ones as datagrams where the peer takes those. Answers to whom they could not
    /// be sent because what is queued for that peer is not taken: it is owed all slots.
    pub fn spread(&self, peers: &[String], counts: &Counts, urgent: bool) -> Vec<String> {
        spread::counts(&self.hub, peers, counts, urgent)
    }

    /// Asks `peer` for records; chunks arrive in order until one is `last`. The channel ends early when the donor is busy
    /// or the connection breaks: ask another, resuming after the last record.
    pub fn fetch(&self, peer: &str, fetch: Fetch) -> mpsc::Receiver<Chunk> {
        let link = self.hub.table().link(peer);
        link.map_or_else(|| mpsc::channel(1).1, |link| transfers::fetch(&self.hub, link, fetch))
    }

    /// The connection's round trip, as QUIC measures it.
    pub fn rtt(&self, peer: &str) -> Option<Duration> {
        self.hub.table().link(peer).map(|link| link.connection.rtt())
    }

    /// Closes the connection to a peer that misbehaved, and counts it.
    pub fn expel(&self, peer: &str, why: &'static str) {
        let link = self.hub.table().link(peer);
        if let Some(link) = link {
            self.hub.punish(&link, Close::Misbehaved, why);
        }
    }

    /// What this layer counts; the other figures are zero.
    pub fn figures(&self) -> Figures {
        let table = self.hub.table();
        self.hub.counters.figures(table.running().map(|link| link.connection.stats()))
    }

    /// Sends what is queued, closes everything. Takes two seconds at most.
    pub async fn close(&self) {
        let hub = &self.hub;
        hub.stop.cancel();
        hub.table().running().for_each(|link| link.outbox.finish());
        hub.tasks.close();
        let _ = timeout(FLUSH, hub.tasks.wait()).await;
        hub.endpoint.close(VarInt::from_u32(Close::Stopping.code()), Close::Stopping.name().as_bytes());
        let _ = timeout(FLUSH, hub.endpoint.wait_idle()).await;
    }
}
