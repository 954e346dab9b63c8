//! Whole builds: what is there, what stays from one to the next, what fails closed.

use std::time::Instant;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::plugin::chain::Run;
use crate::plugin::testing::{Stage, told};
use crate::snapshot::plan::Backend;

const SERVICE: u128 = 1;
const ROUTE: u128 = 2;
const CONSUMER: u128 = 3;
const KEY: u128 = 4;
const AUTH: u128 = 5;

fn entity(kind: Kind, id: u128, mut doc: Value) -> Arc<Entity> {
    doc["id"] = json!(Uuid::from_u128(id));
    Arc::new(Entity::from_doc(kind, doc.as_object().unwrap()).unwrap())
}

fn reference(id: u128) -> Value {
    json!({ "id": Uuid::from_u128(id) })
}

fn service(id: u128, host: &str, enabled: bool) -> Arc<Entity> {
    let doc = json!({
        "name": format!("s{id}"), "protocol": "http", "host": host, "port": 80, "path": null, "retries": 5,
        "connect_timeout": 60000, "write_timeout": 60000, "read_timeout": 60000, "tls_verify": null,
        "tls_verify_depth": null, "enabled": enabled
    });
    entity(Kind::SERVICES, id, doc)
}

fn route(id: u128, path: &str, service: Option<u128>, protocols: &[&str]) -> Arc<Entity> {
    let doc = json!({
        "name": format!("r{id}"), "protocols": protocols, "methods": null, "hosts": null, "paths": [path],
        "headers": null, "snis": null, "https_redirect_status_code": 426, "strip_path": true, "preserve_host": false,
        "request_buffering": true, "response_buffering": true, "regex_priority": 0, "path_handling": "v0",
        "service": service.map(reference)
    });
    entity(Kind::ROUTES, id, doc)
}

fn consumer(id: u128, username: &str) -> Arc<Entity> {
    entity(Kind::CONSUMERS, id, json!({"username": username, "custom_id": null}))
}

fn key(id: u128, consumer: u128, key: &str) -> Arc<Entity> {
    entity(Kind::KEYAUTH_CREDENTIALS, id, json!({"key": key, "consumer": reference(consumer)}))
}

fn plugin(id: u128, name: &str, scope: Value, config: Value) -> Arc<Entity> {
    let mut doc =
        json!({"name": name, "route": null, "service": null, "consumer": null, "config": config, "enabled": true});
    doc.as_object_mut().unwrap().extend(scope.as_object().unwrap().clone());
    entity(Kind::PLUGINS, id, doc)
}

fn key_auth(id: u128, scope: Value) -> Arc<Entity> {
    let config = json!({
        "key_names": ["apikey"], "hide_credentials": false, "anonymous": null, "key_in_header": true,
        "key_in_query": true, "key_in_body": false, "run_on_preflight": true, "realm": null
    });
    plugin(id, "key-auth", scope, config)
}

/// A service with a route that asks for a key, and a consumer with one.
fn world() -> Entities {
    vec![
        service(SERVICE, "origin.test", true),
        route(ROUTE, "/a", Some(SERVICE), &["http", "https"]),
        consumer(CONSUMER, "ann"),
        key(KEY, CONSUMER, "secret"),
        key_auth(AUTH, json!({"service": reference(SERVICE)})),
    ]
}

/// `entities` with this one in place of the one with its kind and id.
fn with(mut entities: Entities, entity: Arc<Entity>) -> Entities {
    entities.retain(|other| (other.kind(), other.id()) != (entity.kind(), entity.id()));
    entities.push(entity);
    entities
}

fn find<'a>(snapshot: &'a Snapshot, path: &str) -> Option<&'a Arc<Plan>> {
    let headers = HeaderMap::new();
    let query = Query { method: "GET", host: "h", path: path.as_bytes(), headers: &headers, sni: None, port: 80 };
    snapshot.find(&query).map(|found| found.plan)
}

/// What the chain of the route at `path` says to a request for `target`.
fn ask(snapshot: &Snapshot, path: &str, target: &str) -> String {
    let mut stage = Stage::get(target).with_directory(&snapshot.directory);
    let mut exchange = stage.exchange();
    told(&find(snapshot, path).unwrap().chain.access(&mut exchange, &mut Run::default()))
}

