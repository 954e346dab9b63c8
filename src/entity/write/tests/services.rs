//! Services: every field, every message, and the `url`.

use crate::entity::write::tests::*;

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
    accepted(SERVICES, json!({"host": "a", "protocol": "https", "tls_verify_depth": 2}), json!({"tls_verify": null}));
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
