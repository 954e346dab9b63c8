//! A document as a flat list of items, parents before children, each knowing where it stood.

use serde_json::Value;
use uuid::Uuid;

use crate::entity::declarative::report::Invalid;
use crate::entity::declare::Type;
use crate::entity::{Doc, Kind};
use crate::pace;

const VERSIONS: [&str; 3] = ["1.1", "2.1", "3.0"];

/// A step into a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    List(&'static str),
    At(usize),
}

/// An entity of the file, without its children and comments.
#[derive(Debug)]
pub(super) struct Item {
    pub kind: Kind,
    pub place: Vec<Step>,
    pub input: Doc,
    /// The field that refers to the item it was nested in, and that item's index.
    pub parent: Option<(&'static str, usize)>,
    /// The id it has, or gets.
    pub id: Uuid,
}

pub(super) struct Walk {
    /// Kinds in the order of `Kind::all`, so nothing refers forward.
    pub items: Vec<Item>,
    pub invalid: Invalid,
}

/// Takes the document apart; complaints are about its shape.
pub(super) fn walk(mut document: Doc) -> Walk {
    let mut walk = Walk { items: Vec::new(), invalid: Invalid::default() };
    let is_old = walk.head(&mut document);
    for kind in Kind::all() {
        if let Some(list) = document.remove(kind.name) {
            walk.list(*kind, list, Vec::new(), None);
        }
    }
    for (name, _) in document {
        walk.invalid.put(&[], &name, "unknown field".into());
    }
    if is_old {
        walk.items.iter_mut().for_each(mark_regex_paths);
    }
    walk.sort();
    walk
}

impl Walk {
    /// Takes out the members that are no entities; answers whether the format is older than 3.0.
    fn head(&mut self, document: &mut Doc) -> bool {
        let complaint = match document.remove("_format_version") {
            None | Some(Value::Null) => Some("required field missing"),
            Some(Value::String(version)) if VERSIONS.contains(&version.as_str()) => {
                return self.rest_of_head(document, version != "3.0");
            }
            Some(Value::String(_)) => Some("expected one of: 1.1, 2.1, 3.0"),
            Some(_) => Some("expected a string"),
        };
        if let Some(complaint) = complaint {
            self.invalid.put(&[], "_format_version", complaint.into());
        }
        self.rest_of_head(document, false)
    }

    /// `_transform` is accepted either way: no declared kind has a field that is stored otherwise than sent.
    fn rest_of_head(&mut self, document: &mut Doc, is_old: bool) -> bool {
        if document.remove("_transform").is_some_and(|value| !value.is_boolean() && !value.is_null()) {
            self.invalid.put(&[], "_transform", "expected a boolean".into());
        }
        self.comments(document, &[]);
        is_old
    }

    fn comments(&mut self, doc: &mut Doc, place: &[Step]) {
        if doc.remove("_comment").is_some_and(|value| !value.is_string() && !value.is_null()) {
            self.invalid.put(place, "_comment", "expected a string".into());
        }
        if doc.remove("_ignore").is_some_and(|value| !value.is_array() && !value.is_null()) {
            self.invalid.put(place, "_ignore", "expected an array".into());
        }
    }

    /// Kong: null and an empty object are empty lists.
    fn list(&mut self, kind: Kind, list: Value, place: Vec<Step>, parent: Option<(&'static str, usize)>) {
        let entries = match list {
            Value::Array(entries) => entries,
            Value::Null => return,
            Value::Object(doc) if doc.is_empty() => return,
            _ => return self.invalid.put(&place, kind.name, "expected an array".into()),
        };
        for (at, entry) in entries.into_iter().enumerate() {
            pace::step();
            let mut place = place.clone();
            place.push(Step::List(kind.name));
            place.push(Step::At(at));
            match entry {
                Value::Object(doc) => self.item(kind, doc, place, parent),
                _ => self.invalid.put_at(&place, "expected a record".into()),
            }
        }
    }

    fn item(&mut self, kind: Kind, mut input: Doc, place: Vec<Step>, parent: Option<(&'static str, usize)>) {
        self.comments(&mut input, &place);
        let at = self.items.len();
        let nested: Vec<_> =
            children(kind).filter_map(|(child, field)| Some((child, field, input.remove(child.name)?))).collect();
        self.items.push(Item { kind, place: place.clone(), input, parent, id: Uuid::nil() });
        for (child, field, list) in nested {
            self.list(child, list, place.clone(), Some((field, at)));
        }
    }

    /// Orders by kind and keeps the indices of parents right.
    fn sort(&mut self) {
        let mut by_kind: Vec<(Kind, Vec<(usize, Item)>)> = Kind::all().iter().map(|kind| (*kind, Vec::new())).collect();
        let mut moved = vec![0; self.items.len()];
        for (from, item) in self.items.drain(..).enumerate() {
            pace::step();
            if let Some((_, of_kind)) = by_kind.iter_mut().find(|(kind, _)| *kind == item.kind) {
                of_kind.push((from, item));
            }
        }
        for (from, item) in by_kind.into_iter().flat_map(|(_, of_kind)| of_kind) {
            pace::step();
            if let Some(to) = moved.get_mut(from) {
                *to = self.items.len();
            }
            self.items.push(item);
        }
        for item in &mut self.items {
            pace::step();
            item.parent = item.parent.and_then(|(field, at)| Some((field, *moved.get(at)?)));
        }
    }
}

/// Kinds that may be listed inside an entity of `kind`. A field of the same name is that field.
fn children(kind: Kind) -> impl Iterator<Item = (Kind, &'static str)> {
    Kind::all().iter().copied().filter(move |child| kind.field(child.name).is_none()).filter_map(move |child| {
        let refers = |of: &str| of == kind.name;
        let fields: &'static [_] = child.fields;
        let field = fields.iter().find(|field| matches!(field.kind, Type::Foreign { kind, .. } if refers(kind)))?;
        Some((child, field.name))
    })
}

/// Formats before 3.0 told a regex from a plain path by its characters; 3.0 marks it with `~`.
fn mark_regex_paths(item: &mut Item) {
    if item.kind != Kind::ROUTES {
        return;
    }
    let Some(Value::Array(paths)) = item.input.get_mut("paths") else { return };
    for path in paths {
        if let Value::String(text) = path
            && !text.starts_with('~')
            && !text.chars().all(is_plain)
        {
            text.insert(0, '~');
        }
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '~' | '/' | '%')
}
