//! The Admin API: one generic CRUD over the entity declarations, and what a node says about itself.
//!
//! Three layers: `server` has the sockets, `front` what every answer has in common, `api` and `status` the answers.
//! From `front` inwards everything is a function from a request to an answer. A web framework would bring a second
//! server stack for a table of twenty paths.

mod api;
mod body;
mod cluster;
mod config;
mod entities;
mod front;
mod handles;
mod info;
mod limits;
mod metrics;
mod place;
mod query;
mod reply;
mod schemas;
mod server;
mod stall;
mod status;
mod tags;
mod token;
mod wait;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;

pub use crate::admin::handles::{Handles, LogLevel};

use crate::admin::api::Api;
use crate::admin::config::Loader;
use crate::admin::front::Manners;
use crate::admin::info::About;
use crate::admin::server::{Limits, Stop, Surface, listen};
use crate::admin::status::Status;
use crate::admin::token::Door;
use crate::listen::access_log::AccessLog;
use crate::listen::bind::Address;
use crate::listen::tls::Certificates;

/// Bytes of a body on the status listener: it takes one word.
const STATUS_BODY_BYTES: usize = 4096;

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

/// The running Admin API.
pub struct Admin {
    admin: Vec<SocketAddr>,
    status: Vec<SocketAddr>,
    stop: Stop,
}

impl Admin {
    /// Binds and serves on the current runtime.
    pub fn start(options: Options, handles: Handles) -> io::Result<Self> {
        let stop = Stop::default();
        let about = Arc::new(about(&options));
        let loader = Arc::new(Loader::default());
        let admin = Arc::new(Surface {
            service: api(&options, about.clone(), loader.clone(), handles.clone()),
            access_log: options.admin_access_log.clone(),
            max_body_size: options.max_body_size,
            limits: Limits::default(),
        });
        let status = Arc::new(Surface {
            service: status(&options, about, loader, handles),
            access_log: options.status_access_log.clone(),
            max_body_size: STATUS_BODY_BYTES,
            limits: Limits::default(),
        });
        let on_admin = |address| listen(address, options.admin_certificates.as_ref(), &admin, &stop);
        let on_status = |address| listen(address, options.status_certificates.as_ref(), &status, &stop);
        let bound = |addresses: io::Result<Vec<_>>| addresses.inspect_err(|_| stop.token.cancel());
        Ok(Self {
            admin: bound(options.admin_listen.iter().map(on_admin).collect())?,
            status: bound(options.status_listen.iter().map(on_status).collect())?,
            stop: stop.clone(),
        })
    }

    /// Addresses of the Admin listeners as they were bound, in the order of the options.
    pub fn admin_addresses(&self) -> &[SocketAddr] {
        &self.admin
    }

    /// Addresses of the status listeners as they were bound, in the order of the options.
    pub fn status_addresses(&self) -> &[SocketAddr] {
        &self.status
    }

    /// Stops accepting and finishes what runs, at most `limit` long; what runs longer is dropped with the runtime.
    pub async fn drain(self, limit: Duration) {
        self.stop.token.cancel();
        self.stop.tasks.close();
        if tokio::time::timeout(limit, self.stop.tasks.wait()).await.is_err() {
            tracing::warn!("requests to the Admin API were still running when time was up");
        }
    }
}

fn about(options: &Options) -> About {
    let beyond_loopback = options.admin_listen.iter().any(|address| !address.socket.ip().is_loopback());
    About {
        node_id: options.node_id.clone(),
        hostname: options.hostname.clone(),
        configuration: options.configuration.clone(),
        warnings: options.warnings.clone(),
        exposed: beyond_loopback && options.token.is_none() && options.token_readonly.is_none(),
        logs: vec![options.admin_access_log.clone(), options.status_access_log.clone()],
        in_use: Mutex::default(),
    }
}

fn api(options: &Options, about: Arc<About>, loader: Arc<Loader>, handles: Handles) -> Api {
    let manners = manners(options, true);
    Api { about, handles, door: door(options), manners, loader }
}

fn status(options: &Options, about: Arc<About>, loader: Arc<Loader>, handles: Handles) -> Status {
    let manners = manners(options, false);
    Status { about, handles, loader, manners, door: Door::default(), drain_door: door(options) }
}

fn door(options: &Options) -> Door {
    Door::new(options.token.as_deref(), options.token_readonly.as_deref())
}

fn manners(options: &Options, credentials: bool) -> Manners {
    let origins = options.gui_origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()).collect();
    Manners { server_header: options.server_header, latency_header: options.latency_header, credentials, origins }
}
