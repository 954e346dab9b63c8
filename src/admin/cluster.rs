//! What the cluster can be asked: who is in it and what each member runs, in our own shape and in Kong's.
//!
//! Everything is shown from one `View`, so an answer never contradicts itself.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::admin::entities::Asked;
use crate::admin::handles::Handles;
use crate::admin::info::uuid_of_node;
use crate::admin::limits::Mode;
use crate::admin::query::{encode_offset, link};
use crate::admin::reply::{self, Reply};
use crate::cluster::core::view::{Member, State, View};
use crate::entity::catalog::{Conflict, Dangling};
use crate::pace;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");

/// `GET /cluster`
pub(crate) fn show(handles: &Handles) -> Reply {
    let view = handles.cluster.view();
    let nodes: Vec<Value> = view.nodes.iter().map(|member| node(member, member.node_id == view.me)).collect();
    reply::ok(&json!({
        "cluster_id": view.cluster_id,
        "self": view.me,
        "converged": view.converged,
        "revision": view.vector.revision(),
        "nodes": nodes,
        "limits": Mode::of(&view, &handles.cluster.figures().limits).shown(),
    }))
}

/// `GET /cluster/conflicts`: what nodes wrote apart from each other and cannot all hold. Only where every node takes
/// writes (`embedded`); one database refuses the second writer. Reads every document, on a thread that may.
pub(crate) async fn conflicts(handles: &Handles) -> Reply {
    let ledger = handles.ledger.clone();
    let look = move || ledger.read(|catalog| (catalog.conflicts(), catalog.dangling()));
    let (conflicts, dangling) = match pace::aside(look).await {
        Ok(found) => found,
        Err(panic) => return reply::unexpected(&panic),
    };
    let conflict = |conflict: &Conflict| {
        json!({
            "kind": conflict.kind.name,
            "key": conflict.key,
            "winner": conflict.winner,
            "losers": conflict.losers,
        })
    };
    let gone = |dangling: &Dangling| {
        json!({
            "kind": dangling.kind.name,
            "id": dangling.id,
            "field": dangling.field,
            "to": { "kind": dangling.to_kind, "id": dangling.to_id },
        })
    };
    reply::ok(&json!({
        "conflicts": conflicts.iter().map(conflict).collect::<Vec<_>>(),
        "dangling": dangling.iter().map(gone).collect::<Vec<_>>(),
    }))
}

/// `POST /cluster/leave`: the node drains, says goodbye to its peers and ends. Asking again changes nothing.
pub(crate) fn leave(handles: &Handles) -> Reply {
    tracing::info!("the Admin API was told that this node leaves the cluster");
    handles.leave.cancel();
    reply::message(StatusCode::ACCEPTED, "this node drains, leaves the cluster and stops")
}

/// `GET /clustering/data-planes`: a page of Kong's list, by id. Kong: only a control plane answers; here every node of
/// a mesh serves traffic and knows all others, so each of them does, and lists itself too.
pub(crate) fn data_planes(handles: &Handles, asked: &Asked<'_>, now_s: i64) -> Reply {
    let (size, after) = match asked.query.size().and_then(|size| Ok((size, asked.query.offset::<[Uuid; 1]>()?))) {
        Ok(wanted) => wanted,
        Err(rejection) => return reply::rejected(&rejection),
    };
    let view = handles.cluster.view();
    if !view.has_mesh() {
        return no_control_plane();
    }
    let planes: BTreeMap<Uuid, &Member> = planes(&view).map(|member| (uuid_of_node(&member.node_id), member)).collect();
    let mut rest = planes.into_iter().filter(|(id, _)| after.is_none_or(|[after]| *id > after));
    let page: Vec<(Uuid, &Member)> = rest.by_ref().take(size).collect();
    let last = page.last().map(|(id, _)| *id).filter(|_| rest.next().is_some());
    let next = last.map(|id| {
        let offset = encode_offset(&[id]);
        let next = link(asked.path, &[("offset", Some(&offset)), ("size", asked.query.first("size"))]);
        (offset, next)
    });
    reply::page(page.into_iter().map(|(id, member)| data_plane(id, member, now_s)).collect(), next)
}

/// `GET /clustering/status`: the same as a map, in the shape that Kong had before.
pub(crate) fn status(handles: &Handles, now_s: i64) -> Reply {
    let view = handles.cluster.view();
    if !view.has_mesh() {
        return no_control_plane();
    }
    let of = |member: &Member| {
        json!({
            "config_hash": config_hash(member),
            "hostname": member.hostname,
            "ip": ip(member),
            "last_seen": last_seen_s(member, now_s),
        })
    };
    let nodes: BTreeMap<Uuid, Value> =
        planes(&view).map(|member| (uuid_of_node(&member.node_id), of(member))).collect();
    let mut reply = reply::ok(&nodes);
    reply.headers_mut().insert(DEPRECATION, HeaderValue::from_static("true"));
    reply
}

/// The round trip to itself is none; of a peer that never answered it is not known.
fn node(member: &Member, is_me: bool) -> Value {
    let rtt_ms = if is_me { Some(0.0) } else { member.rtt_ms.map(|rtt_ms| (rtt_ms * 10.0).round() / 10.0) };
    json!({
        "node_id": member.node_id,
        "region": member.region,
        "address": member.address,
        "state": member.state.name(),
        "incarnation": member.incarnation,
        "version": member.version,
        "revision": member.revision,
        "rtt_ms": rtt_ms,
        "last_heard_ms": member.last_heard_ms,
    })
}

/// Who left on purpose is no data plane any more; Kong forgets it after two weeks.
fn planes(view: &View) -> impl Iterator<Item = &Member> {
    view.nodes.iter().filter(|member| member.state != State::Left)
}

fn data_plane(id: Uuid, member: &Member, now_s: i64) -> Value {
    let seen_s = last_seen_s(member, now_s);
    json!({
        "id": id,
        "ip": ip(member),
        "hostname": member.hostname,
        "version": member.version,
        "config_hash": config_hash(member),
        "last_seen": seen_s,
        "updated_at": seen_s,
        "sync_status": if member.state == State::Alive { "normal" } else { "unknown" },
        "labels": { "region": member.region, "node_id": member.node_id },
        "cert_details": {},
        "rpc_capabilities": [],
    })
}

/// Equal where two nodes run the same configuration; 32 characters as Kong's, opaque.
fn config_hash(member: &Member) -> String {
    format!("{:016x}{:016x}", member.revision.number, member.digest)
}

/// The address without its port and brackets.
fn ip(member: &Member) -> &str {
    let host = member.address.rsplit_once(':').map_or(member.address.as_str(), |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn last_seen_s(member: &Member, now_s: i64) -> i64 {
    now_s.saturating_sub(i64::try_from(member.last_heard_ms / 1000).unwrap_or(i64::MAX))
}

fn no_control_plane() -> Reply {
    reply::bad_request(
        "this endpoint is only available when Kong is configured to run as Control Plane for the cluster",
    )
}
