//! Follows the store: what other nodes committed, and whether it is there at all.
//!
//! Polls, because a hint that may be lost (NOTIFY) needs the poll beside it anyway; a node that asks often asks at once
//! when it gets one. While the store is away the
//! node serves what it has, and the log says so once; when it is back, once more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::store::StoreError;
use crate::store::ledger::Ledger;

/// The pauses between two questions to a store that does not answer: the first, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One node's view of its store.
pub struct Follow {
    pub ledger: Arc<Ledger>,
    /// Pause between two questions; most nodes of a cluster need not ask often. All ask when the store comes back.
    pub poll: watch::Receiver<Duration>,
    /// Told of the first answer: `Ok` when the catalog now is the store's, else why the node must not run.
    pub first: Option<oneshot::Sender<Result<(), String>>>,
}

impl Follow {
    /// Asks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pause;
        let mut backoff = (*self.poll.borrow()).min(PAUSE_MIN);
        let mut away = false;
        loop {
            match self.ledger.catch_up().await {
                Ok(_) => {
                    if std::mem::take(&mut away) {
                        tracing::info!("the database answers again");
                    }
                    pause = *self.poll.borrow_and_update();
                    backoff = pause.min(PAUSE_MIN);
                    self.tell_first(Ok(()));
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        self.lost(&error);
                    }
                    pause = backoff;
                    backoff = (backoff * 2).min(PAUSE_MAX);
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.poll.changed(), if !away => {}
                () = self.ledger.hinted(), if !away && pause <= PAUSE_MAX => {}
            }
        }
    }

    /// A schema that does not fit ends the start. Found later, when a database comes back changed, it is only logged:
    /// a node that serves goes on serving.
    fn lost(&mut self, error: &StoreError) {
        match error {
            StoreError::Schema(why) if self.first.is_some() => self.tell_first(Err(why.clone())),
            StoreError::Schema(why) => tracing::error!("{why}; serving what this node has"),
            StoreError::Unavailable(why) | StoreError::Unknown(why) | StoreError::Broken(why) => {
                tracing::error!("the database is away, serving what this node has: {why}");
            }
            StoreError::ReadOnly => tracing::error!("the database cannot be followed: {error}"),
        }
    }

    fn tell_first(&mut self, answer: Result<(), String>) {
        if let Some(first) = self.first.take() {
            let _ = first.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;
    use tidegate_proto::Revision;

    use super::*;
    use crate::store::{Contents, Missed, Store, Transaction};

    const POLL: Duration = Duration::from_millis(1);

    /// Answers what was put in, one after the other, and then that nothing is new.
    struct Script(Mutex<VecDeque<Result<Missed, StoreError>>>);

    impl Store for Script {
        fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
            Box::pin(async { Ok(Contents::default()) })
        }

        fn begin(&self, _: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
            Box::pin(async { Err(StoreError::ReadOnly) })
        }

        fn since(&self, seen: Revision) -> BoxFuture<'_, Result<Missed, StoreError>> {
            let next = self.0.lock().unwrap().pop_front();
            Box::pin(async move { next.unwrap_or(Ok(Missed::Changes { changes: Vec::new(), revision: seen })) })
        }

        fn name(&self) -> &'static str {
            "postgres"
        }
    }

    /// Follows a store that answers `script`; answers the ledger and what was told of the first contact.
    fn follow(script: Vec<Result<Missed, StoreError>>) -> (Arc<Ledger>, oneshot::Receiver<Result<(), String>>) {
        let ledger = Arc::new(Ledger::new(Arc::new(Script(Mutex::new(script.into()))), Contents::default()));
        let (tell, told) = oneshot::channel();
        let follow = Follow { ledger: ledger.clone(), poll: watch::channel(POLL).1, first: Some(tell) };
        tokio::spawn(follow.run(CancellationToken::new()));
        (ledger, told)
    }

    fn everything(number: u64) -> Result<Missed, StoreError> {
        Ok(Missed::Everything(Contents { revision: Revision::new(1, number), ..Contents::default() }))
    }

    fn away() -> Result<Missed, StoreError> {
        Err(StoreError::Unavailable("connection refused".to_owned()))
    }

    #[tokio::test]
    async fn an_absent_database_is_asked_again_until_it_answers() {
        let (ledger, told) = follow(vec![away(), away(), everything(7)]);
        assert_eq!(told.await, Ok(Ok(())));
        assert_eq!(*ledger.revisions().borrow(), Revision::new(1, 7));
    }

    #[tokio::test]
    async fn a_schema_that_does_not_fit_refuses_the_start() {
        let (_, told) = follow(vec![Err(StoreError::Schema("run `tidegate migrations up`".to_owned()))]);
        assert_eq!(told.await, Ok(Err("run `tidegate migrations up`".to_owned())));
    }

    #[tokio::test]
    async fn what_others_write_arrives() {
        let (ledger, told) = follow(vec![everything(1), everything(2)]);
        assert_eq!(told.await, Ok(Ok(())));
        let mut revisions = ledger.revisions();
        revisions.wait_for(|revision| revision.number == 2).await.unwrap();
    }
}
