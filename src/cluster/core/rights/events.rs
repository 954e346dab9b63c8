//! Inputs and outputs of the strict limits of one process.

use tidegate_proto::frame::{Ask, Frame, Grant};

use crate::cluster::core::rights::registry::{Promise, Registry};
use crate::cluster::core::rights::weights::{Kept, Standing};

/// Which node this is.
#[derive(Clone, Debug)]
pub struct Me {
    pub node_id: String,
    pub incarnation: u64,
    /// It has no mesh: every limit is its own.
    pub alone: bool,
}

/// Two clocks: one that never goes back, one by which windows are told.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub mono_ms: u64,
    /// Cluster time, Unix ms.
    pub cluster_ms: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    Connected {
        peer: String,
        incarnation: u64,
    },
    Disconnected {
        peer: String,
    },
    Rtt {
        peer: String,
        rtt_ms: f64,
    },
    Ask {
        peer: String,
        ask: Ask,
    },
    Grant {
        peer: String,
        grant: Grant,
    },
    /// From a peer's beat.
    Promise {
        peer: String,
        promise: Promise,
    },
    /// The weights that the configuration has, after it was read and each time it may have changed.
    Registry(Option<Registry>),
    /// Whether the configuration has strict limits.
    InUse(bool),
    /// Whether this node's clock is too far from the peers' to tell windows by. While it is, hits are refused, and what
    /// this node holds goes to peers that ask.
    Skewed(bool),
    /// This process takes no more requests and is about to end: what it holds goes to peers.
    Leaving,
    /// What `Output::Keep` carried is on the disk, or could not be written.
    Kept,
    KeepFailed,
}

#[derive(Clone, Debug)]
pub enum Output {
    Send {
        peer: String,
        frame: Frame,
    },
    /// Write this durably in the place of what was there, then say `Input::Kept`. One at a time.
    Keep(Kept),
    /// Every beat from now on carries this.
    Promise(Promise),
    /// It stands otherwise than before: a line for the log.
    Standing(Standing),
}
