//! Every recorded scenario against running nodes, in each store mode. `pending.txt` lists those that later work will
//! satisfy, with a reason each; a listed one that passes is an error, so the list cannot rot.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::postgres::Server;
use crate::process::{Node, settings_of};
use crate::scenario::client::Client;
use crate::scenario::player::Player;
use crate::scenario::upstream::Upstream;

/// Files played at the same time, each against a node of its own. Waiting for windows is most of the time they take.
const AT_ONCE: usize = 6;

#[test]
fn scenarios_hold_on_the_embedded_store() {
    play_all("embedded", &|| vec![("database".to_owned(), "embedded".to_owned())]);
}

#[test]
fn scenarios_hold_on_postgres() {
    let server = Server::shared();
    play_all("postgres", &|| settings_of(&server.create_database()));
}

/// What became of one scenario.
struct Played {
    topic: String,
    name: String,
    failure: Option<String>,
}

fn play_all(store: &str, settings: &(dyn Fn() -> Vec<(String, String)> + Sync)) {
    let pending = pending(store);
    let files = Mutex::new(scenario_files());
    let played = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(file) = files.lock().expect("no player panicked").pop() else { return };
                    let results = play_file(&file, settings);
                    played.lock().expect("no player panicked").extend(results);
                }
            });
        }
    });
    report(&played.into_inner().expect("no player panicked"), &pending);
}

fn play_file(path: &Path, settings: &dyn Fn() -> Vec<(String, String)>) -> Vec<Played> {
    let document = read(path);
    let topic = document["topic"].as_str().unwrap_or_default().to_owned();
    let node = Node::started(settings());
    let mut player = Player {
        admin: Client::new(node.admin, false),
        proxy: Client::new(node.proxy, false),
        proxytls: Some(Client::new(node.proxytls, true)),
        upstream: Upstream::start().expect("the upstreams start"),
    };
    let scenarios = document["scenarios"].as_array().expect("a list of scenarios");
    let one = |scenario: &Value| {
        let name = scenario["name"].as_str().unwrap_or_default().to_owned();
        Played { topic: topic.clone(), name, failure: player.play(scenario) }
    };
    scenarios.iter().map(one).collect()
}

fn report(played: &[Played], pending: &BTreeMap<(String, String), String>) {
    let mut wrong = Vec::new();
    let (mut passed, mut waiting) = (0, 0);
    for one in played {
        let reason = pending.get(&(one.topic.clone(), one.name.clone()));
        match (&one.failure, reason) {
            (None, None) => passed += 1,
            (Some(_), Some(_)) => waiting += 1,
            (Some(why), None) => wrong.push(format!("{} | {} | {why}", one.topic, one.name)),
            (None, Some(reason)) => {
                wrong.push(format!("{} | {} | passes, take it off pending.txt ({reason})", one.topic, one.name));
            }
        }
    }
    println!("scenarios: {passed} passed, {waiting} pending, {} wrong", wrong.len());
    wrong.sort();
    assert!(wrong.is_empty(), "{} scenarios:\n{}", wrong.len(), wrong.join("\n"));
    let unknown: Vec<_> =
        pending.keys().filter(|(topic, name)| !played.iter().any(|p| p.topic == *topic && p.name == *name)).collect();
    assert!(unknown.is_empty(), "pending.txt lists scenarios that do not exist: {unknown:?}");
}

/// Largest first, so that the longest does not come last.
fn scenario_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let only = std::env::var("SCENARIOS").unwrap_or_default();
    let entries = std::fs::read_dir(folder).expect("tests/scenarios");
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .filter(|path| path.to_string_lossy().contains(&only))
        .collect();
    files.sort_by_key(|path| path.metadata().map_or(0, |data| data.len()));
    files
}

fn read(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).expect("a readable scenario file");
    serde_json::from_str(&text).expect("a scenario file is JSON")
}

/// The lines of `pending.txt` that hold for this store.
fn pending(store: &str) -> BTreeMap<(String, String), String> {
    let lines = include_str!("pending.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let only = std::env::var("SCENARIOS").unwrap_or_default();
    lines
        .map(|line| {
            let parts: Vec<&str> = line.split(" | ").collect();
            assert_eq!(parts.len(), 3, "pending.txt: not TOPIC | NAME | REASON: {line}");
            ((parts[0].to_owned(), parts[1].to_owned()), parts[2].to_owned())
        })
        .filter(|((topic, _), _)| topic.replace('/', "-").contains(&only))
        .filter(|(_, reason)| !reason.starts_with("on ") || reason.starts_with(&format!("on {store}:")))
        .collect()
}
