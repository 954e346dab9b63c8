//! Differential property test of `tidegate::http1` with hyper as the oracle.
//!
//! Each case is one message with the bytes that follow it, generated from a seed. `http1` reads it whole, byte by byte,
//! and in random pieces, with the same verdict each time. hyper's HTTP/1 server (for requests) or client (for responses)
//! reads it over an in-memory stream. Both must accept or reject, and agree on the first line, version, headers, body,
//! trailers, and the number of bytes consumed. `differences.rs` lists the deliberate differences; any other fails.
//!
//! ```text
//! cargo test --test http1                                     50,000 cases, half of them requests
//! TIDEGATE_CASES=10000000 cargo test --release --test http1 -- --nocapture
//! TIDEGATE_SEED=1 TIDEGATE_CASE=7 cargo test --test http1 requests       one case, as a failure names it
//! ```

#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)]

mod differences;
mod generate;
mod message;
mod oracle;
mod ours;
#[path = "../sim/random.rs"]
#[allow(dead_code)]
mod random;

use std::time::Instant;

use tidegate::http1::HeadLimits;

use crate::differences::{CHUNKED, Deliberate, REQUESTS, RESPONSES, Sighting};
use crate::generate::Case;
use crate::message::{Outcome, differing};
use crate::oracle::Oracle;
use crate::random::Random;

/// Number of cases of both kinds when `TIDEGATE_CASES` is not set; a debug build takes less than ten seconds.
const CASES: u64 = 50_000;
/// Number of cases per kind from which on every row of a table must have explained a difference.
const CASES_FOR_ALL_ROWS: u64 = 500_000;
/// Longest case in bytes that is read byte by byte: parsing a response again with each byte takes quadratic time.
const BYTEWISE_MAX: usize = 400;
/// Number of cases between two lines of progress.
const PROGRESS: u64 = 250_000;

#[test]
fn requests_are_read_as_hyper_reads_them() {
    run("request", generate::request, ours::read_request, Oracle::read_request, REQUESTS);
}

#[test]
fn responses_are_read_as_hyper_reads_them() {
    run("response", generate::response, ours::read_response, Oracle::read_response, RESPONSES);
}

/// Reads a case in pieces that end at `ends`, and consumes at most `taken` bytes of the body at a time.
type ReadPieces = fn(case: &Case, ends: &[usize], taken: usize) -> Outcome;

fn run(
    kind: &str,
    generate: fn(&mut Random) -> Case,
    read: ReadPieces,
    judge: fn(&Oracle, &Case) -> Outcome,
    own: &[Deliberate],
) {
    let seed = variable("TIDEGATE_SEED").unwrap_or(1);
    let cases = variable("TIDEGATE_CASES").unwrap_or(CASES) / 2;
    let numbers = variable("TIDEGATE_CASE").map_or(0..cases, |number| number..number + 1);
    let table: Vec<_> = own.iter().chain(CHUNKED).collect();
    let (oracle, start) = (Oracle::new(), Instant::now());
    let (mut accepted, mut explained) = (0_u64, vec![0_u64; table.len()]);
    for number in numbers.clone() {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number.wrapping_mul(0x9e6c_63d0_876a_3f6b));
        let case = generate(&mut random);
        let fail = |what: &str, one: &Outcome, other: &Outcome| {
            panic!(
                "{what}\nrepeat with TIDEGATE_SEED={seed} TIDEGATE_CASE={number} ({kind})\nlimits: {:?}, to HEAD: {}\n\
                 bytes: {}\n  one: {one:?}\nother: {other:?}",
                case.limits,
                case.to_head,
                case.bytes.escape_ascii()
            )
        };
        let whole = read(&case, &[case.bytes.len()], usize::MAX);
        if case.bytes.len() <= BYTEWISE_MAX {
            let ends: Vec<_> = (1..=case.bytes.len()).collect();
            let bytewise = read(&case, &ends, 1 + random.below(5));
            if !same(&whole, &bytewise) {
                fail("http1 reads the whole message (one) and its single bytes (other) differently", &whole, &bytewise);
            }
        }
        let ends = cuts(&mut random, case.bytes.len());
        let pieces = read(&case, &ends, 1 + random.below(200));
        if !same(&whole, &pieces) {
            fail(&format!("http1 reads pieces that end at {ends:?} (other) differently"), &whole, &pieces);
        }
        let theirs = judge(&oracle, &case);
        let sighting = Sighting::new(&case, &whole, &theirs);
        for aspect in differing(&whole, &theirs) {
            match table.iter().position(|row| row.aspect == aspect && (row.explains)(&sighting)) {
                Some(row) => explained[row] += 1,
                None => fail(&format!("http1 (one) and hyper (other) differ: {aspect:?}"), &whole, &theirs),
            }
        }
        accepted += u64::from(whole.is_ok());
        if (number + 1) % PROGRESS == 0 {
            eprintln!("{kind}: {} of {cases} cases, {accepted} accepted, {:.0?}", number + 1, start.elapsed());
        }
    }
    println!("{kind}: seed {seed}, cases {numbers:?}, {accepted} accepted, {:.1?}", start.elapsed());
    for (row, count) in table.iter().zip(&explained) {
        println!("{count:9} {:?}: {}", row.aspect, row.reason);
        let is_needed = *count > 0 || cases < CASES_FOR_ALL_ROWS || numbers.end - numbers.start < cases;
        assert!(is_needed, "this row explains nothing: {}", row.reason);
    }
}

/// Whether two readings agree. Reasons for a rejection may depend on the pieces: a limit can be reached before a fault.
fn same(one: &Outcome, other: &Outcome) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (one, other) => one.is_err() && other.is_err(),
    }
}

/// Ends of one to nine pieces, in ascending order; the last is `length`.
fn cuts(random: &mut Random, length: usize) -> Vec<usize> {
    let mut ends: Vec<_> = (0..random.below(9)).map(|_| random.below(length + 1)).collect();
    ends.push(length);
    ends.sort_unstable();
    ends
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Limits of a request's head: mostly the default, sometimes so small that ordinary lines reach them.
fn limits(random: &mut Random) -> HeadLimits {
    match random.below(8) {
        0 => HeadLimits { line_bytes: 12 + random.below(60), head_bytes: 20 + random.below(300) },
        _ => HeadLimits::default(),
    }
}
