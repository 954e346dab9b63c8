//! A client's connection, guarded: HTTP/1 heads are screened on their way in, a client that takes no bytes is given up,
//! and a closing connection lingers over what the client is still sending, so that the answer it has not read yet is
//! not reset away.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::proxy::admission::Refusal;
use crate::proxy::screen::{Look, Refused, Screen};
use crate::proxy::stall::Stall;

/// How long a closing connection listens on.
const LINGER: Duration = Duration::from_secs(2);
/// And over how many bytes.
const LINGER_BYTES: usize = 4 << 20;

/// What the wire and the requests of a connection tell each other.
#[derive(Clone, Default)]
pub struct Signals(Arc<Shared>);

/// Atomic only because an upgraded connection must be `Send`: one thread writes and reads it.
#[derive(Default)]
struct Shared {
    closing: AtomicU8,
    /// The number of the refused request, and why, as `Refusal` orders them.
    refused: AtomicU64,
}

/// What a closing wire does with the client's bytes.
const LOOK: u8 = 0;
const EXPECT: u8 = 1;
const LEAVE: u8 = 2;

impl Signals {
    /// The client is sending what nobody will read.
    pub fn expect_leftovers(&self) {
        self.0.closing.store(EXPECT, Ordering::Relaxed);
    }

    /// A tunnel reads all there is, so closing must not.
    pub fn leave_to_tunnel(&self) {
        self.0.closing.store(LEAVE, Ordering::Relaxed);
    }

    /// Why the request of this number, from 1, has been refused.
    pub fn refusal(&self, number: u32) -> Option<Refusal> {
        let refused = self.0.refused.load(Ordering::Relaxed);
        let refusal = || Refusal::ALL.get(usize::try_from(refused & 0xff).ok()?).copied();
        (refused >> 8 == u64::from(number)).then(refusal).flatten()
    }

    fn refuse(&self, number: u32, refusal: Refusal) {
        self.0.refused.store(u64::from(number) << 8 | refusal as u64, Ordering::Relaxed);
    }

    fn closes_by(&self, way: u8) -> bool {
        self.0.closing.load(Ordering::Relaxed) == way
    }
}

/// The guarded connection.
pub struct Wire<S> {
    inner: S,
    /// Bytes that were read to find out what the client speaks.
    early: Bytes,
    /// HTTP/1 only.
    screen: Option<Box<Screen>>,
    /// A head that is not whole.
    held: Vec<u8>,
    /// What has been screened and found no room with the reader.
    ready: BytesMut,
    sending: Stall,
    signals: Signals,
    closing: Closing,
    lingering: Stall,
}

enum Closing {
    Not,
    /// Our side is shut; so many bytes of the client's have been thrown away since.
    Lingering(usize),
}

impl<S> Wire<S> {
    /// `patience`: between two writes.
    pub fn new(inner: S, early: Bytes, signals: Signals, patience: Duration) -> Self {
        Self {
            inner,
            early,
            screen: None,
            held: Vec::new(),
            ready: BytesMut::new(),
            sending: Stall::new(patience),
            signals,
            closing: Closing::Not,
            lingering: Stall::new(LINGER),
        }
    }

    /// Screens what comes as HTTP/1; so many requests have been served before.
    pub fn screened(self, served: u32) -> Self {
        Self { screen: Some(Box::new(Screen::after(served))), ..self }
    }

    /// Gives back what was read last, to be read again.
    pub fn unread(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.early = [bytes, &self.early].concat().into();
        }
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
            if polled.is_pending() && gone == 0 && self.signals.closes_by(LOOK) {
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

impl<S: AsyncRead + Unpin> Wire<S> {
    fn poll_raw(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        hand_over(&mut self.early, buffer);
        Poll::Ready(Ok(()))
    }

    /// Screens the bytes of `buffer` beyond `before`, and leaves there what may be read now.
    fn screen(&mut self, screen: &mut Screen, buffer: &mut ReadBuf<'_>, before: usize) {
        if buffer.filled().len() == before {
            // The client has ended; a head that will never be whole is for hyper to judge.
            self.ready.extend_from_slice(&std::mem::take(&mut self.held));
            return;
        }
        if self.held.is_empty() {
            let fresh = &buffer.filled()[before..];
            let passed = match screen.look(fresh) {
                Look::Pass(passed) => {
                    self.held.extend_from_slice(&fresh[passed..]);
                    passed
                }
                Look::Refuse { at, refused } => {
                    self.refuse(&refused);
                    at
                }
            };
            buffer.set_filled(before + passed);
            return;
        }
        self.held.extend_from_slice(&buffer.filled()[before..]);
        buffer.set_filled(before);
        match screen.look(&self.held) {
            Look::Pass(passed) => self.ready.extend(self.held.drain(..passed)),
            Look::Refuse { at, refused } => {
                self.ready.extend(self.held.drain(..at));
                self.held = Vec::new();
                self.refuse(&refused);
            }
        }
    }

    fn refuse(&mut self, refused: &Refused) {
        self.signals.refuse(refused.number, refused.refusal);
        self.signals.expect_leftovers();
        self.ready.extend_from_slice(&refused.instead);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(mut screen) = this.screen.take() else { return this.poll_raw(cx, buffer) };
        let polled = loop {
            if !this.ready.is_empty() {
                hand_over(&mut this.ready, buffer);
                break Poll::Ready(Ok(()));
            }
            if screen.is_over() {
                // The answer to the refused request ends the connection; no byte of the client's matters any more.
                break Poll::Pending;
            }
            let before = buffer.filled().len();
            let polled = this.poll_raw(cx, buffer);
            if !matches!(polled, Poll::Ready(Ok(()))) {
                break polled;
            }
            let ended = buffer.filled().len() == before;
            this.screen(&mut screen, buffer, before);
            if buffer.filled().len() > before || (ended && this.ready.is_empty()) {
                break Poll::Ready(Ok(()));
            }
        };
        this.screen = Some(screen);
        polled
    }
}

fn hand_over(bytes: &mut impl Buf, buffer: &mut ReadBuf<'_>) {
    let length = buffer.remaining().min(bytes.chunk().len());
    buffer.put_slice(&bytes.chunk()[..length]);
    bytes.advance(length);
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
        if self.signals.closes_by(LEAVE) {
            return Poll::Ready(Ok(()));
        }
        self.poll_linger(cx, gone).map(Ok)
    }
}
