//! The client: one request at a time over one connection, or `h2load` with one connection and one stream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tidegate_bench::Outcome;
use tidegate_bench::message::Message;
use tidegate_bench::peer::{Gateway, on_path};

/// Longest wait for a part of an answer.
const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER_LEN: usize = 64 * 1024;

pub enum Client {
    Http1 { stream: TcpStream, request: Vec<u8>, buffer: Vec<u8> },
    Http2 { program: PathBuf, address: SocketAddr },
}

pub fn h2load() -> Option<PathBuf> {
    on_path("h2load")
}

impl Client {
    /// HTTP/2 when the gateway has an address for TLS.
    pub fn connect(gateway: &Gateway, request: Vec<u8>) -> Outcome<Client> {
        if let Some(address) = gateway.tls {
            return Ok(Client::Http2 { program: h2load().ok_or("h2load is not installed")?, address });
        }
        let stream = TcpStream::connect(gateway.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Client::Http1 { stream, request, buffer: vec![0; BUFFER_LEN] })
    }

    /// Sends the request so many times, each once the answer before is complete.
    pub fn send(&mut self, requests: usize) -> Outcome<()> {
        match self {
            Client::Http1 { stream, request, buffer } => {
                for _ in 0..requests {
                    stream.write_all(request)?;
                    answer(stream, buffer)?;
                }
                Ok(())
            }
            Client::Http2 { program, address } => {
                let output = Command::new("taskset")
                    .args(["-c", "1"])
                    .arg(program)
                    .args(["--clients=1", "--max-concurrent-streams=1", &format!("--requests={requests}")])
                    .arg(format!("https://{address}/plain/x"))
                    .output()?;
                let text = String::from_utf8_lossy(&output.stdout);
                match succeeded(&text) {
                    Some(number) if number == requests => Ok(()),
                    _ => Err(format!("h2load did not get {requests} answers:\n{text}").into()),
                }
            }
        }
    }
}

/// Reads one answer, which must have status 200 and leave the connection open.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Outcome<()> {
    let mut message = Message::default();
    loop {
        let len = stream.read(buffer)?;
        let complete = message.take(&buffer[..len]).ok_or("an answer that is no HTTP/1.1")?;
        if complete && message.head_seen.status == 200 && !message.head_seen.closes {
            return Ok(());
        }
        if complete || len == 0 {
            return Err(format!("an answer with status {}, or a closed connection", message.head_seen.status).into());
        }
    }
}

/// Reads the number of requests that succeeded from the summary of `h2load`.
fn succeeded(text: &str) -> Option<usize> {
    let line = text.lines().find(|line| line.starts_with("requests:"))?;
    line.split(',').find_map(|part| part.trim().strip_suffix(" succeeded"))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_h2load_has_the_number_that_succeeded() {
        let line = "requests: 20 total, 20 started, 20 done, 19 succeeded, 1 failed, 0 errored, 0 timeout";
        assert_eq!(succeeded(&format!("starting\n{line}\nstatus codes: 20 2xx")), Some(19));
        assert_eq!(succeeded("Could not resolve host"), None);
    }
}
