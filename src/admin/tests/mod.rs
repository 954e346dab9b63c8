//! The Admin API without a socket: a request in, an answer out, over a store in memory.

#![allow(clippy::unwrap_used)]

mod cluster;
mod crud;
mod declarative;
mod health;
mod hostile;
mod strict;
mod transport;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use serde_json::{Value, json};
use tidegate_proto::Revision;
use tokio_util::sync::CancellationToken;

use crate::admin::api::Api;
use crate::admin::config::Loader;
use crate::admin::front::{self, Service};
use crate::admin::status::Status;
use crate::admin::tests::cluster::Mesh;
use crate::admin::{Handles, LogLevel, Options, about, api, status};
use crate::entity::{Change, Entity};
use crate::listen::access_log::{AccessLog, Target};
use crate::plugin;
use crate::store::ledger::Ledger;
use crate::store::{Contents, Missed, Store, StoreError, Transaction};

/// A store in memory that can be away, or refuse single writes as a declarative one does.
#[derive(Default)]
pub(super) struct Memory {
    revision: Arc<Mutex<Revision>>,
    away: AtomicBool,
    declarative: bool,
}

struct Open {
    revision: Arc<Mutex<Revision>>,
}

impl Store for Memory {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async { Ok(Contents::default()) })
    }

    fn begin(&self, _: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        let open = match self.away.load(Ordering::Relaxed) {
            true => Err(StoreError::Unavailable("connection refused".to_owned())),
            false => Ok(Box::new(Open { revision: self.revision.clone() }) as Box<dyn Transaction>),
        };
        Box::pin(async { open })
    }

    fn since(&self, revision: Revision) -> BoxFuture<'_, Result<Missed, StoreError>> {
        Box::pin(async move { Ok(Missed::Changes { changes: Vec::new(), revision }) })
    }

    fn name(&self) -> &'static str {
        if self.declarative { "off" } else { "memory" }
    }

    fn writable(&self) -> bool {
        !self.declarative
    }

    fn replace(&self, _: Vec<Arc<Entity>>) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let next = advance(&self.revision);
        Box::pin(async move { Ok(next) })
    }
}

impl Transaction for Open {
    fn missed(&mut self) -> Missed {
        Missed::Changes { changes: Vec::new(), revision: *self.revision.lock().unwrap() }
    }

    fn commit(self: Box<Self>, _: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        Box::pin(async move { Ok(advance(&self.revision)) })
    }
}

fn advance(revision: &Mutex<Revision>) -> Revision {
    let mut revision = revision.lock().unwrap();
    *revision = Revision::new(1, revision.number + 1);
    *revision
}

#[derive(Default)]
struct Level(Mutex<Vec<(String, Duration)>>);

impl LogLevel for Level {
    fn current(&self) -> String {
        self.0.lock().unwrap().last().map_or("notice".to_owned(), |(level, _)| level.clone())
    }

    fn set(&self, level: &str, hold: Duration) {
        self.0.lock().unwrap().push((level.to_owned(), hold));
    }
}

/// A node's Admin and status APIs.
pub(super) struct Node {
    pub api: Api,
    pub status: Status,
    pub store: Arc<Memory>,
    pub handles: Handles,
    pub mesh: Arc<Mesh>,
}

/// An answer as a client reads it.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Node {
    pub(super) fn new() -> Self {
        Self::with(false, |_| {})
    }

    pub(super) fn declarative() -> Self {
        Self::with(true, |_| {})
    }

    pub(super) fn with(declarative: bool, adjust: impl FnOnce(&mut Options)) -> Self {
        let store = Arc::new(Memory { declarative, ..Memory::default() });
        let mesh = Arc::new(Mesh::default());
        let handles = Handles {
            ledger: Arc::new(Ledger::new(store.clone(), Contents::default())),
            live: Arc::default(),
            plugins: plugin::declarations(),
            traffic: Arc::default(),
            cluster: mesh.clone(),
            leave: CancellationToken::new(),
            draining: CancellationToken::new(),
            log_level: Arc::new(Level::default()),
        };
        let mut options = options();
        adjust(&mut options);
        let (about, loader) = (Arc::new(about(&options)), Arc::new(Loader::default()));
        Self {
            api: api(&options, about.clone(), loader.clone(), handles.clone()),
            status: status(&options, about, loader, handles.clone()),
            store,
            handles,
            mesh,
        }
    }

    /// `GET /services`, with a JSON body unless it is null.
    pub(super) async fn ask(&self, line: &str, body: Value) -> Answer {
        let request = request(line);
        let request = match body {
            Value::Null => request.body(Bytes::new()),
            body => request.header("content-type", "application/json").body(Bytes::from(body.to_string())),
        };
        self.send(request.unwrap()).await
    }

    pub(super) async fn form(&self, line: &str, form: &'static str) -> Answer {
        let media = "application/x-www-form-urlencoded";
        self.send(request(line).header("content-type", media).body(Bytes::from(form)).unwrap()).await
    }

    pub(super) async fn send(&self, request: Request<Bytes>) -> Answer {
        to(&self.api, request).await
    }

    pub(super) async fn health(&self, line: &str, body: &'static str) -> Answer {
        let media = "application/json";
        to(&self.status, request(line).header("content-type", media).body(Bytes::from(body)).unwrap()).await
    }

    /// Creates something that has to succeed and answers its id.
    pub(super) async fn made(&self, path: &str, body: Value) -> String {
        let answer = self.ask(&format!("POST {path}"), body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub(super) fn leave(&self) {
        self.store.away.store(true, Ordering::Relaxed);
    }
}

async fn to(service: &impl Service, request: Request<Bytes>) -> Answer {
    let (head, body) = request.into_parts();
    let reply: Response<Bytes> = match front::refuse(service, &head) {
        Some(refusal) => refusal,
        None => front::answer(service, Request::from_parts(head, body)).await,
    };
    let (head, body) = reply.into_parts();
    Answer { status: head.status.as_u16(), headers: head.headers, body }
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Status and every member of `expected`.
    pub(super) fn check(&self, status: u16, expected: Value) {
        let got = self.json();
        assert_eq!(self.status, status, "{got}");
        assert!(holds(&got, &expected), "{got}\nlacks {expected}");
    }
}

/// Whether every named member is there; lists have to match whole.
fn holds(got: &Value, expected: &Value) -> bool {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            expected.iter().all(|(name, value)| got.get(name).is_some_and(|got| holds(got, value)))
        }
        (Value::Array(got), Value::Array(expected)) => {
            got.len() == expected.len() && got.iter().zip(expected).all(|(got, expected)| holds(got, expected))
        }
        (got, expected) => got == expected,
    }
}

pub(super) fn request(line: &str) -> http::request::Builder {
    let (method, target) = line.split_once(' ').unwrap();
    Request::builder().method(method).uri(target)
}

fn options() -> Options {
    Options {
        admin_listen: Vec::new(),
        status_listen: Vec::new(),
        admin_certificates: None,
        status_certificates: None,
        admin_access_log: AccessLog::open(Target::Off, 1).unwrap(),
        status_access_log: AccessLog::open(Target::Off, 1).unwrap(),
        token: None,
        token_readonly: None,
        server_header: true,
        latency_header: true,
        max_body_size: 1024,
        gui_origins: Vec::new(),
        configuration: json!({ "database": "memory", "log_level": "notice" }),
        node_id: "node-1".to_owned(),
        hostname: "host".to_owned(),
        warnings: vec!["the Admin API is open".to_owned()],
    }
}
