//! The load over TLS and HTTP/2: `h2load` of the distribution's `nghttp2-client`, on the core of the backend.
//!
//! Its log has a line per request, from which failures and percentiles are counted the way our own load counts them.
//! With a rate, each of its connections sends at its share of it; a request is timed from when it was sent, so that
//! waiting in the load itself does not show. Writing the log is the load's work and charged to nobody else.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_bench::Outcome;
use tidegate_bench::peer::on_path;
use tidegate_bench::wire::{Done, Wire};

/// What is asked of it.
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    /// Requests under way on each connection.
    pub streams: usize,
    pub rate: Option<f64>,
    pub lasts: Duration,
}

pub fn find() -> Option<PathBuf> {
    on_path("h2load")
}

/// Runs it to its end, and serves the backend meanwhile.
pub fn send(program: &Path, load: &Load, wire: &mut Wire) -> Outcome<Done> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("requests");
    let mut command = Command::new("nice");
    // The backend, on the same core, goes first: else its answers wait for the load, and percentiles would tell that.
    command.args(["-n", "10", "taskset", "-c", "1"]).arg(program).arg(format!("--clients={}", load.connections));
    command.arg(format!("--max-concurrent-streams={}", load.streams)).arg(format!("--log-file={}", log.display()));
    let seconds = load.lasts.as_secs_f64();
    if let Some(rate) = load.rate {
        command.arg(format!("--rps={:.3}", rate / load.connections as f64));
    }
    // It takes whole seconds.
    command.arg(format!("--duration={}", seconds.ceil().max(1.0)));
    command.arg(format!("https://{}/plain/x", load.address));
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wire.serve_until(|| Ok(child.try_wait()?.is_some()))?;
    let ran = begun.elapsed().as_secs_f64();
    read(&std::fs::read_to_string(log)?, ran)
}

/// Lines of start (microseconds), status and duration (microseconds), apart by tabs.
fn read(log: &str, ran_s: f64) -> Outcome<Done> {
    let mut done = Done { seconds: ran_s, ..Done::default() };
    let (mut first, mut last) = (u64::MAX, 0);
    for line in log.lines() {
        let mut words = line.split('\t');
        let (Some(start), Some(status), Some(took)) = (words.next(), words.next(), words.next()) else { continue };
        let (start, took): (u64, u64) = (start.parse()?, took.parse()?);
        first = first.min(start);
        last = last.max(start + took);
        if status == "200" {
            done.answered += 1;
            done.took_us.push(u32::try_from(took).unwrap_or(u32::MAX));
        } else {
            done.failed += 1;
        }
    }
    if last > first {
        done.seconds = (last - first) as f64 / 1e6;
    }
    done.took_us.sort_unstable();
    Ok(done)
}