fn build(builder: &mut Builder, entities: Entities) -> (Snapshot, Vec<String>) {
    let (snapshot, problems) = builder.build(entities, Revision::default());
    let problems = problems.iter().map(|problem| format!("{} {}: {}", problem.kind, problem.id.as_u128(), problem.why));
    (snapshot, problems.collect())
}

#[test]
fn everything_a_request_needs_is_there() {
    let (snapshot, problems) = build(&mut Builder::default(), world());
    assert_eq!(problems, Vec::<String>::new());
    let plan = find(&snapshot, "/a/b").unwrap();
    assert_eq!(plan.route_id, Uuid::from_u128(ROUTE));
    assert_eq!(plan.route_name.as_deref(), Some("r2"));
    assert_eq!(plan.https_redirect_status_code, StatusCode::UPGRADE_REQUIRED);
    assert!(plan.strip_path && !plan.preserve_host && !plan.protocols.https_only());
    let service = plan.service.as_ref().unwrap();
    assert_eq!(service.backend, Backend::Host { host: "origin.test".into(), port: 80 });
    assert_eq!((service.tls, service.retries), (false, 5));
    assert_eq!(ask(&snapshot, "/a", "/"), "401 No API key found in request");
    assert_eq!(ask(&snapshot, "/a", "/?apikey=secret"), "continue");
    assert!(find(&snapshot, "/b").is_none());
    assert!(snapshot.unmatched.is_empty());
}

#[test]
fn unchanged_pieces_are_the_same_pieces() {
    let mut builder = Builder::default();
    let other = route(20, "/other", Some(SERVICE), &["http"]);
    let entities = with(world(), other);
    let (before, _) = build(&mut builder, entities.clone());
    // The same texts in new allocations, in another order.
    let again = entities.iter().rev().map(|old| Arc::new(Entity::from_doc(old.kind(), &old.doc()).unwrap())).collect();
    let (after, _) = build(&mut builder, again);
    assert!(Arc::ptr_eq(&before.directory, &after.directory) && Arc::ptr_eq(&before.router, &after.router));
    assert!(Arc::ptr_eq(find(&before, "/a").unwrap(), find(&after, "/a").unwrap()));

    let (moved, _) = build(&mut builder, with(entities.clone(), route(ROUTE, "/moved", Some(SERVICE), &["http"])));
    assert!(find(&moved, "/a").is_none() && find(&moved, "/moved").is_some());
    assert!(Arc::ptr_eq(find(&before, "/other").unwrap(), find(&moved, "/other").unwrap()));

    let limited = with(entities.clone(), key_auth(21, json!({"route": reference(ROUTE)})));
    let (limited, _) = build(&mut builder, limited);
    assert!(!Arc::ptr_eq(find(&before, "/a").unwrap(), find(&limited, "/a").unwrap()));
    assert!(Arc::ptr_eq(find(&before, "/other").unwrap(), find(&limited, "/other").unwrap()));
    // Snapshots that are out stay as they are.
    assert_eq!(ask(&before, "/a", "/?apikey=secret"), "continue");
}

#[test]
fn changes_take_effect() {
    let mut builder = Builder::default();
    build(&mut builder, world());
    let (snapshot, _) = build(&mut builder, with(world(), service(SERVICE, "elsewhere.test", true)));
    let backend = &find(&snapshot, "/a").unwrap().service.as_ref().unwrap().backend;
    assert_eq!(*backend, Backend::Host { host: "elsewhere.test".into(), port: 80 });
    let (snapshot, _) = build(&mut builder, with(world(), consumer(CONSUMER, "renamed")));
    assert_eq!(snapshot.directory.keys["secret"].consumer.username.as_deref(), Some("renamed"));
    assert!(snapshot.directory.consumer("ann").is_none());
    let (snapshot, _) = build(&mut builder, with(world(), key(KEY, CONSUMER, "fresh")));
    assert_eq!(ask(&snapshot, "/a", "/?apikey=secret"), "401 Unauthorized");
    assert_eq!(ask(&snapshot, "/a", "/?apikey=fresh"), "continue");
    let (snapshot, problems) = build(&mut builder, Entities::new());
    assert!(find(&snapshot, "/a").is_none() && problems.is_empty() && snapshot.directory.keys.is_empty());
}

