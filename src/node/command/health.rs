//! `tidegate health`: does the node of this prefix run, and does its status listener call it ready?

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::node::command::{Failure, instance, say};
use crate::node::settings::Settings;

const PATIENCE: Duration = Duration::from_secs(5);
/// What is read of an answer at most.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

pub fn run(settings: &Settings) -> Result<(), Failure> {
    let prefix = &settings.node.prefix;
    if instance::running(prefix).is_none() {
        return Err(format!("tidegate is not running at {}", prefix.display()).into());
    }
    say("tidegate.......running\n\n");
    if let Some(address) = status_address(settings) {
        ready(address, prefix)?;
    }
    say(&format!("tidegate is healthy at {}\n", prefix.display()));
    Ok(())
}

/// The first status listener that needs no TLS.
fn status_address(settings: &Settings) -> Option<SocketAddr> {
    let plain = settings.admin.status_listen.iter().find(|entry| !entry.ssl())?;
    let mut address = plain.addresses().ok()?.first()?.socket;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    Some(address)
}

fn ready(address: SocketAddr, prefix: &Path) -> Result<(), Failure> {
    let answer = ask(address).map_err(|error| format!("the status listener at {address} does not answer: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    if head.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(format!("tidegate at {} is running and not ready: {}", prefix.display(), body.trim()).into())
}

fn ask(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /status/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
