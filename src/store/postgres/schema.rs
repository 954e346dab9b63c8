//! The migrations of this program, and how the schema of a database stands beside them.

use aws_lc_rs::digest;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::store::postgres::options::{Options, quoted};

/// In order. A file that was released is never changed again.
pub static MIGRATIONS: &[Migration] = &[
    Migration { number: 1, name: "entities", sql: include_str!("../../../migrations/0001_entities.sql") },
    Migration { number: 2, name: "edits_by_hand", sql: include_str!("../../../migrations/0002_edits_by_hand.sql") },
    Migration { number: 3, name: "views", sql: include_str!("../../../migrations/0003_views.sql") },
    Migration { number: 4, name: "marks", sql: include_str!("../../../migrations/0004_marks.sql") },
];

/// One file of `migrations/`.
pub struct Migration {
    pub number: i32,
    pub name: &'static str,
    pub sql: &'static str,
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
    pub(super) fn unfit(&self) -> Option<String> {
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

/// How the database stands, on any connection outside of a transaction.
pub async fn look(client: &Client, options: &Options) -> Result<Status, tokio_postgres::Error> {
    let table = format!("{}.tidegate_migrations", quoted(options.schema()));
    let named: [(&(dyn ToSql + Sync), Type); 1] = [(&table, Type::TEXT)];
    let found = client.query_typed_one("SELECT to_regclass($1) IS NOT NULL", &named).await?;
    if found.try_get::<_, bool>(0)? { read(client, &table).await } else { Ok(beside(&[])) }
}

/// Compares the migrations that `table` names with this program's.
pub async fn read(client: &Client, table: &str) -> Result<Status, tokio_postgres::Error> {
    let query = format!("SELECT number, name, checksum FROM {table} ORDER BY number");
    let mut rows = Vec::new();
    for row in client.query_typed(&query, &[]).await? {
        rows.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    Ok(beside(&rows))
}

/// Compares rows of the database (number, name, checksum) with this program's files.
pub fn beside(rows: &[(i32, String, String)]) -> Status {
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
    /// `0001_entities`.
    pub fn title(&self) -> String {
        title(self.number, self.name)
    }

    /// SHA-256 of the file, hexadecimal.
    pub fn checksum(&self) -> String {
        let sum = digest::digest(&digest::SHA256, self.sql.as_bytes());
        sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn title(number: i32, name: &str) -> String {
    format!("{number:04}_{name}")
}
