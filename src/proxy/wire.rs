//! A client's connection, guarded: a client that takes no bytes is given up, and a closing connection lingers over what
//! the client is still sending, so that the answer it has not read yet is not reset away.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::stall::Stall;

/// Between two writes, as nginx's `send_timeout`.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a closing connection listens on.
const LINGER: Duration = Duration::from_secs(2);
/// And over how many bytes.
const LINGER_BYTES: usize = 4 << 20;

/// What a closing connection has to expect from its client. Shared with the requests of the connection.
#[derive(Clone, Default)]
pub struct Leftovers(Arc<AtomicU8>);

const UNKNOWN: u8 = 0;
const EXPECTED: u8 = 1;
const TUNNEL: u8 = 2;

impl Leftovers {
    /// The client is sending what nobody will read.
    pub fn expect(&self) {
        self.0.store(EXPECTED, Ordering::Relaxed);
    }

    /// Somebody else reads all there is, so closing must not.
    pub fn leave_to_tunnel(&self) {
        self.0.store(TUNNEL, Ordering::Relaxed);
    }

    fn are(&self, state: u8) -> bool {
        self.0.load(Ordering::Relaxed) == state
    }
}

/// The guarded connection.
pub struct Wire<S> {
    inner: S,
    /// Bytes that were read to find out what the client speaks.
    early: Bytes,
    sending: Stall,
    leftovers: Leftovers,
    closing: Closing,
    lingering: Stall,
}

enum Closing {
    Not,
    /// Our side is shut; so many bytes of the client's have been thrown away since.
    Lingering(usize),
}

impl<S> Wire<S> {
    pub fn new(inner: S, early: Bytes, leftovers: Leftovers) -> Self {
        let (sending, lingering) = (Stall::new(SEND_TIMEOUT), Stall::new(LINGER));
        Self { inner, early, sending, leftovers, closing: Closing::Not, lingering }
    }

    fn sent<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.sending.watch(cx, polled).map(|sent| sent.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())))
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Throws away what comes, until the client is done or the patience is over. Errors end it as well.
    fn poll_linger(&mut self, cx: &mut Context<'_>, mut gone: usize) -> Poll<()> {
        let mut waste = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut waste);
            let polled = Pin::new(&mut self.inner).poll_read(cx, &mut buffer);
            let length = buffer.filled().len();
            if polled.is_pending() && gone == 0 && self.leftovers.are(UNKNOWN) {
                return Poll::Ready(());
            }
            if polled.is_pending() {
                // The wait as a whole is limited, not each read.
                self.closing = Closing::Lingering(gone);
                return self.lingering.watch(cx, Poll::<()>::Pending).map(|_| ());
            }
            gone += length;
            if !matches!(polled, Poll::Ready(Ok(()))) || length == 0 || gone > LINGER_BYTES {
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
        let gone = match self.closing {
            Closing::Lingering(gone) => gone,
            Closing::Not => {
                let polled = Pin::new(&mut self.inner).poll_shutdown(cx);
                ready!(self.sent(cx, polled))?;
                self.closing = Closing::Lingering(0);
                0
            }
        };
        if self.leftovers.are(TUNNEL) {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx, gone).map(Ok)
    }
}
