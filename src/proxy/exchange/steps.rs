//! The steps of an exchange up to the head of the upstream's response.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderValue, StatusCode, Version};

use crate::http1::added::AddedHeaders;
use crate::http1::body::Slices;
use crate::http1::fields::HopByHop;
use crate::http1::framing::Framing;
use crate::http1::write::{RequestHeaders, write_line, write_request};
use crate::plugin::{Resume, Step};
use crate::proxy::exchange::admission::{Host, Refusal, admit};
use crate::proxy::exchange::client::Client;
use crate::proxy::exchange::error_body;
use crate::proxy::exchange::forwarded::{self, ForwardedFacts, add_forwarded};
use crate::proxy::exchange::held::{HELD_BYTES, HeldBody};
use crate::proxy::exchange::local_response::{LocalResponse, grpc_over_tls_wanted, http2_wanted, https_wanted};
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::upstream_path::{self, RequestPath, UpstreamPath};
use crate::proxy::upstream::body_source::ClientFault;
use crate::proxy::upstream::failure::Failure;
use crate::proxy::upstream::tries::{self, RequestBody, Response, UpstreamRequest};
use crate::router::Query;
use crate::snapshot::plan::Plan;

/// Why there is no response from an upstream.
pub(super) enum Ended {
    Local(LocalResponse),
    /// The client has left.
    Gone,
}

impl From<LocalResponse> for Ended {
    fn from(local: LocalResponse) -> Self {
        Self::Local(local)
    }
}

impl From<Refusal> for Ended {
    fn from(refusal: Refusal) -> Self {
        Self::Local(refusal.into())
    }
}

impl From<ClientFault> for Ended {
    fn from(fault: ClientFault) -> Self {
        match fault {
            ClientFault::Gone => Self::Gone,
            fault => Self::Local(fault.into()),
        }
    }
}

/// Runs the steps in order.
pub(super) async fn run<C: Client>(client: &mut C, record: &mut Record) -> Result<Response, Ended> {
    let host = admit(&record.head, record.facts.fields.hosts)?;
    check_length(record)?;
    if record.plugins.snapshot().unmatched.wants().rewrite {
        rewrite(client, record).await?;
    }
    let matched_len = route(record, &host)?;
    check_protocol(record, &host)?;
    read_wanted_body(client, record).await?;
    access(client, record).await?;
    let body = hold_body(client, record).await?;
    forward(client, record, &host, matched_len, body).await
}

/// Refuses a body whose length is over `client_max_body_size`. Chunks are counted as they arrive.
fn check_length(record: &Record) -> Result<(), Ended> {
    let limit = record.facts.connection.worker.options.client_max_body_size;
    let length = record.facts.fields.content_length.unwrap_or(0);
    if limit > 0 && length > limit {
        return Err(LocalResponse::server_error(StatusCode::PAYLOAD_TOO_LARGE).into());
    }
    Ok(())
}

/// Finds the route; the bytes of the path that its path matched.
fn route(record: &mut Record, host: &Host) -> Result<usize, Ended> {
    let connection = &record.facts.connection;
    let query = Query {
        method: record.head.method.as_str(),
        host: host.as_str(),
        path: &record.path,
        headers: &record.head.headers,
        sni: connection.sni.as_deref(),
        port: connection.listener.port,
    };
    let snapshot = record.plugins.snapshot().clone();
    let found = snapshot.find(&query);
    let found =
        found.ok_or_else(|| LocalResponse::error(StatusCode::NOT_FOUND, "no Route matched with those values"))?;
    if let Some(problem) = &found.plan.problem {
        tracing::error!(route = %found.plan.route_id, problem = &**problem, "the requested route could not be built");
        return Err(LocalResponse::unexpected().into());
    }
    record.plugins.enter(&found);
    Ok(found.matched_len)
}

fn plan(record: &Record) -> Result<&Plan, Ended> {
    record.plugins.plan().ok_or_else(|| LocalResponse::unexpected().into())
}

