//! The catalog of this node beside the store that makes it durable: reads are answered from memory, writes are
//! decided in memory inside the store's transaction.
//!
//! The catalog only ever holds what the store committed. A transaction hands over what this node lacks before
//! anything is decided, so a write whose outcome was never learnt shows itself at the next one at the latest.
//! Reading through to the store lost: a list would need the database, and rules would be decided twice.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidegate_proto::Revision;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::entity::catalog::{Catalog, Draft};
use crate::entity::problem::Rejection;
use crate::entity::{Change, Entity, Kind};
use crate::store::{Contents, Missed, Store, StoreError, Transaction};

/// Writers that may wait for their turn at once; one more is refused as unavailable.
pub const WAITING_MAX: usize = 256;

/// How long a write may take while the store does not answer: below the 2 s that clients are promised.
const WRITE_LIMIT: Duration = Duration::from_millis(1_800);

/// What each change adds to that, so that a large import is not cut off.
const PER_CHANGE: Duration = Duration::from_millis(1);

/// How long a replacement of everything may take.
const REPLACE_LIMIT: Duration = Duration::from_secs(60);

/// How long a commit may stay without an answer until its connection is given up, beyond the writer's own limit.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// What every reader and writer of entities on this node goes through.
pub struct Ledger {
    held: Arc<Held>,
    store: Arc<dyn Store>,
    /// Held by the one writer of the moment until its commit is settled.
    turn: Arc<Mutex<()>>,
    waiting: Semaphore,
    reachable: AtomicBool,
}

/// The catalog and the announcement of its revision.
struct Held {
    catalog: RwLock<Catalog>,
    published: watch::Sender<Revision>,
}

/// What a reader lacked, ready to be taken in under the lock.
enum News {
    Changes(Vec<Change>, Revision),
    Everything(Catalog),
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
        let catalog = RwLock::new(Catalog::of(contents.entities, revision));
        Self {
            held: Arc::new(Held { catalog, published: watch::Sender::new(revision) }),
            store,
            turn: Arc::default(),
            waiting: Semaphore::new(WAITING_MAX),
            reachable: AtomicBool::new(true),
        }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Runs `look` on the catalog under a short read lock: collect shared entities, do not compute.
    pub fn read<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        self.held.read(look)
    }

    /// Every entity and the revision they stand at, shared.
    pub fn entities(&self) -> (Vec<Arc<Entity>>, Revision) {
        self.read(|catalog| (catalog.everything().cloned().collect(), catalog.revision()))
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
        let decide = |catalog: &Catalog| {
            let mut draft = Draft::new(catalog, now_s);
            let answer = decide(&mut draft)?;
            Ok((answer, draft.into_changes()))
        };
        self.transact(WRITE_LIMIT, decide).await
    }

    /// Asks the store for what this node lacks and takes it in. Answers whether anything came.
    pub async fn catch_up(&self) -> Result<bool, StoreError> {
        let seen = self.revision();
        let missed = self.noting(self.store.since(seen).await)?;
        Ok(self.held.adopt(seen, News::indexed(missed).await?))
    }

    /// Takes in what somebody else decided. What is not newer than what stands here is left alone.
    pub fn take(&self, missed: Missed) {
        self.held.adopt_newer(News::of(missed));
    }

    /// Replaces everything (a declarative configuration).
    pub async fn replace_all(&self, entities: Vec<Arc<Entity>>) -> Result<Revision, StoreError> {
        if self.store.writable() {
            let replaced = self.transact(REPLACE_LIMIT, |catalog| Ok(((), difference(catalog, &entities)))).await;
            return replaced.map(|((), revision)| revision).map_err(|error| match error {
                WriteError::Store(error) => error,
                WriteError::Rejected(rejection) => StoreError::Broken(format!("{rejection:?}")),
            });
        }
        let _turn = self.turn.lock().await;
        let seen = self.revision();
        let revision = self.noting(self.store.replace(entities.clone()).await)?;
        self.held.adopt(seen, News::indexed(Missed::Everything(Contents { revision, entities })).await?);
        Ok(revision)
    }

    /// Whether the store answered the last time it was asked.
    pub fn reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Announces each new revision after the catalog holds it.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.held.published.subscribe()
    }

    fn revision(&self) -> Revision {
        self.read(Catalog::revision)
    }

    async fn transact<T>(
        &self,
        limit: Duration,
        decide: impl FnOnce(&Catalog) -> Result<(T, Vec<Change>), Rejection>,
    ) -> Result<(T, Revision), WriteError> {
        if !self.store.writable() {
            return Err(WriteError::Store(StoreError::ReadOnly));
        }
        let deadline = Instant::now() + limit;
        let (turn, mut transaction) = self.open(deadline).await.map_err(WriteError::Store)?;
        self.held.adopt_newer(News::indexed(transaction.missed()).await.map_err(WriteError::Store)?);
        let (answer, changes) = self.read(decide).map_err(WriteError::Rejected)?;
        if changes.is_empty() {
            return Ok((answer, self.revision()));
        }
        let deadline = deadline + PER_CHANGE.saturating_mul(u32::try_from(changes.len()).unwrap_or(u32::MAX));
        let committed = self.noting(self.commit(turn, transaction, changes, deadline).await);
        committed.map(|revision| (answer, revision)).map_err(WriteError::Store)
    }

    /// Waits for the turn and for the store's lock.
    async fn open(&self, deadline: Instant) -> Result<(OwnedMutexGuard<()>, Box<dyn Transaction>), StoreError> {
        let busy = |what: &str| StoreError::Unavailable(format!("{what}, try again later"));
        let _waiting = self.waiting.try_acquire().map_err(|_| busy("too many writes are waiting for the database"))?;
        let turn = timeout_at(deadline, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| busy("the writes before this one are not done yet"))?;
        let opened = timeout_at(deadline, self.store.begin(self.revision())).await;
        let opened = opened.unwrap_or_else(|_| Err(busy("the database did not answer in time")));
        Ok((turn, self.noting(opened)?))
    }

    /// Commits on a task of its own: a client that goes away, or is told that time is up, neither cuts the commit
    /// short nor keeps the catalog from learning how it ended. The turn is over when that is known.
    async fn commit(
        &self,
        turn: OwnedMutexGuard<()>,
        transaction: Box<dyn Transaction>,
        changes: Vec<Change>,
        deadline: Instant,
    ) -> Result<Revision, StoreError> {
        let unknown = || StoreError::Unknown("the database did not say in time whether it took the change".into());
        let held = self.held.clone();
        let settle = async move {
            let _turn = turn;
            let committed = timeout_at(deadline + COMMIT_LIMIT, transaction.commit(changes.clone())).await;
            let revision = committed.unwrap_or_else(|_| Err(unknown()))?;
            held.adopt_newer(News::Changes(changes, revision));
            Ok(revision)
        };
        let settled = timeout_at(deadline, tokio::spawn(settle)).await;
        settled.map_err(|_| unknown())?.map_err(|panic| StoreError::Broken(panic.to_string()))?
    }

    /// Notes whether the store answered.
    fn noting<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => self.reachable.store(true, Ordering::Relaxed),
            Err(StoreError::ReadOnly) => {}
            Err(
                StoreError::Unavailable(_) | StoreError::Unknown(_) | StoreError::Schema(_) | StoreError::Broken(_),
            ) => self.reachable.store(false, Ordering::Relaxed),
        }
        result
    }
}

