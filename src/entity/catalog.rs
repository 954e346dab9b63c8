//! All entities in memory, with their unique keys, references and tags, and the rules between entities.
//!
//! Pure: a store only makes durable what is decided here, so every store refuses the same writes. Rules as constraints
//! of a database lost: the stores would differ, and each message would have to be read back out of a driver's error.
//!
//! An index entry is found again by reading the document that made it, so nothing is kept twice; a change
//! costs its document and a few logarithmic steps, whatever the size of the catalog.

mod conflicts;
mod draft;
mod merge;

pub use conflicts::{Conflict, Dangling};
pub use draft::Draft;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;
use tidegate_proto::{Revision, Stamp};
use uuid::Uuid;

use crate::entity::declare::Type;
use crate::entity::{Change, Doc, Entity, Kind};
use crate::pace;

/// Every entity at one revision.
#[derive(Debug, Default)]
pub struct Catalog {
    revision: Revision,
    /// By the kind's name, so that a reference finds its shelf without the kind's declaration.
    shelves: BTreeMap<&'static str, Shelf>,
    tags: BTreeMap<Box<str>, BTreeSet<(Kind, Uuid)>>,
}

/// The entities of one kind.
#[derive(Debug)]
struct Shelf {
    kind: Kind,
    entities: BTreeMap<Uuid, Arc<Entity>>,
    /// When each entity was written, where several nodes write.
    stamps: BTreeMap<Uuid, Stamp>,
    /// Canonical text of each unique key, to the entity that has it.
    keys: HashMap<Box<str>, Uuid>,
    /// Keys that several entities claim, with all of these.
    contested: BTreeMap<Box<str>, BTreeSet<Uuid>>,
    /// (foreign field, parent, child).
    children: BTreeSet<(&'static str, Uuid, Uuid)>,
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

/// A foreign key of one document.
#[derive(Clone, Copy, Debug)]
struct Link {
    field: &'static str,
    /// The referenced kind's name; nobody may have declared it yet.
    kind: &'static str,
    id: Uuid,
}

impl Catalog {
    /// Nothing, at a revision.
    pub fn empty(revision: Revision) -> Self {
        Self { revision, ..Self::default() }
    }

    /// These entities, at a revision. Of two with one id the later stays.
    pub fn of(entities: impl IntoIterator<Item = Arc<Entity>>, revision: Revision) -> Self {
        let mut catalog = Self::empty(revision);
        entities.into_iter().for_each(|entity| catalog.put(entity));
        catalog
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn get(&self, kind: Kind, id: Uuid) -> Option<&Arc<Entity>> {
        self.shelf(kind)?.entities.get(&id)
    }

    /// By the value of a unique field (`name`, `username`, `custom_id`, `key`).
    pub fn by_key(&self, kind: Kind, field: &str, value: &str) -> Option<&Arc<Entity>> {
        self.by_canonical(kind, &canonical(field, value))
    }

    /// All of a kind, in ascending order of id.
    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entity>> + '_ {
        self.shelf(kind).into_iter().flat_map(|shelf| shelf.entities.values())
    }

    /// By the kind's name, known here or not.
    pub fn named(&self, kind: &str, id: Uuid) -> Option<&Arc<Entity>> {
        self.shelves.get(kind)?.entities.get(&id)
    }

    /// All of every kind, in order of kind and id, after a place.
    pub fn after(&self, place: Option<(&str, Uuid)>) -> impl Iterator<Item = &Arc<Entity>> {
        let from = place.map_or(Bound::Unbounded, |(kind, _)| Bound::Included(kind));
        self.shelves.range::<str, _>((from, Bound::Unbounded)).flat_map(move |(kind, shelf)| {
            let after = place.filter(|(name, _)| name == kind).map(|(_, id)| id);
            shelf.entities.range((exclusive(after), Bound::Unbounded)).map(|(_, entity)| entity)
        })
    }

    /// All of every kind.
    pub fn everything(&self) -> impl Iterator<Item = &Arc<Entity>> + '_ {
        self.shelves.values().flat_map(|shelf| shelf.entities.values()).inspect(|_| pace::step())
    }

    pub fn count(&self, kind: Kind) -> usize {
        self.shelf(kind).map_or(0, |shelf| shelf.entities.len())
    }

    /// At most `size` entities of `kind` after the id `after`. Expired ones show: only a clock could tell.
    pub fn page(&self, kind: Kind, filter: &Filter, after: Option<Uuid>, size: usize) -> Page {
        let Some(shelf) = self.shelf(kind) else { return Page::default() };
        let mut ids = match (&filter.parent, &filter.tags) {
            (Some((field, parent)), tags) => shelf
                .children_of(field, *parent, after)
                .filter(|id| tags.as_ref().is_none_or(|tags| self.has_tags(kind, *id, tags)))
                .take(size + 1)
                .collect(),
            (None, Some(tags)) => self.ids_tagged(kind, tags, after, size + 1),
            (None, None) => {
                shelf.entities.range((exclusive(after), Bound::Unbounded)).map(|(id, _)| *id).take(size + 1).collect()
            }
        };
        let more = ids.len() > size;
        ids.truncate(size);
        Page {
            next: ids.last().copied().filter(|_| more),
            entities: ids.iter().filter_map(|id| shelf.entities.get(id).cloned()).collect(),
        }
    }

    /// (tag, kind, id) of everything tagged, or of one tag, in order, after a position.
    pub fn tagged(
        &self,
        tag: Option<&str>,
        after: Option<(&str, Kind, Uuid)>,
        size: usize,
    ) -> Vec<(String, Kind, Uuid)> {
        let first = tag.or(after.map(|(tag, ..)| tag)).map_or(Bound::Unbounded, Bound::Included);
        let last = tag.map_or(Bound::Unbounded, Bound::Included);
        self.tags
            .range::<str, _>((first, last))
            .flat_map(|(name, members)| {
                let from = match after {
                    Some((tag, kind, id)) if tag == &**name => Bound::Excluded((kind, id)),
                    _ => Bound::Unbounded,
                };
                let beyond = after.is_some_and(|(tag, ..)| tag > &**name);
                let members = (!beyond).then(|| members.range((from, Bound::Unbounded)));
                members.into_iter().flatten().map(move |(kind, id)| (name.to_string(), *kind, *id))
            })
            .take(size)
            .collect()
    }

    /// Takes changes in as they are: they were decided elsewhere. The catalog then stands at `revision`.
    pub fn apply(&mut self, changes: &[Change], revision: Revision) {
        for change in changes {
            match &change.entity {
                Some(entity) => self.put(entity.clone()),
                None => self.remove(change.kind, change.id),
            }
        }
        self.revision = revision;
    }

    /// Drops it step by step: of a large one that takes a while.
    pub fn release(self) {
        for shelf in self.shelves.into_values() {
            pace::release(shelf.entities);
            pace::release(shelf.stamps);
            pace::release(shelf.keys);
            pace::release(shelf.children);
        }
        pace::release(self.tags.into_values().flatten());
    }

    fn shelf(&self, kind: Kind) -> Option<&Shelf> {
        self.shelves.get(kind.name)
    }

    fn by_canonical(&self, kind: Kind, key: &str) -> Option<&Arc<Entity>> {
        let shelf = self.shelf(kind)?;
        shelf.entities.get(shelf.keys.get(key)?)
    }

    fn put(&mut self, entity: Arc<Entity>) {
        let (kind, id, doc) = (entity.kind(), entity.id(), entity.indexed());
        self.remove(kind, id);
        let shelf = self.shelves.entry(kind.name).or_insert_with(|| Shelf::of(kind));
        unique_keys(kind, &doc).into_iter().for_each(|(key, _)| shelf.claim(key.into_boxed_str(), id));
        shelf.children.extend(links(kind, &doc).map(|link| (link.field, link.id, id)));
        shelf.entities.insert(id, entity);
        for tag in tags(kind, &doc) {
            self.tags.entry(tag.into()).or_default().insert((kind, id));
        }
    }

    fn remove(&mut self, kind: Kind, id: Uuid) {
        pace::step();
        let Some(shelf) = self.shelves.get_mut(kind.name) else { return };
        let Some(entity) = shelf.entities.remove(&id) else { return };
        let doc = entity.indexed();
        unique_keys(kind, &doc).into_iter().for_each(|(key, _)| shelf.unclaim(&key, id));
        for link in links(kind, &doc) {
            shelf.children.remove(&(link.field, link.id, id));
        }
        for tag in tags(kind, &doc) {
            if let Some(members) = self.tags.get_mut(tag) {
                members.remove(&(kind, id));
                if members.is_empty() {
                    self.tags.remove(tag);
                }
            }
        }
    }

    fn has_tags(&self, kind: Kind, id: Uuid, wanted: &Tags) -> bool {
        let has = |tag: &String| self.tags.get(tag.as_str()).is_some_and(|members| members.contains(&(kind, id)));
        match wanted {
            Tags::All(tags) => tags.iter().all(has),
            Tags::Any(tags) => tags.iter().any(has),
        }
    }

    /// The first `size` ids of `kind` after `after` with the tags.
    fn ids_tagged(&self, kind: Kind, wanted: &Tags, after: Option<Uuid>, size: usize) -> Vec<Uuid> {
        let (Tags::All(names) | Tags::Any(names)) = wanted;
        let sets = names.iter().map(|tag| self.tags.get(tag.as_str()));
        let from = match after {
            Some(id) => Bound::Excluded((kind, id)),
            None => Bound::Included((kind, Uuid::nil())),
        };
        let ids_of = |set: &'_ BTreeSet<(Kind, Uuid)>, size| {
            set.range((from, Bound::Included((kind, Uuid::max())))).map(|(_, id)| *id).take(size).collect::<Vec<_>>()
        };
        match wanted {
            Tags::All(_) => {
                // Walking the rarest tag bounds the work by its members, however common the others are.
                let Some(rarest) =
                    sets.collect::<Option<Vec<_>>>().and_then(|sets| sets.into_iter().min_by_key(|set| set.len()))
                else {
                    return Vec::new();
                };
                let candidates = ids_of(rarest, usize::MAX).into_iter();
                candidates.filter(|id| self.has_tags(kind, *id, wanted)).take(size).collect()
            }
            Tags::Any(_) => {
                let union: BTreeSet<Uuid> = sets.flatten().flat_map(|set| ids_of(set, size)).collect();
                union.into_iter().take(size).collect()
            }
        }
    }
}

