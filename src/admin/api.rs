//! The Admin API as a function from a request to an answer.
//!
//! Order of checks is Kong's: media type (415, even where there is nothing), path (404), method (405), arguments and
//! body (400), then the place itself.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, Request, StatusCode};

use crate::admin::body::{Input, Media};
use crate::admin::cluster;
use crate::admin::config::Loader;
use crate::admin::entities::{Asked, Entities};
use crate::admin::front::{self, Manners, Service};
use crate::admin::handles::Handles;
use crate::admin::info;
use crate::admin::info::About;
use crate::admin::limits;
use crate::admin::metrics;
use crate::admin::place::{Place, locate};
use crate::admin::query::Query;
use crate::admin::reply::{self, Reply};
use crate::admin::schemas;
use crate::admin::tags;
use crate::admin::token::Door;
use crate::admin::wait::Patience;
use crate::pace;

const LOG_LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];

/// Kong's 60 s after which a changed log level goes back.
const LOG_LEVEL_HOLD_S: f64 = 60.0;

/// The longest hold, a year: more does not fit a timer.
const LOG_LEVEL_HOLD_MAX_S: f64 = 31_536_000.0;

pub(crate) struct Api {
    pub about: Arc<About>,
    pub handles: Handles,
    pub door: Door,
    pub manners: Manners,
    pub loader: Arc<Loader>,
}

impl Service for Api {
    fn manners(&self) -> &Manners {
        &self.manners
    }

    fn door(&self) -> &Door {
        &self.door
    }

    async fn answer(&self, request: Request<Bytes>) -> Reply {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        let place = locate(&path, &self.handles.plugins);
        let has_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        let media = if has_body { Media::of(&head.headers, &body) } else { Some(Media::Nothing) };
        let media = match media {
            Some(Media::Yaml) if place != Some(Place::Config) => return reply::unsupported_media_type(),
            Some(media) => media,
            None => return reply::unsupported_media_type(),
        };
        let Some(place) = place else { return reply::not_found() };
        if head.method == Method::OPTIONS {
            return front::options(place.methods(), &head.headers);
        }
        if !place.has(&head.method) {
            return reply::method_not_allowed();
        }
        if head.method == Method::HEAD {
            head.method = Method::GET;
        }
        let writes = head.method != Method::GET;
        let Ok(query) = Query::parse(head.uri.query()) else { return reply::bad_request("Too many arguments") };
        let patience = match Patience::parse(&query) {
            Ok(patience) => patience.filter(|_| writes),
            Err(text) if writes => return reply::bad_request(&text),
            Err(_) => None,
        };
        let reply = match place {
            Place::Config => self.config(&head, media, &query, body).await,
            place => match Input::read(media, &head.headers, body).await {
                Ok(input) => self.at(place, Asked { method: head.method, path: &path, query, input }).await,
                Err(bad) => bad.reply(),
            },
        };
        match patience {
            Some(patience) => patience.hold(reply, &self.handles).await,
            None => reply,
        }
    }
}

impl Api {
    async fn at(&self, place: Place<'_>, asked: Asked<'_>) -> Reply {
        let entities = self.entities();
        match place {
            Place::Collection(kind) => entities.collection(kind, asked).await,
            Place::Single(kind, key) => entities.single(kind, &key, asked).await,
            Place::Children(nesting) => entities.children(&nesting, asked).await,
            Place::Child(nesting, key) => entities.child(&nesting, &key, asked).await,
            Place::Parent { child, key, field, parent } => entities.parent(child, &key, field, parent, asked).await,
            Place::SetLogLevel(level) => self.set_log_level(&level, &asked.query),
            Place::Validate(kind) => schemas::validate(&kind, asked.input.plain(), &self.handles.plugins, now_s()),
            Place::Conflicts => cluster::conflicts(&self.handles).await,
            Place::Tags if asked.method == Method::POST => tags::refuse_write(),
            Place::Tags => tags::list(&self.handles.ledger, None, &asked),
            Place::Tag(tag) => tags::list(&self.handles.ledger, Some(&tag), &asked),
            place => self.told(&place, &asked),
        }
    }

