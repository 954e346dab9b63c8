//! What a plugin is: its declaration, its build, its phases, and what it sees of an exchange.
//!
//! A plugin is a file. Deciding is synchronous: what a plugin needs beyond the request is looked up in the snapshot's
//! `Directory` or decided by `Counters`. Plugins that await were left out on purpose: none of those here has to,
//! and a synchronous chain costs no allocation. Which instances run, and in which order, is `chain` and `roster`.

pub mod authentication;
pub mod body;
pub mod broken;
pub mod chain;
pub mod directory;
pub mod entry;
pub mod given;
pub mod key_auth;
pub mod name;
pub mod number;
pub mod queue;
pub mod rate_limiting;
pub mod roster;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
pub mod tools;

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::counter::Counters;
use crate::entity::Doc;
use crate::entity::declare::{PluginDeclaration, Plugins};
use crate::plugin::directory::{CredentialRef, Directory, Principal};
use crate::plugin::name::Name;

/// A built instance.
pub trait Plugin: Send + Sync {
    /// May change the request, set the consumer, or end the exchange.
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let _ = exchange;
        Step::Continue
    }

    /// What sees the heads of responses; `None`: nothing of this plugin's.
    fn header_filter(&self) -> Option<&dyn HeaderFilter> {
        None
    }

    /// The most bytes of request body that `access` wants to see in `Exchange::body`; 0: none. A longer body is
    /// not shown.
    fn body_wanted(&self) -> usize {
        0
    }
}

/// The phase of a response's head.
pub trait HeaderFilter {
    /// Sees it on its way to the client, whoever made it. The request's headers may be gone by then.
    fn filter(&self, exchange: &mut Exchange<'_>, status: StatusCode, headers: &mut HeaderMap);
}

/// What a phase returned.
#[derive(Debug)]
pub enum Step {
    Continue,
    /// Ends the exchange: later plugins do not run `access`, but every collected one runs `header_filter`.
    Respond(Answer),
    /// The plugin could not do its work. The client gets 500 `An unexpected error occurred`; the text is for the log.
    Fail(Cow<'static, str>),
}

/// A response that the gateway makes itself.
#[derive(Debug)]
pub enum Answer {
    /// Negotiated body with the request id (`kong/proxy.md` §2.1).
    Error { status: StatusCode, message: Cow<'static, str>, headers: Vec<(HeaderName, HeaderValue)> },
    /// Body as it stands, no request id.
    Exit { status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Bytes },
}

/// One request and its response, as plugins see it.
pub struct Exchange<'a> {
    /// Head of the request that goes to the upstream. Plugins change headers in place.
    pub request: &'a mut http::request::Parts,
    /// The normalised path.
    pub path: &'a [u8],
    /// Replaces the query string on its way upstream; empty: none. `None`: the query goes up as it came.
    pub query: Option<String>,
    /// The body when a plugin wanted it and it fits; plugins may replace it.
    pub body: Option<Bytes>,
    /// `None`: no route matched.
    pub route_id: Option<Uuid>,
    /// `None`: the route has no service.
    pub service_id: Option<Uuid>,
    /// After real-IP rules.
    pub client_ip: IpAddr,
    /// Unix seconds, read once per exchange.
    pub now_s: u64,
    /// The same moment in Unix milliseconds.
    pub now_ms: u64,
    pub consumer: Option<&'a Principal>,
    /// The anonymous consumer has none.
    pub credential: Option<CredentialRef>,
    /// Headers that any response to the client gets, proxied or not. In order: each replaces what has its name.
    pub response_headers: Vec<(&'static Name, HeaderValue)>,
    pub directory: &'a Directory,
    pub counters: &'a Counters,
}

impl Exchange<'_> {
    /// The query string that goes upstream, as plugins left it so far; empty when there is none.
    pub fn query(&self) -> &str {
        match &self.query {
            Some(query) => query,
            None => self.request.uri.query().unwrap_or_default(),
        }
    }
}

/// How a plugin of this name is declared and built.
pub struct Maker {
    pub declaration: &'static PluginDeclaration,
    /// From the checked config and the scope of the instance.
    pub build: fn(&Doc, Scope) -> Built,
}

/// An instance, or what in its config cannot be run.
pub type Built = Result<Box<dyn Plugin>, String>;

/// What an instance is scoped to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
    pub consumer: Option<Uuid>,
}

/// Every plugin this program has, highest priority first (ties: name, descending).
pub static MAKERS: &[&Maker] = &[&key_auth::MAKER, &rate_limiting::MAKER];

/// The maker of a plugin name; `None`: this program has no such plugin.
pub fn maker(name: &str) -> Option<&'static Maker> {
    MAKERS.iter().copied().find(|maker| maker.declaration.name == name)
}

/// The declarations of `MAKERS`, for the entity checks.
pub fn declarations() -> Plugins {
    Plugins::new(MAKERS.iter().map(|maker| maker.declaration))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