impl Shelf {
    fn of(kind: Kind) -> Self {
        Self {
            kind,
            entities: BTreeMap::new(),
            stamps: BTreeMap::new(),
            keys: HashMap::new(),
            contested: BTreeMap::new(),
            children: BTreeSet::new(),
        }
    }

    fn children_of(&self, field: &str, parent: Uuid, after: Option<Uuid>) -> impl Iterator<Item = Uuid> + '_ {
        // The declaration's own copy of the name: keys of the set live as long as the program.
        let field = self.kind.field(field).map(|field| field.name);
        let range = field.map(|field| {
            let from = match after {
                Some(id) => Bound::Excluded((field, parent, id)),
                None => Bound::Included((field, parent, Uuid::nil())),
            };
            self.children.range((from, Bound::Included((field, parent, Uuid::max()))))
        });
        range.into_iter().flatten().map(|(_, _, child)| *child)
    }
}

/// The unique keys of a document: canonical text of each with the members that make it.
///
/// Kong: the fields that are unique together come first, as their index is the older one there.
pub fn unique_keys(kind: Kind, doc: &Doc) -> Vec<(String, Doc)> {
    let mut keys = Vec::new();
    if !kind.unique_together.is_empty() {
        let members: Doc = kind.unique_together.iter().map(|name| ((*name).to_owned(), member(doc, name))).collect();
        keys.push((canonical(&kind.unique_together.join(","), &Value::Object(members.clone()).to_string()), members));
    }
    for field in kind.fields.iter().filter(|field| field.unique) {
        let text = match doc.get(field.name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) => canonical(field.name, text),
            Some(value) => canonical(field.name, &value.to_string()),
        };
        keys.push((text, Doc::from_iter([(field.name.to_owned(), member(doc, field.name))])));
    }
    keys
}

