//! QUIC between nodes: one endpoint, mutual TLS, frames by kind on streams and datagrams.
//!
//! Who a peer is comes from its certificate and its Hello, never from its address. Every queue is bounded.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::frame::{Chunk, Fetch, Frame, Hello};
use tokio::sync::mpsc;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::core::view::Figures;

/// How this node proves that it belongs.
#[derive(Clone)]
pub enum Identity {
    /// Everything derives from the secret; the previous one is accepted too.
    Secret { secret: String, previous: Option<String> },
    /// PEM files, read again when they change.
    Files { cert: PathBuf, key: PathBuf, authority: PathBuf },
}

pub struct Options {
    pub listen: SocketAddr,
    /// What peers dial; may differ from `listen` (a relay, a NAT).
    pub advertise: SocketAddr,
    pub identity: Identity,
    /// This node's Hello; `address`, `oldest`, `newest` are filled in here.
    pub hello: Hello,
    /// Generic segmentation offload: off on Fly.
    pub segmentation_offload: bool,
}

/// What happened on the mesh.
#[derive(Debug)]
pub enum Event {
    /// A connection is up and its Hello was checked. At most one per peer is used.
    Connected(Hello),
    Frame {
        peer: String,
        frame: Frame,
    },
    Closed {
        peer: String,
        why: String,
    },
}

/// A handle to the endpoint and its connections.
#[derive(Clone)]
pub struct Mesh {}

impl Mesh {
    /// Binds and starts. `keeper` answers `Fetch`; `events` is bounded: a full queue slows reading from that peer down.
    pub fn start(options: Options, keeper: Arc<dyn Keeper>, events: mpsc::Sender<Event>) -> io::Result<Self> {
        let _ = (options, keeper, events);
        unimplemented!()
    }

    /// Wants a connection to whoever is at `address`; does nothing while there is one or one is being made. Returns at once.
    pub fn dial(&self, address: SocketAddr) {
        let _ = address;
    }

    /// Queues a frame on the carrier of its kind. False: no connection, or its queue is full (see the kind's rule).
    pub fn send(&self, peer: &str, frame: &Frame) -> bool {
        let _ = (peer, frame);
        false
    }

    /// Asks `peer` for records; chunks arrive in order until one is `last`. The channel ends early when the donor is busy
    /// or the connection breaks: ask another, resuming after the last record.
    pub fn fetch(&self, peer: &str, fetch: Fetch) -> mpsc::Receiver<Chunk> {
        let _ = (peer, fetch);
        mpsc::channel(1).1
    }

    /// The connection's round trip, as QUIC measures it.
    pub fn rtt(&self, peer: &str) -> Option<Duration> {
        let _ = peer;
        None
    }

    /// Closes the connection to a peer that misbehaved, and counts it.
    pub fn expel(&self, peer: &str, why: &'static str) {
        let _ = (peer, why);
    }

    pub fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Sends what is queued, closes everything.
    pub async fn close(&self) {}
}