/// Before any plugin: a route says by which protocols it may be reached.
fn check_protocol(record: &Record, host: &Host) -> Result<(), Ended> {
    let (plan, facts, head) = (plan(record)?, &record.facts, &record.head);
    let https = forwarded::is_https(&head.headers, facts.trusted, facts.connection.tls());
    if plan.protocols.https_only() && !https {
        let host = forwarded::host(&head.headers, facts.trusted, host.as_str());
        let location = [b"https://", host.as_bytes(), head.target.path_and_query()].concat();
        return Err(https_wanted(plan.https_redirect_status_code, &location).into());
    }
    if !plan.protocols.any_grpc() {
        return Ok(());
    }
    if !error_body::is_grpc(&head.headers) {
        let message = "Non-gRPC request matched gRPC route";
        return Err(LocalResponse::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message).into());
    }
    if facts.version != Version::HTTP_2 {
        return Err(http2_wanted().into());
    }
    if plan.protocols.grpcs && !plan.protocols.grpc && !https {
        return Err(grpc_over_tls_wanted().into());
    }
    Ok(())
}

async fn rewrite<C: Client>(client: &mut C, record: &mut Record) -> Result<(), Ended> {
    let (mut next, mut resume) = (0, None);
    loop {
        let (plugins, seen) = record.split();
        match plugins.rewrite(seen, &mut next, resume) {
            Step::Wait(wait) => resume = Some(wait_for(client, wait).await?),
            step => return go_on(step),
        }
    }
}

/// Reads the body that a plugin wants to see, if it is not longer than that.
async fn read_wanted_body<C: Client>(client: &mut C, record: &mut Record) -> Result<(), Ended> {
    let wanted = plan(record)?.chain.wants().request_body;
    if wanted > 0 && client.read_ahead(wanted).await? {
        let mut slices = Slices::new();
        client.slices(&mut slices);
        record.plugins.show_body(Bytes::from(slices.concat()));
    }
    Ok(())
}

async fn access<C: Client>(client: &mut C, record: &mut Record) -> Result<(), Ended> {
    let mut resume = None;
    loop {
        let (plugins, seen) = record.split();
        match plugins.access(seen, resume) {
            Step::Wait(wait) => resume = Some(wait_for(client, wait).await?),
            step => return go_on(step),
        }
    }
}

/// Waits for a plugin, or until the client leaves.
async fn wait_for<C: Client>(client: &mut C, mut wait: LocalBoxFuture<'static, Resume>) -> Result<Resume, Ended> {
    let waited = std::future::poll_fn(|cx| match wait.as_mut().poll(cx) {
        std::task::Poll::Ready(resume) => std::task::Poll::Ready(Ok(resume)),
        std::task::Poll::Pending => client.poll_gone(cx).map(|()| Err(Ended::Gone)),
    });
    waited.await
}

/// What a phase returned.
fn go_on(step: Step) -> Result<(), Ended> {
    match step {
        Step::Continue => Ok(()),
        Step::Respond(answer) => Err(LocalResponse::from(answer).into()),
        Step::Fail(why) => {
            tracing::error!(reason = &*why, "a plugin failed");
            Err(LocalResponse::unexpected().into())
        }
        // The callers wait themselves.
        Step::Wait(_) => Err(LocalResponse::unexpected().into()),
    }
}

/// Reads a small body whole, so that it can be sent again. `None`: it is streamed.
async fn hold_body<C: Client>(client: &mut C, record: &mut Record) -> Result<Option<HeldBody>, Ended> {
    if client.framing() == Framing::None {
        return Ok(Some(HeldBody::Empty));
    }
    if let Some(body) = record.plugins.take_body() {
        // The plugin has seen all of the body, which therefore is whole.
        drop(client.take_body());
        return Ok(Some(HeldBody::Bytes(body)));
    }
    let at_most = if plan(record)?.request_buffering { HELD_BYTES } else { 0 };
    let is_whole = client.read_ahead(at_most).await?;
    Ok(is_whole.then(|| client.take_body()))
}

