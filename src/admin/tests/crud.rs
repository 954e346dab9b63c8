//! What each verb does to entities, alone, below a parent, above a child, and in lists.

use serde_json::{Value, json};

use crate::admin::tests::Node;

const ID: &str = "11111111-2222-4333-8444-555555555555";
const OTHER: &str = "22222222-2222-4333-8444-555555555555";

#[tokio::test]
async fn create_read_change_list_delete() {
    let node = Node::new();
    let created = node.form("POST /services", "name=s&host=a.test&port=8080&tags[]=t").await;
    created.check(201, json!({ "name": "s", "port": 8080, "tags": ["t"], "path": null }));
    assert_eq!(created.header("x-tidegate-revision"), Some("1.1"));
    let id = created.json()["id"].clone();
    node.ask("GET /services/s", Value::Null).await.check(200, json!({ "id": id }));
    let changed = node.form("PATCH /services/s", "retries=2").await;
    changed.check(200, json!({ "id": id, "retries": 2, "port": 8080 }));
    assert_eq!(changed.header("x-tidegate-revision"), Some("1.2"));
    let list = node.ask("GET /services?tags=t", Value::Null).await;
    list.check(200, json!({ "data": [{ "id": id }], "next": null }));
    assert!(list.json().get("offset").is_none());
    for revision in ["1.3", "1.3"] {
        let deleted = node.ask("DELETE /services/s", Value::Null).await;
        assert_eq!((deleted.status, deleted.body.len()), (204, 0));
        assert_eq!(deleted.header("x-tidegate-revision"), Some(revision));
    }
    node.ask("GET /services/s", Value::Null).await.check(404, json!({ "message": "Not found" }));
}

#[tokio::test]
async fn a_write_is_answered_with_what_should_be_known_about_it() {
    let node = Node::new();
    let config = json!({ "minute": 1, "policy": "redis", "redis": { "host": "r.test" } });
    let written = node.ask("POST /plugins", json!({ "name": "rate-limiting", "config": config })).await;
    written.check(201, json!({ "config": { "policy": "redis" } }));
    let told = written.header("warning").unwrap_or_default().to_owned();
    assert!(told.starts_with("299 tidegate \"rate-limiting: redis is not contacted"), "{told}");
    let id = written.json()["id"].as_str().unwrap_or_default().to_owned();
    let read = node.ask(&format!("GET /plugins/{id}"), Value::Null).await;
    assert_eq!(read.header("warning"), None);
    let changed = node.ask(&format!("PATCH /plugins/{id}"), json!({ "config": { "policy": "cluster" } })).await;
    changed.check(200, json!({ "config": { "policy": "cluster" } }));
    assert_eq!(changed.header("warning"), None);
}

#[tokio::test]
async fn put_by_id_creates_then_replaces() {
    let node = Node::new();
    let line = format!("PUT /services/{ID}");
    let sent = json!({ "id": OTHER, "name": "s", "host": "a.test", "retries": 9 });
    node.ask(&line, sent).await.check(200, json!({ "id": ID, "retries": 9 }));
    node.ask(&line, json!({ "host": "b.test" })).await.check(200, json!({ "id": ID, "name": null, "retries": 5 }));
    node.ask(&line, json!({ "port": 1 })).await.check(400, json!({ "code": 2 }));
}

#[tokio::test]
async fn put_by_name_keeps_the_id_and_the_name() {
    let node = Node::new();
    let sent = json!({ "id": ID, "name": "x", "host": "a.test" });
    node.ask("PUT /services/s", sent).await.check(200, json!({ "id": ID, "name": "s" }));
    let sent = json!({ "id": OTHER, "host": "b.test" });
    node.ask("PUT /services/s", sent).await.check(200, json!({ "id": ID, "host": "b.test" }));
    let taken = json!({ "id": ID, "host": "c.test" });
    node.ask("PUT /services/new", taken).await.check(400, json!({ "code": 3 }));
    node.ask("GET /services/s", Value::Null).await.check(200, json!({ "host": "b.test" }));
}

