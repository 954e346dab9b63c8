//! Who is counted with whom, what refusals say, and that limits are exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::counter::{Counters, Gate, Remote, Window};
use crate::plugin::Scope;
use crate::plugin::directory::CredentialRef;
use crate::plugin::testing::{NOW_S, Stage, build, directory, principal, told};

/// What a request differs in from the stage's.
#[derive(Clone, Copy, Default)]
struct Sent<'a> {
    consumer: Option<&'a str>,
    credential: Option<u128>,
    address: Option<&'a str>,
    service: Option<u128>,
    header: Option<&'a str>,
    path: Option<&'a str>,
}

/// Counters that several instances share, with Ann and Bob in the directory.
struct Node(Arc<Counters>);

impl Node {
    fn new() -> Self {
        Self(Arc::default())
    }

    /// `admitted` with what remains of the first limit, or what the client is told instead.
    fn ask(&self, plugin: &dyn Plugin, sent: Sent<'_>) -> String {
        let (ann, bob) = (principal(10, Some("ann"), None), principal(11, Some("bob"), None));
        let people = directory(&[(&ann, "a", None), (&bob, "b", None)]);
        let mut stage = Stage::get("/").with_directory(&people);
        stage.counters = Arc::clone(&self.0);
        if let Some(value) = sent.header {
            stage = stage.with_header("x-tenant", value);
        }
        let mut exchange = stage.exchange();
        exchange.consumer = sent.consumer.and_then(|name| people.consumer(name));
        exchange.credential = sent.credential.map(|id| CredentialRef { id: Uuid::from_u128(id) });
        exchange.client_ip = sent.address.unwrap_or("10.0.0.1").parse().unwrap();
        exchange.service_id = sent.service.map(Uuid::from_u128);
        exchange.path = sent.path.unwrap_or("/").as_bytes();
        let step = plugin.access(&mut exchange);
        let remaining = exchange.response_headers.iter().find(|(name, _)| name.lower.contains("-remaining-"));
        match (&step, remaining) {
            (Step::Continue, Some((_, value))) => format!("admitted {}", value.to_str().unwrap()),
            (Step::Continue, None) => "admitted".to_owned(),
            _ => told(&step),
        }
    }
}

const REFUSED: &str = "429 API rate limit exceeded";

