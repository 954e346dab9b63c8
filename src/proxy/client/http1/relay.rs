//! Sends a response's body, after its head.
//!
//! What has arrived is sent before more is read, so a slow client slows its upstream, and only that one. Data is sent out of
//! the buffer that it was read into; only small pieces are copied behind the head.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::http1::body::Slices;
use crate::proxy::client::http1::codec::{After, Http1Client};
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::response_body::ResponseBody;
use crate::proxy::io::deadline::Deadline;
use crate::proxy::io::outgoing::Piece;
use crate::proxy::upstream::body_source::BodySource;

/// A piece of up to this many bytes is copied behind the head, so that one plain write sends both.
const COPIED_BYTES: usize = 8 * 1024;

/// A body on its way.
struct Relay<'a> {
    body: ResponseBody,
    record: &'a mut Record,
    deadline: Deadline,
    /// Nothing was sent yet: the head goes out together with the first data, if there is some.
    fresh: bool,
    /// The last chunk follows the last data.
    is_framed: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// All of the body is in the client's `outgoing`.
    Ended,
    /// The upstream broke off. What arrived is sent, and then the connection is dropped.
    Broken,
}

/// Sends what is in `client.outgoing` and then the body; sets `client.after`.
pub(super) async fn send<S>(client: &mut Http1Client<S>, body: ResponseBody, record: &mut Record)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = std::mem::take(&mut client.deadline);
    let mut relay = Relay { body, record, deadline, fresh: true, is_framed: false, state: State::Running };
    let sent = poll_fn(|cx| relay.poll(cx, client)).await;
    client.deadline = relay.deadline;
    if sent.is_err() || relay.state == State::Broken {
        client.after = After::Abandon;
    } else {
        client.finish_request();
    }
}

/// The client has left, or takes no bytes.
struct Gone;

impl Relay<'_> {
    fn poll<S>(&mut self, cx: &mut Context<'_>, client: &mut Http1Client<S>) -> Poll<Result<(), Gone>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            if self.state == State::Running && (client.outgoing.is_empty() || std::mem::take(&mut self.fresh)) {
                match self.body.poll_data(cx, client, &mut self.deadline) {
                    Poll::Ready(Ok(())) => self.take(client),
                    Poll::Ready(Err(fault)) => {
                        tracing::info!(%fault, request_id = self.record.facts.id.as_str(), "response broke off");
                        self.state = State::Broken;
                    }
                    Poll::Pending if client.outgoing.is_empty() => {
                        // TLS may hold back bytes of what was sent last.
                        let _ = Pin::new(&mut client.wire).poll_flush(cx);
                        if self.body.has_whole_request() && client.poll_gone(cx).is_ready() {
                            return Poll::Ready(Err(Gone));
                        }
                        return Poll::Pending;
                    }
                    Poll::Pending => {}
                }
            }
            if client.outgoing.is_empty() {
                if self.state == State::Running {
                    continue;
                }
                return Pin::new(&mut client.wire).poll_flush(cx).map_err(|_| Gone);
            }
            let mut slices = Slices::new();
            if client.outgoing.data_left() > 0 {
                self.body.slices(&mut slices);
            }
            let used = ready!(client.outgoing.poll_write(cx, Pin::new(&mut client.wire), &slices)).map_err(|_| Gone)?;
            drop(slices);
            if used > 0 {
                self.body.consume(used);
                self.end(client);
            }
        }
    }

    /// Puts the data that is ready into `outgoing`.
    fn take<S>(&mut self, client: &mut Http1Client<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let ready = self.body.ready();
        let last = ready > 0 && self.body.is_last();
        let piece = Piece::of(client.chunked, last);
        self.is_framed |= last && client.chunked;
        if ready > COPIED_BYTES {
            client.outgoing.add_data(ready, piece);
        } else if ready > 0 {
            let mut slices = Slices::new();
            self.body.slices(&mut slices);
            client.outgoing.copy_data(&slices, piece);
            drop(slices);
            self.body.consume(ready);
        }
        self.record.add_bytes(ready);
        self.end(client);
    }

    /// Adds the end of the body, once all of it was taken.
    fn end<S>(&mut self, client: &mut Http1Client<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if self.state == State::Running && client.outgoing.takes_data() && self.body.is_ended() {
            self.state = State::Ended;
            if client.chunked && !self.is_framed {
                let trailers = self.body.take_trailers().filter(|_| self.record.facts.fields.trailers);
                client.outgoing.add_last_chunk(trailers.as_ref());
            }
        }
    }
}