#[tokio::test]
async fn patch_ignores_the_id_of_a_body() {
    let node = Node::new();
    node.made("/services", json!({ "id": ID, "name": "s", "host": "a.test" })).await;
    let changed = node.ask(&format!("PATCH /services/{ID}"), json!({ "id": OTHER, "port": 1 })).await;
    changed.check(200, json!({ "id": ID, "port": 1 }));
    node.ask(&format!("GET /services/{OTHER}"), Value::Null).await.check(404, json!({}));
}

#[tokio::test]
async fn what_is_missing_is_named_or_not() {
    let node = Node::new();
    let bare = json!({ "message": "Not found" });
    node.ask(&format!("GET /services/{ID}"), Value::Null).await.check(404, bare.clone());
    let by_id = json!({ "code": 6, "name": "not found", "fields": { "id": ID } });
    node.ask(&format!("PATCH /services/{ID}"), json!({ "port": 1 })).await.check(404, by_id.clone());
    let by_name = json!({ "code": 6, "message": "could not find the entity with '{name=\"s\"}'" });
    node.ask("PATCH /services/s", json!({ "port": 1 })).await.check(404, by_name);
    let answer = node.ask(&format!("PATCH /plugins/{ID}"), json!({ "enabled": false })).await;
    assert_eq!((answer.status, answer.json()), (404, bare));
    node.ask(&format!("PATCH /plugins/{ID}"), json!({ "name": "key-auth" })).await.check(404, by_id);
    assert_eq!(node.ask(&format!("DELETE /plugins/{ID}"), Value::Null).await.status, 204);
}

#[tokio::test]
async fn rules_between_entities_have_their_codes() {
    let node = Node::new();
    let service = node.made("/services", json!({ "name": "s", "host": "a.test" })).await;
    node.ask("POST /services", json!({ "name": "s", "host": "b.test" })).await.check(409, json!({ "code": 5 }));
    let taken = json!({ "id": service, "host": "b.test" });
    node.ask("POST /services", taken).await.check(400, json!({ "code": 3, "fields": { "id": service } }));
    let dangling = json!({ "paths": ["/a"], "service": { "id": ID } });
    node.ask("POST /routes", dangling).await.check(400, json!({ "code": 4 }));
    let unresolved = json!({ "paths": ["/a"], "service": { "name": "none" } });
    node.ask("POST /routes", unresolved).await.check(400, json!({ "code": 13 }));
    let route = node.made("/routes", json!({ "paths": ["/a"], "service": { "name": "s" } })).await;
    let held = json!({ "code": 4, "fields": { "@referenced_by": "routes" } });
    node.ask("DELETE /services/s", Value::Null).await.check(400, held);
    assert_eq!(node.ask(&format!("DELETE /routes/{route}"), Value::Null).await.status, 204);
    assert_eq!(node.ask("DELETE /services/s", Value::Null).await.status, 204);
}

#[tokio::test]
async fn a_key_that_nothing_could_have_is_400_for_every_verb() {
    let node = Node::new();
    let refused = json!({ "code": 10, "name": "invalid unique name" });
    for line in ["GET /services/a%20b", "DELETE /services/a%20b", "GET /services/a%20b/routes"] {
        node.ask(line, Value::Null).await.check(400, refused.clone());
    }
    node.ask("PUT /services/a%20b", json!({ "host": "a.test" })).await.check(400, refused);
}

#[tokio::test]
async fn children_live_below_their_parent() {
    let node = Node::new();
    let one = node.made("/services", json!({ "name": "one", "host": "a.test" })).await;
    let two = node.made("/services", json!({ "name": "two", "host": "a.test" })).await;
    let body = json!({ "name": "r", "paths": ["/a"], "service": { "id": two } });
    let route = node.ask("POST /services/one/routes", body).await;
    route.check(201, json!({ "service": { "id": one } }));
    let id = route.json()["id"].clone();
    node.ask("GET /services/one/routes/r", Value::Null).await.check(200, json!({ "id": id }));
    for line in ["GET /services/two/routes/r", "DELETE /services/two/routes/r", "GET /services/none/routes"] {
        node.ask(line, Value::Null).await.check(404, json!({ "message": "Not found" }));
    }
    let moved = node.ask("PATCH /services/one/routes/r", json!({ "service": { "id": two } })).await;
    moved.check(200, json!({ "service": { "id": two } }));
    let back = node.ask("PUT /services/one/routes/r", json!({ "paths": ["/b"] })).await;
    back.check(200, json!({ "id": id, "service": { "id": one }, "name": "r", "paths": ["/b"] }));
    let list = node.ask("GET /services/one/routes?size=1", Value::Null).await;
    list.check(200, json!({ "data": [{ "id": id }], "next": null }));
    for status in [204, 404] {
        assert_eq!(node.ask("DELETE /services/one/routes/r", Value::Null).await.status, status);
    }
}