#[test]
fn each_subject_has_its_own_count() {
    let ann = Sent { consumer: Some("ann"), ..Sent::default() };
    let bob = Sent { consumer: Some("bob"), ..Sent::default() };
    let key = Sent { credential: Some(7), ..Sent::default() };
    let nobody = Sent::default();
    let elsewhere = Sent { address: Some("10.0.0.2"), ..Sent::default() };
    let mapped = Sent { address: Some("::ffff:10.0.0.1"), ..Sent::default() };
    let v6 = Sent { address: Some("2001:db8::1"), ..Sent::default() };
    let tenant = Sent { header: Some("a"), ..Sent::default() };
    let blank = Sent { header: Some(""), ..Sent::default() };
    // A header value with the bytes of somebody's address.
    let forged = Sent { header: Some("1234"), ..Sent::default() };
    let victim = Sent { address: Some("49.50.51.52"), ..Sent::default() };
    let service = |id| Sent { service: Some(id), ..Sent::default() };
    let path = |path| Sent { path: Some(path), ..Sent::default() };
    // Those in one group share a count, groups do not.
    let check = |config: Value, groups: &[&[Sent<'_>]]| {
        let mut whole = json!({"minute": 2});
        whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let plugin = build("rate-limiting", whole, Scope::default()).unwrap();
        let node = Node::new();
        for (number, group) in groups.iter().enumerate() {
            let (first, last) = (group[0], group[group.len() - 1]);
            assert_eq!(node.ask(&*plugin, first), "admitted 1", "{config} {number}");
            assert_eq!(node.ask(&*plugin, last), "admitted 0", "{config} {number}");
            assert!(group.iter().all(|sent| node.ask(&*plugin, *sent) == REFUSED), "{config} {number}");
        }
    };
    let ann_by_key = Sent { credential: Some(7), ..ann };
    check(
        json!({"limit_by": "consumer"}),
        &[&[ann, ann_by_key], &[bob], &[key], &[nobody, mapped], &[elsewhere], &[v6]],
    );
    check(json!({"limit_by": "credential"}), &[&[key, ann_by_key], &[ann, nobody, bob], &[elsewhere]]);
    check(json!({"limit_by": "ip"}), &[&[nobody, ann, key, tenant], &[elsewhere], &[v6]]);
    check(json!({"limit_by": null}), &[&[nobody, ann], &[elsewhere]]);
    check(json!({"limit_by": "service"}), &[&[service(1), Sent { service: Some(1), ..ann }], &[service(2)], &[nobody]]);
    check(
        json!({"limit_by": "header", "header_name": "X-Tenant"}),
        &[&[tenant, Sent { header: Some("a"), ..elsewhere }], &[blank], &[forged], &[victim], &[nobody]],
    );
    let on_path = json!({"limit_by": "path", "path": "/a"});
    check(on_path, &[&[path("/a"), Sent { path: Some("/a"), ..elsewhere }], &[path("/a/"), path("/b"), nobody]]);
}

#[test]
fn instances_of_one_scope_share_counts_whatever_consumer_they_are_for() {
    let ann = Sent { consumer: Some("ann"), ..Sent::default() };
    let scope = |ids: [Option<u128>; 3]| {
        let [route, service, consumer] = ids.map(|id| id.map(Uuid::from_u128));
        Scope { route, service, consumer }
    };
    let make = |limit: u32, scope| build("rate-limiting", json!({"minute": limit}), scope).unwrap();
    let node = Node::new();
    let global = make(3, scope([None, None, None]));
    let for_ann = make(5, scope([None, None, Some(10)]));
    assert_eq!(node.ask(&*global, ann), "admitted 2");
    assert_eq!(node.ask(&*for_ann, ann), "admitted 3");
    assert_eq!(node.ask(&*global, ann), "admitted 0");
    assert_eq!(node.ask(&*global, ann), REFUSED);
    assert_eq!(node.ask(&*for_ann, ann), "admitted 1");
    for other in [scope([Some(1), None, None]), scope([None, Some(1), None]), scope([Some(1), Some(1), None])] {
        assert_eq!(node.ask(&*make(3, other), ann), "admitted 2", "{other:?}");
    }
}

/// A node whose counters have heard of requests elsewhere, for the minute of the stage.
fn with_remote(limit: f64, reach: Reach, known: u64) -> Node {
    let node = Node::new();
    let subject = node.0.subject(Uuid::nil(), Uuid::nil(), &[b'a', 10, 0, 0, 1]);
    node.0.hit(subject, reach, &[Limit { period: Period::Minute, limit }], NOW_S * 1000);
    // Strict limits are not decided by counts, so there is nothing to hear.
    let Some(handle) = node.0.find(Counters::key(subject, Period::Minute)) else { return node };
    let remote = Remote {
        window: Window::at(Period::Minute, NOW_S),
        known,
        slope_per_ms: 0.0,
        zero_ms: NOW_S * 1000,
        resume_per_ms: 0.0,
        gate: Gate::Open,
        burst: 0,
    };
    node.0.publish(handle, &remote, NOW_S * 1000);
    node
}

#[test]
fn policies_say_whose_counts_decide() {
    let check = |config: Value, reach: Reach, expected: [&str; 2]| {
        let mut whole = json!({"minute": 6, "limit_by": "ip"});
        whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let plugin = build("rate-limiting", whole, Scope::default()).unwrap();
        // One counted here, three elsewhere.
        let node = with_remote(6.0, reach, 3);
        assert_eq!([(); 2].map(|()| node.ask(&*plugin, Sent::default())), expected, "{config}");
    };
    check(json!({"policy": "local"}), Reach::Local, ["admitted 4", "admitted 3"]);
    check(json!({"policy": "cluster"}), Reach::Cluster, ["admitted 1", "admitted 0"]);
    check(json!({"policy": "redis"}), Reach::Cluster, ["admitted 1", "admitted 0"]);
    check(json!({"policy": "cluster", "guarantee": "forecast"}), Reach::Cluster, ["admitted 1", "admitted 0"]);
    // Nobody gave this node rights.
    check(json!({"policy": "cluster", "guarantee": "strict"}), Reach::Strict, [REFUSED, REFUSED]);
}

#[test]
fn subjects_are_named_once_they_matter() {
    let plugin =
        |config: Value| build("rate-limiting", config, Scope { service: Some(Uuid::from_u128(5)), ..Scope::default() });
    let check = |config: Value, sent: Sent<'_>, period: Period, identifier: &[u8], expected: Option<(&str, &str)>| {
        let node = Node::new();
        node.ask(&*plugin(config.clone()).unwrap(), sent);
        let subject = node.0.subject(Uuid::nil(), Uuid::from_u128(5), identifier);
        let name = node.0.name_of(Counters::key(subject, period));
        let scopes = name.as_ref().map(|name| (name.route, name.service));
        assert!(scopes.is_none_or(|scopes| scopes == (None, Some(Uuid::from_u128(5)))), "{config}: {scopes:?}");
        let found = name.as_ref().map(|name| (name.limit_by, name.identifier.as_str()));
        assert_eq!(found, expected, "{config}");
    };
    let address = [b'a', 10, 0, 0, 1];
    let mut ann = vec![b'i'];
    ann.extend(Uuid::from_u128(10).as_bytes());
    let by_ann = Sent { consumer: Some("ann"), ..Sent::default() };
    check(json!({"minute": 3, "policy": "cluster"}), by_ann, Period::Minute, &ann, Some(("consumer", "ann")));
    // No consumer: what was counted by is the address.
    check(json!({"hour": 9, "policy": "cluster"}), Sent::default(), Period::Hour, &address, Some(("ip", "10.0.0.1")));
    let header = json!({"minute": 3, "policy": "cluster", "limit_by": "header", "header_name": "x-tenant"});
    let tenant = Sent { header: Some("acme"), ..Sent::default() };
    check(header, tenant, Period::Minute, b"tacme", Some(("header", "acme")));
    // One of a thousand does not matter yet.
    check(json!({"minute": 1000, "policy": "cluster"}), by_ann, Period::Minute, &ann, None);
}

