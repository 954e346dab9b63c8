//! What can be wrong with a write or a read of entities, as values, and the JSON body that says so.
//!
//! `admin` adds the HTTP status. Bodies are made here and not there, because the declarative loader and the `config`
//! commands say the same things without HTTP.

use std::borrow::Cow;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::entity::literal::{block, line, sorted};
use crate::entity::{Doc, Kind};

/// Why an entity could not be read or written: Kong's error codes as types (the number is Kong's `code`).
#[derive(Clone, Debug, PartialEq)]
pub enum Rejection {
    /// 1: a path segment that had to be a UUID is none.
    InvalidPrimaryKey,
    /// 2
    Schema(Violations),
    /// 3: the id exists.
    PrimaryKeyTaken { id: Uuid },
    /// 4: a reference to nothing.
    DanglingReference { field: &'static str, kind: &'static str, id: Uuid },
    /// 4: the entity is still referenced by one of `by`.
    StillReferenced { kind: Kind, by: Kind },
    /// 5: another entity has this key; the members that make it, null for an unset one.
    UniqueTaken { key: Doc },
    /// 6: no entity with this key (`id` or the endpoint key).
    NotFound { key: Doc },
    /// 7
    InvalidOffset { offset: String, why: String },
    /// 9
    InvalidSize { message: String },
    /// 10: a path segment that cannot be a value of the endpoint key.
    InvalidKey { field: &'static str, message: String },
    /// 11: option name and complaint.
    InvalidOptions(Vec<(&'static str, String)>),
    /// 12
    Unsupported { message: String },
    /// 13: foreign keys given by another field than `id` that found nothing: (field, its sub-field, text).
    Unresolved(Vec<(&'static str, String, String)>),
}

/// The tree of schema violations of one document (code 2).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Violations {
    /// Rules over several fields, in the order of their declaration.
    pub entity: Vec<String>,
    /// Mirrors the input: text for a leaf, objects for records and foreign keys, arrays (with null for good
    /// elements) for lists.
    pub fields: Doc,
}

impl Rejection {
    /// Kong's `code`.
    pub fn code(&self) -> u8 {
        match self {
            Self::InvalidPrimaryKey => 1,
            Self::Schema(_) => 2,
            Self::PrimaryKeyTaken { .. } => 3,
            Self::DanglingReference { .. } | Self::StillReferenced { .. } => 4,
            Self::UniqueTaken { .. } => 5,
            Self::NotFound { .. } => 6,
            Self::InvalidOffset { .. } => 7,
            Self::InvalidSize { .. } => 9,
            Self::InvalidKey { .. } => 10,
            Self::InvalidOptions(_) => 11,
            Self::Unsupported { .. } => 12,
            Self::Unresolved(_) => 13,
        }
    }

    /// Kong's `name`.
    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::InvalidPrimaryKey => "invalid primary key",
            Self::Schema(_) => "schema violation",
            Self::PrimaryKeyTaken { .. } => "primary key violation",
            Self::DanglingReference { .. } | Self::StillReferenced { .. } => "foreign key violation",
            Self::UniqueTaken { .. } => "unique constraint violation",
            Self::NotFound { .. } => "not found",
            Self::InvalidOffset { .. } => "invalid offset",
            Self::InvalidSize { .. } => "invalid size",
            Self::InvalidKey { field, .. } => return Cow::Owned(format!("invalid unique {field}")),
            Self::InvalidOptions(_) => "invalid options",
            Self::Unsupported { .. } => "operation unsupported",
            Self::Unresolved(_) => "foreign keys unresolved",
        })
    }

    /// Kong's `message`.
    pub fn message(&self) -> String {
        match self {
            Self::InvalidPrimaryKey => r#"invalid primary key: '{id="expected a valid UUID"}'"#.to_owned(),
            Self::Schema(violations) => violations.message(),
            Self::PrimaryKeyTaken { id } => format!("primary key violation on key '{}'", id_literal(id)),
            Self::DanglingReference { kind, id, .. } => {
                format!("the foreign key '{}' does not reference an existing '{kind}' entity.", id_literal(id))
            }
            Self::StillReferenced { kind, by } => format!("an existing '{by}' entity references this '{kind}' entity"),
            Self::UniqueTaken { key } => format!("UNIQUE violation detected on '{}'", doc_line(key)),
            Self::NotFound { key } => {
                let by = if key.contains_key("id") { "primary key " } else { "" };
                format!("could not find the entity with {by}'{}'", doc_line(key))
            }
            Self::InvalidOffset { offset, why } => format!("'{offset}' is not a valid offset: {why}"),
            Self::InvalidSize { message } | Self::InvalidKey { message, .. } | Self::Unsupported { message } => {
                message.clone()
            }
            Self::InvalidOptions(options) => {
                let items = options.iter().map(|(name, text)| format!("{name}: {text}")).collect();
                counted(items, "invalid option", "option violations")
            }
            Self::Unresolved(names) => {
                let items = names.iter().map(|(field, sub, text)| format!("{field}.{sub}: {text}")).collect();
                counted(items, "foreign key unresolved", "foreign keys unresolved")
            }
        }
    }

    /// The response body: `code`, `name`, `message` and, where there are some, `fields` (or `options`).
    pub fn body(&self) -> Doc {
        let mut body = Doc::new();
        body.insert("message".to_owned(), self.message().into());
        body.insert("name".to_owned(), self.name().into());
        if let Some((member, details)) = self.details() {
            body.insert(member.to_owned(), Value::Object(details));
        }
        body.insert("code".to_owned(), self.code().into());
        body
    }

    fn details(&self) -> Option<(&'static str, Doc)> {
        let details = match self {
            Self::InvalidPrimaryKey => one("id", "expected a valid UUID"),
            Self::Schema(violations) => violations.clone().into_doc(),
            Self::PrimaryKeyTaken { id } => one("id", id.to_string()),
            Self::DanglingReference { field, id, .. } => one(field, json!({"id": id.to_string()})),
            Self::StillReferenced { by, .. } => one("@referenced_by", by.name),
            Self::UniqueTaken { key } | Self::NotFound { key } => key.clone(),
            Self::InvalidOptions(options) => {
                let options = options.iter().map(|(name, text)| ((*name).to_owned(), text.as_str().into()));
                return Some(("options", options.collect()));
            }
            Self::Unresolved(names) => {
                let mut fields = Doc::new();
                for (field, sub, text) in names {
                    let entry = fields.entry(*field).or_insert_with(|| Value::Object(Doc::new()));
                    entry[sub.as_str()] = text.as_str().into();
                }
                fields
            }
            Self::InvalidOffset { .. }
            | Self::InvalidSize { .. }
            | Self::InvalidKey { .. }
            | Self::Unsupported { .. } => return None,
        };
        Some(("fields", details))
    }
}

impl Violations {
    /// As Kong's `fields`: the tree, with `@entity` where rules over several fields were broken.
    pub fn into_doc(self) -> Doc {
        let mut doc = self.fields;
        if !self.entity.is_empty() {
            doc.insert("@entity".to_owned(), self.entity.into());
        }
        doc
    }

