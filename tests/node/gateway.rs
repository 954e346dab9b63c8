//! A tidegate process of the tests' own: free loopback ports, a prefix of its own, gone with the test.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Bound of every wait.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a process is started with. Starting it again on the same ports and prefix is a restart.
pub struct Plan {
    pub directory: TempDir,
    pub proxy: u16,
    pub admin: u16,
    pub status: u16,
    environment: Vec<(String, String)>,
}

/// A running process. Killed when dropped.
pub struct Gateway {
    child: Child,
    pub log: PathBuf,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Plan {
    /// `environment` wins over the ports and the prefix chosen here.
    pub fn new<'a>(environment: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let [proxy, admin, status] = free_ports();
        Self { directory: tempfile::tempdir().unwrap(), proxy, admin, status, environment }
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn prefix(&self) -> PathBuf {
        self.directory.path().join("prefix")
    }

    /// Starts a node and waits until `path` of its status listener answers with 200, and the proxy accepts.
    pub fn start(&self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.wait_for("the node does not get ready", |_| {
            ask(self.status, "GET", "/status/ready", "").is_ok_and(|answer| answer.status == 200) && is_open(self.proxy)
        });
        gateway
    }

    /// Starts a node and waits for nothing.
    pub fn spawn(&self) -> Gateway {
        let log = self.directory.path().join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = self.command(&["start"]);
        command.stdout(file.try_clone().unwrap()).stderr(file).stdin(Stdio::null());
        Gateway { child: command.spawn().unwrap(), log }
    }

    /// Runs another command to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).stdin(Stdio::null()).output().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(words).current_dir(self.directory.path()).env_remove("FLY_MACHINE_ID");
        command.env("TIDEGATE_PREFIX", self.prefix()).env("TIDEGATE_NGINX_WORKER_PROCESSES", "2");
        for (name, port) in [("PROXY", self.proxy), ("ADMIN", self.admin), ("STATUS", self.status)] {
            command.env(format!("TIDEGATE_{name}_LISTEN"), format!("127.0.0.1:{port}"));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Gateway {
    pub fn signal(&self, signal: &str) {
        let status = Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.child.id())).status().unwrap();
        assert!(status.success());
    }

    /// As a crash would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end of the process.
    pub fn ended(mut self) -> ExitStatus {
        let mut status = None;
        self.wait_for("the node does not end", |gateway| {
            status = gateway.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub fn wait_for(&mut self, complaint: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(Instant::now() < deadline, "{complaint}:\n{}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request on a connection of its own; `body` as a form.
pub fn ask(port: u16, method: &str, target: &str, body: &str) -> io::Result<Answer> {
    let mut stream = connect(port)?;
    send(&mut stream, method, target, body)?;
    receive(&mut stream)
}

/// Sends a request that asks for the connection to be closed behind the answer.
pub fn send(stream: &mut TcpStream, method: &str, target: &str, body: &str) -> io::Result<()> {
    let form = if body.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
    let length = body.len();
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{form}\r\n{body}"
    )
}

/// Reads until the connection closes.
pub fn receive(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

pub fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether somebody accepts there.
pub fn is_open(port: u16) -> bool {
    connect(port).is_ok()
}

/// Ports that were free a moment ago, all different.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// What a command wrote.
pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A file beside the prefix, by its text.
pub fn file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
