//! What each kind accepts, refuses and fills in. Messages are Kong's, word for word.

#![allow(clippy::unwrap_used)]

mod consumers;
mod hostile_input;
mod keys;
mod other_kinds;
mod plugin_instances;
mod routes;
mod rows;
mod services;

use serde_json::json;

use super::*;
use crate::entity::catalog::Catalog;
use crate::entity::declare::{Check, Field, Literal, Match, Record, Rule, Shorthand, Type};
use crate::entity::format;

const NOW: i64 = 1_700_000_000;
const ID: &str = "01234567-89ab-4cde-8f01-23456789abcd";

/// Every word of the vocabulary that plugins use, in one.
static LIMITS: PluginDeclaration = PluginDeclaration {
    name: "limits",
    priority: 910,
    config: Record {
        fields: &[
            Field::number("minute").checks(&[Check::GreaterThan(0)]),
            Field::number("hour").checks(&[Check::GreaterThan(0)]),
            Field::string("policy").default(Literal::Str("local")).checks(&[Check::OneOf(&["local", "redis"])]),
            Field::record("redis", &REDIS).required(),
            Field::map("labels", &LABEL, &LABEL),
        ],
        shorthands: &[
            Shorthand::alias("redis_host", Type::String, &["redis", "host"], "old"),
            Shorthand::alias("redis_port", Type::Integer, &["redis", "port"], "old"),
        ],
        rules: &[],
    },
    rules: &[
        Rule::AtLeastOneOf(&["config.minute", "config.hour"]),
        Rule::when("config.policy", Match::Eq("redis"), "config.redis.host", Match::Required),
    ],
    consumer_scope: true,
    protocols: &["grpc", "grpcs", "http", "https"],
    notices: &[],
};
static REDIS: Record = Record {
    fields: &[
        Field::string("host").referenceable().checks(&[Check::Format(&format::HOST)]),
        Field::integer("port").default(Literal::Int(6379)).checks(&[Check::Between(0, 65535)]),
    ],
    shorthands: &[],
    rules: &[],
};
static LABEL: Field = Field::string("");

static KEYS: PluginDeclaration = PluginDeclaration {
    name: "keys",
    priority: 1250,
    config: Record {
        fields: &[
            Field::array("key_names", &KEY_NAME).required().default(Literal::Strs(&["apikey"])),
            Field::boolean("hide_credentials").required().default(Literal::Bool(false)),
            Field::string("anonymous"),
        ],
        shorthands: &[],
        rules: &[],
    },
    rules: &[],
    consumer_scope: false,
    protocols: &["grpc", "grpcs", "http", "https"],
    notices: &[],
};
static KEY_NAME: Field = Field::string("").checks(&[Check::Format(&format::HEADER_NAME)]);

fn plugins() -> Plugins {
    Plugins::new([&LIMITS, &KEYS])
}

fn doc(value: Value) -> Doc {
    let Value::Object(doc) = value else { panic!("{value} is no object") };
    doc
}

fn insert(kind: Kind, input: Value) -> Result<Doc, Rejection> {
    prepare_alone(kind, doc(input), Intent::Insert, &plugins(), NOW).map(|checked| checked.doc())
}

fn update(kind: Kind, stored: &Doc, input: Value) -> Result<Doc, Rejection> {
    prepare_alone(kind, doc(input), Intent::Update { stored }, &plugins(), NOW + 5).map(|checked| checked.doc())
}

/// `input` is refused with this message and these fields.
fn refused(kind: Kind, input: Value, message: &str, fields: Value) {
    let rejection = insert(kind, input.clone()).expect_err(&input.to_string());
    assert_eq!(rejection.message(), message, "{input}");
    assert_eq!(rejection.body().get("fields"), Some(&fields), "{input}");
}

/// Each of `fields` (name and text) is wrong with `input`, and nothing else.
fn wrong(kind: Kind, input: Value, field: &str, text: Value) {
    let rejection = insert(kind, input.clone()).expect_err(&input.to_string());
    let body = rejection.body();
    assert_eq!(body["fields"], json!({field: text}), "{input}");
}

fn accepted(kind: Kind, input: Value, expected: Value) {
    let stored = insert(kind, input.clone()).unwrap_or_else(|rejection| panic!("{input}: {}", rejection.message()));
    for (name, value) in doc(expected) {
        assert_eq!(stored[&name], value, "{name} of {input}");
    }
}
