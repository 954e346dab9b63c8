//! Keeps the local snapshot under `prefix` near what the catalog holds, so that the next start needs no store.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::Revision;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pace;
use crate::store::ledger::Ledger;
use crate::store::local::Local;

/// The share of time spent writing, at most: one part in so many.
const REST: u32 = 20;
/// The longest that a change waits for its turn. A node that is killed before that starts without the change, should
/// its store be away as well.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Writes a change at once after a quiet time, else after a rest that grows with what a write takes; and a last time at
/// `stop`.
pub async fn run(ledger: Arc<Ledger>, local: Local, stop: CancellationToken) {
    let mut revisions = ledger.revisions();
    let mut kept = None;
    loop {
        let begun = Instant::now();
        kept = write(&ledger, &local, kept).await;
        let rested = Instant::now() + (begun.elapsed() * REST).min(PAUSE_MAX);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = revisions.changed() => if changed.is_err() { break },
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(rested) => {}
        }
        revisions.borrow_and_update();
    }
    write(&ledger, &local, kept).await;
}

/// Answers the revision on the disk. A write that fails is logged and tried again with the next change.
async fn write(ledger: &Arc<Ledger>, local: &Local, kept: Option<Revision>) -> Option<Revision> {
    let (ledger, local) = (ledger.clone(), local.clone());
    let save = move || {
        let contents = ledger.contents();
        // Nothing at all yet: the files that may be there say more.
        if Some(contents.revision) == kept || contents.revision == Revision::default() {
            return Ok(kept);
        }
        local.keep(&contents).map(|()| Some(contents.revision))
    };
    match pace::aside(save).await {
        Ok(Ok(revision)) => revision,
        Ok(Err(error)) => {
            tracing::error!(%error, "the local snapshot was not written");
            kept
        }
        Err(error) => {
            tracing::error!(%error, "the local snapshot was not written");
            kept
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::declarative::Declarative;
    use crate::store::{Contents, Missed};

    fn contents(number: u64) -> Contents {
        Contents { revision: Revision::new(1, number), ..Contents::default() }
    }

    #[tokio::test]
    async fn the_last_revision_is_on_the_disk_when_the_node_stops() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::new(folder.path(), "test", "here");
        let ledger = Arc::new(Ledger::new(Arc::new(Declarative::open(folder.path(), None).0), contents(1)));
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(ledger.clone(), local.clone(), stop.clone()));
        ledger.take(Missed::Everything(contents(2)));
        stop.cancel();
        task.await.unwrap();
        assert_eq!(local.load().contents.unwrap().revision, Revision::new(1, 2));
    }

    #[tokio::test]
    async fn nothing_never_replaces_something() {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::new(folder.path(), "test", "here");
        local.save(Revision::new(1, 9), &[]).unwrap();
        let ledger = Arc::new(Ledger::new(Arc::new(Declarative::open(folder.path(), None).0), Contents::default()));
        assert_eq!(write(&ledger, &local, None).await, None);
        assert_eq!(local.load().contents.unwrap().revision, Revision::new(1, 9));
    }
}
