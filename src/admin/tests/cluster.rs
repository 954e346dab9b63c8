//! The cluster as the Admin API tells of it: a stand-in for the mesh says what the test wants.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tidegate_proto::{Revision, Stamp, Vector};
use uuid::Uuid;

use crate::admin::info::uuid_of_node;
use crate::admin::tests::{Node, request};
use crate::cluster::core::view::{Cluster, Figures, LimitFigures, LimitRow, Member, State, View};
use crate::counter::{Name, Period};
use crate::entity::{Change, Entity, Kind, Stamped};
use crate::store::ledger::Ledger;
use crate::store::{Contents, Merged};

/// What the stand-in answers.
#[derive(Default)]
pub(in crate::admin) struct Mesh {
    /// Peers beside this node.
    pub peers: Mutex<Vec<Member>>,
    pub figures: Mutex<Figures>,
    pub limits: Mutex<Vec<LimitRow>>,
    /// Empty: this node has no mesh.
    pub address: Mutex<String>,
    pub vector: Mutex<Vector>,
    /// Who never has what a write made; they are waited for until time is up.
    pub missing: Mutex<Vec<String>>,
    /// What was waited for, and how long at most.
    pub waited: Mutex<Vec<(Vector, Duration)>>,
}

pub(super) fn member(node_id: &str, state: State) -> Member {
    Member {
        node_id: node_id.to_owned(),
        region: "fra".to_owned(),
        address: String::new(),
        state,
        incarnation: 1_764_000_000_000,
        version: "0.1.0".to_owned(),
        revision: Revision::new(1, 0),
        digest: 0,
        rtt_ms: None,
        last_heard_ms: 0,
        hostname: "host".to_owned(),
        draining: false,
    }
}

impl Cluster for Mesh {
    fn view(&self) -> View {
        let vector = self.vector.lock().unwrap().clone();
        let address = self.address.lock().unwrap().clone();
        let me = Member { address, revision: vector.revision(), ..member("node-1", State::Alive) };
        let nodes = [me].into_iter().chain(self.peers.lock().unwrap().clone()).collect();
        let converged = self.missing.lock().unwrap().is_empty();
        View { cluster_id: "c1".to_owned(), me: "node-1".to_owned(), vector, converged, nodes }
    }

    fn figures(&self) -> Figures {
        self.figures.lock().unwrap().clone()
    }

    fn limits(&self, max: usize) -> Vec<LimitRow> {
        self.limits.lock().unwrap().iter().take(max).cloned().collect()
    }

