//! A tidegate node as a process of its own, on loopback ports of its own.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres::Database;
use crate::scenario::client::{Answer, Client, NoAnswer};

/// How long a node may take until its proxy answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// The settings and ports of a node, whether it runs or not.
pub struct Node {
    settings: Vec<(String, String)>,
    pub admin: SocketAddr,
    pub proxy: SocketAddr,
    pub proxytls: SocketAddr,
    pub status: SocketAddr,
    prefix: TempDir,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet. `settings` are property names and values.
    pub fn new<N: Into<String>, V: Into<String>>(settings: impl IntoIterator<Item = (N, V)>) -> Self {
        let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let prefix = tempfile::tempdir().expect("a temporary directory");
        Self {
            settings,
            admin: free_address(),
            proxy: free_address(),
            proxytls: free_address(),
            status: free_address(),
            prefix,
            child: None,
        }
    }

    /// A node that is ready.
    pub fn started<N: Into<String>, V: Into<String>>(settings: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut node = Self::new(settings);
        node.start();
        node.wait_ready(START_LIMIT);
        node
    }

    pub fn prefix(&self) -> &Path {
        self.prefix.path()
    }

    pub fn log_path(&self) -> PathBuf {
        self.prefix.path().join("test.log")
    }

    /// What the process wrote so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts the process; `wait_ready` waits for it.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the node runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let child = self.command("start").stdout(log.try_clone().expect("a log file")).stderr(log).spawn();
        self.child = Some(child.expect("the program starts"));
    }

    /// Any command of the program under this node's settings.
    pub fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env_clear().envs(std::env::vars().filter(|(name, _)| !name.starts_with("KONG_")));
        command.args(words.split(' ')).stdin(Stdio::null());
        let own = [
            ("prefix", self.prefix.path().display().to_string()),
            ("admin_listen", self.admin.to_string()),
            ("proxy_listen", format!("{}, {} ssl http2", self.proxy, self.proxytls)),
            ("status_listen", self.status.to_string()),
            ("nginx_worker_processes", "2".to_owned()),
            ("proxy_access_log", "off".to_owned()),
            ("admin_access_log", "off".to_owned()),
        ];
        for (name, value) in own {
            command.env(format!("TIDEGATE_{}", name.to_uppercase()), value);
        }
        for (name, value) in &self.settings {
            command.env(format!("TIDEGATE_{}", name.to_uppercase()), value);
        }
        command
    }

    /// Waits until the node says that it is ready and its proxy port is open.
    pub fn wait_ready(&mut self, limit: Duration) -> Duration {
        let begun = Instant::now();
        loop {
            let ready = self.get(self.status, "/status/ready").is_ok_and(|answer| answer.status == 200);
            if ready && std::net::TcpStream::connect_timeout(&self.proxy, Duration::from_secs(1)).is_ok() {
                return begun.elapsed();
            }
            let ended = self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            assert!(!ended, "the node ended:\n{}", self.log());
            assert!(begun.elapsed() < limit, "the node is not ready within {limit:?}:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// One GET on a connection of its own.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<Answer, NoAnswer> {
        Client::new(address, false).request("GET", path, &[], b"", Duration::from_secs(5))
    }

    /// One Admin request with a JSON body, on a connection of its own.
    pub fn admin(&self, method: &str, path: &str, body: &serde_json::Value) -> Result<Answer, NoAnswer> {
        let kind = [("Content-Type".to_owned(), "application/json".to_owned())];
        let (headers, body) = match body {
            serde_json::Value::Null => (&[][..], Vec::new()),
            body => (&kind[..], body.to_string().into_bytes()),
        };
        Client::new(self.admin, false).request(method, path, headers, &body, Duration::from_secs(10))
    }

    /// Like `admin`, for requests that have to work: panics unless the status is 2xx.
    pub fn admin_ok(&self, method: &str, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let answer = self.admin(method, path, body).expect("the Admin API answers");
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text());
        answer.json().unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Like `kill`, from a thread that only borrows the node; `reap` has to follow.
    pub fn kill_by_pid(&self) {
        self.signal("KILL");
    }

    /// Takes notice of a process that was killed.
    pub fn reap(&mut self) {
        self.kill();
    }

    /// Sends a signal by name: `TERM`, `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// SIGTERM, then waits for the end; answers the exit code.
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        self.signal("TERM");
        self.ended(limit)
    }

    /// Waits for the end of the process; answers the exit code.
    pub fn ended(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        self.wait_for("the node did not stop", limit, |node| {
            status = node.child.as_mut().expect("the node runs").try_wait().expect("the process can be asked");
            status.is_some()
        });
        self.child = None;
        status?.code()
    }

    /// Waits until `condition` holds; panics with the complaint and the log when it does not within `limit`.
    pub fn wait_for(&mut self, complaint: &str, limit: Duration, mut condition: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < limit, "{complaint} within {limit:?}:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The settings of a node on this database.
pub fn settings_of(database: &Database) -> Vec<(String, String)> {
    let bare = |name: &str| name.trim_start_matches("KONG_").to_lowercase();
    database.env().into_iter().map(|(name, value)| (bare(name), value)).collect()
}

/// A loopback address that is free now and that no other test of this process gets. Below the range from which the
/// system takes ports for outgoing connections.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = (std::process::id() % 100) as u16 * 97;
        let port = 20_000 + (start + step) % 12_000;
        if free(port).is_ok() {
            return SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        }
    }
}

fn free(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}
