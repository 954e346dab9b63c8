//! `cargo run --release -p tidegate-bench --bin tidegate-bench-counters`: what one decision about a limit costs at a
//! million counters, in time, in allocations and on two threads; with `--flood N`, what ten million different keys do to
//! a table of N counters.
//!
//! Keys come once as a gateway sees them, by Zipf's law, and once each in random order, so that nearly every decision
//! finds its counter in main memory. Each is timed by itself and the clock's own cost, measured the same way with nothing
//! in between, is taken off; beside that stands the mean of long chains in which each key depends on the verdict before
//! it, which no clock and no overlap can flatter, and what one read of main memory costs at the time.
#![allow(clippy::print_stdout)]

use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use stats_alloc::INSTRUMENTED_SYSTEM;
use stats_alloc::Region;
use stats_alloc::StatsAlloc;
use tidegate::counter::Counters;
use tidegate::counter::Limit;
use tidegate::counter::Name;
use tidegate::counter::Options;
use tidegate::counter::Period;
use tidegate::counter::Reach;
use tidegate_bench::random::shuffle;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: u64 = 1_000_000;
const NOW_MS: u64 = 1_796_083_020_000;
const LIMIT: [Limit; 1] = [Limit { period: Period::Hour, limit: 1_000_000.0 }];
const FLOOD: u64 = 10_000_000;
const KEY: [u8; 16] = *b"of this run only";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let held = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--flood", capacity] => match capacity.parse() {
            Ok(capacity) => flood(capacity),
            Err(_) => return ExitCode::from(2),
        },
        _ => decisions(),
    };
    ExitCode::from(u8::from(!held))
}

/// What is asked about a key: the hash of its name, and whether it has room. As for a request, a counter that is hit often
/// is named once.
fn decide(counters: &Counters, number: u64, now_ms: u64) -> u64 {
    let subject = counters.subject(Uuid::nil(), Uuid::max(), &number.to_le_bytes());
    let verdict = counters.hit(subject, Reach::Cluster, &LIMIT, now_ms);
    if verdict.unnamed {
        let name = || Name { limit_by: "ip", identifier: String::new(), route: None, service: None };
        counters.name(subject, &LIMIT, name);
    }
    verdict.usage[0]
}

fn decisions() -> bool {
    let counters = Counters::new(Options { capacity: 1 << 20, key: KEY });
    counters.set_peers(35, 0, 0);
    let mut order: Vec<u64> = (0..KEYS).collect();
    shuffle(&mut order);
    for &number in &order {
        decide(&counters, number, NOW_MS);
    }
    // What changed would be drained by a task; here every counter stays listed, as under constant traffic.
    shuffle(&mut order);
    let mut clock: Vec<u32> = (0..KEYS).map(|_| timed(|| 0)).collect();
    clock.sort_unstable();
    let own_ns = clock[clock.len() / 2];
    println!("decisions on {KEYS} counters, hash included; the clock's {own_ns} ns are taken off");
    let mut held = true;
    let zipf = zipf(&order);
    // All names that are kept are given here, and with them what is allocated.
    zipf.iter().for_each(|&number| {
        decide(&counters, number, NOW_MS);
    });
    for (name, keys) in [("as Zipf has it", &zipf), ("in random order", &order)] {
        held &= timed_decisions(&counters, name, keys, own_ns);
    }
    println!("on one counter, again and again: p50 {} ns", one_key_ns(&counters, own_ns));
    println!("mean of dependent decisions in random order: {:.0} ns", chained(&counters));
    println!("a read of main memory beside it, timed alike: p50 {} ns", memory_read_ns(&order, own_ns));
    for threads in [1, 2] {
        println!("{threads} threads: {:.1} million decisions per second", throughput(&counters, &order, threads) / 1e6);
    }
    held
}

fn timed_decisions(counters: &Counters, name: &str, keys: &[u64], own_ns: u32) -> bool {
    let mut ns: Vec<u32> = vec![0; keys.len()];
    let region = Region::new(ALLOCATOR);
    for (ns, &number) in ns.iter_mut().zip(keys) {
        *ns = timed(|| decide(counters, number, NOW_MS + 1)).saturating_sub(own_ns);
    }
    let allocations = region.change().allocations + region.change().reallocations;
    ns.sort_unstable();
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| ns[((ns.len() - 1) as f64 * share) as usize]);
    let held = p50 <= 150 && p99 <= 1_000 && allocations == 0;
    println!("{name}: p50 {p50} ns, p90 {p90} ns, p99 {p99} ns, p99.9 {p999} ns, {allocations} allocations");
    println!("{name}: p50 <= 150 ns, p99 <= 1 us, no allocation: {}", if held { "held" } else { "not held" });
    held
}

