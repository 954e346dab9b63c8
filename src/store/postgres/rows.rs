//! Entities and changes from rows of the database.

use std::sync::Arc;

use uuid::Uuid;

use crate::entity::{Change, Entity, Kind};

/// An entity from its row. `jsonb` forgets the order of members: it is the declaration's again here.
/// `None` for what is no kind, and for a document that is none.
pub fn entity(kind: &str, text: &str) -> Option<Arc<Entity>> {
    let kind = Kind::of_name(kind)?;
    let mut doc = serde_json::from_str::<crate::entity::Doc>(text).ok()?;
    let declared = kind.fields.iter().filter_map(|field| doc.shift_remove_entry(field.name)).collect::<Vec<_>>();
    let ordered = declared.into_iter().chain(doc).collect();
    Entity::from_doc(kind, &ordered).map(Arc::new)
}

/// A change from its row.
pub fn change(kind: &str, id: Uuid, text: Option<&str>) -> Option<Change> {
    let entity = match text {
        Some(text) => Some(entity(kind, text)?),
        None => None,
    };
    Some(Change { kind: Kind::of_name(kind)?, id, entity })
}