#[tokio::test]
async fn a_parent_is_reached_through_its_child() {
    let node = Node::new();
    let line = |verb: &str| format!("{verb} /routes/r/service");
    node.ask(&line("GET"), Value::Null).await.check(404, json!({}));
    node.made("/routes", json!({ "name": "r", "paths": ["/a"] })).await;
    for verb in ["GET", "DELETE"] {
        node.ask(&line(verb), Value::Null).await.check(404, json!({ "message": "Not found" }));
    }
    node.ask(&line("PATCH"), json!({ "port": 1 })).await.check(404, json!({}));
    let made = node.ask(&line("PUT"), json!({ "id": ID, "name": "s", "host": "a.test" })).await;
    made.check(200, json!({ "name": "s" }));
    let id = made.json()["id"].clone();
    assert_ne!(id, ID);
    node.ask("GET /routes/r", Value::Null).await.check(200, json!({ "service": { "id": id } }));
    node.ask(&line("PATCH"), json!({ "port": 1 })).await.check(200, json!({ "id": id, "name": "s", "port": 1 }));
    node.ask(&line("PUT"), json!({ "host": "b.test" })).await.check(200, json!({ "id": id, "name": null, "port": 80 }));
    node.ask(&line("DELETE"), Value::Null).await.check(405, json!({ "message": "Method not allowed" }));
}

#[tokio::test]
async fn credentials_have_two_paths() {
    let node = Node::new();
    let consumer = node.made("/consumers", json!({ "username": "bob" })).await;
    let made = node.ask("POST /consumers/bob/key-auth", Value::Null).await;
    made.check(201, json!({ "consumer": { "id": consumer }, "ttl": null }));
    let (id, key) = (made.json()["id"].clone(), made.json()["key"].as_str().unwrap().to_owned());
    node.ask(&format!("GET /consumers/bob/key-auth/{key}"), Value::Null).await.check(200, json!({ "id": id }));
    node.ask(&format!("GET /key-auths/{key}/consumer"), Value::Null).await.check(200, json!({ "id": consumer }));
    let ttl = json!({ "key": "k", "ttl": 100 });
    node.ask("POST /consumers/bob/key-auth", ttl).await.check(201, json!({ "key": "k" }));
    let ttl = json!({ "ttl": -1 });
    node.ask("POST /consumers/bob/key-auth", ttl).await.check(400, json!({ "code": 11 }));
    assert_eq!(node.ask("DELETE /consumers/bob", Value::Null).await.status, 204);
    node.ask("GET /key-auths/k", Value::Null).await.check(404, json!({}));
}

#[tokio::test]
async fn a_form_that_patches_a_plugin_is_typed_by_the_stored_one() {
    let node = Node::new();
    let plugin = node.made("/plugins", json!({ "name": "rate-limiting", "config": { "minute": 5 } })).await;
    let line = format!("PATCH /plugins/{plugin}");
    node.form(&line, "config.minute=10").await.check(200, json!({ "config": { "minute": 10 } }));
    node.form(&line, "enabled=false").await.check(200, json!({ "enabled": false, "config": { "minute": 10 } }));
}

