//! How the database is reached.

use std::time::Duration;

/// Where the database is and how to speak with it: Kong's `pg_*`.
#[derive(Clone)]
pub struct Options {
    /// A name, an address, or (beginning with `/`) the directory of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    /// `None`: `public`. Made by `migrations bootstrap` when missing.
    pub schema: Option<String>,
    /// For connecting and for each answer.
    pub timeout: Duration,
    /// TLS, or no connection.
    pub ssl: bool,
    /// Without it any certificate will do.
    pub ssl_verify: bool,
    /// PEM bundles that are trusted beside the system's (`lua_ssl_trusted_certificate`).
    pub roots: Vec<Vec<u8>>,
}

impl Options {
    /// Which history revisions count in, for `Local`. No secrets.
    pub fn origin(&self) -> String {
        format!("postgres://{}:{}/{}/{}", self.host, self.port, self.database, self.schema())
    }

    pub(super) fn schema(&self) -> &str {
        self.schema.as_deref().unwrap_or("public")
    }
}

/// An identifier as SQL takes it.
pub fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}
