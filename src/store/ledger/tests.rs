//! The ledger against a store that does what it is told, under tokio's paused clock.
#![allow(clippy::unwrap_used)]

mod convergence;

use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize;

use futures_util::future::{BoxFuture, pending};
use serde_json::json;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::entity::Doc;
use crate::entity::write::Checked;

/// A store in memory.
#[derive(Clone, Default)]
struct Scripted(Arc<Script>);

#[derive(Default)]
struct Script {
    log: StdMutex<Vec<Vec<Change>>>,
    conduct: StdMutex<Conduct>,
    /// Lets a slow step go on.
    go: Notify,
    commits: AtomicUsize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Conduct {
    #[default]
    Answer,
    HangAtBegin,
    /// The commit waits for `go`.
    SlowCommit,
    /// The commit happens, but nobody hears of it.
    SilentCommit,
    /// The answer to `since` is of the moment it was asked, and waits for `go`.
    SlowSince,
    Refuse,
}

impl Scripted {
    fn conduct(&self, conduct: Conduct) -> Conduct {
        std::mem::replace(&mut *self.0.conduct.lock().unwrap(), conduct)
    }

    fn now(&self) -> Conduct {
        *self.0.conduct.lock().unwrap()
    }

    fn revision(&self) -> Revision {
        Revision::new(1, self.0.log.lock().unwrap().len() as u64)
    }

    fn after(&self, seen: Revision) -> Missed {
        let log = self.0.log.lock().unwrap();
        let from = if seen == Revision::default() { 0 } else { seen.number as usize };
        Missed::Changes { changes: log[from..].concat(), revision: Revision::new(1, log.len() as u64) }
    }
}

impl Store for Scripted {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        unreachable!("the ledger never loads")
    }

    fn begin(&self, seen: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async move {
            match self.now() {
                Conduct::HangAtBegin => pending().await,
                Conduct::Refuse => Err(StoreError::Unavailable("away".into())),
                _ => Ok(Box::new(Open(self.clone(), self.after(seen))) as Box<dyn Transaction>),
            }
        })
    }

    fn since(&self, seen: Revision) -> BoxFuture<'_, Result<Missed, StoreError>> {
        let (missed, conduct) = (self.after(seen), self.now());
        Box::pin(async move {
            match conduct {
                Conduct::SlowSince => self.0.go.notified().await,
                Conduct::Refuse => return Err(StoreError::Unavailable("away".into())),
                _ => {}
            }
            Ok(missed)
        })
    }

    fn name(&self) -> &'static str {
        "scripted"
    }
}

struct Open(Scripted, Missed);

impl Transaction for Open {
    fn missed(&mut self) -> Missed {
        std::mem::replace(&mut self.1, Missed::Everything(Contents::default()))
    }

    fn commit(self: Box<Self>, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        Box::pin(async move {
            let store = self.0;
            store.0.commits.fetch_add(1, Ordering::SeqCst);
            if store.now() == Conduct::SlowCommit {
                store.0.go.notified().await;
            }
            store.0.log.lock().unwrap().push(changes);
            if store.now() == Conduct::SilentCommit {
                pending::<()>().await;
            }
            Ok(store.revision())
        })
    }
}

fn ledger() -> (Arc<Ledger>, Scripted) {
    let store = Scripted::default();
    (Arc::new(Ledger::new(Arc::new(store.clone()), Contents::default())), store)
}

fn consumer(number: u128) -> Checked {
    let id = Uuid::from_u128(number);
    let doc = Doc::from_iter([("id".to_owned(), json!(id)), ("username".to_owned(), json!(number.to_string()))]);
    Checked::trusted(Entity::from_doc(Kind::CONSUMERS, &doc).unwrap())
}

async fn add(ledger: &Ledger, number: u128) -> Result<Revision, WriteError> {
    ledger.write(0, |draft| draft.insert(consumer(number))).await.map(|(_, revision)| revision)
}

fn numbers(ledger: &Ledger) -> Vec<u128> {
    ledger.entities().0.iter().map(|entity| entity.id().as_u128()).collect()
}

/// Waits for something that another task is about to do.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_write_is_announced_once_it_can_be_read() {
    let (ledger, _) = ledger();
    let mut announced = ledger.revisions();
    assert_eq!(add(&ledger, 1).await.unwrap(), Revision::new(1, 1));
    assert_eq!(*announced.borrow_and_update(), Revision::new(1, 1));
    assert_eq!(numbers(&ledger), [1]);
}

#[tokio::test]
async fn what_is_refused_or_changes_nothing_is_not_committed() {
    let (ledger, store) = ledger();
    add(&ledger, 1).await.unwrap();
    assert!(matches!(add(&ledger, 1).await, Err(WriteError::Rejected(Rejection::UniqueTaken { .. }))));
    let (deleted, revision) = ledger.write(0, |draft| draft.delete(Kind::CONSUMERS, Uuid::from_u128(9))).await.unwrap();
    assert_eq!((deleted, revision), (false, Revision::new(1, 1)));
    assert_eq!(store.0.commits.load(Ordering::SeqCst), 1);
    assert!(ledger.reachable());
}

