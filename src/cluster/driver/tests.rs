//! Clusters of several drivers on loopback, over the real mesh, with a model of what keeps entities.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tidegate_proto::Vector;
use uuid::Uuid;

use tidegate_proto::frame::{Changed, Hello, Span, VERSION, VERSION_OLDEST, WholeRecord};

use super::*;
use crate::cluster::core::view::State;
use crate::cluster::driver::unix_time::unix_ms;
use crate::cluster::transport::Identity;
use crate::counter::{self, Limit, Period, Reach};

const PATIENCE: Duration = Duration::from_secs(20);
/// What counters are hashed with.
const KEY: [u8; 16] = *b"sixteen bytes...";
/// More transactions than anybody keeps one by one.
const MANY: u64 = 1_500;

/// Records by kind and id.
type Held = BTreeMap<(String, [u8; 16]), WholeRecord>;

/// Entities where every node writes: the greatest (time, origin) of each wins.
struct Model {
    name: String,
    held: Mutex<(Vector, Held)>,
    spans: broadcast::Sender<Arc<Span>>,
}

impl Model {
    fn new(name: &str) -> Arc<Self> {
        let vector = Vector { epoch: 1, counts: BTreeMap::new() };
        let (spans, _) = broadcast::channel(64);
        Arc::new(Self { name: name.to_owned(), held: Mutex::new((vector, BTreeMap::new())), spans })
    }

    /// One transaction that writes `text` to entity `id`; answers where this node stands.
    fn write(&self, id: u8, text: &str) -> Vector {
        let mut held = self.held.lock().unwrap();
        let count = held.0.count(&self.name);
        let time = held.1.values().map(|record| record.time).max().unwrap_or(0) + 1;
        let changed = Changed { kind: "routes".to_owned(), id: [id; 16], time, text: Some(text.to_owned()) };
        let span = Span { epoch: 1, origin: self.name.clone(), after: count, upto: count + 1, changes: vec![changed] };
        apply(&mut held, &span);
        let _ = self.spans.send(Arc::new(span));
        held.0.clone()
    }

    fn text(&self, id: u8) -> Option<String> {
        self.held.lock().unwrap().1.get(&("routes".to_owned(), [id; 16])).and_then(|record| record.text.clone())
    }
}

fn apply(held: &mut (Vector, Held), span: &Span) {
    let (vector, records) = held;
    if span.epoch != vector.epoch || !(span.after..span.upto).contains(&vector.count(&span.origin)) {
        return;
    }
    for changed in &span.changes {
        let origin = span.origin.clone();
        let Changed { kind, id, time, text } = changed.clone();
        merge(records, WholeRecord { kind, id, time, origin, text });
    }
    vector.advance(&span.origin, span.upto);
}

fn merge(records: &mut Held, record: WholeRecord) {
    let standing = records.entry((record.kind.clone(), record.id)).or_insert_with(|| record.clone());
    if (standing.time, &standing.origin) < (record.time, &record.origin) {
        *standing = record;
    }
}

impl Keeper for Model {
    fn vector(&self) -> Vector {
        self.held.lock().unwrap().0.clone()
    }

    fn take(&self, spans: Vec<Span>) -> BoxFuture<'_, Result<Vector, String>> {
        let mut held = self.held.lock().unwrap();
        spans.iter().for_each(|span| apply(&mut held, span));
        let vector = held.0.clone();
        Box::pin(async { Ok(vector) })
    }

    fn adopt(&self, vector: Vector, records: Vec<WholeRecord>) -> BoxFuture<'_, Result<Vector, String>> {
        let mut held = self.held.lock().unwrap();
        records.into_iter().for_each(|record| merge(&mut held.1, record));
        vector.counts.iter().for_each(|(origin, count)| held.0.advance(origin, *count));
        let vector = held.0.clone();
        Box::pin(async { Ok(vector) })
    }

    fn records(&self, after: Option<(String, [u8; 16])>, _: usize) -> (Vec<WholeRecord>, bool) {
        let held = self.held.lock().unwrap();
        let rest = held.1.iter().filter(|(place, _)| after.as_ref().is_none_or(|after| *place > after));
        (rest.map(|(_, record)| record.clone()).collect(), true)
    }
}

