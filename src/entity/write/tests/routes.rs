//! Routes: matchers, protocols and what they change.

use crate::entity::write::tests::*;

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
