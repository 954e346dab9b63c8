//! Bounds that are promised, with fewer windows than the table has: `cargo test --release --test sim limits::figures`.

use crate::limits::scenario::Scenario;
use crate::limits::table::scenarios;
use crate::random::seeds;

fn scenario(name: &str) -> Scenario {
    scenarios().into_iter().find(|scenario| scenario.name == name).expect("a scenario of the table")
}

fn check(name: &str, windows: u64) {
    seeds(1, |seed| {
        let scenario = Scenario { windows, ..scenario(name) };
        let outcome = scenario.run(seed);
        println!(
            "{name}: {windows} windows, overshoot {:.2} %, worst {:.2} %, used {:.2} %, {:.0} bytes/s a node, in {:.1} s",
            outcome.mean() * 100.0,
            outcome.worst() * 100.0,
            outcome.used() * 100.0,
            outcome.bytes_per_s,
            outcome.took_s,
        );
        let broken = outcome.broken(&scenario.bound);
        assert!(broken.is_empty(), "{name}: {}", broken.join("; "));
    });
}

#[test]
fn names_of_scenarios_are_unique() {
    let mut names: Vec<_> = scenarios().iter().map(|scenario| scenario.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation")]
fn ten_times_the_limit_from_thirty_five_regions() {
    check("zipf-10x", 6);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation")]
fn all_traffic_at_one_node() {
    check("one-node", 3);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation")]
fn a_little_more_than_the_limit() {
    check("zipf-1.1x", 4);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation")]
fn a_cold_crowd() {
    check("flash-even", 3);
}
