//! What a node says about itself, and whether it is ready.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_proto::Revision;

use crate::admin::tests::Node;
use crate::snapshot::Builder;

fn go_live(node: &Node) {
    let (snapshot, _) = Builder::default().build(Vec::new(), Revision::new(1, 1));
    node.handles.live.publish(Arc::new(snapshot), std::time::Duration::ZERO);
}

#[tokio::test]
async fn the_root_says_who_speaks() {
    let node = Node::new();
    node.made("/plugins", json!({ "name": "key-auth" })).await;
    let root = node.ask("GET /", Value::Null).await;
    root.check(200, json!({
        "version": "3.9.3",
        "hostname": "host",
        "tidegate": { "version": env!("CARGO_PKG_VERSION"), "node_id": "node-1" },
        "plugins": { "enabled_in_cluster": ["key-auth"], "available_on_server": { "key-auth": { "version": "3.9.3" } } },
        "configuration": { "database": "memory", "log_level": "notice" },
        "timers": { "running": 0, "pending": 0 },
        "warnings": ["the Admin API is open"],
    }));
    assert!(uuid::Uuid::try_parse(root.json()["node_id"].as_str().unwrap()).is_ok());
}

#[tokio::test]
async fn the_endpoints_are_sorted_and_complete() {
    let answer = Node::new().ask("GET /endpoints", Value::Null).await.json();
    let paths: Vec<&str> = answer["data"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    assert!(paths.is_sorted_by(|a, b| a.split('/').le(b.split('/'))));
    for path in [
        "/",
        "/services/{services}/routes/{routes}",
        "/routes/{routes}/service",
        "/consumers/{consumers}/key-auth/{keyauth_credentials}",
        "/key-auths/{keyauth_credentials}/consumer",
        "/plugins/enabled",
    ] {
        assert!(paths.contains(&path), "{path}");
    }
}

#[tokio::test]
async fn schemas_are_shown_and_checked() {
    let node = Node::new();
    for (path, text) in [
        ("/schemas/colours", "No entity named 'colours'"),
        ("/schemas/plugins/colours", "No plugin named 'colours'"),
        ("/plugins/schema/colours", "No plugin named 'colours'"),
        ("/schemas/vaults/colours", "No vault named 'colours'"),
    ] {
        node.ask(&format!("GET {path}"), Value::Null).await.check(404, json!({ "message": text }));
    }
    for path in ["/schemas/services", "/schemas/plugins", "/schemas/plugins/key-auth", "/plugins/schema/key-auth"] {
        assert!(node.ask(&format!("GET {path}"), Value::Null).await.json()["fields"].is_array(), "{path}");
    }
    let line = "POST /schemas/services/validate";
    let fine = json!({ "message": "schema validation successful" });
    node.ask(line, json!({ "url": "http://a.test" })).await.check(200, fine);
    node.ask(line, json!({})).await.check(400, json!({ "code": 2, "fields": { "host": "required field missing" } }));
    let unknown = json!({ "message": "No entity named 'colours'" });
    node.ask("POST /schemas/colours/validate", json!({})).await.check(404, unknown);
    let unnamed = json!({ "message": "schema violation (name: required field missing)" });
    node.ask("POST /schemas/plugins/validate", json!({})).await.check(400, unnamed);
}

#[tokio::test]
async fn the_log_level_is_read_and_changed() {
    let node = Node::new();
    let check = async |line: &str, status: u16, message: &str| {
        node.ask(line, Value::Null).await.check(status, json!({ "message": message }));
    };
    check("GET /debug/node/log-level", 200, "log level: notice").await;
    check("PUT /debug/node/log-level/loud", 400, "unknown log level: loud").await;
    let negative = "timeout must be greater than or equal to 0";
    for timeout in ["-1", "x", "NaN"] {
        check(&format!("PUT /debug/node/log-level/debug?timeout={timeout}"), 400, negative).await;
    }
    check("PUT /debug/node/log-level/debug?timeout=1e300", 200, "log level changed").await;
    check("PUT /debug/node/log-level/debug", 200, "log level is already debug").await;
    check("PUT /debug/cluster/log-level/info", 200, "log level changed").await;
}

#[tokio::test]
async fn endpoints_of_other_roles_say_why_they_do_not_answer() {
    let node = Node::new();
    assert_eq!(node.ask("GET /clustering/status", Value::Null).await.status, 400);
    assert_eq!(node.ask("GET /status/dns", Value::Null).await.status, 501);
    assert_eq!(node.ask("GET /cache/x", Value::Null).await.status, 404);
    assert_eq!(node.ask("DELETE /cache/x", Value::Null).await.status, 204);
    assert_eq!(node.ask("DELETE /cache", Value::Null).await.status, 204);
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let node = Node::new();
    node.made("/consumers", json!({ "username": "bob" })).await;
    let answer = node.ask("GET /metrics", Value::Null).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    for line in [
        "kong_datastore_reachable 1",
        "tidegate_revision_number{of=\"known\"} 1",
        "tidegate_revision_number{of=\"live\"} 0",
        "kong_nginx_requests_total{node_id=\"node-1\",subsystem=\"http\"} 0",
    ] {
        assert!(text.lines().any(|given| given == line), "{line}\n{text}");
    }
    assert_eq!(node.health("GET /metrics", "").await.status, 200);
}

#[tokio::test]
async fn a_node_is_ready_once_a_snapshot_is_live_and_stays_so_without_its_database() {
    let node = Node::new();
    let not_yet = json!({ "message": "router builds not yet complete" });
    node.health("GET /status/ready", "").await.check(503, not_yet);
    go_live(&node);
    node.leave();
    node.ask("POST /consumers", json!({ "username": "bob" })).await.check(503, json!({}));
    node.health("GET /status/ready", "").await.check(200, json!({ "message": "ready" }));
}

#[tokio::test]
async fn a_draining_node_says_so() {
    let node = Node::new();
    go_live(&node);
    assert_eq!(node.health("POST /status/ready", "{\"status\":\"tired\"}").await.status, 400);
    assert_eq!(node.health("POST /status/ready", "{\"status\":\"draining\"}").await.status, 204);
    node.health("GET /status/ready", "").await.check(503, json!({ "message": "draining" }));
    assert!(node.handles.draining.is_cancelled());
}

#[tokio::test]
async fn a_node_without_a_database_is_ready_with_a_configuration() {
    let node = Node::declarative();
    go_live(&node);
    let empty = json!({ "message": "no configuration available (empty configuration present)" });
    node.health("GET /status/ready", "").await.check(503, empty);
    let loaded = json!({ "_format_version": "3.0", "consumers": [{ "username": "bob" }] });
    node.ask("POST /config", loaded).await.check(201, json!({}));
    node.health("GET /status/ready", "").await.check(200, json!({ "message": "ready" }));
}

#[tokio::test]
async fn the_status_listener_shows_health_only() {
    let node = Node::new();
    let status = node.health("GET /status/", "").await;
    status.check(200, json!({ "database": { "reachable": true }, "server": { "total_requests": 0 } }));
    assert_eq!(status.header("access-control-allow-credentials"), None);
    assert_eq!(status.header("access-control-allow-origin"), Some("*"));
    node.health("GET /services", "").await.check(404, json!({ "message": "Not found" }));
    assert_eq!(node.health("POST /status", "{}").await.status, 405);
    let options = node.health("OPTIONS /status/ready", "").await;
    assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS, POST")));
}

#[tokio::test]
async fn draining_needs_the_token_and_probes_do_not() {
    let node = Node::with(false, |options| options.token = Some("secret".to_owned()));
    go_live(&node);
    assert_eq!(node.health("POST /status/ready", "{\"status\":\"draining\"}").await.status, 401);
    assert_eq!(node.health("GET /status/ready", "").await.status, 200);
}
