//! The plugin `rate-limiting`: how many requests a subject may make in fixed windows (`kong/plugins.md` D.1).
//!
//! Deciding and counting is one step in `Counters`, so requests at the same time never pass together where only one
//! may. The policies are accepted as Kong has them and mean the same here, because counters are the nodes' own: `redis`
//! is not contacted, and reading a counter cannot fail, which leaves `fault_tolerant` nothing to decide.

mod declaration;
mod report;

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderName, StatusCode};
use serde::Deserialize;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::counter::{Limit, Period, Reach};
use crate::entity::Doc;
use crate::plugin::rate_limiting::declaration::DECLARATION;
use crate::plugin::{Answer, Built, Exchange, Maker, Plugin, Scope, Step};

pub static MAKER: Maker = Maker { declaration: &DECLARATION, build };

/// Longest identifier that is kept on the stack; a longer one (a long header value) is allocated.
type Identifier = SmallVec<[u8; 64]>;

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
    hide_client_headers: bool,
    error_code: Option<f64>,
    error_message: Option<String>,
}

struct RateLimiting {
    /// Shortest period first.
    limits: SmallVec<[Limit; 6]>,
    by: By,
    /// Nil where the instance has no such scope.
    route: Uuid,
    service: Uuid,
    hide_client_headers: bool,
    /// `None`: `error_code` is no HTTP status, which only a refused request finds out.
    error_code: Option<StatusCode>,
    error_message: Cow<'static, str>,
}

/// Whose requests are counted together.
enum By {
    Consumer,
    Credential,
    Address,
    Service,
    Header(HeaderName),
    Path(Box<str>),
}

fn build(config: &Doc, scope: Scope) -> Built {
    let config = Config::deserialize(config).map_err(|error| error.to_string())?;
    Ok(Box::new(RateLimiting {
        limits: config.limits(),
        by: config.by()?,
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
        let verdict = exchange.counters.hit(subject, Reach::Local, &self.limits, exchange.now_s * 1000);
        if !self.hide_client_headers {
            report::add(&self.limits, &verdict, exchange.now_s, &mut exchange.response_headers);
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

    fn error_code(&self) -> Option<StatusCode> {
        let code = self.error_code.unwrap_or(429.0);
        let code = Some(code as u16).filter(|whole| f64::from(*whole) == code)?;
        StatusCode::from_u16(code).ok().filter(|status| status.as_u16() < 600)
    }
}

impl By {
    /// Who is counted; the client's address where there is nothing else. The first byte tells the kinds apart, so that no
    /// header value can be taken for somebody's address or id.
    fn identifier(&self, exchange: &Exchange<'_>) -> Identifier {
        let id = |id: Option<Uuid>| id.map(|id| tagged(b'i', id.as_bytes()));
        let credential = || exchange.credential.map(|credential| credential.id);
        let found = match self {
            By::Consumer => id(exchange.consumer.map(|consumer| consumer.id).or_else(credential)),
            By::Credential => id(credential()),
            By::Address => None,
            By::Service => id(exchange.service_id),
            By::Header(name) => exchange.request.headers.get(name).map(|value| tagged(b't', value.as_bytes())),
            By::Path(path) => (path.as_bytes() == exchange.path).then(|| tagged(b't', path.as_bytes())),
        };
        found.unwrap_or_else(|| match exchange.client_ip.to_canonical() {
            IpAddr::V4(address) => tagged(b'a', &address.octets()),
            IpAddr::V6(address) => tagged(b'a', &address.octets()),
        })
    }
}

fn tagged(tag: u8, bytes: &[u8]) -> Identifier {
    let mut identifier = Identifier::with_capacity(1 + bytes.len());
    identifier.push(tag);
    identifier.extend_from_slice(bytes);
    identifier
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