/// As many draws as there are keys, the n-th of them in proportion to 1 / n.
fn zipf(keys: &[u64]) -> Vec<u64> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys.len()).map(|rank| (sum += 1.0 / rank as f64, sum).1).collect();
    let draw = |number: usize| (step(number as u64) >> 11) as f64 / (1_u64 << 53) as f64 * sum;
    (0..keys.len()).map(draw).map(|at| keys[sums.partition_point(|sum| *sum < at).min(keys.len() - 1)]).collect()
}

fn timed(what: impl FnOnce() -> u64) -> u32 {
    let start = Instant::now();
    black_box(what());
    u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// What the decision itself costs, with its counter in the nearest cache.
fn one_key_ns(counters: &Counters, own_ns: u32) -> u32 {
    let mut ns: Vec<u32> =
        (0..KEYS).map(|_| timed(|| decide(counters, 7, NOW_MS + 1)).saturating_sub(own_ns)).collect();
    ns.sort_unstable();
    ns[ns.len() / 2]
}

/// The next key is known only when the verdict before is.
fn chained(counters: &Counters) -> f64 {
    let (hits, start) = (2_000_000_u32, Instant::now());
    let mut number = 7_u64;
    for hit in 0..hits {
        let usage = decide(counters, number, NOW_MS + 2);
        // With the number of the hit, since keys that follow from keys alone soon come in a short circle.
        number = step(number ^ u64::from(hit) << 20 ^ (usage >> 40)) % KEYS;
    }
    black_box(number);
    start.elapsed().as_nanos() as f64 / f64::from(hits)
}

/// One line of as much memory as the counters take, in the same order: what no decision can be cheaper than. It tells how
/// busy the machine's memory is.
fn memory_read_ns(order: &[u64], own_ns: u32) -> u32 {
    let lines = vec![[1_u64; 8]; order.len()];
    let read = |&number: &u64| timed(|| lines[number as usize][0]).saturating_sub(own_ns);
    let mut ns: Vec<u32> = order.iter().map(read).collect();
    ns.sort_unstable();
    ns[ns.len() / 2]
}

fn throughput(counters: &Counters, order: &[u64], threads: usize) -> f64 {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let begin = thread * order.len() / threads;
                for &number in order[begin..].iter().chain(&order[..begin]) {
                    black_box(decide(counters, number, NOW_MS + 3));
                }
            });
        }
    });
    (threads * order.len()) as f64 / start.elapsed().as_secs_f64()
}

/// Ten million keys within a minute, each with a hit; a thousand honest ones that are at half their limit, or that come
/// now and then during the flood.
fn flood(capacity: usize) -> bool {
    const HONEST: u64 = 1_000;
    let limits = [Limit { period: Period::Minute, limit: 10.0 }];
    let counters = Counters::new(Options { capacity, key: KEY });
    let hit = |number: u64, now_ms: u64| {
        let subject = counters.subject(Uuid::nil(), Uuid::max(), &number.to_le_bytes());
        u64::from(counters.hit(subject, Reach::Cluster, &limits, now_ms).admitted)
    };
    let mut admitted = vec![0_u64; HONEST as usize];
    for number in 0..HONEST {
        admitted[number as usize] += (0..5).map(|_| hit(number, NOW_MS)).sum::<u64>();
    }
    let start = Instant::now();
    for flood in 0..FLOOD {
        let now_ms = NOW_MS + flood * 59_000 / FLOOD;
        hit(HONEST + flood, now_ms);
        // The honest go on, each about every second.
        if flood % 170 == 0 {
            let number = flood / 170 % HONEST;
            admitted[number as usize] += hit(number, now_ms);
        }
    }
    let ns = start.elapsed().as_nanos() as f64 / FLOOD as f64;
    let over = admitted.iter().filter(|&&admitted| admitted > 10).count();
    let under = admitted.iter().filter(|&&admitted| admitted < 10).count();
    let figures = counters.figures();
    let rss_mb = rss_kb() / 1024;
    println!("{FLOOD} keys against {capacity} counters, {ns:.0} ns each; resident {rss_mb} MB");
    println!("counters {}, pushed out {}, by the sketch {}", figures.lines, figures.evicted, figures.sketched);
    println!("of {HONEST} honest keys {over} got more than their limit and {under} less");
    let held = rss_mb <= 1_300 && over == 0 && under == 0;
    println!("<= 1.3 GB, nobody at half the limit forgotten: {}", if held { "held" } else { "not held" });
    held
}

/// Resident memory of this process; 0 where the system does not tell.
fn rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn step(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (mixed >> 32)
}
