//! Ids for entities that have none: the same text gives the same ids on every node and at every load.
//!
//! Kong: derives them from a natural key where there is one and rolls dice elsewhere. In a cluster of nodes that read
//! the same file dice would make as many configurations as nodes, so there the entity's content is its key.

use std::collections::HashMap;
use std::fmt::Write;

use serde_json::Value;
use uuid::Uuid;

use crate::entity::declarative::walk::Item;
use crate::pace;

/// Kong's namespace for ids of declarative entities.
const BASE: Uuid = Uuid::from_u128(0xfd02801f_0957_4a15_a55a_c8d9606f30b5);

/// Gives every item its id: the one it states, or a derived one. Parents come first in `items`.
pub(super) fn assign(items: &mut [Item]) {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for at in 0..items.len() {
        pace::step();
        let (before, rest) = items.split_at_mut(at);
        let Some(item) = rest.first_mut() else { return };
        let stated = item.input.get("id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok());
        item.id = stated.unwrap_or_else(|| {
            let parent = item.parent.and_then(|(field, at)| Some((field, before.get(at)?.id)));
            let key = natural_key(item, parent).unwrap_or_else(|| {
                let content = content_key(item, parent);
                let repeats = seen.entry(format!("{} {content}", item.kind)).or_default();
                *repeats += 1;
                format!("{content}#{repeats}")
            });
            id_of(item.kind.name, &key)
        });
    }
}

fn id_of(kind: &str, key: &str) -> Uuid {
    Uuid::new_v5(&Uuid::new_v5(&BASE, kind.as_bytes()), key.as_bytes())
}

/// Kong: `KIND:*:PART:PART…` of the fields that identify an entity (`*` stands where the workspace is), or the value of
/// its endpoint key.
fn natural_key(item: &Item, parent: Option<(&str, Uuid)>) -> Option<String> {
    let kind = item.kind;
    if kind.cache_key.is_empty() {
        let name = item.input.get(kind.endpoint_key?)?.as_str()?;
        return Some(name.to_owned());
    }
    let mut key = format!("{kind}:*");
    for name in kind.cache_key {
        let part = match (parent, item.input.get(*name)) {
            (Some((field, id)), _) if field == *name => id.to_string(),
            (_, Some(Value::String(text))) => text.clone(),
            (_, Some(Value::Object(reference))) => reference.get("id")?.as_str()?.to_owned(),
            (_, None | Some(Value::Null)) => {
                let field = kind.field(name)?;
                if field.required || field.auto.is_some() {
                    return None;
                }
                String::new()
            }
            _ => return None,
        };
        let _ = write!(key, ":{part}");
    }
    Some(key)
}

fn content_key(item: &Item, parent: Option<(&str, Uuid)>) -> String {
    let mut key = String::from("content:");
    if let Some((field, id)) = parent {
        let _ = write!(key, "{field}={id}:");
    }
    canonical(&Value::Object(item.input.clone()), &mut key);
    key
}

/// JSON with members in alphabetical order.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(doc) => {
            let mut members: Vec<_> = doc.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            out.push('{');
            for (name, value) in members {
                let _ = write!(out, "{}:", Value::from(name.as_str()));
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        leaf => {
            let _ = write!(out, "{leaf}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_kong_derives() {
        let check = |kind, key, id: &str| assert_eq!(id_of(kind, key).to_string(), id, "{kind} {key}");
        check("services", "my-service", "0855b320-0dd2-547d-891d-601e9b38647f");
        check("routes", "my-route", "481a9539-f49c-51b6-b2e2-fe99ee68866c");
        check("consumers", "bobo", "a331738c-d6d9-595e-a2cf-9cad8a78d622");
        check("upstreams", "foo", "fd56258d-1040-5e29-a78a-8f4d9082ec6f");
        check("key_sets", "ks", "27667a42-60c3-58a6-98a9-1ce7ab79e2d7");
        check(
            "plugins",
            "plugins:*:file-log::0855b320-0dd2-547d-891d-601e9b38647f:",
            "ff5af6e2-7c22-5b6c-834e-594211031e23",
        );
        check("basicauth_credentials", "basicauth_credentials:*:bb", "1c975909-6221-5238-9017-39c0523810f2");
        check("vaults", "vaults:*:vv", "16869250-c08d-5a58-998d-2950c813a3cf");
    }
}
