//! Postgres goes away under load and comes back: requests do not notice, writers are told within 2 s.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::postgres::Server;
use crate::process::{Node, settings_of};
use crate::scenario::client::Client;

#[test]
fn a_stopped_postgres_stops_no_request() {
    let server = Server::start();
    let settings = settings_of(&server.create_database());
    let backend = Backend::answering();
    let mut node = Node::started(settings);
    node.admin_ok("POST", "/services", &json!({"name": "s", "url": backend.url()}));
    node.admin_ok("POST", "/services/s/routes", &json!({"name": "r", "paths": ["/"]}));
    node.admin_ok("POST", "/services/s/plugins", &json!({"name": "key-auth"}));
    node.admin_ok("POST", "/consumers", &json!({"username": "ann"}));
    node.admin_ok("POST", "/consumers/ann/key-auth", &json!({"key": "ann-key"}));
    wait_served(&node);

    let (failed, served) = under_load(&node, || {
        server.stop();
        reads_answer_and_writes_are_refused(&node);
    });
    println!("Postgres stopped under load: {served} requests served, {failed} failed");
    assert!(served >= 1_000, "the load was {served} requests");
    assert_eq!(failed, 0);

    wait_kept(&node);
    node.kill();
    let begun = Instant::now();
    node.start();
    wait_served(&node);
    let took = begun.elapsed();
    println!("restarted without Postgres: serves {} ms after its start", took.as_millis());
    assert!(took < Duration::from_secs(1), "serving took {took:?}\n{}", node.log());
    reads_answer_and_writes_are_refused(&node);

    let (failed, _) = under_load(&node, || {
        server.start_again();
        let begun = Instant::now();
        while create(&node, "after") != Some(201) {
            assert!(begun.elapsed() < Duration::from_secs(10), "writes do not work again\n{}", node.log());
            thread::sleep(Duration::from_millis(50));
        }
        println!("Postgres back: a write works {} ms later, without a restart", begun.elapsed().as_millis());
    });
    assert_eq!(failed, 0);
    for refused in ["during-0", "during-1", "during-2"] {
        let answer = node.admin("GET", &format!("/consumers/{refused}"), &Value::Null).expect("an answer");
        assert_eq!(answer.status, 404, "{refused} was refused and appeared later");
    }
}

/// Admin reads come from memory; writes end with 503 and a sentence within 2 s.
fn reads_answer_and_writes_are_refused(node: &Node) {
    let answer = node.admin("GET", "/services/s", &Value::Null).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    for number in 0..3 {
        let begun = Instant::now();
        let body = json!({"username": format!("during-{number}")});
        let answer = node.admin("POST", "/consumers", &body).expect("an answer");
        let took = begun.elapsed();
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(took < Duration::from_secs(2), "the refusal took {took:?}");
        let message = answer.json().and_then(|body| body["message"].as_str().map(str::to_owned)).unwrap_or_default();
        assert!(message.len() > 20, "the refusal says no more than {message:?}");
    }
}

fn create(node: &Node, username: &str) -> Option<u16> {
    node.admin("POST", "/consumers", &json!({"username": username})).ok().map(|answer| answer.status)
}

/// Runs `during` while four clients ask the proxy, and goes on until 1,000 requests were served; answers how many requests failed and were served.
fn under_load(node: &Node, during: impl FnOnce()) -> (usize, usize) {
    let (failed, served, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(node.proxy, false);
                while !stop.load(Ordering::SeqCst) {
                    let counter = if served_once(&mut client) { &served } else { &failed };
                    counter.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        let begun = Instant::now();
        while served.load(Ordering::SeqCst) < 1_000 && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(5));
        }
        stop.store(true, Ordering::SeqCst);
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
    (failed.into_inner(), served.into_inner())
}

fn served_once(client: &mut Client) -> bool {
    let key = [("apikey".to_owned(), "ann-key".to_owned())];
    client.request("GET", "/", &key, b"", Duration::from_secs(5)).is_ok_and(|answer| answer.status == 200)
}

/// Waits until the local snapshot holds what was written: `kill -9` right after a write, with the database gone, would
/// start from the snapshot before.
fn wait_kept(node: &Node) {
    let begun = Instant::now();
    let kept = || std::fs::read(node.prefix().join("postgres.snapshot")).unwrap_or_default();
    while !kept().windows(7).any(|part| part == b"ann-key") {
        assert!(begun.elapsed() < Duration::from_secs(5), "the last write is not on the disk\n{}", node.log());
        thread::sleep(Duration::from_millis(5));
    }
}

fn wait_served(node: &Node) {
    let begun = Instant::now();
    while !served_once(&mut Client::new(node.proxy, false)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the route does not serve\n{}", node.log());
        thread::sleep(Duration::from_millis(5));
    }
}
