//! The schema and how it comes to be: SQL files, in order, each once, each with the checksum it had.
//!
//! All that is missing is applied in one transaction under an advisory lock that ends with it: nodes that start
//! together wait for each other, and a run that dies leaves nothing. A migration runner from a registry lost: the one
//! that was tried takes no lock.

use std::time::Duration;

use aws_lc_rs::digest;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::store::StoreError;
use crate::store::postgres::connect::{Connector, Options, quoted};
use crate::store::postgres::fault::{Fault, within};

/// How long to wait for others that migrate, and for the migrations themselves.
const LIMIT: Duration = Duration::from_secs(120);

/// The advisory lock's number: any, but always this one.
const LOCK: i64 = 0x7469_6465_6761_7465;

/// In order. A file that was released is never changed again.
static MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "entities", sql: include_str!("../../../migrations/0001_entities.sql") },
    Migration { number: 2, name: "edits_by_hand", sql: include_str!("../../../migrations/0002_edits_by_hand.sql") },
    Migration { number: 3, name: "views", sql: include_str!("../../../migrations/0003_views.sql") },
    Migration { number: 4, name: "marks", sql: include_str!("../../../migrations/0004_marks.sql") },
];

struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

/// How the database stands beside this program. Migrations are named as their files: `0001_entities`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// In the database.
    pub applied: Vec<String>,
    /// In this program only.
    pub pending: Vec<String>,
    /// In the database only: a newer program made them.
    pub newer: Vec<String>,
    /// In both, but not the same.
    pub altered: Vec<String>,
}

impl Status {
    /// Whether `bootstrap` ran ever.
    pub fn is_bootstrapped(&self) -> bool {
        !self.applied.is_empty()
    }

    /// Why this program cannot work with the database, and the command that helps.
    pub fn problem(&self) -> Option<String> {
        if !self.is_bootstrapped() {
            return Some("the database has no tidegate schema yet: run `tidegate migrations bootstrap`".into());
        }
        self.unfit().or_else(|| {
            let pending = self.pending.join(", ");
            (!pending.is_empty())
                .then(|| format!("the database lacks migrations ({pending}): run `tidegate migrations up`"))
        })
    }

    /// What no migration of this program mends.
    fn unfit(&self) -> Option<String> {
        if !self.newer.is_empty() {
            let newer = self.newer.join(", ");
            return Some(format!("the database has migrations of a newer tidegate ({newer}): upgrade tidegate"));
        }
        let altered = self.altered.join(", ");
        (!altered.is_empty()).then(|| {
            format!(
                "the database was migrated by another build of tidegate (its {altered} differs from this program's): \
                 start that build, or see `tidegate migrations status`"
            )
        })
    }
}

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

/// How the database stands, on any connection outside of a transaction.
pub async fn look(client: &Client, options: &Options) -> Result<Status, tokio_postgres::Error> {
    let table = format!("{}.tidegate_migrations", quoted(options.schema()));
    let named: [(&(dyn ToSql + Sync), Type); 1] = [(&table, Type::TEXT)];
    let found = client.query_typed_one("SELECT to_regclass($1) IS NOT NULL", &named).await?;
    if found.try_get::<_, bool>(0)? { read(client, &table).await } else { Ok(beside(&[])) }
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

async fn read(client: &Client, table: &str) -> Result<Status, tokio_postgres::Error> {
    let query = format!("SELECT number, name, checksum FROM {table} ORDER BY number");
    let mut rows = Vec::new();
    for row in client.query_typed(&query, &[]).await? {
        rows.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    Ok(beside(&rows))
}

/// Compares rows of the database (number, name, checksum) with this program's files.
fn beside(rows: &[(i32, String, String)]) -> Status {
    let known = |number: i32| MIGRATIONS.iter().find(|migration| migration.number == number);
    let mut status = Status::default();
    for (number, name, checksum) in rows {
        let title = title(*number, name);
        match known(*number) {
            None => status.newer.push(title.clone()),
            Some(migration) if migration.checksum() != *checksum => status.altered.push(title.clone()),
            Some(_) => {}
        }
        status.applied.push(title);
    }
    let pending = MIGRATIONS.iter().filter(|migration| rows.iter().all(|(number, ..)| *number != migration.number));
    status.pending = pending.map(Migration::title).collect();
    status
}

impl Migration {
    fn title(&self) -> String {
        title(self.number, self.name)
    }

    /// SHA-256 of the file, hexadecimal.
    fn checksum(&self) -> String {
        let sum = digest::digest(&digest::SHA256, self.sql.as_bytes());
        sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn title(number: i32, name: &str) -> String {
    format!("{number:04}_{name}")
}
