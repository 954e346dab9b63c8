//! The writing transaction: lock the revision, hand over what came before, write, commit.

use std::time::Duration;

use aws_lc_rs::digest;
use futures_util::future::{BoxFuture, try_join, try_join_all};
use tidegate_proto::Revision;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::entity::catalog::{references, unique_keys};
use crate::entity::declare::{OnDelete, Type as FieldType};
use crate::entity::{Change, Doc, Kind};
use crate::store::postgres::connect::Held;
use crate::store::postgres::fault::{Fault, chain, refused_commit, within};
use crate::store::postgres::read;
use crate::store::postgres::rows::entity;
use crate::store::{Missed, StoreError, Transaction};

/// Changes that the log keeps. Whoever lacks more takes everything.
const LOG_MAX: i64 = 100_000;

const WRITING: &str = "ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 60000";

/// Entities edited by hand whose keys and references one write brings up to date; the next one goes on.
const BY_HAND_MAX: i64 = 200;

/// How long the statements of a write may take before they are rolled back, beside what each change adds.
const STATEMENTS_LIMIT: Duration = Duration::from_millis(1_500);

/// A key longer than this is stored as its digest: an index takes no row beyond a third of a page.
const KEY_LEN_MAX: usize = 1_000;

/// What became of `begin`.
pub enum Begun {
    Open(Box<Writing>),
    /// History went backwards; it has a new epoch now, so begin again.
    Renewed,
}

/// A transaction that holds the lock.
pub struct Writing {
    /// `None` once committing.
    held: Option<Held>,
    revision: Revision,
    missed: Option<Missed>,
    /// Entities that were changed in SQL since the last writer.
    by_hand: Vec<Index>,
}

/// What a key or reference does that cannot be.
#[derive(Clone, Copy)]
enum Rigour {
    /// It ends the transaction: the draft ought to have seen it.
    Strict,
    /// It is left out: people with psql may share a key or refer to nothing.
    Lenient,
}

/// Keys and references of one entity, as their tables have them.
struct Index {
    kind: String,
    id: Uuid,
    keys: Vec<String>,
    /// (field, referenced kind, referenced id, what its end does).
    references: Vec<(&'static str, &'static str, Uuid, &'static str)>,
}

pub async fn begin(held: Held, seen: Revision) -> Result<Begun, Fault> {
    let client = &held.connection.client;
    let prelude = held.connector.prelude(WRITING);
    let asked = try_join(read::news(&held, &prelude, "FOR UPDATE", seen), changed_by_hand(client));
    let (news, by_hand) = within(held.timeout() * 2, asked).await?;
    if news.forked {
        begin_epoch(held, news.revision, seen).await?;
        return Ok(Begun::Renewed);
    }
    let revision = news.revision;
    let missed = Some(news.missed(&held).await?);
    Ok(Begun::Open(Box::new(Writing { held: Some(held), revision, missed, by_hand })))
}

/// Gives what the database has an epoch greater than `seen`'s, unless it has one.
pub async fn renew(held: Held, seen: Revision) -> Result<(), Fault> {
    let prelude = held.connector.prelude(WRITING);
    let asked = read::news(&held, &prelude, "FOR UPDATE", Revision::default());
    let news = within(held.timeout() * 2, asked).await?;
    if news.revision.epoch <= seen.epoch {
        return begin_epoch(held, news.revision, seen).await;
    }
    within(held.timeout(), held.connection.client.batch_execute("ROLLBACK")).await?;
    held.give_back();
    Ok(())
}

/// In the transaction that holds the lock.
async fn begin_epoch(held: Held, standing: Revision, seen: Revision) -> Result<(), Fault> {
    let epoch = i64::try_from(seen.epoch.max(standing.epoch) + 1).unwrap_or(i64::MAX);
    let renew = format!("UPDATE revision SET epoch = {epoch}; COMMIT");
    within(held.timeout(), held.connection.client.batch_execute(&renew)).await?;
    tracing::info!(database = %standing, %seen, epoch, "the database is not the one that was seen; it has a new epoch");
    held.give_back();
    Ok(())
}

impl Transaction for Writing {
    fn missed(&mut self) -> Missed {
        let nothing = Missed::Changes { changes: Vec::new(), revision: self.revision };
        self.missed.take().unwrap_or(nothing)
    }

    fn commit(mut self: Box<Self>, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        Box::pin(async move {
            let held = self.held.take().ok_or_else(|| StoreError::Broken("committed twice".into()))?;
            let next = self.revision.next();
            let number = i64::try_from(next.number).unwrap_or(i64::MAX);
            let steps = steps(&self.by_hand, &changes, number);
            let limit = STATEMENTS_LIMIT + Duration::from_millis(changes.len() as u64);
            // Sent together, in order; the first to fail is the one to hear about, and its connection is cut.
            let client = &held.connection.client;
            let written = try_join_all(steps.iter().map(|step| step.run(client)));
            let (_, mark) = within(limit, try_join(written, mark(client, number))).await?;
            finish(&held).await?;
            if let Some(mark) = mark {
                held.connector.marks.remember(next, mark);
            }
            held.give_back();
            Ok(next)
        })
    }
}

/// Rolls back and keeps the connection. Where there is no runtime left to do that, the connection is cut.
impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(held) = self.held.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if within(held.timeout(), held.connection.client.batch_execute("ROLLBACK")).await.is_ok() {
                    held.give_back();
                }
            });
        }
    }
}

