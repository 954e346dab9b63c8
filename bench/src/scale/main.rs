//! `tidegate-bench-scale`: memory per connection, route and consumer, and requests while a large configuration changes.
//!
//! The node has one worker on the first core, all its other threads there too; load and backend are on the second. So a
//! rebuild that takes the worker's core shows, as it would on the smallest machine that is rented. Memory is the resident
//! size of the process after its first requests; what an entity or a connection costs is the difference of two of those.
#![allow(clippy::print_stdout)]

mod client;
mod idle;
mod node;
mod reload;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tidegate_bench::wire::Wire;
use tidegate_bench::{Outcome, cpu};

use crate::node::{Node, Size, Store};
use crate::table::{Memory, Reload};

const USAGE: &str = "\
usage: tidegate-bench-scale [--quick] [--only PARTS] [--rounds N] [--tidegate PROGRAM]

  --quick              a tenth of everything
  --only PARTS         of idle,entities,reload (default: all)
  --rounds N           reloads of each kind, of which the median counts (default: 5)
  --tidegate PROGRAM   the build to measure (default: the one beside this program)

The exit code is 1 when a bound does not hold.";

/// The goal for a node of 10,000 routes under key-auth and rate-limiting, in MB.
const RESIDENT_MAX_MB: f64 = 30.0;

/// Idle clients in each measurement.
const IDLE: usize = 10_000;
const IDLE_TLS: usize = 1_000;
/// The goals for the memory that one idle client adds to a node, in bytes.
const IDLE_MAX_BYTES: f64 = 12_000.0;
const IDLE_TLS_MAX_BYTES: f64 = 20_000.0;

const PARTS: [&str; 3] = ["idle", "entities", "reload"];

struct Options {
    program: PathBuf,
    /// Everything is divided by it.
    part: usize,
    only: Option<Vec<String>>,
    rounds: usize,
}

fn main() -> Outcome<ExitCode> {
    let Some(options) = options()? else {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    cpu::pin_to(1)?;
    let wanted = |part: &str| options.only.as_ref().is_none_or(|only| only.iter().any(|name| name == part));
    let mut holds = true;
    if wanted("idle") {
        for (what, count, tls, bytes_max) in [
            ("idle HTTP/1.1 clients", IDLE, false, IDLE_MAX_BYTES),
            ("idle HTTP/1.1 clients, TLS 1.3", IDLE_TLS, true, IDLE_TLS_MAX_BYTES),
        ] {
            let memory = idle::measure(&options.program, count / options.part, tls)?;
            holds &= memory.print_bound(what, bytes_max);
        }
    }
    if wanted("entities") {
        holds &= entities(&options.program, options.part)?;
    }
    if wanted("reload") {
        let routes = 100_000 / options.part;
        let kinds = [format!("POST /config, {routes} routes"), format!("a route of {routes}")];
        let mut rounds: [Vec<Reload>; 2] = Default::default();
        for _ in 0..options.rounds {
            let reloads = [reload::whole(&options.program, routes)?, reload::single(&options.program, routes)?];
            for ((kind, rounds), reload) in kinds.iter().zip(&mut rounds).zip(reloads) {
                reload.print(kind);
                rounds.push(reload);
            }
        }
        for (kind, rounds) in kinds.iter().zip(&rounds) {
            holds &= table::print_median(kind, rounds);
        }
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options() -> Outcome<Option<Options>> {
    let (mut program, mut part, mut only, mut rounds) = (None, 1, None, 5);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value\n\n{USAGE}"));
        match word.as_str() {
            "--quick" => part = 10,
            "--only" => only = Some(value()?.split(',').map(str::to_owned).collect()),
            "--rounds" => rounds = value()?.parse::<usize>()?.max(1),
            "--tidegate" => program = Some(PathBuf::from(value()?)),
            "--help" | "-h" => return Ok(None),
            other => return Err(format!("unknown option {other}\n\n{USAGE}").into()),
        }
    }
    if let Some(unknown) = only.iter().flatten().find(|part: &&String| !PARTS.contains(&part.as_str())) {
        return Err(format!("there is no part {unknown}\n\n{USAGE}").into());
    }
    Ok(Some(Options { program: node::program(program)?, part, only, rounds }))
}

fn entities(program: &Path, part: usize) -> Outcome<bool> {
    let before_kb = resident_kb(program, Size::default())?;
    for routes in [10_000 / part, 100_000 / part] {
        let after_kb = resident_kb(program, Size { routes, ..Size::default() })?;
        Memory { count: routes, before_kb, after_kb }.print("routes");
    }
    let consumers = 100_000 / part;
    let after_kb = resident_kb(program, Size { consumers, ..Size::default() })?;
    Memory { count: consumers, before_kb, after_kb }.print("consumers, each with a key");
    let kb = resident_kb(program, Size { routes: 10_000, guarded: true, ..Size::default() })?;
    Ok(table::print_resident("10,000 routes, key-auth + rate-limiting", kb, RESIDENT_MAX_MB))
}

fn resident_kb(program: &Path, size: Size) -> Outcome<u64> {
    let mut wire = Wire::open(node::ANSWER_LEN)?;
    let (node, _) = Node::start(program, Store::Off, false, &node::configuration(size, wire.backend, "a"))?;
    node.warm_up(&mut wire)?;
    Ok(node.gateway.resident_kb())
}
