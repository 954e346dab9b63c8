//! What is wrong with a declarative configuration, told four ways: a tree that mirrors the text, one line, a flat list
//! by entity, and an indented report for people.

use std::fmt::Write;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::entity::declarative::walk::{Item, Step};
use crate::entity::problem::Rejection;
use crate::entity::{Doc, Kind, literal};

/// Why a configuration is refused.
#[derive(Debug, Default)]
pub struct Invalid {
    /// Complaints about no entity in particular.
    shape: Box<Doc>,
    /// The same and those about entities.
    fields: Box<Doc>,
    entities: Vec<Flat>,
}

/// One complaint about an item.
#[derive(Debug)]
pub(super) enum Fault {
    /// Mirrors the item's fields.
    Fields(Value),
    /// Stands for the whole item: uniqueness by its keys.
    Item(String),
    /// Stands under the item's name.
    Named(String),
    /// Stands in a list under the item's name: references.
    Entity(String),
}

#[derive(Debug)]
struct Flat {
    at: usize,
    value: Value,
}

impl Invalid {
    /// The text could not be read.
    pub(super) fn text(why: &str) -> Self {
        let mut invalid = Self::default();
        invalid.put(&[], "error", format!("failed parsing declarative configuration: {why}").into());
        invalid
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The body of the answer to `POST /config`. `flatten`: complaints about entities in a list of their own.
    pub fn body(&self, flatten: bool) -> Value {
        let fields: &Doc = if flatten { &self.shape } else { &self.fields };
        let mut body = json!({
            "code": 14,
            "name": "invalid declarative configuration",
            "message": message(fields),
            "fields": fields,
        });
        if flatten {
            let entities: Vec<&Value> = self.entities.iter().map(|flat| &flat.value).collect();
            body["flattened_errors"] = json!(entities);
        }
        body
    }

    /// One line: `declarative config is invalid: {…}`.
    pub fn message(&self) -> String {
        message(&self.fields)
    }

    /// Lines for people: `in 'services':`, `  - in entry 1 of 'services':`, `    in 'host': required field missing`.
    pub fn report(&self) -> String {
        let mut out = String::new();
        report_members(&self.fields, "", &mut out);
        out
    }

    /// A complaint about the member `name` of what stands at `place`.
    pub(super) fn put(&mut self, place: &[Step], name: &str, complaint: Value) {
        let mut nested = Doc::new();
        nested.insert(name.to_owned(), complaint);
        self.put_at(place, Value::Object(nested));
    }

    /// A complaint about the shape of what stands at `place`.
    pub(super) fn put_at(&mut self, place: &[Step], complaint: Value) {
        graft(&mut self.shape, place, complaint.clone());
        graft(&mut self.fields, place, complaint);
    }

    pub(super) fn add(&mut self, items: &[Item], at: usize, fault: Fault) {
        let Some(item) = items.get(at) else { return };
        let mut errors = Vec::new();
        match fault {
            Fault::Fields(tree) => {
                flatten(&tree, String::new(), &mut errors);
                graft(&mut self.fields, &item.place, tree);
            }
            Fault::Item(text) => {
                errors.push(about_entity(&text));
                graft(&mut self.fields, &item.place, text.into());
            }
            Fault::Named(text) => {
                errors.push(about_entity(&text));
                self.under_name(item, |_| text.into());
            }
            Fault::Entity(text) => {
                errors.push(about_entity(&text));
                self.under_name(item, |old| match old {
                    Some(Value::Array(mut texts)) => {
                        texts.push(text.into());
                        Value::Array(texts)
                    }
                    _ => json!([text]),
                });
            }
        }
        self.flatten(items, at, item, errors);
    }

    /// Kong: what is about a whole entity stands under its name, or under its place when it has none.
    fn under_name(&mut self, item: &Item, complaint: impl FnOnce(Option<Value>) -> Value) {
        let key = item.kind.endpoint_key.and_then(|field| item.input.get(field)?.as_str());
        let stated = item.input.get("id").and_then(Value::as_str);
        match key.or(stated) {
            Some(name) => {
                let list = self.fields.entry(item.kind.name).or_insert_with(|| json!({}));
                if !list.is_object() {
                    *list = numbered(list.take());
                }
                let Some(list) = list.as_object_mut() else { return };
                let old = list.remove(name);
                list.insert(name.to_owned(), complaint(old));
            }
            None => graft(&mut self.fields, &item.place, complaint(None)),
        }
    }

    /// Items are added one after the other, so only the last can be the same.
    fn flatten(&mut self, items: &[Item], at: usize, item: &Item, errors: Vec<Value>) {
        if let Some(flat) = self.entities.last_mut().filter(|flat| flat.at == at) {
            if let Some(list) = flat.value.get_mut("errors").and_then(Value::as_array_mut) {
                list.extend(errors);
            }
            return;
        }
        self.entities.push(Flat { at, value: flat(items, item, errors) });
    }
}

impl Fault {
    /// What `write` found in one document.
    pub(super) fn of(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Schema(violations) => Self::Fields(Value::Object(violations.into_doc())),
            Rejection::InvalidOptions(options) => {
                Self::Fields(options.into_iter().map(|(name, text)| (name.to_owned(), Value::from(text))).collect())
            }
            other => Self::Fields(json!({ "@entity": [other.message()] })),
        }
    }

