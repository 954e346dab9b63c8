//! Limits of policy cluster on real nodes: who is counted together, what clients are told, and what lost peers change.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::fleet::{Fleet, name};
use crate::scenario::client::{Answer, Client};

const NODES: usize = 3;
/// Requests an hour; hours, so that no test waits for a window.
const LIMIT: usize = 6;
const PATIENCE: Duration = Duration::from_secs(30);

/// What a request of a subject carries.
#[derive(Clone, Copy)]
struct Sent<'a> {
    path: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

impl Sent<'_> {
    fn to(&self, fleet: &Fleet, node: usize) -> Answer {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let sent = Client::new(fleet.nodes[node].proxy, false).request("GET", self.path, &headers, b"", PATIENCE);
        let answer = sent.unwrap_or_else(|why| panic!("{}: {why:?}", name(node)));
        assert!(matches!(answer.status, 200 | 429), "{}: {}", answer.status, answer.text());
        answer
    }
}

/// Nodes that believe anybody about the client's address, and a backend.
fn fleet() -> (Fleet, Backend) {
    let adjust = |_| vec![("trusted_ips".to_owned(), "0.0.0.0/0".to_owned())];
    // An hour that ends in mid-test would admit as much again.
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if now_s % 3_600 > 3_500 {
        sleep(Duration::from_secs(3_601 - now_s % 3_600));
    }
    (Fleet::start(NODES, adjust), Backend::answering())
}

fn post(fleet: &Fleet, path: &str, body: Value) -> Value {
    let answer = fleet.admin(0, "POST", path, body);
    assert_eq!(answer.status, 201, "{path}: {}", answer.text());
    answer.json().unwrap()
}

/// A service of this name with routes below `/NAME`, limited; live everywhere.
fn add_limited(fleet: &Fleet, backend: &Backend, service: &str, config: Value) {
    post(fleet, "/services", json!({"name": service, "url": backend.url()}));
    for part in ["", "/other"] {
        post(fleet, &format!("/services/{service}/routes"), json!({"paths": [format!("/{service}{part}")]}));
    }
    let path = format!("/services/{service}/plugins?wait=all&timeout_ms=30000");
    post(fleet, &path, json!({"name": "rate-limiting", "config": config}));
    // The snapshot with it may be a moment behind.
    fleet.until("the limit is not live", |fleet| {
        (0..NODES).all(|node| {
            let probe = [("X-Real-IP", "192.0.2.1"), ("apikey", "key-of-probe"), ("x-tenant", "probe")];
            let sent = Sent { path: &format!("/{service}/probe"), headers: &probe };
            sent.to(fleet, node).header("ratelimit-limit").is_some()
        })
    });
}

