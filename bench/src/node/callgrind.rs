//! A process under callgrind: how it is started, and the counts of its threads between two dumps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_bench::Outcome;

/// A process that runs under callgrind.
pub struct Callgrind {
    pid: u32,
    /// Path that the names of all dumps begin with.
    prefix: PathBuf,
}

/// Instructions by callgrind's number of the thread, since the dump before.
#[derive(Debug, PartialEq, Eq)]
pub struct Counts {
    /// Number of the dump, from 1.
    part: usize,
    threads: BTreeMap<u32, u64>,
}

/// Returns for example `valgrind-3.19.0`. An error: valgrind cannot be run.
pub fn version() -> Outcome<String> {
    let output = Command::new("valgrind").arg("--version").output();
    let output = output.map_err(|error| format!("valgrind cannot be run ({error}); `apt-get install valgrind`"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command under callgrind, with an environment that contains the command's own variables and `PATH` only: the
/// environment's size moves the stack.
pub fn under(command: &Command, prefix: &Path) -> Command {
    let mut under = Command::new("env");
    under.arg("-i").arg(format!("PATH={}", std::env::var("PATH").unwrap_or_default()));
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            under.arg(format!("{}={}", name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    under.args(["valgrind", "--tool=callgrind", "--separate-threads=yes"]);
    under.arg(format!("--callgrind-out-file={}", prefix.display()));
    under.arg(command.get_program()).args(command.get_args());
    under
}

impl Callgrind {
    pub fn of(pid: u32, prefix: PathBuf) -> Callgrind {
        Callgrind { pid, prefix }
    }

    /// Lets callgrind write its counts, and returns them; counting begins anew at 0.
    pub fn dump(&self) -> Outcome<Counts> {
        let parts = |read: &[Counts]| read.iter().map(|counts| counts.part).max().unwrap_or(0);
        let before = parts(&self.read()?);
        let output = Command::new("vgdb").arg(format!("--pid={}", self.pid)).arg("dump").output()?;
        if !output.status.success() {
            return Err(format!("vgdb: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let read = self.read()?;
        let last = parts(&read);
        if last <= before {
            return Err("callgrind wrote no dump".into());
        }
        read.into_iter().find(|counts| counts.part == last).ok_or_else(|| "callgrind wrote no dump".into())
    }

    /// Copies a thread's profile of one dump, for `callgrind_annotate`.
    pub fn keep(&self, counts: &Counts, thread: u32, to: &Path) -> Outcome<()> {
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(format!("{}.{}-{thread:02}", self.prefix.display(), counts.part), to)?;
        Ok(())
    }

    /// Reads all dumps so far.
    fn read(&self) -> Outcome<Vec<Counts>> {
        let mut parts: BTreeMap<usize, BTreeMap<u32, u64>> = BTreeMap::new();
        let folder = self.prefix.parent().unwrap_or(Path::new("."));
        for file in std::fs::read_dir(folder)? {
            let path = file?.path();
            let Some((part, thread)) = path.to_str().and_then(|path| numbers(path, &self.prefix)) else { continue };
            let total = total(&std::fs::read_to_string(&path)?).ok_or("a dump of callgrind without a total")?;
            parts.entry(part).or_default().insert(thread, total);
        }
        Ok(parts.into_iter().map(|(part, threads)| Counts { part, threads }).collect())
    }
}

impl Counts {
    /// The thread with most instructions.
    pub fn busiest(&self) -> Option<u32> {
        self.threads.iter().max_by_key(|(_, count)| **count).map(|(thread, _)| *thread)
    }

    /// A thread's instructions; 0 when callgrind wrote none for it.
    pub fn of(&self, thread: u32) -> u64 {
        self.threads.get(&thread).copied().unwrap_or(0)
    }

    pub fn total(&self) -> u64 {
        self.threads.values().sum()
    }
}

/// Numbers of dump and thread in a file's name: `counts.2-03`.
fn numbers(path: &str, prefix: &Path) -> Option<(usize, u32)> {
    let (part, thread) = path.strip_prefix(prefix.to_str()?)?.strip_prefix('.')?.split_once('-')?;
    Some((part.parse().ok()?, thread.parse().ok()?))
}

fn total(text: &str) -> Option<u64> {
    text.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_known_by_its_name_and_ends_with_its_total() {
        let prefix = Path::new("/tmp/a/counts");
        assert_eq!(numbers("/tmp/a/counts.12-03", prefix), Some((12, 3)));
        assert_eq!(numbers("/tmp/a/counts", prefix), None);
        assert_eq!(numbers("/tmp/a/log", prefix), None);
        assert_eq!(total("summary: 7\nfn=(0)\n16 3\n\ntotals: 1234\n"), Some(1234));
    }

    #[test]
    fn the_busiest_thread_has_most_instructions() {
        let counts = Counts { part: 1, threads: [(1, 5), (2, 9), (7, 3)].into() };
        assert_eq!((counts.busiest(), counts.of(7), counts.of(8), counts.total()), (Some(2), 3, 0, 17));
    }
}
