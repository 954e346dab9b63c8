//! What the mesh reports, and to whom.

use tidegate_proto::frame::{Frame, Hello};
use tokio::sync::mpsc;

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

/// Where reports go. Both are told of connections.
#[derive(Clone)]
pub struct Reports {
    /// Frames about members and the configuration. Full: reading from a peer slows down.
    pub events: mpsc::Sender<Event>,
    /// Frames about limits, which must not wait for the others. Full: counts are read more slowly, so that the oldest
    /// datagrams are dropped and the peer owes the rest; `CountsPull`, `Ask` and `Grant` are dropped.
    pub limits: mpsc::Sender<Event>,
}
