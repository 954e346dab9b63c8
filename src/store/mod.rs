//! Durable truth. A store keeps a log and the state it leads to; what may be written is decided by
//! `entity::catalog`, so every store refuses the same.

pub mod declarative;
pub mod embedded;
pub mod ledger;
pub mod local;
pub mod postgres;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_proto::{Revision, Vector};
use uuid::Uuid;

use crate::entity::{Change, Entity, Stamped};

/// Where entities rest.
pub trait Store: Send + Sync + 'static {
    /// Everything, at one revision.
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>>;

    /// Opens the one writing transaction of the moment: nobody else commits until it ends. Dropping it rolls back.
    /// `seen` is the revision the caller knows; what came after is in `Transaction::missed`.
    fn begin(&self, seen: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>>;

    /// What was committed after `seen`, without locking anything.
    fn since(&self, seen: Revision) -> BoxFuture<'_, Result<Missed, StoreError>>;

    /// Peers know a history up to `seen` that this store does not have: it was replaced by another, an older copy perhaps.
    /// Gives what the store has an epoch greater than `seen`'s, unless somebody did already.
    fn renew(&self, seen: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        let _ = seen;
        Box::pin(async { Ok(()) })
    }

    /// What tells a revision from the same number of another history, if the store has told it to this process.
    fn mark(&self, revision: Revision) -> Option<Uuid> {
        let _ = revision;
        None
    }

    /// As it was before a restart: the mark that a revision had.
    fn recognise(&self, revision: Revision, mark: Uuid) {
        let _ = (revision, mark);
    }

    /// The next revision that the store announces. Announcements may be lost or never come: ask now and then all the same.
    fn hint(&self) -> BoxFuture<'_, Revision> {
        Box::pin(std::future::pending())
    }

    /// `postgres`, `embedded` or `off`.
    fn name(&self) -> &'static str;

    /// Whether entities can be written one by one (not with a declarative file).
    fn writable(&self) -> bool {
        true
    }

    /// Puts `entities` in the place of everything, where `writable` is false. Others are replaced by a transaction.
    fn replace(&self, entities: Vec<Arc<Entity>>) -> BoxFuture<'_, Result<Revision, StoreError>> {
        drop(entities);
        Box::pin(async { Err(StoreError::Broken("this store is written by transactions only".into())) })
    }
}

/// An open writing transaction.
pub trait Transaction: Send {
    /// What was committed after the revision that `begin` was given.
    fn missed(&mut self) -> Missed;

    /// Makes `changes` durable, all or none, and answers the revision they have.
    /// `Err` with `Outcome::Unknown`: the connection ended while committing.
    fn commit(self: Box<Self>, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>>;

    /// Where every node writes: makes what won durable, all or none, and answers the revision that stands then.
    fn merge(self: Box<Self>, merging: Merging) -> BoxFuture<'static, Result<Revision, StoreError>> {
        drop(merging);
        Box::pin(async { Err(StoreError::Broken("this store keeps no stamps".into())) })
    }
}

/// All entities at a revision.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub revision: Revision,
    pub entities: Vec<Arc<Entity>>,
    /// Where every node writes, the same with its stamps.
    pub merged: Option<Merged>,
    /// In a local snapshot: what the store itself had shown, which what peers brought may have been ahead of.
    pub anchor: Option<Anchor>,
}

/// A revision that a store has shown, and its mark, where it had one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub revision: Revision,
    pub mark: Uuid,
}

/// What a store keeps where every node writes.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The name of this node's own writes.
    pub origin: String,
    pub vector: Vector,
    /// The last change of each entity: what stands, and what is gone.
    pub changes: Vec<Stamped>,
}

/// A step of a configuration that every node writes.
#[derive(Clone, Debug)]
pub struct Merging {
    /// Each is later than what stood.
    pub changes: Vec<Stamped>,
    /// (kind, id) of what nothing is to be known of any more.
    pub forgotten: Vec<(String, [u8; 16])>,
    /// Everything up to here is in.
    pub vector: Vector,
}

/// What a reader lacks.
#[derive(Debug)]
pub enum Missed {
    /// Changes in order; empty when nothing came. `revision` is where they lead.
    Changes { changes: Vec<Change>, revision: Revision },
    /// The log does not reach back that far, or history was replaced: take everything.
    Everything(Contents),
}

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub enum StoreError {
    /// Not reachable, or too slow; try later. Nothing was written.
    Unavailable(String),
    /// The connection ended while committing: the changes stand whole or not at all, which is not known.
    Unknown(String),
    /// The database lacks migrations, or has newer ones; the text says which command to run.
    Schema(String),
    /// Anything else: a bug or a broken disk.
    Broken(String),
    /// Entities cannot be written one by one here.
    ReadOnly,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) | Self::Unknown(why) | Self::Schema(why) | Self::Broken(why) => f.write_str(why),
            Self::ReadOnly => f.write_str("entities cannot be written one by one when not using a database"),
        }
    }
}

impl std::error::Error for StoreError {}
