//! One request from its head to the head of its answer: the order of steps is Kong's (`kong/proxy.md` §1.3).
//!
//! What each step decides is in a file of its own; here is only their order, and what one hands to the next. A step
//! that ends the exchange returns `Made`. Whoever made an answer, it passes `header_filter` and gets the same marks.

use std::rc::Rc;

use http::header::HeaderMap;
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::entity::path;
use crate::plugin::Step;
use crate::proxy::admission::{Host, admit};
use crate::proxy::answer_body::AnswerBody;
use crate::proxy::body::{ClientBody, Held, REPLAY_BYTES};
use crate::proxy::connection::{Connection, Waiting};
use crate::proxy::delivery;
use crate::proxy::failure::{Made, grpc_over_tls_wanted, http2_wanted, https_wanted};
use crate::proxy::forward::{self, Facts};
use crate::proxy::gained::Gained;
use crate::proxy::hop;
use crate::proxy::lean::ask;
use crate::proxy::stage::Stage;
use crate::proxy::turn::Turn;
use crate::proxy::upstream::{Failure, Origin, Outgoing, Reply};
use crate::proxy::upstream_path::{self, Target};
use crate::router::Query;
use crate::snapshot::plan::{Destination, Plan};
use crate::snapshot::{Found, Snapshot};

/// Answers one request.
pub async fn serve(connection: Rc<Connection>, request: Request<Incoming>) -> Response<AnswerBody> {
    let _waiting = Waiting::on(&connection);
    let (mut head, incoming) = request.into_parts();
    let switch = head.extensions.remove::<OnUpgrade>();
    let mut turn = Turn::begin(connection, &head);
    let worker = Rc::clone(&turn.connection.worker);
    let Some(world) = worker.snapshot() else {
        // Listeners open once a configuration is live, so this is only for the eyes of whoever breaks that.
        return delivery::made(turn, None, Made::server_error(StatusCode::SERVICE_UNAVAILABLE), |_, _, _| {});
    };
    let uri = head.uri.clone();
    let path = path::normalise(uri.path());
    let mut stage = Stage::new(&world, &worker.counters, turn.client_ip, turn.now_ms);
    let outcome = proceed(&mut turn, &world, &mut stage, &mut head, &path, incoming).await;
    let plan = stage.plan();
    let filter = |status: StatusCode, headers: &mut HeaderMap, gained: &mut Gained<'_>| {
        stage.filter((&mut head, &path), status, headers, gained);
    };
    match outcome.and_then(|reply| delivery::expected(reply, &turn, switch.is_some())) {
        Ok(reply) => delivery::reply(turn, plan, reply, switch, filter),
        Err(made) => delivery::made(turn, plan, made, filter),
    }
}

async fn proceed<'s>(
    turn: &mut Turn,
    world: &'s Snapshot,
    stage: &mut Stage<'s>,
    head: &mut Parts,
    path: &[u8],
    incoming: Incoming,
) -> Result<Reply, Made> {
    // From here on, whoever ends the exchange leaves word of a body that nobody reads.
    let limit = turn.connection.worker.options.client_max_body_size;
    let body = ClientBody::new(incoming, limit, Rc::clone(&turn.connection));
    if let Some(refusal) = turn.connection.refusal() {
        return Err(Made::from(refusal));
    }
    let host = admit(head)?;
    if body.is_too_large() {
        return Err(Made::server_error(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let found = route(&turn.connection, world, head, &host, path)?;
    let plan = enter(turn, stage, &found, head, &host)?;
    let mut held = Held::Unread(body).read(plan.chain.body_wanted()).await?;
    let accessed = stage.access(plan, head, path, held.whole().cloned());
    held.replace(accessed.body);
    go_on(accessed.step)?;
    let destination = destination(plan)?;
    if plan.request_buffering {
        held = held.read(REPLAY_BYTES).await?;
    }
    let way = Way { uri: &head.uri, path, found: &found, query: accessed.query };
    let mut gained = Gained::default();
    let target = depart(turn, plan, destination, &head.headers, &host, &way, &mut gained)?;
    let (body, content_length) = held.into_request(turn.wishes.has_body);
    let host = host.header().filter(|_| plan.preserve_host);
    let worker = &turn.connection.worker;
    let origin = worker.origins.of(destination);
    let outcome = if ask::fits(turn, &body) {
        ask::ask(turn, &origin, head, &target, host, gained, body).await
    } else {
        gained.settle(&mut head.headers);
        let outgoing = Outgoing {
            method: head.method.clone(),
            target: target.to_value().ok_or_else(no_target)?,
            headers: std::mem::take(&mut head.headers),
            host,
            body,
            content_length,
            extensions: std::mem::take(&mut head.extensions),
            upgrade: turn.wishes.websocket,
        };
        // Boxed: it needs much room, and a stream of HTTP/2 that does not come here should not hold it.
        Box::pin(worker.upstreams.send(&origin, outgoing)).await
    };
    outcome.map_err(|failure| {
        note_failure(turn, &origin, &failure);
        Made::from(failure)
    })
}

pub fn note_failure(turn: &Turn, origin: &Origin, failure: &Failure) {
    tracing::info!(?failure, request_id = turn.id.as_str(), host = &*origin.host, port = origin.port, "no answer");
}

/// Finds the route of a request that was admitted.
pub fn route<'s>(
    connection: &Connection,
    world: &'s Snapshot,
    head: &Parts,
    host: &Host,
    path: &[u8],
) -> Result<Found<'s>, Made> {
    let query = Query {
        method: head.method.as_str(),
        host: host.as_str(),
        path,
        headers: &head.headers,
        sni: connection.sni.as_deref(),
        port: connection.listener.port,
    };
    let found = world.find(&query);
    let found = found.ok_or_else(|| Made::error(StatusCode::NOT_FOUND, "no Route matched with those values"))?;
    if let Some(problem) = &found.plan.problem {
        tracing::error!(route = %found.plan.route_id, problem = &**problem, "a route that could not be built was asked for");
        return Err(Made::unexpected());
    }
    Ok(found)
}

/// Takes up the plan of the route: the last steps before its plugins.
pub fn enter<'s>(
    turn: &mut Turn,
    stage: &mut Stage<'s>,
    found: &Found<'s>,
    head: &mut Parts,
    host: &Host,
) -> Result<&'s Plan, Made> {
    let plan: &'s Plan = found.plan;
    stage.enter(plan);
    check_protocol(turn, plan, head, host)?;
    turn.wishes = hop::strip_request(&mut head.headers);
    Ok(plan)
}

