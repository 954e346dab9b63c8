//! What several nodes wrote apart from each other and no rule could refuse: one unique key claimed by several entities,
//! and references to what is gone.
//!
//! Of the claims on a key the latest has it, on every node the same: the greatest (stamp, id). The others stay, show in
//! lists and by id, and take the key over when the winner lets go of it. The earliest claim lost, since what a user wrote
//! last is what he wants. A reference to nothing is inert.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_proto::Stamp;
use uuid::Uuid;

use crate::entity::catalog::{Catalog, Shelf, links, unique_keys};
use crate::entity::{Doc, Entity, Kind};

/// A unique key that several entities claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub kind: Kind,
    /// The members that make the key: `{"name": "x"}`.
    pub key: Doc,
    pub winner: Uuid,
    /// In ascending order.
    pub losers: Vec<Uuid>,
}

/// A reference to an entity that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dangling {
    pub kind: Kind,
    pub id: Uuid,
    pub field: &'static str,
    /// Name of the referenced kind.
    pub to_kind: &'static str,
    pub to_id: Uuid,
}

impl Catalog {
    /// Every key that is claimed more than once, by kind and key. None where one database decides.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let shelves = self.shelves.values();
        shelves.flat_map(|shelf| shelf.contested.keys().filter_map(|key| shelf.conflict(key))).collect()
    }

    /// Every reference to nothing, by kind and id. Reads every document: for people, not for the request path.
    pub fn dangling(&self) -> Vec<Dangling> {
        self.everything().flat_map(|entity| self.dangling_of(entity)).collect()
    }

    /// What the data plane runs: everything, but of contested keys only the winners. A loser that acts on requests by
    /// itself (a route, a plugin, a credential) is left out; one that others refer to by id (a service, a consumer) goes
    /// on without the name, as its routes and keys have no part in the quarrel.
    pub fn in_force(&self) -> Vec<Arc<Entity>> {
        let losers = self.losers();
        if losers.is_empty() {
            return self.everything().cloned().collect();
        }
        let lost = |entity: &Entity| losers.contains(&(entity.kind(), entity.id()));
        self.everything()
            .filter_map(|entity| if lost(entity) { self.without_lost_keys(entity) } else { Some(entity.clone()) })
            .collect()
    }

    /// Everybody who claims a key, the one that has it first.
    pub(super) fn claimants(&self, kind: Kind, key: &str) -> impl Iterator<Item = &Arc<Entity>> {
        self.shelf(kind).into_iter().flat_map(move |shelf| {
            let winner = shelf.keys.get(key).copied();
            let others = shelf.contested.get(key).into_iter().flatten().copied().filter(move |id| Some(*id) != winner);
            winner.into_iter().chain(others).filter_map(|id| shelf.entities.get(&id))
        })
    }

    fn losers(&self) -> BTreeSet<(Kind, Uuid)> {
        self.shelves.values().flat_map(|shelf| shelf.losers().map(|id| (shelf.kind, id))).collect()
    }

    fn without_lost_keys(&self, entity: &Entity) -> Option<Arc<Entity>> {
        let (kind, mut doc) = (entity.kind(), entity.doc());
        if ![Kind::SERVICES, Kind::CONSUMERS].contains(&kind) {
            return None;
        }
        for (key, members) in unique_keys(kind, &doc) {
            if self.by_canonical(kind, &key).is_none_or(|holder| holder.id() != entity.id()) {
                members.keys().for_each(|name| drop(doc.insert(name.clone(), serde_json::Value::Null)));
            }
        }
        Entity::from_doc(kind, &doc).map(Arc::new)
    }

    fn dangling_of(&self, entity: &Entity) -> Vec<Dangling> {
        let (kind, id, doc) = (entity.kind(), entity.id(), entity.doc());
        let there = |kind: &str, id| self.shelves.get(kind).is_some_and(|shelf| shelf.entities.contains_key(&id));
        let gone = links(kind, &doc).filter(|link| !there(link.kind, link.id));
        gone.map(|link| Dangling { kind, id, field: link.field, to_kind: link.kind, to_id: link.id }).collect()
    }
}

impl Shelf {
    /// `id` claims a key; the shelf knows its stamp already.
    pub(super) fn claim(&mut self, key: Box<str>, id: Uuid) {
        let Some(holder) = self.keys.insert(key.clone(), id).filter(|holder| *holder != id) else { return };
        self.contested.entry(key.clone()).or_default().extend([holder, id]);
        self.award(&key);
    }

    pub(super) fn unclaim(&mut self, key: &str, id: Uuid) {
        let Some(claimants) = self.contested.get_mut(key) else {
            // Not the holder's: within one change set a key may have moved on.
            if self.keys.get(key) == Some(&id) {
                self.keys.remove(key);
            }
            return;
        };
        claimants.remove(&id);
        self.award(key);
    }

    /// Gives a contested key to the latest claim.
    fn award(&mut self, key: &str) {
        let Some(claimants) = self.contested.get(key) else { return };
        let never = Stamp::default();
        let stamp = |id: &Uuid| self.stamps.get(id).unwrap_or(&never);
        let winner = claimants.iter().max_by_key(|id| (stamp(id), **id)).copied();
        if claimants.len() < 2 {
            self.contested.remove(key);
        }
        match winner {
            Some(winner) => drop(self.keys.insert(key.into(), winner)),
            None => drop(self.keys.remove(key)),
        }
    }

    fn losers(&self) -> impl Iterator<Item = Uuid> {
        self.contested.iter().flat_map(|(key, claimants)| {
            let winner = self.keys.get(key).copied();
            claimants.iter().copied().filter(move |id| Some(*id) != winner)
        })
    }

    fn conflict(&self, key: &str) -> Option<Conflict> {
        let winner = *self.keys.get(key)?;
        let doc = self.entities.get(&winner)?.doc();
        let (_, members) = unique_keys(self.kind, &doc).into_iter().find(|(text, _)| text == key)?;
        let losers = self.contested.get(key)?.iter().copied().filter(|id| *id != winner).collect();
        Some(Conflict { kind: self.kind, key: members, winner, losers })
    }
}
