//! The kind `services`.

use crate::entity::declare::Declaration;

pub static DECLARATION: Declaration = Declaration { name: "services", ..Declaration::EMPTY };

/// A service as the request path reads it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Service {
    pub id: uuid::Uuid,
    pub name: Option<String>,
    pub protocol: String,
    pub host: String,
    pub port: u16,
    pub path: Option<String>,
    pub retries: Option<u32>,
    pub connect_timeout: Option<u64>,
    pub write_timeout: Option<u64>,
    pub read_timeout: Option<u64>,
    pub tls_verify: Option<bool>,
    pub tls_verify_depth: Option<u32>,
    pub enabled: bool,
}
