//! Settings of where entities rest, and of the cluster that carries them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::node::settings::listen::{Host, host_and_port, host_name};
use crate::node::settings::reader::Reader;

/// Which store, with what it needs.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file under `prefix`.
    Embedded,
    Postgres(Postgres),
    Off(Declarative),
}

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct Postgres {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub schema: Option<String>,
    /// Bound of connecting and of each query.
    pub timeout: Duration,
    pub ssl: bool,
    /// Whether the server's certificate must be for `host` and of a trusted authority.
    pub ssl_verify: bool,
    /// PEM bundles beside the system's roots.
    pub trusted_certificates: Vec<PathBuf>,
    /// How often this node asks for changes of other nodes.
    pub poll: Duration,
}

/// What to serve without a database.
#[derive(Clone, Debug, Default)]
pub struct Declarative {
    pub file: Option<PathBuf>,
    /// Wins over the file.
    pub text: Option<String>,
}

/// The mesh between nodes.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub listen: Option<SocketAddr>,
    pub advertise: Option<(Host, u16)>,
    /// A missing port is that of `listen`.
    pub seeds: Vec<(Host, Option<u16>)>,
    pub secret: Option<String>,
    pub secret_previous: Option<String>,
    pub cert: Option<PathBuf>,
    pub cert_key: Option<PathBuf>,
    pub ca_cert: Option<PathBuf>,
    /// On a Machine of Fly, where segmentation offload is accepted and then fails.
    pub on_fly: bool,
}

impl Database {
    pub fn read(reader: &mut Reader) -> Self {
        match reader.text("database").as_deref() {
            Some("postgres") => Self::Postgres(Postgres::read(reader)),
            Some("off") => Self::Off(Declarative {
                file: reader.text("declarative_config").map(PathBuf::from),
                text: reader.text("declarative_config_string"),
            }),
            _ => Self::Embedded,
        }
    }

    /// The value of the property.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Postgres(_) => "postgres",
            Self::Off(_) => "off",
        }
    }
}

impl Postgres {
    fn read(reader: &mut Reader) -> Self {
        let text = |name| reader.text(name).unwrap_or_default();
        let (host, user, database) = (text("pg_host"), text("pg_user"), text("pg_database"));
        let bundles = reader.list("lua_ssl_trusted_certificate");
        let poll = reader.seconds("db_update_frequency").unwrap_or(Duration::from_secs(1));
        Self {
            host,
            user,
            database,
            port: reader.whole("pg_port", 1..=65_535).unwrap_or(5432) as u16,
            password: reader.text("pg_password"),
            schema: reader.text("pg_schema"),
            timeout: Duration::from_millis(reader.whole("pg_timeout", 1..=3_600_000).unwrap_or(5_000)),
            ssl: reader.flag("pg_ssl"),
            ssl_verify: reader.flag("pg_ssl_verify"),
            trusted_certificates: bundles.iter().filter(|path| *path != "system").map(PathBuf::from).collect(),
            poll: poll.max(Duration::from_millis(100)),
        }
    }
}

impl Cluster {
    pub fn read(reader: &mut Reader, environment: &BTreeMap<String, String>) -> Self {
        let fly = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        let (secret, cert) = (reader.text("cluster_secret"), reader.text("cluster_cert").map(PathBuf::from));
        let said = reader.parsed("cluster_listen", "off, or IP:PORT", |text| match text {
            "off" => Some(None),
            _ => text.parse().ok().map(Some),
        });
        let protected = secret.is_some() || cert.is_some();
        let listen = said.unwrap_or_else(|| protected.then_some(SocketAddr::from(([0u16; 8], 8005))));
        if listen.is_some() && !protected {
            reader
                .problem("cluster_listen needs cluster_secret, or cluster_cert with its key and authority".to_owned());
        }
        let mut seeds = reader.each(
            "cluster_seeds",
            |item| format!("cluster_seeds must be a comma separated list of HOST[:PORT], got '{item}'"),
            seed,
        );
        if let (true, Some(app)) = (seeds.is_empty() && listen.is_some(), fly("FLY_APP_NAME")) {
            seeds.push((Host::Name(format!("{app}.internal")), None));
        }
        let private = fly("FLY_PRIVATE_IP").and_then(|ip| Some((Host::Ip(ip.parse().ok()?), listen?.port())));
        let cluster = Self {
            listen,
            advertise: reader.parsed("cluster_advertise", "HOST:PORT", host_and_port).or(private),
            seeds,
            secret,
            secret_previous: reader.text("cluster_secret_previous"),
            cert,
            cert_key: reader.text("cluster_cert_key").map(PathBuf::from),
            ca_cert: reader.text("cluster_ca_cert").map(PathBuf::from),
            on_fly: fly("FLY_MACHINE_ID").is_some(),
        };
        cluster.check(reader);
        cluster
    }

    fn check(&self, reader: &mut Reader) {
        let files = [&self.cert, &self.cert_key, &self.ca_cert].into_iter().flatten().count();
        if files != 0 && files != 3 {
            reader.problem("cluster_cert, cluster_cert_key and cluster_ca_cert must be given together".to_owned());
        }
        if self.secret.as_ref().is_some_and(|secret| secret.len() < 16) {
            reader.problem("cluster_secret must have at least 16 characters".to_owned());
        }
    }
}

fn seed(text: &str) -> Option<(Host, Option<u16>)> {
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse() {
        return Some((Host::Ip(ip), None));
    }
    match host_and_port(text) {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((Host::Name(host_name(text)?.to_owned()), None)),
    }
}
