//! What is kept about an exchange until its end: its access log line and its place in the counts.
//!
//! Whatever happens to an exchange, its record is dropped once, and that is when the line is written. So an exchange
//! that its client left has a line too: 499 is what a record says until somebody knows better.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use http::StatusCode;
use http::header::{REFERER, USER_AGENT};
use http::request::Parts;

use crate::listen::access_log::Line;
use crate::proxy::connection::Connection;
use crate::proxy::request_id::RequestId;

/// nginx's status for a client that closed before it was answered.
const CLIENT_CLOSED: u16 = 499;

/// One exchange, while it lasts.
pub struct Record {
    /// `None`: nobody reads a log.
    line: Option<Line>,
    connection: Rc<Connection>,
}

impl Record {
    /// Opens the record of a request that has just come; `remote` is the client after real-IP rules.
    pub fn open(connection: Rc<Connection>, head: &Parts, remote: IpAddr, id: RequestId, at: SystemTime) -> Self {
        connection.begin_exchange();
        let logged = !connection.worker.options.access_log.is_off();
        let line = logged.then(|| Line {
            remote,
            at,
            method: head.method.clone(),
            target: head.uri.clone(),
            version: head.version,
            status: CLIENT_CLOSED,
            body_bytes: 0,
            referer: head.headers.get(REFERER).cloned(),
            user_agent: head.headers.get(USER_AGENT).cloned(),
            request_id: id.0,
        });
        Self { line, connection }
    }

    pub fn set_status(&mut self, status: StatusCode) {
        if let Some(line) = &mut self.line {
            line.status = status.as_u16();
        }
    }

    pub fn add_bytes(&mut self, length: usize) {
        if let Some(line) = &mut self.line {
            line.body_bytes += length as u64;
        }
    }

    pub fn connection(&self) -> &Rc<Connection> {
        &self.connection
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.end_exchange();
        if let Some(line) = self.line.take() {
            self.connection.worker.options.access_log.write(line);
        }
    }
}