#[test]
fn the_refusal_is_told_as_configured() {
    let check = |config: Value, first: &str, expected: &str| {
        let plugin = build("rate-limiting", config.clone(), Scope::default()).unwrap();
        let node = Node::new();
        assert_eq!(node.ask(&*plugin, Sent::default()), first, "{config}");
        assert_eq!(node.ask(&*plugin, Sent::default()), expected, "{config}");
    };
    check(json!({"hour": 1}), "admitted 0", REFUSED);
    check(json!({"hour": 1, "error_code": 509, "error_message": "slow down"}), "admitted 0", "509 slow down");
    check(json!({"hour": 1, "error_message": null}), "admitted 0", REFUSED);
    check(json!({"hour": 1, "hide_client_headers": true}), "admitted", REFUSED);
    for no_status in [json!(42), json!(1000), json!(429.5), json!(1e99)] {
        check(json!({"hour": 1, "error_code": no_status}), "admitted 0", "fail");
    }
    check(json!({"hour": 0.5}), "admitted 0", REFUSED);
}

#[test]
fn windows_end_on_their_own() {
    let plugin = build("rate-limiting", json!({"second": 1, "minute": 2}), Scope::default()).unwrap();
    let mut stage = Stage::get("/");
    let mut ask_at = |now_s: u64| {
        let mut exchange = stage.exchange();
        exchange.now_ms = now_s * 1000;
        matches!(plugin.access(&mut exchange), Step::Continue)
    };
    let minute_s = NOW_S / 60 * 60;
    let found = [0, 0, 1, 2, 59, 60].map(|offset_s| ask_at(minute_s + offset_s));
    assert_eq!(found, [true, false, true, false, false, true]);
}

#[test]
fn sixty_four_clients_get_exactly_the_limit() {
    let plugin = build("rate-limiting", json!({"minute": 1000, "limit_by": "ip"}), Scope::default()).unwrap();
    let counters = Arc::default();
    let admitted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut stage = Stage::get("/");
                stage.counters = Arc::clone(&counters);
                for _ in 0..50 {
                    if let Step::Continue = plugin.access(&mut stage.exchange()) {
                        admitted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(admitted.into_inner(), 1000);
}