#[test]
fn routes_take_no_part_without_http_or_with_a_service_that_is_off() {
    let mut builder = Builder::default();
    let entities = with(world(), route(20, "/tcp", Some(SERVICE), &["tcp", "tls"]));
    let (snapshot, problems) = build(&mut builder, entities.clone());
    assert!(find(&snapshot, "/tcp").is_none() && problems.is_empty());
    let (snapshot, problems) = build(&mut builder, with(entities.clone(), service(SERVICE, "origin.test", false)));
    assert!(find(&snapshot, "/a").is_none() && problems.is_empty());
    let (snapshot, _) = build(&mut builder, entities);
    assert!(find(&snapshot, "/a").is_some());
}

#[test]
fn instances_that_are_off_hide_nothing() {
    let off = plugin(20, "key-auth", json!({"route": reference(ROUTE), "enabled": false}), json!({}));
    let (snapshot, problems) = build(&mut Builder::default(), with(world(), off));
    assert_eq!(ask(&snapshot, "/a", "/"), "401 No API key found in request");
    assert!(problems.is_empty());
}

#[test]
fn what_cannot_be_built_fails_closed_and_the_rest_serves() {
    let free = route(21, "/free", None, &["http"]);
    let check = |broken: Arc<Entity>, a: &str, free_route: &str, expected: &str| {
        let mut builder = Builder::default();
        let entities = with(with(world(), free.clone()), broken);
        for _ in 0..2 {
            let (snapshot, problems) = build(&mut builder, entities.clone());
            assert_eq!(ask(&snapshot, "/a", "/?apikey=secret"), a, "{problems:?}");
            assert_eq!(ask(&snapshot, "/free", "/"), free_route, "{problems:?}");
            assert!(problems.len() == 1 && problems[0].starts_with(expected), "{problems:?}");
        }
    };
    let on_route = json!({"route": reference(ROUTE)});
    check(plugin(20, "ghost", on_route.clone(), json!({})), "fail", "continue", "plugins 20: there is no plugin ghost");
    check(plugin(20, "ghost", json!({}), json!({})), "fail", "fail", "plugins 20: there is no plugin ghost");
    check(plugin(20, "key-auth", on_route, json!({})), "fail", "continue", "plugins 20: missing field");
    // A sound instance that is nearer runs instead of the broken one.
    check(plugin(20, "key-auth", json!({}), json!({})), "continue", "fail", "plugins 20: missing field");
    check(entity(Kind::PLUGINS, 20, json!({"name": 7})), "fail", "fail", "plugins 20: invalid type");

    let broken = with(world(), entity(Kind::SERVICES, SERVICE, json!({"enabled": true})));
    let (snapshot, problems) = build(&mut Builder::default(), with(broken, free.clone()));
    assert!(find(&snapshot, "/a").unwrap().problem.is_some() && find(&snapshot, "/free").unwrap().problem.is_none());
    assert_eq!(problems.len(), 2);
    let (snapshot, problems) = build(&mut Builder::default(), vec![route(20, "/a", Some(99), &["http"])]);
    assert_eq!(find(&snapshot, "/a").unwrap().problem.as_deref(), Some("its service does not exist"));
    assert_eq!(problems, ["routes 20: its service does not exist"]);
    let (snapshot, problems) = build(&mut Builder::default(), vec![route(20, "~/(", None, &["http"]), free]);
    assert!(find(&snapshot, "/free").is_some());
    assert!(problems[0].starts_with("routes 20: "), "{problems:?}");
    assert_eq!(problems.len(), 1);
}

#[test]
fn readers_see_what_was_published_last() {
    let live = Live::default();
    let mut reader = live.reader();
    assert!(reader.load().is_none() && live.load().is_none());
    let mut builder = Builder::default();
    let first = Arc::new(build(&mut builder, world()).0);
    live.publish(Arc::clone(&first), std::time::Duration::ZERO);
    let loaded = reader.load().unwrap();
    assert!(std::ptr::eq(&*loaded, &*first) && Rc::ptr_eq(&loaded.0, &reader.load().unwrap().0));
    let second = Arc::new(build(&mut builder, world()).0);
    live.publish(Arc::clone(&second), std::time::Duration::ZERO);
    assert!(std::ptr::eq(&*reader.load().unwrap(), &*second) && std::ptr::eq(&*loaded, &*first));
}

