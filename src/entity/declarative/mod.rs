//! The declarative format: a whole configuration as one YAML or JSON document.
//!
//! Pure: text in, checked entities or a report out; `/config`, the declarative store and the command line share it.
//! What one document can break is decided by `write`, what several can by `catalog`; here is only what the format
//! adds: nesting, references by name, ids that come out the same on every node, and where in the text a complaint
//! belongs. Kong's own loader checks the file with a second schema; two schemas disagree sooner or later.

mod export;
mod ids;
mod report;
mod text;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_proto::Revision;
use uuid::Uuid;

use crate::entity::catalog::{Catalog, Draft};
use crate::entity::declarative::report::Fault;
use crate::entity::declarative::walk::{Item, Walk};
use crate::entity::declare::{Plugins, Type};
use crate::entity::problem::Rejection;
use crate::entity::write::{Checked, Intent, prepare_alone};
use crate::entity::{Doc, Entity, Kind};
use crate::pace;

pub use export::export;
pub use report::Invalid;
pub use text::parse;

/// A configuration that may be used as it is.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Entities before those that refer to them.
    pub checked: Vec<Checked>,
}

impl Loaded {
    /// What a store or a snapshot takes.
    pub fn entities(&self) -> Vec<Arc<Entity>> {
        self.checked.iter().inspect(|_| pace::step()).map(|checked| checked.entity().clone()).collect()
    }

    /// Inserts or replaces every entity by id and deletes none (`config db_import`); answers how many there were.
    pub fn import(self, draft: &mut Draft<'_>) -> Result<usize, Rejection> {
        let count = self.checked.len();
        for checked in self.checked {
            draft.put(checked)?;
        }
        Ok(count)
    }
}

/// Parses and checks a text. `now_s` (Unix seconds) becomes the timestamps of entities that have none.
pub fn load(text: &[u8], plugins: &Plugins, now_s: i64) -> Result<Loaded, Invalid> {
    check(parse(text)?, plugins, now_s)
}

/// Checks a parsed document.
pub fn check(document: Doc, plugins: &Plugins, now_s: i64) -> Result<Loaded, Invalid> {
    let Walk { mut items, mut invalid } = walk::walk(document);
    ids::assign(&mut items);
    let checked = check_each(&items, plugins, now_s, &mut invalid);
    if invalid.is_empty() {
        check_together(&items, &checked, now_s, &mut invalid);
    }
    pace::release(items);
    if invalid.is_empty() { Ok(Loaded { checked: checked.into_iter().flatten().collect() }) } else { Err(invalid) }
}

/// Each item by itself, with its references turned into ids; in the order of the items.
fn check_each(items: &[Item], plugins: &Plugins, now_s: i64, invalid: &mut Invalid) -> Vec<Option<Checked>> {
    let names = Names::of(items);
    let mut check = |(at, item): (usize, &Item)| {
        pace::step();
        let (doc, faults) = names.resolve(items, item);
        let is_whole = faults.is_empty();
        faults.into_iter().for_each(|fault| invalid.add(items, at, fault));
        match prepare_alone(item.kind, doc, Intent::Insert, plugins, now_s) {
            Ok(checked) => is_whole.then_some(checked),
            Err(rejection) => {
                invalid.add(items, at, Fault::of(rejection));
                None
            }
        }
    };
    items.iter().enumerate().map(&mut check).collect()
}

/// Uniqueness and references over the whole file, as the catalog decides them.
fn check_together(items: &[Item], checked: &[Option<Checked>], now_s: i64, invalid: &mut Invalid) {
    let catalog = Catalog::empty(Revision::default());
    let mut draft = Draft::new(&catalog, now_s);
    for (at, checked) in checked.iter().enumerate() {
        pace::step();
        let Some(checked) = checked else { continue };
        if let Err(rejection) = draft.insert(checked.clone()) {
            invalid.add(items, at, Fault::among(checked.kind(), rejection));
        }
    }
    draft.release();
}

/// Which id a reference by id or by endpoint key means.
struct Names<'a> {
    ids: HashSet<(Kind, Uuid)>,
    keys: HashMap<(Kind, &'a str), Uuid>,
}

impl<'a> Names<'a> {
    fn of(items: &'a [Item]) -> Self {
        // Room for all at once: a map that grows moves what is in it, and does not give way meanwhile.
        let mut keys = HashMap::with_capacity(items.len());
        for item in items {
            pace::step();
            let key = item.kind.endpoint_key.and_then(|field| item.input.get(field)?.as_str());
            if let Some(key) = key {
                keys.entry((item.kind, key)).or_insert(item.id);
            }
        }
        let ids = items.iter().inspect(|_| pace::step()).map(|item| (item.kind, item.id)).collect();
        Self { ids, keys }
    }

    /// The item as `prepare_alone` takes it, and what is wrong with its references. One to nothing is replaced by an id
    /// that nobody has, so that the rest of the item is checked as it will stand.
    fn resolve(&self, items: &[Item], item: &Item) -> (Doc, Vec<Fault>) {
        let mut doc = item.input.clone();
        let mut faults = Vec::new();
        for field in item.kind.fields {
            let Type::Foreign { kind, .. } = field.kind else { continue };
            let Some(Value::String(name)) = item.input.get(field.name) else { continue };
            let id = Kind::named(kind).and_then(|kind| self.find(kind, name)).unwrap_or_else(|| {
                faults.push(Fault::Entity(report::dangling(field.name, name, kind)));
                Uuid::nil()
            });
            doc.insert(field.name.to_owned(), reference(id));
        }
        if let Some((field, parent)) = item.parent.and_then(|(field, at)| Some((field, items.get(at)?))) {
            let implied = reference(parent.id);
            // Kong: lets the place win over another parent; that can only be a mistake.
            if doc.get(field).is_some_and(|named| !named.is_null() && *named != implied) {
                faults.push(Fault::Fields(json!({ field: "value must be null" })));
            }
            doc.insert(field.to_owned(), implied);
        }
        if !doc.contains_key("id") {
            doc.insert("id".to_owned(), item.id.to_string().into());
        }
        (doc, faults)
    }

    fn find(&self, kind: Kind, name: &str) -> Option<Uuid> {
        let by_id = Uuid::try_parse(name).ok().filter(|id| self.ids.contains(&(kind, *id)));
        by_id.or_else(|| self.keys.get(&(kind, name)).copied())
    }
}

fn reference(id: Uuid) -> Value {
    json!({ "id": id })
}
