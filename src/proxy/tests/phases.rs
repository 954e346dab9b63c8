//! Plugins of every phase, on every codec: those of `plugin::probes`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::entity::{Entity, Kind};
use crate::proxy::tests::backend::Backend;
use crate::proxy::tests::gateway::{Gateway, entity, plain_route, plain_service};
use crate::proxy::tests::http2;

const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";

fn plugin(id: u128, name: &str, scope: Value, config: Value) -> std::sync::Arc<Entity> {
    let doc = json!({
        "name": name, "route": null, "service": null, "consumer": null, "config": config, "enabled": true
    });
    entity(Kind::PLUGINS, id, doc, scope)
}

/// Routes `/` with these plugins, and `/plain` without.
fn entities(backend: &Backend, plugins: &[(&str, Value)]) -> Vec<std::sync::Arc<Entity>> {
    let mut all = vec![
        entity(Kind::SERVICES, 1, plain_service(backend.address), json!({})),
        entity(Kind::ROUTES, 2, plain_route(), json!({})),
        entity(Kind::ROUTES, 3, plain_route(), json!({"name": "plain", "paths": ["/plain"]})),
    ];
    for (number, (name, config)) in plugins.iter().enumerate() {
        let scope = match *name {
            "probe-rewrites" => json!({}),
            _ => json!({"route": {"id": Uuid::from_u128(2)}}),
        };
        all.push(plugin(10 + number as u128, name, scope, config.clone()));
    }
    all
}

fn gateway(backend: &Backend, plugins: &[&str]) -> Gateway {
    let plugins: Vec<_> = plugins.iter().map(|name| (*name, json!({}))).collect();
    Gateway::serving(entities(backend, &plugins), |options| options.listen[0].http2 = true)
}

/// Asks by HTTP/1.1, 1.0 and 2: the body each time, always the same.
fn bodies(gateway: &Gateway, method: &str, target: &str) -> Vec<String> {
    let one = gateway.ask(&format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    let old = gateway.ask(&format!("{method} {target} HTTP/1.0\r\nHost: a\r\n\r\n"));
    let request = Request::builder().method(method).uri(format!("http://a{target}")).body(Bytes::new()).unwrap();
    let two = http2::ask(gateway.address(), vec![request]).remove(0).1.unwrap();
    vec![one.text().to_owned(), old.text().to_owned(), String::from_utf8(two.to_vec()).unwrap()]
}

#[test]
fn a_body_is_rewritten_piece_by_piece_and_whole_up_to_a_bound() {
    let backend = Backend::saying(HELLO);
    assert_eq!(bodies(&gateway(&backend, &["probe-shouts"]), "GET", "/"), ["HELLO!"; 3]);
    assert_eq!(bodies(&gateway(&backend, &["probe-wraps"]), "GET", "/"), ["[5]hello"; 3]);
    // In the order of priorities: first shouted, then wrapped.
    assert_eq!(bodies(&gateway(&backend, &["probe-wraps", "probe-shouts"]), "GET", "/"), ["[6]HELLO!"; 3]);
    assert_eq!(bodies(&gateway(&backend, &["probe-shouts"]), "GET", "/plain"), ["hello"; 3]);
    let chunked = Backend::saying(CHUNKS);
    assert_eq!(bodies(&gateway(&chunked, &["probe-shouts", "probe-wraps"]), "GET", "/"), ["[8]ABCDEFG!"; 3]);
    let long = "x".repeat(300_000);
    let answer =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    let backend = Backend::saying(answer);
    let all = bodies(&gateway(&backend, &["probe-shouts", "probe-wraps"]), "GET", "/");
    assert!(all.iter().all(|body| *body == long.to_uppercase() + "!"));
}

#[test]
fn a_filtered_body_has_no_length_and_its_connection_stays_usable() {
    let backend = Backend::saying(HELLO);
    let gateway = gateway(&backend, &["probe-shouts"]);
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer("GET");
        assert_eq!((answer.text(), answer.header("content-length")), ("HELLO!", None));
    }
    // A local response passes the filters as well.
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(!client.answer("GET").text().ends_with('!'), "refused before its route is known");
}

