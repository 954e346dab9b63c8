//! What the node gives to plugins: calls to other machines, writes of entities, and background tasks, all on the node's
//! main runtime.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::entity::declare::Plugins;
use crate::entity::write::{Intent, prepare, present};
use crate::entity::{Doc, Kind};
use crate::node::outbound::NodeOutbound;
use crate::node::stores::now_s;
use crate::plugin::tools::Tools;
use crate::plugin::tools::deposits::{DepositError, Deposits};
use crate::plugin::tools::tasks::{BackgroundTask, Tasks, TasksEnded};
use crate::snapshot::Live;
use crate::store::ledger::{Ledger, WriteError};

/// The tools of this node. Tasks end with `stop` and are counted by `tracker`. To be called on the main runtime.
pub fn of_node(
    outbound: NodeOutbound,
    deposits: LedgerDeposits,
    stop: CancellationToken,
    tracker: TaskTracker,
) -> Tools {
    let tasks = NodeTasks { runtime: Handle::current(), stop, tracker };
    Tools { outbound: Arc::new(outbound), deposits: Arc::new(deposits), tasks: Arc::new(tasks) }
}

/// Starts tasks that end with the node.
struct NodeTasks {
    runtime: Handle,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks for NodeTasks {
    fn spawn(&self, name: &'static str, task: BackgroundTask) -> Result<(), TasksEnded> {
        if self.stop.is_cancelled() {
            return Err(TasksEnded);
        }
        let task = task(self.stop.clone());
        let named = async move {
            let ended = std::panic::AssertUnwindSafe(task).catch_unwind().await;
            if ended.is_err() {
                tracing::error!(task = name, "a background task of a plugin ended by a panic");
            }
        };
        self.tracker.spawn_on(named, &self.runtime);
        Ok(())
    }
}

/// Writes entities through the ledger.
pub struct LedgerDeposits {
    runtime: Handle,
    shared: Arc<Depositing>,
}

struct Depositing {
    ledger: Arc<Ledger>,
    live: Arc<Live>,
    plugins: Plugins,
}

impl LedgerDeposits {
    /// Writes on the current runtime. The ledger bounds how many writes wait for their turn, and how long.
    pub fn new(ledger: Arc<Ledger>, live: Arc<Live>, plugins: Plugins) -> Self {
        Self { runtime: Handle::current(), shared: Arc::new(Depositing { ledger, live, plugins }) }
    }

    /// Runs a write on the main runtime. The write goes on when whoever asked for it does not wait any longer.
    fn write<T: Send + 'static>(
        &self,
        write: impl Future<Output = Result<T, DepositError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, DepositError>> {
        let written = self.runtime.spawn(write);
        Box::pin(async move { written.await.unwrap_or_else(|error| Err(DepositError::Unavailable(error.to_string()))) })
    }

    fn put(&self, kind: Kind, id: Option<Uuid>, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        let shared = self.shared.clone();
        self.write(async move { shared.put(kind, id, doc).await })
    }
}

impl Deposits for LedgerDeposits {
    fn insert(&self, kind: Kind, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        self.put(kind, None, doc)
    }

    fn replace(&self, kind: Kind, id: Uuid, doc: Doc) -> BoxFuture<'static, Result<Doc, DepositError>> {
        self.put(kind, Some(id), doc)
    }

    fn delete(&self, kind: Kind, id: Uuid) -> BoxFuture<'static, Result<bool, DepositError>> {
        let shared = self.shared.clone();
        self.write(async move {
            let written = shared.ledger.write(now_s(), |draft| draft.delete(kind, id)).await;
            let (deleted, revision) = written.map_err(refused)?;
            shared.live.reached(revision).await;
            Ok(deleted)
        })
    }
}

impl Depositing {
    /// Inserts, or with an id creates or replaces.
    async fn put(&self, kind: Kind, id: Option<Uuid>, doc: Doc) -> Result<Doc, DepositError> {
        let now_s = now_s();
        let written = self.ledger.write(now_s, |draft| {
            let intent = if id.is_some() { Intent::Replace { id } } else { Intent::Insert };
            let checked = prepare(kind, doc, intent, draft, &self.plugins, now_s)?;
            if id.is_some() { draft.put(checked) } else { draft.insert(checked) }
        });
        let (entity, revision) = written.await.map_err(refused)?;
        self.live.reached(revision).await;
        Ok(present(kind, entity.doc(), &self.plugins, now_s))
    }
}