/// A node of a test.
struct Node {
    keeper: Arc<Model>,
    counters: Arc<Counters>,
    cluster: Arc<dyn Cluster>,
}

impl Node {
    async fn start(name: &str, incarnation: u64, address: SocketAddr, seeds: &[SocketAddr]) -> Self {
        let (keeper, counters) =
            (Model::new(name), Arc::new(Counters::new(counter::Options { key: KEY, ..Default::default() })));
        let hello = Hello {
            cluster_id: String::new(),
            node_id: name.to_owned(),
            region: "fra".to_owned(),
            incarnation,
            address: String::new(),
            version: "0.1.0".to_owned(),
            oldest: VERSION_OLDEST,
            newest: VERSION,
            store: "embedded".to_owned(),
            more: Vec::new(),
        };
        let identity = Identity::Secret { secret: "a secret for drivers".to_owned(), previous: None };
        let options = Options {
            transport: transport::Options {
                listen: address,
                advertise: address,
                identity,
                hello,
                segmentation_offload: false,
            },
            seeds: seeds.iter().map(ToString::to_string).collect(),
            hostname: format!("host of {name}"),
            draining: CancellationToken::new(),
            counters: counters.clone(),
            strict: strict::Options {
                file: std::env::temp_dir().join("none/strict.json"),
                said: tokio::sync::watch::channel(None).1,
            },
            limits: tally::Options { budget_per_s: 1_000_000, partition: tally::Partition::Share },
        };
        let cluster = start(options, keeper.clone(), keeper.spans.subscribe()).await.unwrap();
        Self { keeper, counters, cluster }
    }

    fn states(&self) -> Vec<(String, State)> {
        self.cluster.view().nodes.into_iter().map(|node| (node.node_id, node.state)).collect()
    }

    fn sees(&self, state: State) -> usize {
        self.states().iter().filter(|(_, other)| *other == state).count()
    }
}

/// What counts as one subject here.
fn hit(node: &Node, who: &str, limit: f64, times: usize) -> usize {
    let subject = node.counters.subject(Uuid::nil(), Uuid::nil(), who.as_bytes());
    let limits = [Limit { period: Period::Hour, limit }];
    (0..times).filter(|_| node.counters.hit(subject, Reach::Cluster, &limits, unix_ms()).admitted).count()
}

/// (own, remote) of the only counter that a node has; zeros for none.
fn counted(node: &Node) -> (u64, u64) {
    node.cluster.limits(1).first().map_or((0, 0), |row| (row.own, row.remote))
}

fn frames(node: &Node, kind: &str) -> (u64, u64) {
    let figures = node.cluster.figures();
    let row = figures.frames.iter().find(|row| row.0 == kind).copied().unwrap();
    (row.1, row.3)
}

/// Addresses that were free a moment ago.
fn free(count: usize) -> Vec<SocketAddr> {
    let sockets: Vec<_> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    sockets.iter().map(|socket| socket.local_addr().unwrap()).collect()
}

