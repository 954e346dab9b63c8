//! `/metrics`: what this node counts, as Prometheus text; Kong's names where Kong has one.

mod limits;
mod mesh;
mod page;

use std::sync::atomic::Ordering;

use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::KONG_VERSION;
use crate::VERSION;
use crate::admin::handles::Handles;
use crate::admin::info::About;
use crate::admin::metrics::page::{Page, escaped};
use crate::admin::reply::{self, Reply};

pub(crate) fn reply(about: &About, handles: &Handles) -> Reply {
    let mut reply = reply::text(render(about, handles));
    let exposition = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, exposition);
    reply
}

fn render(about: &About, handles: &Handles) -> String {
    let node = escaped(&about.node_id);
    let traffic = &handles.traffic;
    let mut page = Page(String::with_capacity(8192));
    page.family("tidegate_info", "gauge", "The version of this node.");
    page.sample("tidegate_info", &format!("version=\"{VERSION}\",node_id=\"{node}\""), 1);
    page.family("kong_node_info", "gauge", "The Kong that this node speaks like.");
    page.sample("kong_node_info", &format!("node_id=\"{}\",version=\"{KONG_VERSION}\"", about.node_uuid()), 1);
    page.family("kong_nginx_connections_total", "gauge", "Connections of the proxy by state.");
    for (state, counter) in [
        ("accepted", &traffic.accepted),
        ("active", &traffic.active),
        ("handled", &traffic.handled),
        ("reading", &traffic.reading),
        ("writing", &traffic.writing),
        ("waiting", &traffic.waiting),
        ("total", &traffic.requests),
    ] {
        let labels = format!("node_id=\"{node}\",subsystem=\"http\",state=\"{state}\"");
        page.sample("kong_nginx_connections_total", &labels, counter.load(Ordering::Relaxed));
    }
    page.family("kong_nginx_requests_total", "gauge", "Requests of the proxy.");
    let labels = format!("node_id=\"{node}\",subsystem=\"http\"");
    page.sample("kong_nginx_requests_total", &labels, traffic.requests.load(Ordering::Relaxed));
    page.family("kong_datastore_reachable", "gauge", "Whether the store answered when last asked.");
    page.sample("kong_datastore_reachable", "", u64::from(handles.ledger.reachable()));
    revisions(&mut page, handles);
    mesh::render(&mut page, handles.cluster.as_ref(), handles.ledger.epochs_adopted());
    page.family("tidegate_admin_exposed", "gauge", "Whether the Admin API is open beyond loopback without a token.");
    page.sample("tidegate_admin_exposed", "", u64::from(about.exposed));
    page.family("tidegate_admin_log_lines_dropped_total", "counter", "Lines lost because the log was too slow.");
    page.sample("tidegate_admin_log_lines_dropped_total", "", about.lines_dropped());
    page.0
}

/// The revision of the configuration that is known, and of the one that requests are served by.
fn revisions(page: &mut Page, handles: &Handles) {
    let known = handles.ledger.read(|catalog| catalog.revision());
    let live = handles.live.load().map(|snapshot| snapshot.revision).unwrap_or_default();
    let revisions = [("known", known), ("live", live)];
    page.family("tidegate_revision_epoch", "gauge", "The epoch of the configuration.");
    for (of, revision) in revisions {
        page.sample("tidegate_revision_epoch", &format!("of=\"{of}\""), revision.epoch);
    }
    page.family("tidegate_revision_number", "gauge", "The number of the configuration in its epoch.");
    for (of, revision) in revisions {
        page.sample("tidegate_revision_number", &format!("of=\"{of}\""), revision.number);
    }
}
