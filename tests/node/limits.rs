//! A limit admits what it says, however many clients ask at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::backend::Backend;
use crate::process::Node;
use crate::scenario::client::Client;

#[test]
fn sixty_four_parallel_clients_share_a_thousand_a_minute_exactly() {
    let backend = Backend::answering();
    let node = Node::started([("database", "embedded"), ("nginx_worker_processes", "2")]);
    node.admin_ok("POST", "/services", &json!({"name": "s", "url": backend.url()}));
    node.admin_ok("POST", "/services/s/routes", &json!({"name": "r", "paths": ["/"]}));
    let config = json!({"minute": 1000, "policy": "local", "limit_by": "service"});
    node.admin_ok("POST", "/services/s/plugins", &json!({"name": "rate-limiting", "config": config}));
    wait_until_limited(&node);
    leave_the_window_time(20);
    let before = backend.request_count();
    let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = Client::new(node.proxy, false);
                for _ in 0..40 {
                    let answer = client.request("GET", "/", &[], b"", Duration::from_secs(10)).expect("an answer");
                    match answer.status {
                        200 => admitted.fetch_add(1, Ordering::SeqCst),
                        429 => refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("status {other}: {}", answer.text()),
                    };
                }
            });
        }
    });
    let (admitted, refused) = (admitted.into_inner(), refused.into_inner());
    println!("64 clients, minute=1000, 2560 requests: {admitted} admitted, {refused} refused");
    assert_eq!((admitted, refused), (1000, 1560));
    assert_eq!(backend.request_count() - before, 1000);
}

/// The plugin is live once its headers show; those requests fall into a window before the one that is measured.
fn wait_until_limited(node: &Node) {
    let begun = std::time::Instant::now();
    loop {
        let answer = node.get(node.proxy, "/");
        if answer.is_ok_and(|answer| answer.header("ratelimit-limit").is_some()) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "the limit does not become live");
        thread::sleep(Duration::from_millis(20));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    thread::sleep(Duration::from_secs_f64(60.0 - now % 60.0 + 0.05));
}

fn leave_the_window_time(seconds: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!(60 - now % 60 >= seconds, "the window has just begun");
}
