//! Texts of the declarative format: what they mean, what is wrong with them, and that none of them breaks us.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::entity::declare::{PluginDeclaration, Record};

static KEY_AUTH: PluginDeclaration = PluginDeclaration {
    name: "key-auth",
    priority: 1250,
    config: Record { fields: &[], shorthands: &[], rules: &[] },
    rules: &[],
    consumer_scope: false,
    protocols: &["grpc", "grpcs", "http", "https"],
    notices: &[],
};
static FILE_LOG: PluginDeclaration = PluginDeclaration {
    name: "file-log",
    priority: 9,
    config: Record { fields: &[], shorthands: &[], rules: &[] },
    rules: &[],
    consumer_scope: true,
    protocols: &["grpc", "grpcs", "http", "https"],
    notices: &[],
};

const NOW_S: i64 = 1_700_000_000;
const MY_SERVICE: &str = "0855b320-0dd2-547d-891d-601e9b38647f";
const BOBO: &str = "a331738c-d6d9-595e-a2cf-9cad8a78d622";

fn plugins() -> Plugins {
    Plugins::new([&KEY_AUTH, &FILE_LOG])
}

fn loaded(text: &str) -> Loaded {
    load(text.as_bytes(), &plugins(), NOW_S).unwrap_or_else(|invalid| panic!("{}", invalid.message()))
}

fn refused(text: &str) -> Invalid {
    load(text.as_bytes(), &plugins(), NOW_S).unwrap_err()
}

fn of_kind(loaded: &Loaded, kind: Kind) -> Vec<Doc> {
    loaded.checked.iter().filter(|checked| checked.kind() == kind).map(|checked| checked.doc()).collect()
}

fn check_fields(text: &str, expected: Value) {
    assert_eq!(refused(text).body(false)["fields"], expected, "{text}");
}

#[test]
fn what_is_nested_belongs_to_what_it_is_nested_in() {
    let loaded = loaded(
        "
        _format_version: '3.0'
        _comment: who wrote this
        services:
        - name: my-service
          url: http://a.test/x
          _ignore: [anything]
          plugins:
          - name: file-log
          routes:
          - name: my-route
            paths: [/a]
            plugins:
            - name: key-auth
        consumers:
        - username: bobo
          keyauth_credentials:
          - key: k
        ",
    );
    let kinds: Vec<Kind> = loaded.checked.iter().map(Checked::kind).collect();
    let mut order = kinds.clone();
    order.sort_by_key(|kind| Kind::all().iter().position(|other| other == kind));
    assert_eq!(kinds, order);
    assert_eq!(of_kind(&loaded, Kind::SERVICES)[0]["id"], MY_SERVICE);
    assert_eq!(of_kind(&loaded, Kind::SERVICES)[0]["path"], "/x");
    let route = &of_kind(&loaded, Kind::ROUTES)[0];
    assert_eq!(route["id"], "481a9539-f49c-51b6-b2e2-fe99ee68866c");
    assert_eq!(route["service"], json!({ "id": MY_SERVICE }));
    assert_eq!(of_kind(&loaded, Kind::CONSUMERS)[0]["id"], BOBO);
    assert_eq!(of_kind(&loaded, Kind::KEYAUTH_CREDENTIALS)[0]["consumer"], json!({ "id": BOBO }));
    let plugins = of_kind(&loaded, Kind::PLUGINS);
    let named = |name: &str| plugins.iter().find(|plugin| plugin["name"] == name).unwrap();
    assert_eq!(named("file-log")["id"], "ff5af6e2-7c22-5b6c-834e-594211031e23");
    assert_eq!(named("file-log")["service"], json!({ "id": MY_SERVICE }));
    assert_eq!(named("key-auth")["route"], json!({ "id": route["id"] }));
}

#[test]
fn references_may_be_names_or_ids() {
    let id = "11111111-2222-4333-8444-555555555555";
    let loaded = loaded(&format!(
        "
        _format_version: '3.0'
        services: [{{name: one, host: a.test}}, {{id: {id}, host: b.test}}]
        routes:
        - {{name: a, paths: [/a], service: one}}
        - {{name: b, paths: [/b], service: {id}}}
        - {{name: c, paths: [/c], service: {{id: {id}}}}}
        "
    ));
    let services = of_kind(&loaded, Kind::SERVICES);
    let routes = of_kind(&loaded, Kind::ROUTES);
    assert_eq!(routes[0]["service"]["id"], services[0]["id"]);
    assert_eq!(routes[1]["service"]["id"], id);
    assert_eq!(routes[2]["service"]["id"], id);
}

