//! Plugins: the name first, then the config to its depth.

use crate::entity::write::tests::*;

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
    let patched = update(PLUGINS, &stored, json!({"config": {"redis": {"port": 1}, "labels": {"c": "d"}}})).unwrap();
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
fn another_plugin_in_the_same_place_begins_with_its_own_defaults() {
    let stored = insert(PLUGINS, json!({"name": "keys", "config": {"key_names": ["a"]}, "tags": ["t"]})).unwrap();
    let patched = update(PLUGINS, &stored, json!({"name": "limits", "config": {"minute": 1}})).unwrap();
    let config =
        json!({"minute": 1, "hour": null, "policy": "local", "redis": {"host": null, "port": 6379}, "labels": null});
    assert_eq!((&patched["config"], &patched["tags"]), (&config, &json!(["t"])));
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
