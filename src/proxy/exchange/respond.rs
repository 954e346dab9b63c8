//! From an outcome to the response that the client gets: plugins, marks, framing, body.

use http::header::{CONNECTION, HeaderValue};
use http::{StatusCode, Version};
use uuid::Uuid;

use crate::http1::added::{AddedHeaders, Value};
use crate::http1::framing::{Framing, is_bodiless};
use crate::http1::response::ResponseHead;
use crate::plugin::chain::BodyFilters;
use crate::proxy::exchange::client::{Client, Sent};
use crate::proxy::exchange::facts::ExchangeFacts;
use crate::proxy::exchange::local_response::{LocalBody, LocalResponse};
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::response::{self, Passage, Passed};
use crate::proxy::exchange::response_body::{ResponseBody, Source};
use crate::proxy::names::{REQUEST_ID, ROUTE_ID, ROUTE_NAME, SERVICE_ID, SERVICE_NAME};
use crate::proxy::upstream::failure::Failure;
use crate::proxy::upstream::tries::Response;
use crate::snapshot::plan::Plan;

/// Bytes that are read at once of a long body, at first and at most, and held in memory while a client of HTTP/1 is slow.
/// Rejected: 64 KiB. Each MiB costs a third more CPU.
const ROOM_BYTES: (usize, usize) = (128 * 1024, 256 * 1024);
/// The same for a stream of HTTP/2, of which a connection has many.
const STREAM_ROOM_BYTES: (usize, usize) = (16 * 1024, 16 * 1024);

/// A response whose head was handed to the client's connection.
pub(super) enum Begun {
    Body(ResponseBody),
    /// The upstream has switched protocols.
    Tunnel(ResponseBody),
}

/// Begins to send an upstream's response.
pub(super) fn begin_upstream<C: Client>(client: &mut C, record: &mut Record, response: Response) -> Begun {
    let Response { mut head, mut download, timing } = response;
    let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let framing = match Framing::of_response(&head, record.facts.head_only || switched) {
        Ok(framing) => framing,
        Err(why) => {
            tracing::info!(reason = why, request_id = record.facts.id.as_str(), "invalid response from the upstream");
            drop(download);
            let failure = Failure::BadAnswer { why: why.into(), timing };
            return begin_local(client, record, failure.into());
        }
    };
    record.timing = Some(timing);
    let version = std::mem::replace(&mut head.version, Version::HTTP_11);
    let mut added = AddedHeaders::default();
    response::strip(&mut head.headers, switched, record.facts.fields.trailers);
    let passage = response::disarm(&mut head.headers, record.facts.connection.worker.options.allow_fly_replay);
    let (plugins, seen) = record.split();
    let filters = plugins.filter_head(seen, &mut head, &mut added);
    response::name_charset(head.status, &mut head.headers);
    record.set_status(head.status);

    let (facts, worker) = (&record.facts, &record.facts.connection.worker);
    let passed = Passed { version, started: facts.started, timing: &timing, status: Some(head.status) };
    response::mark_proxied(&mut added, &head.headers, &worker.options.response_headers, &worker.marks, &passed);
    mark_all(facts, record.plugins.plan(), &mut added);
    if !switched {
        let room = if facts.version == Version::HTTP_2 { STREAM_ROOM_BYTES } else { ROOM_BYTES };
        download.begin(framing, room);
    }
    let whole = passage == Passage::Whole;
    let framing = if whole { sent_framing(framing, head.status, facts, &filters) } else { Framing::None };
    framing.settle(head.status, &mut head.headers);
    let closes = facts.is_last() && !switched;
    let mut body = if whole || switched {
        ResponseBody::new(Source::Upstream(download), filters)
    } else {
        drop(download);
        ResponseBody::empty()
    };
    let uploading = !body.has_whole_request();
    client.send_head(record, &mut head, Sent { added: &mut added, framing, closes, local: false, uploading });
    if switched {
        return Begun::Tunnel(body);
    }
    body.recycle(head);
    Begun::Body(body)
}

/// Begins to send a response of the gateway's own.
pub(super) fn begin_local<C: Client>(client: &mut C, record: &mut Record, local: LocalResponse) -> Begun {
    let mut head = Box::<ResponseHead>::default();
    let (timing, closes_connection) = (local.timing, local.closes());
    head.status = local.status;
    let (facts, options) = (&record.facts, &record.facts.connection.worker.options);
    let body =
        local.render(&record.head.headers, &options.error_default_type, facts.grpc, &facts.id, &mut head.headers);
    let mut added = AddedHeaders::default();
    let (plugins, seen) = record.split();
    let filters = plugins.filter_head(seen, &mut head, &mut added);
    record.set_status(head.status);
    record.timing = timing;

    let (facts, worker) = (&record.facts, &record.facts.connection.worker);
    let on = &worker.options.response_headers;
    match &timing {
        Some(timing) => {
            let passed = Passed { version: Version::HTTP_11, started: facts.started, timing, status: None };
            response::mark_proxied(&mut added, &head.headers, on, &worker.marks, &passed);
        }
        None => response::mark_local(&mut added, on, &worker.marks, facts.started.elapsed()),
    }
    mark_all(facts, record.plugins.plan(), &mut added);
    let (source, framing) = match body {
        LocalBody::Bytes(bytes) => {
            let framing = Framing::Length(bytes.len() as u64);
            (Source::Bytes(bytes), framing)
        }
        LocalBody::Stream(stream) => (Source::Stream(Some(stream), bytes::Bytes::new()), Framing::Chunked),
    };
    let framing = sent_framing(framing, head.status, facts, &filters);
    framing.settle(head.status, &mut head.headers);
    let closes =
        closes_connection || facts.is_last() || head.headers.get(CONNECTION).is_some_and(|value| value == "close");
    let body = match framing {
        Framing::None => ResponseBody::empty(),
        _ => ResponseBody::new(source, filters),
    };
    client.send_head(record, &mut head, Sent { added: &mut added, framing, closes, local: true, uploading: false });
    Begun::Body(body)
}

/// How a body that arrives framed so is framed for the client. A filter may change the length, and so may not be told before.
fn sent_framing(framing: Framing, status: StatusCode, facts: &ExchangeFacts, filters: &BodyFilters) -> Framing {
    match framing {
        _ if facts.head_only || is_bodiless(status) => Framing::None,
        Framing::Length(_) if filters.is_empty() => framing,
        Framing::None if filters.is_empty() => Framing::None,
        Framing::None | Framing::Length(_) | Framing::Chunked | Framing::UntilClose => Framing::Chunked,
    }
}

/// The headers that all responses get.
fn mark_all<'a>(facts: &'a ExchangeFacts, plan: Option<&'a Plan>, added: &mut AddedHeaders<'a>) {
    if facts.connection.worker.options.response_headers.request_id {
        added.set(&REQUEST_ID, facts.id.value());
    }
    let Some(plan) = plan.filter(|_| facts.debug) else { return };
    let id = |id: Uuid| HeaderValue::try_from(id.to_string()).ok().map(Value::Made);
    let name = |name: &'a Option<Box<str>>| name.as_ref().and_then(|name| Value::text(name.as_bytes()));
    let service = plan.service.as_ref();
    let stated = [
        (&ROUTE_ID, id(plan.route_id)),
        (&ROUTE_NAME, name(&plan.route_name)),
        (&SERVICE_ID, service.and_then(|service| id(service.id))),
        (&SERVICE_NAME, service.and_then(|service| name(&service.name))),
    ];
    for (name, value) in stated {
        if let Some(value) = value {
            added.set(name, value);
        }
    }
}