    /// Places that only tell something.
    fn told(&self, place: &Place<'_>, asked: &Asked<'_>) -> Reply {
        let plugins = &self.handles.plugins;
        match place {
            Place::Root => reply::ok(&self.about.root(&self.handles)),
            Place::Robots => reply::text("User-agent: *\nDisallow: /"),
            Place::Status => self.status(&asked.query),
            Place::StatusDns => info::status_dns(),
            Place::Endpoints => reply::ok(&info::endpoints(plugins)),
            Place::Timers => reply::ok(&info::timers()),
            Place::Metrics => metrics::reply(&self.about, &self.handles),
            Place::PluginsEnabled => reply::ok(&info::plugins_enabled(plugins)),
            Place::Schema(name) => schemas::of_kind(name),
            Place::PluginSchema(name) => schemas::of_plugin(name, plugins),
            Place::ConfigSchema(name) => schemas::of_config(name, plugins),
            Place::VaultSchema(name) => reply::message(StatusCode::NOT_FOUND, &format!("No vault named '{name}'")),
            Place::LogLevel => {
                reply::message(StatusCode::OK, &format!("log level: {}", self.handles.log_level.current()))
            }
            // Entities are served from memory whole, so there is no cache to look into or to empty.
            Place::Cache | Place::Cached if asked.method == Method::DELETE => reply::empty(StatusCode::NO_CONTENT),
            Place::Cluster => cluster::show(&self.handles),
            Place::ClusterLimits => limits::list(&self.handles, &asked.query),
            Place::LeaveCluster => cluster::leave(&self.handles),
            Place::ClusteringStatus => cluster::status(&self.handles, now_s()),
            Place::DataPlanes => cluster::data_planes(&self.handles, asked, now_s()),
            _ => reply::not_found(),
        }
    }

    fn entities(&self) -> Entities<'_> {
        Entities {
            ledger: &self.handles.ledger,
            live: &self.handles.live,
            plugins: &self.handles.plugins,
            now_s: now_s(),
        }
    }

    fn status(&self, query: &Query) -> Reply {
        info::status(&self.handles, &self.loader, query)
    }

    async fn config(&self, head: &http::request::Parts, media: Media, query: &Query, body: Bytes) -> Reply {
        if self.handles.ledger.store().writable() {
            return reply::bad_request("this endpoint is only available when Kong is configured to not use a database");
        }
        if head.method == Method::GET {
            return self.loader.export(&self.handles, now_s());
        }
        let (loader, handles) = (self.loader.clone(), self.handles.clone());
        let (headers, query) = (head.headers.clone(), query.clone());
        let load = async move { loader.load(&handles, media, &headers, &query, body, now_s()).await };
        pace::all_aside(load).await.unwrap_or_else(|panic| reply::unexpected(&panic))
    }

    fn set_log_level(&self, level: &str, query: &Query) -> Reply {
        if !self.handles.ledger.store().writable() {
            let text = "cannot change log level when not using a database";
            return reply::message(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        if !LOG_LEVELS.contains(&level) {
            return reply::bad_request(&format!("unknown log level: {level}"));
        }
        let hold_s = query.first("timeout").map_or(Some(LOG_LEVEL_HOLD_S), |text| text.parse::<f64>().ok());
        let Some(hold_s) = hold_s.filter(|hold_s| *hold_s >= 0.0) else {
            return reply::bad_request("timeout must be greater than or equal to 0");
        };
        if self.handles.log_level.current() == level {
            return reply::message(StatusCode::OK, &format!("log level is already {level}"));
        }
        self.handles.log_level.set(level, Duration::from_secs_f64(hold_s.min(LOG_LEVEL_HOLD_MAX_S)));
        reply::message(StatusCode::OK, "log level changed")
    }
}

/// Unix seconds.
pub(crate) fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
