use std::collections::BTreeMap;

use super::*;
use crate::counter::{Limit, Options, Period, Reach};
use crate::entity::strict_weights::StrictWeights;
use tidegate_proto::frame::{Ask, Frame, Grant};

const BEGIN_MS: u64 = 1_795_519_380_000;

struct Node {
    rights: Rights,
    disk: Option<String>,
    counters: Arc<Counters>,
    promise: Option<Promise>,
}

fn at(ms: u64) -> Now {
    Now { mono_ms: ms, cluster_ms: BEGIN_MS + ms }
}

fn node(name: &str, incarnation: u64, disk: Option<&str>, ms: u64, alone: bool) -> Node {
    let counters = Arc::new(Counters::new(Options { capacity: 4_096, key: [7; 16] }));
    let me = Me { node_id: name.to_owned(), incarnation, alone };
    let mut rights = Rights::new(me, counters.clone(), disk.and_then(Kept::from_text), at(ms));
    rights.on(Input::InUse(true), at(ms));
    rights.on(Input::Registry(None), at(ms));
    let mut node = Node { rights, disk: disk.map(str::to_owned), counters, promise: None };
    node.poll(ms);
    node
}

impl Node {
    /// Writes what is to be written, and answers with the frames that are to be sent.
    fn poll(&mut self, ms: u64) -> Vec<(String, Frame)> {
        let mut frames = Vec::new();
        for _ in 0..4 {
            for output in self.rights.poll(at(ms)) {
                match output {
                    Output::Send { peer, frame } => frames.push((peer, frame)),
                    Output::Keep(kept) => {
                        self.disk = Some(kept.to_text());
                        self.rights.on(Input::Kept, at(ms));
                    }
                    Output::Promise(promise) => self.promise = Some(promise),
                    Output::Standing(_) => {}
                }
            }
        }
        frames
    }

    fn registry(&mut self, epoch: u64, weights: &[(&str, f64)], ms: u64) {
        let weights: BTreeMap<String, f64> =
            weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect();
        let registry = Registry::of(&StrictWeights { epoch, weights, gone: None });
        self.rights.on(Input::Registry(Some(registry)), at(ms));
        self.poll(ms);
    }

    fn hears(&mut self, peer: &str, other: &Node, ms: u64) {
        if let Some(promise) = other.promise {
            self.rights.on(Input::Promise { peer: peer.to_owned(), promise }, at(ms));
            self.poll(ms);
        }
    }

    fn admits(&self, room: u64, ms: u64, times: usize) -> usize {
        self.admits_per(Period::Second, room, ms, times)
    }

    fn admits_per(&self, period: Period, room: u64, ms: u64, times: usize) -> usize {
        let limits = [Limit { period, limit: room as f64 }];
        (0..times).filter(|_| self.counters.hit(5, Reach::Strict, &limits, BEGIN_MS + ms).admitted).count()
    }

    fn meets(&mut self, peer: &str, ms: u64) {
        self.rights.on(Input::Connected { peer: peer.to_owned(), incarnation: 1 }, at(ms));
    }
}

/// Two nodes with a half each, settled.
fn pair() -> (Node, Node) {
    let (mut a, mut b) = (node("a", 1, None, 0, false), node("b", 1, None, 0, false));
    a.poll(4_000);
    b.poll(4_000);
    for node in [&mut a, &mut b] {
        node.registry(1, &[("a", 0.5), ("b", 0.5)], 4_000);
    }
    a.hears("b", &b, 4_000);
    b.hears("a", &a, 4_000);
    a.poll(14_000);
    b.poll(14_000);
    (a, b)
}

#[test]
fn a_node_without_a_mesh_has_everything_from_the_next_window_on() {
    let alone = node("a", 1, None, 500, true);
    assert_eq!((alone.admits(10, 500, 20), alone.admits(10, 1_000, 20)), (0, 10));
    assert_eq!(alone.rights.standing(), Standing::Alone);
}

