//! A stream whose writes give up on a peer that takes nothing for a while.
//!
//! hyper bounds how long it waits for a head, not how long an answer may lie unread; without this a client that stops
//! reading would keep its connection and its answer for good. What is long is handed to the kernel in pieces: a configuration
//! at once would keep requests from the core.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::pace;

/// Bytes of a write: some tens of microseconds.
const PIECE_LEN: usize = 32 * 1024;

pub(crate) struct Unstalled<S> {
    stream: S,
    limit: Duration,
    /// Runs while the peer takes nothing.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    pub(crate) fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, patience: None }
    }

    /// Passes progress on, and ends a stand-still that lasted `limit`.
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.patience = None;
            return progress;
        }
        let limit = self.limit;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(patience.as_mut().poll(cx));
        patience.as_mut().reset(Instant::now() + limit);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        pace::step();
        let progress = Pin::new(&mut this.stream).poll_write(cx, &bytes[..bytes.len().min(PIECE_LEN)]);
        this.watch(cx, progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Nothing but empty slices would be written as nothing, which means the end of a stream.
        let slices = &slices[slices.iter().take_while(|slice| slice.is_empty()).count()..];
        let mut length = 0;
        let fits = |slice: &&io::IoSlice<'_>| {
            length += slice.len();
            length <= PIECE_LEN
        };
        let whole = slices.iter().take_while(fits).count();
        match slices.first() {
            Some(long) if whole == 0 => self.poll_write(cx, long),
            _ => {
                let this = self.get_mut();
                pace::step();
                let progress = Pin::new(&mut this.stream).poll_write_vectored(cx, &slices[..whole]);
                this.watch(cx, progress)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(cx, progress)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let progress = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch(cx, progress)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (ours, _theirs) = duplex(4);
        let error = Unstalled::new(ours, Duration::from_millis(5)).write_all(b"too much").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_reads_gets_everything() {
        let (ours, mut theirs) = duplex(4);
        let mut ours = Unstalled::new(ours, Duration::from_secs(60));
        let write = async {
            ours.write_all(b"more than fits at once").await.unwrap();
            ours.shutdown().await.unwrap();
        };
        let mut got = String::new();
        let (_, read) = tokio::join!(write, theirs.read_to_string(&mut got));
        read.unwrap();
        assert_eq!(got, "more than fits at once");
    }

    #[tokio::test]
    async fn what_is_long_goes_in_pieces_and_nothing_is_never_written() {
        let (ours, _theirs) = duplex(1 << 20);
        let mut ours = Unstalled::new(ours, Duration::from_secs(60));
        let (short, long) = (vec![1; 10], vec![2; PIECE_LEN + 1]);
        for (slices, expected) in [
            (vec![&short[..], &long[..]], 10),
            (vec![&long[..], &short[..]], PIECE_LEN),
            (vec![&[][..], &long[..]], PIECE_LEN),
            (vec![&[][..], &short[..], &[][..], &short[..]], 20),
        ] {
            let slices: Vec<_> = slices.into_iter().map(io::IoSlice::new).collect();
            assert_eq!(ours.write_vectored(&slices).await.unwrap(), expected);
        }
    }
}
