//! One request at a time over one connection, which then stays open: idle connections, and the Admin API.
//!
//! Blocking, as nothing here is timed but by the load beside it, with which it shares a core: so it sends and reads what is
//! long in pieces of some microseconds, and lets the load run after each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tidegate_bench::Outcome;

/// The longest that an answer may take; a configuration of 100,000 routes is one.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that are sent or read at once.
const PIECE_LEN: usize = 16 * 1024;

/// A connection to the node, plain or not.
pub trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

pub fn plain(address: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Clients that trust the one certificate in the PEM text.
pub fn trusting(pem: &[u8]) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem)?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(versions.with_root_certificates(roots).with_no_client_auth()))
}

pub fn secured(address: SocketAddr, config: &Arc<ClientConfig>) -> Outcome<StreamOwned<ClientConnection, TcpStream>> {
    let connection = ClientConnection::new(config.clone(), ServerName::try_from("bench.test")?)?;
    Ok(StreamOwned::new(connection, plain(address)?))
}

/// Sends a request and reads the answer to its end; answers its status.
pub fn ask(stream: &mut impl Stream, method: &str, path: &str, body: &[u8]) -> Outcome<u16> {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: bench.test\r\n{kind}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    for piece in body.chunks(PIECE_LEN) {
        stream.write_all(piece)?;
        std::thread::yield_now();
    }
    stream.flush()?;
    let mut got = Vec::new();
    let mut buffer = vec![0; PIECE_LEN];
    loop {
        let len = stream.read(&mut buffer)?;
        std::thread::yield_now();
        got.extend(buffer.get(..len).unwrap_or_default());
        if let Some((status, ends)) = end_of(&got)?
            && got.len() >= ends
        {
            return Ok(status);
        }
        if len == 0 {
            return Err(format!("{method} {path}: the connection ended before the answer").into());
        }
    }
}

/// Status and length of an answer whose head is there.
fn end_of(got: &[u8]) -> Outcome<Option<(u16, usize)>> {
    let Some(head_len) = memchr::memmem::find(got, b"\r\n\r\n").map(|at| at + 4) else { return Ok(None) };
    let head = std::str::from_utf8(got.get(..head_len).unwrap_or_default())?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap_or_default().parse()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.ok_or("an answer without a length")?.trim().parse()?;
    Ok(Some((status, head_len + length)))
}
