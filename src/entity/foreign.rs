//! Foreign keys in documents: `{"id": …}`, or an object that names its target by another unique field.

use serde_json::Value;
use uuid::Uuid;

use crate::entity::catalog::Draft;
use crate::entity::check::{self, REQUIRED, UNKNOWN};
use crate::entity::declare::{Field, Type};
use crate::entity::literal;
use crate::entity::problem::Rejection;
use crate::entity::shape;
use crate::entity::{Doc, Kind};

const MISSING: &str = "missing primary key";

/// Reduces a foreign key to its `id`. The error is per member of the key. `target` is `None` while that kind is not
/// declared: then only an id can be said to be right or wrong.
pub fn settle(target: Option<Kind>, value: &mut Value) -> Result<(), Doc> {
    if let Some(id) = id(value) {
        *value = reference(id);
        return Ok(());
    }
    let said = match value.get("id") {
        None | Some(Value::Null) => MISSING,
        Some(Value::String(_)) => "expected a valid UUID",
        Some(_) => "expected a string",
    };
    // Kong: what is wrong with the other members is told first.
    let mut problems = match (target, &*value) {
        (Some(target), Value::Object(doc)) => members(target, doc),
        _ => Doc::new(),
    };
    if problems.is_empty() {
        problems.insert("id".to_owned(), said.into());
    }
    Err(problems)
}

/// Replaces foreign keys that name their target by another unique field (`{"name": "x"}`) by the id found for it.
pub fn resolve(kind: Kind, doc: &mut Doc, draft: &Draft<'_>) -> Result<(), Rejection> {
    let mut unresolved = Vec::new();
    for field in kind.fields {
        let Type::Foreign { kind: target, .. } = field.kind else { continue };
        let (Some(target), Some(value)) = (Kind::named(target), doc.get_mut(field.name)) else { continue };
        if id(value).is_some() {
            continue;
        }
        match find(target, value, draft) {
            Ok(Some(id)) => *value = reference(id),
            Ok(None) => {}
            Err(missed) => unresolved.extend(missed.into_iter().map(|(sub, text)| (field.name, sub, text))),
        }
    }
    if unresolved.is_empty() { Ok(()) } else { Err(Rejection::Unresolved(unresolved)) }
}

fn id(value: &Value) -> Option<Uuid> {
    check::uuid(value.get("id")?)
}

fn reference(id: Uuid) -> Value {
    Value::Object(Doc::from_iter([("id".to_owned(), id.to_string().into())]))
}

/// `Err`: what was asked for and not found. `Ok(None)`: nothing that could be looked up was said.
fn find(target: Kind, key: &Value, draft: &Draft<'_>) -> Result<Option<Uuid>, Vec<(String, String)>> {
    let mut missed = Vec::new();
    let addresses = |field: &&Field| field.unique || Some(field.name) == target.endpoint_key;
    for field in target.fields.iter().filter(addresses) {
        let Some(text) = key.get(field.name).and_then(Value::as_str) else { continue };
        if check::all(field, &text.into()).is_err() {
            continue;
        }
        if let Some(found) = draft.by_key(target, field.name, text) {
            return Ok(Some(found.id()));
        }
        let asked = literal::line(&Value::Object(Doc::from_iter([(field.name.to_owned(), text.into())])));
        let text = format!("the foreign key cannot be resolved with '{asked}' for an existing '{target}' entity");
        missed.push((field.name.to_owned(), text));
    }
    if missed.is_empty() { Ok(None) } else { Err(missed) }
}

/// What is wrong with the members of a key, taken as a part of its target.
fn members(target: Kind, doc: &Doc) -> Doc {
    let mut problems = Doc::new();
    for (name, value) in doc {
        let problem = match target.field(name) {
            None if name == "updated_at" => continue,
            None => UNKNOWN.into(),
            Some(field) if value.is_null() && field.required => REQUIRED.into(),
            Some(field) => match shape::settle_alone(field, &mut value.clone(), true) {
                Ok(()) => continue,
                Err(problem) => problem,
            },
        };
        problems.insert(name.clone(), problem);
    }
    problems
}
