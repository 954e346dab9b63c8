//! `kill -9` in the middle of Admin writes: what was acknowledged stands, what was not stands whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::postgres::Server;
use crate::process::{Node, settings_of};
use crate::scenario::client::Client;

const WRITES: usize = 2_000;
const WRITERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn acknowledged_writes_survive_kill_9_on_the_embedded_store() {
    survive(Node::started([("database", "embedded")]));
}

#[test]
fn acknowledged_writes_survive_kill_9_on_postgres() {
    let database = Server::shared().create_database();
    survive(Node::started(settings_of(&database)));
}

/// What the writers know to be so.
#[derive(Default)]
struct Facts {
    /// Consumers whose creation, with a key, was acknowledged.
    present: BTreeSet<String>,
    /// Consumers whose delete was acknowledged.
    absent: BTreeSet<String>,
    /// Consumers with an unanswered write: anything goes, as long as it is whole.
    unsure: BTreeSet<String>,
}

fn survive(mut node: Node) {
    let facts = Mutex::new(Facts::default());
    let writes = AtomicUsize::new(0);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos() as u64;
    let mut random = seed | 1;
    let mut kills = 0;
    while writes.load(Ordering::SeqCst) < WRITES {
        random = next(random);
        let pause = Duration::from_millis(100 + random % 900);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (node, facts, writes, stop) = (&node, &facts, &writes, &stop);
                scope.spawn(move || write_until_killed(node, writer, kills, facts, writes, stop));
            }
            thread::sleep(pause);
            node.kill_by_pid();
            stop.store(true, Ordering::SeqCst);
        });
        node.reap();
        kills += 1;
        node.start();
        node.wait_ready(Duration::from_secs(10));
        check(&node, &facts.lock().expect("no writer panicked"), seed);
    }
    println!("kill -9: {} writes, {kills} kills, seed {seed}: nothing lost, nothing half", writes.into_inner());
}

/// Makes consumers with a key each, and deletes every third again, until the node is gone.
fn write_until_killed(
    node: &Node,
    writer: usize,
    round: usize,
    facts: &Mutex<Facts>,
    writes: &AtomicUsize,
    stop: &AtomicBool,
) {
    let mut client = Client::new(node.admin, false);
    for number in 0.. {
        if stop.load(Ordering::SeqCst) || writes.load(Ordering::SeqCst) >= WRITES {
            return;
        }
        let name = format!("c-{round}-{writer}-{number}");
        let known = |change: &dyn Fn(&mut Facts)| change(&mut facts.lock().expect("no writer panicked"));
        known(&|facts| _ = facts.unsure.insert(name.clone()));
        if !post(&mut client, "/consumers", &json!({"username": name}), writes) {
            return;
        }
        if !post(&mut client, &format!("/consumers/{name}/key-auth"), &json!({"key": format!("k-{name}")}), writes) {
            return;
        }
        if number % 3 != 0 {
            known(&|facts| _ = (facts.unsure.remove(&name), facts.present.insert(name.clone())));
            continue;
        }
        match client.request("DELETE", &format!("/consumers/{name}"), &[], b"", LIMIT) {
            Ok(answer) if answer.status == 204 => {
                writes.fetch_add(1, Ordering::SeqCst);
                known(&|facts| _ = (facts.unsure.remove(&name), facts.absent.insert(name.clone())));
            }
            _ => return,
        }
    }
}

fn post(client: &mut Client, path: &str, body: &Value, writes: &AtomicUsize) -> bool {
    let kind = [("Content-Type".to_owned(), "application/json".to_owned())];
    let answer = client.request("POST", path, &kind, body.to_string().as_bytes(), LIMIT);
    let made = answer.is_ok_and(|answer| answer.status == 201);
    writes.fetch_add(usize::from(made), Ordering::SeqCst);
    made
}

/// Keys whose consumer is not there.
fn orphans<'a>(consumers: &BTreeMap<String, Value>, keys: &'a BTreeMap<String, Value>) -> Vec<&'a Value> {
    let ids: BTreeSet<&str> = consumers.values().filter_map(|one| one["id"].as_str()).collect();
    keys.values().filter(|key| !ids.contains(key["consumer"]["id"].as_str().unwrap())).collect()
}

/// Waits until the node shows what is known (it may read its store just after it is ready), then checks the rest.
fn check(node: &Node, facts: &Facts, seed: u64) {
    let begun = Instant::now();
    let (consumers, keys) = loop {
        let consumers = all(node, "/consumers", "username");
        let keys = all(node, "/key-auths", "key");
        let has_key = |name: &String| keys.contains_key(&format!("k-{name}"));
        let complete = facts.present.iter().all(|name| consumers.contains_key(name) && has_key(name));
        let gone = facts.absent.iter().all(|name| !consumers.contains_key(name));
        // A transaction that was not acknowledged may be learnt between the two reads.
        if (complete && gone && orphans(&consumers, &keys).is_empty()) || begun.elapsed() > LIMIT {
            break (consumers, keys);
        }
    };
    let lost: Vec<_> = facts.present.iter().filter(|name| !consumers.contains_key(*name)).collect();
    assert!(lost.is_empty(), "seed {seed}: acknowledged consumers are lost: {lost:?}\n{}", node.log());
    let keyless: Vec<_> = facts.present.iter().filter(|name| !keys.contains_key(&format!("k-{name}"))).collect();
    assert!(keyless.is_empty(), "seed {seed}: acknowledged keys are lost: {keyless:?}");
    let undead: Vec<_> = facts.absent.iter().filter(|name| consumers.contains_key(*name)).collect();
    assert!(undead.is_empty(), "seed {seed}: deleted consumers are back: {undead:?}");
    let known: BTreeSet<&str> = facts.present.iter().chain(&facts.unsure).map(String::as_str).collect();
    let strange: Vec<_> = consumers.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(strange.is_empty(), "seed {seed}: consumers that nobody made: {strange:?}");
    let orphans = orphans(&consumers, &keys);
    assert!(orphans.is_empty(), "seed {seed}: keys without their consumer: {orphans:?}");
}

/// Every entity of a list, by one of its members.
fn all(node: &Node, path: &str, member: &str) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut offset = String::new();
    loop {
        let page = node.admin_ok("GET", &format!("{path}?size=1000{offset}"), &Value::Null);
        for entity in page["data"].as_array().expect("a list") {
            found.insert(entity[member].as_str().unwrap_or_default().to_owned(), entity.clone());
        }
        match page["offset"].as_str() {
            Some(next) => offset = format!("&offset={next}"),
            None => return found,
        }
    }
}

fn next(random: u64) -> u64 {
    let mut x = random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^ (x << 17)
}
