//! The body of a response, as hyper sends it.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http1::body::Slices;
use crate::proxy::client::http2::activity::{Activity, Busy};
use crate::proxy::client::http2::source::Http2Source;
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::response_body::ResponseBody;
use crate::proxy::io::deadline::Deadline;
use crate::proxy::upstream::failure::ResponseFault;

/// Largest DATA frame of a response.
const FRAME_BYTES: usize = 16 * 1024;

/// The body of a response, as hyper sends it. It holds the exchange's record, so the exchange ends when the last byte was
/// handed over, or when the client leaves. Nothing is read ahead: a slow client slows its upstream.
#[derive(Default)]
pub(super) struct Http2Body(Option<Box<Sending>>);

struct Sending {
    body: ResponseBody,
    record: Record,
    /// The rest of the request's body, which may still be on its way up.
    source: Http2Source,
    deadline: Deadline,
    /// An error waits for one turn, so that hyper hands over what it has of the response before it resets the stream.
    fault: Option<ResponseFault>,
    activity: Rc<Activity>,
    /// Held while the upstream is waited for, and not the client.
    busy: Option<Busy>,
}

impl Http2Body {
    /// `source`: the rest of the request's body.
    pub(super) fn new(body: ResponseBody, record: Record, source: Http2Source, activity: Rc<Activity>) -> Self {
        let deadline = Deadline::default();
        Self(Some(Box::new(Sending { body, record, source, deadline, fault: None, activity, busy: None })))
    }
}

impl Sending {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseFault>>> {
        if let Some(fault) = self.fault.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let polled = self.body.poll_data(cx, &mut self.source, &mut self.deadline);
        self.activity.note();
        match (polled.is_pending(), &self.busy) {
            (true, None) => self.busy = Some(Busy::on(&self.activity)),
            (false, Some(_)) => self.busy = None,
            (true, Some(_)) | (false, None) => {}
        }
        if let Err(fault) = ready!(polled) {
            tracing::info!(%fault, request_id = self.record.facts.id.as_str(), "response broke off");
            self.fault = Some(fault);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.body.ready() == 0 {
            let trailers = self.body.take_trailers().filter(|_| self.record.facts.fields.trailers);
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let mut slices = Slices::new();
        self.body.slices(&mut slices);
        let first = slices.first().copied().unwrap_or_default();
        let data = Bytes::copy_from_slice(&first[..first.len().min(FRAME_BYTES)]);
        drop(slices);
        self.body.consume(data.len());
        self.record.add_bytes(data.len());
        Poll::Ready(Some(Ok(Frame::data(data))))
    }
}

impl Body for Http2Body {
    type Data = Bytes;
    type Error = ResponseFault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ResponseFault>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |sending| sending.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        // A body whose length is not known may end with trailers.
        self.0.as_ref().is_none_or(|sending| sending.fault.is_none() && sending.body.left() == Some(0))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.0.as_ref().map_or(Some(0), |sending| sending.body.left());
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
