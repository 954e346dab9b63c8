//! Changes of several nodes in one catalog. Which of them stand is decided before (`cluster::core::registers`), since it
//! has to be durable first; the catalog only needs to know when an entity was written, to settle who has a key.

use tidegate_proto::Revision;

use crate::entity::catalog::{Catalog, Shelf};
use crate::entity::{Change, Stamped};

impl Catalog {
    /// What these changes, in this order, lead to.
    pub fn of_stamped(changes: impl IntoIterator<Item = Stamped>, revision: Revision) -> Self {
        let mut catalog = Self::empty(revision);
        catalog.merge(changes, revision);
        catalog
    }

    /// Takes in changes that won. The catalog then stands at `revision`.
    pub fn merge(&mut self, changes: impl IntoIterator<Item = Stamped>, revision: Revision) {
        for Stamped { change, stamp } in changes {
            // The old state's keys are let go under its old stamp; the new one claims its own under the new.
            self.remove(change.kind, change.id);
            if let Some(entity) = change.entity {
                let shelf = self.shelves.entry(change.kind.name).or_insert_with(|| Shelf::of(change.kind));
                shelf.stamps.insert(change.id, stamp);
                self.put(entity);
            }
        }
        self.revision = revision;
    }

    /// Everything that stands, as `of_stamped` takes it.
    pub fn stamped(&self) -> Vec<Stamped> {
        let stamped = |shelf: &'_ Shelf| -> Vec<_> {
            let stamped = shelf.entities.iter().map(|(id, entity)| Stamped {
                change: Change { kind: shelf.kind, id: *id, entity: Some(entity.clone()) },
                stamp: shelf.stamps.get(id).cloned().unwrap_or_default(),
            });
            stamped.collect()
        };
        self.shelves.values().flat_map(stamped).collect()
    }
}
