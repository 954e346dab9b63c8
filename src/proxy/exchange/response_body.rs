//! The body of a response on its way to the client, through the filters of plugins.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;

use crate::http1::body::Slices;
use crate::http1::response::ResponseHead;
use crate::plugin::AnswerStream;
use crate::plugin::chain::BodyFilters;
use crate::proxy::io::deadline::Deadline;
use crate::proxy::upstream::body_source::BodySource;
use crate::proxy::upstream::download::Download;
use crate::proxy::upstream::failure::ResponseFault;

/// A body.
pub struct ResponseBody {
    source: Source,
    filters: BodyFilters,
    /// What came out of the filters and was not used.
    filtered: Vec<u8>,
    /// Bytes of `filtered` that were used.
    used: usize,
    /// The filters have seen the end.
    flushed: bool,
}

/// Where the bytes come from.
pub enum Source {
    Bytes(Bytes),
    Upstream(Download),
    /// A plugin's, with the piece that is being sent.
    Stream(Option<AnswerStream>, Bytes),
}

impl ResponseBody {
    pub fn new(source: Source, filters: BodyFilters) -> Self {
        let flushed = filters.is_empty();
        Self { source, filters, filtered: Vec::new(), used: 0, flushed }
    }

    pub fn empty() -> Self {
        Self::new(Source::Bytes(Bytes::new()), BodyFilters::new())
    }

    /// Waits until data is ready, or the body has ended.
    pub fn poll_data<B: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut B,
        deadline: &mut Deadline,
    ) -> Poll<Result<(), ResponseFault>> {
        loop {
            if self.ready() > 0 || self.is_ended() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.source.poll_data(cx, client, deadline))?;
            if self.filters.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.filter();
        }
    }

    /// Passes what the source has ready through the filters.
    fn filter(&mut self) {
        let mut slices = Slices::new();
        self.source.slices(&mut slices);
        let length = slices.iter().map(|piece| piece.len()).sum();
        (self.used, self.filtered) = (0, Vec::with_capacity(length));
        for piece in &slices {
            pass(&mut self.filters, piece, false, &mut self.filtered);
        }
        drop(slices);
        self.source.consume(length);
        if self.source.is_ended() {
            pass(&mut self.filters, &[], true, &mut self.filtered);
            self.flushed = true;
        }
    }

    /// Bytes of data that are ready.
    pub fn ready(&self) -> usize {
        if self.filters.is_empty() { self.source.ready() } else { self.filtered.len() - self.used }
    }

    /// The data that is ready.
    pub fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        if self.filters.is_empty() {
            self.source.slices(into);
        } else {
            into.push(&self.filtered[self.used..]);
        }
    }

    /// Passes over data that was used.
    pub fn consume(&mut self, length: usize) {
        if self.filters.is_empty() {
            self.source.consume(length);
        } else {
            self.used += length;
        }
    }

    /// Whether nothing follows the data that is ready: no data, and no trailers.
    pub fn is_last(&self) -> bool {
        match &self.source {
            _ if !self.filters.is_empty() => self.flushed,
            Source::Bytes(_) => true,
            Source::Upstream(download) => download.is_last(),
            Source::Stream(stream, _) => stream.is_none(),
        }
    }

    /// Whether all of it was used.
    pub fn is_ended(&self) -> bool {
        self.flushed && self.filtered.len() == self.used && self.source.is_ended()
    }

    /// Bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.source {
            _ if !self.filters.is_empty() => self.is_ended().then_some(0),
            Source::Bytes(bytes) => Some(bytes.len() as u64),
            Source::Upstream(download) => download.left(),
            Source::Stream(..) => None,
        }
    }

    /// Whether the request's body was read to its end by the upstream side.
    pub fn has_whole_request(&self) -> bool {
        match &self.source {
            Source::Upstream(download) => download.has_whole_request(),
            Source::Bytes(_) | Source::Stream(..) => true,
        }
    }

    /// The trailer fields, once, at the end.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        match &mut self.source {
            Source::Upstream(download) => download.take_trailers(),
            Source::Bytes(_) | Source::Stream(..) => None,
        }
    }

    /// Takes the memory of the response's head.
    pub fn recycle(&mut self, head: Box<ResponseHead>) {
        if let Source::Upstream(download) = &mut self.source {
            download.recycle(head);
        }
    }

    /// The connection to an upstream that has switched protocols.
    pub fn into_download(self) -> Option<Download> {
        match self.source {
            Source::Upstream(download) => Some(download),
            Source::Bytes(_) | Source::Stream(..) => None,
        }
    }
}

/// Passes a piece through all filters.
fn pass(filters: &mut BodyFilters, piece: &[u8], last: bool, out: &mut Vec<u8>) {
    let Some((first, others)) = filters.split_first_mut() else { return };
    if others.is_empty() {
        return first.filter(piece, last, out);
    }
    let mut passed = Vec::with_capacity(piece.len());
    first.filter(piece, last, &mut passed);
    for filter in others {
        let mut next = Vec::with_capacity(passed.len());
        filter.filter(&passed, last, &mut next);
        passed = next;
    }
    out.extend_from_slice(&passed);
}

impl Source {
    fn poll_data<B: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut B,
        deadline: &mut Deadline,
    ) -> Poll<Result<(), ResponseFault>> {
        match self {
            Self::Bytes(_) => Poll::Ready(Ok(())),
            Self::Upstream(download) => download.poll_data(cx, client, deadline),
            Self::Stream(stream, piece) => {
                while let Some(running) = stream.as_mut().filter(|_| piece.is_empty()) {
                    match ready!(running.as_mut().poll_next(cx)) {
                        Some(Ok(next)) => *piece = next,
                        Some(Err(why)) => return Poll::Ready(Err(ResponseFault::Plugin(why))),
                        None => *stream = None,
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    fn ready(&self) -> usize {
        match self {
            Self::Bytes(bytes) | Self::Stream(_, bytes) => bytes.len(),
            Self::Upstream(download) => download.ready(),
        }
    }

    fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        match self {
            Self::Bytes(bytes) | Self::Stream(_, bytes) => into.push(bytes),
            Self::Upstream(download) => download.slices(into),
        }
    }

    fn consume(&mut self, length: usize) {
        match self {
            Self::Bytes(bytes) | Self::Stream(_, bytes) => bytes.advance(length.min(bytes.len())),
            Self::Upstream(download) => download.consume(length),
        }
    }

    fn is_ended(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Upstream(download) => download.is_ended(),
            Self::Stream(stream, piece) => stream.is_none() && piece.is_empty(),
        }
    }
}
