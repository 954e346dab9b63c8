//! Entities that plugins write: OAuth 2 tokens and codes, sessions, certificates of ACME.

use std::fmt;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::entity::problem::Rejection;
use crate::entity::{Doc, Kind};

/// Writes entities, with the checks of the Admin API. A write is durable when its future ends, and this node serves
/// with it, unless building the configuration takes longer than the Admin API would wait for. Other nodes get it as
/// they get any change. A write goes on when its future is dropped.
pub trait Deposits: Send + Sync {
    /// Creates an entity from what a POST would hold; answers the whole document.
    fn insert(&self, kind: Kind, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>>;

    /// Creates or replaces the entity with this id, as a PUT would; answers the whole document.
    fn replace(&self, kind: Kind, id: Uuid, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>>;

    /// Deletes an entity and what cascades from it; answers whether there was one.
    fn delete(&self, kind: Kind, id: Uuid) -> BoxFuture<'static, Result<bool, DepositError>>;
}

/// Why an entity was not written.
#[derive(Clone, Debug, PartialEq)]
pub enum DepositError {
    /// A rule refused the document.
    Rejected(Rejection),
    /// The store is away, busy, read-only, or did not say in time whether it took the write.
    Unavailable(String),
}

impl fmt::Display for DepositError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => write!(f, "the entity was refused: {}", rejection.message()),
            Self::Unavailable(why) => write!(f, "the entity was not written: {why}"),
        }
    }
}

impl std::error::Error for DepositError {}
