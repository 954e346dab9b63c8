//! A configuration as text: what `GET /config` shows and `config db_export` writes, ready to be loaded again.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::entity::declare::{Plugins, Type};
use crate::entity::write::present;
use crate::entity::{Doc, Entity, Kind};

/// YAML of all `entities`, flat, every field, references as ids. `now_s` (Unix seconds) decides what is left of a `ttl`.
/// `Err`: the text could not be made, which is a bug.
pub fn export(entities: &[Arc<Entity>], plugins: &Plugins, now_s: i64) -> Result<String, String> {
    let mut document = Doc::new();
    document.insert("_format_version".to_owned(), "3.0".into());
    document.insert("_transform".to_owned(), false.into());
    for kind in Kind::all() {
        let of_kind = entities.iter().filter(|entity| entity.kind() == *kind);
        let rows: Vec<Value> = of_kind.map(|entity| row(entity, plugins, now_s)).collect();
        if !rows.is_empty() {
            document.insert(kind.name.to_owned(), json!(rows));
        }
    }
    serde_saphyr::to_string(&document).map_err(|error| error.to_string())
}

fn row(entity: &Entity, plugins: &Plugins, now_s: i64) -> Value {
    let kind = entity.kind();
    let mut doc = present(kind, entity.doc(), plugins, now_s);
    for field in kind.fields {
        if let Type::Foreign { .. } = field.kind
            && let Some(id) = doc.get(field.name).and_then(|reference| reference.get("id")).cloned()
        {
            doc.insert(field.name.to_owned(), id);
        }
    }
    Value::Object(doc)
}
