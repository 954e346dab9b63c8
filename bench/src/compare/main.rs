//! `tidegate-bench-compare`: CPU per proxied request beside other gateways, on the same backend in the same run.
//!
//! Each gateway gets one worker on one core; the load and the backend share the other, so that they cannot steal from
//! what is measured. Rounds are interleaved and ratios are taken round by round, because these machines drift. CPU is
//! what the kernel charged the gateway's processes, user and system, divided by the requests that were answered. Running
//! each gateway's rounds in a block lost: a neighbour's build in one block looks like a slower gateway. So did one process
//! for all rounds: where its memory happens to lie makes a process up to a tenth faster or slower than its twin, for as
//! long as it lives.
#![allow(clippy::print_stdout)]

mod h2load;
mod options;
mod record;
mod round;
mod table;

use std::time::Duration;

use tidegate_bench::peer::{self, Peer};
use tidegate_bench::wire::Wire;
use tidegate_bench::work::{Kind, WORKS, Work};
use tidegate_bench::{Outcome, cpu};

use crate::options::{Options, USAGE};
use crate::record::Record;
use crate::round::{Measured, Sender};
use crate::table::Row;

/// `None`: not installed here.
type Finder = fn() -> Option<Peer>;

/// Each gateway is started anew for each round, and warmed up for this share of a measurement.
const WARM_UP: f64 = 0.5;
/// What is sent for percentiles, as a share of what nginx can answer.
const SHARE: f64 = 0.5;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = Options::read(&words)? else {
        println!("{USAGE}");
        return Ok(());
    };
    cpu::pin_to(1)?;
    let peers = peers(&options)?;
    let named: Vec<_> = peers.iter().map(|peer| (peer.name.clone(), peer.version.clone())).collect();
    let mut record = Record::create(&options.runs, &words, &named)?;
    println!("{} rounds, {:?} a measurement; raw results in {}", options.rounds, options.lasts, record.path.display());
    for (name, version) in named {
        println!("  {name}: {version}");
    }
    for work in WORKS.iter().filter(|work| options.works.iter().any(|name| name == work.name)) {
        compare(work, &peers, &options, &mut record)?;
    }
    Ok(())
}

/// Those wanted and installed, nginx first: ratios are taken to the first.
fn peers(options: &Options) -> Outcome<Vec<Peer>> {
    let finders: [(&str, Finder); 5] = [
        ("nginx", peer::nginx::find),
        ("haproxy", peer::haproxy::find),
        ("caddy", peer::caddy::find),
        ("envoy", peer::envoy::find),
        ("pingora", peer::pingora::find),
    ];
    let wanted = |name: &str| options.peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer == name));
    let mut peers = Vec::new();
    for (name, find) in finders.into_iter().filter(|(name, _)| wanted(name)) {
        match find() {
            Some(peer) => peers.push(peer),
            None => println!("{name} is not installed here and left out; bench/README.md says how to get it."),
        }
    }
    if wanted("tidegate") {
        peers.push(peer::tidegate::find("tidegate", options.tidegate.clone())?);
    }
    if let Some(before) = &options.before {
        peers.push(peer::tidegate::find("before", Some(before.clone()))?);
    }
    Ok(peers)
}

/// All rounds of one work, and its table. A peer that fails here is left out of the work.
fn compare(work: &Work, peers: &[Peer], options: &Options, record: &mut Record) -> Outcome<()> {
    let h2load = h2load::find();
    println!("\n{} ({}; {} connections)", work.title, work.name, work.connections);
    if work.kind == Kind::Http2 && h2load.is_none() {
        println!("h2load is not installed (nghttp2-client): left out.");
        return Ok(());
    }
    let mut wire = Wire::open(work.answer_len)?;
    work.set_answer(&mut wire);
    let sender = Sender { work, requests: work.requests(), h2load: h2load.as_deref() };
    let mut entrants: Vec<_> = peers.iter().map(|peer| (peer, Row { name: &peer.name, rounds: Vec::new() })).collect();
    let mut rate = None;
    for round in 0..options.rounds {
        let mut going = Vec::new();
        for (peer, mut row) in entrants {
            match play(peer, &sender, &mut rate, options.lasts, &mut wire) {
                Ok(measured) => {
                    record.measured(work.name, &peer.name, round, rate, &measured)?;
                    row.rounds.push(measured);
                    going.push((peer, row));
                }
                Err(error) => println!("{} is left out: {error}", peer.name),
            }
        }
        entrants = going;
    }
    let rows: Vec<_> = entrants.into_iter().map(|(_, row)| row).collect();
    println!(
        "percentiles at {:.0} requests/s; load and backend: {:.1} us/req",
        rate.unwrap_or_default(),
        load_us(&rows)
    );
    table::print(&rows);
    Ok(())
}

/// Starts, warms up and measures. The first warm-up of all tells the rate for percentiles.
fn play(
    peer: &Peer,
    sender: &Sender<'_>,
    rate: &mut Option<f64>,
    lasts: Duration,
    wire: &mut Wire,
) -> Outcome<Measured> {
    let gateway = peer.start(sender.work, wire)?;
    let done = sender.send(&gateway, None, lasts.mul_f64(WARM_UP), wire)?;
    if done.failed > 0 || done.answered == 0 {
        return Err(format!("{} requests failed in the warm-up, {} did not", done.failed, done.answered).into());
    }
    let rate = *rate.get_or_insert((done.answered as f64 / done.seconds * SHARE).round());
    sender.measure(&gateway, rate, lasts, wire)
}

fn load_us(rows: &[Row<'_>]) -> f64 {
    rows.first().and_then(|row| row.rounds.first()).map_or(f64::NAN, |round| round.load_us)
}
