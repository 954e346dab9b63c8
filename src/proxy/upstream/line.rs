//! A connection to an upstream without hyper: one exchange at a time, driven by the task of the client.
//!
//! The request is one piece of bytes and is written as such; the answer's head is parsed out of a buffer of the
//! connection's own, where the body begins as well. `Link` does the rest of HTTP/1: tunnels and bodies that stream up.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use http::{StatusCode, Version};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::proxy::hop::lists;
use crate::proxy::lean::buffer::Buffer;
use crate::proxy::lean::deadline::Deadline;
use crate::proxy::lean::head::{self, AnswerHead, Found};
use crate::proxy::names::CONNECTION;
use crate::proxy::upstream::link::Limits;
use crate::proxy::upstream::pool::{Key, Restful};
use crate::proxy::upstream::wire::Stream;

/// Room for an answer's head at first, and for the beginning of its body.
const ROOM_BYTES: usize = 8 * 1024;
/// Bytes of an answer's head; more is no answer.
const HEAD_BYTES: usize = 64 * 1024;
/// Interim answers (1xx) to one request; more is no answer.
const INTERIM: usize = 16;

/// The connection.
pub struct Line {
    key: Key,
    requests: u64,
    stream: Stream,
    /// What has been read and not used.
    pub input: Buffer,
    /// The memory of the next answer's head.
    spare: Option<Box<AnswerHead>>,
    /// The upstream keeps it open, and all of the request has been sent.
    keeps: bool,
}

/// A request as it is sent.
#[derive(Clone, Copy)]
pub(super) struct Message<'a> {
    pub(super) head: &'a [u8],
    pub(super) body: &'a [u8],
}

/// Why no answer came.
pub(super) struct Silent {
    pub(super) why: String,
    pub(super) timeout: bool,
    /// Bytes of the request have left.
    pub(super) sent: bool,
    /// Bytes of an answer have come.
    pub(super) answered: bool,
}

/// How far an exchange is.
struct Progress<'a> {
    message: Message<'a>,
    sent: usize,
    flushed: bool,
    /// Why nothing more is sent.
    unsendable: Option<io::Error>,
    answered: bool,
    interim: usize,
    /// When a byte moved last.
    moved: Instant,
}

impl Line {
    pub(super) fn new(key: Key, stream: Stream) -> Self {
        Self { key, requests: 0, stream, input: Buffer::default(), spare: None, keeps: false }
    }

    /// Sends a request and reads the head of its answer; with it, when the last of it came.
    pub(super) async fn exchange(
        &mut self,
        message: Message<'_>,
        limits: &Limits,
        deadline: &mut Deadline,
        now: Instant,
    ) -> Result<(Box<AnswerHead>, Instant), Silent> {
        self.requests += 1;
        self.keeps = false;
        let mut progress =
            Progress { message, sent: 0, flushed: false, unsendable: None, answered: false, interim: 0, moved: now };
        let outcome = std::future::poll_fn(|cx| self.poll_exchange(cx, &mut progress, limits, deadline)).await;
        let silent = |why, timeout| Silent { why, timeout, sent: progress.sent > 0, answered: progress.answered };
        match outcome {
            Ok(head) => {
                self.keeps = progress.flushed && is_kept(&head);
                Ok((head, progress.moved))
            }
            Err(None) => Err(silent("timed out".to_owned(), true)),
            Err(Some(why)) => Err(silent(why, false)),
        }
    }

