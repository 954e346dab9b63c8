//! `cargo run --release -p tidegate-bench`: CPU per proxied request, beside nginx, on the same backend in the same run.
//!
//! Each gateway gets one worker on one core; the load and the backend share the other, so that they cannot steal from
//! what is measured. Rounds are interleaved and ratios are taken round by round, because these machines drift. CPU is
//! what the kernel charged the gateway's processes, user and system, divided by the requests that were answered.
#![allow(clippy::print_stdout)]

mod backend;
mod cpu;
mod gateway;
mod load;

use std::error::Error;

use crate::gateway::Gateway;

/// Keep-alive connections of the load.
const CONNECTIONS: usize = 64;
/// Answered requests per measurement.
const REQUESTS: usize = 40_000;
const ROUNDS: usize = 7;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A work that is compared: its name, and what a request of it looks like.
struct Work {
    name: &'static str,
    path: &'static str,
    headers: &'static str,
}

const WORKS: [Work; 2] = [
    Work { name: "plain route", path: "/plain/x", headers: "" },
    Work { name: "key-auth + rate-limiting", path: "/limited/x", headers: "apikey: bench-key\r\n" },
];

fn main() -> Outcome<()> {
    cpu::pin_to(1)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(compare())
}

async fn compare() -> Outcome<()> {
    let backend = backend::start().await?;
    let nginx = Gateway::nginx(backend).await?;
    let tidegate = Gateway::tidegate(backend).await?;
    println!("{CONNECTIONS} connections, {REQUESTS} requests a measurement, {ROUNDS} rounds, answers of 1 KiB");
    println!(
        "{:<26} {:>14} {:>14} {:>24} {:>9} {:>9}",
        "work", "nginx us/req", "tidegate us/req", "ratio (min-max)", "rps", "failed"
    );
    for work in &WORKS {
        let mut rounds = Vec::new();
        measure(&nginx, work, REQUESTS / 4).await?;
        measure(&tidegate, work, REQUESTS / 4).await?;
        for _ in 0..ROUNDS {
            rounds.push((measure(&nginx, work, REQUESTS).await?, measure(&tidegate, work, REQUESTS).await?));
        }
        print_row(work, &rounds);
    }
    println!("resident: nginx {} kB, tidegate {} kB", nginx.resident_kb(), tidegate.resident_kb());
    Ok(())
}

/// One measurement of one gateway.
#[derive(Clone, Copy)]
struct Measured {
    cpu_us: f64,
    rps: f64,
    failed: usize,
}

async fn measure(gateway: &Gateway, work: &Work, requests: usize) -> Outcome<Measured> {
    let request =
        format!("GET {} HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\n{}\r\n", work.path, work.headers);
    let before = gateway.cpu_us();
    let done = load::run(gateway.address, request.into_bytes(), CONNECTIONS, requests).await?;
    let cpu_us = gateway.cpu_us() - before;
    Ok(Measured {
        cpu_us: cpu_us / done.answered as f64,
        rps: done.answered as f64 / done.seconds,
        failed: done.failed,
    })
}

fn print_row(work: &Work, rounds: &[(Measured, Measured)]) {
    let of = |pick: &dyn Fn(&(Measured, Measured)) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        (values[values.len() / 2], values[0], values[values.len() - 1])
    };
    let (nginx, _, _) = of(&|round| round.0.cpu_us);
    let (tidegate, _, _) = of(&|round| round.1.cpu_us);
    let (ratio, least, most) = of(&|round| round.1.cpu_us / round.0.cpu_us);
    let (rps, _, _) = of(&|round| round.1.rps);
    let failed: usize = rounds.iter().map(|round| round.0.failed + round.1.failed).sum();
    let ratio = format!("{ratio:.2} ({least:.2}-{most:.2})");
    println!("{:<26} {nginx:>14.1} {tidegate:>14.1} {ratio:>24} {rps:>9.0} {failed:>9}", work.name);
}
