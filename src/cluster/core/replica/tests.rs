#![allow(clippy::unwrap_used)]

use tidegate_proto::frame::Changed;

use super::*;
use crate::cluster::core::replica::peer::PULLS_MAX;

fn vector(counts: &[(&str, u64)]) -> Vector {
    Vector { epoch: 1, counts: counts.iter().map(|(origin, count)| ((*origin).to_owned(), *count)).collect() }
}

fn span(origin: &str, after: u64, upto: u64) -> Span {
    let changes = (after..upto).map(|time| Changed { kind: "routes".into(), id: [1; 16], time, text: None });
    Span { epoch: 1, origin: origin.into(), after, upto, changes: changes.collect() }
}

fn beat(sequence: u64, vector: &Vector) -> Beat {
    let (revision, digest) = (vector.revision(), vector.digest());
    Beat { sequence, revision, digest, time_ms: 0, echo_ms: 0, echo_age_ms: 0, draining: false, more: More::new() }
}

/// A replica with peers, all of them at its own position.
fn replica(counts: &[(&str, u64)], peers: &[&str]) -> Replica {
    let mut replica = Replica::new(vector(counts), 0);
    for peer in peers {
        replica.on(Input::Connected { peer: (*peer).into() }, 0);
    }
    replica
}

fn hear(replica: &mut Replica, peer: &str, sequence: u64, at: &Vector, now_ms: u64) -> Vec<Output> {
    replica.on(Input::Beat { peer: peer.into(), beat: beat(sequence, at) }, now_ms)
}

fn push(replica: &mut Replica, peer: &str, spans: Vec<Span>, at: Vector, more: More, now_ms: u64) -> Vec<Output> {
    let spans = Spans { spans, vector: at, more };
    replica.on(Input::Spans { peer: peer.into(), spans }, now_ms)
}

fn pulled(outputs: &[Output]) -> Vec<&str> {
    let pull = |output| match output {
        Output::Send { peer, frame: Frame::Pull(_) } => Some(peer),
        _ => None,
    };
    outputs.iter().filter_map(|output| pull(output.clone()).map(|_| output)).filter_map(to).collect()
}

fn to(output: &Output) -> Option<&str> {
    match output {
        Output::Send { peer, .. } | Output::Fetch { peer } | Output::Expel { peer, .. } => Some(peer),
        Output::Take { .. } => None,
    }
}

fn answer(number: u64) -> More {
    vec![(ANSWER, number.to_le_bytes().to_vec())]
}

