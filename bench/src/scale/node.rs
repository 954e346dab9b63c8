//! Tidegate with a configuration of some size: started, warmed up, and its memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use std::net::SocketAddr;
use tidegate_bench::Outcome;
use tidegate_bench::peer::{Gateway, Tls, free, tidegate};
use tidegate_bench::wire::{Load, Wire};
use tidegate_bench::work::KEY;

use crate::client;

/// A start with 100,000 entities, on a busy machine.
const START_MAX: Duration = Duration::from_secs(120);
const WARM_UP: Duration = Duration::from_secs(1);
/// Body of an answer of the backend, in bytes.
pub const ANSWER_LEN: usize = 1024;

/// What a node serves.
#[derive(Clone, Copy, Default)]
pub struct Size {
    /// Beside the one that the load asks for.
    pub routes: usize,
    /// Each with a key.
    pub consumers: usize,
    /// Whether requests need a key and are limited.
    pub guarded: bool,
}

/// A node on the first core, with what listens beside its proxy.
pub struct Node {
    pub gateway: Gateway,
    pub admin: SocketAddr,
}

/// Where the configuration of a node is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// In memory: `POST /config` replaces it.
    Off,
    Embedded,
}

/// The program beside this one, or another.
pub fn program(named: Option<PathBuf>) -> Outcome<PathBuf> {
    let beside = || std::env::current_exe().map(|path| path.with_file_name("tidegate"));
    let program = named.map_or_else(beside, Ok)?;
    if program.is_file() { Ok(program) } else { Err(format!("there is no {}", program.display()).into()) }
}

/// The declarative configuration; `changed` is in the path of the last route.
pub fn configuration(size: Size, backend: SocketAddr, changed: &str) -> Value {
    let mut routes = vec![json!({"name": "plain", "paths": ["/plain"]})];
    routes.extend((0..size.routes).map(tidegate::route));
    routes.push(json!({"name": "changed", "paths": [format!("/changed-{changed}")]}));
    let plugins = if size.guarded {
        json!([{"name": "key-auth"}, {"name": "rate-limiting", "config": {"minute": 1_000_000_000, "policy": "local"}}])
    } else {
        json!([])
    };
    let consumer =
        |n: usize| json!({"username": format!("c{n}"), "keyauth_credentials": [{"key": format!("key-{n}")}]});
    let mut consumers = vec![json!({"username": "bench", "keyauth_credentials": [{"key": KEY}]})];
    consumers.extend((0..size.consumers).map(consumer));
    json!({
        "_format_version": "3.0",
        "services": [{"name": "s", "url": format!("http://{backend}"), "routes": routes, "plugins": plugins}],
        "consumers": consumers,
    })
}

impl Node {
    /// Starts it and waits until it serves.
    pub fn start(program: &Path, store: Store, tls: bool, configuration: &Value) -> Outcome<(Node, Option<Vec<u8>>)> {
        let folder = tempfile::tempdir()?;
        let address = free()?;
        let (admin, status) = (free()?, free()?);
        let tls = tls.then(|| Tls::make(folder.path())).transpose()?;
        let pem = tls.as_ref().map(|tls| std::fs::read(&tls.certificate)).transpose()?;
        let mut command = tidegate::node(program, folder.path(), address, tls.as_ref(), &configuration.to_string())?;
        command.env("TIDEGATE_ADMIN_LISTEN", admin.to_string()).env("TIDEGATE_STATUS_LISTEN", status.to_string());
        if store == Store::Embedded {
            command.env("TIDEGATE_DATABASE", "embedded").env_remove("TIDEGATE_DECLARATIVE_CONFIG");
            import(&command, &folder.path().join("tidegate.json"))?;
        }
        let gateway = Gateway::launch(&command, folder, address, tls.map(|tls| tls.address))?;
        let mut node = Node { gateway, admin };
        let begun = Instant::now();
        while client::plain(address).is_err() {
            if begun.elapsed() > START_MAX || node.gateway.has_ended() {
                return Err(format!("the node does not start; its log:\n{}", node.gateway.log()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok((node, pem))
    }

    /// As many requests as it answers, for a moment: what is set up by use is there then.
    pub fn warm_up(&self, wire: &mut Wire) -> Outcome<()> {
        let requests = [request("/plain/x")];
        let done = wire.send(&self.load(&requests, None, WARM_UP))?;
        if done.failed > 0 || done.answered == 0 {
            return Err(format!("{} requests failed, {} did not", done.failed, done.answered).into());
        }
        Ok(())
    }

    pub fn load<'l>(&self, requests: &'l [Vec<u8>], rate: Option<f64>, lasts: Duration) -> Load<'l> {
        Load {
            address: self.gateway.address,
            requests,
            answer_len: ANSWER_LEN,
            connections: 64,
            connection_per_request: false,
            keep_alive_by_field: false,
            rate,
            lasts,
            until: None,
        }
    }
}

pub fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\napikey: {KEY}\r\n\r\n").into_bytes()
}

/// `config db_import`, with the settings that the node will have.
fn import(start: &Command, file: &Path) -> Outcome<()> {
    let mut command = Command::new(start.get_program());
    for (name, value) in start.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let done = command.args(["config", "db_import"]).arg(file).output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("config db_import: {}", String::from_utf8_lossy(&done.stderr)).into())
}
