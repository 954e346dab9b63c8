//! The plugin `rate-limiting`: how many requests a subject may make in fixed windows (`kong/plugins.md` D.1).
//!
//! Deciding and counting is one step in `Counters`, so requests at the same time never pass together where only one
//! may. `policy` says whose counts decide: `local` this node's alone, `cluster` those of all nodes, by `guarantee` with
//! a forecast of what is not known yet or by rights that are handed out before. Kong's `cluster` asks the database and
//! its `redis` a server for each request; here neither is contacted, `redis` means `cluster`, and reading a counter
//! cannot fail, which leaves `fault_tolerant` nothing to decide.

mod declaration;
mod identity;
mod report;

use std::borrow::Cow;

use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::counter::{Limit, Name, Period, Reach};
use crate::plugin::rate_limiting::declaration::DECLARATION;
use crate::plugin::rate_limiting::identity::By;
use crate::plugin::{Answer, Build, Built, Exchange, Maker, Plugin, Step};

pub static MAKER: Maker = Maker { declaration: &DECLARATION, build };

#[derive(Deserialize)]
struct Config {
    second: Option<f64>,
    minute: Option<f64>,
    hour: Option<f64>,
    day: Option<f64>,
    month: Option<f64>,
    year: Option<f64>,
    limit_by: Option<String>,
    header_name: Option<String>,
    path: Option<String>,
    policy: Option<String>,
    guarantee: Option<String>,
    hide_client_headers: bool,
    error_code: Option<f64>,
    error_message: Option<String>,
}

struct RateLimiting {
    /// Shortest period first.
    limits: SmallVec<[Limit; 6]>,
    shown_limits: SmallVec<[HeaderValue; 1]>,
    by: By,
    reach: Reach,
    /// Nil where the instance has no such scope.
    route: Uuid,
    service: Uuid,
    hide_client_headers: bool,
    /// `None`: `error_code` is no HTTP status, which only a refused request finds out.
    error_code: Option<StatusCode>,
    error_message: Cow<'static, str>,
}

fn build(build: Build<'_>) -> Built {
    let scope = build.scope;
    let config = Config::deserialize(build.config).map_err(|error| error.to_string())?;
    let limits = config.limits();
    Ok(Box::new(RateLimiting {
        shown_limits: report::shown_limits(&limits),
        limits,
        by: config.by()?,
        reach: config.reach(),
        route: scope.route.unwrap_or_default(),
        service: scope.service.unwrap_or_default(),
        hide_client_headers: config.hide_client_headers,
        error_code: config.error_code(),
        error_message: config.error_message.map_or(Cow::Borrowed("API rate limit exceeded"), Cow::Owned),
    }))
}

impl Plugin for RateLimiting {
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let subject = exchange.counters.subject(self.route, self.service, &self.by.identifier(exchange));
        let verdict = exchange.counters.hit(subject, self.reach, &self.limits, exchange.now_ms);
        if verdict.unnamed {
            exchange.counters.name(subject, &self.limits, || self.name(exchange));
        }
        if !self.hide_client_headers {
            report::add(&self.limits, &self.shown_limits, &verdict, exchange.response_headers);
        }
        match (verdict.admitted, self.error_code) {
            (true, _) => Step::Continue,
            (false, Some(status)) => {
                Step::Respond(Answer::Error { status, message: self.error_message.clone(), headers: Vec::new() })
            }
            (false, None) => Step::Fail(Cow::Borrowed("error_code is not an HTTP status")),
        }
    }
}

impl RateLimiting {
    fn name(&self, exchange: &Exchange<'_>) -> Name {
        let (limit_by, identifier) = self.by.shown(exchange);
        let scope = |id: Uuid| Some(id).filter(|id| !id.is_nil());
        Name { limit_by, identifier, route: scope(self.route), service: scope(self.service) }
    }
}

impl Config {
    fn limits(&self) -> SmallVec<[Limit; 6]> {
        let limits = Period::ALL.map(|period| match period {
            Period::Second => self.second,
            Period::Minute => self.minute,
            Period::Hour => self.hour,
            Period::Day => self.day,
            Period::Month => self.month,
            Period::Year => self.year,
        });
        let given = Period::ALL.into_iter().zip(limits);
        given.filter_map(|(period, limit)| Some(Limit { period, limit: limit? })).collect()
    }

    fn by(&self) -> Result<By, String> {
        Ok(match (self.limit_by.as_deref(), &self.header_name, &self.path) {
            (Some("consumer"), _, _) => By::Consumer,
            (Some("credential"), _, _) => By::Credential,
            (Some("service"), _, _) => By::Service,
            (Some("header"), Some(name), _) => {
                By::Header(name.parse().map_err(|_| format!("{name:?} cannot name a header"))?)
            }
            (Some("path"), _, Some(path)) => By::Path(path.as_str().into()),
            (None | Some("ip"), _, _) => By::Address,
            (Some(other), _, _) => return Err(format!("cannot limit by {other}")),
        })
    }

    fn reach(&self) -> Reach {
        match (self.policy.as_deref(), self.guarantee.as_deref()) {
            (Some("cluster" | "redis"), Some("strict")) => Reach::Strict,
            (Some("cluster" | "redis"), _) => Reach::Cluster,
            _ => Reach::Local,
        }
    }

    fn error_code(&self) -> Option<StatusCode> {
        let code = self.error_code.unwrap_or(429.0);
        let code = Some(code as u16).filter(|whole| f64::from(*whole) == code)?;
        StatusCode::from_u16(code).ok().filter(|status| status.as_u16() < 600)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
