//! Caddy of the distribution.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::peer::{Peer, Setup, on_path, version};
use crate::work::{Kind, RULES, prefix, tenant};

pub fn find() -> Option<Peer> {
    let program = on_path("caddy")?;
    let number = version(&program, "version");
    Some(Peer { name: "caddy".to_owned(), version: format!("Caddy {number}"), program, prepare })
}

fn prepare(program: &Path, setup: &Setup<'_>) -> Outcome<Command> {
    let file = setup.folder.join("Caddyfile");
    std::fs::write(&file, configuration(setup))?;
    let mut command = Command::new(program);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command.env("GOMAXPROCS", "1");
    command.env("XDG_DATA_HOME", setup.folder).env("XDG_CONFIG_HOME", setup.folder).env("HOME", setup.folder);
    Ok(command)
}

fn configuration(setup: &Setup<'_>) -> String {
    let Setup { address, backend, .. } = setup;
    let to_backend =
        format!("reverse_proxy {backend} {{\n transport http {{\n keepalive_idle_conns_per_host 128\n }}\n }}");
    let rules = if setup.work.kind == Kind::Routes { rules(&to_backend) } else { String::new() };
    let site = |address: &str, tls: &str| {
        format!("{address} {{\n bind 127.0.0.1\n{tls}{rules} handle {{\n {to_backend}\n }}\n}}\n")
    };
    let mut text = format!("{{\n admin off\n auto_https off\n}}\n{}", site(&format!("http://:{}", address.port()), ""));
    if let Some(tls) = setup.tls {
        let files = format!(" tls {} {}\n", tls.certificate.display(), tls.key.display());
        text.push_str(&site(&format!("https://:{}", tls.address.port()), &files));
    }
    text
}

fn rules(to_backend: &str) -> String {
    let by_path = (0..RULES / 2).map(|n| format!(" handle {}* {{\n {to_backend}\n }}\n", prefix(n * 2)));
    let by_header = (0..RULES / 2).map(|n| {
        let matcher = format!(" @h{n} {{\n path /shared-*\n header x-tenant {}\n }}\n", tenant(n * 2 + 1));
        format!("{matcher} handle @h{n} {{\n {to_backend}\n }}\n")
    });
    by_path.chain(by_header).collect()
}
