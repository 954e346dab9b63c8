//! `tidegate-bench-node`: instructions that the proxy's worker thread executes per request, for two builds in one run.
//!
//! The release build runs under callgrind with one worker. Requests go over one client connection, one at a time. The
//! program sends N requests and then 2N; the difference of the two counts, divided by N, is the cost of a request
//! without start, warm-up and dump. With one request under way, a poll of the worker returns one event, so counts repeat.
//! Rejected: a client and a backend that act only while the worker sleeps in its poll. The spread of three runs was the
//! same (0.03 % for `plain`, 0.9 % for `h2`), and beside four other busy processes the runs took over twice as long.
#![allow(clippy::print_stdout)]

mod callgrind;
mod client;
mod options;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_bench::peer::{Gateway, Peer, Setup, Tls, free, tidegate};
use tidegate_bench::wire::Wire;
use tidegate_bench::work::{Kind, Work};
use tidegate_bench::{Outcome, cpu};

use crate::callgrind::{Callgrind, Counts};
use crate::client::Client;
use crate::options::{Options, USAGE};
use crate::table::{Count, Row};

pub const WORKS: [Work; 5] = [
    Work { name: "plain", title: "plain route", kind: Kind::Plain, answer_len: 1024, connections: 1 },
    Work { name: "limited", title: "key-auth + rate-limiting", kind: Kind::Limited, answer_len: 1024, connections: 1 },
    Work { name: "h2", title: "TLS + HTTP/2", kind: Kind::Http2, answer_len: 1024, connections: 1 },
    Work { name: "upload", title: "POST of 4 KiB", kind: Kind::Upload(4096), answer_len: 1024, connections: 1 },
    Work {
        name: "chunked",
        title: "POST of 64 KiB in chunks of 16 KiB",
        kind: Kind::ChunkedUpload(64 * 1024),
        answer_len: 1024,
        connections: 1,
    },
];

/// Longest start under callgrind.
const START_MAX: Duration = Duration::from_secs(120);

fn main() -> Outcome<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = Options::read(&words)? else {
        println!("{USAGE}");
        return Ok(ExitCode::SUCCESS);
    };
    cpu::pin_to(1)?;
    let mut builds = vec![tidegate::find("now", options.binary.clone())?];
    if let Some(before) = &options.before {
        builds.insert(0, tidegate::find("before", Some(before.clone()))?);
    }
    println!(
        "{}; {} and {} requests after {} to warm up, {} runs of each build, interleaved",
        callgrind::version()?,
        options.requests,
        2 * options.requests,
        options.requests,
        options.runs
    );
    let mut rows = Vec::new();
    for work in WORKS.iter().filter(|work| options.works.iter().any(|name| name == work.name)) {
        if work.kind == Kind::Http2 && client::h2load().is_none() {
            println!("h2load is not installed (nghttp2-client): {} is left out.", work.name);
            continue;
        }
        let mut row = Row { work: work.name, builds: builds.iter().map(|_| Vec::new()).collect() };
        for run in 0..options.runs {
            for (build, counts) in builds.iter().zip(&mut row.builds) {
                let kept = options.keep.as_ref().map(|keep| keep.join(format!("{}-{}-{run}", work.name, build.name)));
                let count = count(build, work, options.requests, kept.as_deref());
                counts.push(count.map_err(|error| format!("{}, build {}: {error}", work.name, build.name))?);
            }
        }
        println!("{}", row.progress());
        rows.push(row);
    }
    Ok(if table::print(&rows) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts a build under callgrind, sends the requests of one work, and returns instructions per request. The worker's
/// profile of the last 2N requests is copied to `kept`.
fn count(build: &Peer, work: &Work, requests: usize, kept: Option<&Path>) -> Outcome<Count> {
    let mut wire = Wire::open(work.answer_len)?;
    let (gateway, callgrind) = start(build, work, wire.backend)?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let backend = scope.spawn(|| {
            let served = wire.serve_until(|| Ok(over.load(Ordering::Relaxed)));
            served.map_err(|error| error.to_string())
        });
        let counted = exchange(gateway, &callgrind, work, requests, kept);
        over.store(true, Ordering::Relaxed);
        backend.join().map_err(|_| "the backend panicked")??;
        counted
    })
}

/// Starts a build under callgrind. It may not listen yet when this returns.
fn start(build: &Peer, work: &Work, backend: std::net::SocketAddr) -> Outcome<(Gateway, Callgrind)> {
    let folder = tempfile::tempdir()?;
    let address = free()?;
    let tls = (work.kind == Kind::Http2).then(|| Tls::make(folder.path())).transpose()?;
    let setup = Setup { folder: folder.path(), address, tls: tls.as_ref(), backend, work };
    let command = (build.prepare)(&build.program, &setup)?;
    let prefix = folder.path().join("counts");
    let command = callgrind::under(&command, &prefix);
    let gateway = Gateway::launch(&command, folder, address, tls.map(|tls| tls.address))?;
    let callgrind = Callgrind::of(gateway.pid(), prefix);
    Ok((gateway, callgrind))
}

/// Sends all requests and counts the last 3N. The gateway ends when this returns.
fn exchange(
    mut gateway: Gateway,
    callgrind: &Callgrind,
    work: &Work,
    requests: usize,
    kept: Option<&Path>,
) -> Outcome<Count> {
    wait_until_it_listens(&mut gateway)?;
    let request = work.requests().swap_remove(0);
    let mut client = Client::connect(&gateway, request)?;
    let failed = |error| format!("{error}; the node's log:\n{}", gateway.log());
    client.send(1).map_err(failed)?;
    callgrind.dump()?;
    client.send(requests).map_err(failed)?;
    // The thread that the warm-up made busiest is the worker: its name and number are the build's own affair.
    let worker = callgrind.dump()?.busiest().ok_or("callgrind wrote no counts")?;
    client.send(requests).map_err(failed)?;
    let once = callgrind.dump()?;
    client.send(2 * requests).map_err(failed)?;
    let twice = callgrind.dump()?;
    if let Some(kept) = kept {
        callgrind.keep(&twice, worker, kept)?;
    }
    let more = |pick: &dyn Fn(&Counts) -> u64| (pick(&twice) as f64 - pick(&once) as f64) / requests as f64;
    let worker_each = more(&|counts| counts.of(worker));
    if worker_each <= 0.0 {
        return Err("twice the requests took no more instructions than once".into());
    }
    Ok(Count { worker: worker_each, others: more(&|counts| counts.total() - counts.of(worker)) })
}

fn wait_until_it_listens(gateway: &mut Gateway) -> Outcome<()> {
    let begun = Instant::now();
    while std::net::TcpStream::connect(gateway.tls.unwrap_or(gateway.address)).is_err() {
        if begun.elapsed() > START_MAX || gateway.has_ended() {
            return Err(format!("the node does not start; its log:\n{}", gateway.log()).into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
