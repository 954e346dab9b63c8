//! What a plugin is: its declaration, its build, its phases, and what it sees of an exchange.
//!
//! A plugin is a file or a folder. Phases run in Kong's order (`kong/proxy.md` §1.1). Decisions are synchronous and need no
//! allocation: what a plugin needs beyond the request is looked up in the snapshot's `Directory` or decided by `Counters`.
//! A plugin that has to wait returns `Step::Wait` with a future. `chain` and `roster` decide which instances run, and in
//! which order.

pub mod authentication;
pub mod body;
pub mod broken;
pub mod chain;
pub mod directory;
pub mod entry;
pub mod given;
pub mod key_auth;
pub mod notes;
pub mod number;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod probes;
pub mod queue;
pub mod rate_limiting;
pub mod roster;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
pub mod tools;
pub mod upward;

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use http::{HeaderName, HeaderValue, StatusCode};
use uuid::Uuid;

use crate::counter::Counters;
use crate::entity::Doc;
use crate::entity::declare::{PluginDeclaration, Plugins};
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::http1::response::ResponseHead;
use crate::plugin::directory::{CredentialRef, Directory, Principal};
use crate::plugin::entry::Entry;
use crate::plugin::notes::Notes;
use crate::plugin::upward::Upward;

/// A built instance. Each method is a phase; `wants` says which of them are called.
pub trait Plugin: Send + Sync {
    /// The phases that this instance takes part in, and how much of the request's body it needs. Asked once, when a
    /// chain is built.
    fn wants(&self) -> Wants {
        Wants::default()
    }

    /// Before routing. Global instances only.
    fn rewrite(&self, exchange: &mut Exchange<'_>) -> Step {
        let _ = exchange;
        Step::Continue
    }

    /// May change what goes to the upstream, set the consumer, respond, or wait.
    fn access(&self, exchange: &mut Exchange<'_>) -> Step {
        let _ = exchange;
        Step::Continue
    }

    /// Sees the head of the response, whoever made it, and may change it.
    fn header_filter(&self, exchange: &mut Exchange<'_>, head: &mut ResponseHead) {
        let _ = (exchange, head);
    }

    /// Starts a filter for the body of this response; `None`: the body passes as it is.
    fn body_filter(&self, exchange: &mut Exchange<'_>, head: &ResponseHead) -> Option<Box<dyn BodyFilter>> {
        let _ = (exchange, head);
        None
    }

    /// After the last byte was sent. Must not block. `entry` is built once per exchange and shared.
    fn log(&self, entry: &Arc<Entry>) {
        let _ = entry;
    }

    /// Layer 4: before a stream session is connected.
    fn preread(&self, session: &mut Session<'_>) -> Step {
        let _ = session;
        Step::Continue
    }

    /// Caches, queues and counters that the next build of the same instance gets as `Build::before`.
    fn state(&self) -> Option<State> {
        None
    }
}

/// State that survives a reload of the configuration.
pub type State = Arc<dyn Any + Send + Sync>;

/// The phases of an instance, beside `access`, which every instance may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub rewrite: bool,
    pub header_filter: bool,
    pub body_filter: bool,
    pub log: bool,
    pub preread: bool,
    /// Maximum number of bytes of the request's body that `access` needs in `Exchange::body`; 0: none. A longer body is
    /// not shown.
    pub request_body: usize,
}

impl Wants {
    /// What either of the two wants.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            rewrite: self.rewrite || other.rewrite,
            header_filter: self.header_filter || other.header_filter,
            body_filter: self.body_filter || other.body_filter,
            log: self.log || other.log,
            preread: self.preread || other.preread,
            request_body: self.request_body.max(other.request_body),
        }
    }
}

/// Rewrites the body of one response piece by piece.
pub trait BodyFilter {
    /// Takes the next piece, and appends to `out` what the client gets in its place. `last`: no piece follows; the
    /// piece may be empty then. What a filter holds back it bounds itself.
    fn filter(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>);
}