#[test]
fn a_node_with_a_mesh_has_nothing_until_weights_are_said_and_promised_by_all() {
    let (mut a, mut b) = (node("a", 1, None, 0, false), node("b", 1, None, 0, false));
    a.poll(4_000);
    assert_eq!((a.admits(10, 4_000, 20), a.rights.standing()), (0, Standing::Unsaid));
    a.registry(1, &[("a", 0.5), ("b", 0.5)], 4_000);
    assert_eq!(a.rights.standing(), Standing::Waits { epoch: 1, nodes: vec!["b".to_owned()] });
    a.poll(15_000);
    assert_eq!(a.admits(10, 15_000, 20), 0);
    b.poll(4_000);
    b.registry(1, &[("a", 0.5), ("b", 0.5)], 4_000);
    a.hears("b", &b, 15_000);
    assert_eq!(a.rights.standing(), Standing::Settled { epoch: 1 });
    // Not before the windows that were not opened when it was promised.
    assert_eq!(a.admits(10, 16_000, 20), 0);
    a.poll(26_000);
    a.poll(31_000);
    assert_eq!(a.admits(10, 31_000, 20), 5);
}

#[test]
fn less_is_held_at_once_and_more_only_when_all_have_promised() {
    let (mut a, mut b) = pair();
    let share = |node: &Node| node.rights.share_at(u64::MAX).of(1 << 20);
    assert_eq!((share(&a), share(&b)), (1 << 19, 1 << 19));
    a.registry(2, &[("a", 0.0), ("b", 1.0)], 20_000);
    assert_eq!((share(&a), share(&b)), (0, 1 << 19));
    b.registry(2, &[("a", 0.0), ("b", 1.0)], 20_000);
    assert_eq!(share(&b), 1 << 19);
    b.hears("a", &a, 20_000);
    assert_eq!((share(&a), share(&b)), (0, 1 << 20));
    // A smaller one comes too late.
    b.registry(1, &[("a", 0.5), ("b", 0.5)], 20_000);
    assert_eq!(share(&b), 1 << 20);
}

#[test]
fn weights_that_forget_a_node_are_not_followed() {
    let (mut a, _) = pair();
    a.registry(2, &[("a", 1.0)], 20_000);
    assert_eq!(a.rights.standing(), Standing::Forgets { epoch: 2, node: "b".to_owned() });
    a.registry(3, &[("a", 1.0), ("b", 0.0)], 20_000);
    assert_eq!(a.rights.standing(), Standing::Waits { epoch: 3, nodes: vec!["b".to_owned()] });
}

#[test]
fn a_restart_keeps_promise_and_share_and_opens_no_window_twice() {
    let (mut a, _) = pair();
    a.poll(24_000);
    assert_eq!(a.admits(10, 24_000, 20), 5);
    let mut next = node("a", 2, a.disk.as_deref(), 24_300, false);
    assert_eq!(next.rights.promise, a.promise);
    assert_eq!(next.admits(10, 24_300, 20), 0);
    next.poll(35_000);
    next.poll(45_000);
    assert_eq!(next.admits(10, 45_000, 20), 5);
}

#[test]
fn a_new_disk_follows_only_newer_weights_than_it_found() {
    let mut a = node("a", 1, None, 0, false);
    a.registry(7, &[("a", 1.0)], 1_000);
    assert_eq!(a.rights.standing(), Standing::NewDisk { epoch: 7 });
    assert_eq!(a.promise, None);
    a.registry(8, &[("a", 1.0)], 1_000);
    assert_eq!(a.rights.standing(), Standing::Settled { epoch: 8 });
}

