//! The client's side of a connection: heads and bodies in, responses out, and the time limits.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::{CONNECTION, DATE};
use http::{HeaderMap, Version};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::http1::body::{BodyDecoder, Segments, Slices};
use crate::http1::fields::RequestFields;
use crate::http1::framing::Framing;
use crate::http1::request::{HeadScan, RequestHead, skip_empty_lines};
use crate::http1::response::ResponseHead;
use crate::http1::write::{ResponseHeaders, write_line, write_response};
use crate::http1::{InvalidHead, Parsed};
use crate::proxy::client::date::write_date;
use crate::proxy::client::http1::relay;
use crate::proxy::client::tunnel::{self, Side};
use crate::proxy::client::wire::Wire;
use crate::proxy::exchange::Arrived;
use crate::proxy::exchange::client::{Client, Sent};
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::held::HeldBody;
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::response_body::ResponseBody;
use crate::proxy::io::buffer::Buffer;
use crate::proxy::io::deadline::{Deadline, Silence};
use crate::proxy::io::outgoing::Outgoing;
use crate::proxy::upstream::body_source::{BodySource, ClientFault};

/// Room for a head at first.
const ROOM_BYTES: usize = 2 * 1024;
/// Bytes that are read ahead while a response is waited for.
const AHEAD_BYTES: usize = 8 * 1024;
/// Bytes that are read at once of a long body, at first and at most: the room doubles while the client fills it, so a slow
/// client holds little memory.
const BODY_ROOM_BYTES: usize = 64 * 1024;
const BODY_ROOM_MAX: usize = 256 * 1024;
/// Room for the framing of a chunked body that is read whole; a body with more framing is copied.
const FRAMING_BYTES: usize = 8 * 1024;

/// The interim response that asks for a body (RFC 9110 §10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A client connection.
pub struct Http1Client<S> {
    connection: Rc<Connection>,
    pub(super) wire: Wire<S>,
    /// Bytes that were read and not used.
    input: Buffer,
    /// The head that is being read, and how far.
    head: Option<Rc<RequestHead>>,
    scan: HeadScan,
    framing: Framing,
    body: BodyDecoder,
    /// Decoded data that was copied out of `input`.
    held: Buffer,
    /// Bytes that are read at once of the body.
    room_bytes: usize,
    /// Bytes of the body that may still arrive.
    allowed: u64,
    /// Bytes of `CONTINUE` that are still to be sent before the body is read.
    continue_left: usize,
    /// While the body is waited for.
    silence: Silence,
    pub(super) deadline: Deadline,
    pub(super) outgoing: Outgoing,
    /// Whether the response's body is sent in chunks.
    pub(super) chunked: bool,
    pub(super) after: After,
}

