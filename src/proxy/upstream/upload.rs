//! The body of a request as hyper takes it, and what became of a streamed one.
//!
//! A streamed body stays with the exchange, behind a reference that hyper's side borrows from: when a try fails before
//! the first byte of the body was wanted, the next one can have it.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::upstream::{ClientFault, RequestBody};

/// The body of all tries of one exchange.
pub(super) enum Payload {
    Empty,
    Whole(Bytes, Option<HeaderMap>),
    Stream(Rc<RefCell<Streamed>>),
}

/// A body that can be sent once.
pub(super) struct Streamed {
    stream: Pin<Box<dyn Body<Data = Bytes, Error = ClientFault>>>,
    length: Option<u64>,
    progress: Progress,
    fault: Option<ClientFault>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Untouched,
    Begun,
    Done,
}

/// The body of one try.
pub(super) enum Upload {
    Empty,
    Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
    Stream(Rc<RefCell<Streamed>>),
}

/// What hyper is told when the client broke the exchange; the fault itself waits in `Payload::take_fault`.
#[derive(Debug)]
pub(super) struct Aborted;

impl Payload {
    pub(super) fn new(body: RequestBody, length: Option<u64>) -> Self {
        match body {
            RequestBody::Empty => Self::Empty,
            RequestBody::Whole(data, trailers) => Self::Whole(data, trailers.filter(|trailers| !trailers.is_empty())),
            RequestBody::Stream(stream) => {
                let progress = if stream.is_end_stream() { Progress::Done } else { Progress::Untouched };
                Self::Stream(Rc::new(RefCell::new(Streamed { stream, length, progress, fault: None })))
            }
        }
    }

    /// The body for a try.
    pub(super) fn upload(&self) -> Upload {
        match self {
            Self::Empty => Upload::Empty,
            Self::Whole(data, trailers) => {
                Upload::Whole { data: Some(data.clone()).filter(|data| !data.is_empty()), trailers: trailers.clone() }
            }
            Self::Stream(streamed) => Upload::Stream(streamed.clone()),
        }
    }

    /// Whether the next try can send it.
    pub(super) fn resendable(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(..) => true,
            Self::Stream(streamed) => streamed.borrow().progress == Progress::Untouched,
        }
    }

    /// The length to state; `None`: chunked.
    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Empty => Framing::None,
            Self::Whole(data, None) => Framing::Length(u64::try_from(data.len()).unwrap_or(u64::MAX)),
            Self::Whole(_, Some(_)) => Framing::Chunked,
            Self::Stream(streamed) => streamed.borrow().length.map_or(Framing::Chunked, Framing::Length),
        }
    }

    pub(super) fn take_fault(&self) -> Option<ClientFault> {
        match self {
            Self::Empty | Self::Whole(..) => None,
            Self::Stream(streamed) => streamed.borrow_mut().fault.take(),
        }
    }

    /// Tells later whether the client still owes a part of the body.
    pub(super) fn watch(&self) -> Option<Rc<RefCell<Streamed>>> {
        match self {
            Self::Empty | Self::Whole(..) => None,
            Self::Stream(streamed) => Some(streamed.clone()),
        }
    }
}

/// How a body's end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

impl Streamed {
    pub(super) fn is_done(&self) -> bool {
        self.progress == Progress::Done
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole { data, trailers } => {
                let frame = data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Self::Stream(streamed) => {
                // A try that was given up could still poll: the next one has the body then.
                let Ok(mut streamed) = streamed.try_borrow_mut() else { return Poll::Ready(Some(Err(Aborted))) };
                streamed.poll(cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Self::Stream(streamed) => streamed.borrow().is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole { trailers: Some(_), .. } => SizeHint::default(),
            Self::Whole { data, trailers: None } => SizeHint::with_exact(data.as_ref().map_or(0, length)),
            Self::Stream(streamed) => streamed.borrow().length.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if self.is_done() {
            return Poll::Ready(None);
        }
        let frame = ready!(self.stream.as_mut().poll_frame(cx));
        let last = frame.is_none() || self.stream.is_end_stream();
        self.progress = if last { Progress::Done } else { Progress::Begun };
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|fault| {
                self.progress = Progress::Done;
                self.fault = Some(fault);
                Aborted
            })
        }))
    }
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client broke the exchange")
    }
}

impl std::error::Error for Aborted {}
