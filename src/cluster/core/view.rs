//! What the cluster can be asked, as plain values: `GET /cluster`, the wait of a write, metrics.

use tidegate_proto::{Revision, Vector};

/// The member of `Hello::more` with the name of the machine, UTF-8.
pub const HOSTNAME: u16 = 1;

/// A node as this node sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub node_id: String,
    pub region: String,
    /// Where peers dial it, `IP:PORT`; empty: it has no mesh.
    pub address: String,
    pub state: State,
    pub incarnation: u64,
    pub version: String,
    pub revision: Revision,
    /// Digest of its vector: equal to ours when it applied what we did.
    pub digest: u64,
    /// `None` before the first answer, and for this node itself.
    pub rtt_ms: Option<f64>,
    /// Milliseconds since anything was heard; 0 for this node itself.
    pub last_heard_ms: u64,
    pub hostname: String,
    pub draining: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    Alive,
    Suspect,
    Dead,
    Left,
}

impl State {
    /// The word for it in `GET /cluster` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }
}

/// The whole view of one node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub cluster_id: String,
    pub me: String,
    pub vector: Vector,
    /// Every alive node has applied this node's revision.
    pub converged: bool,
    /// This node first, then by node id.
    pub nodes: Vec<Member>,
}

impl View {
    /// Whether this node has a mesh at all.
    pub fn has_mesh(&self) -> bool {
        self.nodes.first().is_some_and(|me| !me.address.is_empty())
    }
}

/// Counters of the cluster layer, for `/metrics`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// (kind of frame, sent frames, sent bytes, received frames, received bytes)
    pub frames: Vec<(&'static str, u64, u64, u64, u64)>,
    /// (reason, count)
    pub refused_handshakes: Vec<(&'static str, u64)>,
    /// Connections closed for what the peer sent, by reason.
    pub misbehaved: Vec<(&'static str, u64)>,
    /// Connections that are up.
    pub connections: u64,
    pub repairs: u64,
    pub wholes_taken: u64,
    pub epochs_adopted: u64,
    /// Everything this node sent and received, UDP payload bytes.
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

/// What the Admin API asks of the cluster. A node without peers answers too: it is its own cluster.
pub trait Cluster: Send + Sync {
    fn view(&self) -> View;
    fn figures(&self) -> Figures;
    /// Resolves when every alive node covers `vector`; the ids of those that do not when `limit` is over.
    fn settled(
        &self,
        vector: Vector,
        limit: std::time::Duration,
    ) -> futures_util::future::BoxFuture<'_, Result<(), Vec<String>>>;
    /// Says goodbye to all peers.
    fn leave(&self) -> futures_util::future::BoxFuture<'_, ()>;
}
