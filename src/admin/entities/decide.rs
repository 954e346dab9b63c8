//! What each write does to a draft: pure, one function per verb, the same for every kind.
//!
//! A write runs inside the store's one transaction, so what it reads is what it changes. Whether entities can be
//! written at all is decided last: Kong answers a wrong body with 400 also when it has no database.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::admin::entities::address::Address;
use crate::entity::catalog::Draft;
use crate::entity::declare::Plugins;
use crate::entity::problem::Rejection;
use crate::entity::write::{Checked, Intent, prepare};
use crate::entity::{Doc, Entity, Kind};

/// What became of a write that no rule refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created(Arc<Entity>),
    Stored(Arc<Entity>),
    Deleted,
    /// Something on the way to the entity is not there.
    Missing,
}

/// Writes entities of one kind into drafts.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub kind: Kind,
    pub plugins: &'a Plugins,
    pub now_s: i64,
    /// Whether the store takes entities one by one.
    pub writable: bool,
}

/// The parent in the path of a nested entity.
#[derive(Debug)]
pub(crate) struct Below {
    pub parent: Kind,
    pub address: Address,
    /// The foreign field of the child.
    pub field: &'static str,
}

/// The child in the path of a parent: `/routes/{route}/service`.
#[derive(Debug)]
pub(crate) struct Above {
    pub child: Kind,
    pub address: Address,
    pub field: &'static str,
}

type Decision = Result<Outcome, Rejection>;

impl Writer<'_> {
    pub(crate) fn insert(&self, draft: &mut Draft<'_>, input: Doc) -> Decision {
        let checked = self.prepare(draft, input, Intent::Insert)?;
        self.may("create", None)?;
        draft.insert(checked).map(Outcome::Created)
    }

    /// PUT: the path's id or key wins over the body's. Kong: a body's `id` counts only when a key creates.
    pub(crate) fn replace(&self, draft: &mut Draft<'_>, address: &Address, mut input: Doc) -> Decision {
        let id = match address {
            Address::Id(id) => Some(*id),
            Address::Key { field, value } => {
                input.insert((*field).to_owned(), Value::String(value.clone()));
                address.find(self.kind, draft).map(|entity| entity.id())
            }
        };
        if id.is_some() {
            input.remove("id");
        }
        let checked = self.prepare(draft, input, Intent::Replace { id })?;
        self.may("create or update", Some(address))?;
        let stored = if id.is_some() { draft.put(checked) } else { draft.insert(checked) };
        stored.map(Outcome::Stored)
    }

    /// PATCH. Kong: a body's `id` moves the write to another row; here the path decides.
    pub(crate) fn update(&self, draft: &mut Draft<'_>, address: &Address, mut input: Doc) -> Decision {
        let stored = address.find(self.kind, draft).ok_or_else(|| Rejection::NotFound { key: address.doc() })?;
        input.remove("id");
        let checked = self.prepare(draft, input, Intent::Update { stored: &stored.doc() })?;
        self.may("update", Some(address))?;
        draft.put(checked).map(Outcome::Stored)
    }

    /// DELETE: deleted is also what was never there.
    pub(crate) fn remove(&self, draft: &mut Draft<'_>, address: &Address) -> Decision {
        if let Some(entity) = address.find(self.kind, draft) {
            self.may("remove", Some(address))?;
            draft.delete(self.kind, entity.id())?;
        }
        Ok(Outcome::Deleted)
    }

    pub(crate) fn insert_below(&self, draft: &mut Draft<'_>, below: &Below, mut input: Doc) -> Decision {
        let Some(parent) = below.find(draft) else { return Ok(Outcome::Missing) };
        refer(&mut input, below.field, parent);
        self.insert(draft, input)
    }

    /// Kong: does not ask whose child it was, so it moves the child.
    pub(crate) fn replace_below(
        &self,
        draft: &mut Draft<'_>,
        below: &Below,
        address: &Address,
        mut input: Doc,
    ) -> Decision {
        let Some(parent) = below.find(draft) else { return Ok(Outcome::Missing) };
        refer(&mut input, below.field, parent);
        self.replace(draft, address, input)
    }

    /// The body may move the child to another parent.
    pub(crate) fn update_below(&self, draft: &mut Draft<'_>, below: &Below, address: &Address, input: Doc) -> Decision {
        match below.child(self.kind, address, draft) {
            Some(child) => self.update(draft, &Address::Id(child.id()), input),
            None => Ok(Outcome::Missing),
        }
    }

    pub(crate) fn remove_below(&self, draft: &mut Draft<'_>, below: &Below, address: &Address) -> Decision {
        match below.child(self.kind, address, draft) {
            Some(child) => self.remove(draft, &Address::Id(child.id())),
            None => Ok(Outcome::Missing),
        }
    }

    /// PUT of a child's parent: replaces it, or makes one and hands it to the child.
    pub(crate) fn replace_above(&self, draft: &mut Draft<'_>, above: &Above, mut input: Doc) -> Decision {
        let Some(child) = above.find(draft) else { return Ok(Outcome::Missing) };
        if let Some(parent) = reference(&child.doc(), above.field) {
            return self.replace(draft, &Address::Id(parent), input);
        }
        input.remove("id");
        let Outcome::Created(parent) = self.insert(draft, input)? else { return Ok(Outcome::Missing) };
        let mut adoption = Doc::new();
        refer(&mut adoption, above.field, parent.id());
        Self { kind: above.child, ..*self }.update(draft, &Address::Id(child.id()), adoption)?;
        Ok(Outcome::Stored(parent))
    }

    pub(crate) fn update_above(&self, draft: &mut Draft<'_>, above: &Above, input: Doc) -> Decision {
        match above.parent(draft) {
            Some(parent) => self.update(draft, &Address::Id(parent), input),
            None => Ok(Outcome::Missing),
        }
    }

    fn prepare(&self, draft: &Draft<'_>, input: Doc, intent: Intent<'_>) -> Result<Checked, Rejection> {
        prepare(self.kind, input, intent, draft, self.plugins, self.now_s)
    }

    fn may(&self, verb: &str, address: Option<&Address>) -> Result<(), Rejection> {
        if self.writable {
            return Ok(());
        }
        let by = match address {
            Some(Address::Key { field, .. }) => format!(" by '{field}'"),
            Some(Address::Id(_)) | None => String::new(),
        };
        let message = format!("cannot {verb} '{}' entities{by} when not using a database", self.kind);
        Err(Rejection::Unsupported { message })
    }
}

impl Below {
    pub(crate) fn find(&self, draft: &Draft<'_>) -> Option<Uuid> {
        self.address.find(self.parent, draft).map(|parent| parent.id())
    }

    /// The child when both are there and belong together.
    pub(crate) fn child(&self, kind: Kind, address: &Address, draft: &Draft<'_>) -> Option<Arc<Entity>> {
        let parent = self.find(draft)?;
        let child = address.find(kind, draft)?;
        (reference(&child.doc(), self.field) == Some(parent)).then_some(child)
    }
}

impl Above {
    fn find(&self, draft: &Draft<'_>) -> Option<Arc<Entity>> {
        self.address.find(self.child, draft)
    }

    pub(crate) fn parent(&self, draft: &Draft<'_>) -> Option<Uuid> {
        reference(&self.find(draft)?.doc(), self.field)
    }
}

fn refer(doc: &mut Doc, field: &str, id: Uuid) {
    doc.insert(field.to_owned(), json!({ "id": id }));
}

fn reference(doc: &Doc, field: &str) -> Option<Uuid> {
    doc.get(field)?.get("id")?.as_str()?.parse().ok()
}
