//! nginx of the distribution: the yardstick.

use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::peer::{Peer, Setup, on_path, version};
use crate::work::{Kind, RULES, prefix, tenant};

pub fn find() -> Option<Peer> {
    let program = on_path("nginx")?;
    Some(Peer { name: "nginx".to_owned(), version: version(&program, "-v"), program, prepare })
}

fn prepare(program: &Path, setup: &Setup<'_>) -> Outcome<Command> {
    let file = setup.folder.join("nginx.conf");
    std::fs::write(&file, configuration(setup))?;
    let mut command = Command::new(program);
    command.arg("-c").arg(file).arg("-p").arg(setup.folder);
    Ok(command)
}

fn configuration(setup: &Setup<'_>) -> String {
    let Setup { folder, address, backend, .. } = setup;
    let folder = folder.display();
    let tls = setup.tls.map_or(String::new(), |tls| {
        let (certificate, key) = (tls.certificate.display(), tls.key.display());
        format!(
            "listen {} ssl http2 backlog=16384;\nssl_certificate {certificate};\nssl_certificate_key {key};\n",
            tls.address
        )
    });
    let (map, locations) = if setup.work.kind == Kind::Routes { rules() } else { Default::default() };
    // A chunked body is buffered with its framing, so the buffer is larger than the body.
    let body_buffer = match setup.work.kind {
        Kind::ChunkedUpload(body_len) => format!("{}k", body_len / 1024 + 64),
        _ => "128k".to_owned(),
    };
    format!(
        "worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_max_body_size 0;
  client_body_buffer_size {body_buffer};
  proxy_max_temp_file_size 0;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
  upstream backend {{ server {backend}; keepalive 128; keepalive_requests 100000000; }}
  {map}
  server {{
    listen {address} backlog=16384;
    {tls}
    {locations}
    location / {{ proxy_pass http://backend; }}
  }}
}}
"
    )
}

/// A map of headers to upstreams, and locations.
fn rules() -> (String, String) {
    let tenants: String = (0..RULES / 2).map(|n| format!("    {} backend;\n", tenant(n * 2 + 1))).collect();
    let map = format!("map $http_x_tenant $tenant {{\n    default backend;\n{tenants}  }}\n");
    let mut locations: String =
        (0..RULES / 2).map(|n| format!("location {} {{ proxy_pass http://backend; }}\n", prefix(n * 2))).collect();
    locations.push_str("location /shared- { proxy_pass http://$tenant; }\n");
    (map, locations)
}
