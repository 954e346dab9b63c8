//! `/config`, and single writes without a database.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::admin::tests::{Node, request};

const ID: &str = "11111111-2222-4333-8444-555555555555";
const TEXT: &str = "_format_version: '3.0'\nservices:\n- name: my-service\n  url: http://a.test/x\n  routes:\n  - name: my-route\n    paths: [/a]\n";
const SERVICE: &str = "0855b320-0dd2-547d-891d-601e9b38647f";

async fn post(node: &Node, target: &str, media: &str, body: &str) -> crate::admin::tests::Answer {
    let asked = request(&format!("POST {target}")).header("content-type", media);
    node.send(asked.body(Bytes::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn with_a_database_there_is_no_config() {
    let message = "this endpoint is only available when Kong is configured to not use a database";
    let node = Node::new();
    node.ask("GET /config", Value::Null).await.check(400, json!({ "message": message }));
    node.ask("POST /config", json!({})).await.check(400, json!({ "message": message }));
}

#[tokio::test]
async fn a_configuration_is_taken_in_every_form_it_may_come() {
    let wrapped = json!({ "config": TEXT }).to_string();
    let parsed = json!({ "_format_version": "3.0", "services": [{ "name": "my-service", "host": "a.test" }] });
    for (media, body) in [
        ("application/yaml", TEXT),
        ("text/yaml", TEXT),
        ("application/json", &wrapped),
        ("application/json", &parsed.to_string()),
        (
            "application/x-www-form-urlencoded",
            "config=_format_version%3A+%273.0%27%0Aservices%3A%0A-+name%3A+my-service%0A++host%3A+a.test",
        ),
    ] {
        let node = Node::declarative();
        let taken = post(&node, "/config", media, body).await;
        taken.check(201, json!({ "services": { SERVICE: { "name": "my-service", "host": "a.test" } } }));
        node.ask("GET /services/my-service", Value::Null).await.check(200, json!({ "id": SERVICE }));
    }
    let node = Node::declarative();
    let nothing = json!({ "message": "expected a declarative configuration" });
    node.ask("POST /config", Value::Null).await.check(400, nothing.clone());
    post(&node, "/config", "application/x-www-form-urlencoded", "a=b").await.check(400, nothing);
}

#[tokio::test]
async fn the_whole_configuration_is_replaced_and_shown() {
    let node = Node::declarative();
    let zeros = "0".repeat(32);
    node.ask("GET /status", Value::Null).await.check(200, json!({ "configuration_hash": zeros }));
    post(&node, "/config", "text/yaml", TEXT).await.check(201, json!({}));
    let status = node.ask("GET /status", Value::Null).await.json();
    assert_ne!(status["configuration_hash"], zeros);
    assert!(status.get("database").is_none());
    let shown = node.ask("GET /config", Value::Null).await.json();
    let text = shown["config"].as_str().unwrap();
    let again = Node::declarative();
    let taken = post(&again, "/config", "text/yaml", text).await;
    taken.check(201, json!({ "services": { SERVICE: { "path": "/x" } } }));
    assert_eq!(taken.json()["routes"].as_object().map(serde_json::Map::len), Some(1));
    let other = "_format_version: '3.0'\nconsumers: [{username: bob}]";
    post(&node, "/config", "text/yaml", other).await.check(201, json!({}));
    node.ask("GET /services", Value::Null).await.check(200, json!({ "data": [] }));
    node.ask("GET /consumers/bob", Value::Null).await.check(200, json!({}));
}

#[tokio::test]
async fn the_same_text_need_not_be_loaded_again() {
    let node = Node::declarative();
    let target = "/config?check_hash=1";
    assert_eq!(post(&node, target, "text/yaml", TEXT).await.status, 201);
    let same = post(&node, target, "text/yaml", TEXT).await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(post(&node, "/config", "text/yaml", TEXT).await.status, 201);
}

#[tokio::test]
async fn a_broken_configuration_changes_nothing() {
    let node = Node::declarative();
    post(&node, "/config", "text/yaml", TEXT).await.check(201, json!({}));
    let broken = "_format_version: '3.0'\nservices:\n- port: 70000";
    let refused = post(&node, "/config", "text/yaml", broken).await;
    refused.check(400, json!({
        "code": 14,
        "name": "invalid declarative configuration",
        "message": "declarative config is invalid: {services={{host=\"required field missing\",port=\"value should be between 0 and 65535\"}}}",
        "fields": { "services": [{ "host": "required field missing", "port": "value should be between 0 and 65535" }] },
    }));
    let flat = post(&node, "/config?flatten_errors=1", "text/yaml", broken).await;
    flat.check(
        400,
        json!({ "fields": {}, "flattened_errors": [{ "entity_type": "service", "entity": { "port": 70000 } }] }),
    );
    node.ask("GET /services/my-service", Value::Null).await.check(200, json!({}));
    let refused = post(&node, "/config", "application/json", "{}").await;
    refused.check(400, json!({ "fields": { "_format_version": "required field missing" } }));
}

#[tokio::test]
async fn single_writes_are_refused_after_validation() {
    let node = Node::declarative();
    post(&node, "/config", "text/yaml", TEXT).await.check(201, json!({}));
    let refused = |message: &str| json!({ "code": 12, "name": "operation unsupported", "message": message });
    let body = json!({ "host": "a.test" });
    for (line, message) in [
        ("POST /services", "cannot create 'services' entities when not using a database"),
        (&format!("PUT /services/{ID}"), "cannot create or update 'services' entities when not using a database"),
        (&format!("PATCH /services/{SERVICE}"), "cannot update 'services' entities when not using a database"),
        ("PATCH /services/my-service", "cannot update 'services' entities by 'name' when not using a database"),
        ("DELETE /services/my-service", "cannot remove 'services' entities by 'name' when not using a database"),
    ] {
        node.ask(line, body.clone()).await.check(405, refused(message));
    }
    node.ask("POST /services", json!({})).await.check(400, json!({ "code": 2 }));
    node.ask(&format!("PATCH /services/{ID}"), body).await.check(404, json!({ "code": 6 }));
    assert_eq!(node.ask(&format!("DELETE /services/{ID}"), Value::Null).await.status, 204);
    let message = "cannot change log level when not using a database";
    node.ask("PUT /debug/node/log-level/debug", Value::Null).await.check(405, json!({ "message": message }));
}
