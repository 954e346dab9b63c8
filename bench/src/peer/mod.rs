//! The gateways that are compared: how each is found on this machine, and its process on the first core.
//!
//! Every one has one worker, keeps connections to the backend, writes no access log, and adds the usual forwarding
//! headers where that is a line of its configuration. What its defaults would make it do beyond that (files for bodies, a
//! limit of requests per connection) is switched off, in the peer's favour.

pub mod caddy;
pub mod envoy;
pub mod haproxy;
pub mod nginx;
pub mod pingora;
pub mod tidegate;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Outcome;
use crate::cpu;
use crate::wire::{Load, Wire};
use crate::work::{Kind, Work};

/// A gateway that can be started.
pub struct Peer {
    pub name: String,
    pub program: PathBuf,
    pub version: String,
    /// The command that starts it, its files written to the folder.
    pub prepare: fn(&Path, &Setup<'_>) -> Outcome<Command>,
}

/// What a gateway is to do.
pub struct Setup<'s> {
    pub folder: &'s Path,
    pub address: SocketAddr,
    /// Where TLS with HTTP/2 is listened for, in the works that have it.
    pub tls: Option<&'s Tls>,
    pub backend: SocketAddr,
    pub work: &'s Work,
}

/// Where a gateway listens for TLS, and its certificate in PEM files.
pub struct Tls {
    pub address: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// One after the other in one file.
    pub both: PathBuf,
}

/// A running gateway; ends when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    pub tls: Option<SocketAddr>,
    child: Child,
    folder: TempDir,
}

/// Patience with a start and with an end.
const START_MAX: Duration = Duration::from_secs(30);
const END_MAX: Duration = Duration::from_secs(3);

impl Peer {
    /// Starts it for a work, and waits until it answers.
    pub fn start(&self, work: &Work, wire: &mut Wire) -> Outcome<Gateway> {
        let folder = tempfile::tempdir()?;
        let address = free()?;
        let tls = (work.kind == Kind::Http2).then(|| Tls::make(folder.path())).transpose()?;
        let setup = Setup { folder: folder.path(), address, tls: tls.as_ref(), backend: wire.backend, work };
        let command = (self.prepare)(&self.program, &setup)?;
        let mut gateway = Gateway::launch(&command, folder, address, tls.map(|tls| tls.address))?;
        gateway.wait_until_it_answers(work, wire).map_err(|error| format!("{}: {error}", self.name))?;
        Ok(gateway)
    }
}

impl Gateway {
    /// Runs a command on the first core, its output in the folder. It may not listen yet when this returns.
    pub fn launch(
        command: &Command,
        folder: TempDir,
        address: SocketAddr,
        tls: Option<SocketAddr>,
    ) -> Outcome<Gateway> {
        let log = std::fs::File::create(folder.path().join("log"))?;
        let child = pinned(command).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        Ok(Gateway { address, tls, child, folder })
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// CPU that the gateway's processes have used so far, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        cpu::spent_us(self.child.id())
    }

    pub fn resident_kb(&self) -> u64 {
        cpu::resident_kb(self.child.id())
    }

    fn wait_until_it_answers(&mut self, work: &Work, wire: &mut Wire) -> Outcome<()> {
        let begun = Instant::now();
        let requests = work.requests();
        let load = Load {
            address: self.address,
            requests: &requests[..1],
            answer_len: work.answer_len,
            connections: 1,
            connection_per_request: work.connection_per_request(),
            keep_alive_by_field: work.keep_alive_by_field(),
            rate: Some(100.0),
            lasts: Duration::from_millis(20),
            until: None,
        };
        loop {
            let done = wire.send(&load)?;
            if done.answered > 0 && done.failed == 0 {
                return Ok(());
            }
            if begun.elapsed() > START_MAX || self.has_ended() {
                return Err(format!("does not answer as it should; its log:\n{}", self.log()).into());
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        // nginx takes its worker along only when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let asked = Instant::now();
        while asked.elapsed() < END_MAX && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Tls {
    /// Makes a certificate for `bench.test`.
    pub fn make(folder: &Path) -> Outcome<Tls> {
        let made = rcgen::generate_simple_self_signed(["bench.test".to_owned()])?;
        let (certificate, key, both) = (folder.join("cert.pem"), folder.join("key.pem"), folder.join("both.pem"));
        std::fs::write(&certificate, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        std::fs::write(&both, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()))?;
        Ok(Tls { address: free()?, certificate, key, both })
    }
}

/// A program of the search path.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The first line that a program prints about its version.
pub fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else { return String::new() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

fn pinned(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", "0"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => pinned.env(name, value),
            None => pinned.env_remove(name),
        };
    }
    pinned
}

/// An address that nothing listens on now.
pub fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?)
}
