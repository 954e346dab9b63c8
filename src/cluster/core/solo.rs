//! The cluster of a node that has no mesh: itself, always agreed.
//!
//! It lets whoever asks the cluster ask without a case for "there is none".

use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_proto::Vector;

use crate::cluster::core::view::{Cluster, Figures, Member, View};

/// A cluster of one.
pub struct Solo {
    me: Member,
    vector: Box<dyn Fn() -> Vector + Send + Sync>,
}

impl Solo {
    /// `me` without an address, as nobody can dial it; `vector` tells where the node stands.
    pub fn new(me: Member, vector: impl Fn() -> Vector + Send + Sync + 'static) -> Self {
        Self { me, vector: Box::new(vector) }
    }
}

impl Cluster for Solo {
    fn view(&self) -> View {
        let vector = (self.vector)();
        let me = Member { revision: vector.revision(), ..self.me.clone() };
        View { cluster_id: me.node_id.clone(), me: me.node_id.clone(), vector, converged: true, nodes: vec![me] }
    }

    fn figures(&self) -> Figures {
        Figures::default()
    }

    fn settled(&self, _: Vector, _: Duration) -> BoxFuture<'_, Result<(), Vec<String>>> {
        Box::pin(async { Ok(()) })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
