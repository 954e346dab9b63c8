//! The ledger's side of replication: what peers bring in, and what is handed to them.
//!
//! With one database, what a peer hands on is in the database already, so it goes to the catalog only, in order. Where every
//! node writes, it is merged by stamps in the turn of a writer and is durable before it shows.

use std::sync::Arc;

use tidegate_proto::Vector;
use tidegate_proto::frame::{Span, WholeRecord};
use tokio::sync::broadcast;
use tokio::time::Instant;
use uuid::Uuid;

use crate::cluster::core::registers::{Held as There, Registers};
use crate::entity::catalog::Catalog;
use crate::pace;
use crate::store::ledger::held::{Held, News, Regime, World};
use crate::store::ledger::merge::{Merge, Step};
use crate::store::ledger::{Ledger, REPLACE_LIMIT, spans, unix_ms};
use crate::store::{Contents, Missed, StoreError};

/// More documents than this are read off the runtime.
const INLINE_MAX: usize = 100;

/// More changes than this are indexed beside the catalog, and not under its lock.
const LOCKED_MAX: usize = 1_000;

impl Ledger {
    /// Everything up to here is in.
    pub fn vector(&self) -> Vector {
        self.held.read(World::vector)
    }

    /// Every transaction that was committed here, and whatever `catch_up` brought from the store, in order. Bounded: a
    /// receiver that lags loses the oldest (`RecvError::Lagged`), and peers then notice what they lack by the vector.
    ///
    /// A span with `after == upto` and no changes says where this node stands now and not what led there, because that
    /// is too long for a frame or came whole from the store: peers have to fetch the whole.
    pub fn spans(&self) -> broadcast::Receiver<Arc<Span>> {
        self.held.spans()
    }

    /// How often this node adopted another history (a restored database) since its start.
    pub fn epochs_adopted(&self) -> u64 {
        self.held.epochs_adopted()
    }

    /// Takes transactions of peers in, in this order. Those that are known, and those that come too early or are of
    /// another epoch, are left alone. Answers where this node stands afterwards.
    pub async fn take_spans(&self, spans: Vec<Span>) -> Result<Vector, StoreError> {
        let count = spans.iter().map(|span| span.changes.len()).sum();
        let taken = aside(count, move || spans.into_iter().map(spans::taken).collect::<Vec<_>>()).await?;
        if self.held.read(World::is_ordered) {
            self.held.follow(taken);
            return Ok(self.vector());
        }
        self.merging(|merge| merge.followed(taken, unix_ms())).await
    }

    /// Takes the whole of a peer in: with one database in the place of what stands, when `vector` is ahead; where every
    /// node writes, merged record by record. Answers where this node stands afterwards.
    pub async fn adopt(&self, vector: Vector, records: Vec<WholeRecord>) -> Result<Vector, StoreError> {
        if !self.held.read(World::is_ordered) {
            return self.merging(|merge| merge.adopted(&vector, &records, unix_ms())).await;
        }
        if vector.revision() > self.revision() {
            let index = move || {
                let changes = records.iter().filter_map(|record| spans::adopted(vector.epoch, record));
                let entities = changes.filter_map(|stamped| stamped.change.entity).collect();
                News::of(Missed::Everything(Contents { revision: vector.revision(), entities, ..Contents::default() }))
            };
            self.held.adopt(aside(usize::MAX, index).await?);
        }
        Ok(self.vector())
    }

    /// Records of everything here, tombstones included, in order of (kind, id), after a place: as many as fit in
    /// `size_max` bytes (but one at least), and whether that was all.
    pub fn records(&self, after: Option<(String, [u8; 16])>, size_max: usize) -> (Vec<WholeRecord>, bool) {
        let after = after.as_ref().map(|(kind, id)| (kind.as_str(), id));
        self.held.read(|world| match &world.regime {
            Regime::Order(_) => {
                let after = after.map(|(kind, id)| (kind, Uuid::from_bytes(*id)));
                fitting(world.catalog.after(after).map(|entity| spans::record(entity)), size_max)
            }
            Regime::Merge(merge) => fitting(stamped_records(&merge.registers, &world.catalog, after), size_max),
        })
    }

    /// Merges in the turn of a writer.
    async fn merging(&self, decide: impl FnOnce(&Merge) -> Step) -> Result<Vector, StoreError> {
        let (turn, transaction) = self.open(Instant::now() + REPLACE_LIMIT).await?;
        let step = self.held.read(|world| match &world.regime {
            Regime::Merge(merge) => Some(decide(merge)),
            Regime::Order(_) => None,
        });
        let step = step.ok_or_else(|| StoreError::Broken("the store changed its kind".into()))?;
        if step.merging.vector == self.vector() {
            return Ok(step.merging.vector);
        }
        let held = self.held.clone();
        // On a task of its own, as a commit: whoever asked may go away.
        let settle = async move {
            let _turn = turn;
            transaction.merge(step.merging.clone()).await?;
            let indexed =
                if step.merging.changes.len() > LOCKED_MAX { Some(reindexed(&held, &step).await?) } else { None };
            held.merged(step, indexed);
            Ok(())
        };
        let settled = tokio::spawn(settle).await;
        self.noting(settled.unwrap_or_else(|panic| Err(StoreError::Broken(panic.to_string()))))?;
        Ok(self.vector())
    }
}

/// What stands with a step on top, made beside the catalog so that nobody waits. Nobody else moves it: this is a turn.
async fn reindexed(held: &Held, step: &Step) -> Result<Catalog, StoreError> {
    let (standing, merging) = (held.read(|world| world.catalog.stamped()), step.merging.clone());
    let index = move || {
        let mut catalog = Catalog::of_stamped(standing, merging.vector.revision());
        merging.apply_to(&mut catalog);
        catalog
    };
    aside(usize::MAX, index).await
}

/// What stands and what is known to be gone. A register without its document is one that could not be read here.
fn stamped_records<'a>(
    registers: &'a Registers,
    catalog: &'a Catalog,
    after: Option<(&'a str, &'a [u8; 16])>,
) -> impl Iterator<Item = WholeRecord> + 'a {
    registers.after(after).filter_map(|entry| {
        let there = catalog.named(entry.kind, Uuid::from_bytes(*entry.id));
        (there.is_some() == (entry.held == There::Here)).then(|| spans::record_of(&entry, there))
    })
}

/// As many records as fit, one at least, and whether that was all.
fn fitting(records: impl Iterator<Item = WholeRecord>, size_max: usize) -> (Vec<WholeRecord>, bool) {
    let (mut fitting, mut size) = (Vec::new(), 0);
    for record in records {
        size += record.size();
        if size > size_max && !fitting.is_empty() {
            return (fitting, false);
        }
        fitting.push(record);
    }
    (fitting, true)
}

/// Does `work` off the runtime when there is much of it.
async fn aside<T: Send + 'static>(count: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    if count <= INLINE_MAX {
        return Ok(work());
    }
    pace::aside(work).await.map_err(|panic| StoreError::Broken(panic.to_string()))
}
