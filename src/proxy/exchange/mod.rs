//! One request from its head to the last byte of its response: the one order of steps, which is Kong's
//! (`kong/proxy.md` §1.3). The only caller of `plugin::chain`.
//!
//! What each step decides is in a file of its own; here is their order. A step that ends the exchange returns `Ended`.
//! Whoever made a response, it passes the plugins' filters and gets the same marks.

pub mod admission;
pub mod carried;
pub mod client;
pub mod client_address;
pub mod connection;
pub mod context;
mod error_body;
pub mod facts;
pub mod forwarded;
pub mod held;
mod local_response;
pub mod marks;
mod plugin_run;
pub mod record;
pub mod request_id;
mod respond;
mod response;
pub mod response_body;
mod steps;
pub mod upstream_path;

use std::rc::Rc;

use crate::http1::fields::RequestFields;
use crate::http1::request::RequestHead;
use crate::proxy::exchange::admission::Refusal;
use crate::proxy::exchange::client::Client;
use crate::proxy::exchange::connection::Connection;
use crate::proxy::exchange::record::Record;
use crate::proxy::exchange::respond::Begun;
use crate::proxy::exchange::steps::Ended;

/// A request whose head has arrived.
pub struct Arrived {
    pub head: Rc<RequestHead>,
    /// What its fields say, or why it is refused. Of a refused request `head` holds what could be read.
    pub fields: Result<RequestFields, Refusal>,
}

/// Serves one request.
pub async fn serve<C: Client>(client: &mut C, connection: &Rc<Connection>, request: Arrived) {
    let Some(snapshot) = connection.worker.snapshot() else {
        // Listeners open once a configuration is live.
        return tracing::error!("a request arrived before the first configuration");
    };
    let Arrived { head, fields } = request;
    let (refusal, fields) = match fields {
        Ok(fields) => (None, fields),
        Err(refusal) => (Some(refusal), RequestFields { close: true, ..RequestFields::default() }),
    };
    let mut slot = Some(Record::open(connection, head, fields, snapshot));
    let Some(record) = &mut slot else { return };
    let outcome = match refusal {
        Some(refusal) => Err(Ended::from(refusal)),
        None => steps::run(client, record).await,
    };
    let begun = match outcome {
        Ok(response) => respond::begin_upstream(client, record, response),
        Err(Ended::Local(local)) => respond::begin_local(client, record, local),
        Err(Ended::Gone) => return client.abandon(),
    };
    match begun {
        Begun::Body(body) => client.send_body(body, &mut slot).await,
        Begun::Tunnel(body) => client.tunnel(body, &mut slot).await,
    }
}