    /// The error is `None` when time is up.
    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut Progress<'_>,
        limits: &Limits,
        deadline: &mut Deadline,
    ) -> Poll<Result<Box<AnswerHead>, Option<String>>> {
        let is_blocked = self.poll_send(cx, progress).is_pending();
        loop {
            if let Some(head) = self.head(progress).map_err(|why| Some(why.to_owned()))? {
                return Poll::Ready(Ok(head));
            }
            match Pin::new(&mut *self).poll_fill(cx, ROOM_BYTES) {
                Poll::Ready(Ok(1..)) => (progress.answered, progress.moved) = (true, Instant::now()),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Some(closed(progress)))),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Some(error.to_string()))),
                Poll::Pending => break,
            }
        }
        deadline.set(progress.moved + if is_blocked { limits.write } else { limits.read });
        deadline.poll(cx).map(|()| Err(None))
    }

    /// Ready when there is nothing more to send, for whatever reason: an upstream that takes no more may have answered.
    fn poll_send(&mut self, cx: &mut Context<'_>, progress: &mut Progress<'_>) -> Poll<()> {
        let whole = progress.message.head.len() + progress.message.body.len();
        while progress.unsendable.is_none() && !progress.flushed {
            let outcome = if progress.sent < whole {
                ready!(self.poll_write(cx, progress))
            } else {
                let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
                progress.flushed = flushed.is_ok();
                flushed
            };
            progress.unsendable = outcome.err();
        }
        Poll::Ready(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, progress: &mut Progress<'_>) -> Poll<io::Result<()>> {
        let Message { head, body } = progress.message;
        let stream = Pin::new(&mut self.stream);
        let length = match head.get(progress.sent..) {
            Some(head) if body.is_empty() => ready!(stream.poll_write(cx, head))?,
            Some(head) if !head.is_empty() => {
                ready!(stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]))?
            }
            _ => ready!(stream.poll_write(cx, &body[progress.sent - head.len()..]))?,
        };
        if length == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        if progress.sent > 0 {
            progress.moved = Instant::now();
        }
        progress.sent += length;
        Poll::Ready(Ok(()))
    }

    /// The head in what has been read, if it is whole.
    fn head(&mut self, progress: &mut Progress<'_>) -> Result<Option<Box<AnswerHead>>, &'static str> {
        while !self.input.is_empty() {
            match head::answer(self.input.filled(), self.spare.get_or_insert_default()) {
                Found::Head(length) => {
                    self.input.consume(length);
                    let head = self.spare.take().unwrap_or_default();
                    if head.parts.status == StatusCode::SWITCHING_PROTOCOLS {
                        return Err("it switched protocols unasked");
                    }
                    if !head.parts.status.is_informational() {
                        return Ok(Some(head));
                    }
                    progress.interim += 1;
                    if progress.interim > INTERIM {
                        return Err("it said too much before its answer");
                    }
                }
                Found::Nothing(why) => return Err(why),
                Found::Part if self.input.len() >= HEAD_BYTES => return Err("its head does not end"),
                Found::Part => {
                    if self.input.is_full() {
                        self.input.make_room((2 * self.input.len()).min(HEAD_BYTES));
                    }
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Reads once, with room for at least `room` bytes in all; 0: the upstream has closed.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.input.make_room(room);
        self.input.poll_fill(cx, Pin::new(&mut self.stream))
    }

    /// Takes the memory of a head that has been sent on.
    pub fn recycle(&mut self, mut head: Box<AnswerHead>) {
        head.clear();
        self.spare = Some(head);
    }

    /// Whether the exchange left it as it was before, fit for another.
    pub(super) fn is_kept(&self) -> bool {
        self.keeps && self.input.is_empty()
    }
}

fn closed(progress: &Progress<'_>) -> String {
    match &progress.unsendable {
        Some(error) => error.to_string(),
        None => "the connection was closed".to_owned(),
    }
}

/// Whether the upstream promises to keep the connection.
fn is_kept(head: &AnswerHead) -> bool {
    let lines = || head.parts.headers.get_all(&CONNECTION.header).iter();
    let said = |word| head.spelling.may_have(&CONNECTION) && lines().any(|value| lists(value, word));
    if head.parts.version > Version::HTTP_10 { !said(b"close") } else { said(b"keep-alive") }
}

impl Restful for Line {
    fn key(&self) -> &Key {
        &self.key
    }

    fn requests(&self) -> u64 {
        self.requests
    }

    /// Nothing is due while it rests, so whatever comes, its end or bytes that belong to no answer, spoils it.
    fn is_ready(&mut self) -> bool {
        self.poll_fill(&mut Context::from_waker(Waker::noop()), ROOM_BYTES).is_pending()
    }

    /// The task that used it stays known to the system, and may be woken once in vain when the upstream closes.
    fn rest(&mut self) {
        self.input.shrink();
    }

    fn is_alive(&mut self) -> bool {
        self.is_ready()
    }
}
