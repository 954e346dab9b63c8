//! Meshes on real sockets: who gets in, what arrives, and what a hostile or broken peer costs.

mod counts;
mod hostile;
mod outages;
mod rogue;
mod versions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidegate::cluster::core::keeper::Keeper;
use tidegate::cluster::core::view::Figures;
use tidegate::cluster::transport::{Event, Identity, Mesh, Options, Reports};
use tidegate_proto::Vector;
use tidegate_proto::frame::{
    Beat, Changed, Chunk, Fetch, Frame, Gossip, Hello, Leave, Records, Span, Spans, WholeRecord,
};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::relay::{Link, Relay, free_addresses};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "a secret of the tests";
/// Reports about limits that may wait: most tests leave them.
const LIMITS_MAX: usize = 4_096;

/// A mesh and what it reported.
struct Node {
    mesh: Mesh,
    events: mpsc::Receiver<Event>,
    /// What it reported about limits, connections included.
    limits: mpsc::Receiver<Event>,
    id: String,
}

/// How a test's node differs from the next.
#[derive(Clone)]
struct Plan {
    id: String,
    identity: Identity,
    listen: SocketAddr,
    advertise: SocketAddr,
    incarnation: u64,
    records: usize,
}

/// A keeper of `records` made-up records, which takes nothing in.
struct Shelf {
    records: usize,
}

impl Keeper for Shelf {
    fn vector(&self) -> Vector {
        Vector { epoch: 1, counts: [("shelf".to_owned(), 7)].into() }
    }

    fn take(&self, _spans: Vec<Span>) -> BoxFuture<'_, Result<Vector, String>> {
        async { Ok(self.vector()) }.boxed()
    }

    fn adopt(&self, _vector: Vector, _records: Vec<WholeRecord>) -> BoxFuture<'_, Result<Vector, String>> {
        async { Ok(self.vector()) }.boxed()
    }

    fn records(&self, after: Option<(String, [u8; 16])>, size_max: usize) -> (Vec<WholeRecord>, bool) {
        let first = after.map_or(0, |(_, id)| u128::from_be_bytes(id) as usize + 1);
        let upto = (first + size_max / 300).min(self.records);
        ((first..upto).map(record).collect(), upto == self.records)
    }
}

impl Plan {
    fn new(id: &str) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { id: id.into(), identity: secret(SECRET, None), listen, advertise: listen, incarnation: 1, records: 0 }
    }

    /// Node number `at` behind a relay.
    fn behind(id: &str, relay: &Relay, listens: &[SocketAddr], at: usize) -> Self {
        Self { listen: listens[at], advertise: relay.address(at), ..Self::new(id) }
    }

    fn start(&self) -> Node {
        let hello = Hello {
            cluster_id: String::new(),
            node_id: self.id.clone(),
            region: "ams".into(),
            incarnation: self.incarnation,
            address: String::new(),
            version: "1".into(),
            oldest: 1,
            newest: 1,
            store: "embedded".into(),
            more: Vec::new(),
        };
        let ((events_sender, events), (limits_sender, limits)) = (mpsc::channel(64), mpsc::channel(LIMITS_MAX));
        let reports = Reports { events: events_sender, limits: limits_sender };
        let options = Options {
            listen: self.listen,
            advertise: self.advertise,
            identity: self.identity.clone(),
            hello,
            segmentation_offload: false,
        };
        // A socket of the node before may not be gone yet.
        let began = Instant::now();
        let mesh = loop {
            match Mesh::start(options_again(&options), Arc::new(Shelf { records: self.records }), reports.clone()) {
                Ok(mesh) => break mesh,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
        };
        Node { mesh, events, limits, id: self.id.clone() }
    }
}

impl Node {
    fn address(&self) -> SocketAddr {
        self.mesh.hello().address.parse().unwrap()
    }

    async fn event(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("a mesh that runs")
    }

    /// Waits for a connection with `peer`; other events are passed over.
    async fn connected(&mut self, peer: &str) -> Hello {
        loop {
            match self.event().await {
                Event::Connected(hello) if hello.node_id == peer => return hello,
                _ => {}
            }
        }
    }

