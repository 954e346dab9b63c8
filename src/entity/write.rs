//! From what a client sent to a document that may be stored: shorthands, foreign names, defaults, schema.
//! Order of complaints is Kong's: options, shorthands, foreign names, schema (`catalog` then adds uniqueness
//! and references).

use uuid::Uuid;

use crate::entity::catalog::Draft;
use crate::entity::declare::Plugins;
use crate::entity::problem::Rejection;
use crate::entity::{Doc, Kind};

/// What a write means to do.
#[derive(Clone, Debug)]
pub enum Intent<'a> {
    /// POST.
    Insert,
    /// PUT: absent fields go back to their defaults. `id` is the entity's, or the one to create.
    Replace { id: Option<Uuid> },
    /// PATCH: `stored` is the base; records merge, everything else is replaced.
    Update { stored: &'a Doc },
}

/// A document that holds every field of its kind and breaks no rule that one document can break.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    kind: Kind,
    id: Uuid,
    doc: Doc,
}

impl Checked {
    /// For documents that were checked before: by another node, or by the store they come from.
    pub(crate) fn trusted(kind: Kind, id: Uuid, doc: Doc) -> Self {
        Self { kind, id, doc }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn id(&self) -> Uuid {
        self.id
    }

    pub fn doc(&self) -> &Doc {
        &self.doc
    }

    pub fn into_doc(self) -> Doc {
        self.doc
    }
}

/// Checks `input` for `intent`. Reads `draft` to resolve foreign names and for rules that need other rows.
/// `now_s` is Unix seconds.
pub fn prepare(
    kind: Kind,
    input: Doc,
    intent: Intent<'_>,
    draft: &Draft<'_>,
    plugins: &Plugins,
    now_s: i64,
) -> Result<Checked, Rejection> {
    let _ = (kind, input, intent, draft, plugins, now_s);
    unimplemented!()
}

/// The rules that need no other row: what `/schemas/{kind}/validate` and the declarative loader check.
/// Foreign keys must be given by id.
pub fn prepare_alone(
    kind: Kind,
    input: Doc,
    intent: Intent<'_>,
    plugins: &Plugins,
    now_s: i64,
) -> Result<Checked, Rejection> {
    let _ = (kind, input, intent, plugins, now_s);
    unimplemented!()
}

/// The document as the Admin API shows it at `now_s`: `ttl` as the seconds left, aliases echoed, nothing internal.
pub fn present(kind: Kind, doc: Doc, plugins: &Plugins, now_s: i64) -> Doc {
    let _ = (kind, plugins, now_s);
    doc
}

/// Whether the entity's `ttl` is over at `now_s`. Always false for kinds without one.
pub fn expired(kind: Kind, doc: &Doc, now_s: i64) -> bool {
    let _ = (kind, doc, now_s);
    false
}
