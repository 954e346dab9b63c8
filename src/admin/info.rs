//! What a node says about itself, in Kong's shapes: `/`, `/status`, `/endpoints`, `/timers`, `/plugins/enabled`.

use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use serde_json::{Value, json};
use tidegate_proto::Revision;
use uuid::Uuid;

use crate::KONG_VERSION;
use crate::VERSION;
use crate::admin::config::Loader;
use crate::admin::handles::Handles;
use crate::admin::limits;
use crate::admin::place::{children, foreign_fields, loaded};
use crate::admin::query::Query;
use crate::admin::reply::{self, Reply};
use crate::entity::Kind;
use crate::entity::declare::Plugins;
use crate::listen::access_log::AccessLog;

/// Under this namespace a node's name becomes the UUID that Kong's tools expect of a `node_id`.
const NODE_IDS: Uuid = Uuid::from_u128(0x6a9c_7f0a_1d6b_4a5e_9f3c_2b8d_0e47_51c2);

const DISABLED_OR_FIXED: &[&str] = &[
    "/",
    "/cache",
    "/cache/{key}",
    "/cluster",
    "/cluster/conflicts",
    "/cluster/leave",
    "/cluster/limits",
    "/clustering/data-planes",
    "/clustering/status",
    "/config",
    "/debug/cluster/log-level/{log_level}",
    "/debug/node/log-level",
    "/debug/node/log-level/{log_level}",
    "/endpoints",
    "/metrics",
    "/plugins/enabled",
    "/plugins/schema/{name}",
    "/schemas/plugins/{name}",
    "/schemas/plugins/validate",
    "/schemas/vaults/{name}",
    "/schemas/{db_entity_name}/validate",
    "/schemas/{name}",
    "/status",
    "/status/dns",
    "/tags",
    "/tags/{tags}",
    "/timers",
];

/// What a node knows about itself from its settings.
pub(crate) struct About {
    pub node_id: String,
    pub hostname: String,
    pub configuration: Value,
    pub warnings: Vec<String>,
    /// Whether the Admin API listens beyond loopback without a token.
    pub exposed: bool,
    pub logs: Vec<AccessLog>,
    /// Names of the plugins in use, as of a revision: counting them walks all instances.
    pub in_use: Mutex<Option<(Revision, Vec<String>)>>,
}

impl About {
    /// The document of `GET /`. Kong's tools read `version`, `plugins` and `configuration`; ours is under `tidegate`.
    pub(crate) fn root(&self, handles: &Handles) -> Value {
        let pid = process::id();
        let mut configuration = self.configuration.clone();
        if let Some(configuration) = configuration.as_object_mut() {
            configuration.insert("log_level".to_owned(), handles.log_level.current().into());
        }
        let available: serde_json::Map<String, Value> = handles
            .plugins
            .iter()
            .map(|plugin| (plugin.name.to_owned(), json!({ "version": KONG_VERSION, "priority": plugin.priority })))
            .collect();
        json!({
            "tagline": "Welcome to tidegate",
            "version": KONG_VERSION,
            "edition": "community",
            "hostname": self.hostname,
            "node_id": self.node_uuid(),
            "lua_version": "none",
            "timers": { "running": 0, "pending": 0 },
            "plugins": { "available_on_server": available, "enabled_in_cluster": self.plugins_in_use(handles) },
            "pids": { "master": pid, "workers": [pid] },
            "configuration": configuration,
            "tidegate": { "version": VERSION, "node_id": self.node_id },
            "warnings": self.warnings,
        })
    }

    pub(crate) fn node_uuid(&self) -> Uuid {
        uuid_of_node(&self.node_id)
    }

    pub(crate) fn lines_dropped(&self) -> u64 {
        self.logs.iter().map(AccessLog::dropped).sum()
    }

    fn plugins_in_use(&self, handles: &Handles) -> Vec<String> {
        let revision = handles.ledger.read(|catalog| catalog.revision());
        let mut known = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, names)) = known.as_ref().filter(|(of, _)| *of == revision) {
            return names.clone();
        }
        let instances: Vec<_> = handles.ledger.read(|catalog| catalog.all(Kind::PLUGINS).cloned().collect());
        let names: BTreeSet<String> =
            instances.iter().filter_map(|entity| Some(entity.doc().get("name")?.as_str()?.to_owned())).collect();
        let names: Vec<String> = names.into_iter().collect();
        *known = Some((revision, names.clone()));
        names
    }
}

/// A node's id where Kong's shapes want a UUID.
pub(crate) fn uuid_of_node(node_id: &str) -> Uuid {
    Uuid::try_parse(node_id).unwrap_or_else(|_| Uuid::new_v5(&NODE_IDS, node_id.as_bytes()))
}

/// `GET /status`: always 200. Kong: a node without a database has a hash of its configuration in place of `database`.
pub(crate) fn status(handles: &Handles, loader: &Loader, query: &Query) -> Reply {
    let (unit, scale) = match (Unit::of(query), scale_of(query)) {
        (Ok(unit), Ok(scale)) => (unit, scale),
        (Err(text), _) | (_, Err(text)) => return reply::bad_request(&text),
    };
    let traffic = &handles.traffic;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (resident, total) = memory();
    let mut status = json!({
        "memory": {
            "workers_lua_vms": [{ "pid": process::id(), "http_allocated_gc": unit.show(resident, scale) }],
            "lua_shared_dicts": {
                "kong": { "allocated_slabs": unit.show(resident, scale), "capacity": unit.show(total, scale) },
            },
        },
        "server": {
            "connections_accepted": count(&traffic.accepted),
            "connections_active": count(&traffic.active),
            "connections_handled": count(&traffic.handled),
            "connections_reading": count(&traffic.reading),
            "connections_writing": count(&traffic.writing),
            "connections_waiting": count(&traffic.waiting),
            "total_requests": count(&traffic.requests),
        },
    });
    if handles.ledger.store().writable() {
        status["database"] = json!({ "reachable": handles.ledger.reachable() });
    } else {
        status["configuration_hash"] = loader.hash(&handles.ledger).into();
    }
    status["limits"] = limits::mode(handles).shown();
    reply::ok(&status)
}