#[tokio::test(start_paused = true)]
async fn a_writer_waits_for_its_revision_but_not_for_a_large_build() {
    let live = Arc::new(Live::default());
    let revision = |number| Revision::new(1, number);
    let publish = |number, took| {
        let snapshot = Builder::default().build(Vec::new(), revision(number)).0;
        live.publish(Arc::new(snapshot), took);
    };
    let begun = tokio::time::Instant::now();
    live.reached(revision(1)).await;
    publish(1, UNHURRIED);
    live.reached(revision(1)).await;
    assert_eq!(begun.elapsed(), std::time::Duration::ZERO, "nothing to wait for");
    let waiting = tokio::spawn({
        let live = live.clone();
        async move { live.reached(revision(3)).await }
    });
    tokio::task::yield_now().await;
    publish(2, UNHURRIED);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    publish(3, UNHURRIED);
    waiting.await.unwrap();
    assert_eq!(begun.elapsed(), std::time::Duration::ZERO, "it was told");
    live.reached(revision(4)).await;
    assert_eq!(begun.elapsed(), PATIENCE);
    publish(4, UNHURRIED + std::time::Duration::from_millis(1));
    live.reached(revision(5)).await;
    assert_eq!(begun.elapsed(), PATIENCE, "a large configuration is not waited for");
}

#[test]
fn old_snapshots_are_freed_by_the_publisher() {
    let live = Live::default();
    let mut reader = live.reader();
    let mut builder = Builder::default();
    let mut publish = || {
        let snapshot = Arc::new(build(&mut builder, world()).0);
        live.publish(Arc::clone(&snapshot), std::time::Duration::ZERO);
        Arc::downgrade(&snapshot)
    };
    let first = publish();
    let used = reader.load().unwrap();
    let second = publish();
    publish();
    assert!(first.upgrade().is_some(), "a request still uses it");
    drop((used, reader.load()));
    assert!(first.upgrade().is_some() && second.upgrade().is_some(), "the worker that was last frees nothing");
    publish();
    assert!(first.upgrade().is_none() && second.upgrade().is_none());
}

/// Prints what a build of 100,000 routes costs: `cargo test --release --lib snapshot -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn a_hundred_thousand_routes() {
    let mut entities: Entities = (0..1_000).map(|id| service(id, "origin.test", true)).collect();
    entities.extend((0..100_000).map(|id| {
        let path = format!("/group{}/route{id}", id % 300);
        route(1_000_000 + id, &path, Some(id % 1_000), &["http", "https"])
    }));
    entities.extend((0..1_000).map(|id| key_auth(2_000_000 + id, json!({"service": reference(id)}))));
    entities.extend((0..20_000).map(|id| consumer(3_000_000 + id, &format!("consumer{id}"))));
    entities.extend((0..20_000).map(|id| key(4_000_000 + id, 3_000_000 + id, &format!("secret{id}"))));
    let mut builder = Builder::default();
    let mut timed = |what: &str, entities: Entities| {
        let start = Instant::now();
        let (snapshot, problems) = build(&mut builder, entities);
        println!("{what:<24} {:>7.1} ms", start.elapsed().as_secs_f64() * 1e3);
        assert!(find(&snapshot, "/group7/route7").is_some() && problems.is_empty());
        snapshot
    };
    let first = timed("first", entities.clone());
    let same = timed("nothing changed", entities.clone());
    let moved = timed("one route changed", with(entities.clone(), route(1_000_008, "/moved", Some(8), &["http"])));
    let key = timed("one key changed", with(entities.clone(), key(4_000_008, 3_000_008, "changed")));
    let auth = timed("one plugin changed", with(entities, key_auth(2_000_008, json!({"service": reference(9)}))));
    drop((first, same, moved, key, auth));
}

/// Prints what key-auth and rate-limiting cost a request; run as above.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stdout)]
fn a_request_through_both_plugins() {
    const ROUNDS: u32 = 1_000_000;
    let config = json!({
        "minute": 1e9, "limit_by": "consumer", "hide_client_headers": false, "error_code": 429, "error_message": "no"
    });
    let entities = with(world(), plugin(20, "rate-limiting", json!({"route": reference(ROUTE)}), config));
    let (snapshot, _) = build(&mut Builder::default(), entities);
    let chain = &find(&snapshot, "/a").unwrap().chain;
    let mut stage = Stage::get("/").with_header("apikey", "secret").with_directory(&snapshot.directory);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let mut exchange = stage.exchange();
        assert!(matches!(chain.access(&mut exchange, &mut Run::default()), crate::plugin::Step::Continue));
        assert_eq!(exchange.response_headers.len(), 5);
    }
    println!("{:.0} ns per request", start.elapsed().as_secs_f64() * 1e9 / f64::from(ROUNDS));
}
