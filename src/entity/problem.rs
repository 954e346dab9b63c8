//! What can be wrong with a write or a read of entities, as values. `admin` gives each its status and body.

use serde_json::Value;
use uuid::Uuid;

use crate::entity::{Doc, Kind};

/// Why an entity could not be read or written: Kong's error codes as types (the number is Kong's `code`).
#[derive(Clone, Debug, PartialEq)]
pub enum Rejection {
    /// 1: a path segment that had to be a UUID is none.
    InvalidPrimaryKey,
    /// 2
    Schema(Violations),
    /// 3: the id exists.
    PrimaryKeyTaken { id: Uuid },
    /// 4: a reference to nothing.
    DanglingReference { field: &'static str, kind: &'static str, id: Uuid },
    /// 4: the entity is still referenced by one of `by`.
    StillReferenced { kind: Kind, by: Kind },
    /// 5: another entity has this key; the members that make it, null for an unset one.
    UniqueTaken { key: Doc },
    /// 6: no entity with this key (`id` or the endpoint key).
    NotFound { key: Doc },
    /// 7
    InvalidOffset { offset: String, why: String },
    /// 9
    InvalidSize { message: String },
    /// 10: a path segment that cannot be a value of the endpoint key.
    InvalidKey { field: &'static str, message: String },
    /// 11: option name and complaint.
    InvalidOptions(Vec<(&'static str, String)>),
    /// 12
    Unsupported { message: String },
    /// 13: foreign keys given by another field than `id` that found nothing: (field, its sub-field, text).
    Unresolved(Vec<(&'static str, String, String)>),
}

/// The tree of schema violations of one document (code 2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Violations {
    /// Rules over several fields, in the order of their declaration.
    pub entity: Vec<String>,
    /// Mirrors the input: text for a leaf, objects for records and foreign keys, arrays (with null for good
    /// elements) for lists.
    pub fields: Doc,
}

impl Violations {
    pub fn is_empty(&self) -> bool {
        self.entity.is_empty() && self.fields.is_empty()
    }

    /// One field, one text.
    pub fn field(name: &str, text: impl Into<String>) -> Self {
        let mut fields = Doc::new();
        fields.insert(name.to_owned(), Value::String(text.into()));
        Self { entity: Vec::new(), fields }
    }
}
