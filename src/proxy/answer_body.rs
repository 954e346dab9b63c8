//! The body of an answer on its way to the client. It carries the exchange's record, so the exchange ends when the last
//! byte was handed over, or when the client left.
//!
//! Nothing is read ahead: a slow client slows its upstream, and only that one.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::proxy::connection::Waiting;
use crate::proxy::record::Record;
use crate::proxy::upstream::{ReplyBody, ReplyFault};

/// Where the bytes come from.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be an allocation for each"
)]
pub enum Source {
    Empty,
    Whole(Option<Bytes>),
    Upstream(ReplyBody),
}

/// What hyper sends to the client.
pub struct AnswerBody {
    source: Source,
    /// `None`: the exchange goes on without this body (a tunnel).
    record: Option<Record>,
    /// An error waits for a turn, so that hyper hands over what it has of the answer before it drops the connection.
    fault: Option<ReplyFault>,
    /// Held while it is the upstream, not the client, that is waited for.
    waiting: Option<Waiting>,
}

impl AnswerBody {
    pub fn new(source: Source, record: Option<Record>) -> Self {
        Self { source, record, fault: None, waiting: None }
    }

    fn note(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, ReplyFault>>>) {
        let Some(record) = &mut self.record else { return };
        if let Poll::Ready(Some(Ok(frame))) = polled {
            record.add_bytes(frame.data_ref().map_or(0, Bytes::len));
        }
        record.connection().note_progress();
        match (polled.is_pending(), &self.waiting) {
            (true, None) => self.waiting = Some(Waiting::on(record.connection())),
            (false, Some(_)) => self.waiting = None,
            (true, Some(_)) | (false, None) => {}
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ReplyFault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReplyFault>>> {
        let this = self.get_mut();
        if let Some(fault) = this.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let polled = match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream(body) => Pin::new(body).poll_frame(cx),
        };
        this.note(&polled);
        if let Poll::Ready(Some(Err(fault))) = polled {
            tracing::info!(%fault, "an answer broke off");
            this.fault = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Source::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Upstream(body) => body.size_hint(),
        }
    }
}
