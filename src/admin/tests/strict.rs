//! `/strict_weights`: who holds which part of strict limits, as an operator says it. What nodes make of it is the
//! business of `cluster::core::rights`; here only what can be wrong in what is said.

use serde_json::{Value, json};

use crate::admin::tests::Node;

fn halves(name: &str, epoch: u64) -> Value {
    json!({ "name": name, "epoch": epoch, "weights": { "a": 0.5, "b": 0.5 } })
}

#[tokio::test]
async fn weights_are_created_read_changed_listed_and_deleted() {
    let node = Node::new();
    let created = node.ask("POST /strict_weights", halves("all", 1)).await;
    created.check(
        201,
        json!({ "name": "all", "epoch": 1, "weights": { "a": 0.5, "b": 0.5 }, "gone": null, "tags": null }),
    );
    let id = created.json()["id"].clone();
    node.ask("GET /strict_weights/all", Value::Null).await.check(200, json!({ "id": id, "epoch": 1 }));
    let changed = json!({ "epoch": 2, "weights": { "a": 0.25, "b": 0.5, "c": 0.25 } });
    node.ask("PATCH /strict_weights/all", changed.clone()).await.check(200, changed);
    // What does not concern the weights needs no epoch.
    node.ask("PATCH /strict_weights/all", json!({ "tags": ["t"] }))
        .await
        .check(200, json!({ "epoch": 2, "tags": ["t"] }));
    let left = json!({ "name": "all", "epoch": 3, "weights": { "a": 1, "b": 0 }, "gone": ["c"] });
    node.ask("PUT /strict_weights/all", left.clone())
        .await
        .check(200, json!({ "id": id, "gone": ["c"], "tags": null }));
    let list = node.ask("GET /strict_weights", Value::Null).await;
    list.check(200, json!({ "data": [{ "id": id, "epoch": 3, "weights": { "a": 1 } }], "next": null }));
    assert_eq!(node.ask("DELETE /strict_weights/all", Value::Null).await.status, 204);
    node.ask("GET /strict_weights/all", Value::Null).await.check(404, json!({ "message": "Not found" }));
    node.ask("GET /strict_weights", Value::Null).await.check(200, json!({ "data": [] }));
}

#[tokio::test]
async fn a_name_is_taken_once_and_an_epoch_too() {
    let node = Node::new();
    node.made("/strict_weights", halves("all", 5)).await;
    let twice = node.ask("POST /strict_weights", halves("all", 6)).await;
    twice.check(409, json!({ "code": 5, "fields": { "name": "all" } }));
    let text = "must be greater than 5, the epoch of the weights that are stored";
    for epoch in [4, 5] {
        let other = json!({ "name": "other", "epoch": epoch, "weights": { "a": 0.4, "b": 0.5 } });
        node.ask("POST /strict_weights", other).await.check(400, json!({ "fields": { "epoch": text } }));
    }
    let moved = json!({ "weights": { "a": 0.4, "b": 0.6 } });
    node.ask("PATCH /strict_weights/all", moved).await.check(400, json!({ "fields": { "epoch": text } }));
    node.made("/strict_weights", halves("other", 6)).await;
    let listed = node.ask("GET /strict_weights", Value::Null).await.json()["data"].as_array().map(Vec::len);
    assert_eq!(listed, Some(2));
}

#[tokio::test]
async fn a_node_with_a_part_is_not_forgotten() {
    let node = Node::new();
    node.made("/strict_weights", halves("all", 1)).await;
    let text = "must name 'b': with weight 0, or in 'gone' when it will never run again";
    let patch = |body: Value| node.ask("PATCH /strict_weights/all", body);
    patch(json!({ "epoch": 2, "weights": { "a": 1 } })).await.check(400, json!({ "fields": { "weights": text } }));
    let alone = json!({ "name": "all", "epoch": 2, "weights": { "a": 1 } });
    node.ask("PUT /strict_weights/all", alone).await.check(400, json!({ "fields": { "weights": text } }));
    node.ask("GET /strict_weights/all", Value::Null).await.check(200, halves("all", 1));
    let gone = json!({ "name": "all", "epoch": 2, "weights": { "a": 1 }, "gone": ["b"] });
    node.ask("PUT /strict_weights/all", gone.clone()).await.check(200, gone);
}

#[tokio::test]
async fn wrong_weights_are_refused_and_say_why() {
    let node = Node::new();
    let check = async |said: Value, fields: Value| {
        let mut body = halves("all", 1);
        for (name, value) in said.as_object().unwrap() {
            body[name] = value.clone();
        }
        node.ask("POST /strict_weights", body).await.check(400, json!({ "code": 2, "fields": fields }));
    };
    let long = "n".repeat(65);
    check(json!({ "name": null }), json!({ "name": "required field missing" })).await;
    check(json!({ "epoch": null }), json!({ "epoch": "required field missing" })).await;
    check(json!({ "epoch": 0 }), json!({ "epoch": "value should be between 1 and 9007199254740992" })).await;
    check(json!({ "epoch": 1.5 }), json!({ "epoch": "expected an integer" })).await;
    check(json!({ "weights": null }), json!({ "weights": "required field missing" })).await;
    check(json!({ "weights": {} }), json!({ "weights": "length must be at least 1" })).await;
    check(json!({ "weights": ["a"] }), json!({ "weights": "expected a map" })).await;
    check(json!({ "weights": { "a": 0.7, "b": 0.5 } }), json!({ "weights": "must add up to at most 1, not 1.2" }))
        .await;
    check(json!({ "weights": { "a": -0.5 } }), json!({ "weights": "value should be between 0 and 1" })).await;
    check(json!({ "weights": { "a": "much" } }), json!({ "weights": "expected a number" })).await;
    check(json!({ "weights": { long.clone(): 1 } }), json!({ "weights": "length must be at most 64" })).await;
    check(json!({ "gone": ["a"] }), json!({ "gone": "'a' has a weight" })).await;
    check(json!({ "share": 1 }), json!({ "share": "unknown field" })).await;
    node.ask("GET /strict_weights", Value::Null).await.check(200, json!({ "data": [] }));
}