#[test]
fn a_write_goes_to_everybody_at_once() {
    let mut replica = replica(&[], &["a", "b"]);
    let out = replica.on(Input::Local { span: span("me", 0, 1) }, 0);
    assert_eq!(out.iter().filter_map(to).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(replica.vector(), &vector(&[("me", 1)]));
    assert_eq!(replica.on(Input::Local { span: span("me", 0, 1) }, 0), []);
}

#[test]
fn what_is_next_is_taken_known_is_passed_over_and_early_waits() {
    let mut replica = replica(&[("w", 1)], &["a"]);
    assert_eq!(push(&mut replica, "a", vec![span("w", 0, 1)], vector(&[("w", 1)]), More::new(), 0), []);
    assert_eq!(push(&mut replica, "a", vec![span("w", 2, 3)], vector(&[("w", 3)]), More::new(), 0), []);
    let out = push(&mut replica, "a", vec![span("w", 1, 2)], vector(&[("w", 3)]), More::new(), 1);
    assert_eq!(out, [Output::Take { spans: vec![span("w", 1, 2), span("w", 2, 3)] }]);
    assert_eq!(replica.vector(), &vector(&[("w", 1)]), "nothing is claimed before the keeper confirms");
    replica.on(Input::Taken { vector: vector(&[("w", 3)]) }, 2);
    assert_eq!(replica.vector(), &vector(&[("w", 3)]));
}

#[test]
fn a_gap_is_asked_for_after_a_moment_and_donors_rotate() {
    let (mut replica, ahead) = (replica(&[("w", 1)], &["a", "b"]), vector(&[("w", 3)]));
    assert_eq!(hear(&mut replica, "a", 1, &ahead, 100), []);
    assert_eq!(hear(&mut replica, "b", 1, &ahead, 101), []);
    assert_eq!(replica.wake_ms(), 100 + GRACE_MS);
    let first = replica.on(Input::Tick, 125);
    assert_eq!(pulled(&first), ["a"]);
    let second = replica.on(Input::Tick, replica.wake_ms());
    assert_eq!(pulled(&second), ["b"]);
    let got = push(&mut replica, "b", vec![span("w", 1, 3)], ahead, answer(2), 3_000);
    assert_eq!(got, [Output::Take { spans: vec![span("w", 1, 3)] }]);
}

#[test]
fn a_push_in_time_spares_the_pull() {
    let (mut replica, ahead) = (replica(&[("w", 1)], &["a"]), vector(&[("w", 2)]));
    hear(&mut replica, "a", 1, &ahead, 100);
    push(&mut replica, "a", vec![span("w", 1, 2)], ahead, More::new(), 110);
    assert_eq!(replica.on(Input::Tick, 200), []);
}

#[test]
fn a_range_is_served_from_the_ring_and_the_whole_where_it_is_gone() {
    let mut replica = replica(&[("me", 5)], &["a"]);
    replica.on(Input::Local { span: span("me", 5, 6) }, 0);
    replica.on(Input::Local { span: span("me", 6, 8) }, 0);
    let pull = |replica: &mut Replica, at| {
        let pull = Pull { vector: at, more: answer(7) };
        replica.on(Input::Pull { peer: "a".into(), pull }, 0).remove(0)
    };
    let spans = Spans { spans: vec![span("me", 6, 8)], vector: vector(&[("me", 8)]), more: answer(7) };
    assert_eq!(pull(&mut replica, vector(&[("me", 6)])), Output::Send { peer: "a".into(), frame: Frame::Spans(spans) });
    let whole =
        Output::Send { peer: "a".into(), frame: Frame::Whole(Whole { vector: vector(&[("me", 8)]), more: answer(7) }) };
    assert_eq!(pull(&mut replica, vector(&[("me", 4)])), whole);
    assert_eq!(pull(&mut replica, Vector::default()), whole, "an older epoch takes the whole");
}

#[test]
fn a_greater_epoch_is_fetched_whole() {
    let mut replica = replica(&[("", 9)], &["a"]);
    let restored = Vector { epoch: 2, counts: [(String::new(), 4)].into() };
    hear(&mut replica, "a", 1, &restored, 0);
    assert_eq!(pulled(&replica.on(Input::Tick, GRACE_MS)), ["a"]);
    let whole = Whole { vector: restored.clone(), more: answer(1) };
    let out = replica.on(Input::Whole { peer: "a".into(), whole }, 50);
    assert_eq!(out, [Output::Fetch { peer: "a".into() }]);
    assert_eq!(replica.on(Input::Taken { vector: restored.clone() }, 60), []);
    assert_eq!((replica.vector(), replica.wake_ms()), (&restored, u64::MAX));
}

#[test]
fn liars_are_expelled() {
    let expelled = |out: &[Output]| out.iter().any(|output| matches!(output, Output::Expel { .. }));
    let mut replica = replica(&[("w", 5)], &["a", "b", "c"]);
    assert!(expelled(&push(&mut replica, "a", vec![span("w", 5, 9)], vector(&[("w", 8)]), More::new(), 0)));
    hear(&mut replica, "b", 1, &vector(&[("w", 5)]), 0);
    assert!(expelled(&hear(&mut replica, "b", 2, &vector(&[("w", 4)]), 0)));

    hear(&mut replica, "c", 1, &vector(&[("w", 99)]), 0);
    let mut answers = 0;
    for now_ms in 0..10_000 {
        if pulled(&replica.on(Input::Tick, now_ms)).is_empty() {
            continue;
        }
        answers += 1;
        if expelled(&push(&mut replica, "c", vec![span("w", 1, 2)], vector(&[("w", 5)]), answer(answers), now_ms)) {
            break;
        }
    }
    assert_eq!(answers, u64::from(STRIKES_MAX), "old data again and again");
}

#[test]
fn news_is_passed_on_to_who_asked_for_it_once_the_keeper_has_it() {
    let mut replica = replica(&[], &["a", "b", "w"]);
    let asking =
        Beat { more: vec![(crate::cluster::core::members::NEIGHBOUR, Vec::new())], ..beat(1, &Vector::default()) };
    replica.on(Input::Beat { peer: "b".into(), beat: asking }, 0);
    push(&mut replica, "w", vec![span("w", 0, 1)], vector(&[("w", 1)]), More::new(), 1);
    let out = replica.on(Input::Taken { vector: vector(&[("w", 1)]) }, 2);
    assert_eq!(out.iter().filter_map(to).collect::<Vec<_>>(), ["b"]);
    assert_eq!(replica.on(Input::Taken { vector: vector(&[("w", 1)]) }, 3), []);
}

#[test]
fn a_keeper_that_fails_is_asked_again() {
    let mut replica = replica(&[], &["w"]);
    push(&mut replica, "w", vec![span("w", 0, 1)], vector(&[("w", 1)]), More::new(), 0);
    replica.on(Input::Taken { vector: vector(&[]) }, 5);
    let mut asked = Vec::new();
    for now_ms in 0..6_000 {
        asked.extend(pulled(&replica.on(Input::Tick, now_ms)).iter().map(|_| now_ms));
    }
    assert_eq!(asked.len(), 1, "{asked:?}");
}

#[test]
fn pulling_without_pause_is_answered_with_busy() {
    let mut replica = replica(&[], &["a"]);
    let busy = |output: &Output| matches!(output, Output::Send { frame: Frame::Busy(_), .. });
    let pull = Pull { vector: Vector::default(), more: More::new() };
    let mut refused = 0;
    for _ in 0..PULLS_MAX + 5 {
        let out = replica.on(Input::Pull { peer: "a".into(), pull: pull.clone() }, 10);
        refused += out.iter().filter(|output| busy(output)).count();
    }
    assert_eq!(refused, 5);
}

#[test]
fn spans_that_never_fit_cost_bounded_memory() {
    let mut replica = replica(&[], &["a"]);
    for number in 0..5_000 {
        let after = 10 + 2 * number;
        push(&mut replica, "a", vec![span("w", after, after + 1)], vector(&[("w", 100_000)]), More::new(), 0);
    }
    assert!(replica.early.len() <= 1_000);
    replica.on(Input::Tick, 20_000);
    assert_eq!(replica.early.len(), 0);
}