#[test]
fn rights_move_once_however_often_it_is_said() {
    let (mut a, mut b) = pair();
    let ms = 24_000;
    a.poll(ms);
    b.poll(ms);
    a.rights.on(Input::Connected { peer: "b".to_owned(), incarnation: 1 }, at(ms));
    b.rights.on(Input::Connected { peer: "a".to_owned(), incarnation: 1 }, at(ms));
    assert_eq!(a.admits(100, ms, 60), 50);
    let asks: Vec<Ask> = a
        .poll(ms + 10)
        .into_iter()
        .filter_map(|(peer, frame)| if let (true, Frame::Ask(ask)) = (peer == "b", frame) { Some(ask) } else { None })
        .collect();
    let [ask] = &asks[..] else { panic!("{asks:?}") };
    let mut totals = Vec::new();
    for _ in 0..3 {
        for output in b.rights.on(Input::Ask { peer: "a".to_owned(), ask: ask.clone() }, at(ms)) {
            let Output::Send { frame: Frame::Grant(grant), .. } = output else { panic!() };
            totals.push(grant.total);
            for _ in 0..2 {
                a.rights.on(Input::Grant { peer: "b".to_owned(), grant: grant.clone() }, at(ms));
            }
            // To another process of the same node it is nothing.
            let foreign = Grant { incarnation: 9, total: 1_000, ..grant };
            a.rights.on(Input::Grant { peer: "b".to_owned(), grant: foreign }, at(ms));
        }
    }
    assert_eq!(totals, [ask.wish.min(50); 3]);
    let (here, there) = (a.admits(100, ms, 200), b.admits(100, ms, 200));
    assert_eq!((here as u64, here + there), (totals[0], 50));
    // Asks for another process, or for a window that is not now, are not answered.
    for wrong in [
        Ask { donor_incarnation: 2, ..ask.clone() },
        Ask { incarnation: 2, ..ask.clone() },
        Ask { window: ask.window + 5, ..ask.clone() },
        Ask { period: 6, ..ask.clone() },
        Ask { room: 0, ..ask.clone() },
        Ask { wish: u64::MAX, ..ask.clone() },
    ] {
        assert!(b.rights.on(Input::Ask { peer: "a".to_owned(), ask: wrong }, at(ms)).is_empty());
    }
}

/// Two nodes with a half each in the minute that began 2 s ago, connected.
fn in_a_minute() -> (Node, Node, u64) {
    let (mut a, mut b) = pair();
    for ms in [50_000, 56_000, 62_000] {
        a.poll(ms);
        b.poll(ms);
    }
    a.meets("b", 62_000);
    b.meets("a", 62_000);
    (a, b, 62_000)
}

fn grants(outputs: Vec<Output>) -> Vec<(String, Grant)> {
    let grant = |output| match output {
        Output::Send { peer, frame: Frame::Grant(grant) } => Some((peer, grant)),
        _ => None,
    };
    outputs.into_iter().filter_map(grant).collect()
}

#[test]
fn who_leaves_hands_over_what_it_holds_once() {
    let (mut a, mut b, ms) = in_a_minute();
    let minute = |node: &Node, times| node.admits_per(Period::Minute, 100, ms, times);
    assert_eq!((minute(&a, 10), a.admits(100, ms, 10)), (10, 10));
    let given = grants(a.rights.on(Input::Leaving, at(ms)));
    // A second is over before it is of use to anybody.
    let [(to, grant)] = &given[..] else { panic!("{given:?}") };
    assert_eq!((to.as_str(), grant.total, grant.spare, grant.period), ("b", 40, 0, 1));
    assert!(grants(a.rights.on(Input::Leaving, at(ms))).is_empty());
    assert_eq!(minute(&a, 10), 0);

    // For another process it is nothing, and what is said without a place for it neither.
    for wrong in [
        Grant { incarnation: 7, ..grant.clone() },
        Grant { window: grant.window + 9, ..grant.clone() },
        Grant { more: vec![(0, vec![0; 8])], ..grant.clone() },
        Grant { more: vec![(0, vec![1; 7])], ..grant.clone() },
        Grant { more: Vec::new(), ..grant.clone() },
    ] {
        b.rights.on(Input::Grant { peer: "a".to_owned(), grant: wrong }, at(ms));
        assert_eq!(b.rights.figures().taken, 0);
    }
    for _ in 0..3 {
        b.rights.on(Input::Grant { peer: "a".to_owned(), grant: grant.clone() }, at(ms));
    }
    assert_eq!(minute(&b, 200), 90);
}

