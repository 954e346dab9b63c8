//! HAProxy of the distribution.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::peer::{Peer, Setup, on_path, version};
use crate::work::{Kind, RULES, prefix, tenant};

pub fn find() -> Option<Peer> {
    let program = on_path("haproxy")?;
    Some(Peer { name: "haproxy".to_owned(), version: version(&program, "-v"), program, prepare })
}

fn prepare(program: &Path, setup: &Setup<'_>) -> Outcome<Command> {
    let file = setup.folder.join("haproxy.cfg");
    std::fs::write(&file, configuration(setup))?;
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}

fn configuration(setup: &Setup<'_>) -> String {
    let Setup { address, backend, .. } = setup;
    let tls = setup.tls.map_or(String::new(), |tls| {
        format!("  bind {} ssl crt {} alpn h2,http/1.1 backlog 16384\n", tls.address, tls.both.display())
    });
    let rules = if setup.work.kind == Kind::Routes { rules() } else { String::new() };
    format!(
        "global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend f
  bind {address} backlog 16384
{tls}  http-request set-header X-Forwarded-Proto http
{rules}  default_backend b
backend b
  server s {backend} pool-max-conn 128
"
    )
}

fn rules() -> String {
    let by_path = (0..RULES / 2).map(|n| format!("  use_backend b if {{ path_beg {} }}\n", prefix(n * 2)));
    let by_header = (0..RULES / 2)
        .map(|n| format!("  use_backend b if {{ path_beg /shared- }} {{ req.hdr(x-tenant) {} }}\n", tenant(n * 2 + 1)));
    by_path.chain(by_header).collect()
}