    /// What the catalog found between documents.
    pub(super) fn among(kind: Kind, rejection: Rejection) -> Self {
        match rejection {
            Rejection::PrimaryKeyTaken { id } => Self::Item(declared_twice(kind, "primary key", &id.to_string())),
            Rejection::UniqueTaken { key } => {
                let names: Vec<&str> = key.keys().map(String::as_str).collect();
                let values: Vec<String> = key.values().map(plain).collect();
                let text = declared_twice(kind, &names.join(", "), &values.join(", "));
                let is_main = names.len() > 1 || names.first().copied() == kind.endpoint_key;
                if is_main { Self::Item(text) } else { Self::Named(text) }
            }
            Rejection::DanglingReference { field, kind, id } => {
                Self::Entity(dangling(field, &json!({ "id": id }).to_string(), kind))
            }
            other => Self::of(other),
        }
    }
}

pub(super) fn dangling(field: &str, value: &str, kind: &str) -> String {
    format!("invalid reference '{field}: {value}' (no such entry in '{kind}')")
}

fn declared_twice(kind: Kind, what: &str, value: &str) -> String {
    format!("uniqueness violation: '{kind}' entity with {what} set to '{value}' already declared")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Puts a complaint where the item stood, beside what is there already; lists get null for good elements.
fn graft(root: &mut Doc, place: &[Step], complaint: Value) {
    let mut rest = place.iter();
    let Some(Step::List(first)) = rest.next() else {
        if let Value::Object(members) = complaint {
            root.extend(members);
        }
        return;
    };
    let mut at = root.entry(*first).or_insert(Value::Null);
    for step in rest {
        at = match step {
            Step::List(name) => member(at, name),
            Step::At(index) => element(at, *index),
        };
    }
    match (at, complaint) {
        (Value::Object(old), Value::Object(new)) => old.extend(new),
        (at @ Value::Null, complaint) => *at = complaint,
        (at, complaint @ Value::String(_)) => *at = complaint,
        // A text stands for the whole entity already.
        _ => {}
    }
}

fn member<'a>(at: &'a mut Value, name: &str) -> &'a mut Value {
    if !at.is_object() {
        *at = json!({});
    }
    &mut at[name]
}

fn element(at: &mut Value, index: usize) -> &mut Value {
    if at.is_object() {
        return &mut at[(index + 1).to_string()];
    }
    if !at.is_array() {
        *at = json!([]);
    }
    if let Value::Array(elements) = at
        && elements.len() <= index
    {
        elements.resize(index + 1, Value::Null);
    }
    &mut at[index]
}

/// A list as an object by position from 1, so that names can stand beside positions.
fn numbered(list: Value) -> Value {
    let Value::Array(elements) = list else { return json!({}) };
    let named = |(at, element): (usize, Value)| (!element.is_null()).then(|| ((at + 1).to_string(), element));
    Value::Object(elements.into_iter().enumerate().filter_map(named).collect())
}

fn flat(items: &[Item], item: &Item, errors: Vec<Value>) -> Value {
    let mut entity = item.input.clone();
    if let Some((field, parent)) = item.parent.and_then(|(field, at)| Some((field, items.get(at)?))) {
        entity.insert(field.to_owned(), json!({ "id": parent.id }));
    }
    let mut flat = json!({ "entity_type": item.kind.name.strip_suffix('s').unwrap_or(item.kind.name) });
    if item.id != Uuid::nil() {
        flat["entity_id"] = json!(item.id);
    }
    if let Some(Value::String(name)) = item.input.get("name") {
        flat["entity_name"] = json!(name);
    }
    if let Some(Value::Array(tags)) = item.input.get("tags") {
        flat["entity_tags"] = json!(tags);
    }
    flat["entity"] = Value::Object(entity);
    flat["errors"] = Value::Array(errors);
    flat
}

fn flatten(tree: &Value, path: String, errors: &mut Vec<Value>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match tree {
        Value::Object(members) => {
            for (name, value) in members {
                match value {
                    Value::Array(texts) if name == "@entity" => {
                        errors.extend(texts.iter().filter_map(Value::as_str).map(about_entity));
                    }
                    value => flatten(value, below(name), errors),
                }
            }
        }
        Value::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                flatten(element, below(&(at + 1).to_string()), errors);
            }
        }
        Value::String(text) => errors.push(json!({ "type": "field", "field": path, "message": text })),
        _ => {}
    }
}

fn about_entity(text: &str) -> Value {
    json!({ "type": "entity", "message": text })
}

fn message(fields: &Doc) -> String {
    format!("declarative config is invalid: {}", literal::line(&Value::Object(fields.clone())))
}

fn report_members(members: &Doc, indent: &str, out: &mut String) {
    for (name, value) in members {
        report_entry(&format!("{indent}in '{name}'"), name, value, indent, out);
    }
}

fn report_entry(head: &str, name: &str, value: &Value, indent: &str, out: &mut String) {
    let deeper = format!("{indent}  ");
    match value {
        Value::Null => {}
        Value::Object(members) => {
            let _ = writeln!(out, "{head}:");
            report_members(members, &deeper, out);
        }
        Value::Array(elements) => {
            let _ = writeln!(out, "{head}:");
            for (at, element) in elements.iter().enumerate() {
                let head = format!("{deeper}- in entry {} of '{name}'", at + 1);
                report_entry(&head, name, element, &deeper, out);
            }
        }
        leaf => {
            let _ = writeln!(out, "{head}: {}", plain(leaf));
        }
    }
}
