//! From what a client sent to a document that may be stored: options, shorthands, foreign names, schema, in the order in
//! which Kong complains (`catalog` then adds uniqueness and references).
//!
//! A `ttl` is kept as the moment it ends. Counting seconds down in the store lost: every node would have to write.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::entity::catalog::Draft;
use crate::entity::check;
use crate::entity::declare::{Auto, PluginDeclaration, Plugins, Variants, Written};
use crate::entity::foreign;
use crate::entity::problem::{Rejection, Violations};
use crate::entity::shape::{self, Pattern};
use crate::entity::shorthand;
use crate::entity::{Doc, Entity, Kind};

const TTL: &str = "ttl";
const TTL_MAX_S: i64 = 100_000_000;
/// The internal member that keeps when an entity ends, in Unix seconds. Clients neither see nor send it.
const EXPIRES_AT: &str = "expires_at";

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

/// An entity whose document holds every field of its kind and breaks no rule that one document can break.
///
/// Kept as text from here on: trees of a whole configuration on their way to the catalog cost ten times as much, and what
/// they leave behind is not given back to the system.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked(Arc<Entity>);

impl Checked {
    /// For tests of what comes after the checks.
    #[cfg(test)]
    pub(crate) fn trusted(entity: Entity) -> Self {
        Self(Arc::new(entity))
    }

    pub fn kind(&self) -> Kind {
        self.0.kind()
    }

    pub fn id(&self) -> Uuid {
        self.0.id()
    }

    /// The document as a tree, read from its text.
    pub fn doc(&self) -> Doc {
        self.0.doc()
    }

    pub fn entity(&self) -> &Arc<Entity> {
        &self.0
    }

    pub fn into_entity(self) -> Arc<Entity> {
        self.0
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
    settle(kind, input, &intent, Some(draft), plugins, now_s)
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
    settle(kind, input, &intent, None, plugins, now_s)
}

/// The document as the Admin API shows it at `now_s`: `ttl` as the seconds left, aliases echoed, nothing internal.
pub fn present(kind: Kind, mut doc: Doc, plugins: &Plugins, now_s: i64) -> Doc {
    if kind.ttl {
        let left = expires_at(&doc).map(|end| end.saturating_sub(now_s).max(0));
        doc.shift_remove(EXPIRES_AT);
        doc.insert(TTL.to_owned(), left.into());
    }
    shorthand::echo(kind, plugin_of(kind, &doc, None, plugins), &mut doc);
    doc
}

/// What whoever wrote `doc` should know about it, though it was accepted.
pub fn notices(kind: Kind, doc: &Doc, plugins: &Plugins) -> Vec<&'static str> {
    let config = doc.get("config").and_then(Value::as_object);
    let plugin = plugin_of(kind, doc, None, plugins);
    plugin.zip(config).map(|(plugin, config)| plugin.notices(config).collect()).unwrap_or_default()
}

/// Whether the entity's `ttl` is over at `now_s`. Always false for kinds without one.
pub fn expired(kind: Kind, doc: &Doc, now_s: i64) -> bool {
    kind.ttl && expires_at(doc).is_some_and(|end| end <= now_s)
}

fn settle(
    kind: Kind,
    mut input: Doc,
    intent: &Intent<'_>,
    draft: Option<&Draft<'_>>,
    plugins: &Plugins,
    now_s: i64,
) -> Result<Checked, Rejection> {
    let (stored, updating) = match *intent {
        Intent::Insert | Intent::Replace { .. } => (None, false),
        Intent::Update { stored } => (Some(stored), true),
    };
    let expiry = take_expiry(kind, &mut input, stored, now_s)?;
    input.remove("updated_at");
    let plugin = plugin_of(kind, &input, stored, plugins);
    let stored = stored.map(|stored| base(stored, plugin));
    let stored = stored.as_deref();
    shorthand::expand(kind, plugin, &mut input)
        .map_err(|fields| Rejection::Schema(Violations { entity: Vec::new(), fields }))?;
    if let Some(draft) = draft {
        foreign::resolve(kind, &mut input, draft)?;
    }
    if let Some(rewrite) = kind.rewrite {
        rewrite(&mut input, stored).map_err(Rejection::Schema)?;
    }
    choose_id(&mut input, intent);

    let pattern = Pattern::of(kind, &input, stored, plugin).map_err(Rejection::Schema)?;
    let sent = kind.row_check.map(|_| input.clone());
    let (mut doc, violations) = shape::document(&pattern, input, stored, updating);
    if !violations.is_empty() {
        return Err(Rejection::Schema(violations));
    }
    if let (Some(check), Some(sent), Some(draft)) = (kind.row_check, &sent, draft) {
        check(&Written { sent, doc: &doc, updating }, draft).map_err(Rejection::Schema)?;
    }
    fill_in(kind, &mut doc, now_s);
    if let Some(end) = expiry {
        doc.insert(EXPIRES_AT.to_owned(), end.into());
    }
    let id = doc.get("id").and_then(check::uuid).ok_or(Rejection::InvalidPrimaryKey)?;
    let made = Entity::from_doc(kind, &doc).filter(|made| made.id() == id);
    made.map(|made| Checked(Arc::new(made))).ok_or(Rejection::InvalidPrimaryKey)
}

