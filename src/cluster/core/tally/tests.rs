//! Nodes in a row, frames passed by hand.

use std::sync::Arc;

use tidegate_proto::frame::{Frame, Group};
use uuid::Uuid;

use super::*;
use crate::counter::{Limit, Options as CounterOptions, Period};

const NOW_MS: u64 = 1_764_000_000_000;

/// Two nodes, and the way between them.
struct Pair {
    nodes: Vec<(Tally, Arc<Counters>)>,
    way: Vec<(u64, usize, Input)>,
    now_ms: u64,
}

impl Pair {
    fn new() -> Self {
        let node = |name: &str| {
            let counters = Arc::new(Counters::new(CounterOptions { capacity: 1_000, key: [7; 16] }));
            let me = Me { node_id: name.to_owned(), incarnation: 1 };
            let options = Options { budget_per_s: 1 << 20, partition: Partition::Share };
            (Tally::new(me, counters.clone(), options, NOW_MS), counters)
        };
        let mut pair = Self { nodes: vec![node("a"), node("b")], way: Vec::new(), now_ms: NOW_MS };
        for (at, peer) in [(0, "b"), (1, "a")] {
            let peer = peer.to_owned();
            pair.nodes[at].0.on(Input::Connected { peer: peer.clone(), incarnation: 1 }, NOW_MS);
            pair.nodes[at].0.on(Input::Rtt { peer, rtt_ms: 20 }, NOW_MS);
        }
        pair
    }

    fn run(&mut self, ms: u64, mut each: impl FnMut(&mut Self)) {
        for _ in 0..ms {
            self.now_ms += 1;
            each(self);
            let due: Vec<_> = self.way.extract_if(.., |(at_ms, ..)| *at_ms <= self.now_ms).collect();
            for (_, to, input) in due {
                self.nodes[to].0.on(input, self.now_ms);
            }
            for from in 0..2 {
                if self.now_ms < self.nodes[from].0.wake_ms() {
                    continue;
                }
                for Output::Send { frame, .. } in self.nodes[from].0.poll(self.now_ms) {
                    let peer = ["a", "b"][from].to_owned();
                    let input = match frame {
                        Frame::Counts(counts) => Input::Counts { peer, counts },
                        Frame::CountsPull(_) => Input::CountsPull { peer },
                        other => panic!("{other:?}"),
                    };
                    self.way.push((self.now_ms + 10, 1 - from, input));
                }
            }
        }
    }

    fn hit(&self, at: usize, period: Period, limit: f64) -> bool {
        self.nodes[at].1.hit(5, Reach::Cluster, &[Limit { period, limit }], self.now_ms).admitted
    }
}

#[test]
fn what_one_node_admitted_the_other_knows() {
    let mut pair = Pair::new();
    pair.run(1_500, |_| {});
    for _ in 0..7 {
        assert!(pair.hit(0, Period::Minute, 10.0));
    }
    pair.run(1_400, |_| {});
    let admitted = (0..20).filter(|_| pair.hit(1, Period::Minute, 10.0)).count();
    assert_eq!(admitted, 3);
}

#[test]
fn two_busy_nodes_share_a_limit_by_the_minute() {
    let mut pair = Pair::new();
    let mut admitted = 0;
    pair.run(100, |_| {});
    pair.run(50_000, |pair| {
        if pair.now_ms % 3 == 0 {
            admitted += u64::from(pair.hit((pair.now_ms / 3 % 2) as usize, Period::Minute, 600.0));
        }
    });
    assert!((597..=603).contains(&admitted), "{admitted}");
}

#[test]
fn nothing_is_said_when_nothing_is_counted() {
    let mut pair = Pair::new();
    pair.run(2_000, |_| {});
    let wakes: Vec<u64> = pair.nodes.iter().map(|(tally, _)| tally.wake_ms()).collect();
    assert_eq!(wakes, [u64::MAX; 2]);
}