/// What a connection brings next.
pub enum Next {
    Request(Arrived),
    /// The client is done, or the worker stops.
    End,
    /// A head took too long, or the connection broke.
    Abandon,
}

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Next,
    Close,
    /// It is dropped as it is.
    Abandon,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1Client<S> {
    pub fn new(connection: Rc<Connection>, wire: Wire<S>) -> Self {
        Self {
            connection,
            wire,
            input: Buffer::default(),
            head: None,
            scan: HeadScan::default(),
            framing: Framing::None,
            body: BodyDecoder::default(),
            held: Buffer::default(),
            room_bytes: BODY_ROOM_BYTES,
            allowed: 0,
            continue_left: 0,
            silence: Silence::default(),
            deadline: Deadline::default(),
            outgoing: Outgoing::default(),
            chunked: false,
            after: After::Abandon,
        }
    }

    /// Waits for the next request.
    pub async fn next(&mut self) -> Next {
        self.deadline.set(Instant::now() + self.connection.worker.options.patience.head);
        (self.scan, self.after) = (HeadScan::default(), After::Abandon);
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let limits = self.connection.worker.options.head;
        loop {
            if let Some(next) = self.parse() {
                return Poll::Ready(next);
            }
            let room = match self.input.len() {
                length if length < ROOM_BYTES => ROOM_BYTES,
                // One byte more than a head may have shows that it is too long.
                length => (2 * length).min(limits.head_bytes + 1),
            };
            match self.poll_read(cx, room) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if self.input.is_empty() => return Poll::Ready(Next::End),
                Poll::Ready(Ok(0)) => return Poll::Ready(Next::Abandon),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "the connection of a client broke");
                    return Poll::Ready(Next::Abandon);
                }
                Poll::Pending => break,
            }
        }
        if self.input.is_empty() {
            if self.connection.worker.stop.is_asked() {
                return Poll::Ready(Next::End);
            }
            // A connection that waits for a request holds no memory for one.
            self.connection.worker.shelf.take_back(&mut self.input);
        }
        self.deadline.poll(cx).map(|()| Next::Abandon)
    }

    /// The next request, as far as it was read.
    fn parse(&mut self) -> Option<Next> {
        let empty = skip_empty_lines(self.input.filled());
        self.input.consume(empty);
        if self.input.is_empty() {
            return None;
        }
        let worker = &self.connection.worker;
        let limits = &worker.options.head;
        // No one else has this head: it was not handed out yet.
        let head = Rc::make_mut(self.head.get_or_insert_with(|| worker.heads.take(RequestHead::clear)));
        let refused = match head.parse(self.input.filled(), limits, &mut self.scan) {
            Parsed::Partial => return None,
            Parsed::Head(length) => {
                self.input.consume(length);
                None
            }
            Parsed::Invalid(InvalidHead::Http2Preface) => return Some(Next::Abandon),
            Parsed::Invalid(invalid) => {
                head.salvage(self.input.filled(), limits);
                Some(invalid)
            }
        };
        let head = self.head.take()?;
        let fields = refused.map_or_else(|| RequestFields::read(&head.headers, head.version), Err);
        if let Err(invalid) = fields {
            tracing::info!(reason = invalid.reason(), peer = %self.connection.peer_ip, "invalid request");
        }
        self.begin(&fields, head.version);
        Some(Next::Request(Arrived { head, fields: fields.map_err(Into::into) }))
    }

    /// Makes ready for a request's body.
    fn begin(&mut self, fields: &Result<RequestFields, InvalidHead>, version: Version) {
        let limit = self.connection.worker.options.client_max_body_size;
        self.allowed = if limit == 0 { u64::MAX } else { limit };
        (self.room_bytes, self.silence) = (BODY_ROOM_BYTES, Silence::default());
        // The end of an invalid request is unknown: nothing after it is read as a request.
        self.framing = fields.as_ref().map_or(Framing::UntilClose, RequestFields::framing);
        self.body = BodyDecoder::new(self.framing);
        let expects = fields.is_ok_and(|fields| fields.expects_continue) && version == Version::HTTP_11;
        self.continue_left = if expects && self.framing != Framing::None { CONTINUE.len() } else { 0 };
    }

    /// Reads once, with room for `room` bytes in all.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.connection.worker.shelf.make_room(&mut self.input, room);
        self.input.poll_fill(cx, Pin::new(&mut self.wire))
    }

    /// Decodes what was read of the body.
    fn decode(&mut self) -> Result<(), ClientFault> {
        let before = self.body.ready();
        self.body.decode(self.input.filled()).map_err(|why| ClientFault::Broken(why.to_owned()))?;
        let fresh = (self.body.ready() - before) as u64;
        self.allowed = self.allowed.checked_sub(fresh).ok_or(ClientFault::TooLarge)?;
        if self.body.ready() == 0 {
            let framing = self.body.consume(0);
            self.input.consume(framing);
        }
        Ok(())
    }

    /// Reads more of the body, after asking for it if the client waits for that.
    fn poll_body(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<(), ClientFault>> {
        let broken = |error: io::Error| ClientFault::Broken(error.to_string());
        while self.continue_left > 0 {
            let rest = &CONTINUE[CONTINUE.len() - self.continue_left..];
            let sent = ready!(Pin::new(&mut self.wire).poll_write(cx, rest)).map_err(broken)?;
            self.continue_left -= sent;
            if self.continue_left == 0 {
                let _ = Pin::new(&mut self.wire).poll_flush(cx).map_err(broken)?;
            }
        }
        match ready!(self.poll_read(cx, room)) {
            Ok(1..) => {
                self.silence.end();
                if self.input.is_full() {
                    self.room_bytes = (2 * self.room_bytes).min(BODY_ROOM_MAX);
                }
                Poll::Ready(Ok(()))
            }
            Ok(0) => Poll::Ready(Err(ClientFault::Broken("connection closed within a body".to_owned()))),
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }

    /// Room for the rest of a body.
    fn body_room(&self) -> usize {
        match self.body.left() {
            // One byte more than may come: a read that leaves room tells that nothing is left, without another one.
            Some(left) => usize::try_from(left).unwrap_or(usize::MAX).saturating_add(1).min(self.room_bytes),
            None => self.room_bytes,
        }
    }

    fn poll_read_ahead(&mut self, cx: &mut Context<'_>, at_most: usize) -> Poll<Result<bool, ClientFault>> {
        if self.body.left().is_some_and(|left| left > at_most as u64) || at_most == 0 {
            return Poll::Ready(Ok(self.body.left() == Some(0)));
        }
        loop {
            self.decode()?;
            if self.ready() > at_most {
                return Poll::Ready(Ok(false));
            }
            if self.body.is_decoded() {
                return Poll::Ready(Ok(true));
            }
            let room = self.body.left().map_or(at_most + FRAMING_BYTES, |left| left as usize + 1);
            if self.body.decoded() < self.input.len() || self.input.len() >= room {
                self.hold();
                continue;
            }
            match self.poll_body(cx, room) {
                Poll::Ready(outcome) => outcome?,
                Poll::Pending => {
                    let fails_at = self.fails_at();
                    self.deadline.set(fails_at);
                    return self.deadline.poll(cx).map(|()| Err(ClientFault::Timeout));
                }
            }
        }
    }

    /// Copies decoded data out of the way of what follows.
    fn hold(&mut self) {
        let length = self.held.len() + self.body.ready();
        self.connection.worker.shelf.make_room(&mut self.held, length);
        let mut slices = Slices::new();
        self.body.slices(self.input.filled(), &mut slices);
        slices.iter().for_each(|piece| self.held.push(piece));
        drop(slices);
        let used = self.body.consume(self.body.ready());
        self.input.consume(used);
    }

    /// Passes over a body that is not needed; false when not all of it has been read.
    fn skip_body(&mut self) -> bool {
        self.held = Buffer::default();
        loop {
            let used = self.body.consume(self.body.ready());
            self.input.consume(used);
            if self.body.is_decoded() || self.input.is_empty() || self.body.decode(self.input.filled()).is_err() {
                return self.body.is_ended();
            }
        }
    }

    /// After a response: a connection whose client is still sending its request cannot serve another.
    pub(super) fn finish_request(&mut self) {
        if !self.skip_body() {
            self.wire.linger();
            self.after = After::Close;
        }
    }

    pub fn after(&self) -> After {
        self.after
    }

    /// After an exchange, ready for another: returns the memory that only that one needed.
    pub fn rest(&mut self) {
        let shelf = &self.connection.worker.shelf;
        shelf.take_back_large(&mut self.input);
        shelf.take_back(&mut self.held);
        self.outgoing.clear();
    }

    /// Closes the connection.
    pub async fn close(&mut self) {
        if let Err(error) = self.wire.shutdown().await {
            tracing::debug!(%error, "the connection of a client broke");
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> BodySource for Http1Client<S> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        loop {
            if self.ready() > 0 {
                return Poll::Ready(Ok(()));
            }
            self.decode()?;
            if self.ready() > 0 || self.body.is_decoded() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_body(cx, self.body_room()))?;
        }
    }

    fn ready(&self) -> usize {
        self.held.len() + self.body.ready()
    }

    fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        if !self.held.is_empty() {
            into.push(self.held.filled());
        }
        self.body.slices(self.input.filled(), into);
    }

    fn is_last(&self) -> bool {
        self.body.is_last()
    }

    fn consume(&mut self, length: usize) {
        let held = length.min(self.held.len());
        self.held.consume(held);
        let used = self.body.consume(length - held);
        self.input.consume(used);
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.body.take_trailers()
    }

    fn fails_at(&mut self) -> Instant {
        self.silence.fails_at(self.connection.worker.options.patience.body)
    }

    /// Requests that the client sends meanwhile are kept; one that sends more than there is room for is not watched any
    /// further.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < AHEAD_BYTES {
            let room = if self.input.len() < ROOM_BYTES { ROOM_BYTES } else { AHEAD_BYTES };
            match ready!(self.poll_read(cx, room)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client for Http1Client<S> {
    fn framing(&self) -> Framing {
        self.framing
    }

    async fn read_ahead(&mut self, at_most: usize) -> Result<bool, ClientFault> {
        poll_fn(|cx| self.poll_read_ahead(cx, at_most)).await
    }

    fn take_body(&mut self) -> HeldBody {
        if self.ready() == 0 {
            return HeldBody::Empty;
        }
        if !self.held.is_empty() {
            self.hold();
            let held = std::mem::take(&mut self.held);
            let all = Segments::from_slice(&[(0, held.len() as u32)]);
            return HeldBody::Buffer(held, all);
        }
        // The body stays in the memory that it was read into; what follows it moves.
        let (segments, decoded) = self.body.take_segments();
        let body = std::mem::take(&mut self.input);
        if body.len() > decoded {
            self.connection.worker.shelf.make_room(&mut self.input, ROOM_BYTES);
            self.input.push(&body.filled()[decoded..]);
        }
        HeldBody::Buffer(body, segments)
    }

    fn recycle(&mut self, body: HeldBody) {
        if let HeldBody::Buffer(buffer, _) = body {
            self.connection.worker.shelf.give(buffer);
        }
    }

    fn lend(&mut self) -> (Outgoing, Deadline) {
        (std::mem::take(&mut self.outgoing), std::mem::take(&mut self.deadline))
    }

    fn give_back(&mut self, lent: (Outgoing, Deadline)) {
        (self.outgoing, self.deadline) = lent;
    }

    fn send_head(&mut self, record: &Record, head: &mut ResponseHead, sent: Sent<'_, '_>) {
        let version = record.facts.version;
        // HTTP/1.0 has no chunks: a body of unknown length ends with the connection.
        let until_close = sent.framing == Framing::Chunked && version < Version::HTTP_11;
        self.chunked = sent.framing == Framing::Chunked && !until_close;
        let is_unread = !sent.uploading && !self.skip_body();
        if is_unread {
            self.wire.linger();
        }
        let closes = sent.closes || until_close || is_unread;
        self.after = if closes { After::Close } else { After::Next };
        let out = &mut self.outgoing.text;
        let headers = ResponseHeaders { map: &head.headers, spelling: &head.spelling, added: sent.added };
        write_response(out, head.status, &head.reason, headers);
        if self.chunked {
            write_line(out, b"Transfer-Encoding", b"chunked");
        }
        if !sent.local || head.headers.get(CONNECTION).is_none() {
            if closes {
                write_line(out, b"Connection", b"close");
            } else if version < Version::HTTP_11 {
                write_line(out, b"Connection", b"keep-alive");
            }
        }
        if !head.headers.contains_key(DATE) {
            write_date(out, record.facts.now_ms / 1_000);
        }
        out.extend_from_slice(b"\r\n");
    }

    async fn send_body(&mut self, body: ResponseBody, record: &mut Option<Record>) {
        if let Some(record) = record {
            relay::send(self, body, record).await;
        }
    }

    async fn tunnel(&mut self, body: ResponseBody, record: &mut Option<Record>) {
        self.after = After::Abandon;
        let Some(download) = body.into_download() else { return };
        let idle = download.idle_limit();
        let Some((upstream, upstream_early)) = download.into_tunnel() else { return };
        let head = std::mem::take(&mut self.outgoing.text);
        if self.wire.write_all(&head).await.is_err() || self.wire.flush().await.is_err() {
            return;
        }
        let client = Side { stream: &mut self.wire, early: self.input.filled() };
        let upstream = Side { stream: upstream, early: upstream_early.filled() };
        let carried = Box::pin(tunnel::carry(client, upstream, idle)).await;
        if let Some(record) = record {
            record.add_bytes(carried);
        }
    }

    fn abandon(&mut self) {
        self.after = After::Abandon;
    }
}
