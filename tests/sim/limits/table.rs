//! The scenarios of the table, with the bounds that are promised for them.

use tidegate::counter::Period;

use crate::limits::network::Delays;
use crate::limits::scenario::{Bound, Demand, Scenario, Trouble};
use crate::limits::traffic::Shape;

/// Every round trip the same.
const FAR: Delays = Delays::Fixed { rtt_us: 150_000 };

/// All scenarios; names are unique.
pub fn scenarios() -> Vec<Scenario> {
    [steady(), other_limits(), far(), flash(), long_windows(), loss(), trouble(), many()].concat()
}

/// Those that `--quick` runs.
#[allow(dead_code, reason = "the bench has it from here")]
pub const QUICK: &[&str] =
    &["even-10x", "zipf-10x", "zipf-1.1x", "one-node", "far-zipf-10x", "flash-even", "flash-zipf", "loss-30"];

fn mean_worst(mean: f64, worst: f64) -> Bound {
    Bound { mean: Some(mean), worst: Some(worst), used: None }
}

fn used(least: f64) -> Bound {
    Bound { used: Some(least), ..Bound::default() }
}

fn even() -> Demand {
    Demand::Steady(Shape::Even)
}

fn zipf() -> Demand {
    Demand::Steady(Shape::Zipf)
}

fn steady() -> Vec<Scenario> {
    let near = mean_worst(0.01, 0.06);
    let of = |name, demand, factor, bound| Scenario { factor, bound, ..Scenario::regions(name, demand) };
    vec![
        of("even-10x", even(), 10.0, near),
        of("zipf-10x", zipf(), 10.0, near),
        of("moving-10x", Demand::Moving(Shape::Zipf), 10.0, Bound::default()),
        of("even-2x", even(), 2.0, near),
        of("zipf-2x", zipf(), 2.0, near),
        of("moving-2x", Demand::Moving(Shape::Zipf), 2.0, Bound::default()),
        of("even-1.1x", even(), 1.1, used(0.97)),
        of("zipf-1.1x", zipf(), 1.1, used(0.97)),
        of("moving-1.1x", Demand::Moving(Shape::Zipf), 1.1, used(0.97)),
        of(
            "one-node",
            Demand::Steady(Shape::One(17)),
            10.0,
            Bound { mean: Some(0.0), worst: Some(0.0), used: Some(1.0) },
        ),
    ]
}

fn other_limits() -> Vec<Scenario> {
    let of = |name, limit, factor, bound| Scenario { limit, factor, bound, ..Scenario::regions(name, zipf()) };
    vec![
        of("limit-100-10x", 100.0, 10.0, Bound::default()),
        of("limit-100-1.1x", 100.0, 1.1, Bound::default()),
        of("limit-10000-10x", 10_000.0, 10.0, mean_worst(0.01, 0.06)),
        of("limit-10000-1.1x", 10_000.0, 1.1, used(0.97)),
    ]
}

fn far() -> Vec<Scenario> {
    let of = |name, demand, factor, bound| Scenario { delays: FAR, factor, bound, ..Scenario::regions(name, demand) };
    vec![
        of("far-even-10x", even(), 10.0, mean_worst(0.015, 0.08)),
        of("far-zipf-10x", zipf(), 10.0, mean_worst(0.015, 0.08)),
        of("far-zipf-1.1x", zipf(), 1.1, used(0.97)),
    ]
}

/// Thirty crowds each. The bound is the mean's: a crowd that nobody announced cannot be known before a propagation delay.
fn flash() -> Vec<Scenario> {
    let of = |name, shape, delays, bound| Scenario { delays, bound, ..Scenario::regions(name, Demand::Flash(shape)) };
    let near = Delays::Regions { stretch: 1 };
    let mean = |mean| Bound { mean: Some(mean), ..Bound::default() };
    vec![
        of("flash-even", Shape::Even, near, mean(0.10)),
        of("flash-zipf", Shape::Zipf, near, mean(0.30)),
        of("far-flash-even", Shape::Even, FAR, Bound::default()),
        of("far-flash-zipf", Shape::Zipf, FAR, Bound::default()),
        Scenario { factor: 1.1, ..of("flash-one-1.1x", Shape::One(17), near, Bound::default()) },
    ]
}

/// Kong has no window of ten seconds. What matters is how long delays are beside the window, so windows of a minute with
/// delays six times as long stand for it.
fn long_windows() -> Vec<Scenario> {
    let near = Delays::Regions { stretch: 1 };
    let of = |name, demand, delays, limit, factor, bound| Scenario {
        period: Period::Minute,
        windows: 5,
        delays,
        limit,
        factor,
        bound,
        ..Scenario::regions(name, demand)
    };
    let worst = |worst| Bound { worst: Some(worst), ..Bound::default() };
    let ten = Delays::Regions { stretch: 6 };
    vec![
        of("minute-even-10x", even(), near, 1_000.0, 10.0, worst(0.002)),
        of("minute-zipf-10x", zipf(), near, 1_000.0, 10.0, worst(0.002)),
        of("minute-10000-zipf-10x", zipf(), near, 10_000.0, 10.0, worst(0.002)),
        of("minute-zipf-1.1x", zipf(), near, 1_000.0, 1.1, used(0.97)),
        of("minute-moving-10x", Demand::Moving(Shape::Zipf), near, 1_000.0, 10.0, worst(0.002)),
        of("minute-flash-zipf", Demand::Flash(Shape::Zipf), near, 1_000.0, 10.0, Bound::default()),
        of("as-10s-even-10x", even(), ten, 1_000.0, 10.0, worst(0.005)),
        of("as-10s-zipf-10x", zipf(), ten, 1_000.0, 10.0, worst(0.005)),
    ]
}

fn loss() -> Vec<Scenario> {
    let of = |name, loss| Scenario { loss, ..Scenario::regions(name, zipf()) };
    vec![of("loss-0", 0.0), of("loss-5", 0.05), of("loss-30", 0.30)]
}

fn trouble() -> Vec<Scenario> {
    let of = |name, factor, trouble| Scenario { factor, trouble, ..Scenario::regions(name, zipf()) };
    vec![
        of("restarts-10x", 10.0, Trouble::Restarts),
        Scenario { windows: 36, ..of("deploy-5x", 5.0, Trouble::Deploy) },
        Scenario { windows: 60, ..of("partition-10x", 10.0, Trouble::Partition) },
        of("skew-200ms-10x", 10.0, Trouble::Skew(200)),
        of("skew-2s-10x", 10.0, Trouble::Skew(2_000)),
        of("slow-peer-10x", 10.0, Trouble::Slow),
    ]
}

fn many() -> Vec<Scenario> {
    let of = |name, nodes, windows| Scenario { nodes, windows, limit: 10_000.0, ..Scenario::regions(name, zipf()) };
    vec![of("200-nodes-10x", 200, 10), of("1000-nodes-10x", 1_000, 3)]
}