/// Which way a request goes up.
pub struct Way<'a> {
    /// As the client sent it.
    pub uri: &'a Uri,
    /// Normalised.
    pub path: &'a [u8],
    pub found: &'a Found<'a>,
    /// A plugin's replacement of the query.
    pub query: Option<String>,
}

/// What the request gains for the upstream; the target to ask it for.
pub fn depart<'a>(
    turn: &'a Turn,
    plan: &Plan,
    destination: &'a Destination,
    headers: &HeaderMap,
    host: &'a Host,
    way: &'a Way<'a>,
    gained: &mut Gained<'a>,
) -> Result<Target<'a>, Made> {
    let request = upstream_path::Request {
        sent: way.uri.path_and_query(),
        path: way.path,
        matched_len: way.found.matched_len,
        query: way.query.as_deref(),
    };
    let target = Target::new(destination.path.as_deref(), plan.strip_path, request).ok_or_else(no_target)?;
    let prefix = upstream_path::stripped(plan.strip_path, way.path, way.found.matched_len);
    let connection = &turn.connection;
    let worker = &connection.worker;
    let facts = Facts {
        trusted: turn.trusted,
        peer: &connection.peer,
        peer_ip: connection.peer_ip,
        client_ip: turn.client_ip,
        tls: connection.tls(),
        port: &connection.listener.port_value,
        host: host.value(),
        path: way.uri.path(),
        prefix,
        via: worker.marks.via(turn.version),
        request_id: worker.options.request_id_upstream.then_some(&turn.id),
        wishes: turn.wishes,
    };
    forward::tell(gained, headers, &facts);
    Ok(target)
}

fn no_target() -> Made {
    Made::server_error(StatusCode::BAD_REQUEST)
}

/// Before any plugin: a route says by which protocols it may be reached.
fn check_protocol(turn: &Turn, plan: &Plan, head: &Parts, host: &Host) -> Result<(), Made> {
    let https = forward::is_https(&head.headers, turn.trusted, turn.connection.tls());
    if plan.protocols.https_only() && !https {
        let host = forward::host(&head.headers, turn.trusted, host.as_str());
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        return Err(https_wanted(plan.https_redirect_status_code, &format!("https://{host}{target}")));
    }
    if !plan.protocols.any_grpc() {
        return Ok(());
    }
    if !turn.asked.is_grpc() {
        return Err(Made::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Non-gRPC request matched gRPC route"));
    }
    if turn.version != Version::HTTP_2 {
        return Err(http2_wanted());
    }
    if plan.protocols.grpcs && !plan.protocols.grpc && !https {
        return Err(grpc_over_tls_wanted());
    }
    Ok(())
}

/// What `access` returned.
pub fn go_on(step: Step) -> Result<(), Made> {
    match step {
        Step::Continue => Ok(()),
        Step::Respond(answer) => Err(Made::from(answer)),
        Step::Fail(why) => {
            tracing::error!(why = &*why, "a plugin failed");
            Err(Made::unexpected())
        }
    }
}

/// Where the requests of a plan go.
pub fn destination(plan: &Plan) -> Result<&std::sync::Arc<Destination>, Made> {
    let destination = plan.service.as_ref();
    let destination = destination
        .ok_or_else(|| Made::error(StatusCode::SERVICE_UNAVAILABLE, "no Service found with those values"))?;
    // gRPC wants HTTP/2 to the upstream, which this proxy does not speak yet; over HTTP/1.1 it would only be garbled.
    if destination.grpc {
        return Err(Made::error(StatusCode::NOT_IMPLEMENTED, "gRPC services are not supported yet"));
    }
    Ok(destination)
}
