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

#[cfg(test)]
mod tests {
    use super::*;

    static PLUGIN: PluginDeclaration = PluginDeclaration {
        name: "keys",
        priority: 1,
        config: Record {
            fields: &[
                Field::array("key_names", &Field::string("")).required().default(Literal::Strs(&["apikey"])),
                Field::array("none", &Field::string("")).default(Literal::Strs(&[])),
                Field::record("redis", &REDIS).required(),
            ],
            shorthands: &[Shorthand::alias("redis_port", Type::Integer, &["redis", "port"], "use config.redis.port")],
            rules: &[],
        },
        rules: &[
            Rule::AtLeastOneOf(&["config.a", "config.b"]),
            Rule::when("config.policy", Match::Eq("redis"), "config.redis.port", Match::Required),
            Rule::Custom { name: "", fields: &[], check: |_| Vec::new() },
        ],
        consumer_scope: false,
        protocols: &["grpc", "http"],
        notices: &[],
    };
    static REDIS: Record = Record {
        fields: &[Field::integer("port").default(Literal::Int(6379)).checks(&[Check::GreaterThan(0)])],
        shorthands: &[],
        rules: &[],
    };

    /// The description of `field` of `kind`.
    fn described(kind: Kind, field: &str) -> Value {
        let schema = of_kind(kind);
        let found = schema["fields"].as_array().into_iter().flatten().find_map(|member| member.get(field)).cloned();
        found.unwrap_or_default()
    }

    #[test]
    fn fields_say_type_default_and_checks() {
        let protocols = json!(["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"]);
        let rows = [
            (Kind::SERVICES, "id", json!({"type": "string", "auto": true, "uuid": true, "len_min": 1})),
            (
                Kind::SERVICES,
                "port",
                json!({"type": "integer", "required": true, "default": 80, "between": [0, 65535]}),
            ),
            (Kind::SERVICES, "name", json!({"type": "string", "unique": true, "len_min": 1})),
            (Kind::SERVICES, "client_certificate", json!({"type": "foreign", "reference": "certificates"})),
            (
                Kind::SERVICES,
                "protocol",
                json!({"type": "string", "required": true, "default": "http", "len_min": 1, "one_of": protocols}),
            ),
            (Kind::PLUGINS, "route", json!({"type": "foreign", "reference": "routes", "on_delete": "cascade"})),
            (
                Kind::ROUTES,
                "headers",
                json!({"type": "map", "keys": {"type": "string", "len_min": 1},
                    "values": {"type": "array", "elements": {"type": "string", "len_min": 1}}}),
            ),
        ];
        for (kind, field, expected) in rows {
            assert_eq!(described(kind, field), expected, "{field} of {kind}");
        }
        assert_eq!(described(Kind::SERVICES, "url"), Value::Null);
        assert_eq!(
            described(Kind::ROUTES, "sources")["elements"]["entity_checks"],
            json!([{"at_least_one_of": ["ip", "port"]}])
        );
    }

    #[test]
    fn fields_stand_in_the_order_of_the_declaration() {
        for &kind in Kind::all() {
            let schema = of_kind(kind);
            let names =
                schema["fields"].as_array().into_iter().flatten().filter_map(|field| field.as_object()?.keys().next());
            assert!(names.eq(kind.fields.iter().map(|field| field.name)), "{kind}");
            assert!(schema["entity_checks"].is_array());
        }
    }

    #[test]
    fn rules_are_listed_except_functions() {
        assert_eq!(
            of_kind(Kind::SERVICES)["entity_checks"][0],
            json!({"conditional": {"if_field": "protocol", "if_match": {"one_of": ["tcp", "tls", "udp", "grpc", "grpcs"]},
                "then_field": "path", "then_match": {"eq": null}}})
        );
        assert_eq!(
            of_kind(Kind::ROUTES)["entity_checks"][0]["conditional"]["if_match"],
            json!({"elements": {"not_one_of": ["grpcs", "https", "tls", "tls_passthrough"]}})
        );
        assert_eq!(of_plugin(&PLUGIN)["entity_checks"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_plugin_shows_what_it_changes_and_its_config() {
        let config = json!({
            "type": "record", "required": true,
            "fields": [
                {"key_names": {"type": "array", "elements": {"type": "string", "len_min": 1}, "required": true, "default": ["apikey"]}},
                {"none": {"type": "array", "elements": {"type": "string", "len_min": 1}, "default": []}},
                {"redis": {"type": "record", "required": true, "fields": [{"port": {"type": "integer", "default": 6379, "gt": 0}}]}},
            ],
            "shorthand_fields": [{"redis_port": {"type": "integer", "deprecation": {"message": "use config.redis.port",
                "replaced_with": [{"path": ["redis", "port"]}], "removal_in_version": "4.0"}}}],
        });
        let schema = of_plugin(&PLUGIN);
        assert_eq!(schema["fields"][0], json!({"consumer": {"type": "foreign", "reference": "consumers", "eq": null}}));
        let protocols = json!({"type": "set", "required": true, "default": ["grpc", "grpcs", "http", "https"],
            "elements": {"type": "string", "one_of": ["grpc", "http"], "len_min": 1}});
        assert_eq!(schema["fields"][1]["protocols"], protocols);
        assert_eq!(schema["fields"][2]["config"], config);
        assert_eq!(of_config(&PLUGIN.config)["fields"], config["fields"]);
    }
}
