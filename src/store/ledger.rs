//! The catalog of this node beside the store that makes it durable: reads are answered from memory, writes are
//! decided in memory inside the store's transaction.

use std::sync::{Arc, RwLock};

use tidegate_proto::Revision;
use tokio::sync::watch;

use crate::entity::Entity;
use crate::entity::catalog::{Catalog, Draft};
use crate::entity::problem::Rejection;
use crate::store::{Contents, Missed, Store, StoreError};

/// What every reader and writer of entities on this node goes through.
pub struct Ledger {
    catalog: RwLock<Catalog>,
    store: Arc<dyn Store>,
    published: watch::Sender<Revision>,
}

/// Why a write did not happen.
#[derive(Debug)]
pub enum WriteError {
    /// A rule refused it.
    Rejected(Rejection),
    /// The store could not take it.
    Store(StoreError),
}

impl Ledger {
    /// Starts with `contents` (from a local snapshot or empty); `load` or `catch_up` bring in the store's.
    pub fn new(store: Arc<dyn Store>, contents: Contents) -> Self {
        let revision = contents.revision;
        let _ = contents;
        Self { catalog: RwLock::new(Catalog::empty(revision)), store, published: watch::Sender::new(revision) }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Runs `look` on the catalog under a short read lock: collect shared entities, do not compute.
    pub fn read<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.catalog.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Every entity and the revision they stand at, shared.
    pub fn entities(&self) -> (Vec<Arc<Entity>>, Revision) {
        unimplemented!()
    }

    /// One writing transaction: lock the store, catch up, let `decide` write to a draft, commit, take the changes in.
    /// Answers what `decide` answered and the revision. No change in the draft: nothing is committed.
    /// Ends within 2 s when the store does not answer; at most `WAITING_MAX` writers wait for their turn, more are
    /// refused as unavailable.
    pub async fn write<T>(
        &self,
        now_s: i64,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<T, Rejection> + Send,
    ) -> Result<(T, Revision), WriteError>
    where
        T: Send,
    {
        let _ = (now_s, decide);
        unimplemented!()
    }

    /// Asks the store for what this node lacks and takes it in. Answers whether anything came.
    pub async fn catch_up(&self) -> Result<bool, StoreError> {
        unimplemented!()
    }

    /// Takes in what somebody else decided.
    pub fn take(&self, missed: Missed) {
        let _ = missed;
    }

    /// Replaces everything (a declarative configuration).
    pub async fn replace_all(&self, entities: Vec<Arc<Entity>>) -> Result<Revision, StoreError> {
        let _ = entities;
        unimplemented!()
    }

    /// Whether the store answered the last time it was asked.
    pub fn reachable(&self) -> bool {
        true
    }

    /// Announces each new revision after the catalog holds it.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.published.subscribe()
    }
}
