//! Counts between meshes: datagrams and streams, and what a peer costs that does not read them (4).

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_proto::close::Close;
use tidegate_proto::frame::{Ask, Counts, CountsPull, Frame, Grant, Group, Hello, Slot, VERSION};

use crate::mesh::hostile::{expect_close, hello};
use crate::mesh::rogue::Rogue;
use crate::mesh::{Node, Plan, SECRET, beat, connect, couple, gossip, kind_counts, secret, spans};
use crate::relay::{Link, Relay, free_addresses};

/// Slots 0, 1, … of one minute, all with this count.
fn counts(slots: u64, count: u64) -> Counts {
    let slot = |key: u64| Slot { key, count, demand: 7, stopped: false };
    let group = Group { source: None, period: 1, window: 29_400_008, room: 600, slots: (0..slots).map(slot).collect() };
    Counts { time_ms: 1_764_000_000_500, complete: 0, groups: vec![group] }
}

fn complete(counts: Counts) -> Counts {
    Counts { complete: 0b10, ..counts }
}

/// The next counts, as a frame has them.
async fn next(node: &mut Node) -> Counts {
    match node.limits_frame().await.1 {
        Frame::Counts(counts) => counts,
        other => panic!("{other:?}"),
    }
}

fn to(peer: &str) -> [String; 1] {
    [peer.to_owned()]
}

