//! What a cluster of real processes must hold: changes everywhere one trip later, nobody lost, nobody let in.
//!
//! Bounds are those of a release build on a quiet machine; a debug build gets longer (`fleet::bound`).
//! The figures are printed either way.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fleet::{Fleet, Gate, bound, name};
use crate::postgres::{Database, Server};
use crate::process::{Node, settings_of};
use crate::relay::Link;
use crate::scenario::client::Client;

const PATIENCE: Duration = Duration::from_secs(20);

/// The embedded store, and nothing beside what a fleet sets.
fn alone(_: usize) -> Vec<(String, String)> {
    Vec::new()
}

/// A service that refuses connections: a path with a route answers 502, one without 404.
fn add_service(fleet: &Fleet) {
    let service = fleet.admin(
        0,
        "POST",
        "/services?wait=all&timeout_ms=20000",
        json!({ "name": "s", "url": "http://127.0.0.1:1" }),
    );
    assert_eq!(service.status, 201, "{}", service.text());
}

fn add_route(fleet: &Fleet, node: usize, path: &str) {
    let route = fleet.admin(node, "POST", "/services/s/routes", json!({ "paths": [path] }));
    assert_eq!(route.status, 201, "{}", route.text());
}

fn has_route(fleet: &Fleet, node: usize, path: &str) -> bool {
    let node = &fleet.nodes[node];
    node.get(node.proxy, path).is_ok_and(|answer| answer.status == 502)
}

/// Usernames at one node, in order.
fn consumers(fleet: &Fleet, node: usize) -> Vec<String> {
    let page = fleet.admin(node, "GET", "/consumers?size=1000", Value::Null).json().unwrap();
    let name = |consumer: &Value| consumer["username"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = page["data"].as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

/// From the request of a write at one node to its first effect in the proxy of each other one, in order of length.
/// `round` keeps the paths of several calls apart.
fn spread(fleet: &Fleet, round: usize, writes: usize) -> Vec<Duration> {
    let nodes = fleet.nodes.len();
    let mut took = Vec::new();
    for write in 0..writes {
        let (writer, path) = (write % nodes, format!("/{round}-{write}/"));
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            for node in (0..nodes).filter(|node| *node != writer) {
                let (tell, path) = (tell.clone(), &path);
                scope.spawn(move || {
                    let mut client = Client::new(fleet.nodes[node].proxy, false);
                    let mut status = || client.request("GET", path, &[], b"", PATIENCE).map_or(0, |it| it.status);
                    let deadline = Instant::now() + PATIENCE;
                    tell.send(Err(status())).unwrap();
                    while status() != 502 {
                        assert!(Instant::now() < deadline, "{} never has {path}", name(node));
                        thread::sleep(Duration::from_millis(2));
                    }
                    tell.send(Ok(Instant::now())).unwrap();
                });
            }
            for _ in 1..nodes {
                assert_eq!(told.recv().unwrap(), Err(404), "a path nobody wrote yet");
            }
            let began = Instant::now();
            add_route(fleet, writer, &path);
            took.extend((1..nodes).map(|_| told.recv().unwrap().unwrap() - began));
        });
    }
    took.sort();
    took
}

