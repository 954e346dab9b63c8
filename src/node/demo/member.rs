//! One region of a demo, in its own process: a node that lives as long as its stdin is open.
//!
//! When stdin ends the demo is gone, whatever became of it, so the node drains and removes what it wrote; whoever is
//! last removes the demo's folder, with what regions left there that were killed. A signal from the demo would not come
//! when the demo was killed itself.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio_util::sync::CancellationToken;

use crate::node::demo::FOLDER;
use crate::node::instance;
use crate::node::settings::Settings;
use crate::node::start;

/// Runs the node of `folder` until a signal comes or stdin ends.
pub fn run(settings: Settings, folder: &Path) -> Result<(), String> {
    let (leave, alone) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let (told, noted) = (leave.clone(), alone.clone());
    let watch = move || {
        // An error is the end as well. What is said there is of no interest.
        while matches!(std::io::stdin().read(&mut [0; 64]), Ok(1..)) {}
        noted.store(true, Ordering::SeqCst);
        told.cancel();
    };
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(watch)
        .map_err(|error| format!("cannot watch stdin: {error}"))?;
    let ended = start::run(settings, leave);
    if let Some(demo) = demo_of(folder).filter(|_| alone.load(Ordering::SeqCst)) {
        let _ = fs::remove_dir_all(folder);
        if !any_runs(demo) {
            let _ = fs::remove_dir_all(demo);
        }
    }
    ended
}

/// The folder of the demo that a region's folder belongs to. Nothing that a demo has not made is removed, whatever is on
/// the command line.
fn demo_of(folder: &Path) -> Option<&Path> {
    folder.parent().filter(|demo| demo.file_name().is_some_and(|name| name.to_string_lossy().starts_with(FOLDER)))
}

fn any_runs(demo: &Path) -> bool {
    let regions = fs::read_dir(demo).into_iter().flatten().flatten();
    regions.into_iter().any(|region| instance::running(&region.path()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_a_demo_are_removed() {
        let check = |folder: &str, expected: Option<&str>| {
            assert_eq!(demo_of(Path::new(folder)), expected.map(Path::new), "{folder}");
        };
        check("/tmp/tidegate-demo-0123/fra", Some("/tmp/tidegate-demo-0123"));
        check("/tmp/tidegate-demo-0123", None);
        check("tidegate-data", None);
        check("/", None);
        check("", None);
    }
}
