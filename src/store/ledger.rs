//! The catalog of this node beside the store that makes it durable: reads are answered from memory, writes are
//! decided in memory inside the store's transaction.
//!
//! The catalog only ever holds what the store committed. A transaction hands over what this node lacks before
//! anything is decided, so a write whose outcome was never learnt shows itself at the next one at the latest.
//! Reading through to the store lost: a list would need the database, and rules would be decided twice.
//!
//! Peers bring changes too (`replicate`). With one database those are its own transactions, which it has already; where
//! every node writes, they take their turn among the writers of this node.

mod held;
mod merge;
mod replicate;
mod spans;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_proto::Revision;
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use crate::entity::catalog::{Catalog, Draft};
use crate::entity::problem::Rejection;
use crate::entity::{Change, Entity, Kind};
use crate::pace;
use crate::store::ledger::held::{Heard, Held, News, Regime, World};
use crate::store::ledger::merge::Step;
use crate::store::{Anchor, Contents, Missed, Store, StoreError, Transaction};

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

/// A decided write, as the store takes it.
enum Decided {
    Ordered(Vec<Change>),
    Merged(Box<Step>),
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
        if let Some(anchor) = contents.anchor {
            store.recognise(anchor.revision, anchor.mark);
        }
        Self {
            held: Arc::new(Held::new(contents)),
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
        self.held.read(|world| look(&world.catalog))
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

    /// What a local snapshot keeps.
    pub fn contents(&self) -> Contents {
        let anchor = self.held.asked().anchor;
        let (entities, revision) = self.entities();
        let anchor = self.store.mark(anchor).map(|mark| Anchor { revision: anchor, mark });
        Contents { revision, entities, anchor, merged: None }
    }

    /// Until the store hints at something that this node lacks. May take for ever.
    pub async fn hinted(&self) {
        while self.store.hint().await <= self.revision() {}
    }

    /// What the data plane runs (`Catalog::in_force`), and the revision.
    pub fn in_force(&self) -> (Vec<Arc<Entity>>, Revision) {
        self.read(|catalog| (catalog.in_force(), catalog.revision()))
    }

    /// Asks the store for what this node lacks and takes it in. Answers whether anything came.
    pub async fn catch_up(&self) -> Result<bool, StoreError> {
        // A second round when the history of the store turned out to be another, and the first gave it a new epoch.
        for _ in 0..2 {
            let asked = self.held.asked();
            let missed = self.noting(self.store.since(asked.anchor).await)?;
            match self.held.hear(asked, News::indexed(missed).await?) {
                Heard::Nothing => return Ok(false),
                Heard::Something => return Ok(true),
                Heard::Forked => self.noting(self.store.renew(self.revision()).await)?,
            }
        }
        self.noting(Err(changing()))
    }

    /// Takes in what somebody else decided. What is not newer than what stands here is left alone.
    pub fn take(&self, missed: Missed) {
        self.held.adopt(News::of(missed));
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
        let asked = self.held.asked();
        let revision = self.noting(self.store.replace(pace::copies(&entities)).await)?;
        let everything = Contents { revision, entities, ..Contents::default() };
        self.held.hear(asked, News::indexed(Missed::Everything(everything)).await?);
        Ok(revision)
    }

    /// Whether the store answered the last time it was asked.
    pub fn reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Announces each new revision after the catalog holds it.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.held.revisions()
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
        let (turn, transaction) = self.open(deadline).await.map_err(WriteError::Store)?;
        let (answer, changes) = self.read(decide).map_err(WriteError::Rejected)?;
        if changes.is_empty() {
            return Ok((answer, self.revision()));
        }
        let deadline = deadline + PER_CHANGE.saturating_mul(u32::try_from(changes.len()).unwrap_or(u32::MAX));
        let decided = self.held.read(|world| world.decided(changes, unix_ms()));
        let committed = self.noting(self.commit(turn, transaction, decided, deadline).await);
        committed.map(|revision| (answer, revision)).map_err(WriteError::Store)
    }

