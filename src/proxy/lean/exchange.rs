//! One exchange on the lean path: the steps of `pipeline`, in the same order, with bytes in place of hyper's bodies.

use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::header::{CONNECTION, DATE, HeaderMap};
use http::request::Parts;
use http::{StatusCode, response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::entity::path;
use crate::listen::handover::Handover;
use crate::proxy::admission::{Host, admit};
use crate::proxy::delivery;
use crate::proxy::failure::Made;
use crate::proxy::gained::Gained;
use crate::proxy::lean::client::{Client, Request};
use crate::proxy::lean::fit::{self, Fit};
use crate::proxy::lean::frame::Framing;
use crate::proxy::lean::head::{self, AnswerHead, Headers, RequestHead, Spelling, write_line};
use crate::proxy::lean::relay::{self, Fault};
use crate::proxy::pipeline::{self, Way};
use crate::proxy::reply::Passage;
use crate::proxy::stage::Stage;
use crate::proxy::turn::Turn;
use crate::proxy::upstream::{Failure, Limits, Line, Question, Timing};
use crate::snapshot::Found;

/// What becomes of the connection.
pub enum After {
    Next,
    Close,
    /// It is dropped as it is.
    Abandon,
}

/// A request that was admitted.
struct Asked<'a> {
    head: &'a mut Parts,
    spelling: &'a Spelling,
    host: &'a Host,
    path: &'a [u8],
    /// Bytes of the body that have not been read; `None`: no body was announced.
    left: &'a mut Option<usize>,
}

/// An answer whose head has come.
struct Answered {
    head: Box<AnswerHead>,
    framing: Framing,
    line: Line,
    timing: Timing,
    limits: Limits,
}

/// Why there is no answer of an upstream's.
enum Unanswered {
    Made(Made),
    /// The client has left.
    Gone,
}

impl From<Made> for Unanswered {
    fn from(made: Made) -> Self {
        Self::Made(made)
    }
}

/// Serves one request, unless it is one for the general path; then nothing has happened.
pub async fn serve<S>(client: &mut Client<S>, request: Request) -> Result<After, Handover>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connection = Rc::clone(&client.connection);
    let worker = &connection.worker;
    let Request { head: mut held, length } = request;
    let RequestHead { parts: head, spelling, .. } = &mut *held;
    let mut fit = fit::fit(head, worker.options.client_max_body_size)?;
    let host = admit(head).map_err(|_| Handover::Head)?;
    let world = worker.snapshot().ok_or(Handover::Head)?;
    let uri = head.uri.clone();
    let path = path::normalise(uri.path());
    let found = pipeline::route(&connection, &world, head, &host, &path);
    if let Ok(found) = &found {
        fit::suits(found.plan, &fit)?;
    }
    client.input.consume(length);
    let mut turn = Turn::begin(Rc::clone(&connection), head);
    let mut stage = Stage::new(&world, &worker.counters, turn.client_ip, turn.now_ms);
    let asked = Asked { head: &mut *head, spelling, host: &host, path: &path, left: &mut fit.length };
    let outcome = ask(client, &mut turn, &mut stage, found, asked).await;
    let plan = stage.plan();
    let filter = |status: StatusCode, headers: &mut HeaderMap, gained: &mut Gained<'_>| {
        stage.filter((head, &path), status, headers, gained);
    };
    let after = match outcome {
        Err(Unanswered::Gone) => After::Abandon,
        Err(Unanswered::Made(made)) => {
            turn.record.set_status(made.status);
            let (mut made, body) = delivery::make(&turn, made, filter);
            let mut gained = Gained::default();
            delivery::dress(&turn, plan, &mut gained);
            let sent = if is_bodiless(&turn, made.status) { &[][..] } else { &body };
            let after = write_made(client, &turn, &mut made, &gained, sent, &mut fit);
            drop(gained);
            turn.record.add_bytes(sent.len());
            if client.send().await.is_ok() { after } else { After::Abandon }
        }
        Ok(mut answered) => {
            turn.record.set_status(answered.head.parts.status);
            let mut gained = Gained::default();
            let passage = delivery::pass(&turn, &mut answered.head.parts, &answered.timing, filter, &mut gained);
            delivery::dress(&turn, plan, &mut gained);
            let AnswerHead { parts, spelling, reason, .. } = &mut *answered.head;
            let framing = if passage == Passage::HeadOnly { &Framing::None } else { &answered.framing };
            let written = Written { reason, spelling, gained: &gained, framing };
            let after = write_head(client, &turn, parts, written, fit.closes);
            drop(gained);
            send_answer(client, &mut turn, answered, passage, after).await
        }
    };
    held.clear();
    client.spare = Some(held);
    client.rest();
    Ok(after)
}