/// (field, referenced kind, referenced id) of a document, of the kinds that are declared.
pub fn references(kind: Kind, doc: &Doc) -> Vec<(&'static str, Kind, Uuid)> {
    links(kind, doc).filter_map(|link| Some((link.field, Kind::named(link.kind)?, link.id))).collect()
}

fn links(kind: Kind, doc: &Doc) -> impl Iterator<Item = Link> + '_ {
    kind.0.fields.iter().filter_map(|field| {
        let Type::Foreign { kind, .. } = field.kind else { return None };
        let id = doc.get(field.name)?.get("id")?.as_str()?.parse().ok()?;
        Some(Link { field: field.name, kind, id })
    })
}

/// Of a stranger none: what no list shows has no place among the tags.
fn tags(kind: Kind, doc: &Doc) -> impl Iterator<Item = &str> {
    let tags = doc.get("tags").filter(|_| !kind.is_stranger()).and_then(Value::as_array);
    tags.into_iter().flatten().filter_map(Value::as_str)
}

/// A member as a key shows it: of a foreign one only the id.
fn member(doc: &Doc, name: &str) -> Value {
    match doc.get(name) {
        Some(Value::Object(object)) if object.contains_key("id") => Value::Object(
            object.iter().filter(|(name, _)| *name == "id").map(|(k, v)| (k.clone(), v.clone())).collect(),
        ),
        Some(value) => value.clone(),
        None => Value::Null,
    }
}

/// No field name has an equals sign, so two keys never share a text.
fn canonical(field: &str, value: &str) -> String {
    format!("{field}={value}")
}

fn exclusive(after: Option<Uuid>) -> Bound<Uuid> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}

#[cfg(test)]
mod tests;