    /// Waits for the turn and for the store's lock, and takes in what the transaction says was missed.
    async fn open(&self, deadline: Instant) -> Result<(OwnedMutexGuard<()>, Box<dyn Transaction>), StoreError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| busy("too many writes are waiting for the database"))?;
        let turn = timeout_at(deadline, self.turn.clone().lock_owned()).await;
        let turn = turn.map_err(|_| busy("the writes before this one are not done yet"))?;
        for _ in 0..2 {
            let asked = self.held.asked();
            let mut transaction = self.in_time(deadline, self.store.begin(asked.anchor)).await?;
            if self.held.hear(asked, News::indexed(transaction.missed()).await?) != Heard::Forked {
                return Ok((turn, transaction));
            }
            drop(transaction);
            self.in_time(deadline, self.store.renew(self.revision())).await?;
        }
        self.noting(Err(changing()))
    }

    async fn in_time<T>(
        &self,
        deadline: Instant,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout_at(deadline, step).await;
        self.noting(done.unwrap_or_else(|_| Err(busy("the database did not answer in time"))))
    }

    /// Commits on a task of its own: a client that goes away, or is told that time is up, neither cuts the commit
    /// short nor keeps the catalog from learning how it ended. The turn is over when that is known.
    async fn commit(
        &self,
        turn: OwnedMutexGuard<()>,
        transaction: Box<dyn Transaction>,
        decided: Decided,
        deadline: Instant,
    ) -> Result<Revision, StoreError> {
        let unknown = || StoreError::Unknown("the database did not say in time whether it took the change".into());
        let held = self.held.clone();
        let settle = async move {
            let _turn = turn;
            let committed = timeout_at(deadline + COMMIT_LIMIT, settle(&held, transaction, decided)).await;
            committed.unwrap_or_else(|_| Err(unknown()))
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

impl World {
    fn decided(&self, changes: Vec<Change>, unix_ms: u64) -> Decided {
        match &self.regime {
            Regime::Order(_) => Decided::Ordered(changes),
            Regime::Merge(merge) => Decided::Merged(Box::new(merge.written(changes, unix_ms))),
        }
    }
}

/// Commits, and takes in what was committed.
async fn settle(held: &Held, transaction: Box<dyn Transaction>, decided: Decided) -> Result<Revision, StoreError> {
    match decided {
        Decided::Ordered(changes) => {
            let revision = transaction.commit(pace::copies(&changes)).await?;
            held.committed(changes, revision);
            Ok(revision)
        }
        Decided::Merged(step) => {
            let revision = transaction.merge(step.merging.clone()).await?;
            held.merged(*step, None);
            Ok(revision)
        }
    }
}

fn busy(what: &str) -> StoreError {
    StoreError::Unavailable(format!("{what}, try again later"))
}

fn changing() -> StoreError {
    busy("the history of the database keeps changing")
}

/// The wall clock, for the stamps of the embedded store.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The changes that lead from what stands to `entities`. What only a newer program knows is nobody's to replace here.
fn difference(catalog: &Catalog, entities: &[Arc<Entity>]) -> Vec<Change> {
    let wanted: HashMap<(Kind, uuid::Uuid), &Arc<Entity>> =
        entities.iter().inspect(|_| pace::step()).map(|entity| ((entity.kind(), entity.id()), entity)).collect();
    let known = catalog.everything().filter(|entity| !entity.kind().is_stranger());
    let gone = known.filter(|entity| !wanted.contains_key(&(entity.kind(), entity.id())));
    let gone = gone.map(|entity| Change { kind: entity.kind(), id: entity.id(), entity: None });
    let fresh = wanted
        .values()
        .inspect(|_| pace::step())
        .filter(|entity| catalog.get(entity.kind(), entity.id()) != Some(**entity));
    let fresh = fresh.map(|entity| Change { kind: entity.kind(), id: entity.id(), entity: Some((*entity).clone()) });
    gone.chain(fresh).collect()
}

#[cfg(test)]
mod tests;
