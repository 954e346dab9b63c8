//! What each kind accepts, refuses and fills in. Messages are Kong's, word for word.

#![allow(clippy::unwrap_used)]

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
    prepare_alone(kind, doc(input), Intent::Insert, &plugins(), NOW).map(Checked::into_doc)
}

fn update(kind: Kind, stored: &Doc, input: Value) -> Result<Doc, Rejection> {
    prepare_alone(kind, doc(input), Intent::Update { stored }, &plugins(), NOW + 5).map(Checked::into_doc)
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

mod services {
    use super::*;

    const SERVICES: Kind = Kind::SERVICES;

    #[test]
    fn every_field_is_there_in_order_with_its_default() {
        let stored = insert(SERVICES, json!({"id": ID, "host": "a.test"})).unwrap();
        let expected = json!({
            "id": ID, "created_at": NOW, "updated_at": NOW, "name": null, "retries": 5, "protocol": "http",
            "host": "a.test", "port": 80, "path": null, "connect_timeout": 60000, "write_timeout": 60000,
            "read_timeout": 60000, "tags": null, "client_certificate": null, "tls_verify": null,
            "tls_verify_depth": null, "ca_certificates": null, "enabled": true,
        });
        assert_eq!(serde_json::to_string(&stored).unwrap(), expected.to_string());
    }

    #[test]
    fn wrong_values_each_with_its_text() {
        let service = |name: &str, value: Value| {
            let mut input = doc(json!({"host": "a.test"}));
            input.insert(name.to_owned(), value);
            Value::Object(input)
        };
        let protocols = "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp";
        let rows = [
            ("port", json!(65536), "value should be between 0 and 65535"),
            ("port", json!("80"), "expected an integer"),
            ("port", json!(80.5), "expected an integer"),
            ("port", json!(null), "required field missing"),
            ("retries", json!(-1), "value should be between 0 and 32767"),
            ("connect_timeout", json!(0), "value should be between 1 and 2147483646"),
            ("tags", json!("x"), "expected a set"),
            ("tags", json!({"1": "a", "3": "b"}), "expected a set"),
            ("enabled", json!("yes"), "expected a boolean"),
            ("enabled", json!(null), "required field missing"),
            ("host", json!(5), "expected a string"),
            ("host", json!(""), "length must be at least 1"),
            ("host", json!("a.test:80"), "must not have a port"),
            ("host", json!("http://a"), "invalid value: http://a"),
            ("protocol", json!("ftp"), protocols),
            ("path", json!("base"), "should start with: /"),
            ("name", json!(""), "length must be at least 1"),
            ("url", json!(""), "length must be at least 1"),
            ("url", json!(5), "expected a string"),
            ("colour", json!("red"), "unknown field"),
            ("expires_at", json!(1), "unknown field"),
            ("ttl", json!(1), "unknown field"),
            ("created_at", json!(0), "expected a valid timestamp"),
            ("id", json!("x"), "expected a valid UUID"),
        ];
        for (field, value, text) in rows {
            wrong(SERVICES, service(field, value), field, text.into());
        }
        wrong(SERVICES, service("tags", json!(["ok", null])), "tags", json!([null, "required field missing"]));
        wrong(SERVICES, service("ca_certificates", json!(["x"])), "ca_certificates", json!(["expected a valid UUID"]));
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        refused(
            SERVICES,
            json!({"host": "a.test", "port": "x", "retries": -1, "colour": 1}),
            "3 schema violations (colour: unknown field; port: expected an integer; retries: value should be between 0 and 32767)",
            json!({"colour": "unknown field", "port": "expected an integer", "retries": "value should be between 0 and 32767"}),
        );
        refused(
            SERVICES,
            json!({}),
            "schema violation (host: required field missing)",
            json!({"host": "required field missing"}),
        );
    }

    #[test]
    fn what_is_taken_as_sent_and_what_is_made_normal() {
        accepted(SERVICES, json!({"host": "a", "port": 80.0, "retries": null}), json!({"port": 80, "retries": null}));
        accepted(SERVICES, json!({"host": "a", "tags": ["b", "a", "b"]}), json!({"tags": ["b", "a"]}));
        accepted(SERVICES, json!({"host": "a", "tags": {}, "created_at": 7}), json!({"tags": [], "created_at": 7}));
        accepted(SERVICES, json!({"host": "a", "updated_at": "x", "id": null}), json!({"updated_at": NOW}));
        let upper = ID.to_uppercase();
        accepted(SERVICES, json!({"host": "a", "id": upper}), json!({"id": ID}));
        accepted(
            SERVICES,
            json!({"host": "a", "protocol": "https", "tls_verify_depth": 2}),
            json!({"tls_verify": null}),
        );
    }

    #[test]
    fn a_url_says_all_four_parts() {
        let rows = [
            ("http://o.test:8080/base", json!({"protocol": "http", "host": "o.test", "port": 8080, "path": "/base"})),
            ("https://o.test", json!({"protocol": "https", "host": "o.test", "port": 443, "path": null})),
            ("//o.test:443/x", json!({"protocol": "https", "host": "o.test", "port": 443, "path": "/x"})),
            ("//o.test:80", json!({"protocol": "http", "host": "o.test", "port": 80})),
            ("http://u:p@[::1]:81/a?b#c", json!({"protocol": "http", "host": "::1", "port": 81, "path": "/a"})),
            ("http://o.test/a;b", json!({"host": "o.test", "path": "/a"})),
        ];
        for (url, expected) in rows {
            accepted(SERVICES, json!({"url": url, "host": "ignored.test", "path": "/ignored"}), expected);
        }
        let stored = insert(SERVICES, json!({"url": "http://a"})).unwrap();
        assert!(!stored.contains_key("url"));
        refused(
            SERVICES,
            json!({"url": "not a url"}),
            "2 schema violations (host: required field missing; path: should start with: /)",
            json!({"host": "required field missing", "path": "should start with: /"}),
        );
    }

    #[test]
    fn conditions_complain_twice() {
        let entity = "failed conditional validation given value of field 'protocol'";
        for (input, field) in [
            (json!({"host": "a", "protocol": "tcp", "path": "/x"}), "path"),
            (json!({"host": "a", "tls_verify": true}), "tls_verify"),
            (json!({"host": "a", "client_certificate": {"id": ID}}), "client_certificate"),
        ] {
            refused(
                SERVICES,
                input,
                &format!("2 schema violations ({entity}; {field}: value must be null)"),
                json!({"@entity": [entity], field: "value must be null"}),
            );
        }
    }

    #[test]
    fn a_key_of_an_undeclared_kind_needs_an_id() {
        let service = |key: Value| json!({"host": "a", "protocol": "https", "client_certificate": key});
        accepted(SERVICES, service(json!({"id": ID, "more": 1})), json!({"client_certificate": {"id": ID}}));
        accepted(SERVICES, service(json!(null)), json!({"client_certificate": null}));
        wrong(SERVICES, service(json!({"name": "x"})), "client_certificate", json!({"id": "missing primary key"}));
    }

    #[test]
    fn a_patch_changes_what_it_says() {
        let stored = insert(SERVICES, json!({"id": ID, "host": "a", "retries": 7, "path": "/p", "name": "n"})).unwrap();
        let patched = update(SERVICES, &stored, json!({"url": "https://n.test:9000", "id": Uuid::nil()})).unwrap();
        let mut expected = stored.clone();
        expected.extend(doc(json!({
            "protocol": "https", "host": "n.test", "port": 9000, "path": null, "updated_at": NOW + 5,
        })));
        assert_eq!(patched, expected);
        let rejection = update(SERVICES, &stored, json!({"host": null})).unwrap_err();
        assert_eq!(rejection.message(), "schema violation (host: required field missing)");
    }

    #[test]
    fn a_put_goes_back_to_defaults_under_the_id_it_names() {
        let id = ID.parse().unwrap();
        let intent = Intent::Replace { id: Some(id) };
        let input = doc(json!({"id": Uuid::nil(), "host": "b", "created_at": null}));
        let checked = prepare_alone(SERVICES, input, intent, &plugins(), NOW).unwrap();
        assert_eq!((checked.id(), &checked.doc()["id"], &checked.doc()["retries"]), (id, &json!(ID), &json!(5)));
        assert_eq!(checked.doc()["created_at"], json!(NOW));
        let input = doc(json!({"id": ID, "host": "b"}));
        let checked = prepare_alone(SERVICES, input, Intent::Replace { id: None }, &plugins(), NOW).unwrap();
        assert_eq!(checked.id(), id);
    }
}

mod routes {
    use super::*;

    const ROUTES: Kind = Kind::ROUTES;

    #[test]
    fn every_field_is_there_in_order_with_its_default() {
        let stored = insert(ROUTES, json!({"id": ID, "paths": ["/a"]})).unwrap();
        let expected = json!({
            "id": ID, "created_at": NOW, "updated_at": NOW, "name": null, "protocols": ["http", "https"],
            "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
            "response_buffering": true, "tags": null, "service": null, "snis": null, "sources": null,
            "destinations": null, "methods": null, "hosts": null, "paths": ["/a"], "headers": null,
            "regex_priority": 0, "path_handling": "v0",
        });
        assert_eq!(serde_json::to_string(&stored).unwrap(), expected.to_string());
    }

    #[test]
    fn a_route_needs_something_to_match_on() {
        let rows = [
            (json!({}), "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'"),
            (
                json!({"protocols": ["http"]}),
                "must set one of 'methods', 'hosts', 'headers', 'paths' when 'protocols' is 'http'",
            ),
            (
                json!({"protocols": ["tcp"]}),
                "must set one of 'sources', 'destinations', 'snis' when 'protocols' is 'tcp', 'tls' or 'udp'",
            ),
            (json!({"protocols": ["tls_passthrough"]}), "must set snis when 'protocols' is 'tls_passthrough'"),
            (json!({"protocols": ["grpc"]}), "must set one of 'hosts', 'headers', 'paths' when 'protocols' is 'grpc'"),
            (
                json!({"protocols": ["grpc", "grpcs"], "paths": []}),
                "must set one of 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'grpcs'",
            ),
        ];
        for (input, text) in rows {
            refused(ROUTES, input, &format!("schema violation ({text})"), json!({"@entity": [text]}));
        }
        accepted(ROUTES, json!({"protocols": ["https"], "snis": ["a.test"]}), json!({"snis": ["a.test"]}));
    }

    #[test]
    fn unknown_fields_and_missing_matchers_are_told_together() {
        let text = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
        refused(
            ROUTES,
            json!({"expression": "x"}),
            &format!("2 schema violations ({text}; expression: unknown field)"),
            json!({"@entity": [text], "expression": "unknown field"}),
        );
    }

    #[test]
    fn wrong_values_each_with_its_text() {
        let route = |name: &str, value: Value| {
            let mut input = doc(json!({"paths": ["/a"]}));
            input.insert(name.to_owned(), value);
            Value::Object(input)
        };
        let protocols = "expected one of: grpc, grpcs, http, https, tcp, tls, tls_passthrough, udp";
        let rows = [
            ("paths", json!(["x"]), json!(["should start with: / (fixed path) or ~/ (regex path)"])),
            ("paths", json!(["/ok", "/a//b"]), json!([null, "must not have empty segments"])),
            ("paths", json!("/a"), json!("expected an array")),
            ("hosts", json!(["a.*.test"]), json!(["invalid wildcard: must be placed at leftmost or rightmost label"])),
            ("methods", json!(["get"]), json!(["invalid value: get"])),
            ("headers", json!({"x": "1"}), json!("expected an array")),
            ("headers", json!({"x": [1]}), json!(["expected a string"])),
            ("headers", json!(["x"]), json!("expected a map")),
            (
                "headers",
                json!({"Host": ["a"]}),
                json!("cannot contain 'host' header, which must be specified in the 'hosts' attribute"),
            ),
            ("protocols", json!(["http", "gopher"]), json!([null, protocols])),
            ("protocols", json!(["foo", "http"]), json!([protocols])),
            ("protocols", json!(["gopher"]), json!("unknown type: gopher")),
            ("protocols", json!("http"), json!("expected a set")),
            ("protocols", json!(null), json!("required field missing")),
            (
                "protocols",
                json!(["http", "tcp"]),
                json!("these sets are mutually exclusive: ('http', 'https'), ('tcp', 'tls', 'udp')"),
            ),
            ("path_handling", json!("v2"), json!("expected one of: v0, v1")),
            ("https_redirect_status_code", json!(418), json!("expected one of: 426, 301, 302, 307, 308")),
            ("regex_priority", json!("high"), json!("expected an integer")),
            ("request_buffering", json!("off"), json!("expected a boolean")),
            ("sources", json!([{"port": 1}]), json!("cannot set 'sources' when 'protocols' is 'http' or 'https'")),
            ("service", json!({}), json!({"id": "missing primary key"})),
            ("service", json!("x"), json!({"id": "missing primary key"})),
            ("service", json!({"id": "x"}), json!({"id": "expected a valid UUID"})),
            ("service", json!({"protocol": "http"}), json!({"id": "missing primary key"})),
            ("service", json!({"colour": "red"}), json!({"colour": "unknown field"})),
            ("service", json!({"name": "x"}), json!({"id": "missing primary key"})),
        ];
        for (field, value, text) in rows {
            wrong(ROUTES, route(field, value), field, text);
        }
        refused(
            ROUTES,
            json!({"protocols": [], "paths": ["/a"]}),
            "schema violation (protocols: length must be at least 1)",
            json!({"protocols": "length must be at least 1"}),
        );
    }

    #[test]
    fn snis_want_a_tls_protocol() {
        let text = "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls' or 'tls_passthrough'";
        refused(
            ROUTES,
            json!({"protocols": ["http"], "paths": ["/a"], "snis": ["a.test"]}),
            &format!("2 schema violations ({text}; snis: length must be 0)"),
            json!({"@entity": [text], "snis": "length must be 0"}),
        );
    }

    #[test]
    fn protocols_change_the_other_fields() {
        accepted(ROUTES, json!({"protocols": ["grpc"], "paths": ["/a"]}), json!({"strip_path": false}));
        wrong(
            ROUTES,
            json!({"protocols": ["grpc"], "paths": ["/a"], "strip_path": true}),
            "strip_path",
            json!("cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'"),
        );
        accepted(
            ROUTES,
            json!({"protocols": ["tcp"], "sources": [{"ip": "10.0.0.0/8"}, {"port": 9000}]}),
            json!({"sources": [{"ip": "10.0.0.0/8", "port": null}, {"ip": null, "port": 9000}]}),
        );
        wrong(
            ROUTES,
            json!({"protocols": ["tcp"], "sources": [{"port": 1}], "paths": ["/a"]}),
            "paths",
            json!("cannot set 'paths' when 'protocols' is 'tcp', 'tls', 'tls_passthrough' or 'udp'"),
        );
        wrong(
            ROUTES,
            json!({"protocols": ["tcp"], "sources": [{}]}),
            "sources",
            json!([{"@entity": ["at least one of these fields must be non-empty: 'ip', 'port'"]}]),
        );
    }

    #[test]
    fn what_is_kept_as_sent() {
        let sent = json!({
            "paths": ["/a", "/a"], "hosts": ["B.Test", "B.Test"], "headers": {"X-Env": ["B", "a"]},
            "regex_priority": 9_007_199_254_740_991_i64,
        });
        accepted(ROUTES, sent.clone(), sent);
        accepted(ROUTES, json!({"paths": ["/"], "methods": ["GET", "GET"]}), json!({"methods": ["GET"]}));
        accepted(ROUTES, json!({"paths": ["/"], "headers": []}), json!({"headers": {}}));
    }

    #[test]
    fn a_patch_is_checked_with_what_stands() {
        let stored = insert(ROUTES, json!({"paths": ["/a"], "methods": ["GET"], "tags": ["a"]})).unwrap();
        let patched = update(ROUTES, &stored, json!({"methods": ["PUT"], "tags": null})).unwrap();
        assert_eq!(
            (&patched["methods"], &patched["tags"], &patched["paths"]),
            (&json!(["PUT"]), &json!(null), &json!(["/a"]))
        );
        let patched = update(ROUTES, &stored, json!({"methods": [], "hosts": []})).unwrap();
        assert_eq!((&patched["methods"], &patched["hosts"]), (&json!([]), &json!([])));
        let rejection = update(ROUTES, &stored, json!({"methods": null, "paths": null})).unwrap_err();
        let text = "must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'https'";
        assert_eq!(rejection.message(), format!("schema violation ({text})"));
        let rejection = update(ROUTES, &stored, json!({"protocols": ["grpc"]})).unwrap_err();
        assert_eq!(
            rejection.body()["fields"],
            json!({
                "strip_path": "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'",
                "methods": "cannot set 'methods' when 'protocols' is 'grpc' or 'grpcs'",
            })
        );
    }
}

mod consumers {
    use super::*;

    #[test]
    fn one_of_two_names_is_needed() {
        let text = "at least one of these fields must be non-empty: 'custom_id', 'username'";
        for input in [json!({}), json!({"username": null})] {
            refused(Kind::CONSUMERS, input, &format!("schema violation ({text})"), json!({"@entity": [text]}));
        }
        accepted(Kind::CONSUMERS, json!({"username": "o'neil @ 日本"}), json!({"custom_id": null, "tags": null}));
        let stored = insert(Kind::CONSUMERS, json!({"username": "bob"})).unwrap();
        let rejection = update(Kind::CONSUMERS, &stored, json!({"username": null})).unwrap_err();
        assert_eq!(rejection.message(), format!("schema violation (when updating, {text})"));
    }
}

mod plugin_instances {
    use super::*;

    const PLUGINS: Kind = Kind::PLUGINS;

    #[test]
    fn the_name_is_settled_before_anything_else() {
        refused(
            PLUGINS,
            json!({"config": 5, "colour": 1}),
            "schema violation (name: required field missing)",
            json!({"name": "required field missing"}),
        );
        let text = "plugin 'none' not enabled; add it to the 'plugins' configuration property";
        refused(
            PLUGINS,
            json!({"name": "none", "x": 1}),
            &format!("schema violation (name: {text})"),
            json!({"name": text}),
        );
        wrong(PLUGINS, json!({"name": 5}), "name", json!("expected a string"));
    }

    #[test]
    fn the_config_is_filled_in_to_its_depth() {
        let stored = insert(PLUGINS, json!({"id": ID, "name": "limits", "config": {"minute": 5}})).unwrap();
        let expected = json!({
            "id": ID, "name": "limits", "instance_name": null, "created_at": NOW, "updated_at": NOW, "route": null,
            "service": null, "consumer": null,
            "config": {"minute": 5, "hour": null, "policy": "local", "redis": {"host": null, "port": 6379}, "labels": null},
            "protocols": ["grpc", "grpcs", "http", "https"], "enabled": true, "tags": null,
        });
        assert_eq!(serde_json::to_string(&stored).unwrap(), expected.to_string());
        accepted(
            PLUGINS,
            json!({"name": "keys"}),
            json!({"config": {"key_names": ["apikey"], "hide_credentials": false, "anonymous": null}}),
        );
        let limits = json!({"minute": 0.5, "hour": 10.0, "policy": null});
        let stored = insert(PLUGINS, json!({"name": "limits", "config": limits})).unwrap();
        assert_eq!(stored["config"]["minute"].to_string(), "0.5");
        assert_eq!(stored["config"]["hour"].to_string(), "10");
        assert_eq!(stored["config"]["policy"], json!(null));
    }

    #[test]
    fn what_is_wrong_inside_the_config() {
        let none = "at least one of these fields must be non-empty: 'config.minute', 'config.hour'";
        refused(
            PLUGINS,
            json!({"name": "limits", "config": {"minutes": 1}}),
            &format!("2 schema violations ({none}; config.minutes: unknown field)"),
            json!({"@entity": [none], "config": {"minutes": "unknown field"}}),
        );
        refused(
            PLUGINS,
            json!({"name": "limits", "config": {"minute": 0}}),
            "schema violation (config.minute: value must be greater than 0)",
            json!({"config": {"minute": "value must be greater than 0"}}),
        );
        refused(
            PLUGINS,
            json!({"name": "limits", "config": {"minute": 1, "redis": {"foo": 1, "port": "x"}}}),
            "schema violation (config.redis: {\n  foo = \"unknown field\",\n  port = \"expected an integer\"\n})",
            json!({"config": {"redis": {"foo": "unknown field", "port": "expected an integer"}}}),
        );
        refused(
            PLUGINS,
            json!({"name": "keys", "config": {"key_names": ["ok", "not ok"]}}),
            "schema violation (config.key_names: {\n  [2] = \"bad header name 'not ok', allowed characters are A-Z, a-z, 0-9, '_', and '-'\"\n})",
            json!({"config": {"key_names": [null, "bad header name 'not ok', allowed characters are A-Z, a-z, 0-9, '_', and '-'"]}}),
        );
        wrong(
            PLUGINS,
            json!({"name": "keys", "config": {"key_names": [""]}}),
            "config",
            json!({"key_names": ["length must be at least 1"]}),
        );
        wrong(
            PLUGINS,
            json!({"name": "keys", "config": {"key_names": null}}),
            "config",
            json!({"key_names": "required field missing"}),
        );
        wrong(PLUGINS, json!({"name": "keys", "config": null}), "config", json!("required field missing"));
        wrong(PLUGINS, json!({"name": "keys", "config": "bar"}), "config", json!("expected a record"));
        accepted(PLUGINS, json!({"name": "keys", "config": []}), json!({"enabled": true}));
        let failed = "failed conditional validation given value of field 'config.policy'";
        refused(
            PLUGINS,
            json!({"name": "limits", "config": {"minute": 1, "policy": "redis"}}),
            &format!("2 schema violations ({failed}; config.redis: {{\n  host = \"required field missing\"\n}})"),
            json!({"@entity": [failed], "config": {"redis": {"host": "required field missing"}}}),
        );
        let referenced = json!({"minute": 1, "policy": "redis", "redis": {"host": "{vault://env/host}"}});
        accepted(PLUGINS, json!({"name": "limits", "config": referenced}), json!({"enabled": true}));
    }

    #[test]
    fn a_plugin_says_who_and_what_it_is_for() {
        refused(
            PLUGINS,
            json!({"name": "keys", "consumer": {"id": ID}}),
            "schema violation (consumer: value must be null)",
            json!({"consumer": "value must be null"}),
        );
        accepted(
            PLUGINS,
            json!({"name": "limits", "config": {"hour": 1}, "consumer": {"id": ID}}),
            json!({"consumer": {"id": ID}}),
        );
        wrong(
            PLUGINS,
            json!({"name": "keys", "protocols": ["gopher"]}),
            "protocols",
            json!(["expected one of: grpc, grpcs, http, https"]),
        );
        accepted(PLUGINS, json!({"name": "keys", "protocols": ["https", "https"]}), json!({"protocols": ["https"]}));
    }

    #[test]
    fn a_patch_merges_records_and_brings_no_default_back() {
        let stored = insert(
            PLUGINS,
            json!({"name": "limits", "config": {"minute": 5, "redis": {"host": "r"}, "labels": {"a": "b"}}}),
        )
        .unwrap();
        let patched =
            update(PLUGINS, &stored, json!({"config": {"redis": {"port": 1}, "labels": {"c": "d"}}})).unwrap();
        assert_eq!(
            patched["config"],
            json!({"minute": 5, "hour": null, "policy": "local", "redis": {"host": "r", "port": 1}, "labels": {"c": "d"}})
        );
        let patched = update(PLUGINS, &stored, json!({"config": {"policy": null}})).unwrap();
        assert_eq!(patched["config"]["policy"], json!(null));

        let stored =
            insert(PLUGINS, json!({"name": "keys", "config": {"key_names": ["a"], "hide_credentials": true}})).unwrap();
        let patched = update(PLUGINS, &stored, json!({"config": {"key_names": ["c"]}})).unwrap();
        assert_eq!(patched["config"], json!({"key_names": ["c"], "hide_credentials": true, "anonymous": null}));
        let rejection = update(PLUGINS, &stored, json!({"config": {"hide_credentials": null}})).unwrap_err();
        assert_eq!(rejection.message(), "schema violation (config.hide_credentials: required field missing)");
        for (input, message) in [
            (json!({"foo": "bar"}), "schema violation (foo: unknown field)"),
            (json!({"config": "bar"}), "schema violation (config: expected a record)"),
        ] {
            assert_eq!(update(PLUGINS, &stored, input).unwrap_err().message(), message);
        }
    }

    #[test]
    fn old_names_write_into_new_fields_and_are_shown() {
        let limits = |config: Value| json!({"name": "limits", "config": config});
        let stored = insert(PLUGINS, limits(json!({"minute": 1, "redis_host": "r", "redis_port": 1.0}))).unwrap();
        assert_eq!(stored["config"]["redis"], json!({"host": "r", "port": 1}));
        assert!(stored["config"].get("redis_host").is_none());
        let shown = present(PLUGINS, stored.clone(), &plugins(), NOW);
        assert_eq!((&shown["config"]["redis_host"], &shown["config"]["redis_port"]), (&json!("r"), &json!(1)));

        let again = insert(PLUGINS, limits(shown["config"].clone())).unwrap();
        assert_eq!(again["config"], stored["config"]);
        let kept = insert(PLUGINS, limits(json!({"minute": 1, "redis_host": null, "redis": {"host": "n"}}))).unwrap();
        assert_eq!(kept["config"]["redis"]["host"], json!("n"));
        let patched = update(PLUGINS, &stored, json!({"config": {"redis_host": "s"}})).unwrap();
        assert_eq!(patched["config"]["redis"], json!({"host": "s", "port": 1}));
        refused(
            PLUGINS,
            limits(json!({"redis_host": "o", "redis": {"host": "n"}})),
            "schema violation (config.redis_host: both deprecated and new field are used but their values mismatch: redis_host = o vs redis.host = n)",
            json!({"config": {"redis_host": "both deprecated and new field are used but their values mismatch: redis_host = o vs redis.host = n"}}),
        );
        wrong(PLUGINS, limits(json!({"redis_port": "x"})), "config", json!({"redis_port": "expected an integer"}));
        wrong(
            PLUGINS,
            limits(json!({"minute": 1, "redis_host": "o", "redis": 5})),
            "config",
            json!({"redis": "expected a record"}),
        );
    }
}

mod keys {
    use super::*;

    const KEYS: Kind = Kind::KEYAUTH_CREDENTIALS;

    fn key(input: Value) -> Value {
        let mut input = doc(input);
        input.insert("consumer".to_owned(), json!({"id": ID}));
        Value::Object(input)
    }

    #[test]
    fn a_key_is_made_when_none_is_sent() {
        let made = [json!({}), json!({"key": null})].map(|input| insert(KEYS, key(input)).unwrap());
        for stored in &made {
            let text = stored["key"].as_str().unwrap();
            assert!(text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{text}");
            assert!(!stored.contains_key("updated_at"));
        }
        assert_ne!(made[0]["key"], made[1]["key"]);
    }

    #[test]
    fn wrong_keys() {
        refused(
            KEYS,
            json!({"key": "k"}),
            "schema violation (consumer: required field missing)",
            json!({"consumer": "required field missing"}),
        );
        wrong(KEYS, key(json!({"key": 5})), "key", json!("expected a string"));
        refused(
            KEYS,
            key(json!({"key": "", "colour": 1})),
            "2 schema violations (colour: unknown field; key: length must be at least 1)",
            json!({"colour": "unknown field", "key": "length must be at least 1"}),
        );
    }

    #[test]
    fn a_time_to_live_counts_down_and_ends() {
        let stored = insert(KEYS, key(json!({"ttl": 100, "key": "k"}))).unwrap();
        assert_eq!(stored["expires_at"], json!(NOW + 100));
        let shown = present(KEYS, stored.clone(), &plugins(), NOW + 1);
        assert_eq!((shown.get("ttl"), shown.get("expires_at")), (Some(&json!(99)), None));
        assert!(!expired(KEYS, &stored, NOW + 99));
        assert!(expired(KEYS, &stored, NOW + 100));

        let renamed = update(KEYS, &stored, json!({"key": "n"})).unwrap();
        assert_eq!(renamed["expires_at"], json!(NOW + 100));
        let longer = update(KEYS, &stored, json!({"ttl": 200})).unwrap();
        assert_eq!(longer["expires_at"], json!(NOW + 5 + 200));
        for never in [json!({"ttl": 0}), json!({"ttl": null})] {
            let kept = update(KEYS, &stored, never).unwrap();
            assert_eq!(present(KEYS, kept, &plugins(), NOW)["ttl"], json!(null));
        }
        let forever = insert(KEYS, key(json!({}))).unwrap();
        assert_eq!(present(KEYS, forever.clone(), &plugins(), NOW)["ttl"], json!(null));
        assert!(!expired(KEYS, &forever, i64::MAX));
    }

    #[test]
    fn options_are_refused_first() {
        for ttl in [json!(-1), json!(100_000_001), json!(1.5), json!("x"), json!([])] {
            let rejection = insert(KEYS, json!({"ttl": ttl, "colour": 1})).unwrap_err();
            assert_eq!(rejection.message(), "invalid option (ttl: must be an integer between 0 and 100000000)");
        }
    }
}

mod rows {
    use super::*;

    /// Everything `made`, in one catalog.
    fn catalog(made: &[(Kind, Value)]) -> Catalog {
        let entities = made.iter().map(|(kind, input)| {
            let doc = insert(*kind, input.clone()).unwrap();
            std::sync::Arc::new(crate::entity::Entity::from_doc(*kind, &doc).unwrap())
        });
        Catalog::of(entities, tidegate_proto::Revision::default())
    }

    fn write(catalog: &Catalog, kind: Kind, input: Value, intent: Intent<'_>) -> Result<Doc, Rejection> {
        prepare(kind, doc(input), intent, &Draft::new(catalog, NOW), &plugins(), NOW).map(Checked::into_doc)
    }

    #[test]
    fn foreign_keys_are_found_by_any_unique_field() {
        let catalog = catalog(&[
            (Kind::SERVICES, json!({"id": ID, "name": "s", "host": "a"})),
            (Kind::CONSUMERS, json!({"id": ID, "username": "bob", "custom_id": "c"})),
        ]);
        let route = write(&catalog, Kind::ROUTES, json!({"paths": ["/"], "service": {"name": "s"}}), Intent::Insert);
        assert_eq!(route.unwrap()["service"], json!({"id": ID}));
        for consumer in
            [json!({"username": "bob"}), json!({"custom_id": "c"}), json!({"username": "no", "custom_id": "c"})]
        {
            let key = write(&catalog, Kind::KEYAUTH_CREDENTIALS, json!({"consumer": consumer}), Intent::Insert);
            assert_eq!(key.unwrap()["consumer"], json!({"id": ID}));
        }
    }

    #[test]
    fn a_name_that_finds_nothing_is_told_before_the_schema() {
        let catalog = catalog(&[]);
        let route = json!({"paths": ["bad"], "service": {"name": "no"}});
        let rejection = write(&catalog, Kind::ROUTES, route, Intent::Insert).unwrap_err();
        assert_eq!(
            rejection.message(),
            "foreign key unresolved (service.name: the foreign key cannot be resolved with '{name=\"no\"}' for an existing 'services' entity)"
        );
        let plugin = json!({"name": "none", "service": {"name": "a"}, "route": {"name": "b"}});
        let rejection = write(&catalog, Kind::PLUGINS, plugin, Intent::Insert).unwrap_err();
        assert!(rejection.message().starts_with("2 foreign keys unresolved (route.name: "), "{}", rejection.message());
        let shorthand = json!({"url": "", "client_certificate": {"name": "x"}});
        let rejection = write(&catalog, Kind::SERVICES, shorthand, Intent::Insert).unwrap_err();
        assert_eq!(rejection.message(), "schema violation (url: length must be at least 1)");
        let unusable = json!({"paths": ["/"], "service": {"name": "a b"}});
        let rejection = write(&catalog, Kind::ROUTES, unusable, Intent::Insert).unwrap_err();
        assert_eq!(rejection.code(), 2);
    }

    #[test]
    fn the_protocols_of_a_plugin_meet_those_of_its_route() {
        let other = "11111111-89ab-4cde-8f01-23456789abcd";
        let catalog = catalog(&[
            (Kind::SERVICES, json!({"id": ID, "name": "s", "host": "a"})),
            (Kind::SERVICES, json!({"id": other, "name": "empty", "host": "a"})),
            (Kind::ROUTES, json!({"id": ID, "name": "tcp", "protocols": ["tcp"], "sources": [{"port": 1}]})),
            (Kind::ROUTES, json!({"paths": ["/"], "protocols": ["https"], "service": {"id": ID}})),
        ]);
        let route = "must match the associated route's protocols";
        let service = "must match the protocols of at least one route pointing to this Plugin's service";
        let rows = [
            (json!({"route": {"id": ID}, "protocols": ["http"]}), Some(route)),
            (json!({"route": {"name": "tcp"}, "protocols": ["http"]}), Some(route)),
            (json!({"route": {"id": ID}}), None),
            (json!({"service": {"id": ID}, "protocols": ["http"]}), Some(service)),
            (json!({"service": {"name": "s"}, "protocols": ["https"]}), None),
            (json!({"service": {"id": other}, "protocols": ["http"]}), None),
            (json!({"protocols": ["http"]}), None),
        ];
        for (mut input, expected) in rows {
            input["name"] = "keys".into();
            let said = write(&catalog, Kind::PLUGINS, input.clone(), Intent::Insert).err();
            let expected = expected.map(|text| format!("schema violation (protocols: {text})"));
            assert_eq!(said.map(|rejection| rejection.message()), expected, "{input}");
        }
        let stored = insert(Kind::PLUGINS, json!({"name": "keys", "protocols": ["http"]})).unwrap();
        let moved = |input: Value| write(&catalog, Kind::PLUGINS, input, Intent::Update { stored: &stored });
        assert!(moved(json!({"enabled": false})).is_ok());
        assert_eq!(
            moved(json!({"route": {"id": ID}})).unwrap_err().message(),
            format!("schema violation (protocols: {route})")
        );
    }
}

mod keys_in_paths {
    use super::*;

    #[test]
    fn a_segment_is_checked_before_it_is_looked_up() {
        assert_eq!(check_key(Kind::ROUTES, "foo"), Ok(()));
        assert_eq!(check_key(Kind::CONSUMERS, "any thing"), Ok(()));
        let rejection = check_key(Kind::ROUTES, "foo bar").unwrap_err();
        assert_eq!(
            Value::Object(rejection.body()),
            json!({"code": 10, "name": "invalid unique name",
                "message": "invalid value 'foo bar': the only accepted ascii characters are alphanumerics or ., -, _, and ~"})
        );
        assert_eq!(check_key(Kind::PLUGINS, "").unwrap_err().message(), "length must be at least 1");
    }
}

mod hostile_input {
    use proptest::prelude::*;

    use super::*;

    /// Any JSON whose names are often names of fields.
    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z/.:*%~(\\[]{0,6}".prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::from(ID)),
            Just(Value::from("limits")),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((name(), inner), 0..6).prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    fn name() -> impl Strategy<Value = String> {
        let known: Vec<&'static str> = Kind::all()
            .iter()
            .flat_map(|kind| kind.declaration().fields.iter().map(|field| field.name))
            .chain(["url", "ttl", "redis", "redis_host", "redis_port", "minute", "key_names", "ip"])
            .collect();
        prop_oneof![4 => prop::sample::select(known).prop_map(str::to_owned), 1 => any::<String>()]
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop::sample::select(Kind::all().to_vec())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_document_is_too_strange(
            kind in kind(),
            members in prop::collection::vec((name(), json_value()), 0..8),
            plugin in prop::option::of(Just("limits")),
        ) {
            let mut input: Doc = members.into_iter().collect();
            if let Some(plugin) = plugin {
                input.insert("name".to_owned(), plugin.into());
            }
            match prepare_alone(kind, input.clone(), Intent::Insert, &plugins(), NOW) {
                Ok(checked) => {
                    let stored = checked.into_doc();
                    let again = update(kind, &stored, json!({})).expect("what was accepted is accepted again");
                    prop_assert_eq!(again.keys().collect::<Vec<_>>(), stored.keys().collect::<Vec<_>>());
                    present(kind, stored.clone(), &plugins(), NOW);
                    // Whatever is laid over it is refused or accepted, never fatal.
                    let _ = prepare_alone(kind, input, Intent::Update { stored: &stored }, &plugins(), NOW);
                }
                Err(rejection) => prop_assert!(!rejection.body().is_empty()),
            }
        }
    }
}
