//! A client's connection as a stream of bytes. A client that takes no bytes is given up. A connection that closes while the
//! client is still sending reads on for a while: otherwise the system would reset it, and the response that the client has
//! not read yet would be lost.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::io::deadline::Stall;

/// Time for which a closing connection reads on.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that a closing connection reads on.
const LINGER_BYTES: usize = 4 << 20;

/// The connection.
pub struct Wire<S> {
    inner: S,
    /// Bytes that were read to find out what the client speaks.
    early: Bytes,
    /// Between two writes.
    send_timeout: Duration,
    /// Of a write, then of the lingering.
    stall: Stall,
    /// The client is sending bytes that will not be read.
    lingers: bool,
    closing: Closing,
}

#[derive(Clone, Copy)]
enum Closing {
    Not,
    /// Writing is shut down; this many bytes of the client were dropped since.
    Lingering(usize),
}

impl<S> Wire<S> {
    /// `early`: bytes that were read already.
    pub fn new(inner: S, early: Bytes, send_timeout: Duration) -> Self {
        Self { inner, early, send_timeout, stall: Stall::default(), lingers: false, closing: Closing::Not }
    }

    /// The client is sending bytes that will not be read: closing waits for them.
    pub fn linger(&mut self) {
        self.lingers = true;
    }

    fn sent<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let watched = self.stall.watch(cx, self.send_timeout, polled);
        watched.map(|sent| sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())))
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Drops what arrives, until the client is done or the time is over. Errors end it as well.
    fn poll_linger(&mut self, cx: &mut Context<'_>, mut dropped: usize) -> Poll<()> {
        let mut waste = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            let polled = Pin::new(&mut self.inner).poll_read(cx, &mut buffer);
            let length = buffer.filled().len();
            if polled.is_pending() && dropped == 0 && !self.lingers {
                return Poll::Ready(());
            }
            if polled.is_pending() {
                // The wait as a whole is bounded, not each read.
                self.closing = Closing::Lingering(dropped);
                return self.stall.watch(cx, LINGER, Poll::<()>::Pending).map(|_| ());
            }
            dropped += length;
            if !matches!(polled, Poll::Ready(Ok(()))) || length == 0 || dropped > LINGER_BYTES {
                return Poll::Ready(());
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        let length = buffer.remaining().min(self.early.len());
        buffer.put_slice(&self.early[..length]);
        self.early.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.sent(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.sent(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_flush(cx);
        self.sent(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let dropped = match self.closing {
            Closing::Lingering(dropped) => dropped,
            Closing::Not => {
                let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
                ready!(self.sent(cx, polled))?;
                self.closing = Closing::Lingering(0);
                0
            }
        };
        self.poll_linger(cx, dropped).map(Ok)
    }
}