    /// Rules first, then fields by name; one level of nesting is flattened, what lies deeper is printed as a block.
    pub fn message(&self) -> String {
        let mut items = self.entity.clone();
        for (field, problem) in sorted(&self.fields) {
            match problem {
                Value::Object(subs) => {
                    items.extend(sorted(subs).into_iter().map(|(sub, text)| format!("{field}.{sub}: {}", said(text))));
                }
                Value::Array(list) => {
                    let bad = list.iter().enumerate().filter(|(_, item)| !item.is_null());
                    items.extend(bad.map(|(at, item)| format!("{field}.{}: {}", at + 1, said(item))));
                }
                text => items.push(format!("{field}: {}", said(text))),
            }
        }
        counted(items, "schema violation", "schema violations")
    }

    pub fn is_empty(&self) -> bool {
        self.entity.is_empty() && self.fields.is_empty()
    }

    /// One field, one text.
    pub fn field(name: &str, text: impl Into<String>) -> Self {
        let mut fields = Doc::new();
        fields.insert(name.to_owned(), Value::String(text.into()));
        Self { entity: Vec::new(), fields }
    }
}

fn said(problem: &Value) -> String {
    problem.as_str().map_or_else(|| block(problem), str::to_owned)
}

fn counted(items: Vec<String>, one: &str, many: &str) -> String {
    match &items[..] {
        [item] => format!("{one} ({item})"),
        _ => format!("{} {many} ({})", items.len(), items.join("; ")),
    }
}

fn one(name: &str, value: impl Into<Value>) -> Doc {
    Doc::from_iter([(name.to_owned(), value.into())])
}

fn id_literal(id: &Uuid) -> String {
    line(&json!({"id": id.to_string()}))
}

fn doc_line(doc: &Doc) -> String {
    line(&Value::Object(doc.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);

    fn check(rejection: Rejection, expected: Value) {
        assert_eq!(Value::Object(rejection.body()), expected);
    }

    fn violations(entity: &[&str], fields: Value) -> Rejection {
        let Value::Object(fields) = fields else { panic!("not an object") };
        Rejection::Schema(Violations { entity: entity.iter().map(|&text| text.to_owned()).collect(), fields })
    }

    #[test]
    fn keys_that_are_wrong_taken_or_missing() {
        let id = ID.to_string();
        check(
            Rejection::InvalidPrimaryKey,
            json!({"code": 1, "name": "invalid primary key", "fields": {"id": "expected a valid UUID"},
                "message": "invalid primary key: '{id=\"expected a valid UUID\"}'"}),
        );
        check(
            Rejection::PrimaryKeyTaken { id: ID },
            json!({"code": 3, "name": "primary key violation", "fields": {"id": id},
                "message": format!("primary key violation on key '{{id=\"{id}\"}}'")}),
        );
        check(
            Rejection::NotFound { key: one("id", id.as_str()) },
            json!({"code": 6, "name": "not found", "fields": {"id": id},
                "message": format!("could not find the entity with primary key '{{id=\"{id}\"}}'")}),
        );
        check(
            Rejection::NotFound { key: one("username", "bob") },
            json!({"code": 6, "name": "not found", "fields": {"username": "bob"},
                "message": "could not find the entity with '{username=\"bob\"}'"}),
        );
        check(
            Rejection::InvalidKey { field: "name", message: "bad".to_owned() },
            json!({"code": 10, "name": "invalid unique name", "message": "bad"}),
        );
    }

    #[test]
    fn references() {
        let id = ID.to_string();
        check(
            Rejection::DanglingReference { field: "service", kind: "services", id: ID },
            json!({"code": 4, "name": "foreign key violation", "fields": {"service": {"id": id}},
                "message": format!("the foreign key '{{id=\"{id}\"}}' does not reference an existing 'services' entity.")}),
        );
        check(
            Rejection::StillReferenced { kind: Kind::SERVICES, by: Kind::ROUTES },
            json!({"code": 4, "name": "foreign key violation", "fields": {"@referenced_by": "routes"},
                "message": "an existing 'routes' entity references this 'services' entity"}),
        );
        let text = "the foreign key cannot be resolved with '{name=\"x\"}' for an existing 'services' entity";
        check(
            Rejection::Unresolved(vec![("service", "name".to_owned(), text.to_owned())]),
            json!({"code": 13, "name": "foreign keys unresolved", "fields": {"service": {"name": text}},
                "message": format!("foreign key unresolved (service.name: {text})")}),
        );
    }

    #[test]
    fn unique_keys_and_options() {
        let Value::Object(key) = json!({"name": "cors", "route": null, "service": {"id": "s"}, "consumer": null})
        else {
            unreachable!()
        };
        check(
            Rejection::UniqueTaken { key: key.clone() },
            json!({"code": 5, "name": "unique constraint violation", "fields": key,
                "message": "UNIQUE violation detected on '{consumer=null,name=\"cors\",route=null,service={id=\"s\"}}'"}),
        );
        check(
            Rejection::InvalidOptions(vec![("ttl", "must be an integer between 0 and 100000000".to_owned())]),
            json!({"code": 11, "name": "invalid options",
                "options": {"ttl": "must be an integer between 0 and 100000000"},
                "message": "invalid option (ttl: must be an integer between 0 and 100000000)"}),
        );
        let two = Rejection::InvalidOptions(vec![("a", "x".to_owned()), ("b", "y".to_owned())]);
        assert_eq!(two.message(), "2 option violations (a: x; b: y)");
    }

    #[test]
    fn violations_are_counted_and_flattened_once() {
        let rows = [
            (
                violations(&[], json!({"host": "required field missing"})),
                "schema violation (host: required field missing)",
            ),
            (
                violations(&["rule"], json!({"port": "b", "colour": "a"})),
                "3 schema violations (rule; colour: a; port: b)",
            ),
            (violations(&[], json!({"paths": [null, "bad"]})), "schema violation (paths.2: bad)"),
            (violations(&[], json!({"service": {"id": "x"}})), "schema violation (service.id: x)"),
            (
                violations(&[], json!({"config": {"redis": {"foo": "unknown field", "port": "expected an integer"}}})),
                "schema violation (config.redis: {\n  foo = \"unknown field\",\n  port = \"expected an integer\"\n})",
            ),
        ];
        for (rejection, expected) in rows {
            assert_eq!(rejection.message(), expected);
        }
        check(
            violations(&["rule"], json!({"a": "b"})),
            json!({"code": 2, "name": "schema violation", "message": "2 schema violations (rule; a: b)",
                "fields": {"a": "b", "@entity": ["rule"]}}),
        );
    }
}
