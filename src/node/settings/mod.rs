//! What the process starts with: two types, `Said` (which words, from which source) and `Settings` (what they mean),
//! one struct per concern. The table of properties stands between them.
//!
//! Loading is pure but for the reading of files, finds every mistake in one pass, and survives any bytes.

pub mod durable;
pub mod edge;
pub mod general;
pub mod listen;
mod property;
pub mod reader;
pub mod said;
pub mod table;
pub mod value;

mod conf_file;
mod vault;

use std::path::PathBuf;

use crate::node::settings::reader::Reader;
use crate::node::settings::said::{Said, Sources};

/// What the words mean.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node: general::Node,
    pub logs: general::Logs,
    pub proxy: edge::Proxy,
    pub admin: edge::Admin,
    pub database: durable::Database,
    pub cluster: durable::Cluster,
    /// Kong: `database` is `postgres` unless something else is said. Here it is not, which must not go unseen.
    postgres_forgotten: bool,
    /// `configuration` of `GET /`.
    pub document: serde_json::Value,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Properties and directives that were set and mean nothing here.
    pub without_effect: Vec<String>,
    /// What was set and is no property at all, or no setting.
    pub unknown: Vec<String>,
}

impl Settings {
    /// Everything, or everything that is wrong: never empty, in the order of the table.
    pub fn load(sources: &Sources<'_>) -> Result<Self, Vec<String>> {
        let (said, problems) = Said::gather(sources);
        let problems = problems.into_iter().chain(unsupported(&said)).collect();
        let environment = &sources.environment;
        let mut reader = Reader::new(&said, environment, problems);
        let node = general::Node::read(&mut reader, environment);
        let settings = Self {
            logs: general::Logs::read(&reader, &node.prefix),
            proxy: edge::Proxy::read(&mut reader),
            admin: edge::Admin::read(&mut reader),
            database: durable::Database::read(&mut reader),
            cluster: durable::Cluster::read(&mut reader, environment),
            document: reader.document(),
            without_effect: said::without_effect(&said).into_iter().map(str::to_owned).collect(),
            unknown: unknown(&said),
            postgres_forgotten: said.text("pg_host").is_some() && said.text("database").is_none(),
            file: said.file,
            node,
        };
        if reader.has_problems() { Err(reader.into_problems()) } else { Ok(settings) }
    }

    /// Sentences that operators must not miss.
    pub fn warnings(&self) -> Vec<String> {
        let open = self.admin.is_open().then(|| {
            let listeners: Vec<_> = self.admin.listen.iter().map(ToString::to_string).collect();
            format!(
                "the Admin API listens beyond loopback ({}) and admin_token is not set: whoever reaches it controls \
                 this gateway",
                listeners.join(", ")
            )
        });
        let forgotten = self.postgres_forgotten.then(|| {
            "pg_host is set and database is not: entities rest in the embedded store; set database = postgres to use \
             PostgreSQL"
                .to_owned()
        });
        open.into_iter().chain(forgotten).chain(self.cluster_alone()).collect()
    }

    /// Kong: nodes of one database need nothing else to be a cluster. Here they need the mesh for what is fast.
    fn cluster_alone(&self) -> Option<String> {
        (self.cluster.listen.is_some() && matches!(self.database, durable::Database::Off(_))).then(|| {
            "the cluster is on and database = off: nodes see each other, and each keeps its own configuration"
                .to_owned()
        })
    }
}

/// Kong: its own sentence for a database that it once had.
fn unsupported(said: &Said) -> Option<String> {
    (said.text("database") == Some("cassandra")).then(|| {
        "Cassandra as a datastore for Kong is not supported in versions 3.4 and above. Please use Postgres.".to_owned()
    })
}

fn unknown(said: &Said) -> Vec<String> {
    let lines = said.odd_lines.iter().map(|line| format!("line {line}"));
    said.unknown.iter().cloned().chain(lines).collect()
}

#[cfg(test)]
mod tests;
