//! Everything a request needs, compiled from all entities, immutable; `Live` publishes it.
//!
//! Built off the request path and swapped in whole, so a request sees one world. A piece that cannot be built fails
//! closed: its routes answer 500, the rest serves. One task publishes, workers read.

mod build;
mod kept;
mod parts;
pub mod plan;

use std::ops::Deref;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use arc_swap::cache::Cache;
use tidegate_proto::Revision;
use tokio::sync::watch;
use uuid::Uuid;

use crate::entity::{Entity, Kind};
use crate::plugin::chain::Chain;
use crate::plugin::directory::Directory;
use crate::router::slots::Slots;
use crate::router::{Query, Router};
use crate::snapshot::build::Workshop;
use crate::snapshot::plan::Plan;

/// One world for one request.
pub struct Snapshot {
    pub revision: Revision,
    pub directory: Arc<Directory>,
    /// What runs when no route matches, or when the exchange ends before its plugins (426): global instances,
    /// `header_filter` only. `unmatched.collect()` is the run.
    pub unmatched: Arc<Chain>,
    router: Arc<Router>,
    /// At the positions of their rules in `router`.
    plans: Slots<Arc<Plan>>,
}

/// A route found for a request.
pub struct Found<'a> {
    pub plan: &'a Arc<Plan>,
    /// For `Snapshot::plan`.
    pub rule: usize,
    /// Bytes of the normalised path that the route's path matched.
    pub matched_len: usize,
}

/// A piece that could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub id: Uuid,
    pub why: String,
}

/// Entities by kind, as `Builder::build` takes them: shared, so collecting them under a lock is short.
pub type Entities = Vec<Arc<Entity>>;

/// The snapshot that requests load now; none until the first configuration.
#[derive(Default)]
pub struct Live {
    now: Arc<ArcSwapOption<Snapshot>>,
    /// What was live before. Only `publish` lets go of these, so that no worker stands still to free a large one.
    /// Holds the last one and those that requests still use.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    /// The revision that is live and how much computing its building took.
    announced: watch::Sender<(Revision, Duration)>,
}

/// The longest that `Live::reached` waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// Configurations that take more computing to build are not waited for.
const UNHURRIED: Duration = Duration::from_millis(100);

/// One worker's view of a `Live`: always the newest. Its clones count references within the worker only: an `Arc`
/// cloned per request would have all workers write to one cache line.
pub struct Reader {
    cache: Cache<Arc<ArcSwapOption<Snapshot>>, Option<Arc<Snapshot>>>,
    /// What `cache` held last.
    current: Option<Loaded>,
}

/// A snapshot as one worker holds it.
#[derive(Clone)]
pub struct Loaded(Rc<Held>);

struct Held(Arc<Snapshot>);

/// Builds snapshots, keeping from one to the next what did not change.
#[derive(Default)]
pub struct Builder(Workshop);

impl Builder {
    /// Compiles `entities` (all kinds, any order) as they stand at `revision`. What could not be built is listed each
    /// time, not only when it changed.
    pub fn build(&mut self, entities: Entities, revision: Revision) -> (Snapshot, Vec<Problem>) {
        self.0.build(entities, revision)
    }
}

impl Snapshot {
    pub fn find(&self, query: &Query<'_>) -> Option<Found<'_>> {
        let found = self.router.find(query)?;
        Some(Found { plan: self.plans.at(found.rule)?, rule: found.rule, matched_len: found.matched_len })
    }

    /// The plan of a route that `find` found in this snapshot.
    pub fn plan(&self, rule: usize) -> Option<&Plan> {
        self.plans.at(rule).map(Arc::as_ref)
    }
}

impl Live {
    /// For occasional use; workers have a `Reader`.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.now.load_full()
    }

    /// Makes a snapshot the live one, and frees those of before that nobody uses any more. `took`: what building it
    /// computed.
    pub fn publish(&self, snapshot: Arc<Snapshot>, took: Duration) {
        let revision = snapshot.revision;
        let before = self.now.swap(Some(snapshot));
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|old| Arc::strong_count(old) > 1);
        retired.extend(before);
        drop(retired);
        self.announced.send_replace((revision, took));
    }

    /// Waits until `revision` or a later one is live. Returns at once when nothing is live yet or building takes so much
    /// that waiting would slow writers down, and after `PATIENCE` in any case.
    pub async fn reached(&self, revision: Revision) {
        let mut announced = self.announced.subscribe();
        if announced.borrow().1 > UNHURRIED || self.now.load().is_none() {
            return;
        }
        let reached = announced.wait_for(|(live, _)| *live >= revision);
        let _ = tokio::time::timeout(PATIENCE, reached).await;
    }

    /// For one worker.
    pub fn reader(&self) -> Reader {
        Reader { cache: Cache::new(Arc::clone(&self.now)), current: None }
    }
}

impl Reader {
    /// The snapshot of this moment; keep it for the whole exchange.
    pub fn load(&mut self) -> Option<Loaded> {
        let newest = self.cache.load().as_ref()?;
        match &self.current {
            Some(Loaded(held)) if Arc::ptr_eq(&held.0, newest) => {}
            _ => self.current = Some(Loaded(Rc::new(Held(Arc::clone(newest))))),
        }
        self.current.clone()
    }
}

impl Deref for Loaded {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
