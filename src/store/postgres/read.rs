//! Reading transactions: everything, or what came after a revision, as of one moment.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::try_join5;
use tidegate_proto::Revision;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::entity::{Change, Entity};
use crate::store::postgres::connect::Held;
use crate::store::postgres::fault::{Fault, within};
use crate::store::postgres::rows::{change, entity};
use crate::store::{Contents, Missed};

const READING: &str = "ISOLATION LEVEL REPEATABLE READ READ ONLY";

const LOGGED_FIRST: &str = "SELECT min(number) FROM changes";

const LOGGED: &str = "SELECT kind, id, doc::text FROM changes WHERE number > $1 ORDER BY ordinal LIMIT $2";

const MARKS: &str = "SELECT number, mark FROM marks WHERE number = $1 OR number = (SELECT number FROM revision)";

/// Changes that are taken from the log at once. Whoever lacks more takes everything, row by row.
const CHANGES_MAX: usize = 10_000;

/// What a reader is told.
pub enum Since {
    Missed(Missed),
    /// The database is behind what was seen, or went another way since.
    Forked,
}

/// The revision of the moment and what the log has after another one.
pub struct News {
    pub revision: Revision,
    pub changes: Vec<Change>,
    /// Whether the log reaches back to what was seen, in the same epoch.
    reaches_back: bool,
    /// Whether this is another history than the one that was seen.
    pub forked: bool,
    mark: Option<Uuid>,
}

impl News {
    /// What the reader lacks; everything is read in the running transaction when the log does not do.
    pub async fn missed(self, held: &Held) -> Result<Missed, Fault> {
        if let Some(mark) = self.mark {
            held.connector.marks.remember(self.revision, mark);
        }
        if self.reaches_back {
            return Ok(Missed::Changes { changes: self.changes, revision: self.revision });
        }
        Ok(Missed::Everything(Contents {
            revision: self.revision,
            entities: entities(held).await?,
            ..Contents::default()
        }))
    }
}

pub async fn load(held: Held) -> Result<Contents, Fault> {
    match since(held, Revision::default()).await? {
        Since::Missed(Missed::Everything(contents)) => Ok(contents),
        Since::Missed(Missed::Changes { .. }) | Since::Forked => Err(Fault::broken("the database has no epoch")),
    }
}

pub async fn since(held: Held, seen: Revision) -> Result<Since, Fault> {
    let prelude = held.connector.prelude(READING);
    let news = within(held.timeout() * 2, news(&held, &prelude, "", seen)).await?;
    if news.forked {
        return Ok(Since::Forked);
    }
    let missed = news.missed(&held).await?;
    within(held.timeout(), held.connection.client.batch_execute("COMMIT")).await?;
    held.give_back();
    Ok(Since::Missed(missed))
}

/// Begins a transaction and asks for the revision and the log after `seen`, in one trip. `lock` goes behind the
/// query for the revision, whose answer the others are then as new as.
pub async fn news(held: &Held, prelude: &str, lock: &str, seen: Revision) -> Result<News, tokio_postgres::Error> {
    let client = &held.connection.client;
    // In the log of another epoch, or of none, there is nothing to look for.
    let after = i64::try_from(seen.number).ok().filter(|_| seen != Revision::default()).unwrap_or(i64::MAX);
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&after, Type::INT8), (&(CHANGES_MAX as i64 + 1), Type::INT8)];
    let revision = format!("SELECT epoch, number FROM revision {lock}");
    // Polled in this order, so sent in this order.
    let ((), revision, first, logged, marks) = try_join5(
        client.batch_execute(prelude),
        client.query_typed_one(&revision, &[]),
        client.query_typed_one(LOGGED_FIRST, &[]),
        client.query_typed(LOGGED, &parameters),
        client.query_typed(MARKS, &parameters[..1]),
    )
    .await?;
    let revision = Revision::new(unsigned(&revision, 0)?, unsigned(&revision, 1)?);
    // The oldest number may have lost its first changes to the bound of the log.
    let first = first.try_get::<_, Option<i64>>(0)?.map(i64::unsigned_abs);
    let reaches_back = seen.epoch == revision.epoch
        && logged.len() <= CHANGES_MAX
        && (seen.number == revision.number || first.is_some_and(|first| seen.number >= first));
    let mut changes = Vec::with_capacity(logged.len());
    for row in &logged {
        changes.extend(change(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    let (mut mark, mut mark_of_seen) = (None, None);
    for row in &marks {
        let (number, found) = (unsigned(row, 0)?, row.try_get(1)?);
        mark = mark.or((number == revision.number).then_some(found));
        mark_of_seen = mark_of_seen.or((number == seen.number).then_some(found));
    }
    let other_mark = held.connector.marks.of(seen).zip(mark_of_seen).is_some_and(|(known, found)| known != found);
    let forked = revision < seen || seen.epoch == revision.epoch && other_mark;
    Ok(News { revision, changes, reaches_back, forked, mark })
}

/// All rows, however long they take in all, as long as they keep coming.
async fn entities(held: &Held) -> Result<Vec<Arc<Entity>>, Fault> {
    let query = "SELECT kind, id, doc::text FROM entities";
    let parameters: [(&(dyn ToSql + Sync), Type); 0] = [];
    let rows = within(held.timeout(), held.connection.client.query_typed_raw(query, parameters)).await?;
    let mut rows = std::pin::pin!(rows);
    let mut entities = Vec::new();
    while let Some(row) = within(held.timeout(), rows.try_next()).await? {
        let (kind, id, text) = (row.try_get(0)?, row.try_get::<_, Uuid>(1)?, row.try_get(2)?);
        match entity(kind, text).filter(|entity| entity.id() == id) {
            Some(entity) => entities.push(entity),
            None => tracing::debug!(kind, %id, "a stored entity is not known here and is left out"),
        }
    }
    Ok(entities)
}

/// Numbers are never negative: the schema starts them at nought and only adds.
fn unsigned(row: &Row, column: usize) -> Result<u64, tokio_postgres::Error> {
    row.try_get::<_, i64>(column).map(i64::unsigned_abs)
}