#[test]
fn every_codec_shows_the_original_head_to_later_phases() {
    let backend = Backend::saying(HELLO);
    let gateway = gateway(&backend, &["probe-rewrites"]);
    let check = |answer: &dyn Fn(&str) -> Option<String>| {
        assert_eq!(answer("x-seen").as_deref(), Some("mine"));
        assert_eq!(answer("x-noted").as_deref(), Some("noted"));
        let seen = backend.last();
        assert_eq!((seen.header("x-original"), seen.header("x-rewritten")), (None, Some("1")));
    };
    for version in ["1.0", "1.1"] {
        let answer = gateway.ask(&format!("GET / HTTP/{version}\r\nHost: a\r\nX-Original: mine\r\n\r\n"));
        check(&|name| answer.header(name).map(str::to_owned));
    }
    let request = Request::get("http://a/").header("x-original", "mine").body(Bytes::new()).unwrap();
    let (head, _) = http2::ask(gateway.address(), vec![request]).remove(0);
    check(&|name| Some(head.headers.get(name)?.to_str().unwrap().to_owned()));
    // Without a route only global plugins run, and `access` not at all.
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Original: mine\r\nTransfer-Encoding: x\r\n\r\n");
    assert_eq!((answer.status, answer.header("x-seen")), (400, Some("mine")));
}

#[test]
fn a_streamed_answer_arrives_and_one_that_breaks_off_is_cut_off() {
    let backend = Backend::saying(HELLO);
    let gateway = gateway(&backend, &["probe-streams"]);
    assert_eq!(bodies(&gateway, "GET", "/"), ["one,two,three"; 3]);
    assert_eq!(bodies(&gateway, "POST", "/"), ["one,two,three"; 3]);
    let mut client = gateway.connect();
    client.send(b"GET /?break HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 202 "));
    let rest = client.rest();
    assert!(rest.starts_with(b"4\r\none,\r\n") && !rest.ends_with(b"0\r\n\r\n"), "{rest:?}");
    let request = Request::get("http://a/?break").body(Bytes::new()).unwrap();
    assert!(http2::ask(gateway.address(), vec![request]).remove(0).1.is_none());
    assert_eq!(backend.seen().len(), 0);
}

#[test]
fn state_survives_a_reload_of_the_same_instance() {
    let backend = Backend::saying(HELLO);
    let build = |config: Value| entities(&backend, &[("probe-counts", config)]);
    let mut gateway = Gateway::serving(build(json!({})), |_| {});
    let count = |gateway: &Gateway| {
        let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        answer.header("x-count").map(str::to_owned)
    };
    assert_eq!((count(&gateway).as_deref(), count(&gateway).as_deref()), (Some("1"), Some("2")));
    gateway.reload(build(json!({"changed": true})));
    assert_eq!(count(&gateway).as_deref(), Some("3"));
    gateway.reload(entities(&backend, &[]));
    assert_eq!(count(&gateway), None);
    gateway.reload(build(json!({})));
    assert_eq!(count(&gateway).as_deref(), Some("1"), "another instance begins anew");
}

/// One worker, so that a blocked thread would show: a thousand waits at once take as long as one, and other requests do
/// not wait with them.
#[test]
fn a_thousand_waits_at_once_block_nobody() {
    const WAITS: usize = 1_000;
    let backend = Backend::saying(HELLO);
    let plugins = [("probe-waits", json!({"ms": 50}))];
    let gateway = Gateway::serving(entities(&backend, &plugins), |_| {});
    let plain = |count: usize| {
        let mut client = gateway.connect();
        let times = (0..count).map(|_| {
            let begun = Instant::now();
            client.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer("GET").text(), "hello");
            begun.elapsed()
        });
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        times[times.len() / 2]
    };
    let alone = plain(200);
    let mut clients: Vec<_> = (0..WAITS).map(|_| gateway.connect()).collect();
    let begun = Instant::now();
    for client in &mut clients {
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let beside = plain(20);
    for client in &mut clients {
        assert_eq!(client.answer("GET").text(), "hello");
    }
    let whole = begun.elapsed();
    assert!(whole < Duration::from_millis(50) * (WAITS as u32) / 4, "{whole:?}: the waits stood in line");
    // A wait of 50 ms in the way of other requests would show in each of them.
    assert!(beside < Duration::from_millis(50), "{beside:?} beside waits, {alone:?} alone");
    assert_eq!(backend.seen().iter().filter(|seen| seen.header("x-waited") == Some("twice")).count(), WAITS);
}

#[test]
fn a_client_that_leaves_ends_the_wait() {
    let backend = Backend::saying(HELLO);
    let plugins = [("probe-waits", json!({"ms": 60_000}))];
    let gateway = Gateway::serving(entities(&backend, &plugins), |_| {});
    let mut client = gateway.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(client);
    assert!(gateway.is_deserted());
    assert!(gateway.log_lines()[0].contains("\" 499 0 "));
    assert_eq!(backend.seen().len(), 0);
}
