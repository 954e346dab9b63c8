//! The body of a response on its way from the upstream, and what is left of the request's body on its way there.

use std::rc::Rc;
use std::task::{Context, Poll};

use http::HeaderMap;

use crate::http1::body::{BodyDecoder, Slices};
use crate::http1::framing::Framing;
use crate::http1::response::ResponseHead;
use crate::proxy::io::buffer::{Buffer, Shelf};
use crate::proxy::io::deadline::{Deadline, Silence};
use crate::proxy::upstream::body_source::BodySource;
use crate::proxy::upstream::failure::ResponseFault;
use crate::proxy::upstream::http1::{Http1Connection, ROOM_BYTES};
use crate::proxy::upstream::origin::Limits;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::stream::Stream;
use crate::proxy::upstream::upload::UploadFault;

/// A response's body under way. At its end the connection goes back to the pool; when it is dropped before, the connection
/// is closed.
pub struct Download {
    /// `None` once everything has been received.
    connection: Option<Box<Http1Connection>>,
    limits: Limits,
    silence: Silence,
    /// Bytes that are read at once of a long body, now and at most.
    room_bytes: usize,
    room_max: usize,
    pool: Rc<Pool>,
    shelf: Rc<Shelf>,
    trailers: Option<HeaderMap>,
}

impl Download {
    pub(super) fn new(connection: Box<Http1Connection>, limits: Limits, pool: Rc<Pool>, shelf: Rc<Shelf>) -> Self {
        Self {
            connection: Some(connection),
            limits,
            silence: Silence::default(),
            room_bytes: ROOM_BYTES,
            room_max: ROOM_BYTES,
            pool,
            shelf,
            trailers: None,
        }
    }

    /// Begins the body that follows a head. `room`: the bytes that are read at once of a long body, and held in memory while
    /// the client is slow, at first and at most.
    pub fn begin(&mut self, framing: Framing, (room_bytes, room_max): (usize, usize)) {
        (self.room_bytes, self.room_max) = (room_bytes, room_max);
        if let Some(connection) = &mut self.connection {
            connection.body = BodyDecoder::new(framing);
        }
        self.release();
    }

    /// Reads until decoded data is ready, or the body has ended. Sends on the rest of the request's body meanwhile.
    pub fn poll_data<B: BodySource>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut B,
        deadline: &mut Deadline,
    ) -> Poll<Result<(), ResponseFault>> {
        let mut waits_for_client = false;
        if let Some(connection) = self.connection.as_mut().filter(|connection| !connection.upload.is_over()) {
            let Http1Connection { upload, stream, .. } = &mut **connection;
            match upload.poll(cx, stream, &[], source) {
                Poll::Ready(Err(UploadFault::Client(fault))) => return self.fail(ResponseFault::Client(fault)),
                // The response may come to its end all the same; the connection then is closed.
                Poll::Ready(Ok(()) | Err(UploadFault::Upstream)) => {}
                Poll::Pending => waits_for_client = upload.waits_for_client(),
            }
        }
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(Ok(())) };
            match connection.decode() {
                Ok(0) => {}
                Ok(_) => return Poll::Ready(Ok(())),
                Err(why) => return self.fail(ResponseFault::Broken(why.into())),
            }
            if connection.body.is_ended() {
                self.release();
                continue;
            }
            let room = match connection.body.left() {
                Some(left) if left <= ROOM_BYTES as u64 => ROOM_BYTES,
                _ => self.room_bytes,
            };
            match connection.poll_fill(cx, room, &self.shelf) {
                Poll::Ready(Ok(0)) => match connection.body.close() {
                    Ok(()) => self.connection = None,
                    Err(why) => return self.fail(ResponseFault::Broken(why.into())),
                },
                Poll::Ready(Ok(_)) => {
                    self.silence.end();
                    // The room doubles while the upstream fills it.
                    if room > ROOM_BYTES && connection.is_full() {
                        self.room_bytes = (2 * self.room_bytes).min(self.room_max);
                    }
                }
                Poll::Ready(Err(error)) => return self.fail(ResponseFault::Broken(error.to_string().into())),
                Poll::Pending => {
                    deadline.set(if waits_for_client {
                        source.fails_at()
                    } else {
                        self.silence.fails_at(self.limits.read)
                    });
                    return match deadline.poll(cx) {
                        Poll::Ready(()) => self.fail(ResponseFault::Timeout),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Bytes of decoded data.
    pub fn ready(&self) -> usize {
        self.connection.as_ref().map_or(0, |connection| connection.body.ready())
    }

    /// The decoded data.
    pub fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        if let Some(connection) = &self.connection {
            connection.slices(into);
        }
    }

    /// Passes over decoded data that was used.
    pub fn consume(&mut self, length: usize) {
        if let Some(connection) = &mut self.connection {
            connection.consume(length);
            if connection.body.is_ended() {
                self.release();
            }
        }
    }

    /// Whether nothing follows the data that is ready: no data, and no trailers.
    pub fn is_last(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.body.is_last())
    }

    /// Whether all of the body was received and used.
    pub fn is_ended(&self) -> bool {
        self.connection.is_none()
    }

    /// Whether the request's body has been read to its end.
    pub fn has_whole_request(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.upload.is_over())
    }

    /// Bytes that are still to come, where that is known.
    pub fn left(&self) -> Option<u64> {
        self.connection.as_ref().map_or(Some(0), |connection| connection.body.left())
    }

    /// The trailer fields, once, at the end.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Takes the memory of the response's head.
    pub fn recycle(&mut self, head: Box<ResponseHead>) {
        if let Some(connection) = &mut self.connection {
            connection.recycle(head);
        }
    }

    /// The stream of a connection that has switched protocols, and what was read of it already.
    pub fn into_tunnel(mut self) -> Option<(Stream, Buffer)> {
        Some(self.connection.take()?.into_parts())
    }

    /// How long a tunnel may be silent.
    pub fn idle_limit(&self) -> std::time::Duration {
        self.limits.read
    }

    fn fail(&mut self, fault: ResponseFault) -> Poll<Result<(), ResponseFault>> {
        self.connection = None;
        Poll::Ready(Err(fault))
    }

    /// Puts the connection into the pool, if the body is over and it can serve another exchange.
    fn release(&mut self) {
        if self.connection.as_ref().is_none_or(|connection| !connection.body.is_ended()) {
            return;
        }
        if let Some(mut connection) = self.connection.take() {
            self.trailers = connection.body.take_trailers();
            if connection.upload.is_done() && connection.is_reusable() {
                connection.rest(&self.shelf);
                self.pool.put(connection);
            }
        }
    }
}
