//! One exchange while it lasts: the request, its facts, its plugins, and what is known of the response.
//!
//! Whatever happens to an exchange, its record is dropped once, after the last byte was sent; then plugins log, and the
//! access-log line is written. An exchange whose client left has a line too: until a response is begun its status is 499.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{REFERER, USER_AGENT};

use crate::entity::path;
use crate::http1::fields::RequestFields;
use crate::http1::request::RequestHead;
use crate::listen::access_log::Line;
use crate::plugin::entry::Entry;
use crate::proxy::exchange::carried::Carried;
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::facts::ExchangeFacts;
use crate::proxy::exchange::plugin_run::{PluginRun, Seen};
use crate::proxy::upstream::failure::Timing;
use crate::snapshot::Loaded;

/// nginx's status for a client that closed before it got a response.
const CLIENT_CLOSED: u16 = 499;

/// One exchange.
pub struct Record {
    pub facts: ExchangeFacts,
    /// As the client sent it.
    pub head: Rc<RequestHead>,
    /// Normalised.
    pub path: Bytes,
    pub plugins: PluginRun,
    status: u16,
    body_bytes: u64,
    /// Set when upstreams were tried.
    pub timing: Option<Timing>,
}

impl Record {
    /// Opens the record of a request whose head has just arrived. `fields`: of the head.
    pub fn open(connection: &Rc<Connection>, head: Rc<RequestHead>, fields: RequestFields, snapshot: Loaded) -> Self {
        connection.begin_exchange();
        let path = match path::normalise(head.target.path()) {
            std::borrow::Cow::Borrowed(path) => head.target.path_and_query().slice(..path.len()),
            std::borrow::Cow::Owned(path) => Bytes::from(path),
        };
        Self {
            facts: ExchangeFacts::new(Rc::clone(connection), &head, fields),
            head,
            path,
            plugins: PluginRun::new(snapshot, connection.worker.carried.take(Carried::clear)),
            status: CLIENT_CLOSED,
            body_bytes: 0,
            timing: None,
        }
    }

    /// The plugins, and what they see of the request.
    pub fn split(&mut self) -> (&mut PluginRun, Seen<'_>) {
        let seen = Seen { facts: &self.facts, head: &self.head, path: &self.path };
        (&mut self.plugins, seen)
    }

    pub fn set_status(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// Adds bytes of the response's body that were handed to the client's connection.
    pub fn add_bytes(&mut self, length: usize) {
        self.body_bytes += length as u64;
    }

    fn line(&self) -> Line {
        let field = |name| self.head.headers.get(name).cloned();
        Line {
            remote: self.facts.client_ip,
            at: self.facts.started_at,
            method: self.head.method.clone(),
            target: self.head.target.path_and_query().clone(),
            version: self.facts.version,
            status: self.status,
            body_bytes: self.body_bytes,
            referer: field(REFERER),
            user_agent: field(USER_AGENT),
            request_id: self.facts.id.0,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let connection = &self.facts.connection;
        connection.end_exchange();
        if self.plugins.wants_log() {
            self.plugins.log(&Arc::new(Entry::default()));
        }
        let worker = &connection.worker;
        if !worker.options.access_log.is_off() {
            worker.options.access_log.write(self.line());
        }
        worker.heads.give(&self.head);
        worker.carried.give(self.plugins.memory());
    }
}
