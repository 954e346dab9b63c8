//! A request on its way to the upstream: its head, and its body, held or streamed.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http1::body::Slices;
use crate::proxy::io::outgoing::{Outgoing, Piece};
use crate::proxy::upstream::body_source::{BodySource, ClientFault};
use crate::proxy::upstream::stream::Stream;

/// One try's request.
#[derive(Debug, Default)]
pub struct Upload {
    pub(super) outgoing: Outgoing,
    body: UploadBody,
    state: State,
    /// Bytes were handed to the system.
    sent: bool,
    /// Data of the client's body was used.
    used: bool,
    waits_for_client: bool,
    /// When the system took bytes last, not counting the first write.
    moved: Option<Instant>,
    error: Option<io::Error>,
}

/// Where the body comes from, and how it is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadBody {
    /// Whole in memory, of this many bytes; 0 also when there is no body.
    Held(usize),
    /// Streamed with the client's length.
    Length,
    Chunked,
}

impl Default for UploadBody {
    fn default() -> Self {
        Self::Held(0)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// More of the body follows what is in `outgoing`.
    Body,
    /// `outgoing` has the rest.
    Rest,
    /// All is sent and flushed.
    #[default]
    Done,
    /// The upstream takes no more.
    Failed,
}

/// Why sending ended.
#[derive(Debug)]
pub(super) enum UploadFault {
    Client(ClientFault),
    /// See `Upload::error`.
    Upstream,
}

impl Upload {
    /// Begins a request. `outgoing`: holds the head.
    pub(super) fn begin(&mut self, outgoing: Outgoing, body: UploadBody) {
        *self = Self { outgoing, body, ..Self::default() };
        self.state = match body {
            UploadBody::Held(length) => {
                self.outgoing.add_data(length, Piece::Plain);
                State::Rest
            }
            UploadBody::Length | UploadBody::Chunked => State::Body,
        };
    }

    /// The memory of `outgoing`, once nothing more will be sent.
    pub(super) fn take_text(&mut self) -> Option<Outgoing> {
        self.is_over().then(|| std::mem::take(&mut self.outgoing))
    }

    /// Sends as far as it goes. `held`: the pieces of a held body.
    pub(super) fn poll<B: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        held: &[&[u8]],
        source: &mut B,
    ) -> Poll<Result<(), UploadFault>> {
        loop {
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Failed => return Poll::Ready(Err(UploadFault::Upstream)),
                State::Body | State::Rest => {}
            }
            // The first data goes out together with the head.
            let is_owed =
                self.state == State::Body && self.outgoing.takes_data() && self.poll_next(cx, source)?.is_pending();
            if is_owed && self.outgoing.is_empty() {
                self.waits_for_client = true;
                // TLS may hold back bytes; whether they leave now does not matter here.
                let _ = Pin::new(&mut *stream).poll_flush(cx);
                return Poll::Pending;
            }
            self.waits_for_client = false;
            let outcome = if self.outgoing.is_empty() && self.state == State::Rest {
                let flushed = ready!(Pin::new(&mut *stream).poll_flush(cx));
                if flushed.is_ok() {
                    self.state = State::Done;
                }
                flushed
            } else if self.outgoing.is_empty() {
                Ok(())
            } else {
                ready!(self.poll_write(cx, stream, held, source))
            };
            if let Err(error) = outcome {
                (self.state, self.error) = (State::Failed, Some(error));
            }
        }
    }

    /// Puts the next piece of the client's body into `outgoing`; pending when the client owes it.
    fn poll_next<B: BodySource>(&mut self, cx: &mut Context<'_>, source: &mut B) -> Result<Poll<()>, UploadFault> {
        match source.poll_data(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(fault)) => return Err(UploadFault::Client(fault)),
        }
        let (ready, chunked) = (source.ready(), self.body == UploadBody::Chunked);
        if ready > 0 {
            self.used = true;
            let last = source.is_last();
            self.outgoing.add_data(ready, Piece::of(chunked, last));
            if last {
                self.state = State::Rest;
            }
            return Ok(Poll::Ready(()));
        }
        self.state = State::Rest;
        if chunked {
            self.outgoing.add_last_chunk(source.take_trailers().as_ref());
        }
        Ok(Poll::Ready(()))
    }

    fn poll_write<B: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        held: &[&[u8]],
        source: &mut B,
    ) -> Poll<io::Result<()>> {
        let mut slices = Slices::new();
        match self.body {
            UploadBody::Held(length) => skip(held, length - self.outgoing.data_left(), &mut slices),
            UploadBody::Length | UploadBody::Chunked => source.slices(&mut slices),
        }
        let used = ready!(self.outgoing.poll_write(cx, Pin::new(stream), &slices))?;
        drop(slices);
        if !matches!(self.body, UploadBody::Held(_)) {
            source.consume(used);
        }
        if self.sent {
            self.moved = Some(Instant::now());
        }
        self.sent = true;
        Poll::Ready(Ok(()))
    }

    /// Whether bytes of the request were handed to the system.
    pub(super) fn has_sent(&self) -> bool {
        self.sent
    }

    /// Whether another try can send the same request.
    pub(super) fn is_resendable(&self) -> bool {
        !self.used
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether nothing more will be sent, for whatever reason.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Failed)
    }

    /// After a pending poll: whether the client's body is waited for, and not the upstream.
    pub(super) fn waits_for_client(&self) -> bool {
        self.waits_for_client
    }

    pub(super) fn moved(&mut self) -> Option<Instant> {
        self.moved.take()
    }

    /// Why the upstream takes no more.
    pub(super) fn error(&self) -> Option<Cow<'static, str>> {
        Some(self.error.as_ref()?.to_string().into())
    }
}

/// The pieces without their first `sent` bytes.
fn skip<'a>(pieces: &[&'a [u8]], mut sent: usize, into: &mut Slices<'a>) {
    for piece in pieces {
        let gone = sent.min(piece.len());
        sent -= gone;
        if gone < piece.len() {
            into.push(&piece[gone..]);
        }
    }
}
