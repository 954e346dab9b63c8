//! The load: connections that each send a request, read its answer, and send the next.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// What a run came to.
pub struct Done {
    pub answered: usize,
    pub failed: usize,
    pub seconds: f64,
}

/// Sends `requests` in all over `connections`.
pub async fn run(address: SocketAddr, request: Vec<u8>, connections: usize, requests: usize) -> io::Result<Done> {
    let (left, failed) = (Rc::new(Cell::new(requests)), Rc::new(Cell::new(0)));
    let request: Rc<[u8]> = request.into();
    let begun = Instant::now();
    let tasks = LocalSet::new();
    for _ in 0..connections {
        let (left, failed, request) = (left.clone(), failed.clone(), request.clone());
        tasks.spawn_local(async move {
            while left.get() > 0 {
                if converse(address, &request, &left, &failed).await.is_err() {
                    failed.set(failed.get() + 1);
                }
            }
        });
    }
    tasks.await;
    let failed = failed.get();
    Ok(Done { answered: requests.saturating_sub(failed), failed, seconds: begun.elapsed().as_secs_f64() })
}

/// One connection, until nothing is left to send. Anything but a 200 of 1 KiB is a failure.
async fn converse(address: SocketAddr, request: &[u8], left: &Cell<usize>, failed: &Cell<usize>) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8_192);
    while left.get() > 0 {
        left.set(left.get() - 1);
        stream.write_all(request).await?;
        buffer.clear();
        let body = loop {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(start) = body_start(&buffer) else { continue };
            if buffer.len() >= start + length(&buffer[..start])? {
                break buffer.len() - start;
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 200") || body != 1024 {
            failed.set(failed.get() + 1);
        }
    }
    Ok(())
}

fn body_start(buffer: &[u8]) -> Option<usize> {
    buffer.windows(4).position(|part| part == b"\r\n\r\n").map(|place| place + 4)
}

fn length(head: &[u8]) -> io::Result<usize> {
    let name = b"\r\ncontent-length: ";
    let place = head.windows(name.len()).position(|part| part.eq_ignore_ascii_case(name));
    let digits = &head[place.ok_or(io::ErrorKind::InvalidData)? + name.len()..];
    let digits = digits.split(|byte| *byte == b'\r').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(io::ErrorKind::InvalidData.into())
}
