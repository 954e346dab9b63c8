//! One connection to an upstream, driven by whoever uses it.
//!
//! hyper's connection is a future that somebody must poll. Here the exchange itself does, from the request's head to
//! the end of the answer's body, and nobody does while the connection rests in the pool. A task per connection, the
//! usual way, would cost a switch of tasks for each step of each exchange and could not be dropped with the exchange.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, Sleep};

use crate::proxy::upstream::gate::Gate;
use crate::proxy::upstream::pool::{Key, Restful};
use crate::proxy::upstream::upload::{Streamed, Upload};
use crate::proxy::upstream::wire::{Meter, Stream, Wire};

/// Bytes of an answer's head; more is no answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Bytes read ahead of the client, and written ahead of the upstream, before the connection waits.
const MAX_BUFFER_BYTES: usize = 64 * 1024;
/// Headers of an answer. Kong bounds their bytes only, to 4 or 8 KiB, which few heads of so many lines would fit.
const MAX_HEADERS: usize = 128;

/// How long each operation may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub write: Duration,
    pub read: Duration,
}

/// A connection and what is known about it.
pub(super) struct Link {
    key: Key,
    requests: u64,
    sender: SendRequest<Upload>,
    driver: Driver,
    meter: Arc<Meter>,
    silence: Silence,
    /// The client's body of the exchange under way, when it is streamed.
    upload: Option<Rc<RefCell<Streamed>>>,
}

/// hyper's side of a connection.
struct Driver {
    running: Option<Pin<Box<dyn Future<Output = hyper::Result<()>>>>>,
    gate: Gate,
}

/// Why no answer came over a connection.
pub(super) struct Broken {
    pub(super) why: String,
    pub(super) timeout: bool,
    /// Bytes of the request have left.
    pub(super) sent: bool,
    /// Bytes of an answer have come.
    pub(super) answered: bool,
    /// The request, when hyper has not begun to write it.
    pub(super) unsent: Option<Request<Upload>>,
}

impl Link {
    pub(super) async fn new(key: Key, stream: Stream) -> hyper::Result<Self> {
        let meter = Arc::new(Meter::default());
        let io = TokioIo::new(Wire { stream, meter: meter.clone() });
        let (sender, connection) = Builder::new()
            .preserve_header_case(true)
            .max_buf_size(MAX_BUFFER_BYTES)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(io)
            .await?;
        let driver = Driver { running: Some(Box::pin(connection.with_upgrades())), gate: Gate::new() };
        Ok(Self { key, requests: 0, sender, driver, meter, silence: Silence::new(), upload: None })
    }

    /// Sends a request and reads the head of its answer.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Upload>,
        upload: Option<Rc<RefCell<Streamed>>>,
        limits: &Limits,
    ) -> Result<Response<Incoming>, Broken> {
        let (read, written) = (self.meter.read(), self.meter.written());
        self.requests += 1;
        self.upload = upload;
        self.silence.restart();
        let mut answer = pin!(self.sender.try_send_request(request));
        let outcome = std::future::poll_fn(|cx| {
            let ended = self.driver.poll(cx);
            // The answer comes out of the driver, so nothing else needs to wake anybody for it.
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Poll::Ready(Some(answer));
            }
            if ended {
                return Poll::Ready(None);
            }
            let limit = limit(&self.meter, self.upload.as_ref(), limits);
            self.silence.poll(cx, &self.meter, limit).map(|()| None)
        })
        .await;
        let timeout = outcome.is_none() && !self.driver.has_ended();
        let (sent, answered) = (self.meter.written() != written, self.meter.read() != read);
        match outcome {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => {
                let unsent = error.take_message();
                let why = describe(&error.into_error());
                Err(Broken { why, timeout, sent, answered, unsent })
            }
            None => {
                let why = if timeout { "timed out" } else { "the connection was closed" }.to_owned();
                Err(Broken { why, timeout, sent, answered, unsent: None })
            }
        }
    }

    /// Moves bytes in both directions; true when the connection has ended.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> bool {
        self.driver.poll(cx)
    }

    /// Ready when nothing has moved for longer than the limit of what is waited for.
    pub(super) fn poll_silence(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<()> {
        let limit = limit(&self.meter, self.upload.as_ref(), limits);
        self.silence.poll(cx, &self.meter, limit)
    }

    /// The time until now was the client's, not the upstream's.
    pub(super) fn restart_silence(&mut self) {
        self.silence.restart();
    }

    /// Ends the exchange; true when the connection can serve another.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) -> bool {
        // Most exchanges end together with the last bytes of their body; others need one more look.
        if !self.is_ready() {
            self.drive(cx);
        }
        let finished = self.upload.take().is_none_or(|upload| upload.borrow().is_done());
        finished && self.is_ready()
    }

    /// Does something to the other end of this connection, such as to read a body, before driving it.
    pub(super) fn aside<T>(&self, step: impl FnOnce() -> T) -> T {
        self.driver.gate.aside(step)
    }

    /// Waits for the end of HTTP on this connection, after which an upgrade is handed over.
    pub(super) async fn finish(&mut self, limits: &Limits) {
        std::future::poll_fn(|cx| if self.drive(cx) { Poll::Ready(()) } else { self.poll_silence(cx, limits) }).await;
    }
}

impl Restful for Link {
    fn key(&self) -> &Key {
        &self.key
    }

    fn requests(&self) -> u64 {
        self.requests
    }

    fn is_ready(&mut self) -> bool {
        !self.driver.has_ended() && self.sender.is_ready()
    }

    fn rest(&mut self) {
        self.driver.gate.rest();
    }

    fn is_alive(&mut self) -> bool {
        !self.drive(&mut Context::from_waker(Waker::noop())) && self.is_ready()
    }
}

impl Driver {
    /// Moves bytes in both directions; true when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(running) = &mut self.running
            && self.gate.poll(cx, |cx| running.as_mut().poll(cx)).is_pending()
        {
            return false;
        }
        // Dropped at once, so that whoever waits for it learns of the end.
        self.running = None;
        true
    }

    fn has_ended(&self) -> bool {
        self.running.is_none()
    }
}

/// Kong: a blocked write has the write timeout, an answer that is due the read timeout. While the client owes a part of
/// its body the upstream owes nothing; the client has a timeout of its own.
fn limit(meter: &Meter, upload: Option<&Rc<RefCell<Streamed>>>, limits: &Limits) -> Option<Duration> {
    if meter.blocked() {
        return Some(limits.write);
    }
    upload.is_none_or(|upload| upload.borrow().is_done()).then_some(limits.read)
}

fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How long nothing has moved. One timer per connection, moved only when it must ring earlier or has rung too early.
struct Silence {
    /// Sum of the meter at the last movement.
    moved: u64,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    fn new() -> Self {
        Self { moved: 0, since: None, timer: None }
    }

    /// Counts from the next poll on.
    fn restart(&mut self) {
        self.since = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>, meter: &Meter, limit: Option<Duration>) -> Poll<()> {
        let moved = meter.read().wrapping_add(meter.written());
        let Some(limit) = limit else {
            self.since = None;
            return Poll::Pending;
        };
        let since = match self.since {
            Some(since) if self.moved == moved => since,
            _ => Instant::now(),
        };
        (self.moved, self.since) = (moved, Some(since));
        self.ring_at(cx, since + limit)
    }

    fn ring_at(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline || timer.is_elapsed() {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}
