//! Shorthands: members that stand for others. They are gone before a document is checked, and aliases come back when
//! it is shown.

use serde_json::Value;

use crate::entity::declare::{Field, Meaning, PluginDeclaration, Record, Shorthand, Type};
use crate::entity::shape;
use crate::entity::{Doc, Kind};

/// Replaces every shorthand in `doc`. What is wrong with their values comes back, in the shape of the document.
pub fn expand(kind: Kind, plugin: Option<&'static PluginDeclaration>, doc: &mut Doc) -> Result<(), Doc> {
    let mut problems = Doc::new();
    expand_here(kind.declaration().shorthands, doc, &mut problems);
    for (name, record) in records(kind.declaration().fields, plugin) {
        expand_below(name, record, doc, &mut problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Adds the old names of fields, each with its field's value.
pub fn echo(kind: Kind, plugin: Option<&'static PluginDeclaration>, doc: &mut Doc) {
    echo_here(kind.declaration().shorthands, doc);
    for (name, record) in records(kind.declaration().fields, plugin) {
        echo_below(name, record, doc);
    }
}

fn expand_below(name: &str, record: &'static Record, doc: &mut Doc, problems: &mut Doc) {
    let Some(Value::Object(inner)) = doc.get_mut(name) else { return };
    let mut below = Doc::new();
    expand_here(record.shorthands, inner, &mut below);
    for (name, record) in records(record.fields, None) {
        expand_below(name, record, inner, &mut below);
    }
    if !below.is_empty() {
        problems.insert(name.to_owned(), Value::Object(below));
    }
}

fn expand_here(shorthands: &'static [Shorthand], doc: &mut Doc, problems: &mut Doc) {
    for shorthand in shorthands {
        let Some(mut value) = doc.remove(shorthand.name) else { continue };
        let field = Field { kind: shorthand.kind, ..Field::string(shorthand.name) };
        let taken = shape::settle_alone(&field, &mut value, false).and_then(|()| match &shorthand.meaning {
            Meaning::Expand(_) if value.is_null() => Ok(()),
            Meaning::Expand(expand) => {
                expand(&value, doc);
                Ok(())
            }
            Meaning::Alias { path, .. } => rename(shorthand.name, path, value, doc).map_err(Value::from),
        });
        if let Err(problem) = taken {
            problems.insert(shorthand.name.to_owned(), problem);
        }
    }
}

/// Moves an alias's value to where it is kept now. Null makes way for whatever stands there.
fn rename(old: &str, path: &[&str], value: Value, doc: &mut Doc) -> Result<(), String> {
    match doc_at(doc, path) {
        Some(Value::Null) | None => {}
        Some(_) if value.is_null() => return Ok(()),
        Some(new) if *new != value => {
            let (new, said, path) = (shown(new), shown(&value), path.join("."));
            return Err(format!(
                "both deprecated and new field are used but their values mismatch: {old} = {said} vs {path} = {new}"
            ));
        }
        Some(_) => return Ok(()),
    }
    put(doc, path, value);
    Ok(())
}

fn echo_below(name: &str, record: &'static Record, doc: &mut Doc) {
    let Some(Value::Object(inner)) = doc.get_mut(name) else { return };
    echo_here(record.shorthands, inner);
    for (name, record) in records(record.fields, None) {
        echo_below(name, record, inner);
    }
}

fn echo_here(shorthands: &[Shorthand], doc: &mut Doc) {
    for shorthand in shorthands {
        if let Meaning::Alias { path, .. } = shorthand.meaning {
            let value = doc_at(doc, path).cloned().unwrap_or(Value::Null);
            doc.insert(shorthand.name.to_owned(), value);
        }
    }
}

/// The record fields among `fields`; `config` is the plugin's.
fn records(
    fields: &'static [Field],
    plugin: Option<&'static PluginDeclaration>,
) -> impl Iterator<Item = (&'static str, &'static Record)> {
    fields.iter().filter_map(move |field| match (field.kind, plugin) {
        (Type::Record(_), Some(plugin)) if field.name == "config" => Some((field.name, &plugin.config)),
        (Type::Record(record), _) => Some((field.name, record)),
        _ => None,
    })
}

fn doc_at<'a>(doc: &'a Doc, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(doc.get(*first)?, |value, name| value.get(name))
}

/// Leaves everything as it is where the way there is no record: the field will say so itself.
fn put(doc: &mut Doc, path: &[&str], value: Value) {
    match path {
        [] => {}
        [name] => {
            doc.insert((*name).to_owned(), value);
        }
        [first, rest @ ..] => {
            let inner = doc.entry(*first).or_insert(Value::Null);
            if inner.is_null() {
                *inner = Value::Object(Doc::new());
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
