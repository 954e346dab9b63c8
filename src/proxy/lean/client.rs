//! The client's side of a connection: heads and bodies in, answers out, and the limits of patience.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use crate::listen::handover::Handover;
use crate::proxy::connection::Connection;
use crate::proxy::lean::buffer::Buffer;
use crate::proxy::lean::deadline::Deadline;
use crate::proxy::lean::head::{self, Found, RequestHead};
use crate::proxy::upstream::ClientFault;
use crate::proxy::wire::Wire;

/// Room for a head at first.
const ROOM_BYTES: usize = 2 * 1024;
/// A longer head is left to the general path. Also what is read ahead while an answer is waited for.
const HEAD_BYTES: usize = 8 * 1024;
/// A body up to here is taken out together with the buffer that its head came in.
const SMALL_BODY_BYTES: usize = 4 * 1024;
/// What an output buffer keeps between two exchanges.
const KEPT_BYTES: usize = 16 * 1024;

/// A client connection.
pub struct Client<S> {
    pub connection: Rc<Connection>,
    wire: Wire<S>,
    /// What has been read and not used.
    pub input: Buffer,
    /// What is to be sent next.
    pub output: Vec<u8>,
    pub deadline: Deadline,
    /// The memory of the next request's head.
    pub spare: Option<Box<RequestHead>>,
}

/// A head that has been read and is still in `Client::input`.
pub struct Request {
    pub head: Box<RequestHead>,
    /// Bytes of the head.
    pub length: usize,
}

/// What came.
pub enum Heard {
    Request(Request),
    /// Not for this path.
    Other(Handover),
    /// The client is done, or the worker stops.
    End,
    /// A head took too long.
    Overdue,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(connection: Rc<Connection>, wire: Wire<S>) -> Self {
        Self {
            connection,
            wire,
            input: Buffer::default(),
            output: Vec::new(),
            deadline: Deadline::default(),
            spare: None,
        }
    }

    /// Waits for the next head.
    pub async fn hear(&mut self) -> Heard {
        self.deadline.set(Instant::now() + self.connection.worker.options.patience.head);
        poll_fn(|cx| self.poll_hear(cx)).await
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        loop {
            if !self.input.is_empty() {
                match head::request(self.input.filled(), self.spare.get_or_insert_default()) {
                    Found::Head(length) => {
                        return Poll::Ready(Heard::Request(Request {
                            head: self.spare.take().unwrap_or_default(),
                            length,
                        }));
                    }
                    Found::Nothing(_) => return Poll::Ready(Heard::Other(Handover::Head)),
                    Found::Part if self.input.len() >= HEAD_BYTES => {
                        return Poll::Ready(Heard::Other(Handover::Head));
                    }
                    Found::Part => {}
                }
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if !self.input.is_empty() => return Poll::Ready(Heard::Other(Handover::Head)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Heard::End),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a client's connection broke");
                    return Poll::Ready(Heard::Overdue);
                }
                Poll::Pending => break,
            }
        }
        if self.input.is_empty() && self.connection.worker.stop.is_asked() {
            return Poll::Ready(Heard::End);
        }
        self.deadline.poll(cx).map(|()| Heard::Overdue)
    }

    /// Reads once, ahead of what is wanted now, and within bounds.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = if self.input.len() < ROOM_BYTES { ROOM_BYTES } else { HEAD_BYTES };
        self.input.make_room(room);
        self.input.poll_fill(cx, Pin::new(&mut self.wire))
    }

    /// Ready when the client has closed while an answer is on its way. Requests that it sends meanwhile are kept; one
    /// that sends more than there is room for is not watched any further.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < HEAD_BYTES {
            match ready!(self.poll_more(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Reads a body of this length and takes it out. The memory can be given back with `recycle`.
    pub async fn take_body(&mut self, length: usize) -> Result<Buffer, ClientFault> {
        if length == 0 {
            return Ok(Buffer::default());
        }
        if length <= SMALL_BODY_BYTES {
            self.input.make_room(length);
        } else {
            // One byte more than may come: a read that leaves room tells that nothing is left, without another one.
            let mut roomy = self.connection.worker.shelf.take(length + 1);
            roomy.push(self.input.filled());
            self.input = roomy;
        }
        let patience = self.connection.worker.options.patience.body;
        while self.input.len() < length {
            self.deadline.set(Instant::now() + patience);
            let read = poll_fn(|cx| match self.input.poll_fill(cx, Pin::new(&mut self.wire)) {
                Poll::Ready(read) => Poll::Ready(Some(read)),
                Poll::Pending => self.deadline.poll(cx).map(|()| None),
            });
            match read.await {
                Some(Ok(1..)) => {}
                Some(Ok(0)) => return Err(ClientFault::Broken("the client closed within its body".to_owned())),
                Some(Err(error)) => return Err(ClientFault::Broken(error.to_string())),
                None => return Err(ClientFault::Timeout),
            }
        }
        let body = std::mem::take(&mut self.input);
        self.input.push(&body.filled()[length..]);
        Ok(body)
    }

    /// Takes the memory of a body that has been sent.
    pub fn recycle(&mut self, mut body: Buffer) {
        if body.len() > SMALL_BODY_BYTES {
            self.connection.worker.shelf.give(body);
        } else if self.input.is_empty() && !body.is_empty() {
            body.consume(body.len());
            self.input = body;
        }
    }

    /// Sends from `output` and then from `body`, of which `sent` bytes in all have gone already.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, body: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        let wire = &mut self.wire;
        while *sent < self.output.len() + body.len() {
            let length = match self.output.get(*sent..) {
                Some(first) if body.is_empty() => ready!(Pin::new(&mut *wire).poll_write(cx, first))?,
                Some(first) if !first.is_empty() => {
                    let slices = [IoSlice::new(first), IoSlice::new(body)];
                    ready!(Pin::new(&mut *wire).poll_write_vectored(cx, &slices))?
                }
                _ => ready!(Pin::new(&mut *wire).poll_write(cx, &body[*sent - self.output.len()..]))?,
            };
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += length;
        }
        ready!(Pin::new(wire).poll_flush(cx))?;
        self.output.clear();
        *sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Sends `output`.
    pub async fn send(&mut self) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|cx| self.poll_send(cx, &[], &mut sent)).await
    }

    /// Ready for another exchange: what only this one needed is let go.
    pub fn rest(&mut self) {
        self.input.shrink();
        if self.output.capacity() > KEPT_BYTES {
            self.output = Vec::new();
        }
    }

    /// Closes in good order.
    pub async fn close(&mut self) {
        if let Err(error) = self.wire.shutdown().await {
            tracing::debug!(%error, "a client's connection broke");
        }
    }

    /// The wire as it was before anything in `input` was read.
    pub fn give_back(self) -> Wire<S> {
        let mut wire = self.wire;
        wire.unread(self.input.filled());
        wire
    }
}
