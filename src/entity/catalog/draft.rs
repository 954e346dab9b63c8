//! One transaction on top of a catalog: a second, small catalog of what it wrote, and the set of ids below that no
//! longer show. Copying the catalog lost: a write must not cost what all entities cost.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::entity::catalog::{Catalog, canonical, links, unique_keys};
use crate::entity::declare::{OnDelete, Type};
use crate::entity::problem::{Rejection, Violations};
use crate::entity::write::{Checked, expired};
use crate::entity::{Change, Doc, Entity, Kind};

/// A transaction: reads see its own writes, and every write is refused as soon as it breaks a rule.
#[derive(Debug)]
pub struct Draft<'a> {
    catalog: &'a Catalog,
    now_s: i64,
    /// What this transaction wrote, as it will stand.
    written: Catalog,
    /// Entities of `catalog` that this transaction replaced or deleted.
    hidden: HashSet<(Kind, Uuid)>,
}

impl<'a> Draft<'a> {
    /// `now_s` (Unix seconds) decides which entities with a `ttl` are over: those do not exist for a draft.
    pub fn new(catalog: &'a Catalog, now_s: i64) -> Self {
        Self { catalog, now_s, written: Catalog::default(), hidden: HashSet::new() }
    }

    pub fn get(&self, kind: Kind, id: Uuid) -> Option<Arc<Entity>> {
        self.stored(kind, id).filter(|entity| !self.over(entity)).cloned()
    }

    pub fn by_key(&self, kind: Kind, field: &str, value: &str) -> Option<Arc<Entity>> {
        self.holder(kind, &canonical(field, value)).filter(|entity| !self.over(entity)).cloned()
    }

    /// Children of `parent` by `field` of `kind`, in ascending order of id.
    pub fn children(&self, kind: Kind, field: &str, parent: Uuid) -> Vec<Arc<Entity>> {
        let children = self.child_ids(kind, field, parent).into_iter();
        children.filter_map(|id| self.get(kind, id)).collect()
    }

    /// Refuses a taken id (3), a taken unique key (5) and a dangling reference (4), in Kong's order: 5, 3, 4.
    pub fn insert(&mut self, entity: Checked) -> Result<Arc<Entity>, Rejection> {
        let doc = entity.entity().indexed();
        self.refuse_taken_keys(&entity, &doc, false)?;
        if self.get(entity.kind(), entity.id()).is_some() {
            return Err(Rejection::PrimaryKeyTaken { id: entity.id() });
        }
        self.evict(entity.kind(), entity.id());
        self.write(entity, &doc)
    }

    /// Inserts or replaces, whatever stands there; refuses 5 and 4.
    pub fn put(&mut self, entity: Checked) -> Result<Arc<Entity>, Rejection> {
        let doc = entity.entity().indexed();
        self.refuse_taken_keys(&entity, &doc, true)?;
        self.write(entity, &doc)
    }

    /// Deletes the entity and what cascades from it; refuses 4 when a restricting reference remains.
    /// `Ok(false)`: there was none.
    pub fn delete(&mut self, kind: Kind, id: Uuid) -> Result<bool, Rejection> {
        if self.get(kind, id).is_none() {
            return Ok(false);
        }
        let doomed = self.cascade(kind, id);
        for (kind, id) in &doomed {
            if let Some(by) = self.restricting(*kind, *id, &doomed) {
                return Err(Rejection::StillReferenced { kind: *kind, by });
            }
        }
        doomed.into_iter().for_each(|(kind, id)| self.hide(kind, id));
        Ok(true)
    }

    /// Deletes those of `candidates` whose `ttl` is over, and what cascades from them. Answers how many of them went.
    /// Whoever looks for candidates does so outside of the transaction: that reads every document.
    pub fn sweep(&mut self, candidates: &[(Kind, Uuid)]) -> usize {
        let over = |&&(kind, id): &&(Kind, Uuid)| self.stored(kind, id).is_some_and(|entity| self.over(entity));
        let over: Vec<_> = candidates.iter().filter(over).copied().collect();
        over.iter().for_each(|(kind, id)| self.evict(*kind, *id));
        over.len()
    }

    /// Drops what was written, step by step.
    pub fn release(self) {
        self.written.release();
    }

    /// The catalog underneath, without this draft's own writes.
    pub fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// What the transaction changed, one change per entity, in an order that never refers forward: ends
    /// first, the referring kind before the referenced one; then new states, the other way round.
    pub fn into_changes(self) -> Vec<Change> {
        let gone = |(kind, id): &(Kind, Uuid)| self.written.get(*kind, *id).is_none();
        let mut ends: Vec<_> = self.hidden.iter().filter(|key| gone(key)).copied().collect();
        ends.sort_unstable_by_key(|(kind, id)| (std::cmp::Reverse(rank(*kind)), *id));
        let mut states: Vec<_> = self.written.everything().cloned().collect();
        states.sort_by_key(|entity| (rank(entity.kind()), entity.id()));
        let ends = ends.into_iter().map(|(kind, id)| Change { kind, id, entity: None });
        ends.chain(states.into_iter().map(|entity| Change {
            kind: entity.kind(),
            id: entity.id(),
            entity: Some(entity),
        }))
        .collect()
    }

    /// What stands under an id, expired or not.
    fn stored(&self, kind: Kind, id: Uuid) -> Option<&Arc<Entity>> {
        let below = || self.catalog.get(kind, id).filter(|_| !self.hidden.contains(&(kind, id)));
        self.written.get(kind, id).or_else(below)
    }