/// The id that the address says, whatever the body says. Kong lets the body of a PATCH by id write to another row.
fn choose_id(input: &mut Doc, intent: &Intent<'_>) {
    match intent {
        Intent::Insert | Intent::Replace { id: None } => {}
        Intent::Replace { id: Some(id) } => {
            input.insert("id".to_owned(), id.to_string().into());
        }
        Intent::Update { .. } => {
            input.remove("id");
        }
    }
}

/// What a PATCH changes. Kong lays a new plugin's config over that of the old one, and then refuses what is left of it.
fn base<'a>(stored: &'a Doc, plugin: Option<&PluginDeclaration>) -> Cow<'a, Doc> {
    match plugin {
        Some(plugin) if stored.get("name").and_then(Value::as_str) != Some(plugin.name) => {
            let mut stored = stored.clone();
            stored.shift_remove("config");
            Cow::Owned(stored)
        }
        _ => Cow::Borrowed(stored),
    }
}

/// What the server fills in, over null too: an entity has an id, and a key that was generated once is never empty.
fn fill_in(kind: Kind, doc: &mut Doc, now_s: i64) {
    for field in kind.fields {
        let Some(auto) = field.auto else { continue };
        let value = doc.entry(field.name).or_insert(Value::Null);
        match auto {
            Auto::Updated => *value = now_s.into(),
            _ if !value.is_null() => {}
            Auto::Uuid => *value = Uuid::new_v4().to_string().into(),
            Auto::Created => *value = now_s.into(),
            Auto::Secret => *value = secret().into(),
        }
    }
}

/// 32 random letters and digits, from the generator that makes ids.
fn secret() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let fresh = || Uuid::new_v4().into_bytes().into_iter().enumerate();
    // Bytes 6 and 8 of a UUID are not all random; bytes above 247 would favour the first letters.
    let random = std::iter::repeat_with(fresh).flatten().filter(|&(at, byte)| at != 6 && at != 8 && byte < 248);
    random.map(|(_, byte)| char::from(ALPHABET[usize::from(byte % 62)])).take(32).collect()
}

/// When the entity ends (Unix seconds): `ttl` of the body from now on, else what is stored.
fn take_expiry(kind: Kind, input: &mut Doc, stored: Option<&Doc>, now_s: i64) -> Result<Option<i64>, Rejection> {
    if !kind.ttl {
        return Ok(None);
    }
    let Some(ttl) = input.remove(TTL) else { return Ok(stored.and_then(expires_at)) };
    match check::integer(&ttl) {
        _ if ttl.is_null() => Ok(None),
        Some(0) => Ok(None),
        Some(ttl) if (0..=TTL_MAX_S).contains(&ttl) => Ok(Some(now_s.saturating_add(ttl))),
        // Kong: what is no number at all is an internal error there.
        _ => Err(Rejection::InvalidOptions(vec![(TTL, format!("must be an integer between 0 and {TTL_MAX_S}"))])),
    }
}

fn expires_at(doc: &Doc) -> Option<i64> {
    doc.get(EXPIRES_AT)?.as_i64()
}

fn plugin_of(kind: Kind, doc: &Doc, stored: Option<&Doc>, plugins: &Plugins) -> Option<&'static PluginDeclaration> {
    if !matches!(kind.variants, Variants::ByPlugin) {
        return None;
    }
    plugins.named(doc.get("name").or_else(|| stored?.get("name"))?.as_str()?)
}

#[cfg(test)]
mod tests;
