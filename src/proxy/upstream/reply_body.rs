//! The body of an answer. It drives its connection, times it, and returns it to the pool at the end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::proxy::upstream::ReplyFault;
use crate::proxy::upstream::line_body::LineBody;
use crate::proxy::upstream::link::{Limits, Link};
use crate::proxy::upstream::pool::Pool;

/// The body of an answer, with the read timeout between frames. Its connection goes back to the pool at its end; when
/// it is dropped before, the connection is closed.
pub enum ReplyBody {
    Linked(Linked),
    Lined(LineBody),
}

/// One over hyper's connection.
pub struct Linked {
    incoming: Incoming,
    /// `None` once the connection has been given away.
    tail: Option<Tail>,
}

struct Tail {
    link: Link,
    pool: Rc<Pool<Link>>,
    limits: Limits,
}

impl ReplyBody {
    /// Without a connection: what follows a switch of protocols is not a body.
    pub(super) fn detached(incoming: Incoming) -> Self {
        Self::Linked(Linked { incoming, tail: None })
    }

    pub(super) fn attached(incoming: Incoming, link: Link, pool: Rc<Pool<Link>>, limits: Limits) -> Self {
        let mut body = Linked { incoming, tail: Some(Tail { link, pool, limits }) };
        if body.incoming.is_end_stream() {
            body.release(&mut Context::from_waker(Waker::noop()));
        }
        Self::Linked(body)
    }
}

impl Linked {
    fn release(&mut self, cx: &mut Context<'_>) {
        if let Some(mut tail) = self.tail.take()
            && tail.link.settle(cx)
        {
            tail.pool.put(tail.link);
        }
    }

    /// The next frame as far as it has been read. Only the connection brings frames, so nobody is to be woken for one.
    fn poll_read(&mut self) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut read = || Pin::new(&mut self.incoming).poll_frame(&mut Context::from_waker(Waker::noop()));
        match &self.tail {
            Some(tail) => tail.link.aside(read),
            None => read(),
        }
    }
}

impl Linked {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        let this = self;
        for driven in [false, true] {
            match this.poll_read() {
                Poll::Ready(Some(Ok(frame))) => {
                    match &mut this.tail {
                        Some(tail) if !this.incoming.is_end_stream() => tail.link.restart_silence(),
                        _ => this.release(cx),
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(None) => {
                    this.release(cx);
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    this.tail = None;
                    return Poll::Ready(Some(Err(ReplyFault::Broken(error.to_string()))));
                }
                Poll::Pending => {}
            }
            let Some(tail) = &mut this.tail else { break };
            if !driven {
                tail.link.drive(cx);
            } else if tail.link.poll_silence(cx, &tail.limits).is_ready() {
                this.tail = None;
                return Poll::Ready(Some(Err(ReplyFault::Timeout)));
            }
        }
        Poll::Pending
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = ReplyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        match self.get_mut() {
            Self::Linked(body) => body.poll_frame(cx),
            Self::Lined(body) => body.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Linked(body) => body.incoming.is_end_stream(),
            Self::Lined(body) => body.left() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Linked(body) => body.incoming.size_hint(),
            Self::Lined(body) => body.left().map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