impl Held {
    fn read<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes in what the store answered about `seen`: all of it, even backwards, unless the catalog moved meanwhile.
    fn adopt(&self, seen: Revision, news: News) -> bool {
        self.take_in(news, |standing, revision| standing == seen || standing < revision)
    }

    fn adopt_newer(&self, news: News) -> bool {
        self.take_in(news, |standing, revision| standing < revision)
    }

    /// Answers whether anything came. Changes that partly stand already do no harm: each is a whole state.
    fn take_in(&self, news: News, wanted: impl FnOnce(Revision, Revision) -> bool) -> bool {
        let revision = news.revision();
        let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
        let standing = catalog.revision();
        if standing == revision || !wanted(standing, revision) {
            return false;
        }
        let replaced = match news {
            News::Changes(changes, revision) => {
                catalog.apply(&changes, revision);
                None
            }
            News::Everything(everything) => Some(std::mem::replace(&mut *catalog, everything)),
        };
        // The old world is taken apart after readers are let in to the new one.
        drop(catalog);
        let other_history = standing != Revision::default() && standing.epoch != revision.epoch;
        if replaced.is_some() && other_history {
            tracing::warn!(%standing, %revision, "the history of the configuration was replaced by another; adopted it");
        }
        self.publish();
        true
    }

    /// Announces what stands now, which is what a receiver wants even when two announcements cross.
    fn publish(&self) {
        self.published.send_if_modified(|published| {
            let standing = self.read(Catalog::revision);
            std::mem::replace(published, standing) != standing
        });
    }
}

impl News {
    fn of(missed: Missed) -> Self {
        match missed {
            Missed::Changes { changes, revision } => Self::Changes(changes, revision),
            Missed::Everything(contents) => Self::Everything(Catalog::of(contents.entities, contents.revision)),
        }
    }

    /// As `of`, with a whole configuration indexed off the runtime: that takes a moment.
    async fn indexed(missed: Missed) -> Result<Self, StoreError> {
        match missed {
            Missed::Changes { .. } => Ok(Self::of(missed)),
            Missed::Everything(_) => {
                let indexing = tokio::task::spawn_blocking(|| Self::of(missed)).await;
                indexing.map_err(|error| StoreError::Broken(format!("the configuration cannot be indexed: {error}")))
            }
        }
    }

    fn revision(&self) -> Revision {
        match self {
            Self::Changes(_, revision) => *revision,
            Self::Everything(catalog) => catalog.revision(),
        }
    }
}

/// The changes that lead from what stands to `entities`.
fn difference(catalog: &Catalog, entities: &[Arc<Entity>]) -> Vec<Change> {
    let wanted: HashMap<(Kind, uuid::Uuid), &Arc<Entity>> =
        entities.iter().map(|entity| ((entity.kind(), entity.id()), entity)).collect();
    let gone = catalog.everything().filter(|entity| !wanted.contains_key(&(entity.kind(), entity.id())));
    let gone = gone.map(|entity| Change { kind: entity.kind(), id: entity.id(), entity: None });
    let fresh = wanted.values().filter(|entity| catalog.get(entity.kind(), entity.id()) != Some(**entity));
    let fresh = fresh.map(|entity| Change { kind: entity.kind(), id: entity.id(), entity: Some((*entity).clone()) });
    gone.chain(fresh).collect()
}

#[cfg(test)]
mod tests;