/// The mark that the database gave the revision.
async fn mark(client: &Client, number: i64) -> Result<Option<Uuid>, tokio_postgres::Error> {
    let rows = client.query_typed("SELECT mark FROM marks WHERE number = $1", &[(&number, Type::INT8)]).await?;
    rows.first().map(|row| row.try_get(0)).transpose()
}

async fn finish(held: &Held) -> Result<(), StoreError> {
    let unknown =
        |why: String| StoreError::Unknown(format!("the database did not say whether it took the change: {why}"));
    match tokio::time::timeout(held.timeout(), held.connection.client.batch_execute("COMMIT")).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if refused_commit(&error) => Err(Fault::from(error).into()),
        Ok(Err(error)) => Err(unknown(chain(&error))),
        Err(_) => Err(unknown(format!("no answer within {} ms", held.timeout().as_millis()))),
    }
}

async fn changed_by_hand(client: &Client) -> Result<Vec<Index>, tokio_postgres::Error> {
    let query = "SELECT kind, id, doc::text FROM entities WHERE by_hand LIMIT $1";
    let mut indexes = Vec::new();
    for row in &client.query_typed(query, &[(&BY_HAND_MAX, Type::INT8)]).await? {
        let (kind, id): (&str, Uuid) = (row.try_get(0)?, row.try_get(1)?);
        // What is not known here has no keys that are.
        let unknown = || Index { kind: kind.to_owned(), id, keys: Vec::new(), references: Vec::new() };
        let entity = entity(kind, row.try_get(2)?);
        indexes.push(entity.map_or_else(unknown, |entity| Index::of(entity.kind(), id, &entity.doc())));
    }
    Ok(indexes)
}

/// One statement with its parameters.
struct Step {
    sql: &'static str,
    parameters: Vec<(Box<dyn ToSql + Send + Sync>, Type)>,
}

impl Step {
    fn new(sql: &'static str) -> Self {
        Self { sql, parameters: Vec::new() }
    }

    fn with(mut self, value: impl ToSql + Send + Sync + 'static, kind: Type) -> Self {
        self.parameters.push((Box::new(value), kind));
        self
    }

    async fn run(&self, client: &Client) -> Result<u64, tokio_postgres::Error> {
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            self.parameters.iter().map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone())).collect();
        client.execute_typed(self.sql, &parameters).await
    }
}

/// Everything between the lock and COMMIT: a few statements, however many changes.
fn steps(by_hand: &[Index], changes: &[Change], number: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    if !by_hand.is_empty() {
        let named = || by_hand.iter().map(|index| (index.kind.clone(), index.id));
        steps.extend(forget(named()));
        steps.extend(remember(by_hand, Rigour::Lenient));
        let done = "UPDATE entities SET by_hand = false FROM unnest($1, $2) AS done (kind, id) \
                    WHERE entities.kind = done.kind AND entities.id = done.id";
        steps.push(of_entities(done, named()));
    }
    steps.extend(forget(changes.iter().map(|change| (change.kind.name.to_owned(), change.id))));
    steps.extend(rows(changes));
    let states = changes.iter().filter_map(|change| change.entity.as_ref());
    let indexes: Vec<_> = states.map(|entity| Index::of(entity.kind(), entity.id(), &entity.doc())).collect();
    steps.extend(remember(&indexes, Rigour::Strict));
    steps.extend(history(changes, number));
    steps
}

/// A statement whose parameters are the kinds and the ids of entities.
fn of_entities(sql: &'static str, entities: impl Iterator<Item = (String, Uuid)>) -> Step {
    let (kinds, ids): (Vec<_>, Vec<_>) = entities.unzip();
    Step::new(sql).with(kinds, Type::TEXT_ARRAY).with(ids, Type::UUID_ARRAY)
}

/// Takes keys and references of entities out of their tables.
fn forget(entities: impl Iterator<Item = (String, Uuid)> + Clone) -> [Step; 2] {
    [
        "DELETE FROM entity_keys USING unnest($1, $2) AS gone (kind, id) \
         WHERE entity_keys.kind = gone.kind AND entity_keys.id = gone.id",
        "DELETE FROM entity_refs USING unnest($1, $2) AS gone (kind, id) \
         WHERE entity_refs.kind = gone.kind AND entity_refs.id = gone.id",
    ]
    .map(|sql| of_entities(sql, entities.clone()))
}

