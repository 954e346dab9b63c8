//! What happened window by window, for whoever tunes the exchange: `TRACE=1`.
//!
//! `TRACE=2` adds, every ten milliseconds of the measured time, by how much the estimates of the nodes differ from what
//! was admitted. For each window: requests, admitted, how far above the limit, when the limit was reached after the window's start, and
//! which nodes admitted more after that.

use crate::limits::process::START_MS;
use crate::limits::scenario::Scenario;
use crate::limits::world::World;

/// Nodes shown of those that went on.
const SHOWN: usize = 6;
const STEP_MS: u64 = 10;

/// Lets the time pass.
pub fn run(world: &mut World, ms: u64) {
    if std::env::var("TRACE").is_ok_and(|level| level == "2") {
        for _ in 0..ms / STEP_MS {
            world.run_ms(STEP_MS);
            estimates(world);
        }
        world.run_ms(ms % STEP_MS);
    } else {
        world.run_ms(ms);
    }
}

/// Of the first key.
fn estimates(world: &mut World) {
    let window = world.window(0);
    let truth = world.oracle.admitted((0, window.number)) as f64;
    let into_ms = world.unix_us() / 1_000 - window.start_s() * 1_000;
    let mut errors: Vec<(f64, String)> = Vec::new();
    for index in world.running() {
        if let Some(row) = world.rows(index).get(&0).filter(|row| row.window_start_s == window.start_s()) {
            let error = (row.own + row.remote) as f64 + row.forecast - truth;
            errors
                .push((error, format!("{} {}+{}+{:.0}", world.place(index as u16), row.own, row.remote, row.forecast)));
        }
    }
    errors.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mean = errors.iter().map(|(error, _)| error).sum::<f64>() / errors.len().max(1) as f64;
    if let (Some(least), Some(most)) = (errors.first(), errors.last()) {
        println!(
            "  {into_ms:>5} ms: {truth} admitted; estimates differ by {:+.0} ({}) to {:+.0} ({}), mean {mean:+.1}",
            least.0, least.1, most.0, most.1
        );
    }
}

pub fn print(scenario: &Scenario, world: &World) {
    if std::env::var_os("TRACE").is_none() {
        return;
    }
    println!(
        "{}: {} messages, {} decisions, {} in another window than the true one",
        scenario.name, world.messages, world.oracle.decisions, world.oracle.misplaced
    );
    for key in 0..world.keys.len() {
        for (number, book) in world.oracle.windows(key as u16) {
            let start_us = u64::from(number) * scenario.length_us();
            let full_ms = book.full_us.map(|full_us| (START_MS * 1_000 + full_us) as i64 - start_us as i64);
            let full = full_ms.map_or("never full".to_owned(), |us| format!("full at {:>6.1} ms", us as f64 / 1e3));
            let above = 100.0 * (book.admitted as f64 / scenario.limit - 1.0);
            let mut beyond: Vec<_> = book.beyond.iter().collect();
            beyond.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let beyond: Vec<_> =
                beyond.iter().take(SHOWN).map(|(node, count)| format!("{}:{count}", world.place(**node))).collect();
            println!(
                "  key {key:>2} window {:>4} offered {:>6} admitted {:>6} {above:>+7.2} %  {full}  {}",
                number as u64 - world.first_window(scenario.period) as u64,
                book.offered,
                book.admitted,
                beyond.join(" ")
            );
        }
    }
}
