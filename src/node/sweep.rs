//! Deletes entities whose `ttl` is over. They stopped counting when it ended; this only tidies up behind.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::entity::Kind;
use crate::entity::write::expired;
use crate::node::stores::now_s;
use crate::pace;
use crate::store::ledger::{Ledger, WriteError};

const PAUSE: Duration = Duration::from_secs(300);
/// Deleted in one transaction at most; the next sweep takes the rest.
const BATCH_MAX: usize = 1_000;

/// Sweeps now and then, until `stop`.
pub async fn run(ledger: Arc<Ledger>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        match sweep(&ledger, now_s()).await {
            Ok(0) => {}
            Ok(swept) => tracing::info!(swept, "deleted credentials whose time was over"),
            // The store is away or busy: there is a next time.
            Err(error) => tracing::debug!(?error, "did not sweep"),
        }
    }
}

/// Answers how many entities went. Looks for them off the runtime and outside of the transaction.
async fn sweep(ledger: &Arc<Ledger>, now_s: i64) -> Result<usize, WriteError> {
    let looked_at = ledger.clone();
    let found = pace::aside(move || over(&looked_at, now_s)).await.unwrap_or_default();
    if found.is_empty() {
        return Ok(0);
    }
    ledger.write(now_s, |draft| Ok(draft.sweep(&found))).await.map(|(swept, _)| swept)
}

fn over(ledger: &Ledger, now_s: i64) -> Vec<(Kind, Uuid)> {
    let kinds = Kind::all().iter().copied().filter(|kind| kind.ttl);
    let entities: Vec<_> = ledger.read(|catalog| kinds.flat_map(|kind| catalog.all(kind)).cloned().collect());
    entities
        .iter()
        .filter(|entity| expired(entity.kind(), &entity.doc(), now_s))
        .map(|entity| (entity.kind(), entity.id()))
        .take(BATCH_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Entity;
    use crate::store::Store;
    use crate::store::embedded::Embedded;

    const NOW_S: i64 = 1_000;

    fn key(number: u8, expires_at: i64) -> Arc<Entity> {
        let id = Uuid::from_u128(number.into());
        let text = format!(r#"{{"id":"{id}","key":"{number}","ttl":9,"created_at":1,"expires_at":{expires_at}}}"#);
        Arc::new(Entity::from_text(Kind::KEYAUTH_CREDENTIALS, &text).unwrap())
    }

    #[tokio::test]
    async fn what_is_over_goes_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path(), "node").unwrap();
        let contents = store.load().await.unwrap();
        let ledger = Arc::new(Ledger::new(Arc::new(store), contents));
        ledger.replace_all(vec![key(1, NOW_S - 1), key(2, NOW_S + 60)]).await.unwrap();
        assert_eq!(sweep(&ledger, NOW_S).await.unwrap(), 1);
        assert_eq!(sweep(&ledger, NOW_S).await.unwrap(), 0);
        let (left, _) = ledger.entities();
        assert_eq!(left.iter().map(|entity| entity.id().as_u128()).collect::<Vec<_>>(), [2]);
    }
}
