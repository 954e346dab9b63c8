//! A peer of the next version of the protocol: it knows more frames and members than the node, and both carry on (20).
//!
//! How the next version reads what the node writes is shown beside the codec, where a second version exists.

use tidegate::cluster::transport::Event;
use tidegate_proto::close::Close;
use tidegate_proto::codec::Decoded;
use tidegate_proto::frame::{Beat, Frame, Hello, VERSION, Versions};

use crate::mesh::hostile::{expect_close, hello};
use crate::mesh::rogue::{self, Rogue};
use crate::mesh::{Node, Plan, SECRET, beat, secret};

const NEXT: Versions = Versions { oldest: 1, newest: VERSION + 1 };
/// A frame of a kind that this version does not have, in the version that was agreed.
const UNKNOWN: [u8; 6] = [VERSION, 0x40, 0x9c, 1, 2, 3];

/// The next frame on the first stream, with the version it was written in.
async fn hear(peer: &mut Rogue) -> (u8, Frame) {
    let mut len = [0; 4];
    peer.recv.read_exact(&mut len).await.unwrap();
    let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
    peer.recv.read_exact(&mut bytes).await.unwrap();
    match Frame::decode_as(&bytes, NEXT).unwrap() {
        Decoded::Frame(frame) => (bytes[0], frame),
        Decoded::Unknown(kind) => panic!("kind {kind}"),
    }
}

/// A member of the next version, its Hello with a member that the node does not know, and the version they agree on.
async fn join(node: &mut Node) -> (Rogue, u8) {
    let mine = Hello { newest: NEXT.newest, more: vec![(9, vec![1, 2])], ..hello("next") };
    let mut peer = rogue::dial(node.address(), Some((&secret(SECRET, None), "next"))).await.unwrap();
    peer.say(&Frame::Hello(mine.clone())).await;
    let (_, Frame::Hello(theirs)) = hear(&mut peer).await else { panic!("no Hello") };
    assert_eq!(node.connected("next").await, mine);
    let version = mine.greet(&theirs).unwrap();
    (peer, version)
}

fn more_beat() -> Frame {
    let Frame::Beat(plain) = beat(7) else { unreachable!() };
    Frame::Beat(Beat { more: vec![(60_000, b"new".to_vec())], ..plain })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_and_a_peer_of_the_next_version_work_together() {
    let mut node = Plan::new("a").start();
    let (mut peer, version) = join(&mut node).await;
    assert_eq!(version, VERSION);

    assert!(node.mesh.send("next", &beat(1)));
    assert_eq!(hear(&mut peer).await, (version, beat(1)));

    peer.say_bytes(&UNKNOWN).await;
    let mut alone = peer.connection.open_uni().await.unwrap();
    alone.write_all(&UNKNOWN).await.unwrap();
    alone.finish().unwrap();
    peer.say_bytes(&more_beat().encode(version).unwrap()).await;
    match node.event().await {
        Event::Frame { frame, .. } => assert_eq!(frame, more_beat(), "what is unknown is passed over"),
        other => panic!("{other:?}"),
    }
    assert!(node.mesh.send("next", &beat(2)));
    assert_eq!(hear(&mut peer).await, (version, beat(2)));
    assert_eq!(node.mesh.figures().misbehaved, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_was_not_agreed_closes_the_connection() {
    let mut node = Plan::new("a").start();
    let (mut peer, _) = join(&mut node).await;
    let mut bytes = beat(1).encode(1).unwrap();
    bytes[0] = NEXT.newest;
    peer.say_bytes(&bytes).await;
    expect_close(&peer, Close::Malformed).await;
    assert_eq!(node.misbehaved("version"), 1);
}