async fn cluster(count: usize) -> (Vec<Node>, Vec<SocketAddr>) {
    let addresses = free(count);
    let mut nodes = Vec::new();
    for (at, address) in addresses.iter().enumerate() {
        nodes.push(Node::start(&format!("n{at}"), 1, *address, &addresses[..1]).await);
    }
    until("all are alive and agree", || {
        nodes.iter().all(|node| node.sees(State::Alive) == count && node.cluster.view().converged)
    })
    .await;
    (nodes, addresses)
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_from_one_seed() {
    let start = Instant::now();
    let (nodes, _) = cluster(5).await;
    println!("five nodes agree after {:?}", start.elapsed());
    for node in &nodes {
        let view = node.cluster.view();
        assert_eq!(view.nodes[0].node_id, view.me);
        assert_eq!(node.cluster.figures().connections, 4);
        for member in &view.nodes {
            assert_eq!(member.hostname, format!("host of {}", member.node_id), "{}", view.me);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_has_arrived_everywhere_when_it_is_settled() {
    let (nodes, _) = cluster(4).await;
    for round in 0..20u8 {
        let text = format!("round {round}");
        // Others write at the same time, so that hardly any two nodes are equal.
        nodes[1].keeper.write(round, "by another");
        let vector = nodes[0].keeper.write(100 + round, &text);
        let start = Instant::now();
        nodes[0].cluster.settled(vector, PATIENCE).await.unwrap();
        if round % 5 == 0 {
            println!("settled after {:?}", start.elapsed());
        }
        for node in &nodes {
            assert_eq!(node.keeper.text(100 + round).as_deref(), Some(text.as_str()));
        }
    }
    until("all agree", || nodes.iter().all(|node| node.cluster.view().converged)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lacks_a_write_is_named_when_time_is_up() {
    let (nodes, _) = cluster(2).await;
    let mut beyond = nodes[0].keeper.vector();
    beyond.advance("n0", 99);
    let missing = nodes[0].cluster.settled(beyond, Duration::from_millis(50)).await;
    assert_eq!(missing, Err(vec!["n1".to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_left_is_not_waited_for_and_takes_everything_when_it_is_back() {
    let (mut nodes, addresses) = cluster(3).await;
    let gone = nodes.pop().unwrap();
    gone.cluster.leave().await;
    until("it left", || nodes.iter().all(|node| node.sees(State::Left) == 1)).await;
    for count in 0..MANY {
        nodes[0].keeper.write((count % 50) as u8, &count.to_string());
    }
    let vector = nodes[0].keeper.vector();
    nodes[0].cluster.settled(vector.clone(), PATIENCE).await.unwrap();

    // It lives somewhere else, its disk is empty, and what it lacks is more than anybody keeps one by one.
    let back = Node::start("n2", 2, free(1)[0], &addresses[..1]).await;
    until("it has everything", || back.keeper.vector() == vector).await;
    assert_eq!(back.keeper.text(49), nodes[0].keeper.text(49));
    assert!(back.cluster.figures().wholes_taken > 0);
    nodes.push(back);
    until("all are alive", || nodes.iter().all(|node| node.sees(State::Alive) == 3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_on_one_node_is_known_on_all() {
    let (nodes, _) = cluster(3).await;
    assert_eq!(hit(&nodes[0], "somebody", 100.0, 60), 60);
    assert_eq!(hit(&nodes[1], "somebody", 100.0, 10), 10);
    until("all know of all", || {
        let all: Vec<_> = nodes.iter().map(counted).collect();
        all == [(60, 10), (10, 60), (0, 70)]
    })
    .await;
    let admitted = hit(&nodes[2], "somebody", 100.0, 60);
    assert!(admitted <= 30, "{admitted} above the 70 that the others admitted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_while_nothing_is_counted() {
    let (nodes, _) = cluster(3).await;
    let sent = |nodes: &[Node]| nodes.iter().map(|node| frames(node, "counts").0).collect::<Vec<_>>();
    // A connection begins with what there is: nothing.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    let before = sent(&nodes);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(sent(&nodes), before);
    hit(&nodes[0], "somebody", 100.0, 60);
    until("it is told", || counted(&nodes[2]).1 == 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_says_what_it_counted_before() {
    let (mut nodes, _) = cluster(3).await;
    let leaver = nodes.pop().unwrap();
    hit(&leaver, "somebody", 100.0, 37);
    leaver.cluster.leave().await;
    until("the others know", || nodes.iter().all(|node| counted(node) == (0, 37))).await;
}
