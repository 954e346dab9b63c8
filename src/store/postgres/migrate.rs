//! The schema and how it comes to be: SQL files, in order, each once, each with the checksum it had.
//!
//! All that is missing is applied in one transaction under an advisory lock that ends with it: nodes that start
//! together wait for each other, and a run that dies leaves nothing. A migration runner from a registry lost: the one
//! that was tried takes no lock.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::store::StoreError;
use crate::store::postgres::connect::Connector;
use crate::store::postgres::fault::{Fault, within};
use crate::store::postgres::options::{Options, quoted};
use crate::store::postgres::schema::{MIGRATIONS, Status, beside, look, read};

/// How long to wait for others that migrate, and for the migrations themselves.
const LIMIT: Duration = Duration::from_secs(120);

/// The advisory lock's number: any, but always this one.
const LOCK: i64 = 0x7469_6465_6761_7465;

/// Makes the schema where there is none, and brings it up to date. Answers the migrations that were applied.
pub async fn bootstrap(options: Options) -> Result<Vec<String>, StoreError> {
    Ok(migrate(options, true).await?)
}

/// Brings a schema up to date. Answers the migrations that were applied.
pub async fn up(options: Options) -> Result<Vec<String>, StoreError> {
    Ok(migrate(options, false).await?)
}

/// How the database stands, changing nothing.
pub async fn status(options: Options) -> Result<Status, StoreError> {
    let connector = Connector::new(options)?;
    let connection = connector.connect().await?;
    Ok(within(connector.options.timeout, look(&connection.client, &connector.options)).await?)
}

async fn migrate(options: Options, from_nothing: bool) -> Result<Vec<String>, Fault> {
    let connector = Connector::new(options).map_err(|error| Fault { error, cut: false })?;
    let connection = connector.connect().await?;
    within(LIMIT, run(&connection.client, connector.options.schema(), from_nothing)).await
}

async fn run(client: &Client, schema: &str, from_nothing: bool) -> Result<Vec<String>, Fault> {
    let name = quoted(schema);
    client
        .batch_execute(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK}); SET LOCAL search_path TO {name}"))
        .await?;
    let named: [(&(dyn ToSql + Sync), Type); 1] = [(&name, Type::TEXT)];
    let table = client
        .query_typed_one(
            "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($1 || '.tidegate_migrations') IS NOT NULL",
            &named,
        )
        .await?;
    let (has_schema, has_table): (bool, bool) = (table.try_get(0)?, table.try_get(1)?);
    let status = if has_table { read(client, "tidegate_migrations").await? } else { beside(&[]) };
    if let Some(problem) = status.unfit() {
        return Err(Fault::schema(problem));
    }
    if !from_nothing && !status.is_bootstrapped() {
        return Err(Fault::schema(status.problem().unwrap_or_default()));
    }
    if !has_schema {
        client.batch_execute(&format!("CREATE SCHEMA {name}")).await?;
    }
    if !has_table {
        client.batch_execute("CREATE TABLE tidegate_migrations (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())").await?;
    }
    for migration in MIGRATIONS.iter().filter(|migration| status.pending.contains(&migration.title())) {
        client.batch_execute(migration.sql).await?;
        let checksum = migration.checksum();
        let row: [(&(dyn ToSql + Sync), Type); 3] =
            [(&migration.number, Type::INT4), (&migration.name, Type::TEXT), (&checksum, Type::TEXT)];
        client
            .execute_typed("INSERT INTO tidegate_migrations (number, name, checksum) VALUES ($1, $2, $3)", &row)
            .await?;
    }
    client.batch_execute("COMMIT").await?;
    Ok(status.pending)
}