    async fn closed(&mut self, peer: &str) -> String {
        loop {
            match self.event().await {
                Event::Closed { peer: other, why } if other == peer => return why,
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> (String, Frame) {
        loop {
            if let Event::Frame { peer, frame } = self.event().await {
                return (peer, frame);
            }
        }
    }

    /// The next frame about limits.
    async fn limits_frame(&mut self) -> (String, Frame) {
        loop {
            let event = timeout(PATIENCE, self.limits.recv()).await.expect("a frame in time");
            if let Event::Frame { peer, frame } = event.expect("a mesh that runs") {
                return (peer, frame);
            }
        }
    }

    fn refused(&self, why: &str) -> u64 {
        count(&self.mesh.figures().refused_handshakes, why)
    }

    fn misbehaved(&self, why: &str) -> u64 {
        count(&self.mesh.figures().misbehaved, why)
    }
}

fn options_again(options: &Options) -> Options {
    let Options { listen, advertise, identity, hello, segmentation_offload } = options;
    Options {
        listen: *listen,
        advertise: *advertise,
        identity: identity.clone(),
        hello: hello.clone(),
        segmentation_offload: *segmentation_offload,
    }
}

fn secret(secret: &str, previous: Option<&str>) -> Identity {
    Identity::Secret { secret: secret.into(), previous: previous.map(str::to_owned) }
}

fn count(figures: &[(&'static str, u64)], why: &str) -> u64 {
    figures.iter().find(|(name, _)| *name == why).map_or(0, |(_, count)| *count)
}

/// Two nodes that are connected; the first dialled.
async fn couple(a: &Plan, b: &Plan) -> (Node, Node) {
    let (mut a, mut b) = (a.start(), b.start());
    connect(&mut a, &mut b).await;
    (a, b)
}

async fn connect(a: &mut Node, b: &mut Node) {
    a.mesh.dial(b.address());
    let (a_id, b_id) = (a.id.clone(), b.id.clone());
    tokio::join!(a.connected(&b_id), b.connected(&a_id));
}

/// Looks again and again until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn beat(sequence: u64) -> Frame {
    echoing(sequence, 0)
}

/// A beat that says it last heard its receiver so long ago.
fn echoing(sequence: u64, echo_age_ms: u32) -> Frame {
    Frame::Beat(Beat {
        sequence,
        revision: tidegate_proto::Revision::new(1, sequence),
        digest: 3,
        time_ms: 4,
        echo_ms: 5,
        echo_age_ms,
        draining: false,
        more: Vec::new(),
    })
}

fn spans(number: u64, len: usize) -> Frame {
    let changed = Changed { kind: "services".into(), id: [1; 16], time: number, text: Some("x".repeat(len)) };
    let span = Span { epoch: 1, origin: "a".into(), after: number - 1, upto: number, changes: vec![changed] };
    Frame::Spans(Spans { spans: vec![span], vector: Vector::default(), more: Vec::new() })
}

fn gossip(fill: u8) -> Frame {
    Frame::Gossip(Gossip { envelope: vec![fill; 300], more: Vec::new() })
}

fn leave() -> Frame {
    Frame::Leave(Leave { more: Vec::new() })
}

fn record(number: usize) -> WholeRecord {
    WholeRecord {
        kind: "routes".into(),
        id: (number as u128).to_be_bytes(),
        time: number as u64,
        origin: "shelf".into(),
        text: Some(format!("{number:0300}")),
    }
}

/// The records of a transfer, until its channel ends, and whether it came to its end.
async fn drain(chunks: &mut mpsc::Receiver<Chunk>) -> (Vec<WholeRecord>, bool) {
    let (mut records, mut complete) = (Vec::new(), false);
    while let Some(chunk) = timeout(PATIENCE, chunks.recv()).await.expect("a chunk in time") {
        let plain = zstd::bulk::decompress(&chunk.records, chunk.len as usize).unwrap();
        records.extend(Records::decode(&plain).unwrap().records);
        complete = chunk.last;
    }
    (records, complete)
}

fn fetch(after: Option<usize>) -> Fetch {
    let after = after.map(|number| ("routes".to_owned(), (number as u128).to_be_bytes()));
    Fetch { after, more: Vec::new() }
}

fn kind_counts(figures: &Figures, kind: &str) -> (u64, u64) {
    let (_, sent, _, received, _) = *figures.frames.iter().find(|row| row.0 == kind).unwrap();
    (sent, received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_every_kind_arrive_in_both_directions() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    relay.set_all(Link::delayed(5));
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (mut a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    for frame in [beat(1), spans(1, 200_000), gossip(9), leave()] {
        assert!(a.mesh.send("b", &frame) && b.mesh.send("a", &frame));
        assert_eq!(b.frame().await, ("a".to_owned(), frame.clone()));
        assert_eq!(a.frame().await, ("b".to_owned(), frame));
    }
    assert!(a.mesh.rtt("b").unwrap() >= Duration::from_millis(10));
    let figures = a.mesh.figures();
    assert_eq!(kind_counts(&figures, "spans"), (1, 1));
    assert!(figures.bytes_sent > 200_000 && figures.bytes_received > 200_000, "{figures:?}");
    assert!(!a.mesh.send("nobody", &beat(1)));
    assert!(!a.mesh.send("b", &Frame::Fetch(fetch(None))), "a transfer has its own way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_arrive_in_the_order_they_were_pushed_in_despite_loss() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 7);
    relay.set_all(Link { loss: 0.05, ..Link::delayed(5) });
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    for number in 1..=200 {
        assert!(a.mesh.send("b", &spans(number, 1000)));
    }
    for number in 1..=200 {
        assert_eq!(b.frame().await.1, spans(number, 1000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_configuration_is_fetched_and_resumed() {
    let (a, b) = couple(&Plan::new("a"), &Plan { records: 5000, ..Plan::new("b") }).await;
    let (records, complete) = drain(&mut a.mesh.fetch("b", fetch(None))).await;
    assert!(complete && records == (0..5000).map(record).collect::<Vec<_>>());
    let (records, complete) = drain(&mut a.mesh.fetch("b", fetch(Some(4989)))).await;
    assert!(complete && records == (4990..5000).map(record).collect::<Vec<_>>());
    let (nothing, complete) = drain(&mut b.mesh.fetch("a", fetch(None))).await;
    assert!(complete && nothing.is_empty(), "an empty configuration is one too");
    assert_eq!(drain(&mut a.mesh.fetch("nobody", fetch(None))).await, (Vec::new(), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_donor_serves_two_at_once_and_tells_the_third() {
    let (a, _b) = couple(&Plan::new("a"), &Plan { records: 40_000, ..Plan::new("b") }).await;
    let mut first = a.mesh.fetch("b", fetch(None));
    let mut second = a.mesh.fetch("b", fetch(None));
    // Both have begun, and cannot end while nobody takes their chunks.
    assert!(first.recv().await.is_some() && second.recv().await.is_some());
    assert_eq!(drain(&mut a.mesh.fetch("b", fetch(None))).await, (Vec::new(), false));
    drop(first);
    let began = Instant::now();
    while drain(&mut a.mesh.fetch("b", fetch(Some(39_999)))).await != (Vec::new(), true) {
        assert!(began.elapsed() < PATIENCE, "a place that was given up is free again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_dial_each_other_at_once_keep_one_connection() {
    for round in 0..10 {
        let (mut a, mut b) = (Plan::new("a").start(), Plan::new("b").start());
        a.mesh.dial(b.address());
        b.mesh.dial(a.address());
        tokio::join!(a.connected("b"), b.connected("a"));
        // Whichever was replaced lingers for a second; frames pass meanwhile, and nobody hears of an end.
        let began = Instant::now();
        let mut sequence = 0;
        while began.elapsed() < Duration::from_millis(if round == 0 { 1500 } else { 50 }) {
            sequence += 1;
            assert!(a.mesh.send("b", &beat(sequence)) && b.mesh.send("a", &beat(sequence)));
            for node in [&mut a, &mut b] {
                loop {
                    match node.event().await {
                        Event::Connected(_) => {}
                        Event::Closed { why, .. } => panic!("{why}"),
                        Event::Frame { frame, .. } => break assert_eq!(frame, beat(sequence)),
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_queued_is_sent_before_the_end() {
    let (a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    assert!(a.mesh.send("b", &spans(1, 500_000)) && a.mesh.send("b", &leave()));
    let began = Instant::now();
    let (_, mut frames) = tokio::join!(a.mesh.close(), async { [b.frame().await.1, b.frame().await.1] });
    frames.sort_by_key(|frame| matches!(frame, Frame::Leave(_)));
    assert_eq!(frames, [spans(1, 500_000), leave()]);
    assert!(b.closed("a").await.contains("stopping"));
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(!a.mesh.send("b", &beat(1)));
}
