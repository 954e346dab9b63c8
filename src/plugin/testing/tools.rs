//! Tools for plugin tests: calls are recorded and answered from a script, tasks run on the test's runtime.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::future::{self, BoxFuture};
use http::{HeaderMap, StatusCode};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::entity::{Doc, Kind};
use crate::plugin::tools::Tools;
use crate::plugin::tools::deposits::{DepositError, Deposits};
use crate::plugin::tools::outbound::{HttpCall, HttpReply, Outbound, OutboundError, TcpSend, UdpSend};
use crate::plugin::tools::tasks::{BackgroundTask, Tasks, TasksEnded};

/// What a plugin asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ToolCall {
    Http(HttpCall),
    Tcp(TcpSend),
    Udp(UdpSend),
    Insert(Kind, Doc),
    Replace(Kind, Uuid, Doc),
    Delete(Kind, Uuid),
}

/// What the next call of a kind gets. A call that finds no line in the script gets 200 without a body, `Ok(())`, or
/// the document it gave.
#[derive(Debug, Default)]
pub(crate) struct ToolScript {
    pub(crate) http: VecDeque<Result<HttpReply, OutboundError>>,
    pub(crate) sends: VecDeque<Result<(), OutboundError>>,
    pub(crate) deposits: VecDeque<Result<Doc, DepositError>>,
}

/// Tools that answer from a script.
#[derive(Debug, Default)]
pub(crate) struct FakeTools {
    script: Mutex<ToolScript>,
    calls: Mutex<Vec<ToolCall>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl FakeTools {
    pub(crate) fn new(script: ToolScript) -> Arc<Self> {
        Arc::new(Self { script: Mutex::new(script), ..Self::default() })
    }

    pub(crate) fn tools(self: &Arc<Self>) -> Tools {
        Tools { outbound: self.clone(), deposits: self.clone(), tasks: self.clone() }
    }

    /// Every call so far, in order.
    pub(crate) fn calls(&self) -> Vec<ToolCall> {
        self.calls.lock().unwrap().clone()
    }

    /// Stops the tasks as a node does, and waits for their end.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn record(&self, call: ToolCall) -> MutexGuard<'_, ToolScript> {
        self.calls.lock().unwrap().push(call);
        self.script.lock().unwrap()
    }
}

/// A reply without headers.
pub(crate) fn reply(status: u16, body: &str) -> HttpReply {
    let status = StatusCode::from_u16(status).unwrap();
    HttpReply { status, headers: HeaderMap::new(), body: body.to_owned().into() }
}

impl Outbound for FakeTools {
    fn http(&self, call: HttpCall) -> BoxFuture<'static, Result<HttpReply, OutboundError>> {
        let answer = self.record(ToolCall::Http(call)).http.pop_front();
        Box::pin(future::ready(answer.unwrap_or_else(|| Ok(reply(200, "")))))
    }

    fn tcp(&self, send: TcpSend) -> BoxFuture<'static, Result<(), OutboundError>> {
        Box::pin(future::ready(self.record(ToolCall::Tcp(send)).sends.pop_front().unwrap_or(Ok(()))))
    }

    fn udp(&self, send: UdpSend) -> BoxFuture<'static, Result<(), OutboundError>> {
        Box::pin(future::ready(self.record(ToolCall::Udp(send)).sends.pop_front().unwrap_or(Ok(()))))
    }
}

impl Deposits for FakeTools {
    fn insert(&self, kind: Kind, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        let answer = self.record(ToolCall::Insert(kind, doc.clone())).deposits.pop_front();
        Box::pin(future::ready(answer.unwrap_or(Ok(doc))))
    }

    fn replace(&self, kind: Kind, id: Uuid, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        let answer = self.record(ToolCall::Replace(kind, id, doc.clone())).deposits.pop_front();
        Box::pin(future::ready(answer.unwrap_or(Ok(doc))))
    }

    fn delete(&self, kind: Kind, id: Uuid) -> BoxFuture<'static, Result<bool, DepositError>> {
        let answer = self.record(ToolCall::Delete(kind, id)).deposits.pop_front();
        Box::pin(future::ready(answer.unwrap_or(Ok(Doc::new())).map(|_| true)))
    }
}

impl Tasks for FakeTools {
    fn spawn(&self, _: &'static str, task: BackgroundTask) -> Result<(), TasksEnded> {
        if self.stop.is_cancelled() {
            return Err(TasksEnded);
        }
        self.tasks.spawn(task(self.stop.clone()));
        Ok(())
    }
}

#[tokio::test]
async fn calls_are_answered_from_the_script_and_recorded() {
    use futures_util::FutureExt;

    use crate::plugin::tools::outbound::Peer;

    let script = ToolScript { http: [Ok(reply(503, "away"))].into(), ..ToolScript::default() };
    let fake = FakeTools::new(script);
    let (tools, call) = (fake.tools(), HttpCall::post(Peer::plain("h.test", 80), "/log", "{}"));
    let answers = [(); 2].map(|()| tools.outbound.http(call.clone()).now_or_never().unwrap().unwrap());
    assert_eq!(answers, [reply(503, "away"), reply(200, "")]);
    let doc = Doc::from_iter([("username".to_owned(), "bob".into())]);
    let id = Uuid::from_u128(7);
    assert_eq!(tools.deposits.insert(Kind::CONSUMERS, doc.clone()).await, Ok(doc.clone()));
    assert_eq!(tools.deposits.replace(Kind::CONSUMERS, id, doc.clone()).await, Ok(doc.clone()));
    assert_eq!(tools.deposits.delete(Kind::CONSUMERS, id).await, Ok(true));
    let expected = [
        ToolCall::Http(call.clone()),
        ToolCall::Http(call),
        ToolCall::Insert(Kind::CONSUMERS, doc.clone()),
        ToolCall::Replace(Kind::CONSUMERS, id, doc),
        ToolCall::Delete(Kind::CONSUMERS, id),
    ];
    assert_eq!(fake.calls(), expected);
}