#[test]
fn a_flood_is_told_whole_in_the_end() {
    const MANY: u64 = 150_000;
    let counters = Arc::new(Counters::new(CounterOptions { capacity: 200_000, key: [7; 16] }));
    let me = Me { node_id: "a".to_owned(), incarnation: 1 };
    let options = Options { budget_per_s: 1 << 20, partition: Partition::Share };
    let mut tally = Tally::new(me, counters.clone(), options, NOW_MS);
    tally.on(Input::Connected { peer: "b".to_owned(), incarnation: 1 }, NOW_MS);
    // Whoever connects is told everything at once: nothing, so far.
    tally.poll(NOW_MS);
    for who in 0..MANY {
        let subject = counters.subject(Uuid::nil(), Uuid::nil(), &who.to_le_bytes());
        counters.hit(subject, Reach::Cluster, &[Limit { period: Period::Minute, limit: 10.0 }], NOW_MS);
    }
    assert_eq!(counters.figures().lines, MANY);
    let (mut told, mut most) = (BTreeSet::new(), 0);
    for now_ms in (NOW_MS..NOW_MS + 40_000).step_by(20) {
        let mut slots = 0;
        for Output::Send { frame, .. } in tally.poll(now_ms) {
            let Frame::Counts(counts) = frame else { continue };
            for slot in counts.groups.iter().flat_map(|group| &group.slots) {
                slots += 1;
                told.insert(slot.key);
            }
        }
        most = most.max(slots);
    }
    assert_eq!(told.len() as u64, MANY);
    assert!(most <= (1 << 20) / 14, "more than a second's budget at once: {most}");
}

#[test]
fn a_peer_that_asks_again_and_again_is_answered_once_for_each_connection() {
    let mut pair = Pair::new();
    pair.run(1_500, |_| {});
    for _ in 0..7 {
        assert!(pair.hit(1, Period::Minute, 10.0));
    }
    pair.run(1_400, |_| {});
    let (tally, mut now_ms) = (&mut pair.nodes[0].0, pair.now_ms);
    // The process that counted is gone; the next one of that node asks.
    for incarnation in [2, 3] {
        let peer = || "b".to_owned();
        tally.on(Input::Disconnected { peer: peer() }, now_ms);
        tally.on(Input::Connected { peer: peer(), incarnation }, now_ms);
        let mut answers = 0;
        for _ in 0..20 {
            tally.on(Input::CountsPull { peer: peer() }, now_ms);
            now_ms += 50;
            for Output::Send { frame, .. } in tally.poll(now_ms) {
                let Frame::Counts(counts) = frame else { continue };
                let of_the_gone = |group: &Group| group.source == Some((peer(), 1)) && group.slots[0].count == 7;
                answers += usize::from(counts.groups.iter().any(of_the_gone));
            }
        }
        assert_eq!(answers, 1, "incarnation {incarnation}");
    }
}

#[test]
fn who_knows_nobody_looks_seldom_until_somebody_comes() {
    let counters = Arc::new(Counters::new(CounterOptions { capacity: 1_000, key: [7; 16] }));
    let me = Me { node_id: "a".to_owned(), incarnation: 1 };
    let options = Options { budget_per_s: 1 << 20, partition: Partition::Share };
    let mut tally = Tally::new(me, counters.clone(), options, NOW_MS);
    let limits = [Limit { period: Period::Minute, limit: 1_000.0 }];
    let subject = counters.subject(Uuid::nil(), Uuid::nil(), b"x");
    counters.hit(subject, Reach::Cluster, &limits, NOW_MS);
    assert_eq!(tally.wake_ms(), NOW_MS + SWEEP_MS);
    tally.poll(NOW_MS + SWEEP_MS);
    assert_eq!(tally.wake_ms(), NOW_MS + 2 * SWEEP_MS, "it was hit lately");
    tally.on(Input::Connected { peer: "b".to_owned(), incarnation: 1 }, NOW_MS + SWEEP_MS + 1);
    assert!(tally.wake_ms() <= NOW_MS + SWEEP_MS + URGENT_MS, "the peer is told at once");
}
