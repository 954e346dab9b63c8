//! The gateways that are compared, each as a process on the first core.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::Outcome;
use crate::cpu;

/// A running gateway; ends when dropped.
pub struct Gateway {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Gateway {
    /// nginx of the distribution, one worker, with keep-alive to the backend and the usual forwarding headers.
    pub async fn nginx(backend: SocketAddr) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let address = free().await?;
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, nginx_conf(folder.path(), address, backend))?;
        let mut command = on_first_core("nginx");
        command.arg("-c").arg(&path).arg("-p").arg(folder.path());
        let gateway = Self { address, child: command.spawn()?, _folder: folder };
        gateway.wait_for("/plain/x", "").await?;
        Ok(gateway)
    }

    /// Tidegate of this workspace, one worker, embedded store, configured through its Admin API.
    pub async fn tidegate(backend: SocketAddr) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let (address, admin, status) = (free().await?, free().await?, free().await?);
        let mut command = on_first_core(binary()?.to_str().ok_or("the path of the program is not UTF-8")?);
        let log = std::fs::File::create(folder.path().join("log"))?;
        command.arg("start").stdout(log.try_clone()?).stderr(log);
        let settings = [
            ("PREFIX", folder.path().display().to_string()),
            ("DATABASE", "embedded".to_owned()),
            ("PROXY_LISTEN", format!("{address} reuseport backlog=16384")),
            ("ADMIN_LISTEN", admin.to_string()),
            ("STATUS_LISTEN", status.to_string()),
            ("NGINX_WORKER_PROCESSES", "1".to_owned()),
            ("PROXY_ACCESS_LOG", "off".to_owned()),
            ("ADMIN_ACCESS_LOG", "off".to_owned()),
        ];
        command.envs(settings.map(|(name, value)| (format!("TIDEGATE_{name}"), value)));
        let gateway = Self { address, child: command.spawn()?, _folder: folder };
        configure(admin, backend).await?;
        gateway.wait_for("/plain/x", "").await?;
        gateway.wait_for("/limited/x", "apikey: bench-key\r\n").await?;
        Ok(gateway)
    }

    /// CPU that the gateway's processes have used so far, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        cpu::spent_us(self.child.id())
    }

    pub fn resident_kb(&self) -> u64 {
        cpu::resident_kb(self.child.id())
    }

    async fn wait_for(&self, path: &str, headers: &str) -> Outcome<()> {
        let begun = Instant::now();
        loop {
            let answer = ask(self.address, "GET", path, headers, "").await;
            if answer.as_ref().is_ok_and(|text| text.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(15) {
                return Err(format!("{path} does not answer: {answer:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn on_first_core(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", program]).stdin(Stdio::null());
    command
}

/// `tidegate` beside this program: both are built by the same cargo.
fn binary() -> Outcome<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("tidegate");
    if path.exists() {
        return Ok(path);
    }
    Err("build tidegate first: cargo build --release".into())
}

fn nginx_conf(folder: &Path, address: SocketAddr, backend: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "worker_processes 1;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000;\n\
         client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n\
         uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000; }}\n\
         server {{\n    listen {address} backlog=16384;\n    location / {{\n      proxy_pass http://backend;\n\
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
         proxy_set_header X-Real-IP $remote_addr;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n    }}\n  }}\n}}\n"
    )
}

async fn configure(admin: SocketAddr, backend: SocketAddr) -> Outcome<()> {
    let limits = r#"{"name":"rate-limiting","config":{"minute":1000000000,"policy":"local"}}"#;
    let requests = [
        ("/services", format!(r#"{{"name":"s","url":"http://{backend}"}}"#)),
        ("/services/s/routes", r#"{"name":"plain","paths":["/plain"]}"#.to_owned()),
        ("/services/s/routes", r#"{"name":"limited","paths":["/limited"]}"#.to_owned()),
        ("/routes/limited/plugins", r#"{"name":"key-auth"}"#.to_owned()),
        ("/routes/limited/plugins", limits.to_owned()),
        ("/consumers", r#"{"username":"bench"}"#.to_owned()),
        ("/consumers/bench/key-auth", r#"{"key":"bench-key"}"#.to_owned()),
    ];
    wait_until_open(admin).await?;
    for (path, body) in requests {
        let answer = ask(admin, "POST", path, "Content-Type: application/json\r\n", &body).await?;
        if !answer.starts_with("HTTP/1.1 201") {
            return Err(format!("POST {path}: {answer}").into());
        }
    }
    Ok(())
}

async fn wait_until_open(address: SocketAddr) -> Outcome<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if begun.elapsed() > Duration::from_secs(15) {
            return Err(format!("nothing listens on {address}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// One request on a connection of its own; the whole answer as text.
async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}
