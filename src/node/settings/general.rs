//! Settings of the node as a whole: where it lives, who it is, what it logs, how it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::listen::access_log::Target;
use crate::node::settings::reader::Reader;

/// The node.
#[derive(Clone, Debug)]
pub struct Node {
    pub prefix: PathBuf,
    /// `None`: a UUID kept under `prefix`.
    pub id: Option<String>,
    pub region: String,
    pub workers: usize,
    /// `None`: all of them.
    pub plugins: Option<Vec<String>>,
    pub drain: Drain,
    /// Most counters of rate limits, one per subject and period; what is not strict about them takes some 150 bytes each.
    pub limit_counters_max: usize,
}

/// How the node stops.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// How long it goes on as before once it says that it is draining: Fly's edge learns of it late.
    pub delay: Duration,
    /// How long what runs may then take to finish.
    pub timeout: Duration,
}

/// What is logged, and where to.
#[derive(Clone, Debug)]
pub struct Logs {
    /// One of Kong's words.
    pub level: String,
    pub json: bool,
    pub error: Target,
    pub proxy_access: Target,
    pub admin_access: Target,
    pub status_access: Target,
}

impl Node {
    pub fn read(reader: &mut Reader, environment: &BTreeMap<String, String>) -> Self {
        let on_fly = environment.contains_key("FLY_MACHINE_ID");
        let fly = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        Self {
            prefix: reader.text("prefix").map_or_else(|| PathBuf::from("tidegate-data"), PathBuf::from),
            id: reader
                .parsed("node_id", "1 to 64 letters, digits, '-', '_' and '.'", name)
                .or_else(|| fly("FLY_MACHINE_ID").and_then(|id| name(&id))),
            region: reader
                .parsed("region", "1 to 64 letters, digits, '-', '_' and '.'", name)
                .or_else(|| fly("FLY_REGION").and_then(|region| name(&region)))
                .unwrap_or_else(|| "local".to_owned()),
            workers: reader
                .parsed("nginx_worker_processes", "auto, or a whole number from 1 to 256", workers)
                .unwrap_or(1),
            plugins: plugins(reader),
            drain: Drain {
                delay: reader.seconds("drain_delay").unwrap_or(Duration::from_secs(if on_fly { 5 } else { 0 })),
                timeout: reader.seconds("drain_timeout").unwrap_or(Duration::from_secs(30)),
            },
            limit_counters_max: reader
                .whole("limit_counters_max", 1_000..=100_000_000)
                .map_or(1 << 20, |counters| counters as usize),
        }
    }
}

impl Logs {
    pub fn read(reader: &Reader, prefix: &Path) -> Self {
        let target = |name| log_target(&reader.text(name).unwrap_or_default(), prefix);
        Self {
            level: reader.text("log_level").unwrap_or_default(),
            json: reader.text("log_format").as_deref() == Some("json"),
            error: target("proxy_error_log"),
            proxy_access: target("proxy_access_log"),
            admin_access: target("admin_access_log"),
            status_access: target("status_access_log"),
        }
    }
}

/// `off`, a device, or a path under `prefix`. A log format's name may follow; the format is always Kong's default one.
fn log_target(text: &str, prefix: &Path) -> Target {
    match text.split_whitespace().next() {
        None | Some("off") => Target::Off,
        Some("/dev/stdout") => Target::Stdout,
        Some("/dev/stderr") => Target::Stderr,
        Some(path) => Target::File(prefix.join(path)),
    }
}

fn plugins(reader: &Reader) -> Option<Vec<String>> {
    let names = reader.list("plugins");
    match names.first().map(String::as_str) {
        None | Some("off") => Some(Vec::new()),
        _ if names.iter().any(|name| name == "bundled") => None,
        Some(_) => Some(names),
    }
}

fn workers(text: &str) -> Option<usize> {
    if text == "auto" {
        return Some(std::thread::available_parallelism().map_or(1, usize::from));
    }
    text.parse().ok().filter(|workers| (1..=256).contains(workers))
}

fn name(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    ((1..=64).contains(&text.len()) && text.chars().all(allowed)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_go_to_devices_or_under_the_prefix() {
        let check = |text, expected| assert_eq!(log_target(text, Path::new("/p")), expected, "{text}");
        check("off", Target::Off);
        check("/dev/stdout", Target::Stdout);
        check("/dev/stderr basic", Target::Stderr);
        check("logs/access.log", Target::File("/p/logs/access.log".into()));
        check("/var/log/a.log", Target::File("/var/log/a.log".into()));
    }
}
