//! From an outcome to the response that goes to the client: headers, marks, body, and the end of the exchange.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use uuid::Uuid;

use crate::proxy::answer_body::{AnswerBody, Source};
use crate::proxy::failure::Made;
use crate::proxy::gained::{Gained, Value};
use crate::proxy::hop;
use crate::proxy::names::{REQUEST_ID, ROUTE_ID, ROUTE_NAME, SERVICE_ID, SERVICE_NAME};
use crate::proxy::reply::{self, Passage, Passed};
use crate::proxy::turn::Turn;
use crate::proxy::upgrade;
use crate::proxy::upstream::{Reply, Timing};
use crate::snapshot::plan::Plan;

/// Silence that ends a tunnel of a service that says nothing about it.
const TUNNEL_IDLE: Duration = Duration::from_secs(60);

/// Refuses a switch of protocols that the client did not ask for.
pub fn expected(reply: Reply, turn: &Turn, can_switch: bool) -> Result<Reply, Made> {
    let switched = reply.response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched && !(turn.wishes.websocket && can_switch) {
        return Err(Made { timing: Some(reply.timing), ..Made::server_error(StatusCode::BAD_GATEWAY) });
    }
    Ok(reply)
}

/// Sends an upstream's answer.
pub fn reply(
    turn: Turn,
    plan: Option<&Plan>,
    reply: Reply,
    switch: Option<OnUpgrade>,
    filter: impl FnOnce(StatusCode, &mut HeaderMap, &mut Gained<'_>),
) -> Response<AnswerBody> {
    let Reply { response, timing } = reply;
    let (mut head, body) = response.into_parts();
    let mut gained = Gained::default();
    let passage = pass(&turn, &mut head, &timing, filter, &mut gained);
    gained.settle(&mut head.headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return tunnel(turn, plan, head, switch);
    }
    finish(turn, plan, head, if passage == Passage::Whole { Source::Upstream(body) } else { Source::Empty })
}

/// Makes an upstream's head the client's, but for what it gains.
pub fn pass<'a>(
    turn: &'a Turn,
    head: &mut Parts,
    timing: &Timing,
    filter: impl FnOnce(StatusCode, &mut HeaderMap, &mut Gained<'_>),
    gained: &mut Gained<'a>,
) -> Passage {
    let worker = &turn.connection.worker;
    let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let version = std::mem::replace(&mut head.version, Version::HTTP_11);
    hop::strip_response(&mut head.headers, switched, turn.wishes.trailers);
    let passage = reply::disarm(&mut head.headers, worker.options.allow_fly_replay);
    filter(head.status, &mut head.headers, gained);
    reply::name_charset(head.status, &mut head.headers);
    let passed = Passed { version, started: turn.started, timing, status: Some(head.status) };
    reply::mark_proxied(gained, &head.headers, &worker.options.response_headers, &worker.marks, &passed);
    passage
}

/// Sends an answer of the gateway's own.
pub fn made(
    turn: Turn,
    plan: Option<&Plan>,
    made: Made,
    filter: impl FnOnce(StatusCode, &mut HeaderMap, &mut Gained<'_>),
) -> Response<AnswerBody> {
    let (head, body) = make(&turn, made, filter);
    let source = if turn.head_only { Source::Empty } else { Source::Whole(Some(body)) };
    finish(turn, plan, head, source)
}

/// The head, but for what all answers wear, and the body of an answer of the gateway's own.
pub fn make(
    turn: &Turn,
    made: Made,
    filter: impl FnOnce(StatusCode, &mut HeaderMap, &mut Gained<'_>),
) -> (Parts, Bytes) {
    let worker = &turn.connection.worker;
    let (status, timing, closes) = (made.status, made.timing, made.closes());
    let default_type = &worker.options.error_default_type;
    let (mut headers, body) = made.render(&turn.asked, default_type, turn.is_grpc(), &turn.id);
    let (on, mut gained) = (&worker.options.response_headers, Gained::default());
    filter(status, &mut headers, &mut gained);
    match &timing {
        Some(timing) => {
            let passed = Passed { version: Version::HTTP_11, started: turn.started, timing, status: None };
            reply::mark_proxied(&mut gained, &headers, on, &worker.marks, &passed);
        }
        None => reply::mark_made(&mut gained, on, &worker.marks, turn.started.elapsed()),
    }
    gained.settle(&mut headers);
    if closes && turn.version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let mut head = Response::new(()).into_parts().0;
    (head.status, head.headers) = (status, headers);
    (head, body)
}

fn finish(mut turn: Turn, plan: Option<&Plan>, mut head: Parts, source: Source) -> Response<AnswerBody> {
    complete(&mut turn, plan, &mut head);
    Response::from_parts(head, AnswerBody::new(source, Some(turn.record)))
}

/// The last touch: what all answers wear, and what is noted of them.
fn complete(turn: &mut Turn, plan: Option<&Plan>, head: &mut Parts) {
    let mut gained = Gained::default();
    dress(turn, plan, &mut gained);
    gained.settle(&mut head.headers);
    if turn.version >= Version::HTTP_2 {
        head.headers.remove(CONNECTION);
    } else if is_last(turn) {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    turn.record.set_status(head.status);
}

/// The exchange goes on in a task of its own, and its record with it.
fn tunnel(mut turn: Turn, plan: Option<&Plan>, mut head: Parts, switch: Option<OnUpgrade>) -> Response<AnswerBody> {
    let mut gained = Gained::default();
    dress(&turn, plan, &mut gained);
    gained.settle(&mut head.headers);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.remove(CONTENT_LENGTH);
    head.headers.remove(TRANSFER_ENCODING);
    turn.record.set_status(head.status);
    if let Some((client, upstream)) = switch.zip(head.extensions.remove::<OnUpgrade>()) {
        let idle = plan.and_then(|plan| plan.service.as_ref());
        let idle = idle.map_or(TUNNEL_IDLE, |service| Duration::from_millis(service.read_timeout_ms));
        turn.connection.leave_to_tunnel();
        turn.connection.worker.tasks.spawn_local(upgrade::tunnel(client, upstream, idle, turn.record));
    }
    Response::from_parts(head, AnswerBody::new(Source::Empty, None))
}

/// What every answer wears.
pub fn dress<'a>(turn: &'a Turn, plan: Option<&'a Plan>, gained: &mut Gained<'a>) {
    if turn.connection.worker.options.response_headers.request_id {
        gained.set(&REQUEST_ID, turn.id.value());
    }
    let Some(plan) = plan.filter(|_| turn.debug) else { return };
    let id = |id: Uuid| HeaderValue::try_from(id.to_string()).ok().map(Value::Made);
    let name = |name: &'a Option<Box<str>>| name.as_ref().and_then(|name| Value::text(name.as_bytes()));
    let service = plan.service.as_ref();
    let told = [
        (&ROUTE_ID, id(plan.route_id)),
        (&ROUTE_NAME, name(&plan.route_name)),
        (&SERVICE_ID, service.and_then(|service| id(service.id))),
        (&SERVICE_NAME, service.and_then(|service| name(&service.name))),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            gained.set(name, value);
        }
    }
}

/// Whether the connection ends with this answer: it has served its share, or the client is of HTTP/1.0 and did not ask
/// to keep it.
pub fn is_last(turn: &Turn) -> bool {
    let old = turn.version < Version::HTTP_11 && !turn.wishes.keep_alive;
    old || turn.connection.is_spent()
}
