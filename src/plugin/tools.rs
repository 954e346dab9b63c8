//! What plugins can do beside deciding about an exchange: calls to other machines (`outbound`), writes of entities
//! (`deposits`), and background tasks (`tasks`).
//!
//! Plugins run on worker threads, each with a runtime of its own; `node` implements these traits on its main runtime. The
//! futures are `Send`, may be polled on any runtime, and dropping one cancels what it waits for unless the trait says
//! otherwise. A plugin is given one `Tools` when it is built and keeps what it needs of it.

pub mod deposits;
pub mod outbound;
pub mod tasks;
pub mod web_address;

use std::sync::Arc;

use futures_util::future::{self, BoxFuture};
use uuid::Uuid;

use crate::entity::{Doc, Kind};
use crate::plugin::tools::deposits::{DepositError, Deposits};
use crate::plugin::tools::outbound::{HttpCall, HttpReply, Outbound, OutboundError, TcpSend, UdpSend};
use crate::plugin::tools::tasks::{BackgroundTask, Tasks, TasksEnded};

/// The tools of a node; cheap to clone.
#[derive(Clone)]
pub struct Tools {
    pub outbound: Arc<dyn Outbound>,
    pub deposits: Arc<dyn Deposits>,
    pub tasks: Arc<dyn Tasks>,
}

impl Tools {
    /// Tools whose every call fails with an error that says so: for commands that build plugins without a running node.
    pub fn none() -> Self {
        let none = Arc::new(NoTools);
        Self { outbound: none.clone(), deposits: none.clone(), tasks: none }
    }
}

struct NoTools;

const NO_NODE: &str = "no node is running";

impl Outbound for NoTools {
    fn http(&self, _: HttpCall) -> BoxFuture<'static, Result<HttpReply, OutboundError>> {
        Box::pin(future::ready(Err(OutboundError::Stopped(NO_NODE))))
    }

    fn tcp(&self, _: TcpSend) -> BoxFuture<'static, Result<(), OutboundError>> {
        Box::pin(future::ready(Err(OutboundError::Stopped(NO_NODE))))
    }

    fn udp(&self, _: UdpSend) -> BoxFuture<'static, Result<(), OutboundError>> {
        Box::pin(future::ready(Err(OutboundError::Stopped(NO_NODE))))
    }
}

impl Deposits for NoTools {
    fn insert(&self, _: Kind, _: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        Box::pin(future::ready(Err(DepositError::Unavailable(NO_NODE.to_owned()))))
    }

    fn replace(&self, _: Kind, _: Uuid, _: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        Box::pin(future::ready(Err(DepositError::Unavailable(NO_NODE.to_owned()))))
    }

    fn delete(&self, _: Kind, _: Uuid) -> BoxFuture<'static, Result<bool, DepositError>> {
        Box::pin(future::ready(Err(DepositError::Unavailable(NO_NODE.to_owned()))))
    }
}

impl Tasks for NoTools {
    fn spawn(&self, _: &'static str, _: BackgroundTask) -> Result<(), TasksEnded> {
        Err(TasksEnded)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;
    use crate::plugin::tools::outbound::Peer;

    #[test]
    fn without_a_node_every_call_fails_at_once_and_says_why() {
        let (tools, peer) = (Tools::none(), Peer::plain("h.test", 80));
        let http = tools.outbound.http(HttpCall::get(peer.clone(), "/")).now_or_never().unwrap();
        assert_eq!(http.unwrap_err().to_string(), "the call was not made: no node is running");
        let data = bytes::Bytes::from_static(b"x");
        let tcp = TcpSend { peer, data: data.clone(), timeout: Duration::from_secs(1), keepalive: Duration::ZERO };
        assert!(tools.outbound.tcp(tcp).now_or_never().unwrap().is_err());
        let udp = UdpSend { host: "h.test".into(), port: 1, datagrams: vec![data], timeout: Duration::from_secs(1) };
        assert!(tools.outbound.udp(udp).now_or_never().unwrap().is_err());
        let (kind, id) = (Kind::CONSUMERS, Uuid::nil());
        let insert = tools.deposits.insert(kind, Doc::new()).now_or_never().unwrap();
        assert_eq!(insert.unwrap_err().to_string(), "the entity was not written: no node is running");
        assert!(tools.deposits.replace(kind, id, Doc::new()).now_or_never().unwrap().is_err());
        assert!(tools.deposits.delete(kind, id).now_or_never().unwrap().is_err());
        let spawned = tools.tasks.spawn("never", Box::new(|_| Box::pin(async {})));
        assert_eq!(spawned.unwrap_err().to_string(), "background tasks have ended");
    }
}
