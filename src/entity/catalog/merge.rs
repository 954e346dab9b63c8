//! Changes of several nodes in one catalog: each entity, standing or gone, has a stamp, and the greatest one is its state.
//!
//! Whoever calls decides which changes win (`wins`), since the same decision has to be durable first; `merge` takes in
//! what has won.

use std::ops::Bound;
use std::sync::Arc;

use tidegate_proto::{Revision, Stamp};
use uuid::Uuid;

use crate::entity::catalog::{Catalog, Shelf};
use crate::entity::{Change, Entity, Kind, Stamped};

/// An entity as it is handed to another node.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub kind: Kind,
    pub id: Uuid,
    /// `None`: it is gone.
    pub entity: Option<&'a Arc<Entity>>,
    /// `None`: one database decides, and there are no stamps.
    pub stamp: Option<&'a Stamp>,
}

impl Catalog {
    /// What these changes, in this order, lead to.
    pub fn of_stamped(changes: impl IntoIterator<Item = Stamped>, revision: Revision) -> Self {
        let mut catalog = Self::empty(revision);
        catalog.merge(changes, revision);
        catalog
    }

    /// Takes in changes that win. The catalog then stands at `revision`.
    pub fn merge(&mut self, changes: impl IntoIterator<Item = Stamped>, revision: Revision) {
        for Stamped { change, stamp } in changes {
            // Keys that the old state claims leave by its old stamp, and those of the new one are claimed by the new.
            self.remove(change.kind, change.id);
            let shelf = self.shelves.entry(change.kind.name).or_insert_with(|| Shelf::of(change.kind));
            shelf.stamps.insert(change.id, stamp);
            self.step(&change);
        }
        self.revision = revision;
    }

    /// When an entity was written or went; `None`: never heard of, or no stamps here.
    pub fn stamp(&self, kind: Kind, id: Uuid) -> Option<&Stamp> {
        self.shelf(kind)?.stamps.get(&id)
    }

    /// Whether a change with this stamp stands against what is here.
    pub fn wins(&self, kind: Kind, id: Uuid, stamp: &Stamp) -> bool {
        self.stamp(kind, id).is_none_or(|standing| standing < stamp)
    }

    /// The greatest time of all stamps.
    pub fn latest(&self) -> u64 {
        self.shelves.values().flat_map(|shelf| shelf.stamps.values()).map(|stamp| stamp.time).max().unwrap_or(0)
    }

    /// What stands and what is known to be gone, in order of (kind, id), after a place.
    pub fn records(&self, after: Option<(&str, Uuid)>) -> impl Iterator<Item = Record<'_>> {
        let from = after.map_or(Bound::Unbounded, |(kind, _)| Bound::Included(kind));
        let shelves = self.shelves.range::<str, _>((from, Bound::Unbounded));
        shelves.flat_map(move |(name, shelf)| {
            let after = after.filter(|(kind, _)| kind == name).map(|(_, id)| id);
            shelf.records(after.map_or(Bound::Unbounded, Bound::Excluded))
        })
    }

    /// The last change of each entity, as `of_stamped` takes them. Empty where there are no stamps.
    pub fn stamped(&self) -> Vec<Stamped> {
        let stamped = |record: Record<'_>| {
            let change = Change { kind: record.kind, id: record.id, entity: record.entity.cloned() };
            Some(Stamped { change, stamp: record.stamp?.clone() })
        };
        self.records(None).filter_map(stamped).collect()
    }

    /// Forgets what went earliest until no more than `max` ends are kept.
    pub fn forget_ends(&mut self, max: usize) -> Vec<(Kind, Uuid)> {
        let mut ends: Vec<_> = self.records(None).filter(|record| record.entity.is_none()).collect();
        let excess = ends.len().saturating_sub(max);
        if excess == 0 {
            return Vec::new();
        }
        ends.sort_unstable_by_key(|record| record.stamp);
        let forgotten: Vec<_> = ends[..excess].iter().map(|record| (record.kind, record.id)).collect();
        for (kind, id) in &forgotten {
            self.shelves.get_mut(kind.name).and_then(|shelf| shelf.stamps.remove(id));
        }
        forgotten
    }
}

impl Shelf {
    fn records(&self, from: Bound<Uuid>) -> impl Iterator<Item = Record<'_>> {
        let range = (from, Bound::Unbounded);
        let kind = self.kind;
        // Where one database decides there are no stamps, and where there are, each entity has one.
        let unstamped = self.stamps.is_empty().then(|| self.entities.range(range));
        let unstamped = unstamped.into_iter().flatten();
        let unstamped = unstamped.map(move |(id, entity)| Record { kind, id: *id, entity: Some(entity), stamp: None });
        let stamped = self.stamps.range(range).map(move |(id, stamp)| Record {
            kind,
            id: *id,
            entity: self.entities.get(id),
            stamp: Some(stamp),
        });
        unstamped.chain(stamped)
    }
}
