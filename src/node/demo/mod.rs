//! `tidegate demo`: three regions on this machine, an upstream, and a limit that is the cluster's.
//!
//! Each region is a process of its own, the same program with settings of its own, because that is what a cluster is;
//! three nodes in one process would share a clock, an allocator and a log, and would show less. Whatever ends the demo
//! leaves nothing behind: a region lives as long as its stdin is open, so the end of this process, by Ctrl-C or
//! `kill -9`, is the end of all (`region`, `member`).

pub mod member;
pub mod region;

mod ports;
mod text;
mod upstream;

use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use crate::node::demo::region::Region;
use crate::node::demo::upstream::Upstream;
use crate::node::local_http::{Answer, ask, post};
use crate::node::signals::Signals;
use crate::node::terminal::say;

/// How the folder of a demo begins; `member` removes nothing else.
const FOLDER: &str = "tidegate-demo-";
/// How long the regions may take to become one cluster: a build for debugging on a busy machine takes seconds.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a region may take to drain; then it is killed.
const END_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

/// Runs until a signal comes or every region has ended. The error is the sentence why there was nothing to see.
pub fn run() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the runtime: {error}"))?;
    let ended = runtime.block_on(show());
    // A question to a node may still wait for its answer.
    runtime.shutdown_background();
    ended
}

async fn show() -> Result<(), String> {
    let mut signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let mut demo = Demo::plan().await?;
    let ended = tokio::select! {
        ended = demo.live() => ended,
        _ = signals.next() => Ok(()),
    };
    say("\nEnding all regions.\n");
    demo.end();
    say("Nothing is left of them.\n");
    ended
}

/// What runs, and the folder with everything that it writes.
struct Demo {
    regions: Vec<Region>,
    upstream: Upstream,
    folder: PathBuf,
}

impl Demo {
    async fn plan() -> Result<Self, String> {
        let upstream = Upstream::open().await.map_err(|error| format!("cannot open an upstream: {error}"))?;
        let regions = ports::pick()?;
        let folder = std::env::temp_dir().join(format!("{FOLDER}{}", Uuid::new_v4().simple()));
        // The secret of the cluster is in it.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        let regions = regions.map(|ports| Region::plan(ports, &folder)).into();
        Ok(Self { regions, upstream, folder })
    }

    async fn live(&mut self) -> Result<(), String> {
        self.start().await?;
        let names = self.regions.iter().map(|region| (region.ports.proxy.port(), region.ports.name)).collect();
        self.upstream.serve(names);
        self.become_one_cluster().await?;
        self.fill().await?;
        say(&text::guide(&self.regions));
        self.watch().await
    }

    async fn start(&mut self) -> Result<(), String> {
        say(&format!("Starting three regions on this machine, in {}\n", self.folder.display()));
        let seeds: Vec<SocketAddr> = self.regions.iter().map(|region| region.ports.cluster).collect();
        let secret = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        for region in &mut self.regions {
            region.start(&seeds, &secret)?;
        }
        Ok(())
    }

    /// Waits until every region sees three that are alive and agree.
    async fn become_one_cluster(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let mut waiting: Vec<usize> = (0..self.regions.len()).collect();
        while let Some(&next) = waiting.first() {
            let (name, admin) = (self.regions[next].ports.name, self.regions[next].ports.admin);
            let view = answer(move || ask(admin, "GET", "/cluster", None)).await.map(|answer| answer.body);
            let view = view.and_then(|body| serde_json::from_str::<Value>(&body).ok()).unwrap_or_default();
            if is_whole(&view, self.regions.len()) {
                waiting.remove(0);
                say(&format!("  {name} sees all three after {:.1} s\n", began.elapsed().as_secs_f64()));
                continue;
            }
            self.nobody_ended()?;
            if began.elapsed() > START_MAX {
                let log = self.regions[next].last_lines();
                return Err(format!("{name} does not see all three regions within {START_MAX:?}:\n{log}"));
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Writes the configuration in the first region; the last answer comes when all have it.
    async fn fill(&mut self) -> Result<(), String> {
        let admin = self.regions[0].ports.admin;
        for (path, form) in text::entities(self.upstream.address) {
            let written = answer(move || post(admin, path, &form)).await;
            self.nobody_ended()?;
            match written {
                Some(answer) if answer.status == 201 => {}
                Some(answer) => return Err(format!("POST {path} was answered {}: {}", answer.status, answer.body)),
                None => return Err(format!("POST {path} was not answered")),
            }
        }
        say("  a service, a route, Ann with her key and her limit are live in all three\n");
        Ok(())
    }

    /// Tells of regions that end, until none is left.
    async fn watch(&mut self) -> Result<(), String> {
        loop {
            for region in &mut self.regions {
                if let Some(told) = region.ended() {
                    say(&format!("\n{told}\n"));
                }
            }
            if self.regions.iter().all(|region| !region.runs()) {
                return Err("no region is left".to_owned());
            }
            sleep(PAUSE).await;
        }
    }

    fn nobody_ended(&mut self) -> Result<(), String> {
        self.regions.iter_mut().find_map(Region::ended).map_or(Ok(()), Err)
    }

    /// Lets all regions drain at once, and removes what they wrote.
    fn end(mut self) {
        self.regions.iter_mut().for_each(Region::dismiss);
        let deadline = Instant::now() + END_MAX;
        self.regions.iter_mut().for_each(|region| region.await_end(deadline));
        remove(&self.folder);
    }
}

/// Removes a folder of a demo. It may be gone: regions remove their part too.
fn remove(folder: &Path) {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            say(&format!("{} stays: {error}\n", folder.display()));
        }
        Ok(()) | Err(_) => {}
    }
}

/// A blocking question on a thread that may wait.
async fn answer(question: impl FnOnce() -> std::io::Result<Answer> + Send + 'static) -> Option<Answer> {
    spawn_blocking(question).await.ok()?.ok()
}

/// Whether a document of `GET /cluster` shows `count` nodes, all alive, that agree.
fn is_whole(view: &Value, count: usize) -> bool {
    let nodes = view["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let alive = nodes.iter().filter(|node| node["state"] == "alive").count();
    alive == count && view["converged"] == true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cluster_is_whole_when_all_are_alive_and_agree() {
        let check = |states: &[&str], converged: bool, expected: bool| {
            let nodes: Vec<Value> = states.iter().map(|state| json!({ "state": state })).collect();
            assert_eq!(is_whole(&json!({ "nodes": nodes, "converged": converged }), 3), expected, "{states:?}");
        };
        check(&["alive", "alive", "alive"], true, true);
        check(&["alive", "alive", "alive"], false, false);
        check(&["alive", "alive", "suspect"], true, false);
        check(&["alive", "alive"], true, false);
        assert!(!is_whole(&Value::Null, 3));
    }
}
