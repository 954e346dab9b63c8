//! Tunnels: after a switch of protocols bytes go both ways until one side ends or both are silent for too long.
//!
//! Each direction has one buffer and reads only when the last bytes were written, so a slow side slows the other.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

const BUFFER_BYTES: usize = 16 * 1024;

/// One side, and the bytes that were read from it already.
pub struct Side<'a, S> {
    pub stream: S,
    pub early: &'a [u8],
}

/// Carries bytes until the end; the number of bytes that went to the client. `idle`: silence on both sides that ends the
/// tunnel.
pub async fn carry<C, U>(client: Side<'_, C>, upstream: Side<'_, U>, idle: Duration) -> usize
where
    C: AsyncRead + AsyncWrite,
    U: AsyncRead + AsyncWrite,
{
    let (client_out, client_in) = tokio::io::split(client.stream);
    let (upstream_out, upstream_in) = tokio::io::split(upstream.stream);
    let life = Life { last: Cell::new(Instant::now()), to_client: Cell::new(0) };
    let up = pump(client.early, client_out, upstream_in, |_| life.touch());
    let down = pump(upstream.early, upstream_out, client_in, |length| {
        life.touch();
        life.to_client.set(life.to_client.get() + length);
    });
    tokio::select! {
        _ = async { tokio::try_join!(up, down) } => {}
        () = life.silence(idle) => {}
    }
    life.to_client.get()
}

struct Life {
    last: Cell<Instant>,
    to_client: Cell<usize>,
}

impl Life {
    fn touch(&self) {
        self.last.set(Instant::now());
    }

    async fn silence(&self, idle: Duration) {
        loop {
            let end = self.last.get() + idle;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// One direction, to its end; then the other side is told that nothing more comes.
async fn pump<R, W>(early: &[u8], mut from: R, mut to: W, moved: impl Fn(usize)) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    if !early.is_empty() {
        to.write_all(early).await?;
        to.flush().await?;
        moved(early.len());
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        moved(length);
    }
}
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn side<S>(stream: S) -> Side<'static, S> {
        Side { stream, early: b"" }
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_both_sides_are_done() {
        let (client, mut browser) = tokio::io::duplex(64);
        let (upstream, mut server) = tokio::io::duplex(64);
        let relayed = tokio::join!(
            carry(side(client), side(upstream), Duration::from_secs(5)),
            async {
                browser.write_all(b"ping").await.unwrap();
                browser.shutdown().await.unwrap();
                let mut heard = Vec::new();
                browser.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, vec![7; 1000]);
            },
            async {
                let mut heard = Vec::new();
                server.read_to_end(&mut heard).await.unwrap();
                assert_eq!(heard, b"ping");
                server.write_all(&[7; 1000]).await.unwrap();
                server.shutdown().await.unwrap();
            }
        );
        assert_eq!(relayed.0, 1000);
    }

    #[tokio::test]
    async fn silence_ends_a_tunnel() {
        let (client, _browser) = tokio::io::duplex(64);
        let (upstream, _server) = tokio::io::duplex(64);
        let start = Instant::now();
        assert_eq!(carry(side(client), side(upstream), Duration::from_millis(20)).await, 0);
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
