//! The smallest proxy that can be written with Pingora: the crate in `bench/pingora`, built on its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::peer::{Peer, Setup};

pub fn find() -> Option<Peer> {
    let crate_folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pingora");
    let program = crate_folder.join("target/release/tidegate-bench-pingora");
    if !program.is_file() {
        return None;
    }
    let lock = std::fs::read_to_string(crate_folder.join("Cargo.lock")).unwrap_or_default();
    let after = lock.split("name = \"pingora-core\"\nversion = \"").nth(1).unwrap_or_default();
    let version = format!("pingora {}", after.split('"').next().unwrap_or_default());
    Some(Peer { name: "pingora".to_owned(), version, program, prepare })
}

fn prepare(program: &Path, setup: &Setup<'_>) -> Outcome<Command> {
    let mut command = Command::new(program);
    command.arg(setup.address.to_string()).arg(setup.backend.to_string());
    if let Some(tls) = setup.tls {
        command.arg(tls.address.to_string()).arg(&tls.certificate).arg(&tls.key);
    }
    Ok(command)
}
