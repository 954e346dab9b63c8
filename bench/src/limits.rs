//! The table of simulated limits: every scenario of `tests/sim/limits/table.rs` with the production cores.
//!
//! Prints a row as soon as its scenario ends, and after a full run puts the table into `bench/README.md`, between its
//! heading and the next one. `--quick` runs a few, names run those; both only print. `--seed N` changes the dice, `--jobs N`
//! how many run beside each other. `TRACE=1` prints every window. The exit code is 1 when a bound does not hold. The
//! simulation is the code of the tests, included and not copied, so what the table says is what the tests hold.

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]
#![allow(dead_code)]

#[path = "../../tests/sim/limits/mod.rs"]
pub mod limits;
#[allow(clippy::should_implement_trait)]
#[path = "../../tests/sim/random.rs"]
pub mod random;
#[path = "../../tests/sim/regions.rs"]
pub mod regions;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use crate::limits::network::Delays;
use crate::limits::scenario::{Bound, Demand, Outcome, Scenario, Trouble};
use crate::limits::table::{QUICK, scenarios};
use crate::limits::traffic::Shape;

const HEADING: &str = "## Limits of the cluster, simulated";
const HEAD: &str = "\
| scenario | nodes | what | overshoot, mean | worst | limit used | bytes/s a node | bound | holds |
|---|---|---|---|---|---|---|---|---|";

struct Wish {
    names: Vec<String>,
    quick: bool,
    seed: u64,
    jobs: usize,
}

pub fn main() -> ExitCode {
    let wish = match wish(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<Scenario> = scenarios().into_iter().filter(|scenario| wish.takes(scenario)).collect();
    println!("{HEAD}");
    let rows = run(&chosen, &wish);
    let broken: Vec<&str> = rows.iter().filter(|(_, broken, _)| *broken).map(|(name, ..)| *name).collect();
    if wish.names.is_empty() && !wish.quick {
        let rows: Vec<&str> = rows.iter().map(|(.., row)| row.as_str()).collect();
        write_section(&format!("{HEAD}\n{}", rows.join("\n")));
    }
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("not within its bound: {}", broken.join(", "));
    ExitCode::FAILURE
}

impl Wish {
    fn takes(&self, scenario: &Scenario) -> bool {
        let named = self.names.iter().any(|name| name == scenario.name);
        named || (self.names.is_empty() && (!self.quick || QUICK.contains(&scenario.name)))
    }
}

fn wish(mut arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish { names: Vec::new(), quick: false, seed: 1, jobs: 1 };
    while let Some(argument) = arguments.next() {
        let mut number = |name: &str| -> Result<u64, String> {
            let value = arguments.next().and_then(|value| value.parse().ok());
            value.ok_or(format!("{name} takes a number"))
        };
        match argument.as_str() {
            "--quick" => wish.quick = true,
            "--seed" => wish.seed = number("--seed")?,
            "--jobs" => wish.jobs = number("--jobs")?.clamp(1, 64) as usize,
            name if scenarios().iter().any(|scenario| scenario.name == name) => wish.names.push(argument),
            other => {
                let names: Vec<_> = scenarios().iter().map(|scenario| scenario.name).collect();
                return Err(format!("{other} is no scenario; there are: {}", names.join(" ")));
            }
        }
    }
    Ok(wish)
}

/// In the order of `chosen`: name, whether a bound is broken, and the row.
fn run(chosen: &[Scenario], wish: &Wish) -> Vec<(&'static str, bool, String)> {
    let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..chosen.len()).collect());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| {
                loop {
                    let Some(at) = waiting.lock().unwrap().pop_front() else { break };
                    let scenario = &chosen[at];
                    let outcome = scenario.run(wish.seed);
                    let broken = outcome.broken(&scenario.bound);
                    let row = row(scenario, &outcome, &broken);
                    println!("{row}");
                    eprintln!(
                        "{}: {} requests, {:.0} s in {:.1} s, {:.0} frames/s a node, most {:.0} bytes/s, unsent {}",
                        scenario.name,
                        outcome.requests,
                        outcome.simulated_s,
                        outcome.took_s,
                        outcome.frames_per_s,
                        outcome.bytes_per_s_max,
                        outcome.unsent,
                    );
                    done.lock().unwrap().push((at, (scenario.name, !broken.is_empty(), row)));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, row)| row).collect()
}

fn row(scenario: &Scenario, outcome: &Outcome, broken: &[String]) -> String {
    let holds = match (scenario.bound == Bound::default(), broken.is_empty()) {
        (true, _) => "–".to_owned(),
        (false, true) => "yes".to_owned(),
        (false, false) => format!("**no**: {}", broken.join("; ")),
    };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {holds} |",
        scenario.name,
        scenario.nodes,
        what(scenario),
        percent(outcome.mean()),
        percent(outcome.worst()),
        percent(outcome.used()),
        grouped(outcome.bytes_per_s),
        bound(&scenario.bound),
    )
}

fn what(scenario: &Scenario) -> String {
    let shape = |shape: &Shape| match shape {
        Shape::Even => "even",
        Shape::Zipf => "zipf",
        Shape::One(_) => "all at one node",
    };
    let demand = match &scenario.demand {
        Demand::Steady(of) => shape(of).to_owned(),
        Demand::Moving(of) => format!("{}, moving every two windows", shape(of)),
        Demand::Flash(of) => format!("{} cold flash crowds, {}", scenario.windows, shape(of)),
    };
    let way = match scenario.delays {
        Delays::Regions { stretch: 1 } => String::new(),
        Delays::Regions { stretch } => format!(", delays × {stretch}"),
        Delays::Fixed { rtt_us } => format!(", {} ms everywhere", rtt_us / 1_000),
    };
    let trouble = match scenario.trouble {
        Trouble::None => String::new(),
        Trouble::Restarts => ", a kill every other window".to_owned(),
        Trouble::Deploy => ", rolling deploy".to_owned(),
        Trouble::Partition => ", halved for a third of the time".to_owned(),
        Trouble::Skew(ms) => format!(", clocks ± {ms} ms"),
        Trouble::Slow => ", one peer at 10 kB/s".to_owned(),
    };
    format!(
        "{} × {} in {} s, {demand}, {:.0} % loss{way}{trouble}",
        scenario.factor,
        grouped(scenario.limit),
        scenario.length_us() / 1_000_000,
        scenario.loss * 100.0,
    )
}

fn bound(bound: &Bound) -> String {
    let words = [
        bound.mean.map(|most| format!("mean ≤ {}", percent(most))),
        bound.worst.map(|most| format!("worst ≤ {}", percent(most))),
        bound.used.map(|least| format!("used ≥ {}", percent(least))),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Everything of the section but its first paragraphs is replaced: the table begins at the first `|`.
fn write_section(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).unwrap();
    let Some(section) = text.find(HEADING) else {
        eprintln!("{} has no section {HEADING}", path.display());
        return;
    };
    let body = section + HEADING.len();
    let end = text[body..].find("\n## ").map_or(text.len(), |at| body + at + 1);
    let begin = text[body..end].find("\n| ").map_or(end, |at| body + at + 1);
    let after = if end < text.len() { "\n\n" } else { "\n" };
    let rows_end = text[begin..end].rfind("|\n").map_or(begin, |at| begin + at + 2);
    let rest = text[rows_end..end].trim();
    let rest = if rest.is_empty() { String::new() } else { format!("\n\n{rest}") };
    fs::write(&path, format!("{}{table}{rest}{after}{}", &text[..begin], &text[end..])).unwrap();
}
