//! What was made of each entity of one kind, kept from one build to the next while the entity stays the same.
//!
//! Lists in order of id, refreshed by walking old and new side by side: no hashing, no copy of what stays, and the
//! same order every time. What is made of an entity may depend on that entity alone; what also depends on others is
//! linked by the builder afterwards.

use std::sync::Arc;

use uuid::Uuid;

use crate::entity::Entity;
use crate::pace;

/// What was made of an entity, if anything, and what could not be.
pub(crate) type Made<T> = (Option<T>, Option<Box<str>>);

/// The items of one kind, in ascending order of id.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    items: Vec<Item<T>>,
}

/// One entity and what was made of it.
#[derive(Debug)]
pub(crate) struct Item<T> {
    pub(crate) entity: Arc<Entity>,
    /// `None`: nothing could be made; `problem` says why.
    pub(crate) made: Option<T>,
    pub(crate) problem: Option<Box<str>>,
}

impl<T> Item<T> {
    fn new(entity: Arc<Entity>, before: Option<&T>, make: impl Fn(&Entity, Option<&T>) -> Made<T>) -> Self {
        let (made, problem) = make(&entity, before);
        Self { entity, made, problem }
    }

    fn is_of(&self, entity: &Arc<Entity>) -> bool {
        Arc::ptr_eq(&self.entity, entity) || self.entity == *entity
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { items: Vec::new() }
    }
}

impl<T> Kept<T> {
    /// Makes what is new or changed, and drops what is gone. True when there was any of it. `make` also gets what was made of
    /// the same entity before it changed.
    pub(crate) fn refresh(
        &mut self,
        mut entities: Vec<Arc<Entity>>,
        make: impl Fn(&Entity, Option<&T>) -> Made<T>,
    ) -> bool {
        // The catalog has them in order. Each look at an id is a look at an entity far away, so sorting is not for nothing.
        let ascends = |pair: &[Arc<Entity>]| {
            pace::step();
            pair.first().map(|entity| entity.id()) < pair.last().map(|entity| entity.id())
        };
        if !entities.windows(2).all(ascends) {
            entities.sort_by_key(|entity| {
                pace::step();
                entity.id()
            });
            entities.dedup_by_key(|entity| entity.id());
        }
        if self.has_ids_of(&entities) {
            return self.replace(entities, make);
        }
        let mut items = Vec::with_capacity(entities.len());
        let mut before = std::mem::take(&mut self.items).into_iter().peekable();
        for entity in entities {
            pace::step();
            while before.next_if(|item| item.entity.id() < entity.id()).is_some() {
                pace::step();
            }
            match before.next_if(|item| item.entity.id() == entity.id()) {
                Some(item) if item.is_of(&entity) => items.push(item),
                before => {
                    let before = before.as_ref().and_then(|item| item.made.as_ref());
                    items.push(Item::new(entity, before, &make));
                }
            }
        }
        self.items = items;
        true
    }

    /// The frequent case, without moving anything: no entity came or went.
    fn replace(&mut self, entities: Vec<Arc<Entity>>, make: impl Fn(&Entity, Option<&T>) -> Made<T>) -> bool {
        let mut changed = false;
        for (item, entity) in self.items.iter_mut().zip(entities) {
            pace::step();
            if !item.is_of(&entity) {
                *item = Item::new(entity, item.made.as_ref(), &make);
                changed = true;
            }
        }
        changed
    }

    fn has_ids_of(&self, entities: &[Arc<Entity>]) -> bool {
        self.items.len() == entities.len()
            && self
                .items
                .iter()
                .zip(entities)
                .inspect(|_| pace::step())
                .all(|(item, entity)| Arc::ptr_eq(&item.entity, entity) || item.entity.id() == entity.id())
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<&Item<T>> {
        let position = self.items.binary_search_by_key(&id, |item| item.entity.id()).ok()?;
        self.items.get(position)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Item<T>> {
        self.items.iter()
    }

    /// Everything that could be made.
    pub(crate) fn made(&self) -> impl Iterator<Item = &T> {
        self.items.iter().filter_map(|item| item.made.as_ref())
    }

    pub(crate) fn made_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.items.iter_mut().filter_map(|item| item.made.as_mut())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::entity::Kind;

    fn entity(id: u128, name: &str) -> Arc<Entity> {
        let doc = serde_json::json!({"id": Uuid::from_u128(id), "name": name});
        Arc::new(Entity::from_doc(Kind::SERVICES, doc.as_object().unwrap()).unwrap())
    }

    #[test]
    fn only_what_changed_is_made_again() {
        let mut kept = Kept::default();
        let mut check = |entities: Vec<Arc<Entity>>, expected_made: &[u128], expected_change: bool| {
            let made = RefCell::new(Vec::new());
            let changed = kept.refresh(entities.clone(), |entity, _| {
                made.borrow_mut().push(entity.id().as_u128());
                (Some(entity.text()), None)
            });
            assert_eq!(changed, expected_change, "{entities:?}");
            assert_eq!(made.into_inner(), expected_made, "{entities:?}");
            assert_eq!(kept.made().count(), entities.len());
            assert!(entities.iter().all(|entity| kept.get(entity.id()).unwrap().made == Some(entity.text())));
        };
        let two = entity(2, "b");
        check(vec![], &[], false);
        check(vec![entity(3, "c"), two.clone(), entity(1, "a")], &[1, 2, 3], true);
        check(vec![entity(1, "a"), two.clone(), entity(3, "c")], &[], false);
        check(vec![entity(1, "a"), two.clone(), entity(3, "C"), entity(4, "d")], &[3, 4], true);
        check(vec![two.clone(), entity(4, "d")], &[], true);
        check(vec![entity(0, "z"), entity(5, "e")], &[0, 5], true);
    }
}
