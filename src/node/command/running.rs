//! Commands to a node that runs: `reload` and `stop`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::node::command::failure::Failure;
use crate::node::command::words::Invocation;
use crate::node::instance;
use crate::node::terminal::say;

/// Sends SIGHUP, on which the node reads its certificates again and opens its log files anew.
pub(crate) fn reload(prefix: &Path) -> Result<(), Failure> {
    let pid =
        instance::running(prefix).ok_or_else(|| format!("tidegate not running in prefix: {}", prefix.display()))?;
    instance::signal(pid, "HUP").map_err(|error| error.to_string())?;
    say("Tidegate reloaded its certificates and log files\n");
    Ok(())
}

/// Sends SIGTERM and waits until the node has drained; `--timeout` seconds at most.
pub(crate) fn stop(invocation: &Invocation, prefix: &Path) -> Result<(), Failure> {
    let seconds = seconds(invocation)?;
    let pid = instance::running(prefix).ok_or_else(|| format!("tidegate is not running in {}", prefix.display()))?;
    instance::signal(pid, "TERM").map_err(|error| error.to_string())?;
    await_end(prefix, pid, seconds)?;
    say("Tidegate stopped\n");
    Ok(())
}

/// `--timeout`, by default 40: over the node's own bound.
pub(crate) fn seconds(invocation: &Invocation) -> Result<u64, Failure> {
    let Some(text) = invocation.option("--timeout") else { return Ok(40) };
    text.parse().map_err(|_| format!("--timeout has an invalid value: '{text}' (seconds)").into())
}

/// Waits until the process `pid` has released the prefix, at most `seconds`.
pub(crate) fn await_end(prefix: &Path, pid: u32, seconds: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while instance::running(prefix) == Some(pid) {
        if Instant::now() >= deadline {
            return Err(format!("still draining after {seconds} s").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