fn refused(error: WriteError) -> DepositError {
    match error {
        WriteError::Rejected(rejection) => DepositError::Rejected(rejection),
        WriteError::Store(error) => DepositError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entity::problem::Rejection;
    use crate::plugin;
    use crate::store::Store;
    use crate::store::declarative::Declarative;
    use crate::store::embedded::Embedded;

    struct Bench {
        tools: Tools,
        stop: CancellationToken,
        tracker: TaskTracker,
        _folder: tempfile::TempDir,
    }

    async fn bench(writable: bool) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = if writable {
            Arc::new(Embedded::open(folder.path(), "node").unwrap())
        } else {
            Arc::new(Declarative::open(folder.path(), None).0)
        };
        let contents = store.load().await.unwrap_or_default();
        let ledger = Arc::new(Ledger::new(store, contents));
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        let outbound = NodeOutbound::new(Vec::new());
        let deposits = LedgerDeposits::new(ledger, Arc::default(), plugin::declarations());
        let tools = of_node(outbound, deposits, stop.clone(), tracker.clone());
        Bench { tools, stop, tracker, _folder: folder }
    }

    fn doc(value: serde_json::Value) -> Doc {
        value.as_object().unwrap().clone()
    }

    #[tokio::test]
    async fn entities_are_written_with_the_checks_of_the_admin_api() {
        let bench = bench(true).await;
        let deposits = &bench.tools.deposits;
        let bob = deposits.insert(Kind::CONSUMERS, doc(json!({"username": "bob"}))).await.unwrap();
        assert_eq!((&bob["username"], &bob["custom_id"]), (&json!("bob"), &json!(null)));
        let taken = deposits.insert(Kind::CONSUMERS, doc(json!({"username": "bob"}))).await;
        assert!(matches!(taken, Err(DepositError::Rejected(Rejection::UniqueTaken { .. }))), "{taken:?}");
        let wrong = deposits.insert(Kind::CONSUMERS, doc(json!({"username": 7}))).await.unwrap_err();
        assert_eq!(wrong.to_string(), "the entity was refused: schema violation (username: expected a string)");
        let id: Uuid = bob["id"].as_str().unwrap().parse().unwrap();
        let renamed = deposits.replace(Kind::CONSUMERS, id, doc(json!({"username": "bill"}))).await.unwrap();
        assert_eq!((&renamed["username"], &renamed["id"]), (&json!("bill"), &bob["id"]));
        assert_eq!(deposits.delete(Kind::CONSUMERS, id).await, Ok(true));
        assert_eq!(deposits.delete(Kind::CONSUMERS, id).await, Ok(false));
    }

    #[tokio::test]
    async fn a_configuration_from_a_file_is_not_written_to() {
        let bench = bench(false).await;
        let refused = bench.tools.deposits.insert(Kind::CONSUMERS, doc(json!({"username": "bob"}))).await;
        assert!(matches!(refused, Err(DepositError::Unavailable(_))), "{refused:?}");
    }

    #[tokio::test]
    async fn a_write_goes_on_when_nobody_waits_for_it() {
        let bench = bench(true).await;
        let id = Uuid::from_u128(5);
        drop(bench.tools.deposits.replace(Kind::CONSUMERS, id, doc(json!({"username": "bob"}))));
        while bench.tools.deposits.delete(Kind::CONSUMERS, id).await != Ok(true) {}
    }

    #[tokio::test]
    async fn tasks_run_until_the_node_stops_and_a_panic_ends_one_of_them() {
        let bench = bench(true).await;
        let tasks = &bench.tools.tasks;
        let (tell, told) = tokio::sync::oneshot::channel();
        let patient = move |stop: CancellationToken| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                stop.cancelled().await;
                let _ = tell.send(());
            })
        };
        tasks.spawn("patient", Box::new(patient)).unwrap();
        tasks.spawn("broken", Box::new(|_| Box::pin(async { panic!("a test") }))).unwrap();
        bench.stop.cancel();
        bench.tracker.close();
        bench.tracker.wait().await;
        told.await.unwrap();
        assert_eq!(tasks.spawn("late", Box::new(|_| Box::pin(async {}))), Err(TasksEnded));
    }
}
