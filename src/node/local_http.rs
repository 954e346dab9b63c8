//! One question to a listener of this machine's node, on a plain socket.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::node::settings::Settings;
use crate::node::settings::listen::Entry;

const PATIENCE: Duration = Duration::from_secs(5);
/// What is read of an answer at most: a cluster of a thousand nodes fits.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// What was answered.
pub struct Answer {
    /// 0 when it was no HTTP.
    pub status: u16,
    pub body: String,
}

/// Where the first listener without TLS can be asked from this machine.
pub fn local(listen: &[Entry]) -> Option<SocketAddr> {
    let plain = listen.iter().find(|entry| !entry.ssl())?;
    let mut address = plain.addresses().ok()?.first()?.socket;
    if address.ip().is_unspecified() {
        let loopback = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    Some(address)
}

/// The token that the Admin API of these settings wants, if any: the one for reading will do for reading.
pub fn token(settings: &Settings, reading: bool) -> Option<&str> {
    let readonly = settings.admin.token_readonly.as_deref().filter(|_| reading);
    settings.admin.token.as_deref().or(readonly)
}

/// A request without a body.
pub fn ask(address: SocketAddr, method: &str, path: &str, token: Option<&str>) -> io::Result<Answer> {
    let token = token.map(|token| format!("Kong-Admin-Token: {token}\r\n")).unwrap_or_default();
    send(address, method, path, &token, "")
}

/// A form.
pub fn post(address: SocketAddr, path: &str, form: &str) -> io::Result<Answer> {
    send(address, "POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", form)
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer { status, body: body.to_owned() })
}