/// A member that takes datagrams or not, and reads nothing by itself.
async fn join(node: &mut Node, newest: u8, datagrams: bool) -> Rogue {
    let hello = Hello { newest, ..hello("rogue") };
    let rogue = Rogue::join_with(node.address(), &secret(SECRET, None), hello, datagrams).await;
    node.connected("rogue").await;
    rogue
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn urgent_counts_are_datagrams_and_cut_to_what_the_path_takes() {
    let (a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    assert_eq!(a.mesh.spread(&to("b"), &complete(counts(3, 9)), true), [""; 0]);
    assert_eq!(next(&mut b).await, complete(counts(3, 9)));
    // More than one datagram: none may say that it is everything, since the others can be lost.
    assert_eq!(a.mesh.spread(&to("b"), &complete(counts(300, 9)), true), [""; 0]);
    let mut slots = 0;
    while slots < 300 {
        let part = next(&mut b).await;
        assert!(part.complete == 0 && part.len() < 130, "{} slots in a datagram", part.len());
        slots += part.len();
    }
    let (sent, received) = (kind_counts(&a.mesh.figures(), "counts").0, kind_counts(&b.mesh.figures(), "counts").1);
    assert!(sent == received && (4..=6).contains(&sent), "{sent} sent, {received} received");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_arrive_whole_and_in_order_beside_a_large_configuration() {
    let listens = free_addresses(2);
    let relay = Relay::new(&listens, 11);
    relay.set_all(Link { loss: 0.03, ..Link::delayed(20) });
    let plan = |id: &str, at: usize| Plan::behind(id, &relay, &listens, at);
    let (a, mut b) = couple(&plan("a", 0), &plan("b", 1)).await;
    assert!(a.mesh.send("b", &spans(1, 900_000)) && a.mesh.send("b", &gossip(1)));
    for count in 1..=50 {
        assert_eq!(a.mesh.spread(&to("b"), &complete(counts(40, count)), false), [""; 0]);
    }
    for count in 1..=50 {
        assert_eq!(next(&mut b).await, complete(counts(40, count)));
    }
    // What does not fit into one frame comes in several, and the last one says that this was everything.
    assert_eq!(a.mesh.spread(&to("b"), &complete(counts(12_000, 1)), false), [""; 0]);
    let mut parts = vec![next(&mut b).await];
    while parts.last().is_some_and(|part| part.complete == 0) {
        parts.push(next(&mut b).await);
    }
    assert_eq!(parts.iter().map(Counts::len).sum::<usize>(), 12_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_and_pulls_travel_both_ways() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    for frame in [
        Frame::CountsPull(CountsPull::default()),
        Frame::Ask(Ask { key: 1, wish: 5, ..Ask::default() }),
        Frame::Grant(Grant { key: 1, total: 5, ..Grant::default() }),
    ] {
        assert!(a.mesh.send("b", &frame) && b.mesh.send("a", &frame));
        assert_eq!(b.limits_frame().await, ("a".to_owned(), frame.clone()));
        assert_eq!(a.limits_frame().await, ("b".to_owned(), frame));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_datagrams_are_not_possible_urgent_counts_take_a_stream() {
    let mut a = Plan::new("a").start();
    let rogue = join(&mut a, VERSION, false).await;
    assert_eq!(a.mesh.spread(&to("rogue"), &counts(2, 4), true), [""; 0]);
    let mut stream = rogue.connection.accept_uni().await.unwrap();
    let bytes = stream.read_to_end(1 << 16).await.unwrap();
    assert_eq!(bytes, Frame::Counts(counts(2, 4)).encode(VERSION).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_the_version_before_is_sent_no_counts() {
    let mut a = Plan::new("a").start();
    let _old = join(&mut a, 1, true).await;
    assert_eq!(a.mesh.spread(&to("rogue"), &counts(2, 4), true), [""; 0]);
    assert_eq!(a.mesh.spread(&to("rogue"), &counts(2, 4), false), [""; 0]);
    assert!(!a.mesh.send("rogue", &Frame::CountsPull(CountsPull::default())));
    assert_eq!(kind_counts(&a.mesh.figures(), "counts").0, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_4_a_peer_that_does_not_read_is_owed_and_costs_others_nothing() {
    let (mut a, mut b) = couple(&Plan::new("a"), &Plan::new("b")).await;
    let _rogue = join(&mut a, VERSION, true).await;
    let both = ["rogue".to_owned(), "b".to_owned()];
    let batch = counts(4_000, 5);
    let batch_len = Frame::Counts(batch.clone()).encode(VERSION).unwrap().len();
    let mut taken = 0;
    let mut slowest = Duration::ZERO;
    for round in 0..200 {
        let began = Instant::now();
        let refused = a.mesh.spread(&both, &batch, round % 2 == 1);
        assert!(!refused.contains(&"b".to_owned()), "round {round}");
        taken += usize::from(refused.is_empty() && round % 2 == 0);
        if round % 2 == 0 {
            while next(&mut b).await != batch {}
        }
        slowest = slowest.max(began.elapsed());
    }
    let held = taken * batch_len;
    println!("200 batches of {batch_len} bytes: {held} bytes held for a peer that reads nothing, slowest {slowest:?}");
    assert!(held <= (1 << 20) + (2 << 20), "the queue, and what QUIC sends ahead");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(a.mesh.send("b", &beat(1)) && a.mesh.send("rogue", &beat(1)), "it is still a member");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datagram_that_is_no_counts_ends_the_connection() {
    let mut a = Plan::new("a").start();
    let mut b = Plan::new("b").start();
    connect(&mut a, &mut b).await;
    let honest = Frame::Counts(counts(2, 4)).encode(VERSION).unwrap();
    let beat = beat(1).encode(VERSION).unwrap();
    for (bytes, close, why) in [
        (honest[..honest.len() - 1].to_vec(), Close::Malformed, "codec"),
        (vec![9; 40], Close::Malformed, "version"),
        (vec![], Close::Malformed, "short"),
        (beat, Close::Unexpected, "unexpected"),
    ] {
        let rogue = join(&mut a, VERSION, true).await;
        let before = a.misbehaved(why);
        rogue.connection.send_datagram(Bytes::from(honest.clone())).unwrap();
        assert_eq!(next(&mut a).await, counts(2, 4));
        rogue.connection.send_datagram(Bytes::from(bytes)).unwrap();
        expect_close(&rogue, close).await;
        assert_eq!(a.misbehaved(why), before + 1);
        a.closed("rogue").await;
    }
    // A kind that a later version may send so is passed over.
    let rogue = join(&mut a, VERSION, true).await;
    rogue.connection.send_datagram(Bytes::from(vec![VERSION, 0x40, 0x9c, 1])).unwrap();
    rogue.connection.send_datagram(Bytes::from(honest)).unwrap();
    assert_eq!(next(&mut a).await, counts(2, 4));
    assert_eq!(b.mesh.spread(&to("a"), &counts(1, 1), true), [""; 0]);
    assert_eq!(next(&mut a).await, counts(1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_datagrams_costs_no_more_than_its_buffer() {
    let mut a = Plan::new("a").start();
    let rogue = join(&mut a, VERSION, true).await;
    let bytes = Bytes::from(Frame::Counts(counts(80, 4)).encode(VERSION).unwrap());
    // Nobody reads the reports here: what does not fit is dropped, and the connection stays.
    for _ in 0..20_000 {
        rogue.connection.send_datagram(bytes.clone()).unwrap();
        tokio::task::yield_now().await;
    }
    let last = Frame::Counts(counts(1, 99)).encode(VERSION).unwrap();
    rogue.connection.send_datagram(Bytes::from(last)).unwrap();
    let began = Instant::now();
    while next(&mut a).await != counts(1, 99) {
        assert!(began.elapsed() < crate::mesh::PATIENCE);
    }
    let (_, received) = kind_counts(&a.mesh.figures(), "counts");
    println!("20,000 datagrams sent, {received} read");
}
