//! One region of a demo, seen from the process that started it.
//!
//! A region runs in a process group of its own, so that Ctrl-C in a terminal reaches the demo alone, which then ends its
//! regions in order. It ends when its stdin does: the kernel closes the other end however this process dies.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::node::demo::ports::Ports;

/// The settings file of a region, in its folder.
pub const SETTINGS: &str = "tidegate.conf";
const LOG: &str = "log";
/// What is read of the end of a log, and shown of it.
const LOG_BYTES_MAX: u64 = 16 << 10;
const LOG_LINES_MAX: usize = 12;
/// Variables that would speak to a node of this machine, not to the demo's.
const FOREIGN: [&str; 3] = ["TIDEGATE_", "KONG_", "FLY_"];

/// A region and its process.
pub struct Region {
    pub ports: Ports,
    folder: PathBuf,
    child: Option<Child>,
}

impl Region {
    /// One that does not run yet, with a folder of its own below that of the demo.
    pub fn plan(ports: Ports, folder: &Path) -> Self {
        Self { ports, folder: folder.join(ports.name), child: None }
    }

    /// Starts the process; it takes a moment until it serves.
    pub fn start(&mut self, seeds: &[SocketAddr], secret: &str) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", self.ports.name);
        fs::create_dir(&self.folder).map_err(failed)?;
        fs::write(self.folder.join(SETTINGS), settings(&self.ports, seeds, secret)).map_err(failed)?;
        let log = File::create(self.folder.join(LOG)).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(["demo", "--node"]).arg(&self.folder).process_group(0);
        for (name, _) in std::env::vars_os() {
            if FOREIGN.iter().any(|foreign| name.to_string_lossy().starts_with(foreign)) {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::piped()).stdout(log.try_clone().map_err(failed)?).stderr(log);
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What is to be told when the process has ended, once.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(format!("{} has ended ({status}). Its last lines:\n{}", self.ports.name, self.last_lines()))
    }

    /// The end of its log, indented.
    pub fn last_lines(&self) -> String {
        let text = end_of(&self.folder.join(LOG)).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_MAX)..];
        shown.iter().map(|line| format!("  | {line}\n")).collect()
    }

    /// Lets it drain; `await_end` has to follow.
    pub fn dismiss(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.stdin.take());
        }
    }

    /// Waits for the end of the process, and kills it when time is up.
    pub fn await_end(&mut self, deadline: Instant) {
        let Some(mut child) = self.child.take() else { return };
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The node's settings, all of them said, so that no file of this machine can add to them.
fn settings(ports: &Ports, seeds: &[SocketAddr], secret: &str) -> String {
    let Ports { name, proxy, admin, cluster } = ports;
    let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
    format!(
        "node_id = {name}\nregion = {name}\ndatabase = embedded\nproxy_listen = {proxy}\nadmin_listen = {admin}\n\
         status_listen = off\ncluster_listen = {cluster}\ncluster_advertise = {cluster}\ncluster_seeds = {}\n\
         cluster_secret = {secret}\nnginx_worker_processes = 1\nproxy_access_log = off\nadmin_access_log = off\n\
         drain_delay = 0\ndrain_timeout = 1\n",
        seeds.join(", ")
    )
}

fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::node::demo::ports;

    #[test]
    fn the_end_of_a_log_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let [fra, ..] = ports::pick().unwrap();
        let region = Region::plan(fra, folder.path());
        assert!(region.last_lines().contains("No such file"), "{}", region.last_lines());
        fs::create_dir(&region.folder).unwrap();
        let lines: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
        fs::write(region.folder.join(LOG), lines).unwrap();
        let shown = region.last_lines();
        assert_eq!(shown.lines().count(), LOG_LINES_MAX);
        assert!(shown.starts_with("  | line 19988\n") && shown.ends_with("  | line 19999\n"), "{shown}");
    }
}