#[tokio::test]
async fn a_write_is_decided_on_what_others_committed() {
    let (ledger, store) = ledger();
    add(&ledger, 1).await.unwrap();
    let other = Ledger::new(Arc::new(store), Contents::default());
    assert!(matches!(add(&other, 1).await, Err(WriteError::Rejected(Rejection::UniqueTaken { .. }))));
    assert_eq!(numbers(&other), [1]);
    add(&other, 2).await.unwrap();
    assert!(ledger.catch_up().await.unwrap() && !ledger.catch_up().await.unwrap());
    assert_eq!(numbers(&ledger), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_within_two_seconds() {
    let (ledger, store) = ledger();
    for conduct in [Conduct::HangAtBegin, Conduct::SlowCommit] {
        store.conduct(conduct);
        let asked = Instant::now();
        let error = add(&ledger, 1).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_secs(2), "{conduct:?}");
        match (conduct, error) {
            (Conduct::HangAtBegin, WriteError::Store(StoreError::Unavailable(_))) => {}
            (Conduct::SlowCommit, WriteError::Store(StoreError::Unknown(_))) => {}
            (conduct, error) => panic!("{conduct:?}: {error:?}"),
        }
        assert!(!ledger.reachable());
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_nobody_heard_of_shows_at_the_next_write() {
    let (ledger, store) = ledger();
    store.conduct(Conduct::SilentCommit);
    assert!(matches!(add(&ledger, 1).await, Err(WriteError::Store(StoreError::Unknown(_)))));
    assert_eq!(numbers(&ledger), [0; 0]);
    store.conduct(Conduct::Answer);
    // Its connection is still waited for.
    assert!(matches!(add(&ledger, 2).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
    tokio::time::sleep(COMMIT_LIMIT).await;
    assert!(matches!(add(&ledger, 1).await, Err(WriteError::Rejected(Rejection::UniqueTaken { .. }))));
    assert_eq!(add(&ledger, 2).await.unwrap(), Revision::new(1, 2));
    assert_eq!(numbers(&ledger), [1, 2]);
    assert!(ledger.reachable());
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_undo_its_commit() {
    let (ledger, store) = ledger();
    store.conduct(Conduct::SlowCommit);
    let client = tokio::spawn({
        let ledger = ledger.clone();
        async move { add(&ledger, 1).await }
    });
    until(|| store.0.commits.load(Ordering::SeqCst) == 1).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    store.0.go.notify_one();
    until(|| numbers(&ledger) == [1]).await;
    store.conduct(Conduct::Answer);
    assert_eq!(add(&ledger, 2).await.unwrap(), Revision::new(1, 2));
}

#[tokio::test(start_paused = true)]
async fn more_waiting_writers_than_allowed_are_refused_at_once() {
    let (ledger, store) = ledger();
    store.conduct(Conduct::HangAtBegin);
    let waiting: Vec<_> = (0..WAITING_MAX as u128)
        .map(|number| {
            let ledger = ledger.clone();
            tokio::spawn(async move { add(&ledger, number).await })
        })
        .collect();
    until(|| ledger.waiting.available_permits() == 0).await;
    let asked = Instant::now();
    assert!(matches!(add(&ledger, 999).await, Err(WriteError::Store(StoreError::Unavailable(_)))));
    assert_eq!(asked.elapsed(), Duration::ZERO);
    for writer in waiting {
        assert!(writer.await.unwrap().is_err(), "the first took everybody's time");
    }
    assert!(asked.elapsed() < Duration::from_secs(2));
    store.conduct(Conduct::Answer);
    add(&ledger, 1).await.unwrap();
}

#[tokio::test]
async fn a_late_answer_reverts_nothing() {
    let (ledger, store) = ledger();
    add(&ledger, 1).await.unwrap();
    let other = Ledger::new(Arc::new(store.clone()), Contents::default());
    add(&other, 2).await.unwrap();
    store.conduct(Conduct::SlowSince);
    let asking = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.catch_up().await }
    });
    tokio::task::yield_now().await;
    store.conduct(Conduct::Answer);
    ledger.write(0, |draft| draft.delete(Kind::CONSUMERS, Uuid::from_u128(2))).await.unwrap();
    store.0.go.notify_one();
    assert!(!asking.await.unwrap().unwrap());
    assert_eq!(numbers(&ledger), [1]);
}

#[tokio::test]
async fn only_what_is_newer_is_taken_from_others() {
    let (ledger, _) = ledger();
    add(&ledger, 1).await.unwrap();
    add(&ledger, 2).await.unwrap();
    let state = |number| Contents { revision: number, ..Contents::default() };
    ledger.take(Missed::Everything(state(Revision::new(1, 1))));
    ledger.take(Missed::Changes { changes: Vec::new(), revision: Revision::new(1, 2) });
    assert_eq!(numbers(&ledger), [1, 2]);
    let entity = Some(consumer(3).into_entity());
    let changes = vec![Change { kind: Kind::CONSUMERS, id: Uuid::from_u128(3), entity }];
    ledger.take(Missed::Changes { changes, revision: Revision::new(1, 3) });
    assert_eq!(numbers(&ledger), [1, 2, 3]);
    ledger.take(Missed::Everything(state(Revision::new(2, 0))));
    assert_eq!(ledger.entities(), (Vec::new(), Revision::new(2, 0)));
}

#[tokio::test]
async fn an_outage_is_noticed_by_whoever_asks_and_over_when_it_answers() {
    let (ledger, store) = ledger();
    store.conduct(Conduct::Refuse);
    assert!(ledger.catch_up().await.is_err() && !ledger.reachable());
    store.conduct(Conduct::Answer);
    assert!(ledger.catch_up().await.is_ok() && ledger.reachable());
    store.conduct(Conduct::Refuse);
    assert!(add(&ledger, 1).await.is_err() && !ledger.reachable());
    store.conduct(Conduct::Answer);
    assert!(add(&ledger, 1).await.is_ok() && ledger.reachable());
}
