//! Whole configurations as the publisher hands them to a `Builder`.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::entity::{Entity, Kind};
use tidegate::snapshot::{Builder, Entities, Snapshot};
use tidegate_proto::Revision;
use uuid::Uuid;

use crate::Outcome;

/// The key of the consumer in `limited`.
pub const KEY: &str = "a-key-of-somebody";
pub const ROUTES: usize = 100_000;

const SERVICES: usize = 1_000;
const CONSUMERS: usize = 1_000;
/// Ids of each kind begin at multiples of this.
const KIND: usize = 1_000_000;

/// 100,000 routes of 1,000 services with key-auth each, and 1,000 consumers with a key each.
pub fn large() -> Outcome<Entities> {
    let mut entities = Vec::new();
    for number in 0..SERVICES {
        entities.push(service(number)?);
        entities.push(plugin(number, "key-auth", json!({"service": reference(KIND + number)}), key_auth())?);
    }
    for number in 0..CONSUMERS {
        entities.extend(consumer(number, &format!("secret{number}"))?);
    }
    for number in 0..ROUTES {
        entities.push(route(number, &format!("/group{}/route{number}", number % 300))?);
    }
    Ok(entities)
}

/// One route with key-auth and rate-limiting, one consumer.
pub fn limited() -> Outcome<Entities> {
    let limits = json!({
        "minute": 1e9, "limit_by": "consumer", "policy": "cluster", "guarantee": "approximate",
        "fault_tolerant": true, "hide_client_headers": false, "error_code": 429,
        "error_message": "API rate limit exceeded", "sync_rate": -1
    });
    let on_service = json!({"service": reference(KIND)});
    let mut entities = vec![service(0)?, route(0, "/")?];
    entities.extend(consumer(0, KEY)?);
    entities.push(plugin(0, "key-auth", on_service.clone(), key_auth())?);
    entities.push(plugin(1, "rate-limiting", on_service, limits)?);
    Ok(entities)
}

/// The route with this number and another path, in the place of the one that is there.
pub fn with_route_at(entities: &mut Entities, number: usize, path: &str) -> Outcome<()> {
    let changed = route(number, path)?;
    let at = entities.iter().rposition(|entity| entity.kind() == Kind::ROUTES && entity.id() == changed.id());
    entities[at.ok_or("no such route")?] = changed;
    Ok(())
}

/// Builds, and takes no problem.
pub fn build(builder: &mut Builder, entities: Entities) -> Outcome<Snapshot> {
    let (snapshot, problems) = builder.build(entities, Revision::default());
    match problems.first() {
        None => Ok(snapshot),
        Some(problem) => Err(problem.why.clone().into()),
    }
}

fn id(number: usize) -> String {
    Uuid::from_u128(number as u128 + 1).to_string()
}

fn reference(number: usize) -> Value {
    json!({ "id": id(number) })
}

fn entity(kind: Kind, doc: &Value) -> Outcome<Arc<Entity>> {
    let entity = doc.as_object().and_then(|doc| Entity::from_doc(kind, doc));
    Ok(Arc::new(entity.ok_or("no entity")?))
}

fn service(number: usize) -> Outcome<Arc<Entity>> {
    let doc = json!({
        "id": id(KIND + number), "name": format!("service{number}"), "protocol": "http", "host": "origin.test",
        "port": 80, "path": null, "retries": 5, "connect_timeout": 60000, "write_timeout": 60000,
        "read_timeout": 60000, "tls_verify": null, "tls_verify_depth": null, "enabled": true
    });
    entity(Kind::SERVICES, &doc)
}

fn route(number: usize, path: &str) -> Outcome<Arc<Entity>> {
    let doc = json!({
        "id": id(2 * KIND + number), "name": format!("route{number}"), "protocols": ["http", "https"],
        "methods": null, "hosts": null, "paths": [path], "headers": null, "snis": null,
        "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false, "request_buffering": true,
        "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
        "service": reference(KIND + number % SERVICES)
    });
    entity(Kind::ROUTES, &doc)
}

fn consumer(number: usize, key: &str) -> Outcome<[Arc<Entity>; 2]> {
    let consumer = json!({"id": id(3 * KIND + number), "username": format!("consumer{number}"), "custom_id": null});
    let key = json!({"id": id(4 * KIND + number), "key": key, "consumer": reference(3 * KIND + number)});
    Ok([entity(Kind::CONSUMERS, &consumer)?, entity(Kind::KEYAUTH_CREDENTIALS, &key)?])
}

fn plugin(number: usize, name: &str, scope: Value, config: Value) -> Outcome<Arc<Entity>> {
    let mut doc = json!({
        "id": id(5 * KIND + number), "name": name, "route": null, "service": null, "consumer": null, "enabled": true
    });
    doc["config"] = config;
    if let (Some(doc), Value::Object(scope)) = (doc.as_object_mut(), scope) {
        doc.extend(scope);
    }
    entity(Kind::PLUGINS, &doc)
}

fn key_auth() -> Value {
    json!({
        "key_names": ["apikey"], "hide_credentials": false, "anonymous": null, "key_in_header": true,
        "key_in_query": true, "key_in_body": false, "run_on_preflight": true, "realm": null
    })
}
