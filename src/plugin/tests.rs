//! What the Admin API accepts, refuses and shows of each plugin's config, by its declaration.

use serde_json::{Value, json};

use super::*;
use crate::entity::Kind;
use crate::entity::problem::Rejection;
use crate::entity::write::{Intent, prepare_alone, present};

fn prepare(plugin: &Value) -> Result<Doc, Rejection> {
    let input = plugin.as_object().unwrap().clone();
    let checked = prepare_alone(Kind::PLUGINS, input, Intent::Insert, &declarations(), 1_764_000_000)?;
    Ok(present(Kind::PLUGINS, checked.doc(), &declarations(), 1_764_000_000))
}

#[test]
fn defaults_fill_a_config() {
    let check = |name: &str, config: Value, expected: Value| {
        let doc = prepare(&json!({"name": name, "config": config})).unwrap();
        assert_eq!(doc["config"], expected, "{name}");
        assert!(
            (maker(name).unwrap().build)(Build {
                config: doc["config"].as_object().unwrap(),
                scope: Scope::default(),
                before: None
            })
            .is_ok(),
            "{name}"
        );
    };
    let key_auth = json!({
        "key_names": ["apikey"], "hide_credentials": false, "anonymous": null, "key_in_header": true,
        "key_in_query": true, "key_in_body": false, "run_on_preflight": true, "realm": null
    });
    check("key-auth", json!({}), key_auth);
    let rate_limiting = json!({
        "second": null, "minute": 5, "hour": null, "day": null, "month": null, "year": null, "limit_by": "consumer",
        "header_name": null, "path": null, "policy": "local", "fault_tolerant": true,
        "redis": {
            "host": "r.test", "port": 6379, "timeout": 2000, "username": null, "password": null, "database": 0,
            "ssl": false, "ssl_verify": false, "server_name": null
        },
        "hide_client_headers": false, "error_code": 429, "error_message": "API rate limit exceeded", "sync_rate": -1,
        "redis_host": "r.test", "redis_port": 6379, "redis_password": null, "redis_username": null, "redis_ssl": false,
        "redis_ssl_verify": false, "redis_server_name": null, "redis_timeout": 2000, "redis_database": 0
    });
    check("rate-limiting", json!({"minute": 5, "redis_host": "r.test"}), rate_limiting.clone());
    check("rate-limiting", json!({"minute": 5, "redis": {"host": "r.test"}}), rate_limiting);
}

#[test]
fn a_field_of_our_own_is_shown_where_somebody_set_it() {
    let check = |sent: Value, stored: Option<Value>, expected: Option<&str>| {
        let input = json!({"name": "rate-limiting", "config": sent}).as_object().unwrap().clone();
        let stored = stored.map(|config| prepare(&json!({"name": "rate-limiting", "config": config})).unwrap());
        let intent = stored.as_ref().map_or(Intent::Insert, |stored| Intent::Update { stored });
        let checked = prepare_alone(Kind::PLUGINS, input, intent, &declarations(), 1_764_000_000).unwrap();
        let doc = checked.doc();
        let config = doc["config"].as_object().unwrap();
        assert_eq!(config.get("guarantee"), expected.map(Value::from).as_ref(), "{sent}");
    };
    let strict = json!({"minute": 9, "policy": "cluster", "guarantee": "strict"});
    check(json!({"minute": 9}), None, None);
    check(json!({"minute": 9, "guarantee": null}), None, None);
    check(strict.clone(), None, Some("strict"));
    check(json!({"minute": 8}), Some(strict.clone()), Some("strict"));
    check(json!({"guarantee": null}), Some(strict), None);
    let schema = crate::entity::schema::of_config(&maker("rate-limiting").unwrap().declaration.config);
    let guarantee = json!({"guarantee": {"type": "string", "one_of": ["forecast", "strict"], "len_min": 1}});
    assert!(schema["fields"].as_array().unwrap().contains(&guarantee), "{schema}");
}

#[test]
fn what_is_wrong_is_said_in_kongs_words() {
    let limits = "at least one of these fields must be non-empty: 'config.second', 'config.minute', 'config.hour', \
                  'config.day', 'config.month', 'config.year'";
    let check = |name: &str, config: Value, fields: Value| {
        let Err(Rejection::Schema(found)) = prepare(&json!({"name": name, "config": config})) else {
            panic!("{name} {config} was accepted")
        };
        let mut all = found.fields;
        if !found.entity.is_empty() {
            all.insert("@entity".to_owned(), json!(found.entity));
        }
        assert_eq!(Value::Object(all), fields, "{name} {config}");
    };
    check("key-auth", json!({"colour": "red"}), json!({"config": {"colour": "unknown field"}}));
    check(
        "key-auth",
        json!({"key_names": ["ok", "not ok"]}),
        json!({"config": {"key_names":
            [null, "bad header name 'not ok', allowed characters are A-Z, a-z, 0-9, '_', and '-'"]}}),
    );
    check("key-auth", json!({"key_names": [""]}), json!({"config": {"key_names": ["length must be at least 1"]}}));
    check("key-auth", json!({"key_names": null}), json!({"config": {"key_names": "required field missing"}}));
    check("rate-limiting", json!({}), json!({"@entity": [limits]}));
    check("rate-limiting", json!({"minutes": 1}), json!({"@entity": [limits], "config": {"minutes": "unknown field"}}));
    check("rate-limiting", json!({"minute": 0}), json!({"config": {"minute": "value must be greater than 0"}}));
    check(
        "rate-limiting",
        json!({"minute": 20, "hour": 10}),
        json!({"config": "The limit for hour(10.0) cannot be lower than the limit for minute(20.0)"}),
    );
    check(
        "rate-limiting",
        json!({"minute": 20, "hour": 10, "second": "x"}),
        json!({"config": {"second": "expected a number"}}),
    );
    check(
        "rate-limiting",
        json!({"minute": 1, "limit_by": "header"}),
        json!({
            "@entity": ["failed conditional validation given value of field 'config.limit_by'"],
            "config": {"header_name": "required field missing"}
        }),
    );
    check(
        "rate-limiting",
        json!({"minute": 1, "redis_host": "a.test", "redis": {"host": "b.test"}}),
        json!({"config": {"redis_host": "both deprecated and new field are used but their values mismatch: \
            redis_host = a.test vs redis.host = b.test"}}),
    );
    check(
        "rate-limiting",
        json!({"minute": 1, "sync_rate": 1}),
        json!({"config": "sync_rate can only be used with the redis policy"}),
    );
    check(
        "rate-limiting",
        json!({"minute": 1, "policy": "cloud"}),
        json!({"config": {"policy": "expected one of: local, cluster, redis"}}),
    );
    check(
        "rate-limiting",
        json!({"minute": 1, "guarantee": "strict"}),
        json!({"config": {"guarantee": "strict needs the policy cluster: with local each node counts for itself"}}),
    );
}

#[test]
fn makers_stand_in_the_order_they_run() {
    let order: Vec<_> = MAKERS.iter().map(|maker| (maker.declaration.priority, maker.declaration.name)).collect();
    assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
}
