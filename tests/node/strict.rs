//! Strict limits in a cluster of real nodes: never one over, through a partition, a stop and a kill; and the limit is
//! used, wherever the requests are.
//!
//! Everything happens within one minute of the clock, with a counter for each question, since a limit says nothing about
//! two windows together. `cargo test --release --test node strict:: -- --nocapture` prints what was used.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::fleet::{Fleet, bound, name};
use crate::limits_cluster::{Outcome, ask, by_name, next_window, regions, total, unix};
use crate::scenario::client::Client;

const NODES: usize = 3;
const LIMIT: u64 = 300;
const MINUTE: Duration = Duration::from_secs(60);
/// What has to be used of a limit that is wanted twice and more, where rights can move.
const USED_MIN: u64 = LIMIT * 95 / 100;
/// A third of the limit, which is a node's from the start of the window; shares are laid out to a few rights.
const THIRD: std::ops::RangeInclusive<u64> = 95..=105;

/// Requests that one node gets for a while.
struct Load(usize, &'static str, f64);

/// By counter, what came of all requests since the window began.
#[derive(Default)]
struct Sums(BTreeMap<&'static str, Outcome>);

impl Sums {
    /// Offers all loads at once for so long; nothing is ever over.
    fn offer(&mut self, fleet: &Fleet, length: Duration, loads: &[Load]) {
        let until = unix() + length;
        let one = |Load(node, who, per_s): &Load| {
            let (mut client, mut outcome) = (Client::new(fleet.nodes[*node].proxy, false), Outcome::default());
            let pause = Duration::from_secs_f64(1.0 / per_s);
            let mut due = unix() + pause.mul_f64(*node as f64 / NODES as f64);
            while unix().max(due) < until {
                thread::sleep(due.saturating_sub(unix()));
                ask(&mut client, who, &mut outcome);
                due += pause;
            }
            (*who, outcome)
        };
        let outcomes: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = loads.iter().map(|load| scope.spawn(move || one(load))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (who, outcome) in outcomes {
            let sum = self.0.entry(who).or_default();
            *sum = total(&[*sum, outcome]);
            assert!(sum.admitted <= LIMIT, "{who}: {sum:?}");
            assert_eq!(sum.lost, 0, "{who}");
        }
    }

    fn admitted(&self, who: &str) -> u64 {
        self.0[who].admitted
    }

    fn is_used(&self, who: &str) {
        let sum = self.0[who];
        println!("{who}: {} of {LIMIT} admitted, {} refused", sum.admitted, sum.refused);
        assert!(sum.admitted >= USED_MIN, "{who}: {sum:?}");
    }
}

/// The same at each node.
fn everywhere(who: &'static str, per_s: f64) -> Vec<Load> {
    (0..NODES).map(|node| Load(node, who, per_s)).collect()
}

fn strict(period: &str, limit: u64) -> Value {
    let mut config = by_name(period, limit);
    config["guarantee"] = "strict".into();
    config
}

/// Gives each node a third, and waits until that holds for windows that begin from now on.
fn weigh(fleet: &Fleet) {
    let weights: BTreeMap<String, f64> = (0..NODES).map(|node| (name(node), 0.3333)).collect();
    let mut epoch = 1;
    let body = json!({ "name": "all", "epoch": epoch, "weights": weights });
    let answer = fleet.admin(0, "POST", "/strict_weights?wait=all&timeout_ms=20000", body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let stands = |fleet: &Fleet, node: usize, how: &str| {
        fleet.metric(node, &format!("tidegate_limits_strict_standing{{standing=\"{how}\"}}")) == 1.0
    };
    let took = fleet.within(Duration::from_secs(20) + bound(2_000), "the weights do not settle", |fleet| {
        // Weights that a node finds in its first seconds may be older than its empty disk: they are said again.
        if (0..NODES).any(|node| stands(fleet, node, "new_disk")) {
            epoch += 1;
            let answer = fleet.admin(0, "PATCH", "/strict_weights/all?wait=all", json!({ "epoch": epoch }));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        let share = |node: usize| fleet.metric(node, "tidegate_limits_strict_share");
        (0..NODES).all(|node| stands(fleet, node, "settled") && share(node) > 0.3)
    });
    println!("weights hold {took:?} after they were given");
}

#[test]
fn a_strict_minute_is_never_exceeded_and_is_used() {
    let backend = Backend::answering();
    let mut fleet = regions(NODES, &backend, strict("minute", LIMIT));
    // Nobody said yet what is whose.
    let mut before = Outcome::default();
    for node in &fleet.nodes {
        (0..5).for_each(|_| ask(&mut Client::new(node.proxy, false), "before", &mut before));
    }
    assert_eq!((before.admitted, before.refused), (0, 15));
    weigh(&fleet);
    let start = next_window(MINUTE);
    let mut sums = Sums::default();

    // Rights are where the node's part is, and move to where the requests are.
    let mut loads = everywhere("even", 30.0);
    loads.extend([Load(1, "one", 80.0), Load(2, "stopped", 1.0)]);
    sums.offer(&fleet, Duration::from_secs(8), &loads);
    sums.is_used("even");
    sums.is_used("one");

    // Cut off, a node has its own part and no more.
    fleet.relay.partition(&[&[0], &[1, 2]]);
    let mut loads = everywhere("cut", 30.0);
    loads.extend(everywhere("even", 5.0));
    loads.push(Load(0, "lone", 40.0));
    sums.offer(&fleet, Duration::from_secs(8), &loads);
    sums.is_used("cut");
    assert!(THIRD.contains(&sums.admitted("lone")), "{}", sums.admitted("lone"));

    // When all meet again, the rest is there for it.
    fleet.relay.heal();
    fleet.within(bound(3_000), "the nodes do not meet again", |fleet| fleet.is_whole(NODES));
    let mut loads = everywhere("cut", 5.0);
    loads.push(Load(0, "lone", 60.0));
    sums.offer(&fleet, Duration::from_secs(6), &loads);
    sums.is_used("lone");

    // A node that stops leaves its part to the others.
    assert_eq!(fleet.nodes[2].stop(Duration::from_secs(10)), Some(0));
    sums.offer(&fleet, Duration::from_secs(6), &[Load(0, "stopped", 40.0), Load(1, "stopped", 40.0)]);
    sums.is_used("stopped");

    // Who comes back, told to stop or not, does not spend again.
    fleet.nodes[1].kill_by_pid();
    fleet.nodes[1].reap();
    for node in 1..NODES {
        fleet.nodes[node].start();
    }
    for node in 1..NODES {
        fleet.nodes[node].wait_ready(Duration::from_secs(10));
    }
    let loads: Vec<Load> = ["even", "one", "cut", "stopped"].into_iter().flat_map(|who| everywhere(who, 5.0)).collect();
    sums.offer(&fleet, Duration::from_secs(4), &loads);
    let took = unix().saturating_sub(start);
    println!("all of it took {took:?} of a minute");
    assert!(took < MINUTE, "the machine is too slow for this test: it took {took:?}, and a window is a minute");
}

#[test]
fn a_strict_limit_that_cannot_be_shared_is_refused_with_the_reason() {
    let node = crate::process::Node::started([("database", "embedded")]);
    let refused = |config: Value, text: &str| {
        let answer = node.admin("POST", "/plugins", &json!({ "name": "rate-limiting", "config": config })).unwrap();
        let body = answer.json().unwrap();
        assert_eq!((answer.status, &body["fields"]["config"]["guarantee"]), (400, &json!(text)), "{body}");
    };
    refused(strict("second", 99), "strict needs a limit of at least 100 where the window is a second: it is 99");
    let mut local = strict("minute", 600);
    local["policy"] = "local".into();
    refused(local, "strict needs the policy cluster: with local each node counts for itself");
    let mut broken = strict("minute", 600);
    broken["hour"] = 1000.5.into();
    refused(broken, "strict needs limits that are whole numbers: hour is 1000.5");
    let unknown = {
        let mut config = by_name("minute", 600);
        config["guarantee"] = "exact".into();
        config
    };
    refused(unknown, "expected one of: forecast, strict");
}