#[test]
fn the_same_text_makes_the_same_ids() {
    let text = "
        _format_version: '3.0'
        routes: [{paths: [/a]}, {paths: [/a]}, {paths: [/b]}]
        consumers: [{custom_id: c, keyauth_credentials: [{}, {}]}]
        ";
    let ids = |loaded: Loaded| loaded.checked.iter().map(Checked::id).collect::<Vec<_>>();
    let first = ids(loaded(text));
    assert_eq!(first, ids(loaded(text)));
    let different: HashSet<Uuid> = first.iter().copied().collect();
    assert_eq!(different.len(), first.len());
}

#[test]
fn older_formats_mark_no_regexes() {
    let paths = |version: &str| {
        let loaded = loaded(&format!("{{_format_version: '{version}', routes: [{{paths: [/a/b.c, '/\\d+']}}]}}"));
        of_kind(&loaded, Kind::ROUTES)[0]["paths"].clone()
    };
    assert_eq!(paths("1.1"), json!(["/a/b.c", "~/\\d+"]));
    assert_eq!(paths("2.1"), json!(["/a/b.c", "~/\\d+"]));
}

#[test]
fn the_head_is_checked() {
    check_fields("{}", json!({ "_format_version": "required field missing" }));
    check_fields("_format_version: 3.0", json!({ "_format_version": "expected a string" }));
    check_fields("_format_version: '4'", json!({ "_format_version": "expected one of: 1.1, 2.1, 3.0" }));
    check_fields("{_format_version: '3.0', _transform: 1}", json!({ "_transform": "expected a boolean" }));
    check_fields("{_format_version: '3.0', _info: {}}", json!({ "_info": "unknown field" }));
    check_fields("{_format_version: '3.0', services: 5}", json!({ "services": "expected an array" }));
    check_fields(
        "{_format_version: '3.0', services: [{host: a}, x]}",
        json!({ "services": [null, "expected a record"] }),
    );
    for empty in ["{}", "", "[]"] {
        assert!(loaded(&format!("_format_version: '3.0'\nservices: {empty}")).checked.is_empty());
    }
}

#[test]
fn text_that_is_no_object_is_refused() {
    let message = |text: &str| refused(text).message();
    let expected = "declarative config is invalid: \
                    {error=\"failed parsing declarative configuration: expected an object\"}";
    assert_eq!(message("hello"), expected);
    assert_eq!(message("[1]"), expected);
    assert_eq!(message(""), expected);
    let broken = message("services: [\n");
    assert!(broken.contains("failed parsing declarative configuration: "), "{broken}");
    assert!(message("a: 1\na: 2").contains("failed parsing"));
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (of, name) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{of}"); 10].join(", ")));
    }
    assert!(refused(&bomb).message().contains("failed parsing"));
    let big = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 90].join(", "));
    assert!(refused(&big).message().contains("failed parsing"));
}

#[test]
fn complaints_stand_where_the_mistake_is() {
    let text = "
        _format_version: '3.0'
        services:
        - host: a.test
        - name: bad name
          routes:
          - paths: [x]
            colour: red
        ";
    let path = "should start with: / (fixed path) or ~/ (regex path)";
    let fields = refused(text).body(false)["fields"].clone();
    assert_eq!(fields["services"][0], Value::Null);
    assert_eq!(fields["services"][1]["host"], "required field missing");
    assert_eq!(fields["services"][1]["routes"][0]["colour"], "unknown field");
    assert_eq!(fields["services"][1]["routes"][0]["paths"][0], path);
    let message = refused("{_format_version: '3.0', services: [{host: a.test}, {port: 70000}]}").message();
    assert_eq!(
        message,
        "declarative config is invalid: {services={[2]={host=\"required field missing\",\
         port=\"value should be between 0 and 65535\"}}}"
    );
}

#[test]
fn dangling_references_stand_under_the_name() {
    let nope = "invalid reference 'service: nope' (no such entry in 'services')";
    check_fields(
        "{_format_version: '3.0', routes: [{name: a, paths: [/a], service: nope}]}",
        json!({ "routes": { "a": [nope] } }),
    );
    check_fields("{_format_version: '3.0', routes: [{paths: [/a], service: nope}]}", json!({ "routes": [[nope]] }));
    let id = "11111111-2222-4333-8444-555555555555";
    let by_id =
        refused(&format!("{{_format_version: '3.0', routes: [{{name: a, paths: [/a], service: {{id: {id}}}}}]}}"));
    assert!(by_id.message().contains("no such entry in 'services'"), "{}", by_id.message());
    check_fields(
        "{_format_version: '3.0', routes: [{name: a, paths: [/a], service: {name: x}}]}",
        json!({ "routes": [{ "service": { "id": "missing primary key" } }] }),
    );
}

