//! The body of a request, as hyper receives it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::http1::body::{SEGMENTS, Slices};
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::held::HeldBody;
use crate::proxy::io::deadline::{Deadline, Silence};
use crate::proxy::upstream::body_source::{BodySource, ClientFault};

/// The body of a request.
pub(super) struct Http2Source {
    incoming: Incoming,
    connection: Rc<Connection>,
    /// Data that was received and not used.
    frames: VecDeque<Bytes>,
    ready: usize,
    ended: bool,
    trailers: Option<HeaderMap>,
    /// Bytes that may still arrive.
    allowed: u64,
    silence: Silence,
}

impl Http2Source {
    pub(super) fn new(incoming: Incoming, connection: Rc<Connection>) -> Self {
        let limit = connection.worker.options.client_max_body_size;
        Self {
            ended: incoming.is_end_stream(),
            incoming,
            connection,
            frames: VecDeque::new(),
            ready: 0,
            trailers: None,
            allowed: if limit == 0 { u64::MAX } else { limit },
            silence: Silence::default(),
        }
    }

    /// Receives one frame more, unless the body has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        self.silence.end();
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Err(ClientFault::Broken(error.to_string()))),
            None => {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
        };
        match frame.into_data() {
            Ok(data) => {
                self.allowed = self.allowed.checked_sub(data.len() as u64).ok_or(ClientFault::TooLarge)?;
                self.ready += data.len();
                if !data.is_empty() {
                    self.frames.push_back(data);
                }
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
        self.ended |= self.incoming.is_end_stream();
        Poll::Ready(Ok(()))
    }

    /// See `Client::read_ahead`. A body with trailers is not whole: it is sent on in chunks.
    pub(super) async fn read_ahead(&mut self, at_most: usize) -> Result<bool, ClientFault> {
        let mut deadline = Deadline::default();
        while !self.ended && self.ready <= at_most && at_most > 0 {
            let more = std::future::poll_fn(|cx| match self.poll_more(cx) {
                Poll::Ready(outcome) => Poll::Ready(outcome),
                Poll::Pending => {
                    deadline.set(self.fails_at());
                    deadline.poll(cx).map(|()| Err(ClientFault::Timeout))
                }
            });
            more.await?;
        }
        Ok(self.ended && self.ready <= at_most && self.trailers.is_none())
    }

    /// Takes a body that is whole; without a copy when it came in one frame.
    pub(super) fn take_body(&mut self) -> HeldBody {
        self.ready = 0;
        let mut frames = std::mem::take(&mut self.frames);
        if frames.len() < 2 {
            return frames.pop_front().map_or(HeldBody::Empty, HeldBody::Bytes);
        }
        let mut whole = BytesMut::with_capacity(frames.iter().map(Bytes::len).sum());
        frames.iter().for_each(|frame| whole.extend_from_slice(frame));
        HeldBody::Bytes(whole.freeze())
    }
}

impl BodySource for Http2Source {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientFault>> {
        while self.ready == 0 && !self.ended {
            ready!(self.poll_more(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn ready(&self) -> usize {
        self.frames.iter().take(SEGMENTS).map(Bytes::len).sum()
    }

    fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        into.extend(self.frames.iter().take(SEGMENTS).map(|frame| &frame[..]));
    }

    fn is_last(&self) -> bool {
        self.ended && self.trailers.is_none() && self.frames.len() <= SEGMENTS
    }

    fn consume(&mut self, mut length: usize) {
        self.ready -= length.min(self.ready);
        while let Some(first) = self.frames.front_mut().filter(|_| length > 0) {
            let used = length.min(first.len());
            first.advance(used);
            length -= used;
            if first.is_empty() {
                self.frames.pop_front();
            }
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    fn fails_at(&mut self) -> Instant {
        self.silence.fails_at(self.connection.worker.options.patience.body)
    }

    /// hyper drops the exchange of a stream that the client has reset.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
