//! What a plugin is, and the order and choice of instances that a request runs (`kong/proxy.md` §1).
//!
//! A plugin is a file: its config declaration, its build, its phases. Deciding is synchronous; what a plugin needs
//! beyond the request is looked up in the snapshot's `Directory`.

pub mod chain;
pub mod key_auth;
pub mod rate_limiting;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::counter::Counters;
use crate::entity::Doc;
use crate::entity::consumer::Consumer;
use crate::entity::declare::{PluginDeclaration, Plugins};
use crate::entity::route::Route;
use crate::entity::service::Service;

/// A built instance.
pub trait Plugin: Send + Sync {
    /// May change the request, set the consumer, or end the exchange.
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let _ = exchange;
        Step::Continue
    }

    /// Sees the response's head on its way to the client, whoever made it.
    fn header_filter(&self, exchange: &mut Exchange<'_>, status: StatusCode, headers: &mut HeaderMap) {
        let _ = (exchange, status, headers);
    }

    /// The most bytes of request body that `access` wants to see in `Exchange::body`; 0: none. A longer body is
    /// not shown.
    fn body_wanted(&self) -> usize {
        0
    }
}

/// What a phase returned.
#[derive(Debug)]
pub enum Step {
    Continue,
    /// Ends the exchange: later plugins do not run `access`, but every collected one runs `header_filter`.
    Respond(Answer),
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
    pub path: &'a str,
    /// Replaces the query string on its way upstream; empty: none.
    pub query: Option<String>,
    /// The body when a plugin wanted it and it fits; plugins may replace it.
    pub body: Option<Bytes>,
    pub route: Option<&'a Route>,
    pub service: Option<&'a Service>,
    /// After real-IP rules.
    pub client_ip: IpAddr,
    /// Unix seconds, read once per exchange.
    pub now_s: u64,
    pub consumer: Option<Arc<Consumer>>,
    pub credential: Option<CredentialRef>,
    /// Headers that any response to the client gets, proxied or not.
    pub response_headers: HeaderMap,
    pub directory: &'a Directory,
    pub counters: &'a Counters,
}

/// Who authenticated: the credential's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialRef {
    pub id: Uuid,
}

/// What plugins look up: part of the snapshot.
#[derive(Debug, Default)]
pub struct Directory {
    pub consumers: hashbrown::HashMap<Uuid, Arc<Consumer>, foldhash::fast::RandomState>,
    pub consumers_by_username: hashbrown::HashMap<Box<str>, Arc<Consumer>, foldhash::fast::RandomState>,
    pub keys: hashbrown::HashMap<Box<str>, KeyHolder, foldhash::fast::RandomState>,
}

/// The owner of an API key.
#[derive(Clone, Debug)]
pub struct KeyHolder {
    pub credential: CredentialRef,
    pub consumer: Arc<Consumer>,
    /// Unix seconds; `None`: never.
    pub expires_at_s: Option<i64>,
}

/// How a plugin of this name is declared and built.
pub struct Maker {
    pub declaration: &'static PluginDeclaration,
    /// From the checked config and the scope of the instance. The error says what in the config cannot be run.
    pub build: fn(&Doc, Scope) -> Result<Box<dyn Plugin>, String>,
}

/// What an instance is scoped to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
    pub consumer: Option<Uuid>,
}

/// Every plugin this program has, highest priority first (ties: name, descending).
pub static MAKERS: &[&Maker] = &[&key_auth::MAKER, &rate_limiting::MAKER];

/// The declarations of `MAKERS`, for the entity checks.
pub fn declarations() -> Plugins {
    Plugins::new(MAKERS.iter().map(|maker| maker.declaration))
}
