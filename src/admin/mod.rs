//! The Admin API: one generic CRUD over the entity declarations, and what a node says about itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::entity::declare::Plugins;
use crate::listen::Traffic;
use crate::listen::access_log::AccessLog;
use crate::listen::bind::Address;
use crate::listen::tls::Certificates;
use crate::snapshot::Live;
use crate::store::ledger::Ledger;

/// What the Admin and status listeners get from the settings.
pub struct Options {
    pub admin_listen: Vec<Address>,
    pub status_listen: Vec<Address>,
    pub admin_certificates: Option<Arc<Certificates>>,
    pub status_certificates: Option<Arc<Certificates>>,
    pub admin_access_log: AccessLog,
    pub status_access_log: AccessLog,
    /// When set, requests need it in `Kong-Admin-Token` or `Authorization: Bearer`.
    pub token: Option<String>,
    /// Good for GET, HEAD and OPTIONS only.
    pub token_readonly: Option<String>,
    /// `headers`: whether answers say `Server` and `X-Kong-Admin-Latency`.
    pub server_header: bool,
    pub latency_header: bool,
    /// Bytes of a request body; more is answered 413.
    pub max_body_size: usize,
    /// Origins of `admin_gui_url`.
    pub gui_origins: Vec<String>,
    /// `configuration` of `GET /`: every setting, secrets masked.
    pub configuration: serde_json::Value,
    pub node_id: String,
    pub hostname: String,
    /// Sentences for the `warnings` member of `GET /`.
    pub warnings: Vec<String>,
}

/// What the Admin API looks at and acts on.
#[derive(Clone)]
pub struct Handles {
    pub ledger: Arc<Ledger>,
    pub live: Arc<Live>,
    pub plugins: Plugins,
    pub traffic: Arc<Traffic>,
    /// Cancelled when the node drains, by a signal or by `POST /status/ready`.
    pub draining: CancellationToken,
    pub log_level: Arc<dyn LogLevel>,
}

/// The level of the error log, changeable while running. Names are Kong's: debug info notice warn error crit alert emerg.
pub trait LogLevel: Send + Sync {
    fn current(&self) -> String;
    /// The configured level returns after `hold`.
    fn set(&self, level: &str, hold: Duration);
}

/// The running Admin API.
pub struct Admin {}

impl Admin {
    /// Binds and serves on the current runtime.
    pub fn start(options: Options, handles: Handles) -> io::Result<Self> {
        let _ = (options, handles);
        unimplemented!()
    }

    /// Stops accepting and finishes what runs, at most `limit` long.
    pub async fn drain(self, limit: Duration) {
        let _ = limit;
    }
}
