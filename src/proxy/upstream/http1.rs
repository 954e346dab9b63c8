//! A connection to an upstream that speaks HTTP/1: one exchange at a time, driven by the task of the client.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use http::{StatusCode, Version};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use crate::http1::Parsed;
use crate::http1::body::{BodyDecoder, Slices};
use crate::http1::fields::lists;
use crate::http1::response::ResponseHead;
use crate::proxy::io::buffer::{Buffer, Shelf};
use crate::proxy::io::deadline::Deadline;
use crate::proxy::names::CONNECTION;
use crate::proxy::upstream::body_source::{BodySource, ClientFault};
use crate::proxy::upstream::key::Key;
use crate::proxy::upstream::origin::Limits;
use crate::proxy::upstream::rules::Reached;
use crate::proxy::upstream::stream::Stream;
use crate::proxy::upstream::upload::{Upload, UploadFault};

/// Room for a response's head at first, and for the beginning of its body.
pub(super) const ROOM_BYTES: usize = 8 * 1024;
/// Maximum number of interim responses (1xx) to one request; more are not HTTP.
const INTERIM_MAX: usize = 16;

/// The connection.
pub struct Http1Connection {
    key: Key,
    requests: u64,
    pub(super) stream: Stream,
    /// Bytes that were read and not used.
    input: Buffer,
    /// The memory of the next response's head.
    spare: Option<Box<ResponseHead>>,
    /// The request under way.
    pub(super) upload: Upload,
    /// The body of the response under way.
    pub(super) body: BodyDecoder,
    /// The upstream keeps the connection open after this exchange.
    keeps: bool,
}

/// How a try is bounded.
pub(super) struct Bounds<'a> {
    pub(super) limits: Limits,
    /// Maximum length of a response's head in bytes.
    pub(super) head_bytes: usize,
    pub(super) shelf: &'a Shelf,
    /// The request asks for a switch of protocols.
    pub(super) may_switch: bool,
}

/// Why a try gave no response.
#[derive(Debug)]
pub(super) struct TryError {
    pub(super) why: Cow<'static, str>,
    pub(super) timeout: bool,
    pub(super) reached: Reached,
    /// The client ended the exchange; no other try follows.
    pub(super) client: Option<ClientFault>,
}

/// Why a poll ended without a response.
enum Ended {
    Client(ClientFault),
    Timeout,
    Broken(Cow<'static, str>),
}

/// How far the response is.
struct Progress {
    answered: bool,
    interim: usize,
    /// When a byte moved last.
    moved: Instant,
}

impl Http1Connection {
    pub(super) fn new(key: Key, stream: Stream) -> Self {
        Self {
            key,
            requests: 0,
            stream,
            input: Buffer::default(),
            spare: None,
            upload: Upload::default(),
            body: BodyDecoder::default(),
            keeps: false,
        }
    }

    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Requests that were begun on it.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Sends the request in `upload` and reads the head of its response; with it, when its last byte arrived. A streamed
    /// body may be under way still.
    pub(super) async fn exchange<B: BodySource>(
        &mut self,
        held: &[&[u8]],
        source: &mut B,
        bounds: &Bounds<'_>,
        deadline: &mut Deadline,
        now: Instant,
    ) -> Result<(Box<ResponseHead>, Instant), TryError> {
        self.requests += 1;
        self.keeps = false;
        self.body = BodyDecoder::default();
        let mut progress = Progress { answered: false, interim: 0, moved: now };
        let outcome =
            std::future::poll_fn(|cx| self.poll_exchange(cx, &mut progress, held, &mut *source, bounds, deadline));
        let ended = match outcome.await {
            Ok(head) => {
                self.keeps = is_kept(&head);
                return Ok((head, progress.moved));
            }
            Err(ended) => ended,
        };
        let reached = match (progress.answered, self.upload.has_sent()) {
            (true, _) => Reached::Answer,
            (false, true) => Reached::Sent,
            (false, false) => Reached::Nothing,
        };
        let failed = |why, timeout, client| TryError { why, timeout, reached, client };
        Err(match ended {
            Ended::Timeout => failed("timed out".into(), true, None),
            Ended::Broken(why) => failed(why, false, None),
            Ended::Client(fault) => failed("the client ended the exchange".into(), false, Some(fault)),
        })
    }