#[test]
fn a_different_parent_than_the_place_is_refused() {
    let text = |service: &str| {
        format!(
            "{{_format_version: '3.0', services: [{{name: a, host: a.test}}, {{name: b, host: b.test, \
             routes: [{{paths: [/a], service: {service}}}]}}]}}"
        )
    };
    assert_eq!(loaded(&text("b")).checked.len(), 3);
    check_fields(&text("a"), json!({ "services": [null, { "routes": [{ "service": "value must be null" }] }] }));
}

#[test]
fn uniqueness_holds_over_the_whole_file() {
    check_fields(
        "{_format_version: '3.0', services: [{name: foo, host: a.test}, {name: foo, host: b.test}]}",
        json!({ "services": [null,
            "uniqueness violation: 'services' entity with name set to 'foo' already declared"] }),
    );
    let id = "11111111-2222-4333-8444-555555555555";
    check_fields(
        &format!("{{_format_version: '3.0', services: [{{id: {id}, host: a.test}}, {{id: {id}, host: b.test}}]}}"),
        json!({ "services": [null,
            format!("uniqueness violation: 'services' entity with primary key set to '{id}' already declared")] }),
    );
    check_fields(
        "{_format_version: '3.0', consumers: [{username: foo, custom_id: c}, {username: bar, custom_id: c}]}",
        json!({ "consumers": { "bar":
            "uniqueness violation: 'consumers' entity with custom_id set to 'c' already declared" } }),
    );
}

#[test]
fn complaints_can_be_listed_by_entity() {
    let text = "
        _format_version: '3.0'
        _info: {}
        services:
        - name: s
          host: 5
          tags: [t]
          routes:
          - name: r
        ";
    let body = refused(text).body(true);
    assert_eq!(body["fields"], json!({ "_info": "unknown field" }));
    assert_eq!(body["message"], "declarative config is invalid: {_info=\"unknown field\"}");
    let flat = body["flattened_errors"].as_array().unwrap();
    assert_eq!(flat.len(), 2);
    assert_eq!(flat[0]["entity_type"], "service");
    assert_eq!(flat[0]["entity_name"], "s");
    assert_eq!(flat[0]["entity_tags"], json!(["t"]));
    assert_eq!(flat[0]["entity"], json!({ "name": "s", "host": 5, "tags": ["t"] }));
    let field = json!({ "type": "field", "field": "host", "message": "expected a string" });
    assert_eq!(flat[0]["errors"], json!([field]));
    assert_eq!(flat[1]["entity_type"], "route");
    assert_eq!(flat[1]["entity"], json!({ "name": "r", "service": { "id": flat[0]["entity_id"] } }));
    assert_eq!(flat[1]["errors"][0]["type"], "entity");
}

#[test]
fn the_report_is_indented_for_people() {
    let report = refused(
        "{_format_version: '3.0', services: [{name: a, host: b}, {name: s, routes: [{name: r, x: 1, paths: [/]}]}]}",
    )
    .report();
    let expected = [
        "in 'services':",
        "  - in entry 2 of 'services':",
        "    in 'host': required field missing",
        "    in 'routes':",
        "      - in entry 1 of 'routes':",
        "        in 'x': unknown field",
        "",
    ];
    assert_eq!(report, expected.join("\n"));
}

#[test]
fn what_is_exported_is_what_was_loaded() {
    let first = loaded(
        "
        _format_version: '3.0'
        services: [{name: 'yes', host: a.test, tags: ['1', 'null', '~'], routes: [{paths: [/a, '~/\\d+']}]}]
        consumers: [{username: \"line\\nbreak: '#\", keyauth_credentials: [{key: '007'}]}]
        plugins: [{name: key-auth, service: 'yes'}]
        ",
    );
    let text = export(&first.entities(), &plugins(), NOW_S).unwrap();
    assert!(text.starts_with("_format_version: "), "{text}");
    let second = loaded(&text);
    let docs = |loaded: &Loaded| loaded.checked.iter().map(|checked| json!(checked.doc())).collect::<Vec<_>>();
    assert_eq!(docs(&first), docs(&second), "{text}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = load(&bytes, &plugins(), NOW_S);
    }

    #[test]
    fn arbitrary_shapes_are_survived(value in shape()) {
        let mut document = Doc::new();
        document.insert("_format_version".to_owned(), "3.0".into());
        if let Value::Object(members) = value {
            document.extend(members);
        }
        if let Err(invalid) = check(document, &plugins(), NOW_S) {
            prop_assert!(!invalid.report().is_empty());
            prop_assert!(invalid.body(true)["flattened_errors"].is_array());
        }
    }
}

/// Documents made of words that mean something here, in places where they may not.
fn shape() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "services",
        "routes",
        "plugins",
        "consumers",
        "keyauth_credentials",
        "name",
        "id",
        "service",
        "config",
        "host",
        "paths",
        "key",
        "tags",
        "_ignore",
        "_comment",
        "key-auth",
        "/a",
        "11111111-2222-4333-8444-555555555555",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from)
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}
