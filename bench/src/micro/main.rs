//! `tidegate-bench-micro`: what the parts of the hot path cost, in instructions that repeat from run to run, and held
//! against a baseline that is in the repository.
//!
//! Each work runs in a process of its own under valgrind's callgrind, once for some rounds and once for twice as many; the
//! difference is the rounds alone, without what was prepared. Marking the region by client requests or by the name of a
//! function lost: the one takes `unsafe`, the other a build that keeps its symbols and does not inline, which is not the
//! one that serves. Times, which do not repeat, are taken natively beside it for the two bounds that are about time.
#![allow(clippy::print_stdout)]

mod baseline;
mod callgrind;
mod configuration;
mod requests;
mod times;
mod work;

use std::error::Error;
use std::process::ExitCode;

use crate::baseline::Baseline;
use crate::work::{WORKS, Work};

type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "\
tidegate-bench-micro [--save] [--only WORD] [--no-times]

Counts the instructions of each work under valgrind and compares with bench/micro-baseline.json. Ends with 1 when a work
costs over 5 % more than there, or a bound is not kept.

  --save       writes the baseline anew
  --only WORD  only works with this word in their name; with --save the others stay as they are. `times`: only
               measurements by the clock
  --no-times   no measurements by the clock";

/// What a work may cost more than in the baseline, in percent.
const MORE_MAX: f64 = 5.0;
/// What a route match among 100,000 routes may cost, in those among 10.
const SCALE_MAX: f64 = 3.0;

fn main() -> Outcome<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (mut save, mut times, mut only) = (false, true, String::new());
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--save" => save = true,
            "--no-times" => times = false,
            "--only" => only = words.next().ok_or(USAGE)?.to_owned(),
            callgrind::ROUNDS => return callgrind::run_rounds(words.next(), words.next()),
            "--help" => {
                println!("{USAGE}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(USAGE.into()),
        }
    }
    let works: Vec<&Work> = WORKS.iter().filter(|work| work.name.contains(&only)).collect();
    let mut held = instructions(&works, save)?;
    if times && (only.is_empty() || only == "times") {
        held &= times::measure()?;
    }
    Ok(ExitCode::from(u8::from(!held)))
}

/// Counts and compares; false when something costs too much.
fn instructions(works: &[&Work], save: bool) -> Outcome<bool> {
    let valgrind = callgrind::version()?;
    let mut baseline = Baseline::read()?;
    println!("instructions an operation, {valgrind}; baseline of {}", baseline.origin());
    println!("| work | instructions | baseline | change |\n|---|---:|---:|---:|");
    let (mut counted, mut loud) = (Vec::new(), Vec::new());
    for work in works {
        let count = callgrind::count(work)?;
        let before = baseline.of(work.name);
        let change = before.map(|before| (count / before - 1.0) * 100.0);
        let said = |number: Option<f64>| number.map_or_else(|| "none".to_owned(), grouped);
        let change_said = change.map_or_else(|| "new".to_owned(), |change| format!("{change:+.2} %"));
        println!("| {} | {} | {} | {change_said} |", work.name, grouped(count), said(before));
        if let Some(change) = change.filter(|change| *change > MORE_MAX) {
            loud.push(format!("TOO DEAR: {} costs {change:.1} % more than the baseline", work.name));
        }
        counted.push((work.name, count));
    }
    let of = |name: &str| counted.iter().find(|(other, _)| *other == name).map(|(_, count)| *count);
    if let (Some(few), Some(many)) = (of(work::FIND_FEW), of(work::FIND_MANY)) {
        println!("route match among 100,000: {:.2} x the instructions among 10 (bound {SCALE_MAX})", many / few);
        if many > few * SCALE_MAX {
            loud.push("TOO DEAR: route match grows with the number of routes".to_owned());
        }
    }
    if save {
        baseline.replace(&counted, &valgrind);
        println!("saved: {}", baseline.write()?.display());
        return Ok(true);
    }
    loud.iter().for_each(|line| println!("{line}"));
    Ok(loud.is_empty())
}

/// `1,234,567`; with a digit after the point where that says something.
fn grouped(number: f64) -> String {
    if number < 1_000.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, expected) in [(0.25, "0.2"), (999.96, "1000.0"), (1_000.4, "1,000"), (12_345_678.0, "12,345,678")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
