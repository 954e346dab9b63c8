//! Frames for the tests: one of each kind that has every member, and arbitrary ones.

#![allow(clippy::unwrap_used)]

mod counts;
mod golden;
mod hostile;
mod versions;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::Revision;
use crate::Vector;
use crate::codec::Decoded;
use crate::frame::*;

fn more() -> More {
    vec![(7, b"new".to_vec())]
}

fn vector() -> Vector {
    Vector { epoch: 2, counts: [("a".to_owned(), 300), ("b".to_owned(), 1)].into() }
}

fn hello() -> Hello {
    Hello {
        cluster_id: "c1".to_owned(),
        node_id: "n1".to_owned(),
        region: "fra".to_owned(),
        incarnation: 1_764_000_000_000,
        address: "[::1]:8005".to_owned(),
        version: "0.1.0".to_owned(),
        oldest: 1,
        newest: 1,
        store: "embedded".to_owned(),
        more: more(),
    }
}

fn span() -> Span {
    let put = Changed { kind: "routes".to_owned(), id: [1; 16], time: 70_000, text: Some("{}".to_owned()) };
    let gone = Changed { kind: "services".to_owned(), id: [2; 16], time: 70_001, text: None };
    Span { epoch: 2, origin: "a".to_owned(), after: 299, upto: 300, changes: vec![put, gone] }
}

fn records() -> Records {
    let record = WholeRecord {
        kind: "routes".to_owned(),
        id: [1; 16],
        time: 70_000,
        origin: "a".to_owned(),
        text: Some("{}".to_owned()),
    };
    let gone = WholeRecord { id: [2; 16], text: None, ..record.clone() };
    Records { records: vec![record, gone] }
}

fn slot(key: u64, count: u64) -> Slot {
    Slot { key, count, demand: 0, stopped: false }
}

/// Own slots of two windows, and those of another node that the sender passes on.
fn counts() -> Counts {
    let other = Some(("n2".to_owned(), 1_764_000_000_001));
    let own = Group {
        source: None,
        period: 1,
        window: 29_400_008,
        room: 600,
        slots: vec![
            Slot { demand: 39_382, stopped: true, ..slot(0x0123_4567_89ab_cdef, 300) },
            slot(1, 0),
            slot(2, COUNT_MAX),
        ],
    };
    let passed_on = Group { source: other, period: 0, window: 1_764_000_500, room: 10, slots: vec![slot(3, 64)] };
    let same = Group { room: 0, window: 1_764_000_501, slots: vec![slot(3, 1)], ..passed_on.clone() };
    Counts { time_ms: 1_764_000_000_500, complete: 0b10_0011, groups: vec![own, passed_on, same] }
}

/// One frame of each kind.
fn samples() -> Vec<Frame> {
    let beat = Beat {
        sequence: 9,
        revision: Revision::new(2, 301),
        digest: vector().digest(),
        time_ms: 1_764_000_000_500,
        echo_ms: 0,
        echo_age_ms: 251,
        draining: true,
        more: more(),
    };
    let chunk = Chunk { vector: vector(), records: vec![0xca, 0xfe], len: 1 << 20, last: true, more: more() };
    vec![
        Frame::Hello(hello()),
        Frame::Beat(beat),
        Frame::Spans(Spans { spans: vec![span()], vector: vector(), more: more() }),
        Frame::Pull(Pull { vector: vector(), more: more() }),
        Frame::Whole(Whole { vector: Vector::of_database(Revision::new(1, 65_536)), more: vec![] }),
        Frame::Fetch(Fetch { after: Some(("routes".to_owned(), [3; 16])), more: more() }),
        Frame::Chunk(chunk),
        Frame::Gossip(Gossip { envelope: vec![1, 2, 3], more: more() }),
        Frame::Leave(Leave { more: more() }),
        Frame::Busy(Busy { retry_after_ms: 250, more: more() }),
        Frame::Counts(counts()),
        Frame::CountsPull(CountsPull { more: more() }),
        Frame::Ask(Ask {
            key: 0x0123_4567_89ab_cdef,
            period: 1,
            window: 29_400_008,
            room: 600,
            wish: 20,
            incarnation: 1_764_000_000_000,
            donor_incarnation: 1_764_000_000_001,
            more: more(),
        }),
        Frame::Grant(Grant {
            key: 0x0123_4567_89ab_cdef,
            period: 1,
            window: 29_400_008,
            total: 45,
            incarnation: 1_764_000_000_000,
            donor_incarnation: 1_764_000_000_001,
            spare: 15,
            more: more(),
        }),
    ]
}

/// The frames that a node of version 1 knows.
fn samples_of_version_1() -> Vec<Frame> {
    samples().into_iter().filter(|frame| frame.kind().since() == 1).collect()
}

fn decoded(bytes: &[u8]) -> Frame {
    match Frame::decode(bytes).unwrap() {
        Decoded::Frame(frame) => frame,
        Decoded::Unknown(kind) => panic!("kind {kind} is unknown"),
    }
}

fn any_name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,64}"
}

fn any_more() -> impl Strategy<Value = More> {
    btree_map(any::<u16>(), vec(any::<u8>(), 0..40), 0..4).prop_map(|members| members.into_iter().collect())
}

fn any_vector() -> impl Strategy<Value = Vector> {
    (any::<u64>(), btree_map("[a-z0-9]{0,12}", any::<u64>(), 0..6)).prop_map(|(epoch, counts)| Vector { epoch, counts })
}