/// Requests of one subject at each node in turn, each after all nodes heard of those before: exactly the limit is
/// admitted in all, and what remains never rises at a node.
fn use_up(fleet: &Fleet, named: (&str, &str), sent: &[Sent<'_>]) {
    let began = Instant::now();
    let (mut admitted, mut refused_in_a_row) = (0, 0);
    let mut remaining = [usize::MAX; NODES];
    for (number, node) in (0..NODES).cycle().enumerate() {
        let answer = sent[number % sent.len()].to(fleet, node);
        let told: usize = answer.header("x-ratelimit-remaining-hour").unwrap().parse().unwrap();
        assert!(told <= remaining[node], "{named:?}: {told} remain after {}", remaining[node]);
        remaining[node] = told;
        if answer.status == 200 {
            (admitted, refused_in_a_row) = (admitted + 1, 0);
            await_heard(fleet, named, admitted);
        } else {
            assert_eq!(told, 0, "{named:?}: refused with something left");
            refused_in_a_row += 1;
        }
        if admitted >= LIMIT && refused_in_a_row >= 2 * NODES {
            break;
        }
        // What a forecast kept back is given out once all have told.
        assert!(began.elapsed() < PATIENCE, "{named:?}: {admitted} of {LIMIT} admitted\n{}", limits(fleet, node));
    }
    assert_eq!(admitted, LIMIT, "{named:?}");
    let own: u64 = counts(fleet, named).iter().map(|(own, _)| own).sum();
    assert_eq!(own, LIMIT as u64, "{named:?}");
}

fn await_heard(fleet: &Fleet, named: (&str, &str), admitted: usize) {
    fleet.until(&format!("{named:?}: not every node hears of {admitted}"), |fleet| {
        let counts = counts(fleet, named);
        counts.len() == NODES && counts.iter().all(|(own, remote)| own + remote == admitted as u64)
    });
}

/// Own and others' count of a subject, of each node that shows it. A node that only heard of it does not know its name.
fn counts(fleet: &Fleet, named: (&str, &str)) -> Vec<(u64, u64)> {
    let rows = |node| limits(fleet, node)["data"].as_array().cloned().unwrap_or_default();
    let all: Vec<Vec<Value>> = (0..NODES).map(rows).collect();
    let has_name = |row: &&Value| row["limit_by"] == named.0 && row["identifier"] == named.1;
    let Some(key) = all.iter().flatten().find(has_name).map(|row| &row["key"]) else { return Vec::new() };
    let of = |rows: &Vec<Value>| {
        let row = rows.iter().find(|row| row["key"] == *key)?;
        Some((row["own"].as_u64()?, row["remote"].as_u64()?))
    };
    all.iter().filter_map(of).collect()
}

fn limits(fleet: &Fleet, node: usize) -> Value {
    let node = &fleet.nodes[node];
    node.get(node.status, "/cluster/limits?size=1000").unwrap().json().unwrap_or_default()
}

#[test]
fn each_subject_has_one_limit_in_the_whole_cluster() {
    let (fleet, backend) = fleet();
    let limit = |more: Value| {
        let mut config = json!({"hour": LIMIT, "policy": "cluster"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    };
    for user in ["ann", "bob", "probe"] {
        post(&fleet, "/consumers", json!({"username": user}));
    }
    let key_of = |user: &str, key: &str| {
        let made = post(&fleet, &format!("/consumers/{user}/key-auth"), json!({"key": key}));
        made["id"].as_str().unwrap().to_owned()
    };
    let (first, second) = (key_of("ann", "key-of-ann"), key_of("ann", "other-of-ann"));
    key_of("bob", "key-of-bob");
    key_of("probe", "key-of-probe");
    for service in ["consumer", "credential"] {
        add_limited(&fleet, &backend, service, limit(json!({"limit_by": service})));
        post(&fleet, &format!("/services/{service}/plugins?wait=all&timeout_ms=30000"), json!({"name": "key-auth"}));
    }
    add_limited(&fleet, &backend, "ip", limit(json!({"limit_by": "ip"})));
    add_limited(&fleet, &backend, "header", limit(json!({"limit_by": "header", "header_name": "x-tenant"})));
    add_limited(&fleet, &backend, "path", limit(json!({"limit_by": "path", "path": "/path/here"})));

    let ann = Sent { path: "/consumer", headers: &[("apikey", "key-of-ann")] };
    let ann_again = Sent { path: "/consumer/other", headers: &[("apikey", "other-of-ann"), ("X-Real-IP", "10.0.0.9")] };
    use_up(&fleet, ("consumer", "ann"), &[ann, ann_again]);
    use_up(&fleet, ("consumer", "bob"), &[Sent { headers: &[("apikey", "key-of-bob")], ..ann }]);
    use_up(&fleet, ("credential", &first), &[Sent { path: "/credential", ..ann }]);
    use_up(&fleet, ("credential", &second), &[Sent { path: "/credential/other", ..ann_again }]);
    let here = Sent { path: "/ip", headers: &[("X-Real-IP", "10.0.0.1")] };
    use_up(&fleet, ("ip", "10.0.0.1"), &[here, Sent { path: "/ip/other", ..here }]);
    use_up(&fleet, ("ip", "2001:db8::1"), &[Sent { headers: &[("X-Real-IP", "2001:db8::1")], ..here }]);
    let acme = Sent { path: "/header", headers: &[("x-tenant", "acme")] };
    let acme_elsewhere = Sent { headers: &[("x-tenant", "acme"), ("X-Real-IP", "10.0.0.2")], ..acme };
    use_up(&fleet, ("header", "acme"), &[acme, acme_elsewhere]);
    use_up(&fleet, ("header", "umbrella"), &[Sent { headers: &[("x-tenant", "umbrella")], ..acme }]);
    // Without the header it is the address that is counted.
    use_up(&fleet, ("ip", "10.0.0.3"), &[Sent { headers: &[("X-Real-IP", "10.0.0.3")], ..acme }]);
    let path = Sent { path: "/path/here", headers: &[] };
    use_up(&fleet, ("path", "/path/here"), &[path, Sent { headers: &[("X-Real-IP", "10.0.0.4")], ..path }]);
    use_up(&fleet, ("ip", "10.0.0.5"), &[Sent { path: "/path/there", headers: &[("X-Real-IP", "10.0.0.5")] }]);

    // One subject for all, so asking whether the limit is live used some of it up.
    add_limited(&fleet, &backend, "service", json!({"hour": 1000, "policy": "cluster", "limit_by": "service"}));
    let one = Sent { path: "/service", headers: &[] };
    let other = Sent { path: "/service/other", headers: &[("X-Real-IP", "10.0.0.6")] };
    let before = (0..NODES).map(|node| remaining(&one.to(&fleet, node))).min().unwrap();
    fleet.until("a service is not counted as one", |fleet| {
        (0..NODES).all(|node| remaining(&other.to(fleet, node)) < before - 9)
    });
}

fn remaining(answer: &Answer) -> usize {
    answer.header("ratelimit-remaining").unwrap().parse().unwrap()
}

#[test]
fn policy_local_counts_on_each_node_alone() {
    let (fleet, backend) = fleet();
    add_limited(&fleet, &backend, "local", json!({"hour": LIMIT, "policy": "local", "limit_by": "ip"}));
    let sent = Sent { path: "/local", headers: &[("X-Real-IP", "10.0.0.1")] };
    for node in 0..NODES {
        let statuses: Vec<u16> = (0..2 * LIMIT).map(|_| sent.to(&fleet, node).status).collect();
        assert_eq!(statuses, [[200; LIMIT], [429; LIMIT]].concat(), "{}", name(node));
    }
}

#[test]
fn lost_peers_are_told_of_and_no_request_waits_for_them() {
    let (fleet, backend) = fleet();
    add_limited(&fleet, &backend, "s", json!({"hour": 100_000, "policy": "cluster", "limit_by": "ip"}));
    let sent = Sent { path: "/s", headers: &[("X-Real-IP", "10.0.0.1")] };
    let status = |fleet: &Fleet, node: usize| {
        let node = &fleet.nodes[node];
        node.get(node.status, "/status").unwrap().json().unwrap()["limits"].clone()
    };
    fleet.until("the limits are not the cluster's", |fleet| {
        (0..NODES).all(|node| status(fleet, node) == json!({"mode": "whole"}))
    });
    fleet.relay.partition(&[&[0, 1], &[2]]);
    let mut slowest = Duration::ZERO;
    let noticed = fleet.until("the loss is not told", |fleet| {
        for node in 0..NODES {
            let began = Instant::now();
            assert_eq!(sent.to(fleet, node).status, 200);
            slowest = slowest.max(began.elapsed());
        }
        (0..NODES).all(|node| status(fleet, node)["mode"] == "degraded")
    });
    println!("a partition is told after {noticed:?}; the slowest request meanwhile took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let reason = status(&fleet, 0)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(&name(2)) && !reason.contains(&name(1)), "{reason}");
    assert_eq!(limits(&fleet, 2)["summary"]["mode"], "degraded");
    assert_eq!(fleet.view(1)["limits"]["mode"], "degraded");
    assert!(fleet.metric(0, "tidegate_limits_degraded") > 0.0);
    fleet.relay.heal();
    fleet.until("the limits do not become whole again", |fleet| {
        (0..NODES).all(|node| status(fleet, node)["mode"] == "whole")
    });
}
