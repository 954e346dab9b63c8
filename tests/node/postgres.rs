//! A PostgreSQL server of the tests' own: `initdb` and `postgres` from the installed binaries, on a random loopback
//! port, gone with the test process however that ends.
//!
//! `Server::shared()` is for every test that only needs a database; one that stops its server starts its own. The
//! server hangs on a shell that waits for its standard input to close, which the end of this process does; asking the
//! kernel for a signal at the parent's death would need unsafe code.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate::store::postgres::{self, Options};

/// The superuser, and his password in every server of the tests.
const USER: &str = "kong";
const PASSWORD: &str = "it's a secret";

/// The database that migrated ones are copied from.
const TEMPLATE: &str = "tidegate_template";

/// Runs the server until it reads a line or the end, then stops it the way a crash would. At the end nobody is left
/// to come back for the data.
const WATCH: &str = r#"data=$1; shift; "$@" & server=$!; read -r _; left=$?; kill -QUIT $server; wait $server; [ $left = 0 ] || rm -rf "$data""#;

/// A running or stopped server with its data.
pub struct Server {
    directory: TempDir,
    /// What it shows to clients that want TLS, self-signed, PEM.
    pub certificate: String,
    port: u16,
    shell: Mutex<Option<Child>>,
    databases: AtomicU32,
    template: OnceLock<()>,
}

/// A database on a server.
#[derive(Clone, Debug)]
pub struct Database {
    pub port: u16,
    pub name: String,
}

impl Server {
    /// The server that all tests share. Do not stop it.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Server::start)
    }

    /// A server of one's own, accepting connections.
    pub fn start() -> Server {
        let directory = tempfile::Builder::new().prefix("tidegate-pg").tempdir().unwrap();
        own(directory.path());
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        own(&password);
        let data = directory.path().join("data");
        let mut initdb = command("initdb");
        initdb.arg("--pgdata").arg(&data).arg("--pwfile").arg(&password);
        let initdb =
            initdb.args(["--username", USER, "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let (certificate, key) = certificate();
        for (name, text) in [("server.crt", &certificate), ("server.key", &key)] {
            let path = data.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            own(&path);
        }
        let server = Server {
            directory,
            certificate,
            port: free_port(),
            shell: Mutex::new(None),
            databases: AtomicU32::new(0),
            template: OnceLock::new(),
        };
        server.start_again();
        server
    }

    /// Starts a stopped server on the same data and port; returns when it accepts connections.
    pub fn start_again(&self) {
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "watch"]).arg(self.directory.path()).arg(binaries().join("postgres"));
        shell.arg("-D").arg(self.directory.path().join("data")).arg("-p").arg(self.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "max_connections=60",
            "shared_buffers=32MB",
            "autovacuum=off",
            "ssl=on",
        ] {
            shell.arg("-c").arg(setting);
        }
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        shell.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        as_postgres(&mut shell);
        *self.shell() = Some(shell.spawn().unwrap());
        self.wait_until_ready();
    }

    /// Stops it at once, as a crash would; returns when it is gone.
    pub fn stop(&self) {
        if let Some(mut shell) = self.shell().take() {
            shell.stdin.take().unwrap().write_all(b"stop\n").unwrap();
            shell.wait().unwrap();
        }
    }

    /// A new database with the current schema.
    pub fn create_database(&self) -> Database {
        self.template.get_or_init(|| {
            let template = self.created(TEMPLATE.to_owned(), "template0");
            block_on(postgres::bootstrap(template.options())).unwrap();
        });
        self.created(self.next_name(), TEMPLATE)
    }

    /// A new database with nothing in it.
    pub fn create_empty_database(&self) -> Database {
        self.created(self.next_name(), "template0")
    }

    fn created(&self, name: String, template: &str) -> Database {
        let admin = Database { port: self.port, name: "postgres".to_owned() };
        admin.sql(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
        Database { port: self.port, name }
    }

    fn next_name(&self) -> String {
        format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed))
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let admin = Database { port: self.port, name: "postgres".to_owned() };
        // `psql` costs a process, so it is only asked once the port is open.
        let open = || TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))).is_ok();
        while !(open() && admin.try_sql("SELECT 1").is_ok()) {
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn shell(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.shell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Database {
    /// How the store connects to it.
    pub fn options(&self) -> Options {
        Options {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: USER.to_owned(),
            password: Some(PASSWORD.to_owned()),
            database: self.name.clone(),
            schema: None,
            timeout: Duration::from_secs(5),
            ssl: false,
            ssl_verify: false,
            roots: Vec::new(),
        }
    }

    /// How a process is told to use it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KONG_DATABASE", "postgres".to_owned()),
            ("KONG_PG_HOST", "127.0.0.1".to_owned()),
            ("KONG_PG_PORT", self.port.to_string()),
            ("KONG_PG_USER", USER.to_owned()),
            ("KONG_PG_PASSWORD", PASSWORD.to_owned()),
            ("KONG_PG_DATABASE", self.name.clone()),
        ]
    }

    /// Runs SQL as a person with `psql` would and answers its output, unaligned and without headers.
    pub fn sql(&self, statements: &str) -> String {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// As `sql`, where a refusal is expected.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        let mut psql = Command::new(binaries().join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", USER, "-d", &self.name]);
        psql.arg("-p").arg(self.port.to_string()).env("PGPASSWORD", PASSWORD);
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// The newest installed server's programs.
fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let newest = installed.map(|entry| entry.path()).max_by_key(|path| version(path));
        newest.expect("PostgreSQL is not installed: ./tests/run.sh installs it").join("bin")
    })
}

fn command(program: &str) -> Command {
    let mut command = Command::new(binaries().join(program));
    as_postgres(&mut command);
    command
}

/// PostgreSQL refuses to run as root, so root becomes the user that its package made.
fn as_postgres(command: &mut Command) {
    if let Some((user, group)) = postgres_user() {
        command.uid(user).gid(group);
    }
    command.current_dir("/");
}

fn own(path: &Path) {
    if let Some((user, group)) = postgres_user() {
        chown(path, Some(user), Some(group)).unwrap();
    }
}

/// `None` when this process is not root.
fn postgres_user() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("no user postgres");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((fields.next()?, fields.next()?))
}

/// Certificate and key, PEM.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Runs a future from synchronous code, which may itself be called from a runtime.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(future)).join().unwrap())
}