async fn ask<'s, S>(
    client: &mut Client<S>,
    turn: &mut Turn,
    stage: &mut Stage<'s>,
    found: Result<Found<'s>, Made>,
    asked: Asked<'_>,
) -> Result<Answered, Unanswered>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Asked { head, spelling, host, path, left } = asked;
    let found = found?;
    let plan = pipeline::enter(turn, stage, &found, head, host)?;
    let accessed = stage.access(plan, head, path, None);
    pipeline::go_on(accessed.step)?;
    let destination = pipeline::destination(plan)?;
    let body = client.take_body(left.unwrap_or(0)).await.map_err(Made::from)?;
    let announced = left.take();
    let way = Way { uri: &head.uri, path, found: &found, query: accessed.query };
    let turn = &*turn;
    let mut gained = Gained::default();
    let target = pipeline::depart(turn, plan, destination, &head.headers, host, &way, &mut gained)?;

    let worker = &turn.connection.worker;
    let origin = worker.origins.of(destination);
    let failed = |failure: Failure| {
        pipeline::note_failure(turn, &origin, &failure);
        Made::from(failure)
    };
    let place = worker.upstreams.place(&origin).map_err(failed)?;
    let own_host = host.header().filter(|_| plan.preserve_host);
    let mut text = std::mem::take(&mut client.output);
    let said = own_host.as_ref().unwrap_or(&place.host);
    let headers = Headers { map: &head.headers, spelling, gained: &gained };
    head::write_request(&mut text, &head.method, &target, said, headers);
    drop(gained);
    if let Some(length) = announced {
        let _ = write!(text, "content-length: {length}\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let body_bytes = &body.filled()[..announced.unwrap_or(0)];
    let question = Question { method: &head.method, head: &text, body: body_bytes, host: own_host.as_ref() };
    let mut deadline = std::mem::take(&mut client.deadline);
    let outcome = {
        let mut asking = pin!(worker.upstreams.ask(&origin, &place, &question, &mut deadline));
        poll_fn(|cx| match asking.as_mut().poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => client.poll_gone(cx).map(|()| None),
        })
        .await
    };
    text.clear();
    (client.output, client.deadline) = (text, deadline);
    client.recycle(body);
    let (head, line, timing) = outcome.ok_or(Unanswered::Gone)?.map_err(failed)?;
    let framing = Framing::of(&head.parts, turn.head_only);
    let framing = framing.map_err(|why| failed(Failure::BadAnswer { why: why.to_owned(), timing }))?;
    Ok(Answered { head, framing, line, timing, limits: place.limits })
}

/// Sends an upstream's answer, whose head has been written.
async fn send_answer<S>(
    client: &mut Client<S>,
    turn: &mut Turn,
    answered: Answered,
    passage: Passage,
    after: After,
) -> After
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Answered { head, framing, mut line, limits, .. } = answered;
    if passage == Passage::HeadOnly {
        drop(line);
        return if client.send().await.is_ok() { after } else { After::Abandon };
    }
    line.recycle(head);
    let worker = Rc::clone(&turn.connection.worker);
    match relay::relay(client, line, framing, limits, &worker.upstreams, &mut turn.record).await {
        Ok(()) => after,
        Err(Fault::Client) => After::Abandon,
        Err(Fault::Upstream(fault)) => {
            tracing::info!(%fault, "an answer broke off");
            After::Abandon
        }
    }
}

/// Writes an answer of the gateway's own with what is sent of its body, and passes over one that nobody has read.
fn write_made<S>(
    client: &mut Client<S>,
    turn: &Turn,
    made: &mut response::Parts,
    gained: &Gained<'_>,
    body: &[u8],
    fit: &mut Fit,
) -> After
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let left = fit.length.take().unwrap_or(0);
    let is_unread = left > client.input.len();
    if is_unread {
        turn.connection.expect_leftovers();
    } else {
        client.input.consume(left);
    }
    let bodiless = is_bodiless(turn, made.status);
    let framing = if bodiless { Framing::None } else { Framing::Length(body.len() as u64) };
    let written = Written { reason: b"", spelling: &Spelling::default(), gained, framing: &framing };
    let after = write_head(client, turn, made, written, fit.closes || is_unread);
    client.output.extend_from_slice(body);
    after
}

/// Whether an answer has no body, whatever its head says.
fn is_bodiless(turn: &Turn, status: StatusCode) -> bool {
    turn.head_only || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What `write_head` writes beside the head itself.
struct Written<'a, 'v> {
    reason: &'a [u8],
    spelling: &'a Spelling,
    gained: &'a Gained<'v>,
    framing: &'a Framing,
}

/// Writes the head of an answer to the client's output. `closes`: nothing follows it.
fn write_head<S>(
    client: &mut Client<S>,
    turn: &Turn,
    head: &mut response::Parts,
    written: Written<'_, '_>,
    closes: bool,
) -> After {
    let worker = &turn.connection.worker;
    let is_said = head.headers.get(CONNECTION).is_some_and(|said| said == "close");
    let closes = closes || is_said || delivery::is_last(turn) || worker.stop.is_asked();
    let framing = written.framing;
    framing.settle(head);
    let out = &mut client.output;
    let headers = Headers { map: &head.headers, spelling: written.spelling, gained: written.gained };
    head::write_answer(out, head.status, written.reason, headers);
    if matches!(framing, Framing::Chunked(_) | Framing::UntilClose) {
        write_line(out, b"Transfer-Encoding", b"chunked");
    }
    if closes && !is_said {
        write_line(out, b"Connection", b"close");
    }
    if !head.headers.contains_key(DATE) {
        worker.calendar.write_date(out, turn.now_ms / 1_000);
    }
    out.extend_from_slice(b"\r\n");
    if closes { After::Close } else { After::Next }
}
