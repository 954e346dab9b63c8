//! Who is in the cluster, and how each of them is: from what was heard, and when.
//!
//! Liveness is what the connection and the beats say; the membership protocol only hints at who exists.

use tidegate_proto::Vector;
use tidegate_proto::frame::{Beat, Hello};

use crate::cluster::core::view::View;

/// What was heard. `now_ms` is monotonic.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A connection and its Hello.
    Connected(Hello),
    Disconnected {
        node_id: String,
    },
    Beat {
        node_id: String,
        beat: Beat,
    },
    /// Said goodbye.
    Left {
        node_id: String,
    },
    /// The membership protocol knows of it.
    Hint {
        node_id: String,
        address: String,
        region: String,
        incarnation: u64,
        version: String,
    },
    Rtt {
        node_id: String,
        rtt_ms: f64,
    },
    /// This node's own position.
    Mine {
        vector: Vector,
        draining: bool,
    },
}

#[derive(Debug)]
pub struct Members {}

impl Members {
    pub fn new(me: &Hello, vector: Vector) -> Self {
        let _ = (me, vector);
        Self {}
    }

    pub fn on(&mut self, heard: Heard, now_ms: u64) {
        let _ = (heard, now_ms);
    }

    pub fn view(&self, now_ms: u64) -> View {
        let _ = now_ms;
        unimplemented!()
    }

    /// Addresses that should be dialled now: known members without a connection, with pauses between tries.
    pub fn to_dial(&mut self, now_ms: u64) -> Vec<String> {
        let _ = now_ms;
        Vec::new()
    }

    /// Beats that are due now: (peer, beat).
    pub fn beats(&mut self, now_ms: u64, unix_ms: u64) -> Vec<(String, Beat)> {
        let _ = (now_ms, unix_ms);
        Vec::new()
    }
}
