//! All entities in memory, with their unique keys, references and tags, and the rules between entities.
//!
//! Pure: a store only makes durable what is decided here, so every store refuses the same writes. A `Draft`
//! is one transaction on top of a catalog.

use std::sync::Arc;

use tidegate_proto::Revision;
use uuid::Uuid;

use crate::entity::problem::Rejection;
use crate::entity::write::Checked;
use crate::entity::{Change, Doc, Entity, Kind};

/// Every entity at one revision.
#[derive(Debug, Default)]
pub struct Catalog {
    revision: Revision,
}

/// A page of a list, in ascending order of id.
#[derive(Debug, Default)]
pub struct Page {
    pub entities: Vec<Arc<Entity>>,
    /// The id after which the next page begins; `None` on the last page.
    pub next: Option<Uuid>,
}

/// Which entities of a kind a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Children of this entity by this foreign field.
    pub parent: Option<(&'static str, Uuid)>,
    pub tags: Option<Tags>,
}

#[derive(Clone, Debug)]
pub enum Tags {
    All(Vec<String>),
    Any(Vec<String>),
}

impl Catalog {
    /// Nothing, at a revision.
    pub fn empty(revision: Revision) -> Self {
        Self { revision }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, kind: Kind, id: Uuid) -> Option<&Arc<Entity>> {
        let _ = (kind, id);
        unimplemented!()
    }

    /// By the value of a unique field (`name`, `username`, `custom_id`, `key`).
    pub fn by_key(&self, kind: Kind, field: &str, value: &str) -> Option<&Arc<Entity>> {
        let _ = (kind, field, value);
        unimplemented!()
    }

    /// All of a kind, in ascending order of id.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entity>> + '_ {
        let _ = kind;
        std::iter::empty()
    }

    pub fn count(&self, kind: Kind) -> usize {
        let _ = kind;
        unimplemented!()
    }

    /// At most `size` entities of `kind` after the id `after`.
    pub fn page(&self, kind: Kind, filter: &Filter, after: Option<Uuid>, size: usize) -> Page {
        let _ = (kind, filter, after, size);
        unimplemented!()
    }

    /// (tag, kind, id) of everything tagged, or of one tag, in order, after a position.
    pub fn tagged(
        &self,
        tag: Option<&str>,
        after: Option<(&str, Kind, Uuid)>,
        size: usize,
    ) -> Vec<(String, Kind, Uuid)> {
        let _ = (tag, after, size);
        unimplemented!()
    }

    /// Takes changes in as they are: they were decided elsewhere. The catalog then stands at `revision`.
    pub fn apply(&mut self, changes: &[Change], revision: Revision) {
        let _ = changes;
        self.revision = revision;
        unimplemented!()
    }
}

/// A transaction: reads see its own writes, and every write is refused as soon as it breaks a rule.
#[derive(Debug)]
pub struct Draft<'a> {
    catalog: &'a Catalog,
    changes: Vec<Change>,
}

impl<'a> Draft<'a> {
    /// `now_s` (Unix seconds) decides which entities with a `ttl` are over: those do not exist for a draft.
    pub fn new(catalog: &'a Catalog, now_s: i64) -> Self {
        let _ = now_s;
        Self { catalog, changes: Vec::new() }
    }

    pub fn get(&self, kind: Kind, id: Uuid) -> Option<Arc<Entity>> {
        let _ = (kind, id);
        unimplemented!()
    }

    pub fn by_key(&self, kind: Kind, field: &str, value: &str) -> Option<Arc<Entity>> {
        let _ = (kind, field, value);
        unimplemented!()
    }

    /// Children of `parent` by `field` of `kind`.
    pub fn children(&self, kind: Kind, field: &str, parent: Uuid) -> Vec<Arc<Entity>> {
        let _ = (kind, field, parent);
        unimplemented!()
    }

    /// Refuses a taken id (3), a taken unique key (5) and a dangling reference (4), in Kong's order: 5, 3, 4.
    pub fn insert(&mut self, entity: Checked) -> Result<Arc<Entity>, Rejection> {
        let _ = entity;
        unimplemented!()
    }

    /// Inserts or replaces, whatever stands there; refuses 5 and 4.
    pub fn put(&mut self, entity: Checked) -> Result<Arc<Entity>, Rejection> {
        let _ = entity;
        unimplemented!()
    }

    /// Deletes the entity and what cascades from it; refuses 4 when a restricting reference remains.
    /// `Ok(false)`: there was none.
    pub fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, Rejection> {
        let _ = (kind, id);
        unimplemented!()
    }

    /// The catalog underneath, without this draft's own writes.
    pub fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// What the transaction changed, one change per entity, in an order that never refers forward.
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

/// The unique keys of a document: canonical text of each with the members that make it.
pub fn unique_keys(kind: Kind, doc: &Doc) -> Vec<(String, Doc)> {
    let _ = (kind, doc);
    unimplemented!()
}

/// (field, referenced kind, referenced id) of a document.
pub fn references(kind: Kind, doc: &Doc) -> Vec<(&'static str, Kind, Uuid)> {
    let _ = (kind, doc);
    unimplemented!()
}