    fn settled(&self, vector: Vector, limit: Duration) -> BoxFuture<'_, Result<(), Vec<String>>> {
        self.waited.lock().unwrap().push((vector, limit));
        let missing = self.missing.lock().unwrap().clone();
        Box::pin(async move { if missing.is_empty() { Ok(()) } else { Err(missing) } })
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

fn three(node: &Node) {
    *node.mesh.address.lock().unwrap() = "[fdaa::1]:8005".to_owned();
    *node.mesh.vector.lock().unwrap() = Vector::of_database(Revision::new(1, 42));
    let far = Member {
        address: "[fdaa::3]:8005".to_owned(),
        region: "syd".to_owned(),
        revision: Revision::new(1, 40),
        rtt_ms: Some(280.049),
        last_heard_ms: 80,
        ..member("node-2", State::Alive)
    };
    let lost = Member { last_heard_ms: 9_000, address: "10.0.0.3:8005".to_owned(), ..member("node-3", State::Dead) };
    let gone = member("node-4", State::Left);
    *node.mesh.peers.lock().unwrap() = vec![far, lost, gone];
}

#[tokio::test]
async fn a_node_without_a_mesh_is_a_cluster_of_one() {
    let node = Node::new();
    node.ask("GET /cluster", Value::Null).await.check(
        200,
        json!({
            "cluster_id": "c1", "self": "node-1", "converged": true, "revision": { "epoch": 0, "number": 0 },
            "nodes": [{ "node_id": "node-1", "state": "alive", "rtt_ms": 0.0, "last_heard_ms": 0 }],
        }),
    );
}

#[tokio::test]
async fn both_listeners_tell_who_is_in_the_cluster() {
    let node = Node::with(false, |options| options.token = Some("secret".to_owned()));
    three(&node);
    let expected = json!({
        "self": "node-1",
        "revision": { "epoch": 1, "number": 42 },
        "nodes": [
            { "node_id": "node-1", "state": "alive", "address": "[fdaa::1]:8005" },
            { "node_id": "node-2", "region": "syd", "address": "[fdaa::3]:8005", "state": "alive",
              "incarnation": 1_764_000_000_000u64, "version": "0.1.0", "revision": { "epoch": 1, "number": 40 },
              "rtt_ms": 280.0, "last_heard_ms": 80 },
            { "node_id": "node-3", "state": "dead", "rtt_ms": null },
            { "node_id": "node-4", "state": "left" },
        ],
    });
    node.health("GET /cluster", "").await.check(200, expected.clone());
    assert_eq!(node.ask("GET /cluster", Value::Null).await.status, 401);
    let asked = request("GET /cluster").header("kong-admin-token", "secret").body(Bytes::new()).unwrap();
    node.send(asked).await.check(200, expected);
    assert_eq!(node.health("POST /cluster", "").await.status, 405);
}

#[tokio::test]
async fn both_listeners_tell_the_fullest_limits() {
    let node = Node::new();
    let one = LimitRow {
        key: 0xab,
        period: Period::Month,
        window_start_s: 1_793_491_200,
        limit: 600,
        own: 100,
        remote: 400,
        forecast: 12.345,
        remaining: 100,
        sources: 3,
        strict: false,
        name: Some(Name {
            limit_by: "consumer",
            identifier: "ann".to_owned(),
            route: None,
            service: Some(Uuid::from_u128(5)),
        }),
    };
    let unnamed = LimitRow { name: None, ..one.clone() };
    *node.mesh.limits.lock().unwrap() = std::iter::once(one).chain(std::iter::repeat_n(unnamed, 1_100)).collect();
    node.mesh.figures.lock().unwrap().limits =
        LimitFigures { lines: 7, tracked: 5, offset_ms: -3, ..LimitFigures::default() };
    let first = json!({
        "limit": 600, "period": "month", "limit_by": "consumer", "identifier": "ann", "key": "00000000000000ab",
        "route": null, "service": { "id": Uuid::from_u128(5) }, "window_start": 1_793_491_200,
        "window_end": 1_796_083_200, "own": 100, "remote": 400, "forecast": 12.3, "remaining": 100, "sources": 3,
        "strict": false,
    });
    let solo = json!({ "mode": "solo", "counters": 7, "tracked": 5, "stale_peers": 0, "offset_ms": -3 });
    for answer in [node.ask("GET /cluster/limits", Value::Null).await, node.health("GET /cluster/limits", "").await] {
        answer.check(200, json!({ "self": "node-1", "summary": solo }));
        let document = answer.json();
        let rows = document["data"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]), (20, &first));
        assert_eq!((&rows[1]["identifier"], &rows[1]["limit_by"]), (&Value::Null, &Value::Null));
    }
    let count = async |query: &str| {
        let answer = node.ask(&format!("GET /cluster/limits?size={query}"), Value::Null).await;
        answer.json()["data"].as_array().map(Vec::len)
    };
    assert_eq!((count("1").await, count("1000").await), (Some(1), Some(1000)));
    for size in ["0", "1001", "x"] {
        node.ask(&format!("GET /cluster/limits?size={size}"), Value::Null).await.check(400, json!({}));
    }
    assert_eq!(node.ask("POST /cluster/limits", json!({})).await.status, 405);
}

#[tokio::test]
async fn lost_peers_show_wherever_somebody_looks() {
    let node = Node::new();
    three(&node);
    let degraded = json!({ "limits": { "mode": "degraded", "reason": "node-3 (fra) is dead" } });
    node.ask("GET /status", Value::Null).await.check(200, degraded.clone());
    node.ask("GET /cluster", Value::Null).await.check(200, degraded.clone());
    node.ask("GET /cluster/limits", Value::Null).await.check(200, json!({ "summary": degraded["limits"] }));
    let page = String::from_utf8(node.ask("GET /metrics", Value::Null).await.body.to_vec()).unwrap();
    assert!(page.contains("\ntidegate_limits_degraded 1\n"), "{page}");
    node.mesh.peers.lock().unwrap().retain(|peer| peer.state != State::Dead);
    node.ask("GET /status", Value::Null).await.check(200, json!({ "limits": { "mode": "whole" } }));
}

