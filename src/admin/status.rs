//! The status listener: health for orchestrators, on an address of its own.
//!
//! Ready means that requests are served, so a node is ready as soon as a snapshot is live. Kong: loses readiness with
//! its database; here a node serves without it, and taking it out of rotation would turn a database outage into an
//! outage of the gateway. Reading needs no token; `draining` does when there are tokens.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};

use crate::admin::body::{Input, Media};
use crate::admin::cluster;
use crate::admin::config::Loader;
use crate::admin::front::{self, Manners, Service};
use crate::admin::handles::Handles;
use crate::admin::info;
use crate::admin::info::About;
use crate::admin::limits;
use crate::admin::metrics;
use crate::admin::query::Query;
use crate::admin::reply::{self, Reply};
use crate::admin::token::Door;

pub(crate) struct Status {
    pub about: Arc<About>,
    pub handles: Handles,
    pub loader: Arc<Loader>,
    pub manners: Manners,
    /// Always open: probes have no tokens.
    pub door: Door,
    /// Whoever drains the node needs the token of the Admin API.
    pub drain_door: Door,
}

impl Service for Status {
    fn manners(&self) -> &Manners {
        &self.manners
    }

    fn door(&self) -> &Door {
        &self.door
    }

    async fn answer(&self, request: Request<Bytes>) -> Reply {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let path = if path.len() > 1 { path.strip_suffix('/').unwrap_or(path) } else { path };
        let methods = match path {
            "/status" | "/status/dns" | "/metrics" | "/cluster" | "/cluster/limits" => "GET, HEAD, OPTIONS",
            "/status/ready" => "GET, HEAD, OPTIONS, POST",
            _ => return reply::not_found(),
        };
        match (path, &head.method) {
            (_, &Method::OPTIONS) => front::options(methods, &head.headers),
            ("/status/ready", &Method::POST) => self.set_draining(&head.headers, body).await,
            (_, &Method::GET | &Method::HEAD) => self.tell(path, head.uri.query()),
            _ => reply::method_not_allowed(),
        }
    }
}

impl Status {
    fn tell(&self, path: &str, query: Option<&str>) -> Reply {
        let Ok(query) = Query::parse(query) else { return reply::bad_request("Too many arguments") };
        match path {
            "/status" => info::status(&self.handles, &self.loader, &query),
            "/status/dns" => info::status_dns(),
            "/cluster" => cluster::show(&self.handles),
            "/cluster/limits" => limits::list(&self.handles, &query),
            "/metrics" => metrics::reply(&self.about, &self.handles),
            _ => self.readiness(),
        }
    }

    fn readiness(&self) -> Reply {
        match self.unready() {
            Some(why) => reply::message(StatusCode::SERVICE_UNAVAILABLE, why),
            None => reply::message(StatusCode::OK, "ready"),
        }
    }

    /// Why requests should go elsewhere, in Kong's words.
    fn unready(&self) -> Option<&'static str> {
        let declarative = !self.handles.ledger.store().writable();
        if self.handles.draining.is_cancelled() {
            return Some("draining");
        }
        if declarative && self.loader.is_empty(&self.handles.ledger) {
            return Some("no configuration available (empty configuration present)");
        }
        match self.handles.live.load() {
            Some(_) => None,
            None if declarative => Some("no configuration available (configuration hash is not initialized)"),
            None => Some("router builds not yet complete"),
        }
    }

    async fn set_draining(&self, headers: &HeaderMap, body: Bytes) -> Reply {
        if let Some(refusal) = self.drain_door.refuse(&Method::POST, headers) {
            return refusal;
        }
        let Some(media) = Media::of(headers, &body) else { return reply::unsupported_media_type() };
        let wants = match Input::read(media, headers, body).await {
            Ok(input) => input.plain(),
            Err(bad) => return bad.reply(),
        };
        if wants.get("status").and_then(|status| status.as_str()) != Some("draining") {
            return reply::bad_request("status must be \"draining\"");
        }
        tracing::info!("the status API was told that this node drains");
        self.handles.draining.cancel();
        reply::empty(StatusCode::NO_CONTENT)
    }
}
