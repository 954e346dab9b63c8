//! Cores and CPU time, as the kernel has them.

use std::io;
use std::process::Command;

/// Ticks of `/proc/PID/stat` per second on Linux.
const TICKS_PER_S: f64 = 100.0;

/// Moves this process to one core.
pub fn pin_to(core: usize) -> io::Result<()> {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["-cp", &core.to_string(), &pid]).output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
    }
}

/// User and system time of a process and its children that run now, in microseconds.
pub fn spent_us(pid: u32) -> f64 {
    family(pid).into_iter().map(|pid| precise_us(pid).unwrap_or_else(|| ticks_us(pid))).sum()
}

/// Resident memory of a process and its children, in kB.
pub fn resident_kb(pid: u32) -> u64 {
    let one = |pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    family(pid).into_iter().map(one).sum()
}

fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut all = vec![pid];
    all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    all
}

/// Nanosecond accounting of every thread, where the kernel keeps it.
fn precise_us(pid: u32) -> Option<f64> {
    let mut sum = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        sum += text.split_whitespace().next()?.parse::<f64>().ok()? / 1_000.0;
    }
    Some(sum)
}

fn ticks_us(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        |place: usize| rest.split_whitespace().nth(place).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 1_000_000.0 / TICKS_PER_S
}