    fn poll_exchange<B: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        progress: &mut Progress,
        held: &[&[u8]],
        source: &mut B,
        bounds: &Bounds<'_>,
        deadline: &mut Deadline,
    ) -> Poll<Result<Box<ResponseHead>, Ended>> {
        let sending = match self.upload.poll(cx, &mut self.stream, held, source) {
            Poll::Ready(Err(UploadFault::Client(fault))) => return Poll::Ready(Err(Ended::Client(fault))),
            // An upstream that takes no more may have answered.
            Poll::Ready(Ok(()) | Err(UploadFault::Upstream)) => None,
            Poll::Pending => Some(self.upload.waits_for_client()),
        };
        if let Some(moved) = self.upload.moved() {
            progress.moved = moved;
        }
        loop {
            if let Some(head) = self.parse(progress, bounds).map_err(|why| Ended::Broken(why.into()))? {
                return Poll::Ready(Ok(head));
            }
            match self.poll_fill(cx, ROOM_BYTES, bounds.shelf) {
                Poll::Ready(Ok(1..)) => (progress.answered, progress.moved) = (true, Instant::now()),
                Poll::Ready(Ok(0)) => {
                    let why = self.upload.error().unwrap_or_else(|| "connection closed".into());
                    return Poll::Ready(Err(Ended::Broken(why)));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Ended::Broken(error.to_string().into()))),
                Poll::Pending => break,
            }
        }
        deadline.set(match sending {
            // While the client owes a part of its body the upstream owes nothing.
            Some(true) => source.fails_at(),
            Some(false) => progress.moved + bounds.limits.write,
            None => progress.moved + bounds.limits.read,
        });
        if sending.is_none() && source.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Ended::Client(ClientFault::Gone)));
        }
        deadline.poll(cx).map(|()| {
            Err(match sending {
                Some(true) => Ended::Client(ClientFault::Timeout),
                _ => Ended::Timeout,
            })
        })
    }

    /// The head in what has been read, if it is whole.
    fn parse(
        &mut self,
        progress: &mut Progress,
        bounds: &Bounds<'_>,
    ) -> Result<Option<Box<ResponseHead>>, &'static str> {
        while !self.input.is_empty() {
            match self.spare.get_or_insert_default().parse(self.input.filled()) {
                Parsed::Head(length) if length > bounds.head_bytes => return Err("response head too large"),
                Parsed::Head(length) => {
                    self.input.consume(length);
                    let head = self.spare.take().unwrap_or_default();
                    if head.status == StatusCode::SWITCHING_PROTOCOLS {
                        let is_asked = bounds.may_switch.then_some(Some(head));
                        return is_asked.ok_or("it switched protocols without being asked");
                    }
                    if !head.status.is_informational() {
                        return Ok(Some(head));
                    }
                    self.spare = Some(head);
                    progress.interim += 1;
                    if progress.interim > INTERIM_MAX {
                        return Err("too many interim responses");
                    }
                }
                Parsed::Invalid(invalid) => return Err(invalid.reason()),
                Parsed::Partial if self.input.len() >= bounds.head_bytes => return Err("response head too large"),
                Parsed::Partial => {
                    if self.input.is_full() {
                        let room = (2 * self.input.len()).min(bounds.head_bytes);
                        bounds.shelf.make_room(&mut self.input, room);
                    }
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Reads once, with room for at least `room` bytes in all; 0: the upstream has closed.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize, shelf: &Shelf) -> Poll<io::Result<usize>> {
        shelf.make_room(&mut self.input, room);
        self.input.poll_fill(cx, Pin::new(&mut self.stream))
    }

    /// Whether the last read filled all the room.
    pub(super) fn is_full(&self) -> bool {
        self.input.is_full()
    }

    /// Decodes what has been read of the body; the bytes of data that are ready. The error is the reason, for logs.
    pub(super) fn decode(&mut self) -> Result<usize, &'static str> {
        self.body.decode(self.input.filled())?;
        if self.body.ready() == 0 {
            let framing = self.body.consume(0);
            self.input.consume(framing);
        }
        Ok(self.body.ready())
    }

    /// The decoded data.
    pub(super) fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        self.body.slices(self.input.filled(), into);
    }

    /// Passes over decoded data that was used.
    pub(super) fn consume(&mut self, length: usize) {
        let dropped = self.body.consume(length);
        self.input.consume(dropped);
    }

    /// Takes the memory of a head that has been used.
    pub(super) fn recycle(&mut self, mut head: Box<ResponseHead>) {
        head.clear();
        self.spare = Some(head);
    }

    /// Whether the exchange left it ready for another: the upstream keeps it, and no byte is left over.
    pub(super) fn is_reusable(&self) -> bool {
        self.keeps && self.input.is_empty()
    }

    /// Gives the memory of a large buffer back while the connection is idle.
    pub(super) fn rest(&mut self, shelf: &Shelf) {
        shelf.take_back_large(&mut self.input);
    }

    /// Whether an idle connection is still open. Nothing is due while it is idle, so whatever arrives, its end or bytes
    /// that belong to no response, ends it. The task that used it last stays registered, and may be woken once in vain.
    pub(super) fn is_open(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// The stream of a connection that has switched protocols, and what was read of it already.
    pub(super) fn into_parts(self: Box<Self>) -> (Stream, Buffer) {
        let this = *self;
        (this.stream, this.input)
    }
}

/// Whether the upstream keeps the connection after its response.
fn is_kept(head: &ResponseHead) -> bool {
    let values = || head.headers.get_all(&CONNECTION.header).iter();
    let says = |word| head.spelling.may_have(&CONNECTION) && values().any(|value| lists(value, word));
    if head.version > Version::HTTP_10 { !says(b"close") } else { says(b"keep-alive") }
}
