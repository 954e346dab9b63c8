//! Declarations as the JSON of `/schemas/*`.
//!
//! Kong's tools read defaults, types and references here. What Kong expresses by functions it leaves out, and so do we.

use serde_json::{Value, json};

use crate::entity::declare::{
    Check, Field, Literal, Match, Meaning, OnDelete, PluginDeclaration, Record, Rule, Shorthand, Type,
};
use crate::entity::{Doc, Kind};

/// `GET /schemas/{kind}`: `{"fields": [...], "entity_checks": [...]}`.
pub fn of_kind(kind: Kind) -> Value {
    json!({"fields": fields(kind.fields), "entity_checks": entity_checks(kind.rules)})
}

/// `GET /schemas/plugins/{name}`.
pub fn of_plugin(plugin: &PluginDeclaration) -> Value {
    let mut members = Vec::new();
    if !plugin.consumer_scope {
        members.push(json!({"consumer": {"type": "foreign", "reference": "consumers", "eq": null}}));
    }
    let default = Kind::PLUGINS.field("protocols").and_then(|field| field.default.as_ref()).map(Literal::value);
    members.push(json!({"protocols": {
        "type": "set",
        "required": true,
        "default": default,
        "elements": {"type": "string", "one_of": plugin.protocols, "len_min": 1},
    }}));
    let mut config = json!({"type": "record", "required": true});
    extend(&mut config, record(&plugin.config));
    members.push(json!({"config": config}));
    json!({"fields": members, "entity_checks": entity_checks(plugin.rules)})
}

/// `GET /plugins/schema/{name}`: the config record alone.
pub fn of_config(config: &Record) -> Value {
    Value::Object(record(config))
}

fn fields(fields: &[Field]) -> Value {
    fields.iter().map(|member| named(member.name, field(member))).collect()
}

fn named(name: &str, value: Value) -> Value {
    Value::Object(Doc::from_iter([(name.to_owned(), value)]))
}

fn field(field: &Field) -> Value {
    let mut out = kind(&field.kind);
    let flags = [
        ("required", field.required),
        ("unique", field.unique),
        ("auto", field.auto.is_some()),
        ("referenceable", field.referenceable),
    ];
    for (name, _) in flags.into_iter().filter(|(_, set)| *set) {
        out[name] = true.into();
    }
    if let Some(default) = &field.default {
        out["default"] = default.value();
    }
    if matches!(field.kind, Type::String) {
        out["len_min"] = 1.into();
    }
    for member in field.checks.iter().filter_map(check) {
        extend(&mut out, member);
    }
    out
}

fn kind(kind: &Type) -> Value {
    match kind {
        Type::String => json!({"type": "string"}),
        Type::Integer => json!({"type": "integer"}),
        Type::Number => json!({"type": "number"}),
        Type::Boolean => json!({"type": "boolean"}),
        Type::Array(element) => json!({"type": "array", "elements": field(element)}),
        Type::Set(element) => json!({"type": "set", "elements": field(element)}),
        Type::Map { keys, values } => json!({"type": "map", "keys": field(keys), "values": field(values)}),
        Type::Record(inner) => {
            let mut out = json!({"type": "record"});
            extend(&mut out, record(inner));
            out
        }
        Type::Foreign { kind, on_delete: OnDelete::Restrict } => json!({"type": "foreign", "reference": kind}),
        Type::Foreign { kind, on_delete: OnDelete::Cascade } => {
            json!({"type": "foreign", "reference": kind, "on_delete": "cascade"})
        }
    }
}

fn record(record: &Record) -> Doc {
    let mut out = Doc::from_iter([("fields".to_owned(), fields(record.fields))]);
    let aliases: Vec<Value> = record.shorthands.iter().filter_map(alias).collect();
    if !aliases.is_empty() {
        out.insert("shorthand_fields".to_owned(), aliases.into());
    }
    if !record.rules.is_empty() {
        out.insert("entity_checks".to_owned(), entity_checks(record.rules));
    }
    out
}

fn alias(shorthand: &Shorthand) -> Option<Value> {
    let Meaning::Alias { path, deprecation, removal } = shorthand.meaning else { return None };
    let mut out = kind(&shorthand.kind);
    out["deprecation"] = json!({
        "message": deprecation,
        "replaced_with": [{"path": path}],
        "removal_in_version": removal,
    });
    Some(named(shorthand.name, out))
}

/// `None` for what Kong has a function for.
fn check(check: &Check) -> Option<Doc> {
    let (name, value) = match *check {
        Check::Uuid => ("uuid", true.into()),
        Check::Timestamp => ("timestamp", true.into()),
        Check::Between(low, high) => ("between", json!([low, high])),
        Check::GreaterThan(low) => ("gt", low.into()),
        Check::OneOf(words) => ("one_of", words.into()),
        Check::OneOfInt(numbers) => ("one_of", numbers.into()),
        Check::NotOneOf(words) => ("not_one_of", words.into()),
        Check::LenMin(least) => ("len_min", least.into()),
        Check::LenEq(exact) => ("len_eq", exact.into()),
        Check::Contains(word) => ("contains", word.into()),
        Check::MutuallyExclusiveSubsets(sets) => ("mutually_exclusive_subsets", json!(sets)),
        Check::Format(_) | Check::Custom(_) => return None,
    };
    Some(Doc::from_iter([(name.to_owned(), value)]))
}

fn entity_checks(rules: &[Rule]) -> Value {
    rules.iter().filter_map(rule).collect()
}

fn rule(rule: &Rule) -> Option<Value> {
    Some(match *rule {
        Rule::AtLeastOneOf(fields) => json!({"at_least_one_of": fields}),
        Rule::OnlyOneOf(fields) => json!({"only_one_of": fields}),
        Rule::MutuallyRequired(fields) => json!({"mutually_required": fields}),
        Rule::MutuallyExclusive(fields) => json!({"mutually_exclusive": fields}),
        Rule::Distinct(fields) => json!({"distinct": fields}),
        Rule::Conditional { if_field, ref matches, then_field, ref then, message } => {
            let mut out = json!({
                "if_field": if_field,
                "if_match": matching(matches),
                "then_field": then_field,
                "then_match": matching(then),
            });
            if let Some(message) = message {
                out["then_err"] = message.into();
            }
            json!({"conditional": out})
        }
        Rule::Custom { name: "", .. } => return None,
        Rule::Custom { name, fields, .. } => named(name, json!({"field_sources": fields})),
    })
}

fn matching(matching: &Match) -> Value {
    let checked = |of: &Check| Value::Object(check(of).unwrap_or_default());
    match matching {
        Match::Required => json!({"required": true}),
        Match::Null => json!({"eq": null}),
        Match::Eq(word) => json!({"eq": word}),
        Match::Is(check) => checked(check),
        Match::Each(check) => json!({"elements": checked(check)}),
    }
}

fn extend(out: &mut Value, members: Doc) {
    if let Value::Object(out) = out {
        out.extend(members);
    }
}