/// Ends, then new states.
fn rows(changes: &[Change]) -> [Step; 2] {
    let ended = changes.iter().filter(|change| change.entity.is_none());
    let end = of_entities(
        "DELETE FROM entities USING unnest($1, $2) AS gone (kind, id) \
         WHERE entities.kind = gone.kind AND entities.id = gone.id",
        ended.map(|change| (change.kind.name.to_owned(), change.id)),
    );
    let states: Vec<_> = changes.iter().filter_map(|change| change.entity.as_ref()).collect();
    let put = Step::new(
        "INSERT INTO entities (kind, id, doc) SELECT kind, id, doc::jsonb FROM unnest($1, $2, $3) AS new (kind, id, doc) \
         ON CONFLICT (kind, id) DO UPDATE SET doc = excluded.doc, by_hand = false",
    );
    [
        end,
        put.with(states.iter().map(|entity| entity.kind().name).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(states.iter().map(|entity| entity.id()).collect::<Vec<_>>(), Type::UUID_ARRAY)
            .with(states.iter().map(|entity| entity.text()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
    ]
}

/// Puts keys and references into their tables.
fn remember(indexes: &[Index], rigour: Rigour) -> [Step; 2] {
    let keys: Vec<_> =
        indexes.iter().flat_map(|it| it.keys.iter().map(move |key| (it.kind.clone(), key.clone(), it.id))).collect();
    let refs: Vec<_> =
        indexes.iter().flat_map(|it| it.references.iter().map(move |reference| (it, reference))).collect();
    let key = Step::new(match rigour {
        Rigour::Strict => "INSERT INTO entity_keys (kind, key, id) SELECT * FROM unnest($1, $2, $3)",
        Rigour::Lenient => {
            "INSERT INTO entity_keys (kind, key, id) SELECT * FROM unnest($1, $2, $3) ON CONFLICT DO NOTHING"
        }
    });
    let reference = Step::new(match rigour {
        Rigour::Strict => {
            "INSERT INTO entity_refs (kind, id, field, ref_kind, ref_id, on_delete) \
             SELECT * FROM unnest($1, $2, $3, $4, $5, $6)"
        }
        Rigour::Lenient => {
            "INSERT INTO entity_refs (kind, id, field, ref_kind, ref_id, on_delete) \
             SELECT new.* FROM unnest($1, $2, $3, $4, $5, $6) AS new (kind, id, field, ref_kind, ref_id, on_delete) \
             JOIN entities ON entities.kind = new.ref_kind AND entities.id = new.ref_id"
        }
    });
    [
        key.with(keys.iter().map(|key| key.0.clone()).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(keys.iter().map(|key| key.1.clone()).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(keys.iter().map(|key| key.2).collect::<Vec<_>>(), Type::UUID_ARRAY),
        reference
            .with(refs.iter().map(|(it, _)| it.kind.clone()).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(refs.iter().map(|(it, _)| it.id).collect::<Vec<_>>(), Type::UUID_ARRAY)
            .with(refs.iter().map(|(_, reference)| reference.0).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(refs.iter().map(|(_, reference)| reference.1).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(refs.iter().map(|(_, reference)| reference.2).collect::<Vec<_>>(), Type::UUID_ARRAY)
            .with(refs.iter().map(|(_, reference)| reference.3).collect::<Vec<_>>(), Type::TEXT_ARRAY),
    ]
}

/// The log entries, the number, and the bound of the log.
fn history(changes: &[Change], number: i64) -> [Step; 3] {
    let texts = changes.iter().map(|change| change.entity.as_ref().map(|entity| entity.text()));
    let log = Step::new(
        "INSERT INTO changes (number, kind, id, doc) SELECT $1, kind, id, doc::jsonb \
         FROM unnest($2, $3, $4) WITH ORDINALITY AS new (kind, id, doc, place) ORDER BY place",
    );
    [
        log.with(number, Type::INT8)
            .with(changes.iter().map(|change| change.kind.name).collect::<Vec<_>>(), Type::TEXT_ARRAY)
            .with(changes.iter().map(|change| change.id).collect::<Vec<_>>(), Type::UUID_ARRAY)
            .with(texts.collect::<Vec<_>>(), Type::TEXT_ARRAY),
        Step::new("UPDATE revision SET number = $1").with(number, Type::INT8),
        Step::new("DELETE FROM changes WHERE ordinal <= (SELECT max(ordinal) FROM changes) - $1")
            .with(LOG_MAX, Type::INT8),
    ]
}

impl Index {
    fn of(kind: Kind, id: Uuid, doc: &Doc) -> Self {
        let on_delete = |field: &str| match kind.field(field).map(|field| &field.kind) {
            Some(FieldType::Foreign { on_delete: OnDelete::Cascade, .. }) => "cascade",
            _ => "restrict",
        };
        let references = references(kind, doc).into_iter();
        Self {
            kind: kind.name.to_owned(),
            id,
            keys: unique_keys(kind, doc).into_iter().map(|(key, _)| bounded(key)).collect(),
            references: references.map(|(field, to, id)| (field, to.name, id, on_delete(field))).collect(),
        }
    }
}

fn bounded(key: String) -> String {
    if key.len() <= KEY_LEN_MAX {
        return key;
    }
    let sum = digest::digest(&digest::SHA256, key.as_bytes());
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}