#[tokio::test]
async fn consumers_are_looked_up_by_custom_id() {
    let node = Node::new();
    let id = node.made("/consumers", json!({ "custom_id": "c-1" })).await;
    let found = node.ask("GET /consumers?custom_id=c-1", Value::Null).await;
    found.check(200, json!({ "data": [{ "id": id }], "next": null }));
    node.ask("GET /consumers?custom_id=x", Value::Null).await.check(200, json!({ "data": [], "next": null }));
    for query in ["custom_id=", "custom_id"] {
        let refused = json!({ "message": "custom_id must be an unempty string" });
        node.ask(&format!("GET /consumers?{query}"), Value::Null).await.check(400, refused);
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let node = Node::new();
    for port in 1..=5 {
        node.made("/services", json!({ "host": "a.test", "port": port, "tags": ["t", "u"] })).await;
    }
    let (mut line, mut ports, mut sizes) = ("/services?size=2&tags=t,u".to_owned(), Vec::new(), Vec::new());
    loop {
        let page = node.ask(&format!("GET {line}"), Value::Null).await;
        page.check(200, json!({}));
        let page = page.json();
        let data = page["data"].as_array().unwrap();
        sizes.push(data.len());
        ports.extend(data.iter().map(|service| service["port"].as_u64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        assert!(next.ends_with("&tags=t%2Cu&size=2"), "{next}");
        assert!(page["offset"].is_string());
        line = next.to_owned();
    }
    ports.sort_unstable();
    assert_eq!((ports, sizes), (vec![1, 2, 3, 4, 5], vec![2, 2, 1]));
    node.ask("GET /services?size=0", Value::Null).await.check(400, json!({ "code": 9 }));
    node.ask("GET /services?offset=not*valid", Value::Null).await.check(400, json!({ "code": 7 }));
    node.ask("GET /services?tags=a,b/c", Value::Null).await.check(400, json!({ "code": 11 }));
}

#[tokio::test]
async fn links_below_a_parent_carry_the_offset_only() {
    let node = Node::new();
    node.made("/services", json!({ "name": "s", "host": "a.test" })).await;
    for path in ["/a", "/b"] {
        node.made("/services/s/routes", json!({ "paths": [path] })).await;
    }
    let page = node.ask("GET /services/s/routes?size=1&tags=x", Value::Null).await.json();
    assert_eq!(page["data"].as_array().map(Vec::len), Some(1));
    let (next, offset) = (page["next"].as_str().unwrap(), page["offset"].as_str().unwrap());
    assert_eq!(next, format!("/services/s/routes?offset={offset}"));
    let rest = node.ask(&format!("GET {next}"), Value::Null).await.json();
    assert_eq!((rest["data"].as_array().map(Vec::len), &rest["next"]), (Some(1), &Value::Null));
}

#[tokio::test]
async fn tags_are_listed_over_all_kinds() {
    let node = Node::new();
    let service = node.made("/services", json!({ "host": "a.test", "tags": ["t", "u"] })).await;
    let consumer = node.made("/consumers", json!({ "username": "bob", "tags": ["t"] })).await;
    let of = |kind: &str, id: &str, tag: &str| json!({ "entity_name": kind, "entity_id": id, "tag": tag });
    let both = json!([of("consumers", &consumer, "t"), of("services", &service, "t")]);
    node.ask("GET /tags/t", Value::Null).await.check(200, json!({ "data": both, "next": null }));
    node.ask("GET /tags/none", Value::Null).await.check(200, json!({ "data": [], "next": null }));
    let mut line = "/tags?size=1".to_owned();
    let mut tags = Vec::new();
    loop {
        let page = node.ask(&format!("GET {line}"), Value::Null).await.json();
        tags.push(page["data"][0]["tag"].as_str().unwrap().to_owned());
        let Some(next) = page["next"].as_str() else { break };
        line = next.to_owned();
    }
    assert_eq!(tags, ["t", "t", "u"]);
    let refused = json!({ "code": 2, "fields": { "tags": "does not support insert/upsert/update/delete operations" } });
    node.ask("POST /tags", json!({ "tag": "x" })).await.check(400, refused);
}

#[tokio::test]
async fn without_the_store_reads_answer_and_writes_say_so() {
    let node = Node::new();
    node.made("/services", json!({ "name": "s", "host": "a.test" })).await;
    node.leave();
    let refused = node.ask("POST /services", json!({ "host": "b.test" })).await;
    assert_eq!(refused.status, 503);
    assert!(refused.json()["message"].as_str().unwrap().contains("nothing was written"));
    node.ask("GET /services/s", Value::Null).await.check(200, json!({ "name": "s" }));
    node.ask("GET /status", Value::Null).await.check(200, json!({ "database": { "reachable": false } }));
}
