//! The store in PostgreSQL: one row per entity, a log, and a revision row that every writer locks first.
//!
//! Each operation is one transaction with unnamed statements and `SET LOCAL`, so a pooler in transaction mode may
//! stand between. Two connections stay warm, one for the writer of the moment and one for readers; a pool lost, as
//! writes are one at a time anyway and requests never come here. A connection that was cut while idle is replaced
//! without anybody noticing; nothing is ever retried once a write was sent.

mod connect;
mod fault;
mod hints;
mod marks;
mod migrate;
mod options;
mod read;
mod rows;
mod schema;
mod write;

pub use migrate::{bootstrap, status, up};
pub use options::Options;
pub use schema::Status;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tidegate_proto::Revision;
use uuid::Uuid;

use crate::store::postgres::connect::{Connector, Lane};
use crate::store::postgres::fault::Fault;
use crate::store::postgres::hints::Hints;
use crate::store::postgres::write::{Begun, Writing};
use crate::store::{Contents, Missed, Store, StoreError, Transaction};

/// The store in a PostgreSQL database.
pub struct Postgres {
    writer: Lane,
    reader: Lane,
    connector: Arc<Connector>,
    hints: Hints,
}

impl Postgres {
    /// Connects to nothing yet: a database that is away is no reason not to start. The error is about `options`.
    pub fn new(options: Options) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(options)?);
        let lane = || Lane::new(connector.clone());
        let (writer, reader, hints) = (lane(), lane(), Hints::new(connector.clone()));
        Ok(Self { writer, reader, connector, hints })
    }

    async fn open(&self, seen: Revision) -> Result<Writing, Fault> {
        // A second round when history turned out to be another and the first round gave it a new epoch.
        for _ in 0..2 {
            if let Begun::Open(writing) = self.writer.run(|held| write::begin(held, seen)).await? {
                return Ok(*writing);
            }
        }
        Err(Fault::unavailable("the history of the database keeps changing"))
    }

    async fn read(&self, seen: Revision) -> Result<Missed, Fault> {
        for _ in 0..2 {
            match self.reader.run(|held| read::since(held, seen)).await? {
                read::Since::Missed(missed) => return Ok(missed),
                read::Since::Forked => drop(self.open(seen).await?),
            }
        }
        Err(Fault::unavailable("the history of the database keeps changing"))
    }
}

impl Store for Postgres {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async { Ok(self.reader.run(read::load).await?) })
    }

    fn begin(&self, seen: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async move { Ok(Box::new(self.open(seen).await?) as Box<dyn Transaction>) })
    }

    fn since(&self, seen: Revision) -> BoxFuture<'_, Result<Missed, StoreError>> {
        Box::pin(async move { Ok(self.read(seen).await?) })
    }

    fn renew(&self, seen: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { Ok(self.writer.run(|held| write::renew(held, seen)).await?) })
    }

    fn mark(&self, revision: Revision) -> Option<Uuid> {
        self.connector.marks.of(revision)
    }

    fn recognise(&self, revision: Revision, mark: Uuid) {
        self.connector.marks.remember(revision, mark);
    }

    fn hint(&self) -> BoxFuture<'_, Revision> {
        Box::pin(self.hints.next())
    }

    fn name(&self) -> &'static str {
        "postgres"
    }
}
