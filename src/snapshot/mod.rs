//! Everything a request needs, compiled from all entities, immutable; `Live` publishes it.
//!
//! Built off the request path and swapped in whole. A piece that cannot be built fails closed: its routes answer 500
//! with the problem, the rest serves.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tidegate_proto::Revision;

use crate::entity::route::Route;
use crate::entity::service::Service;
use crate::entity::{Entity, Kind};
use crate::plugin::Directory;
use crate::plugin::chain::Chain;
use crate::router::{Query, Router};

/// One world for one request.
pub struct Snapshot {
    pub revision: Revision,
    pub directory: Arc<Directory>,
    /// What runs when no route matches: global instances, `header_filter` only.
    pub unmatched: Chain,
    router: Router,
    plans: Vec<Arc<Plan>>,
}

/// What a matched request does.
pub struct Plan {
    pub route: Route,
    /// `None`: answered 503 after the plugins.
    pub service: Option<Arc<Service>>,
    pub chain: Chain,
    /// The route has `https` and not `http`: plain requests are answered 426 or redirected.
    pub https_only: bool,
    /// Set when a piece could not be built; every request of this route is then answered 500.
    pub problem: Option<String>,
}

/// A route found for a request.
pub struct Found<'a> {
    pub plan: &'a Arc<Plan>,
    /// Bytes of the normalised path that the route's path matched.
    pub matched_len: usize,
}

/// A piece that could not be built.
#[derive(Clone, Debug)]
pub struct Problem {
    pub kind: Kind,
    pub id: uuid::Uuid,
    pub why: String,
}

/// Entities by kind, as `Builder::build` takes them: shared, so collecting them under a lock is short.
pub type Entities = Vec<Arc<Entity>>;

/// Builds snapshots, keeping from one to the next what did not change.
#[derive(Default)]
pub struct Builder {}

impl Builder {
    /// Compiles `entities` (all kinds, any order) as they stand at `revision`.
    pub fn build(&mut self, entities: Entities, revision: Revision) -> (Snapshot, Vec<Problem>) {
        let _ = (entities, revision);
        unimplemented!()
    }
}

impl Snapshot {
    pub fn find(&self, query: &Query<'_>) -> Option<Found<'_>> {
        let found = self.router.find(query)?;
        Some(Found { plan: self.plans.get(found.rule)?, matched_len: found.matched_len })
    }
}

/// The snapshot that requests load now; none until the first configuration.
#[derive(Default)]
pub struct Live(ArcSwapOption<Snapshot>);

impl Live {
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.0.load_full()
    }

    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(Some(snapshot));
    }
}
