//! What strict limits need of the outside: a file, the configuration, and a clock.
//!
//! The file is written whole and on the disk before it counts: beside its place, then moved there.

use std::fs;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::core::rights::{Input, Kept, Me, Now, Output, Registry, Rights, Standing};
use crate::cluster::driver::unix_time::unix_ms;
use crate::counter::Counters;

/// How often a node without a mesh looks whether something is to be done.
const LOOK: Duration = Duration::from_millis(100);

/// What the configuration says about strict limits; `None` before it was read.
pub type Said = Option<(Option<Registry>, bool)>;

/// Where promises are kept, and what is to be followed.
pub struct Options {
    pub file: PathBuf,
    pub said: watch::Receiver<Said>,
}

/// What was kept. What cannot be read is like nothing: the node then has no rights until new weights say so.
pub fn load(file: &Path) -> Option<Kept> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "the promises of strict limits cannot be read");
            return None;
        }
    };
    let kept = Kept::from_text(&text);
    if kept.is_none() {
        tracing::error!(file = %file.display(), "the promises of strict limits are damaged");
    }
    kept
}

/// Puts `kept` on the disk.
pub fn store(file: &Path, kept: &Kept) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut out = fs::File::create(&fresh)?;
    out.write_all(kept.to_text().as_bytes())?;
    out.sync_all()?;
    fs::rename(&fresh, file)?;
    match file.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes on a thread that may block, and says how it went.
pub async fn keep(file: PathBuf, kept: Kept) -> Input {
    let shown = file.display().to_string();
    match tokio::task::spawn_blocking(move || store(&file, &kept)).await {
        Ok(Ok(())) => Input::Kept,
        Ok(Err(error)) => {
            tracing::error!(file = shown, %error, "the promises of strict limits cannot be written");
            Input::KeepFailed
        }
        Err(_) => Input::KeepFailed,
    }
}

/// The inputs for what was said.
pub fn heard(said: &Said) -> Vec<Input> {
    match said {
        None => Vec::new(),
        Some((registry, in_use)) => vec![Input::Registry(registry.clone()), Input::InUse(*in_use)],
    }
}

/// A line for people when it stands otherwise than before. Who uses no strict limits is left alone.
pub fn log(standing: &Standing, in_use: bool) {
    match standing {
        Standing::Alone => {}
        Standing::Skewed if !in_use => {}
        Standing::Skewed => {
            tracing::error!("strict limits refuse everything here: this node's clock is too far from its peers'");
        }
        Standing::Unsaid if !in_use => {}
        Standing::Unsaid => tracing::warn!("strict limits refuse everything: no weights say what part is whose"),
        Standing::NewDisk { epoch } => {
            tracing::warn!(epoch, "the weights of strict limits are older than this node's disk: raise their epoch");
        }
        Standing::Forgets { epoch, node } => {
            tracing::error!(
                epoch,
                node,
                "the weights of strict limits leave out a node: it needs weight 0, or to be gone"
            );
        }
        Standing::Waits { epoch, nodes } => {
            tracing::info!(epoch, ?nodes, "weights of strict limits wait for promises");
        }
        Standing::Settled { epoch } => tracing::info!(epoch, "weights of strict limits are settled"),
    }
}

/// Strict limits of a node without a mesh, which has every limit to itself. Ends never.
pub async fn alone(node_id: String, incarnation: u64, counters: Arc<Counters>, mut options: Options) {
    let started = Instant::now();
    let now = || Now { mono_ms: millis(started.elapsed()), cluster_ms: unix_ms() };
    let me = Me { node_id, incarnation, alone: true };
    let mut rights = Rights::new(me, counters, load(&options.file), now());
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        if options.said.has_changed().unwrap_or(false) {
            let said = options.said.borrow_and_update().clone();
            for input in heard(&said) {
                rights.on(input, now());
            }
        }
        for output in rights.poll(now()) {
            if let Output::Keep(kept) = output {
                let kept = keep(options.file.clone(), kept).await;
                rights.on(kept, now());
            }
        }
    }
}

pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("strict.json");
        assert_eq!(load(&file), None);
        store(&file, &Kept::default()).unwrap();
        assert_eq!(load(&file), Some(Kept::default()));
        fs::write(&file, "{\"until_s\":").unwrap();
        assert_eq!(load(&file), None);
        assert!(store(&folder.path().join("none/strict.json"), &Kept::default()).is_err());
    }
}