#[tokio::test]
async fn what_limits_decided_is_measured() {
    let node = Node::new();
    node.mesh.figures.lock().unwrap().limits = LimitFigures {
        admitted: 1,
        refused: 2,
        refused_by_forecast: 3,
        tracked: 4,
        lines: 5,
        evicted: 6,
        sketched: 7,
        withheld: 8,
        over_budget: 9,
        entries_sent: 10,
        entries_received: 11,
        foreign_windows: 12,
        overshoot: 13.5,
        overshoot_windows: 14,
        stale_peers: 15,
        offset_ms: -16,
        strict_given: 17,
        strict_taken: 18,
        strict_refused: 19,
        strict_standing: "settled",
        strict_share: 0.25,
    };
    let page = String::from_utf8(node.ask("GET /metrics", Value::Null).await.body.to_vec()).unwrap();
    for line in [
        "decisions_total{result=\"admitted\"} 1",
        "decisions_total{result=\"refused\"} 2",
        "refused_by_forecast_total 3",
        "tracked 4",
        "counters 5",
        "evicted_total 6",
        "sketched_total 7",
        "withheld 8",
        "over_budget_total 9",
        "entries_total{direction=\"sent\"} 10",
        "entries_total{direction=\"received\"} 11",
        "foreign_windows_total 12",
        "overshoot_total 13.5",
        "overshoot_windows_total 14",
        "stale_peers 15",
        "clock_offset_seconds -0.016",
        "rights_total{direction=\"given\"} 17",
        "rights_total{direction=\"taken\"} 18",
        "refused_strict_total 19",
        "strict_share 0.25",
        "strict_standing{standing=\"skewed\"} 0",
        "strict_standing{standing=\"settled\"} 1",
    ] {
        assert!(page.lines().any(|given| given.strip_prefix("tidegate_limits_") == Some(line)), "{line}\n{page}");
    }
}

#[tokio::test]
async fn kongs_clustering_endpoints_show_the_members_of_a_mesh() {
    let node = Node::new();
    let off = json!({
        "message": "this endpoint is only available when Kong is configured to run as Control Plane for the cluster",
    });
    for path in ["/clustering/status", "/clustering/data-planes"] {
        node.ask(&format!("GET {path}"), Value::Null).await.check(400, off.clone());
    }
    three(&node);
    let status = node.ask("GET /clustering/status", Value::Null).await;
    assert_eq!((status.status, status.header("deprecation")), (200, Some("true")));
    let far = &status.json()[uuid_of_node("node-2").to_string()];
    assert_eq!((&far["ip"], &far["hostname"]), (&json!("fdaa::3"), &json!("host")));
    assert_eq!(far["config_hash"].as_str().map(str::len), Some(32));
    let mut seen = Vec::new();
    let mut path = Some("/clustering/data-planes?size=1".to_owned());
    while let Some(next) = path {
        let page = node.ask(&format!("GET {next}"), Value::Null).await.json();
        seen.extend(page["data"].as_array().unwrap().clone());
        path = page["next"].as_str().map(str::to_owned);
    }
    let statuses: Vec<_> = seen.iter().map(|plane| plane["sync_status"].as_str().unwrap()).collect();
    assert_eq!((seen.len(), statuses.iter().filter(|status| **status == "normal").count()), (3, 2));
    assert_eq!(node.ask("GET /clustering/data-planes?size=0", Value::Null).await.status, 400);
}

#[tokio::test]
async fn leaving_is_asked_for_once_and_needs_the_token() {
    let node = Node::with(false, |options| options.token = Some("secret".to_owned()));
    assert_eq!(node.ask("POST /cluster/leave", Value::Null).await.status, 401);
    assert!(!node.handles.leave.is_cancelled());
    for _ in 0..2 {
        let asked = request("POST /cluster/leave").header("kong-admin-token", "secret").body(Bytes::new()).unwrap();
        assert_eq!(node.send(asked).await.status, 202);
    }
    assert!(node.handles.leave.is_cancelled());
    assert_eq!(node.health("POST /cluster/leave", "").await.status, 404);
}

#[tokio::test]
async fn a_write_waits_for_everybody_when_asked_to() {
    let node = Node::new();
    let write = async |query: &str| node.ask(&format!("POST /consumers{query}"), json!({ "username": null })).await;
    for query in ["?wait=some", "?wait=all&timeout_ms=60001", "?timeout_ms=x"] {
        assert_eq!(write(query).await.status, 400, "{query}");
    }
    assert_eq!(node.ask("POST /consumers?wait=all", json!({ "username": 5 })).await.status, 400);
    assert_eq!(node.ask("GET /consumers?wait=all&timeout_ms=x", Value::Null).await.status, 200);
    assert!(node.mesh.waited.lock().unwrap().is_empty());
    let bob = node.ask("PUT /consumers/bob?wait=all&timeout_ms=250", json!({})).await;
    bob.check(200, json!({ "username": "bob" }));
    assert_eq!(bob.header("x-tidegate-revision"), Some("1.1"));
    let waited = node.mesh.waited.lock().unwrap().clone();
    assert_eq!(waited, [(Vector::of_database(Revision::new(1, 1)), Duration::from_millis(250))]);
}

