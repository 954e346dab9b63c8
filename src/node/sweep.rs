//! Deletes entities whose `ttl` is over. They stopped counting when it ended; this only tidies up behind.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::entity::Kind;
use crate::entity::write::expired;
use crate::node::stores::now_s;
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

/// Answers how many entities went.
async fn sweep(ledger: &Arc<Ledger>, now_s: i64) -> Result<usize, WriteError> {
    let (candidates, looked_at) = (ledger.clone(), move |ledger: &Ledger| over(ledger, now_s));
    let found = tokio::task::spawn_blocking(move || looked_at(&candidates)).await.unwrap_or_default();
    if found.is_empty() {
        return Ok(0);
    }
    // A draft of the distant past sees what is over now, and can delete it.
    let (swept, _) = ledger
        .write(0, |draft| {
            let mut swept = 0;
            for (kind, id) in found {
                let over = draft.get(kind, id).is_some_and(|entity| expired(kind, &entity.doc(), now_s));
                if over && draft.delete(kind, id)? {
                    swept += 1;
                }
            }
            Ok(swept)
        })
        .await?;
    Ok(swept)
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