    /// Who has a unique key, expired or not.
    fn holder(&self, kind: Kind, key: &str) -> Option<&Arc<Entity>> {
        let shown = |it: &&Arc<Entity>| !self.hidden.contains(&(kind, it.id()));
        self.written.by_canonical(kind, key).or_else(|| self.catalog.claimants(kind, key).find(shown))
    }

    fn child_ids(&self, kind: Kind, field: &str, parent: Uuid) -> BTreeSet<Uuid> {
        let of = |catalog: &'_ Catalog| -> Vec<Uuid> {
            catalog.shelf(kind).map_or_else(Vec::new, |shelf| shelf.children_of(field, parent, None).collect())
        };
        let below = of(self.catalog).into_iter().filter(|id| !self.hidden.contains(&(kind, *id)));
        below.chain(of(&self.written)).collect()
    }

    fn over(&self, entity: &Entity) -> bool {
        entity.kind().ttl && expired(entity.kind(), &entity.doc(), self.now_s)
    }

    /// The first unique key that is taken, unless (`by_itself`) by the entity's own id. Expired holders go.
    fn refuse_taken_keys(&mut self, entity: &Checked, doc: &Doc, by_itself: bool) -> Result<(), Rejection> {
        let kind = entity.kind();
        for (key, members) in unique_keys(kind, doc) {
            let Some(holder) = self.holder(kind, &key) else { continue };
            let id = holder.id();
            match (self.over(holder), id == entity.id()) {
                (true, true) => {}
                (true, false) => self.evict(kind, id),
                (false, true) if by_itself => {}
                (false, _) => return Err(Rejection::UniqueTaken { key: members }),
            }
        }
        Ok(())
    }

    fn write(&mut self, entity: Checked, doc: &Doc) -> Result<Arc<Entity>, Rejection> {
        let (kind, id) = (entity.kind(), entity.id());
        for link in links(kind, doc) {
            let exists = self.named(link.kind).is_some_and(|kind| self.get(kind, link.id).is_some());
            let itself = link.kind == kind.name && link.id == id;
            if !exists && !itself {
                return Err(Rejection::DanglingReference { field: link.field, kind: link.kind, id: link.id });
            }
        }
        if entity.entity().may_hold_null_character()
            && let Some(field) = null_character(&entity.doc())
        {
            return Err(Rejection::Schema(Violations::field(field, "must not contain a null character")));
        }
        self.hide(kind, id);
        let entity = entity.into_entity();
        self.written.put(entity.clone());
        Ok(entity)
    }

    /// The kind of a name that has entities here.
    fn named(&self, name: &str) -> Option<Kind> {
        self.written.shelves.get(name).or_else(|| self.catalog.shelves.get(name)).map(|shelf| shelf.kind)
    }

    /// Takes an expired entity and what hangs on it out of the way.
    fn evict(&mut self, kind: Kind, id: Uuid) {
        self.cascade(kind, id).into_iter().for_each(|(kind, id)| self.hide(kind, id));
    }

    fn hide(&mut self, kind: Kind, id: Uuid) {
        self.written.remove(kind, id);
        if self.catalog.get(kind, id).is_some() {
            self.hidden.insert((kind, id));
        }
    }

    /// An entity and all that goes with it. Each is visited once, so circles end.
    fn cascade(&self, kind: Kind, id: Uuid) -> BTreeSet<(Kind, Uuid)> {
        let mut doomed = BTreeSet::from([(kind, id)]);
        let mut open = vec![(kind, id)];
        while let Some((kind, id)) = open.pop() {
            for (child_kind, child, on_delete) in self.referrers(kind, id) {
                // What is over restricts nothing and goes along.
                let goes = on_delete == OnDelete::Cascade || self.get(child_kind, child).is_none();
                if goes && doomed.insert((child_kind, child)) {
                    open.push((child_kind, child));
                }
            }
        }
        doomed
    }

    /// A kind that still refers to an entity, from outside of what goes, and forbids its end.
    fn restricting(&self, kind: Kind, id: Uuid, doomed: &BTreeSet<(Kind, Uuid)>) -> Option<Kind> {
        let referrers = self.referrers(kind, id).into_iter();
        referrers.map(|(kind, id, _)| (kind, id)).find(|referrer| !doomed.contains(referrer)).map(|(kind, _)| kind)
    }

    fn referrers(&self, kind: Kind, id: Uuid) -> Vec<(Kind, Uuid, OnDelete)> {
        let kinds: BTreeSet<Kind> = [self.catalog, &self.written]
            .iter()
            .flat_map(|catalog| catalog.shelves.values().map(|shelf| shelf.kind))
            .collect();
        let mut referrers = Vec::new();
        for child in kinds {
            for field in child.fields {
                if let Type::Foreign { kind: parent, on_delete } = field.kind
                    && parent == kind.name
                {
                    let ids = self.child_ids(child, field.name, id);
                    referrers.extend(ids.into_iter().map(|id| (child, id, on_delete)));
                }
            }
        }
        referrers
    }
}

/// Where a kind stands among all: referenced kinds before those that refer to them.
fn rank(kind: Kind) -> (usize, Kind) {
    (Kind::all().iter().position(|known| *known == kind).unwrap_or(usize::MAX), kind)
}

/// The member that holds U+0000, which PostgreSQL keeps in no text: refused here, so that all stores agree.
fn null_character(doc: &Doc) -> Option<&str> {
    fn holds(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(holds),
            Value::Object(members) => members.iter().any(|(name, value)| name.contains('\0') || holds(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
    doc.iter().find(|(name, value)| name.contains('\0') || holds(value)).map(|(name, _)| name.as_str())
}
