//! One node per prefix: a lock on `pids/tidegate.pid`, held by the kernel while the process lives.
//!
//! Kong looks whether a process with the written number exists; in a container that number is often 1 and always does.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The claim on a prefix; ends with the process.
#[derive(Debug)]
pub struct Claim {
    _file: File,
}

/// Makes the prefix and claims it. The error is the sentence for the user.
pub fn claim(prefix: &Path) -> Result<Claim, String> {
    let path = pid_file(prefix);
    let failed = |error: &io::Error| format!("cannot use the prefix {}: {error}", prefix.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    let mut file = open(&path).map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(format!("tidegate is already running in {}", prefix.display())),
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(|error| failed(&error))?;
    Ok(Claim { _file: file })
}

/// The process number of the node that runs in `prefix`.
pub fn running(prefix: &Path) -> Option<u32> {
    let mut file = OpenOptions::new().read(true).open(pid_file(prefix)).ok()?;
    if !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        return None;
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Sends `signal` (`TERM`, `HUP`). By the shell: it needs no unsafe code and no dependency.
pub fn signal(pid: u32, signal: &str) -> io::Result<()> {
    let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {pid}")).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("kill -{signal} {pid} failed"))) }
}

fn pid_file(prefix: &Path) -> PathBuf {
    prefix.join("pids").join("tidegate.pid")
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_node() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(running(folder.path()), None);
        let held = claim(folder.path()).unwrap();
        assert_eq!(running(folder.path()), Some(std::process::id()));
        let again = claim(folder.path()).unwrap_err();
        assert!(again.starts_with("tidegate is already running in "), "{again}");
        drop(held);
        assert_eq!(running(folder.path()), None);
        claim(folder.path()).unwrap();
    }
}
