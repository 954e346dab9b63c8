//! `tidegate health`: does the node of this prefix run, and does its status listener call it ready?

use std::net::SocketAddr;
use std::path::Path;

use crate::node::command::failure::Failure;
use crate::node::instance;
use crate::node::local_http::{ask, local};
use crate::node::settings::Settings;
use crate::node::terminal::say;

pub fn run(settings: &Settings) -> Result<(), Failure> {
    let prefix = &settings.node.prefix;
    if instance::running(prefix).is_none() {
        return Err(format!("tidegate is not running at {}", prefix.display()).into());
    }
    say("tidegate.......running\n\n");
    if let Some(address) = local(&settings.admin.status_listen) {
        ready(address, prefix)?;
    }
    say(&format!("tidegate is healthy at {}\n", prefix.display()));
    Ok(())
}

fn ready(address: SocketAddr, prefix: &Path) -> Result<(), Failure> {
    let answer = ask(address, "GET", "/status/ready", None);
    let answer = answer.map_err(|error| format!("the status listener at {address} does not answer: {error}"))?;
    if answer.status == 200 {
        return Ok(());
    }
    Err(format!("tidegate at {} is running and not ready: {}", prefix.display(), answer.body.trim()).into())
}
