//! A stage for plugin tests: a request, a directory and counters to make an exchange of.

pub(crate) mod sink;
pub(crate) mod tools;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{HeaderName, Version};
use serde_json::Value;
use uuid::Uuid;

use crate::counter::Counters;
use crate::entity::consumer::Consumer;
use crate::http1::name::Name;
use crate::http1::request::RequestHead;
use crate::http1::target::Target;
use crate::plugin::chain::Instance;
use crate::plugin::directory::{Directory, KeyHolder, Principal};
use crate::plugin::notes::Notes;
use crate::plugin::upward::Upward;
use crate::plugin::{Answer, Build, Built, Exchange, Plugin, Scope, Step, maker};

/// 2025-11-24T16:00:20Z.
pub(crate) const NOW_S: u64 = 1_764_000_020;

pub(crate) struct Stage {
    pub(crate) request: RequestHead,
    pub(crate) upward: Upward,
    pub(crate) response_headers: Vec<(&'static Name, HeaderValue)>,
    notes: Notes,
    pub(crate) body: Option<Bytes>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) counters: Arc<Counters>,
}

impl Stage {
    pub(crate) fn get(target: &str) -> Self {
        let target = Target::parse(Bytes::copy_from_slice(target.as_bytes())).unwrap();
        let mut request = RequestHead::default();
        (request.target, request.version) = (target, Version::HTTP_11);
        Self {
            request,
            upward: Upward::default(),
            response_headers: Vec::new(),
            notes: Notes::default(),
            body: None,
            directory: Arc::default(),
            counters: Arc::default(),
        }
    }

    pub(crate) fn with_directory(mut self, directory: &Arc<Directory>) -> Self {
        self.directory = Arc::clone(directory);
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers.append(HeaderName::from_static(name), value.try_into().unwrap());
        self
    }

    pub(crate) fn with_body(mut self, content_type: &str, body: &str) -> Self {
        self.body = Some(body.to_owned().into());
        self.with_header("content-type", content_type)
    }

    pub(crate) fn exchange(&mut self) -> Exchange<'_> {
        Exchange {
            path: b"/path",
            body: self.body.clone(),
            route_id: Some(Uuid::from_u128(1)),
            service_id: Some(Uuid::from_u128(2)),
            client_ip: Ipv4Addr::LOCALHOST.into(),
            now_s: NOW_S,
            now_ms: NOW_S * 1000,
            consumer: None,
            credential: None,
            upward: &mut self.upward,
            response_headers: &mut self.response_headers,
            notes: &mut self.notes,
            directory: &self.directory,
            counters: &self.counters,
            request: &self.request,
        }
    }

    /// The values that the upstream gets.
    pub(crate) fn header_values(&self, name: &'static str) -> Vec<String> {
        let name = HeaderName::from_static(name);
        let values = self.upward.headers.values(&self.request.headers, &name);
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    /// The first value that the upstream gets.
    pub(crate) fn header(&self, name: &'static str) -> Option<String> {
        self.header_values(name).into_iter().next()
    }
}

pub(crate) fn principal(id: u128, username: Option<&str>, custom_id: Option<&str>) -> Arc<Principal> {
    let (username, custom_id) = (username.map(str::to_owned), custom_id.map(str::to_owned));
    Arc::new(Principal::new(Consumer { id: Uuid::from_u128(id), username, custom_id }))
}

/// Consumers with one key each.
pub(crate) fn directory(holders: &[(&Arc<Principal>, &str, Option<i64>)]) -> Arc<Directory> {
    let mut directory = Directory::default();
    for (number, (consumer, key, expires_at_s)) in (100..).zip(holders) {
        directory.consumers.insert(consumer.id, Arc::clone(consumer));
        let username = consumer.username.iter().map(|name| (Arc::clone(name), Arc::clone(consumer)));
        directory.consumers_by_username.extend(username);
        let holder = KeyHolder::new(Uuid::from_u128(number), Arc::clone(consumer), *expires_at_s);
        directory.keys.insert((*key).into(), Arc::new(holder));
    }
    Arc::new(directory)
}

/// An instance as the snapshot builds it; `config` holds what differs from the defaults below.
pub(crate) fn build(name: &str, config: Value, scope: Scope) -> Built {
    let mut whole = match name {
        "key-auth" => serde_json::json!({
            "key_names": ["apikey"], "hide_credentials": false, "anonymous": null, "key_in_header": true,
            "key_in_query": true, "key_in_body": false, "run_on_preflight": true, "realm": null
        }),
        _ => serde_json::json!({
            "limit_by": "consumer", "policy": "local", "fault_tolerant": true, "hide_client_headers": false,
            "error_code": 429, "error_message": "API rate limit exceeded", "sync_rate": -1
        }),
    };
    let whole = whole.as_object_mut().unwrap();
    whole.extend(config.as_object().unwrap().clone());
    (maker(name).unwrap().build)(Build { config: whole, scope, before: None })
}

/// An instance around a plugin of the test's own.
pub(crate) fn instance(name: &str, priority: i32, plugin: impl Plugin + 'static) -> Arc<Instance> {
    Arc::new(Instance { id: Uuid::new_v4(), name: name.into(), priority, plugin: Box::new(plugin) })
}

/// `continue`, `STATUS MESSAGE` or `fail`.
pub(crate) fn told(step: &Step) -> String {
    match step {
        Step::Continue => "continue".to_owned(),
        Step::Respond(Answer::Error { status, message, .. }) => format!("{} {message}", status.as_u16()),
        Step::Respond(Answer::Exit { status, .. }) => format!("{} as it stands", status.as_u16()),
        Step::Respond(Answer::Stream { status, .. }) => format!("{} streamed", status.as_u16()),
        Step::Fail(_) => "fail".to_owned(),
        Step::Wait(_) => "wait".to_owned(),
    }
}
