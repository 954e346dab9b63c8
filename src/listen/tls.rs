//! TLS towards clients: which certificate a server name gets, and how certificates change while running.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;

/// The certificates of a set of listeners; replaced whole by `reload`.
#[derive(Debug)]
pub struct Certificates {}

/// Where a default certificate comes from: each item a path, PEM text, or base64 of PEM.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub certs: Vec<String>,
    pub keys: Vec<String>,
}

impl Certificates {
    /// Loads `sources`, or makes a self-signed pair under `prefix/ssl` (named `name`) when there are none.
    /// Errors name the property's value.
    pub fn load(sources: &Sources, prefix: &Path, name: &str) -> Result<Arc<Self>, String> {
        let _ = (sources, prefix, name);
        unimplemented!()
    }

    /// Reads the same sources again; on error the old ones stay.
    pub fn reload(&self) -> Result<(), String> {
        unimplemented!()
    }

    /// A rustls configuration that asks `self` for each handshake; ALPN `h2` is offered when `http2`.
    pub fn server_config(self: &Arc<Self>, http2: bool) -> Result<Arc<ServerConfig>, io::Error> {
        let _ = http2;
        unimplemented!()
    }
}