/// Kong: only its newer DNS client answers here.
pub(crate) fn status_dns() -> Reply {
    reply::message(StatusCode::NOT_IMPLEMENTED, "not implemented with the legacy DNS client")
}

/// There are no timers of Kong's kind; the shape is kept.
pub(crate) fn timers() -> Value {
    let stats = json!({ "sys": { "total": 0, "runs": 0, "running": 0, "pending": 0, "waiting": 0 }, "timers": {} });
    json!({ "worker": { "id": 0, "count": 1 }, "stats": stats })
}

pub(crate) fn plugins_enabled(plugins: &Plugins) -> Value {
    json!({ "enabled_plugins": plugins.iter().map(|plugin| plugin.name).collect::<Vec<_>>() })
}

/// Every path, sorted segment by segment; placeholders carry internal names.
pub(crate) fn endpoints(plugins: &Plugins) -> Value {
    let mut paths: Vec<String> = DISABLED_OR_FIXED.iter().map(|path| (*path).to_owned()).collect();
    for kind in loaded(plugins) {
        let Some(path) = kind.path else { continue };
        paths.push(format!("/{path}"));
        paths.push(format!("/{path}/{{{kind}}}"));
        for (field, _) in foreign_fields(kind) {
            paths.push(format!("/{path}/{{{kind}}}/{field}"));
        }
        for (child, _) in children(kind, plugins) {
            let below = child.nested_path;
            paths.push(format!("/{path}/{{{kind}}}/{below}"));
            paths.push(format!("/{path}/{{{kind}}}/{below}/{{{child}}}"));
        }
    }
    paths.sort_by(|a, b| a.split('/').cmp(b.split('/')));
    paths.dedup();
    json!({ "data": paths })
}

/// How `/status` writes amounts of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Bytes,
    Kibi,
    Mebi,
    Gibi,
}

impl Unit {
    fn of(query: &Query) -> Result<Self, String> {
        match query.first("unit").unwrap_or("m") {
            "b" | "B" => Ok(Self::Bytes),
            "k" | "K" => Ok(Self::Kibi),
            "m" | "M" => Ok(Self::Mebi),
            "g" | "G" => Ok(Self::Gibi),
            other => Err(format!("invalid unit '{other}' (expected 'k/K', 'm/M', or 'g/G')")),
        }
    }

    fn show(self, bytes: u64, scale: usize) -> Value {
        let (name, size) = match self {
            Self::Bytes => return bytes.into(),
            Self::Kibi => ("KiB", 1024.0),
            Self::Mebi => ("MiB", 1024.0 * 1024.0),
            Self::Gibi => ("GiB", 1024.0 * 1024.0 * 1024.0),
        };
        format!("{:.scale$} {name}", bytes as f64 / size).into()
    }
}

/// Decimals; more than ten tell nothing.
fn scale_of(query: &Query) -> Result<usize, String> {
    let Some(text) = query.first("scale") else { return Ok(2) };
    let scale = text.parse::<usize>().map_err(|_| "scale must be equal or greater than 0".to_owned())?;
    Ok(scale.min(10))
}

/// Resident bytes of this process and bytes of the machine, as the kernel tells; zero where it does not.
fn memory() -> (u64, u64) {
    let kib_of = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    (kib_of("/proc/self/status", "VmRSS:") * 1024, kib_of("/proc/meminfo", "MemTotal:") * 1024)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shown_in_the_unit_asked_for() {
        let check = |query: &str, expected: Result<Value, &str>| {
            let query = Query::parse(Some(query)).unwrap();
            let got = Unit::of(&query).and_then(|unit| Ok(unit.show(5 * 1024 * 1024, scale_of(&query)?)));
            assert_eq!(got, expected.map_err(str::to_owned));
        };
        check("", Ok("5.00 MiB".into()));
        check("unit=b", Ok(5_242_880.into()));
        check("unit=K&scale=0", Ok("5120 KiB".into()));
        check("unit=g&scale=4", Ok("0.0049 GiB".into()));
        check("unit=V", Err("invalid unit 'V' (expected 'k/K', 'm/M', or 'g/G')"));
        check("scale=-1", Err("scale must be equal or greater than 0"));
    }

    #[test]
    fn a_node_id_is_a_uuid_whatever_the_node_is_called() {
        let about = |node_id: &str| About {
            node_id: node_id.to_owned(),
            hostname: String::new(),
            configuration: json!({}),
            warnings: Vec::new(),
            exposed: false,
            logs: Vec::new(),
            in_use: Mutex::default(),
        };
        let id = Uuid::from_u128(9);
        assert_eq!(about(&id.to_string()).node_uuid(), id);
        assert_eq!(about("d891").node_uuid(), about("d891").node_uuid());
        assert_ne!(about("d891").node_uuid(), about("d892").node_uuid());
    }
}