/// What a phase returned.
pub enum Step {
    Continue,
    /// Ends the exchange: later plugins do not run `access`, but their later phases run.
    Respond(Answer),
    /// The plugin could not do its work. The client gets 500 `An unexpected error occurred`; the text is for the log.
    Fail(Cow<'static, str>),
    /// The exchange waits for the future, whose result continues the phase. Other exchanges of the worker run meanwhile.
    /// The future is dropped when the client leaves.
    Wait(LocalBoxFuture<'static, Resume>),
}

/// Continues a phase after a wait, with the exchange as it is then.
pub type Resume = Box<dyn FnOnce(&mut Exchange<'_>) -> Step>;

/// A response that the gateway makes itself.
pub enum Answer {
    /// Negotiated body with the request id (`kong/proxy.md` §2.1).
    Error { status: StatusCode, message: Cow<'static, str>, headers: Vec<(HeaderName, HeaderValue)> },
    /// Body as it is, no request id.
    Exit { status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: Bytes },
    /// A body that is made while it is sent. An error cuts it off.
    Stream { status: StatusCode, headers: Vec<(HeaderName, HeaderValue)>, body: AnswerStream },
}

/// The pieces of a streamed body. The next one is asked for when the client has taken the last.
pub type AnswerStream = LocalBoxStream<'static, Result<Bytes, Cow<'static, str>>>;

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Continue => f.write_str("Continue"),
            Self::Respond(answer) => f.debug_tuple("Respond").field(answer).finish(),
            Self::Fail(why) => f.debug_tuple("Fail").field(why).finish(),
            Self::Wait(_) => f.write_str("Wait"),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { status, message, .. } => write!(f, "Error({status}, {message:?})"),
            Self::Exit { status, body, .. } => write!(f, "Exit({status}, {} bytes)", body.len()),
            Self::Stream { status, .. } => write!(f, "Stream({status})"),
        }
    }
}

/// One request and its response, as plugins see it.
pub struct Exchange<'a> {
    /// The request as the client sent it, in every phase.
    pub request: &'a RequestHead,
    /// The normalised path.
    pub path: &'a [u8],
    /// The request's body, when a plugin wants it and it fits.
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
    /// What goes to the upstream in place of the original request.
    pub upward: &'a mut Upward,
    /// Headers that any response to the client gets, proxied or not. In order: each replaces what has its name.
    pub response_headers: &'a mut Vec<(&'static Name, HeaderValue)>,
    /// What plugins leave for later phases of the same exchange.
    pub notes: &'a mut Notes,
    pub directory: &'a Directory,
    pub counters: &'a Counters,
}

impl Exchange<'_> {
    /// The query string that goes to the upstream, as plugins left it so far; empty when there is none.
    pub fn query(&self) -> &[u8] {
        match &self.upward.query {
            Some(query) => query.as_bytes(),
            None => self.request.target.query().unwrap_or_default(),
        }
    }

    /// The values of a request header, as plugins left them so far.
    pub fn header_values<'e>(&'e self, name: &'e HeaderName) -> impl Iterator<Item = &'e HeaderValue> {
        self.upward.headers.values(&self.request.headers, name)
    }
}

/// A stream session (layer 4), as plugins see it.
pub struct Session<'a> {
    pub client_ip: IpAddr,
    /// The listening port.
    pub port: u16,
    /// TLS: the server name that the client asked for.
    pub server_name: Option<&'a str>,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// How a plugin of this name is declared and built.
pub struct Maker {
    pub declaration: &'static PluginDeclaration,
    pub build: fn(Build<'_>) -> Built,
}

/// What an instance is built from.
pub struct Build<'a> {
    /// Checked by the declaration.
    pub config: &'a Doc,
    pub scope: Scope,
    /// `Plugin::state` of the build before, of the same instance and plugin.
    pub before: Option<State>,
}

impl Build<'_> {
    /// The state of the build before, if it has this type.
    pub fn state<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.before.clone()?.downcast().ok()
    }
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
    let makers = MAKERS.iter();
    #[cfg(test)]
    let makers = makers.chain(probes::MAKERS);
    makers.copied().find(|maker| maker.declaration.name == name)
}

/// The declarations of `MAKERS`, for the entity checks.
pub fn declarations() -> Plugins {
    Plugins::new(MAKERS.iter().map(|maker| maker.declaration))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
