//! A client's body on its way in: limited, timed, and held whole when it is small.
//!
//! A small body is read before the upstream is contacted, so that it can be sent again when a try fails; a longer one
//! is streamed and sent once. Kong's way, to write it to a temporary file first, lost: it makes every upload wait for
//! its last byte, and a disk part of the data plane.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::proxy::connection::Connection;
use crate::proxy::stall::Stall;
use crate::proxy::upstream::{ClientFault, RequestBody};

/// Bodies up to here are held for another try.
pub const REPLAY_BYTES: usize = 64 * 1024;

/// What has been read of a client's body.
pub enum Held {
    Unread(ClientBody),
    Whole(Bytes, Option<HeaderMap>),
    /// Began to be read and is longer than was wanted.
    Begun(Begun),
}

/// A body as it comes from the client.
pub struct ClientBody {
    inner: Incoming,
    /// Bytes still allowed.
    left: u64,
    stall: Stall,
    ended: bool,
    connection: Rc<Connection>,
}

/// A body whose first frames have been read already.
pub struct Begun {
    first: VecDeque<Bytes>,
    rest: ClientBody,
}

impl ClientBody {
    /// At most `limit` bytes; 0: no limit.
    pub fn new(inner: Incoming, limit: u64, connection: Rc<Connection>) -> Self {
        let ended = inner.is_end_stream();
        let left = if limit == 0 { u64::MAX } else { limit };
        Self { inner, left, stall: Stall::new(connection.worker.options.patience.body), ended, connection }
    }

    /// The length that the client stated.
    pub fn stated(&self) -> Option<u64> {
        self.inner.size_hint().exact()
    }

    /// Whether the client has already said that it is too long.
    pub fn is_too_large(&self) -> bool {
        self.inner.size_hint().lower() > self.left
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, ClientFault> {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        self.left = self.left.checked_sub(length).ok_or(ClientFault::TooLarge)?;
        Ok(frame)
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        let frame = match ready!(this.stall.watch(cx, polled)) {
            None => return Poll::Ready(Some(Err(ClientFault::Timeout))),
            Some(frame) => frame,
        };
        this.ended |= frame.is_none();
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => this.take(frame),
            Err(error) => Err(ClientFault::Broken(error.to_string())),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        // Closing with unread bytes resets the connection, and the answer may be lost on its way.
        if !self.ended && !self.inner.is_end_stream() {
            self.connection.expect_leftovers();
        }
    }
}

impl Body for Begun {
    type Data = Bytes;
    type Error = ClientFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientFault>>> {
        let this = self.get_mut();
        match this.first.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_empty() && self.rest.is_end_stream()
    }
}

impl Held {
    /// Reads on until the body is whole, unless it is longer than `at_most` bytes; 0 reads nothing.
    pub async fn read(self, at_most: usize) -> Result<Self, ClientFault> {
        if at_most == 0 {
            return Ok(self);
        }
        let Self::Unread(mut body) = self else { return Ok(self) };
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new(), None));
        }
        if body.stated().is_some_and(|stated| stated > at_most as u64) {
            return Ok(Self::Unread(body));
        }
        let (mut first, mut length, mut trailers) = (VecDeque::new(), 0, None);
        while let Some(frame) = next_frame(&mut body).await? {
            match frame.into_data() {
                Ok(data) => {
                    length += data.len();
                    first.push_back(data);
                    if length > at_most {
                        return Ok(Self::Begun(Begun { first, rest: body }));
                    }
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Ok(Self::Whole(joined(first, length), trailers))
    }

    /// What a plugin may see: the whole body.
    pub fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes, _) => Some(bytes),
            Self::Unread(_) | Self::Begun(_) => None,
        }
    }

    /// A plugin's body in place of the client's, which it has seen.
    pub fn replace(&mut self, body: Option<Bytes>) {
        if let (Self::Whole(whole, _), Some(body)) = (self, body) {
            *whole = body;
        }
    }

    /// The body for the upstream, with its length when it is streamed and the client stated one. `announced`: the
    /// client spoke of a body, so that the upstream hears of an empty one too.
    pub fn into_request(self, announced: bool) -> (RequestBody, Option<u64>) {
        match self {
            Self::Whole(bytes, None) if bytes.is_empty() && !announced => (RequestBody::Empty, None),
            Self::Whole(bytes, trailers) => (RequestBody::Whole(bytes, trailers), None),
            Self::Unread(body) if body.is_end_stream() && announced => (RequestBody::Whole(Bytes::new(), None), None),
            Self::Unread(body) if body.is_end_stream() => (RequestBody::Empty, None),
            Self::Unread(body) => {
                let stated = body.stated();
                (RequestBody::Stream(Box::pin(body)), stated)
            }
            Self::Begun(body) => (RequestBody::Stream(Box::pin(body)), None),
        }
    }
}

async fn next_frame(body: &mut ClientBody) -> Result<Option<Frame<Bytes>>, ClientFault> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.transpose()
}

/// One buffer; without a copy when the body came in one piece, as most do.
fn joined(mut pieces: VecDeque<Bytes>, length: usize) -> Bytes {
    if pieces.len() < 2 {
        return pieces.pop_front().unwrap_or_default();
    }
    let mut whole = BytesMut::with_capacity(length);
    for piece in pieces {
        whole.extend_from_slice(&piece);
    }
    whole.freeze()
}