fn share(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

#[test]
fn a_write_is_live_everywhere_one_trip_later() {
    let fleet = Fleet::start(5, alone);
    add_service(&fleet);
    let rounds = [("no loss", 0.0, 110, 200), ("1 % loss", 0.01, 110, 350)];
    for (round, (what, loss, p50_ms, p99_ms)) in rounds.into_iter().enumerate() {
        fleet.relay.set_all(Link { loss, ..Link::delayed(75) });
        let took = spread(&fleet, round, 25);
        let (p50, p99) = (share(&took, 50), share(&took, 99));
        println!("write to effect, 5 nodes, 150 ms round trip, {what}: p50 {p50:?} p99 {p99:?}");
        assert!(p50 <= bound(p50_ms) && p99 <= bound(p99_ms), "{what}: p50 {p50:?} p99 {p99:?}");
        assert!(took[0] >= Duration::from_millis(75), "faster than the network: {:?}", took[0]);
    }
    let rtt_ms = fleet.view(0)["nodes"][1]["rtt_ms"].as_f64().unwrap();
    assert!((140.0..400.0).contains(&rtt_ms), "{rtt_ms}");
}

#[test]
fn nine_nodes_with_one_seed_become_one_cluster() {
    let mut fleet = Fleet::plan(9, alone);
    let began = Instant::now();
    fleet.nodes.iter_mut().for_each(Node::start);
    fleet.until("nine nodes do not find together", |fleet| fleet.is_whole(9));
    println!("nine processes, one seed: one cluster after {:?}", began.elapsed());
    assert!(began.elapsed() <= bound(3_000));
    let view = fleet.view(4);
    assert_eq!((&view["self"], view["cluster_id"].as_str()), (&json!("node-4"), fleet.view(7)["cluster_id"].as_str()));
    let status = fleet.admin(3, "GET", "/clustering/status", Value::Null).json().unwrap();
    assert_eq!(status.as_object().unwrap().len(), 9);
}

#[test]
fn a_killed_node_is_noticed_and_welcome_again() {
    let mut fleet = Fleet::start(3, alone);
    add_service(&fleet);
    add_route(&fleet, 2, "/r");
    fleet.until("the route is not live", |fleet| (0..3).all(|node| has_route(fleet, node, "/r")));
    fleet.nodes[2].kill();
    let noticed = fleet.until("the death is not noticed", |fleet| {
        assert!(has_route(fleet, 0, "/r") && has_route(fleet, 1, "/r"), "proxying elsewhere is disturbed");
        (0..2).all(|node| matches!(fleet.state(node, 2).as_str(), "suspect" | "dead"))
    });
    println!("kill -9: suspect or dead everywhere after {noticed:?}");
    assert!(noticed <= Duration::from_secs(8));
    add_route(&fleet, 0, "/meanwhile");
    let began = Instant::now();
    fleet.nodes[2].start();
    let ready = fleet.nodes[2].wait_ready(PATIENCE);
    fleet.until("it does not come back", |fleet| (0..2).all(|node| fleet.state(node, 2) == "alive"));
    println!("restarted: ready after {ready:?}, alive everywhere after {:?}", began.elapsed());
    assert!(began.elapsed() <= bound(1_000));
    fleet.until("it lacks what it missed", |fleet| has_route(fleet, 2, "/meanwhile"));
}

#[test]
fn a_node_that_stops_for_three_seconds_is_not_declared_dead() {
    let fleet = Fleet::start(3, alone);
    fleet.nodes[2].signal("STOP");
    let began = Instant::now();
    let mut worst = String::new();
    let mut look = |fleet: &Fleet| {
        for state in [fleet.state(0, 2), fleet.state(1, 2)] {
            assert_ne!(state, "dead", "after {:?}", began.elapsed());
            worst = if state == "suspect" { state } else { std::mem::take(&mut worst) };
        }
    };
    while began.elapsed() < Duration::from_secs(3) {
        look(&fleet);
        thread::sleep(Duration::from_millis(20));
    }
    fleet.nodes[2].signal("CONT");
    let back = fleet.until("it is not alive again", |fleet| {
        look(fleet);
        fleet.is_whole(3)
    });
    println!("SIGSTOP for 3 s: worst '{worst}', whole {back:?} after SIGCONT");
}

/// Both sides of a partition go on, and agree soon after it ends; answers how soon.
fn partition(duration: Duration) -> Duration {
    let fleet = Fleet::start(4, alone);
    fleet.relay.set_all(Link::delayed(20));
    assert_eq!(fleet.admin(0, "PUT", "/consumers/both?wait=all&timeout_ms=20000", json!({})).status, 200);
    fleet.relay.partition(&[&[0, 1], &[2, 3]]);
    let began = Instant::now();
    let mut written = vec!["both".to_owned()];
    let mut last = String::new();
    while began.elapsed() < duration {
        let write = written.len();
        for node in 0..4 {
            let consumer = format!("c{write}-{node}");
            assert_eq!(fleet.admin(node, "POST", "/consumers", json!({ "username": &consumer })).status, 201);
            written.push(consumer);
            last = format!("by-{node}-{write}");
            let patch = fleet.admin(node, "PATCH", "/consumers/both", json!({ "custom_id": &last }));
            assert_eq!(patch.status, 200, "{}", patch.text());
        }
        thread::sleep(duration / 10);
    }
    written.sort();
    assert_eq!(fleet.state(0, 2), "dead", "nobody noticed");
    fleet.relay.heal();
    let took = fleet.until("the sides do not agree", |fleet| {
        fleet.is_whole(4) && (0..4).all(|node| consumers(fleet, node).len() == written.len())
    });
    for node in 0..4 {
        assert_eq!(consumers(&fleet, node), written, "acknowledged writes are lost at {}", name(node));
        let both = fleet.admin(node, "GET", "/consumers/both", Value::Null).json().unwrap();
        assert_eq!(both["custom_id"], last, "the last write wins, at {}", name(node));
    }
    took
}

#[test]
fn both_sides_of_a_partition_agree_after_it() {
    let took = partition(Duration::from_secs(10));
    println!("a partition of 10 s: equal everywhere {took:?} after it healed");
    assert!(took <= bound(1_000));
}

#[test]
#[ignore = "takes more than a minute"]
fn both_sides_of_a_minutes_partition_agree_after_it() {
    let took = partition(Duration::from_secs(60));
    println!("a partition of 60 s: equal everywhere {took:?} after it healed");
    assert!(took <= bound(1_000));
}

#[test]
fn a_write_that_waits_tells_who_lacks_it() {
    let fleet = Fleet::start(3, alone);
    let written = fleet.admin(1, "POST", "/consumers?wait=all&timeout_ms=20000", json!({ "username": "a" }));
    assert_eq!(written.status, 201, "{}", written.text());
    assert!((0..3).all(|node| consumers(&fleet, node) == ["a"]), "answered before everybody had it");
    fleet.relay.cut(1, 2);
    fleet.relay.cut(0, 2);
    let late = fleet.admin(1, "POST", "/consumers?wait=all&timeout_ms=300", json!({ "username": "b" }));
    let body = late.json().unwrap();
    assert_eq!((late.status, &body["missing"]), (504, &json!(["node-2"])), "{body}");
    assert_eq!(late.header("x-tidegate-revision"), Some("1.2"));
    assert_eq!(fleet.admin(1, "GET", "/consumers/b", Value::Null).status, 200);
    fleet.relay.heal();
    fleet.until("the write never arrives", |fleet| fleet.is_whole(3) && consumers(fleet, 2).len() == 2);
}

#[test]
fn a_node_that_leaves_is_gone_at_once() {
    let mut fleet = Fleet::start(3, alone);
    let answer = fleet.admin(2, "POST", "/cluster/leave", Value::Null);
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(fleet.nodes[2].ended(PATIENCE), Some(0));
    let took = fleet.until("nobody noticed", |fleet| (0..2).all(|node| fleet.state(node, 2) == "left"));
    assert!(took <= Duration::from_secs(1), "{took:?} after its end");
    assert_eq!(fleet.admin(0, "POST", "/consumers?wait=all&timeout_ms=5000", json!({ "username": "a" })).status, 201);
}

#[test]
fn a_wrong_secret_is_never_a_member() {
    let wrong = || vec![("cluster_secret".to_owned(), "another secret than theirs".to_owned())];
    let mut fleet = Fleet::plan(3, |node| if node == 2 { wrong() } else { Vec::new() });
    fleet.nodes.iter_mut().for_each(Node::start);
    fleet.until("the two do not find together", |fleet| fleet.is_whole(2));
    fleet.until("the stranger does not serve", |fleet| fleet.view(2)["self"] == "node-2");
    let refused = |fleet: &Fleet| {
        let page = fleet.nodes[0].get(fleet.nodes[0].status, "/metrics").unwrap().text();
        let lines = page.lines().filter(|line| line.starts_with("tidegate_cluster_refused_handshakes_total{"));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum::<u64>()
    };
    fleet.until("refusals are not counted", |fleet| {
        assert!(fleet.is_whole(2), "the members are disturbed");
        refused(fleet) >= 3
    });
    assert_eq!(fleet.view(2)["nodes"].as_array().unwrap().len(), 1, "the stranger is alone");
    assert_eq!(fleet.admin(0, "POST", "/consumers?wait=all&timeout_ms=5000", json!({ "username": "a" })).status, 201);
    assert!(consumers(&fleet, 2).is_empty());
}

#[test]
fn a_joiner_has_a_hundred_thousand_entities_at_once_without_the_database() {
    // Routes, and as many consumers. A debug build is slow with so many.
    let half = if cfg!(debug_assertions) { 10_000 } else { 50_000 };
    let last = format!("/{half}");
    let server = Server::start();
    let database = server.create_database();
    let mut fleet = Fleet::plan(2, |_| settings_of(&database));
    fleet.nodes[0].start();
    fleet.nodes[0].wait_ready(PATIENCE);
    assert_eq!(fleet.admin(0, "POST", "/services", json!({ "name": "s", "url": "http://127.0.0.1:1" })).status, 201);
    add_route(&fleet, 0, "/0");
    assert_eq!(fleet.admin(0, "POST", "/consumers", json!({ "username": "c0" })).status, 201);
    fleet.nodes[0].kill();
    // What a node would write, but for the unique keys, which nobody here asks for.
    database.sql(&format!(
        "BEGIN; SET LOCAL tidegate.writer = 'on'; UPDATE revision SET number = number + 1;
         INSERT INTO entities (kind, id, doc) SELECT kind, id, doc || jsonb_build_object('id', id)
            || CASE kind WHEN 'routes' THEN jsonb_build_object('paths', jsonb_build_array('/' || n))
               ELSE jsonb_build_object('username', 'c' || n) END
         FROM (SELECT kind, doc, n, gen_random_uuid() AS id FROM entities, generate_series(1, {half}) AS n
               WHERE kind IN ('routes', 'consumers')) AS copies;
         DELETE FROM changes; COMMIT",
    ));
    fleet.nodes[0].start();
    let minute = Duration::from_secs(60);
    let loaded = fleet.within(minute, "the first node does not have them", |fleet| has_route(fleet, 0, &last));
    server.stop();
    let began = Instant::now();
    fleet.nodes[1].start();
    fleet.within(minute, "the joiner does not get ready", |fleet| has_route(fleet, 1, &last));
    let ready = began.elapsed();
    println!(
        "joined {} entities without the database: ready after {ready:?} (from the database: {loaded:?})",
        2 * half
    );
    assert!(ready <= bound(3_000));
}

#[test]
fn without_the_database_every_node_restarts_and_answers() {
    let server = Server::start();
    let database = server.create_database();
    let mut fleet = Fleet::start(3, |_| settings_of(&database));
    add_service(&fleet);
    add_route(&fleet, 1, "/r");
    fleet.until("the route is not live", |fleet| (0..3).all(|node| has_route(fleet, node, "/r")));
    server.stop();
    for _ in 0..2 {
        for node in 0..3 {
            fleet.nodes[node].kill();
            fleet.nodes[node].start();
            fleet.until("it does not serve", |fleet| has_route(fleet, node, "/r"));
        }
    }
    assert_eq!(fleet.admin(0, "POST", "/consumers", json!({ "username": "a" })).status, 503);
    server.start_again();
    fleet.until("writes do not come back", |fleet| fleet.admin(2, "PUT", "/consumers/a", json!({})).status == 200);
    add_route(&fleet, 0, "/back");
    fleet.until("changes do not resume", |fleet| (0..3).all(|node| has_route(fleet, node, "/back")));
    fleet.until("they do not agree", |fleet| fleet.is_whole(3));
}

#[test]
fn an_older_copy_of_the_database_is_followed_by_all() {
    let server = Server::start();
    let database = server.create_database();
    let mut fleet = Fleet::plan(3, |_| settings_of(&database));
    fleet.nodes[0].start();
    fleet.nodes[0].wait_ready(PATIENCE);
    assert_eq!(fleet.admin(0, "POST", "/services", json!({ "name": "s", "url": "http://127.0.0.1:1" })).status, 201);
    add_route(&fleet, 0, "/old");
    fleet.nodes[0].kill();
    let (postgres, name) = (Database { port: database.port, name: "postgres".to_owned() }, &database.name);
    postgres.sql(&format!("CREATE DATABASE older TEMPLATE {name}"));
    fleet.nodes.iter_mut().for_each(Node::start);
    fleet.until("the nodes do not become one cluster", |fleet| fleet.is_whole(3));
    add_route(&fleet, 1, "/new");
    fleet.until("the write is not everywhere", |fleet| (0..3).all(|node| has_route(fleet, node, "/new")));
    postgres.sql(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    postgres.sql(&format!("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"));
    postgres.sql(&format!("ALTER DATABASE {name} RENAME TO newer"));
    postgres.sql(&format!("ALTER DATABASE older RENAME TO {name}"));
    let took = fleet.until("the copy is not followed", |fleet| {
        fleet.is_whole(3) && (0..3).all(|node| !has_route(fleet, node, "/new") && has_route(fleet, node, "/old"))
    });
    println!("PostgreSQL replaced by an older copy: followed everywhere after {took:?}");
    assert!(took <= bound(5_000));
    for node in 0..3 {
        assert_eq!(fleet.metric(node, "tidegate_cluster_epochs_adopted_total"), 1.0, "node {node}");
        let log = fleet.nodes[node].log();
        assert_eq!(log.matches("the history of the configuration was replaced").count(), 1, "{log}");
    }
    add_route(&fleet, 2, "/on");
    fleet.until("changes do not go on", |fleet| (0..3).all(|node| has_route(fleet, node, "/on")));
}

#[test]
fn the_side_without_the_database_catches_up_after_a_partition() {
    let database = Server::shared().create_database();
    let gate = Gate::to(database.port);
    let behind = |node: usize| {
        let port = if node < 2 { database.port } else { gate.port };
        settings_of(&Database { port, name: database.name.clone() })
    };
    let fleet = Fleet::start(4, behind);
    add_service(&fleet);
    fleet.relay.partition(&[&[0, 1], &[2, 3]]);
    gate.shut();
    let refused = fleet.admin(2, "POST", "/consumers", json!({ "username": "nobody" }));
    assert_eq!(refused.status, 503, "{}", refused.text());
    let began = Instant::now();
    let mut written = Vec::new();
    while began.elapsed() < Duration::from_secs(5) {
        let consumer = format!("c{}", written.len());
        let node = written.len() % 2;
        assert_eq!(fleet.admin(node, "POST", "/consumers", json!({ "username": &consumer })).status, 201);
        written.push(consumer);
        thread::sleep(Duration::from_millis(300));
    }
    written.sort();
    gate.open();
    fleet.relay.heal();
    let took = fleet.until("the sides do not agree", |fleet| {
        fleet.is_whole(4) && (0..4).all(|node| consumers(fleet, node) == written)
    });
    println!("a partition of 5 s with PostgreSQL on one side: equal everywhere {took:?} after it healed");
    assert!(took <= bound(1_000));
}
