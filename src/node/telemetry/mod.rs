//! The error log: `tracing` events with Kong's level words, at a level that can change while running.
//!
//! Lines go to a thread of their own (`error_log`), so that a blocked terminal never blocks a request. Kong has eight
//! levels and `tracing` five: `notice` and `info` show the same, and so do `error` and what is above it.

mod error_log;
mod line;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::admin::LogLevel;
use crate::node::settings::general::Logs;
use crate::node::telemetry::error_log::ErrorLog;
use crate::node::telemetry::line::KongLine;

/// What the rest of the node holds of the error log.
pub struct Telemetry {
    log: ErrorLog,
    pub level: Arc<Level>,
}

/// The level, and what it goes back to.
pub struct Level {
    filter: reload::Handle<Targets, Registry>,
    configured: String,
    now: Mutex<Now>,
    runtime: Handle,
}

struct Now {
    level: String,
    /// Counts changes, so that an old timer does not end a newer change.
    change: u64,
}

/// Installs the error log for this process. `runtime` runs the timers of `Level::set`.
pub fn install(logs: &Logs, runtime: Handle) -> Result<Telemetry, String> {
    let log = ErrorLog::open(logs.error.clone()).map_err(|error| error.to_string())?;
    let (filter, handle) = reload::Layer::new(targets(&logs.level));
    let lines = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
    let lines = if logs.json { lines.json().boxed() } else { lines.event_format(KongLine).boxed() };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| format!("cannot install the error log: {error}"))?;
    log_panics();
    let now = Mutex::new(Now { level: logs.level.clone(), change: 0 });
    Ok(Telemetry { log, level: Arc::new(Level { filter: handle, configured: logs.level.clone(), now, runtime }) })
}

/// What a short command logs: warnings, and with `--v` or `--vv` more, on stderr.
pub fn install_for_command(verbosity: u8) {
    let level = ["warn", "info", "debug"][usize::from(verbosity.min(2))];
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).event_format(KongLine);
    // Nothing else installs one in a command; without it there would only be less to read.
    let _ = tracing_subscriber::registry().with(targets(level)).with(lines).try_init();
}

impl Telemetry {
    /// Opens the file again (SIGHUP after rotation).
    pub fn reopen(&self) {
        self.log.reopen();
    }

    /// Writes out what is queued; at most `limit` long. Blocks the calling thread.
    pub fn flush(&self, limit: Duration) {
        self.log.flush(limit);
    }
}

impl Level {
    fn change_to(&self, level: &str) -> u64 {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.filter.reload(targets(level)) {
            tracing::error!(%error, "the log level stays as it is");
            return now.change;
        }
        level.clone_into(&mut now.level);
        now.change += 1;
        now.change
    }

    fn is_still(&self, change: u64) -> bool {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).change == change
    }
}

impl LogLevel for Arc<Level> {
    fn current(&self) -> String {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).level.clone()
    }

    fn set(&self, level: &str, hold: Duration) {
        let change = self.change_to(level);
        let this = self.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(hold).await;
            if this.is_still(change) {
                this.change_to(&this.configured);
            }
        });
    }
}

/// Ours at `level`; what libraries say only from a warning on.
fn targets(level: &str) -> Targets {
    let (ours, theirs) = match level {
        "debug" => (LevelFilter::DEBUG, LevelFilter::INFO),
        "warn" => (LevelFilter::WARN, LevelFilter::WARN),
        "error" | "crit" | "alert" | "emerg" => (LevelFilter::ERROR, LevelFilter::ERROR),
        _ => (LevelFilter::INFO, LevelFilter::WARN),
    };
    Targets::new().with_default(theirs).with_target("tidegate", ours)
}

/// A panic ends its task only; it must not go unseen.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(thread = thread.name().unwrap_or("unnamed"), place, "panic: {what}");
    }));
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn check(level: &str, shown: &[(&str, Level)], hidden: &[(&str, Level)]) {
        let targets = targets(level);
        for (target, level) in shown {
            assert!(targets.would_enable(target, level), "{target} {level}");
        }
        for (target, level) in hidden {
            assert!(!targets.would_enable(target, level), "{target} {level}");
        }
    }

    #[test]
    fn libraries_are_quieter_than_we_are() {
        check("notice", &[("tidegate::node", Level::INFO), ("hyper", Level::WARN)], &[("hyper", Level::INFO)]);
        check("debug", &[("tidegate::node", Level::DEBUG)], &[("hyper", Level::DEBUG)]);
        check("crit", &[("tidegate", Level::ERROR)], &[("tidegate", Level::WARN)]);
    }
}
