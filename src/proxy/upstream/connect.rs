//! Opens connections: TCP, then TLS, both within the connect timeout.

use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::proxy::upstream::key::{Key, Secured};
use crate::proxy::upstream::stream::Stream;
use crate::proxy::upstream::tls::Tls;

/// Why there is no connection.
pub(super) struct Unconnected {
    pub(super) why: String,
    pub(super) timeout: bool,
}

/// Opens a connection of this kind.
pub(super) async fn connect(tls: &Tls, key: &Key, timeout: Duration) -> Result<Stream, Unconnected> {
    match tokio::time::timeout(timeout, open(tls, key)).await {
        Ok(opened) => opened.map_err(|why| Unconnected { why, timeout: false }),
        Err(_) => Err(Unconnected { why: "connecting timed out".to_owned(), timeout: true }),
    }
}

async fn open(tls: &Tls, key: &Key) -> Result<Stream, String> {
    let stream = TcpStream::connect(key.address).await.map_err(|error| format!("cannot connect: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let Some(secured) = &key.tls else { return Ok(Stream::Plain(stream)) };
    let connector = TlsConnector::from(tls.config(secured.verify)?);
    let stream = connector
        .connect(server_name(secured, key), stream)
        .await
        .map_err(|error| format!("TLS handshake failed: {error}"))?;
    Ok(Stream::Tls(Box::new(stream)))
}

/// The name to ask for. An IP address stands for none: rustls sends no SNI then, and verifies the address.
fn server_name(secured: &Secured, key: &Key) -> ServerName<'static> {
    ServerName::try_from(secured.name.as_ref().to_owned()).unwrap_or_else(|_| key.address.ip().into())
}