#[tokio::test]
async fn a_write_that_not_everybody_has_in_time_stands_and_says_who_lacks_it() {
    let node = Node::new();
    *node.mesh.missing.lock().unwrap() = vec!["node-2".to_owned()];
    let late = node.ask("PUT /consumers/bob?wait=all", json!({})).await;
    late.check(504, json!({ "missing": ["node-2"] }));
    assert_eq!(late.header("x-tidegate-revision"), Some("1.1"));
    assert!(late.json()["message"].is_string());
    assert_eq!(node.ask("GET /consumers/bob", Value::Null).await.status, 200);
    assert_eq!(node.ask("PUT /consumers/bob", json!({})).await.status, 200);
    let late = node.ask("DELETE /consumers/bob?wait=all", Value::Null).await;
    late.check(504, json!({ "missing": ["node-2"] }));
}

#[tokio::test]
async fn a_declarative_configuration_can_be_waited_for_too() {
    let node = Node::declarative();
    *node.mesh.missing.lock().unwrap() = vec!["node-2".to_owned()];
    let config = json!({ "_format_version": "3.0", "consumers": [{ "username": "bob" }] });
    node.ask("POST /config?wait=all", config).await.check(504, json!({ "missing": ["node-2"] }));
}

#[tokio::test]
async fn what_two_nodes_wrote_apart_is_shown() {
    let nothing = json!({ "conflicts": [], "dangling": [] });
    Node::new().ask("GET /cluster/conflicts", Value::Null).await.check(200, nothing);
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let change = |id: Uuid, time: u64| {
        let doc = json!({ "id": id, "username": "bob" });
        let entity = Entity::from_doc(Kind::CONSUMERS, doc.as_object().unwrap()).unwrap();
        let change = Change { kind: Kind::CONSUMERS, id, entity: Some(Arc::new(entity)) };
        Stamped { change, stamp: Stamp { epoch: 1, time, origin: "x".to_owned() } }
    };
    let changes = vec![change(one, 9), change(two, 5)];
    let merged = Some(Merged { origin: "node-1".to_owned(), vector: Vector::default(), changes });
    let mut node = Node::new();
    let contents = Contents { merged, ..Contents::default() };
    node.api.handles.ledger = Arc::new(Ledger::new(node.store.clone(), contents));
    node.ask("GET /cluster/conflicts", Value::Null).await.check(
        200,
        json!({
            "conflicts": [{ "kind": "consumers", "key": { "username": "bob" }, "winner": one, "losers": [two] }],
            "dangling": [],
        }),
    );
}

#[tokio::test]
async fn the_mesh_is_counted() {
    let node = Node::new();
    three(&node);
    *node.mesh.figures.lock().unwrap() = Figures {
        frames: vec![("beat", 3, 300, 4, 400)],
        refused_handshakes: vec![("no certificate", 2)],
        misbehaved: vec![("oversized", 1)],
        connections: 1,
        repairs: 5,
        bytes_sent: 1000,
        ..Figures::default()
    };
    let text = String::from_utf8(node.ask("GET /metrics", Value::Null).await.body.to_vec()).unwrap();
    for line in [
        "tidegate_cluster_members{state=\"alive\"} 2",
        "tidegate_cluster_members{state=\"dead\"} 1",
        "tidegate_cluster_rtt_seconds{peer=\"node-2\",region=\"syd\"} 0.280049",
        "tidegate_cluster_lag_revisions{peer=\"node-2\",region=\"syd\"} 2",
        "tidegate_cluster_last_heard_seconds{peer=\"node-3\",region=\"fra\"} 9",
        "tidegate_cluster_revision_number 42",
        "tidegate_cluster_connections 1",
        "tidegate_cluster_bytes_total{direction=\"sent\"} 1000",
        "tidegate_cluster_frames_total{kind=\"beat\",direction=\"received\"} 4",
        "tidegate_cluster_frame_bytes_total{kind=\"beat\",direction=\"sent\"} 300",
        "tidegate_cluster_refused_handshakes_total{reason=\"no certificate\"} 2",
        "tidegate_cluster_misbehaved_total{reason=\"oversized\"} 1",
        "tidegate_cluster_repairs_total 5",
        "tidegate_cluster_epochs_adopted_total 0",
    ] {
        assert!(text.lines().any(|given| given == line), "{line}\n{text}");
    }
}
