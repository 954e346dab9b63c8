//! Counts instructions: this program again, under callgrind, with a number of rounds and with twice that number.
//!
//! The environment is emptied, for its size moves the stack, and addresses are where the hash tables' seeds come from.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::Outcome;
use crate::work::{WORKS, Work};

/// What the program is called with to run a work's rounds: the work's name and a number follow.
pub const ROUNDS: &str = "rounds";

/// `valgrind-3.19.0`; a sentence when there is none.
pub fn version() -> Outcome<String> {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output.map_err(|error| {
        format!("valgrind cannot be run ({error}); `apt-get install valgrind`, and nothing is counted without it")
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Instructions an operation.
pub fn count(work: &Work) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let once = total(folder.path(), work, work.rounds)?;
    let twice = total(folder.path(), work, 2 * work.rounds)?;
    let more = twice.checked_sub(once).ok_or("twice the rounds took fewer instructions")?;
    Ok(more as f64 / (work.rounds * work.operations) as f64)
}

/// In the process that is counted.
pub fn run_rounds(name: Option<&str>, rounds: Option<&str>) -> Outcome<ExitCode> {
    let work = WORKS.iter().find(|work| Some(work.name) == name).ok_or("no such work")?;
    let rounds: u64 = rounds.ok_or("how many rounds?")?.parse()?;
    let mut round = (work.prepare)()?;
    (0..rounds).for_each(|_| round());
    // What was prepared and made is left to the system: freeing it is no part of the work.
    std::mem::forget(round);
    Ok(ExitCode::SUCCESS)
}

fn total(folder: &Path, work: &Work, rounds: u64) -> Outcome<u64> {
    let file = folder.join("counts");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe()?)
        .args([ROUNDS, work.name, &rounds.to_string()])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdout(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("{}: {}", work.name, String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = std::fs::read_to_string(&file)?;
    totals(&text).ok_or_else(|| "callgrind told no total".into())
}

/// The sum at the end of what callgrind wrote.
fn totals(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_stands_at_the_end() {
        assert_eq!(totals("events: Ir\nsummary: 7\nfn=(0)\n16 3\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
