//! The cluster as the Admin API tells of it: a stand-in for the mesh says what the test wants.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_proto::{Revision, Vector};

use crate::cluster::core::view::{Cluster, Figures, Member, State, View};

/// What the stand-in answers.
#[derive(Default)]
pub(in crate::admin) struct Mesh {
    /// Peers beside this node.
    pub peers: Mutex<Vec<Member>>,
    pub figures: Mutex<Figures>,
    /// Empty: this node has no mesh.
    pub address: Mutex<String>,
    pub vector: Mutex<Vector>,
    /// Who never has what a write made; they are waited for until time is up.
    pub missing: Mutex<Vec<String>>,
    /// What was waited for, and how long at most.
    pub waited: Mutex<Vec<(Vector, Duration)>>,
}

pub(super) fn member(node_id: &str, state: State) -> Member {
    Member {
        node_id: node_id.to_owned(),
        region: "fra".to_owned(),
        address: String::new(),
        state,
        incarnation: 1_764_000_000_000,
        version: "0.1.0".to_owned(),
        revision: Revision::new(1, 0),
        digest: 0,
        rtt_ms: None,
        last_heard_ms: 0,
        hostname: "host".to_owned(),
        draining: false,
    }
}

impl Cluster for Mesh {
    fn view(&self) -> View {
        let vector = self.vector.lock().unwrap().clone();
        let address = self.address.lock().unwrap().clone();
        let me = Member { address, revision: vector.revision(), ..member("node-1", State::Alive) };
        let nodes = [me].into_iter().chain(self.peers.lock().unwrap().clone()).collect();
        let converged = self.missing.lock().unwrap().is_empty();
        View { cluster_id: "c1".to_owned(), me: "node-1".to_owned(), vector, converged, nodes }
    }

    fn figures(&self) -> Figures {
        self.figures.lock().unwrap().clone()
    }

    fn settled(&self, vector: Vector, limit: Duration) -> BoxFuture<'_, Result<(), Vec<String>>> {
        self.waited.lock().unwrap().push((vector, limit));
        let missing = self.missing.lock().unwrap().clone();
        Box::pin(async move { if missing.is_empty() { Ok(()) } else { Err(missing) } })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