#[test]
fn what_reaches_a_process_that_leaves_goes_on_to_another() {
    let (mut a, mut b, ms) = in_a_minute();
    a.admits_per(Period::Minute, 100, ms, 50);
    assert_eq!(grants(b.rights.on(Input::Leaving, at(ms))).len(), 0, "b knows of no counter");
    a.meets("c", ms);
    a.rights.on(Input::Rtt { peer: "c".to_owned(), rtt_ms: 900.0 }, at(ms));
    a.rights.on(Input::Rtt { peer: "b".to_owned(), rtt_ms: 1.0 }, at(ms));
    let frames = a.poll(ms + 10);
    let Some((_, Frame::Ask(ask))) = frames.iter().find(|(peer, _)| peer == "b") else { panic!("{frames:?}") };
    assert!(grants(a.rights.on(Input::Leaving, at(ms))).is_empty(), "all is spent");
    // As it admits nothing itself, it gives all that is wanted.
    let answered = grants(b.rights.on(Input::Ask { peer: "a".to_owned(), ask: ask.clone() }, at(ms)));
    let [(_, late)] = &answered[..] else { panic!("{answered:?}") };
    assert_eq!(late.total, ask.wish.min(50));
    let on = grants(a.rights.on(Input::Grant { peer: "b".to_owned(), grant: late.clone() }, at(ms)));
    let [(to, passed)] = &on[..] else { panic!("{on:?}") };
    assert_eq!((to.as_str(), passed.total), ("c", late.total));
    // What the other gives back is not sent to and fro.
    let back = Grant { incarnation: 1, donor_incarnation: 1, ..passed.clone() };
    assert!(
        grants(a.rights.on(Input::Grant { peer: "c".to_owned(), grant: back }, at(ms))).iter().all(|(to, _)| to == "b")
    );
}

/// CLUSTER.md 2, failure 8: who cannot tell the window admits nothing in it.
#[test]
fn a_clock_that_is_far_off_suspends_and_its_rights_go_to_who_asks() {
    let (mut a, mut b, ms) = in_a_minute();
    let minute = |node: &Node, times| node.admits_per(Period::Minute, 100, ms, times);
    assert_eq!((minute(&a, 10), minute(&b, 50)), (10, 50));
    a.rights.on(Input::Skewed(true), at(ms));
    let kept = a.disk.clone();
    assert!(a.poll(ms + 30_000).is_empty(), "it asks for nothing");
    assert_eq!((minute(&a, 20), a.rights.standing(), &a.disk), (0, Standing::Skewed, &kept));
    let verdict = {
        let limits = [Limit { period: Period::Minute, limit: 100.0 }];
        a.counters.hit(5, Reach::Strict, &limits, BEGIN_MS + ms)
    };
    assert_eq!((verdict.admitted, &verdict.usage[..]), (false, &[100][..]));

    minute(&b, 500);
    let frames = b.poll(ms + 10);
    let Some((_, Frame::Ask(ask))) = frames.iter().find(|(peer, _)| peer == "a") else { panic!("{frames:?}") };
    let ask = Ask { wish: 1_000, ..ask.clone() };
    let answered = grants(a.rights.on(Input::Ask { peer: "b".to_owned(), ask }, at(ms)));
    let [(_, grant)] = &answered[..] else { panic!("{answered:?}") };
    assert_eq!(grant.total, 40);
    b.rights.on(Input::Grant { peer: "a".to_owned(), grant: grant.clone() }, at(ms));
    assert_eq!(minute(&b, 500), 40);

    a.rights.on(Input::Skewed(false), at(110_000));
    a.poll(110_000);
    assert_eq!((a.rights.standing(), a.rights.standing().name()), (Standing::Settled { epoch: 1 }, "settled"));
    assert_eq!(a.admits_per(Period::Minute, 100, 121_000, 200), 50);
}

#[test]
fn what_is_damaged_on_the_disk_is_a_new_disk() {
    for text in ["", "{", "{\"promised\":3}", "null"] {
        assert_eq!(Kept::from_text(text), None, "{text}");
    }
}
