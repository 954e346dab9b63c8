//! Tidegate of this workspace, or any build of it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::peer::{Peer, Setup, Tls, free, version};
use crate::work::{KEY, Kind, ROUTES, SHARED, prefix, tenant};

/// The build at `program`, or the one beside this program: both are built by the same cargo.
pub fn find(name: &str, program: Option<PathBuf>) -> Outcome<Peer> {
    let beside = || std::env::current_exe().map(|path| path.with_file_name("tidegate"));
    let program = program.map_or_else(beside, Ok)?;
    if !program.is_file() {
        return Err(format!("there is no {}; build it: cargo build --release", program.display()).into());
    }
    Ok(Peer { name: name.to_owned(), version: version(&program, "version"), program, prepare })
}

fn prepare(program: &Path, setup: &Setup<'_>) -> Outcome<Command> {
    let mut command = node(program, setup.folder, setup.address, setup.tls, &configuration(setup))?;
    if matches!(setup.work.kind, Kind::Limited | Kind::Routes) {
        command.env("TIDEGATE_CLUSTER_SECRET", "a secret of thirty-two bytes or more, for the bench alone");
        command.env("TIDEGATE_CLUSTER_LISTEN", free()?.to_string());
    }
    Ok(command)
}

/// A node without a store that has one worker, and the text as its declarative configuration.
pub fn node(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    tls: Option<&Tls>,
    configuration: &str,
) -> Outcome<Command> {
    let file = folder.join("tidegate.json");
    std::fs::write(&file, configuration)?;
    let mut listen = format!("{address} reuseport backlog=16384");
    let mut command = Command::new(program);
    if let Some(tls) = tls {
        write!(listen, ", {} http2 ssl reuseport backlog=16384", tls.address)?;
        command.env("TIDEGATE_SSL_CERT", &tls.certificate).env("TIDEGATE_SSL_CERT_KEY", &tls.key);
    }
    let settings = [
        ("PREFIX", folder.join("data").display().to_string()),
        ("DATABASE", "off".to_owned()),
        ("DECLARATIVE_CONFIG", file.display().to_string()),
        ("PROXY_LISTEN", listen),
        ("ADMIN_LISTEN", "off".to_owned()),
        ("STATUS_LISTEN", free()?.to_string()),
        ("NGINX_WORKER_PROCESSES", "1".to_owned()),
        ("PROXY_ACCESS_LOG", "off".to_owned()),
        ("ADMIN_ACCESS_LOG", "off".to_owned()),
        ("NGINX_HTTP_KEEPALIVE_REQUESTS", "100000000".to_owned()),
        ("UPSTREAM_KEEPALIVE_MAX_REQUESTS", "100000000".to_owned()),
    ];
    command.arg("start").envs(settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value)));
    Ok(command)
}

fn configuration(setup: &Setup<'_>) -> String {
    let plain = serde_json::json!({"name": "plain", "paths": ["/plain"]});
    let limited = serde_json::json!({"name": "limited", "paths": ["/limited"]});
    let (routes, guarded) = match setup.work.kind {
        Kind::Limited => (vec![limited], true),
        Kind::Routes => ((0..ROUTES).map(route).collect(), true),
        Kind::Plain
        | Kind::Http2
        | Kind::Upload(_)
        | Kind::ChunkedUpload(_)
        | Kind::ChunkedAnswer
        | Kind::ConnectionPerRequest
        | Kind::Http10
        | Kind::Http10KeepAlive => (vec![plain], false),
    };
    let plugins = if guarded {
        serde_json::json!([
            {"name": "key-auth"},
            {"name": "rate-limiting", "config": {"minute": 1_000_000_000, "policy": "cluster"}},
        ])
    } else {
        serde_json::json!([])
    };
    let document = serde_json::json!({
        "_format_version": "3.0",
        "services": [
            {"name": "s", "url": format!("http://{}", setup.backend), "routes": routes, "plugins": plugins}
        ],
        "consumers": [{"username": "bench", "keyauth_credentials": [{"key": KEY}]}],
    });
    document.to_string()
}

/// One of many routes: half are told apart by path, half by a header.
pub fn route(n: usize) -> serde_json::Value {
    if n.is_multiple_of(2) {
        serde_json::json!({"name": format!("r{n}"), "paths": [prefix(n)]})
    } else {
        let path = format!("/shared-{}", n % SHARED);
        serde_json::json!({"name": format!("r{n}"), "paths": [path], "headers": {"x-tenant": [tenant(n)]}})
    }
}