fn any_span() -> impl Strategy<Value = Span> {
    let changed = (any_name(), any::<[u8; 16]>(), any::<u64>(), option::of(".*"))
        .prop_map(|(kind, id, time, text)| Changed { kind, id, time, text });
    (any::<u64>(), "[a-z0-9]{0,12}", 0..u64::MAX, 1..9u64, vec(changed, 0..5)).prop_map(
        |(epoch, origin, after, count, changes)| {
            let upto = after.saturating_add(count);
            Span { epoch, origin, after, upto, changes }
        },
    )
}

fn any_records() -> impl Strategy<Value = Records> {
    let rest = (any::<u64>(), "[a-z0-9]{0,12}", option::of(".*"));
    btree_map((any_name(), any::<[u8; 16]>()), rest, 0..6).prop_map(|records| {
        let record = |((kind, id), (time, origin, text))| WholeRecord { kind, id, time, origin, text };
        Records { records: records.into_iter().map(record).collect() }
    })
}

fn any_hello() -> impl Strategy<Value = Frame> {
    let address = any::<std::net::SocketAddr>().prop_map(|address| address.to_string());
    let texts = ("[!-~]{1,128}", any_name(), "[a-zé]{1,64}", "[!-~]{1,128}", any_name());
    (texts, any::<u64>(), address, 1..=9u8, 9..=255u8, any_more()).prop_map(
        |((cluster_id, node_id, region, version, store), incarnation, address, oldest, newest, more)| {
            Frame::Hello(Hello {
                cluster_id,
                node_id,
                region,
                incarnation,
                address,
                version,
                oldest,
                newest,
                store,
                more,
            })
        },
    )
}

fn any_beat() -> impl Strategy<Value = Frame> {
    (any::<[u64; 6]>(), any::<u32>(), any::<bool>(), any_more()).prop_map(|(numbers, echo_age_ms, draining, more)| {
        let [sequence, epoch, number, digest, time_ms, echo_ms] = numbers;
        let revision = Revision::new(epoch, number);
        Frame::Beat(Beat { sequence, revision, digest, time_ms, echo_ms, echo_age_ms, draining, more })
    })
}

fn any_chunk() -> impl Strategy<Value = Frame> {
    (any_vector(), vec(any::<u8>(), 0..300), 0..=RECORDS_LEN_MAX as u32, any::<bool>(), any_more())
        .prop_map(|(vector, records, len, last, more)| Frame::Chunk(Chunk { vector, records, len, last, more }))
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let count = prop_oneof![0..300u64, 0..=COUNT_MAX];
    (any::<u64>(), count, any::<u16>(), any::<bool>()).prop_map(|(key, count, demand, stopped)| Slot {
        key,
        count,
        demand,
        stopped,
    })
}

fn any_counts() -> impl Strategy<Value = Counts> {
    // Few names, so that neighbours often have the same source.
    let source = option::of(("[ab]{1,2}", prop_oneof![Just(7), any::<u64>()]));
    let room = prop_oneof![0..2_000u64, any::<u64>()];
    let group = (source, 0..PERIODS, any::<u32>(), room, vec(any_slot(), 1..40))
        .prop_map(|(source, period, window, room, slots)| Group { source, period, window, room, slots });
    (any::<u64>(), 0..1u8 << PERIODS, vec(group, 0..6)).prop_map(|(time_ms, complete, groups)| Counts {
        time_ms,
        complete,
        groups,
    })
}

fn any_ask() -> impl Strategy<Value = Frame> {
    (any::<[u64; 5]>(), 0..PERIODS, any::<u32>(), any_more()).prop_map(|(numbers, period, window, more)| {
        let [key, room, wish, incarnation, donor_incarnation] = numbers;
        Frame::Ask(Ask { key, period, window, room, wish, incarnation, donor_incarnation, more })
    })
}

fn any_grant() -> impl Strategy<Value = Frame> {
    (any::<[u64; 5]>(), 0..PERIODS, any::<u32>(), any_more()).prop_map(|(numbers, period, window, more)| {
        let [key, total, spare, incarnation, donor_incarnation] = numbers;
        Frame::Grant(Grant { key, period, window, total, incarnation, donor_incarnation, spare, more })
    })
}

fn any_frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        any_hello(),
        any_counts().prop_map(Frame::Counts),
        any_more().prop_map(|more| Frame::CountsPull(CountsPull { more })),
        any_ask(),
        any_grant(),
        any_beat(),
        any_chunk(),
        (vec(any_span(), 0..5), any_vector(), any_more()).prop_map(|(spans, vector, more)| Frame::Spans(Spans {
            spans,
            vector,
            more
        })),
        (any_vector(), any_more()).prop_map(|(vector, more)| Frame::Pull(Pull { vector, more })),
        (any_vector(), any_more()).prop_map(|(vector, more)| Frame::Whole(Whole { vector, more })),
        (option::of((any_name(), any::<[u8; 16]>())), any_more())
            .prop_map(|(after, more)| Frame::Fetch(Fetch { after, more })),
        (vec(any::<u8>(), 0..300), any_more()).prop_map(|(envelope, more)| Frame::Gossip(Gossip { envelope, more })),
        any_more().prop_map(|more| Frame::Leave(Leave { more })),
        (any::<u32>(), any_more()).prop_map(|(retry_after_ms, more)| Frame::Busy(Busy { retry_after_ms, more })),
    ]
}
