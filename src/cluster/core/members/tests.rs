#![allow(clippy::unwrap_used)]

use super::*;

fn hello(node_id: &str, incarnation: u64) -> Hello {
    Hello {
        cluster_id: "c".into(),
        node_id: node_id.into(),
        region: "fra".into(),
        incarnation,
        address: format!("10.0.0.1:{}", 8000 + node_id.len() as u64 + incarnation),
        version: "0.1.0".into(),
        oldest: 1,
        newest: 1,
        store: "embedded".into(),
        more: Vec::new(),
    }
}

fn members() -> Members {
    Members::new(&hello("me", 1), Vector::default())
}

fn hint(node_id: &str, incarnation: u64) -> Heard {
    let Hello { node_id, address, region, incarnation, version, .. } = hello(node_id, incarnation);
    Heard::Hint { node_id, address, region, incarnation, version }
}

fn beat(sequence: u64) -> Beat {
    let (revision, time_ms) = (Vector::default().revision(), 5);
    let digest = Vector::default().digest();
    Beat { sequence, revision, digest, time_ms, echo_ms: 0, echo_age_ms: 0, draining: false, more: Vec::new() }
}

fn hear_beat(members: &mut Members, node_id: &str, sequence: u64, now_ms: u64) {
    members.on(Heard::Beat { node_id: node_id.into(), beat: beat(sequence) }, now_ms);
}

fn state(members: &Members, node_id: &str, now_ms: u64) -> Option<(State, u64)> {
    let view = members.view(now_ms);
    view.nodes.iter().find(|node| node.node_id == node_id).map(|node| (node.state, node.incarnation))
}

#[test]
fn silence_makes_suspect_then_dead_then_forgotten() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 7)), 0);
    hear_beat(&mut members, "a", 1, 1_000);
    for (now_ms, expected) in
        [(4_000, State::Alive), (4_001, State::Suspect), (9_000, State::Suspect), (9_001, State::Dead)]
    {
        assert_eq!(state(&members, "a", now_ms), Some((expected, 7)), "{now_ms}");
    }
    members.on(Heard::Disconnected { node_id: "a".into() }, 9_001);
    assert!(!members.due_to_dial(3_600_000).is_empty());
    members.due_to_dial(3_700_000);
    assert_eq!(members.len(), 0);
    members.on(hint("a", 7), 3_700_001);
    assert_eq!(members.len(), 0, "hearsay does not bring the forgotten back");
    members.on(hint("a", 8), 3_700_002);
    assert_eq!(state(&members, "a", 3_700_002), Some((State::Suspect, 8)));
}

#[test]
fn an_older_incarnation_never_replaces_a_newer() {
    let mut members = members();
    members.on(hint("a", 9), 0);
    members.on(Heard::Connected(hello("a", 8)), 10);
    hear_beat(&mut members, "a", 1, 10);
    assert_eq!(state(&members, "a", 20), Some((State::Suspect, 9)), "beats of the old process say nothing");
    members.on(Heard::Connected(hello("a", 9)), 30);
    assert_eq!(state(&members, "a", 30), Some((State::Alive, 9)));
    members.on(hint("a", 8), 40);
    assert_eq!(state(&members, "a", 40), Some((State::Alive, 9)));
}

#[test]
fn who_left_stays_left_until_it_starts_again() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 1)), 0);
    members.on(Heard::Left { node_id: "a".into() }, 10);
    hear_beat(&mut members, "a", 1, 20);
    members.on(Heard::Disconnected { node_id: "a".into() }, 20);
    assert_eq!(state(&members, "a", 20), Some((State::Left, 1)));
    assert_eq!(members.due_to_dial(10_000), Vec::<String>::new());
    members.on(Heard::Connected(hello("a", 2)), 30);
    assert_eq!(state(&members, "a", 30), Some((State::Alive, 2)));
}

#[test]
fn a_hundred_restarts_leave_one_member() {
    let mut members = members();
    for incarnation in 1..=100 {
        members.on(Heard::Connected(hello("a", incarnation)), incarnation);
        members.on(Heard::Disconnected { node_id: "a".into() }, incarnation);
        members.on(hint("a", incarnation / 2), incarnation);
    }
    assert_eq!((members.len(), state(&members, "a", 100)), (1, Some((State::Alive, 100))));
}

