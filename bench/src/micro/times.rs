//! The bounds that are about time, by the clock: they do not repeat as instructions do, but count what memory costs.
//!
//! Each find is timed by itself, of a request that was made just before, in an order without a pattern; the cost of the
//! clock is taken off. A mean over a loop lost: the processor overlaps finds that a proxy has one at a time.

use std::hint::black_box;
use std::time::Instant;

use tidegate::router::Router;
use tidegate::snapshot::Builder;
use tidegate_bench::random;

use crate::Outcome;
use crate::SCALE_MAX;
use crate::configuration;
use crate::requests::{self, Request};

/// Finds of a measurement.
const FINDS: usize = 100_000;
/// What is read between two finds where other work is stood for: more than the nearest cache holds.
const OTHER_BYTES: usize = 256 << 10;
/// Of a cache line.
const LINE_BYTES: usize = 64;
/// Changes that are timed.
const CHANGES: usize = 41;
/// What one changed route among 100,000 may take until there is a new snapshot.
const CHANGE_MAX_MS: f64 = 50.0;

/// Prints; false when a bound is not kept.
pub fn measure() -> Outcome<bool> {
    let (few, many) = (requests::router(10)?, requests::router(configuration::ROUTES)?);
    let mut held = true;
    for (what, other) in [("nothing in between", 0), ("256 KiB of other memory read in between", OTHER_BYTES)] {
        let [few_ns, many_ns] = [find_ns(&few, 10, other), find_ns(&many, configuration::ROUTES, other)];
        let ratio = f64::from(many_ns) / f64::from(few_ns.max(1));
        println!(
            "a find, {what}: p50 {few_ns} ns among 10 routes, {many_ns} ns among 100,000: {ratio:.2} x (bound {SCALE_MAX})"
        );
        held &= ratio <= SCALE_MAX;
    }
    let [p50_ms, max_ms] = change_ms()?;
    println!(
        "one route changed among 100,000, to the new snapshot: p50 {p50_ms:.1} ms, longest {max_ms:.1} ms (bound {CHANGE_MAX_MS})"
    );
    held &= max_ms <= CHANGE_MAX_MS;
    println!("bounds of time: {}", if held { "held" } else { "NOT HELD" });
    Ok(held)
}

fn find_ns(router: &Router, routes: usize, other_bytes: usize) -> u32 {
    let order = random::order(routes);
    let other = vec![1_u8; other_bytes];
    let read_other = || black_box(other.iter().step_by(LINE_BYTES).map(|byte| u64::from(*byte)).sum::<u64>());
    let timed = |find: bool| {
        let one = |step: usize| {
            let request = Request::of(order[step % routes]);
            read_other();
            // It has just been read from a connection.
            let query = black_box(request.query());
            black_box(
                query.headers.len()
                    + query.path.iter().chain(query.host.as_bytes()).map(|byte| usize::from(*byte)).sum::<usize>(),
            );
            let start = Instant::now();
            let found = if find { router.find(&query) } else { None };
            let ns = start.elapsed().as_nanos();
            assert!(!find || found.is_some_and(|found| found.rule == request.number));
            u32::try_from(ns).unwrap_or(u32::MAX)
        };
        median((0..FINDS).map(one).collect())
    };
    timed(true).saturating_sub(timed(false))
}

fn median(mut numbers: Vec<u32>) -> u32 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
}

/// Median and longest.
fn change_ms() -> Outcome<[f64; 2]> {
    let mut entities = configuration::large()?;
    let mut builder = Builder::default();
    let mut live = configuration::build(&mut builder, entities.clone())?;
    let mut ms = Vec::new();
    for change in 1..=CHANGES {
        configuration::with_route_at(&mut entities, change * 2_399, &format!("/moved{change}"))?;
        let start = Instant::now();
        let snapshot = configuration::build(&mut builder, entities.clone())?;
        ms.push(start.elapsed().as_secs_f64() * 1e3);
        live = snapshot;
    }
    drop(live);
    ms.sort_by(f64::total_cmp);
    Ok([ms[ms.len() / 2], ms[ms.len() - 1]])
}
