//! The vocabulary: what kinds of entities there are, and every rule about one.
//!
//! A kind is declared once (`Declaration`), and that declaration drives coercion, validation with Kong's
//! messages, defaults, `/schemas/*`, unique keys and references. Nothing outside this module knows an entity
//! by name, except the typed structs' readers on the request path.

pub mod catalog;
pub mod check;
pub mod declarative;
pub mod declare;
pub mod fields;
pub mod foreign;
pub mod form;
pub mod format;
pub mod literal;
mod packed;
pub mod parcel;
pub mod path;
pub mod problem;
pub mod rules;
pub mod schema;
pub mod shape;
pub mod shorthand;
pub mod stranger;
pub mod write;

pub mod consumer;
pub mod keyauth_credential;
pub mod plugin;
pub mod route;
pub mod service;
pub mod strict_weights;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidegate_proto::Stamp;
use uuid::Uuid;

use crate::entity::declare::{Declaration, Type};

/// An entity's members, in the order of its declaration once checked.
pub type Doc = Map<String, Value>;

/// A handle to a kind's declaration. Two handles are equal when they name the same kind.
#[derive(Clone, Copy)]
pub struct Kind(&'static Declaration);

/// Every kind, referenced kinds before those that refer to them.
static KINDS: &[Kind] = &[
    Kind(&service::DECLARATION),
    Kind(&route::DECLARATION),
    Kind(&consumer::DECLARATION),
    Kind(&plugin::DECLARATION),
    Kind(&keyauth_credential::DECLARATION),
    Kind(&strict_weights::DECLARATION),
];

impl Kind {
    pub const SERVICES: Kind = Kind(&service::DECLARATION);
    pub const ROUTES: Kind = Kind(&route::DECLARATION);
    pub const CONSUMERS: Kind = Kind(&consumer::DECLARATION);
    pub const PLUGINS: Kind = Kind(&plugin::DECLARATION);
    pub const KEYAUTH_CREDENTIALS: Kind = Kind(&keyauth_credential::DECLARATION);
    pub const STRICT_WEIGHTS: Kind = Kind(&strict_weights::DECLARATION);

    /// Every kind, referenced kinds before those that refer to them.
    pub fn all() -> &'static [Kind] {
        KINDS
    }

    /// What the handle stands for, for as long as the program runs.
    pub fn declaration(self) -> &'static Declaration {
        self.0
    }

    /// By internal plural name: `services`, `keyauth_credentials`.
    pub fn named(name: &str) -> Option<Kind> {
        KINDS.iter().copied().find(|kind| kind.name == name)
    }
}

impl Deref for Kind {
    type Target = Declaration;

    fn deref(&self) -> &Declaration {
        self.0
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

impl PartialOrd for Kind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(other.name)
    }
}

impl Hash for Kind {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A durable object, whole and checked, kept packed: a tree takes fifty times the memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Entity {
    kind: Kind,
    id: Uuid,
    packed: Box<[u8]>,
}

impl Entity {
    /// From a document that `write::prepare` made, or that a store or a peer kept since.
    /// `None` when it has no usable `id`.
    pub fn from_doc(kind: Kind, doc: &Doc) -> Option<Self> {
        let id = doc.get("id")?.as_str()?.parse().ok()?;
        Some(Self { kind, id, packed: packed::pack(kind, doc) })
    }

    /// From stored JSON text; `None` when it is not an object with an `id`.
    pub fn from_text(kind: Kind, text: &str) -> Option<Self> {
        Self::from_doc(kind, &serde_json::from_str::<Doc>(text).ok()?)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The document as JSON text.
    pub fn text(&self) -> String {
        packed::text(self.kind, &self.packed)
    }

    /// What of the document the catalog finds it by: unique members, references and tags, and what is not declared.
    pub fn indexed(&self) -> Doc {
        let together = self.kind.unique_together;
        packed::part(self.kind, &self.packed, |field| {
            let refers = matches!(field.kind, Type::Foreign { .. });
            field.unique || refers || field.name == "tags" || together.contains(&field.name)
        })
    }

    /// Whether a text of the document may hold U+0000. False is certain.
    pub fn may_hold_null_character(&self) -> bool {
        memchr::memmem::find(&self.packed, b"\\u0000").is_some()
    }

    /// The document as a tree.
    pub fn doc(&self) -> Doc {
        serde_json::from_str(&self.text()).unwrap_or_default()
    }
}

/// One step of history: an entity's new state, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub kind: Kind,
    pub id: Uuid,
    /// `None`: the entity is gone.
    pub entity: Option<Arc<Entity>>,
}

/// A step of history where several nodes write: of two about one entity, the one with the greater stamp stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    pub change: Change,
    pub stamp: Stamp,
}

/// A foreign key as documents hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Reference {
    pub id: Uuid,
}
