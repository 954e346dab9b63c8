//! Strangers, liars and peers that do not read (40, and the lying peers of 22).

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::ConnectionError;
use tidegate::cluster::transport::Event;
use tidegate::cluster::transport::identity::cluster_id;
use tidegate_proto::close::Close;
use tidegate_proto::frame::{FRAME_LEN_MAX, Frame, Hello, Pull};

use crate::mesh::rogue::{self, Rogue};
use crate::mesh::{Node, Plan, SECRET, beat, connect, couple, fetch, gossip, secret, spans, until};
use crate::relay::{Relay, free_addresses};

/// A Hello that a node accepts from `id`.
pub fn hello(id: &str) -> Hello {
    Hello {
        cluster_id: cluster_id(&secret(SECRET, None)).unwrap(),
        node_id: id.into(),
        region: "ams".into(),
        incarnation: 1,
        address: "127.0.0.1:9".into(),
        version: "1".into(),
        oldest: 1,
        newest: 1,
        store: "embedded".into(),
        more: Vec::new(),
    }
}

async fn join(node: &mut Node, id: &str) -> Rogue {
    let rogue = Rogue::join(node.address(), &secret(SECRET, None), hello(id)).await;
    node.connected(id).await;
    rogue
}

/// Frames still pass between two members.
async fn undisturbed(a: &mut Node, b: &mut Node) {
    assert!(a.mesh.send("b", &beat(77)) && b.mesh.send("a", &beat(77)));
    for (node, peer) in [(a, "b"), (b, "a")] {
        match node.event().await {
            Event::Frame { peer: from, frame } => assert_eq!((from.as_str(), frame), (peer, beat(77))),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_secret_gets_nobody_in_and_is_counted_on_both_sides() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    let stranger = Plan { identity: secret("another", None), ..Plan::new("stranger") }.start();
    stranger.mesh.dial(a.address());
    until("the stranger refuses the cluster's certificate", || stranger.refused("unknown_authority") == 1).await;
    until("the cluster hears of it", || a.refused("refused_by_peer") == 1).await;
    b.mesh.dial(stranger.address());
    until("the cluster refuses the stranger's certificate", || b.refused("unknown_authority") == 1).await;
    // One who believes anybody, and shows another cluster's certificate.
    let shown = secret("another", None);
    expect_refusal(rogue::dial(a.address(), Some((&shown, "b"))).await).await;
    until("another cluster's certificate is refused", || a.refused("unknown_authority") == 1).await;
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_there_is_no_connection() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    expect_refusal(rogue::dial(a.address(), None).await).await;
    until("it is counted", || a.refused("no_certificate") == 1).await;
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_that_does_not_fit_is_refused_with_a_reason() {
    let a = Plan::new("a").start();
    for (hello, close) in [
        (Hello { node_id: "other".into(), ..hello("r") }, Close::Identity),
        (Hello { cluster_id: "0123456789abcdef".into(), ..hello("r") }, Close::OtherCluster),
        (Hello { store: "postgres".into(), ..hello("r") }, Close::OtherStore),
        (Hello { oldest: 200, newest: 201, ..hello("r") }, Close::NoCommonVersion),
    ] {
        let identity = secret(SECRET, None);
        let mut rogue = rogue::dial(a.address(), Some((&identity, "r"))).await.unwrap();
        rogue.say(&Frame::Hello(hello)).await;
        expect_close(&rogue, close).await;
        assert_eq!(a.refused(close.name()), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_than_a_hello_is_refused() {
    let a = Plan::new("a").start();
    let identity = secret(SECRET, None);
    let mut early = rogue::dial(a.address(), Some((&identity, "r"))).await.unwrap();
    early.say(&beat(1)).await;
    expect_close(&early, Close::Unexpected).await;
    let mut long = rogue::dial(a.address(), Some((&identity, "r"))).await.unwrap();
    long.send.write_all(&[0xff; 4]).await.unwrap();
    expect_close(&long, Close::Malformed).await;
    let silent = rogue::dial(a.address(), Some((&identity, "r"))).await.unwrap();
    expect_close(&silent, Close::TooSlow).await;
}

/// TLS ends it, at once or when the dialer already thinks that it is through.
async fn expect_refusal(dialled: Result<Rogue, ConnectionError>) {
    let error = match dialled {
        Ok(rogue) => rogue.end().await,
        Err(error) => error,
    };
    assert!(matches!(error, ConnectionError::ConnectionClosed(_)), "{error}");
}

pub async fn expect_close(rogue: &Rogue, close: Close) {
    match rogue.end().await {
        ConnectionError::ApplicationClosed(closed) => assert_eq!(Close::of(closed.error_code.into_inner()), close),
        other => panic!("{other} instead of {close:?}"),
    }
}

/// What a member sends, by carrier.
enum Lie {
    Control(Vec<u8>),
    Alone(Vec<u8>),
    Question(Vec<u8>),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_close_their_connection_with_a_reason() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    let whole = |frame: &Frame| frame.encode(1).unwrap();
    let cut = |frame: &Frame| whole(frame)[..whole(frame).len() - 1].to_vec();
    let longer = |frame: &Frame| [whole(frame), vec![0]].concat();
    let framed = |bytes: Vec<u8>| [&(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
    let pull = Frame::Pull(Pull { vector: tidegate_proto::Vector::default(), more: Vec::new() });
    for (lie, why, close) in [
        (Lie::Control(cut(&beat(1))), "codec", Close::Malformed),
        (Lie::Control(longer(&beat(1))), "trailing", Close::Malformed),
        (Lie::Control(Vec::new()), "short", Close::Malformed),
        (Lie::Control(whole(&gossip(1))), "unexpected", Close::Unexpected),
        (Lie::Control(whole(&Frame::Hello(hello("r")))), "unexpected", Close::Unexpected),
        (Lie::Alone(cut(&spans(1, 10))), "codec", Close::Malformed),
        (Lie::Alone(vec![1; FRAME_LEN_MAX + 1]), "too_long", Close::Malformed),
        (Lie::Alone(whole(&pull)), "unexpected", Close::Unexpected),
        (Lie::Question(framed(whole(&beat(1)))), "unexpected", Close::Unexpected),
        (Lie::Question(vec![0xff; 8]), "too_long", Close::Malformed),
    ] {
        let before = a.misbehaved(why);
        let mut rogue = join(&mut a, "r").await;
        match lie {
            Lie::Control(bytes) => rogue.say_bytes(&bytes).await,
            Lie::Alone(bytes) => {
                let mut stream = rogue.connection.open_uni().await.unwrap();
                // The node may close before it has everything.
                let _ = stream.write_all(&bytes).await;
            }
            Lie::Question(bytes) => {
                let (mut stream, _answer) = rogue.connection.open_bi().await.unwrap();
                stream.write_all(&bytes).await.unwrap();
                let _ = stream.finish();
                expect_close(&rogue, close).await;
            }
        }
        expect_close(&rogue, close).await;
        assert!(!a.closed("r").await.is_empty());
        assert_eq!(a.misbehaved(why), before + 1, "{why}");
    }
    undisturbed(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expelled_peer_is_counted_and_may_come_again() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    a.mesh.expel("b", "told lies");
    assert_eq!(a.closed("b").await, "told lies");
    assert!(b.closed("a").await.contains("misbehaved"));
    assert_eq!(a.misbehaved("told lies"), 1);
    connect(&mut b, &mut a).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_read_costs_bounded_memory_and_nobody_elses_time() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    // It takes packets, but nothing out of its streams.
    let rogue = join(&mut a, "r").await;
    let frame = spans(1, 100_000);
    let taken = (0..200).filter(|_| a.mesh.send("r", &frame)).count();
    assert!(taken <= 11, "a megabyte waits and no more: {taken} frames of 100 KB");
    // Time for the writer to fill what QUIC takes, then the same again.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let taken = (0..200).filter(|_| a.mesh.send("r", &frame)).count();
    assert!(taken <= 11, "{taken}");
    undisturbed(&mut a, &mut b).await;
    // Small frames are not dropped: such a peer is no member for long.
    let full = (0..200_000).find(|number| !a.mesh.send("r", &beat(*number)));
    assert!(full.is_some());
    expect_close(&rogue, Close::TooSlow).await;
    assert_eq!((a.closed("r").await.as_str(), a.misbehaved("backlog")), ("backlog", 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_not_read_gives_its_place_back() {
    let mut a = Plan { records: 40_000, ..Plan::new("a") }.start();
    let rogue = join(&mut a, "r").await;
    let question = Frame::Fetch(fetch(None)).encode(1).unwrap();
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (mut send, recv) = rogue.connection.open_bi().await.unwrap();
        let len = (question.len() as u32).to_be_bytes();
        send.write_all(&[&len[..], &question].concat()).await.unwrap();
        streams.push((send, recv));
    }
    let mut b = Plan::new("b").start();
    connect(&mut b, &mut a).await;
    let began = std::time::Instant::now();
    loop {
        let (_, complete) = crate::mesh::drain(&mut b.mesh.fetch("a", fetch(Some(39_990)))).await;
        let over = began.elapsed();
        if complete && over > Duration::from_secs(5) {
            break;
        }
        assert!(over < Duration::from_secs(15), "both places were kept by one who does not read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replayed_packets_change_nothing() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 1);
    relay.remember(0, 1);
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (mut a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    assert!(a.mesh.send("b", &spans(1, 50_000)));
    assert_eq!(b.frame().await.1, spans(1, 50_000));
    for _ in 0..3 {
        assert!(relay.replay(0, 1) > 30);
    }
    undisturbed(&mut a, &mut b).await;
    a.mesh.close().await;
    drop(a);
    b.closed("a").await;
    // The first packet of the greeting begins a handshake that never ends, and that is all.
    until("the replayed greeting is counted", || {
        assert!(relay.replay(0, 1) > 30);
        b.mesh.figures().refused_handshakes.iter().any(|row| row.1 > 0)
    })
    .await;
    assert!(b.events.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_random_datagrams_leave_members_alone() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    let target: SocketAddr = a.address();
    let flood = tokio::task::spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut random = 1u64;
        for number in 0..100_000usize {
            let mut packet = [0u8; 1250];
            for chunk in packet.chunks_mut(8) {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                chunk.copy_from_slice(&random.to_le_bytes()[..chunk.len()]);
            }
            if number % 3 == 0 {
                // The head of a first packet: version 1, and plausible lengths.
                packet[..6].copy_from_slice(&[0xc0, 0, 0, 0, 1, 8]);
                packet[14] = 8;
            }
            let _ = socket.send_to(&packet[..if number % 3 == 0 { 1250 } else { 1 + number % 1250 }], target);
        }
    });
    let mut rounds = 0;
    while !flood.is_finished() || rounds == 0 {
        undisturbed(&mut a, &mut b).await;
        rounds += 1;
    }
    flood.await.unwrap();
    undisturbed(&mut a, &mut b).await;
    let mut c = Plan::new("c").start();
    connect(&mut c, &mut a).await;
}