/// Sends the request to the upstream and waits for the head of the response.
#[expect(clippy::await_holding_refcell_ref, reason = "no phase runs, and so nothing changes it, while a try does")]
async fn forward<C: Client>(
    client: &mut C,
    record: &Record,
    host: &Host,
    matched_len: usize,
    held: Option<HeldBody>,
) -> Result<Response, Ended> {
    let (plan, facts, head) = (plan(record)?, &record.facts, &record.head);
    let no_service = || LocalResponse::error(StatusCode::SERVICE_UNAVAILABLE, "no Service found with those values");
    let destination = plan.service.as_ref().ok_or_else(no_service)?;
    if destination.grpc {
        // gRPC needs HTTP/2 to the upstream; over HTTP/1.1 it would be garbled.
        return Err(LocalResponse::error(StatusCode::NOT_IMPLEMENTED, "gRPC services are not supported yet").into());
    }
    let upward = record.plugins.upward();
    let request_path = RequestPath {
        path: &record.path,
        matched_len,
        replaced: upward.path.as_deref(),
        query: upward.query.as_deref().map(str::as_bytes).or(head.target.query()),
        is_query_replaced: upward.query.is_some(),
    };
    let path = UpstreamPath::new(destination.path.as_deref(), plan.strip_path, request_path)
        .ok_or_else(|| LocalResponse::server_error(StatusCode::BAD_REQUEST))?;

    let connection = &facts.connection;
    let worker = &connection.worker;
    let hop_by_hop = HopByHop::of(&head.headers, &facts.fields);
    let mut added = AddedHeaders::default();
    add_forwarded(
        &mut added,
        &head.headers,
        &ForwardedFacts {
            trusted: facts.trusted,
            peer: &connection.peer,
            peer_ip: connection.peer_ip,
            client_ip: facts.client_ip,
            tls: connection.tls(),
            port: &connection.listener.port_value,
            host: host.value(),
            path: head.target.path(),
            prefix: upstream_path::stripped(plan.strip_path, &record.path, matched_len),
            via: worker.marks.via(facts.version),
            request_id: worker.options.request_id_upstream.then_some(&facts.id),
            fields: facts.fields,
            hop_by_hop: &hop_by_hop,
        },
    );
    let method = upward.method.as_ref().unwrap_or(&head.method);
    let framing = client.framing();
    let mut pieces = Slices::new();
    let (body, length) = match &held {
        Some(held) => {
            held.slices(&mut pieces);
            let length = pieces.iter().map(|piece| piece.len() as u64).sum();
            let is_announced = facts.fields.announces_body() || length > 0;
            (RequestBody::Held(&pieces), is_announced.then_some(length))
        }
        None => match framing {
            Framing::Length(length) => (RequestBody::Length, Some(length)),
            _ => (RequestBody::Chunked, None),
        },
    };
    let write_head = |out: &mut Vec<u8>, host: &HeaderValue| {
        let headers = RequestHeaders {
            map: &head.headers,
            spelling: &head.spelling,
            hop_by_hop: &hop_by_hop,
            edits: &upward.headers,
            added: &added,
        };
        write_request(out, method, |out| path.write(out), host, headers);
        match (length, body) {
            (Some(length), _) => write_length(out, length),
            (None, RequestBody::Chunked) => write_line(out, b"transfer-encoding", b"chunked"),
            (None, RequestBody::Held(_) | RequestBody::Length) => {}
        }
        out.extend_from_slice(b"\r\n");
    };
    let request = UpstreamRequest {
        method,
        write_head,
        host: upward.host.as_ref().or(if plan.preserve_host { host.header() } else { None }),
        body,
        may_switch: facts.fields.websocket && facts.version == Version::HTTP_11,
    };
    let failed = |failure: Failure| {
        if let Failure::Client(fault) = failure {
            return Ended::from(fault);
        }
        let service = destination.id;
        tracing::info!(?failure, request_id = facts.id.as_str(), %service, "no response from the upstream");
        Ended::Local(failure.into())
    };
    let origin = worker.origins.of(destination).map_err(failed)?;
    let (mut text, mut deadline) = client.lend();
    let outcome = tries::send(&worker.upstreams, &origin, &request, client, (&mut text, &mut deadline)).await;
    text.clear();
    client.give_back((text, deadline));
    drop(pieces);
    if let Some(held) = held {
        client.recycle(held);
    }
    outcome.map_err(failed)
}

fn write_length(out: &mut Vec<u8>, length: u64) {
    let (mut digits, mut start, mut left) = ([b'0'; 20], 20, length);
    while left > 0 || start == 20 {
        start -= 1;
        digits[start] += (left % 10) as u8;
        left /= 10;
    }
    write_line(out, b"content-length", &digits[start..]);
}