#[test]
fn a_flood_of_hints_is_bounded_and_takes_the_place_of_nobody_alive() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 1)), 0);
    for number in 0..3_000 {
        members.on(hint(&format!("flood-{number}"), 1), number * 10);
        hear_beat(&mut members, "a", number + 1, number * 10);
    }
    assert!(members.len() <= MEMBERS_MAX, "{}", members.len());
    assert_eq!(state(&members, "a", 30_000), Some((State::Alive, 1)));
}

#[test]
fn dials_repeat_with_pauses_and_spare_addresses_that_are_taken() {
    let mut members = members();
    members.on(hint("a", 1), 0);
    let mut dials = Vec::new();
    for now_ms in 0..2_000 {
        dials.extend(members.due_to_dial(now_ms).iter().map(|_| now_ms));
    }
    assert_eq!(dials[0], 0);
    let pauses: Vec<u64> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() >= 3 && pauses.iter().all(|pause| (300..=500).contains(pause)), "{pauses:?}");
    let mut taken = hello("b", 1);
    taken.address = hello("a", 1).address;
    members.on(Heard::Connected(taken), 2_000);
    assert_eq!(members.due_to_dial(3_000), Vec::<String>::new());
}

#[test]
fn beats_come_each_second_and_at_once_with_news() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 1)), 0);
    let mut at = Vec::new();
    for now_ms in 0..3_000 {
        if now_ms == 1_500 {
            let vector = Vector::of_database(tidegate_proto::Revision::new(1, 1));
            members.on(Heard::Mine { vector, draining: false }, now_ms);
        }
        at.extend(members.beats(now_ms, 1_000_000 + now_ms).iter().map(|(_, beat)| (now_ms, beat.revision.number)));
    }
    assert_eq!(at, [(0, 0), (1_000, 0), (1_500, 1), (2_500, 1)]);
}

#[test]
fn round_trips_are_measured_across_a_step_of_the_clock() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 1)), 0);
    members.beats(100, 777_000);
    let echo = Beat { echo_ms: 777_000, echo_age_ms: 30, ..beat(1) };
    members.on(Heard::Beat { node_id: "a".into(), beat: echo }, 250);
    assert_eq!(members.view(250).nodes[1].rtt_ms, Some(120.0));
}

#[test]
fn the_two_nearest_are_asked_to_pass_on() {
    let mut members = members();
    for (node_id, rtt_ms) in [("a", 80.0), ("b", 10.0), ("c", 40.0)] {
        members.on(Heard::Connected(hello(node_id, 1)), 0);
        members.on(Heard::Rtt { node_id: node_id.into(), rtt_ms }, 0);
    }
    let asked = members.beats(0, 1);
    let asked = asked.iter().filter(|(_, beat)| tidegate_proto::frame::member(&beat.more, NEIGHBOUR).is_some());
    assert_eq!(asked.map(|(peer, _)| peer.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn converged_is_when_all_alive_nodes_are_equal() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 1)), 0);
    hear_beat(&mut members, "a", 1, 0);
    assert!(members.view(0).converged);
    let vector = Vector { epoch: 0, counts: [("me".to_owned(), 1)].into() };
    members.on(Heard::Mine { vector, draining: false }, 10);
    assert!(!members.view(10).converged);
    assert!(members.view(5_000).converged, "who is suspect is not waited for");
}

#[test]
fn a_beat_shows_how_far_its_senders_clock_is_ahead() {
    let mut members = members();
    members.on(Heard::Connected(hello("a", 1)), 100);
    members.beats(100, 777_000);
    // Their clock is 5 s ahead; 40 ms there, 30 ms until they answer, 40 ms back.
    let echo = Beat { echo_ms: 777_000, echo_age_ms: 30, time_ms: 782_070, ..beat(1) };
    let sample = |members: &Members, beat: &Beat| members.clock_sample("a", beat, 210, 777_110);
    assert_eq!(sample(&members, &echo), Some(ClockSample { offset_ms: 5_000, rtt_ms: 80 }));
    assert_eq!(sample(&members, &Beat { time_ms: u64::MAX, ..echo.clone() }), None);
    assert_eq!(sample(&members, &beat(1)), None, "it echoes nothing");
    members.on(Heard::Beat { node_id: "a".into(), beat: echo.clone() }, 210);
    assert_eq!(sample(&members, &echo), None, "it was heard already");
    assert_eq!(members.clock_sample("b", &echo, 210, 777_110), None);
}
