//! What reading costs: a small multiple of a frame's length, whatever its bytes claim.
//!
//! Alone in its program, since every allocation of the process is counted.

#![allow(clippy::unwrap_used)]

use std::alloc::System;

use proptest::prelude::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidegate_proto::Vector;
use tidegate_proto::frame::{
    Changed, Counts, Frame, Group, Kind, Pull, Records, Slot, Span, Spans, VERSION, WholeRecord,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes asked for in all per byte of the frame, and the bytes that any frame may cost.
const FACTOR: usize = 20;
const FLOOR: usize = 4 << 10;

/// Names as short as they can be while they differ.
fn names() -> impl Iterator<Item = String> {
    let letters = || (b'a'..=b'z').chain(b'A'..=b'Z').chain(b'0'..=b'9').map(char::from);
    let two = letters().flat_map(move |first| letters().map(move |second| format!("{first}{second}")));
    letters().map(String::from).chain(two)
}

fn dense_spans(spans: usize, changes: usize) -> Vec<u8> {
    let changed = Changed { kind: "k".to_owned(), id: [0; 16], time: 0, text: None };
    let span = Span { epoch: 0, origin: String::new(), after: 0, upto: 1, changes: vec![changed; changes] };
    let spans = Spans { spans: vec![span; spans], vector: Vector::default(), more: vec![] };
    Frame::Spans(spans).encode(1).unwrap()
}

/// Frames with as many elements to the byte as can be.
fn dense() -> Vec<Vec<u8>> {
    let counts = names().map(|name| (name, 1)).collect();
    let pull = Frame::Pull(Pull { vector: Vector { epoch: 0, counts }, more: vec![] });
    vec![
        dense_spans(1_000, 0),
        dense_spans(1, 2_000),
        dense_spans(300, 17),
        pull.encode(1).unwrap(),
        dense_counts(1, 5_000),
        dense_counts(4_000, 1),
    ]
}

/// Every group repeats the longest name at the cost of a bit.
fn dense_counts(groups: usize, slots: usize) -> Vec<u8> {
    let slot = Slot { key: 0, count: 0, demand: 0, stopped: false };
    let source = Some(("n".repeat(64), 1));
    let group = Group { source, period: 0, window: 0, room: 0, slots: vec![slot; slots] };
    Frame::Counts(Counts { time_ms: 0, complete: 0, groups: vec![group; groups] }).encode(VERSION).unwrap()
}

fn dense_records() -> Vec<u8> {
    let record = |number: u16| {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        WholeRecord { kind: "k".to_owned(), id, time: 0, origin: String::new(), text: None }
    };
    Records { records: (0..5_000).map(record).collect() }.encode().unwrap()
}

/// Every integer of the frame in turn says that a great many elements follow.
fn forged() -> impl Iterator<Item = Vec<u8>> {
    let honest = dense_spans(2, 2);
    let claim = [252, 0, 0, 255, 0];
    let spans = (3..honest.len()).map(move |at| [&honest[..at], &claim, &honest[at + 1..]].concat());
    let bare = Kind::all().map(move |kind| [&[VERSION, kind.number() as u8, 0], &claim[..]].concat());
    let counts = dense_counts(3, 3);
    let packed = (3..counts.len()).map(move |at| [&counts[..at], &[0xff, 0x80, 2], &counts[at + 1..]].concat());
    spans.chain(bare).chain(packed)
}

/// Reads, and says how many bytes of memory were asked for meanwhile.
fn cost<T>(read: impl FnOnce() -> T) -> usize {
    let region = Region::new(ALLOCATOR);
    let outcome = read();
    let asked = region.change().bytes_allocated;
    drop(outcome);
    asked
}

#[test]
fn memory_is_bounded_by_the_length_of_the_frame() {
    let check = |what: &str, len: usize, asked: usize| {
        assert!(asked <= FACTOR * len + FLOOR, "{what}: {asked} bytes of memory for a frame of {len}");
    };
    for bytes in dense() {
        check("dense", bytes.len(), cost(|| Frame::decode(&bytes).unwrap()));
    }
    for bytes in forged() {
        check("forged", bytes.len(), cost(|| Frame::decode(&bytes)));
    }
    let records = dense_records();
    check("records", records.len(), cost(|| Records::decode(&records).unwrap()));

    let frames = dense();
    let mutation = (0..frames.len(), any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 1..10));
    let mut runner = proptest::test_runner::TestRunner::default();
    let outcome = runner.run(&mutation, |(which, at, new)| {
        let mut bytes = frames[which].clone();
        let at = at.index(bytes.len() - new.len());
        bytes[at..at + new.len()].copy_from_slice(&new);
        let asked = cost(|| Frame::decode(&bytes));
        prop_assert!(asked <= FACTOR * bytes.len() + FLOOR, "{} bytes for {}", asked, bytes.len());
        Ok(())
    });
    outcome.unwrap();
}
