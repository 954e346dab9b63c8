//! What the driver says, as what it means for a caller: try later, run a command, or a bug.

use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use crate::store::StoreError;

/// A failed step.
#[derive(Debug)]
pub struct Fault {
    pub error: StoreError,
    /// The connection was gone before anything was asked of it: another one may do.
    pub cut: bool,
}

impl Fault {
    pub fn unavailable(why: impl Into<String>) -> Self {
        Self { error: StoreError::Unavailable(why.into()), cut: false }
    }

    pub fn schema(why: impl Into<String>) -> Self {
        Self { error: StoreError::Schema(why.into()), cut: false }
    }

    pub fn broken(why: impl Into<String>) -> Self {
        Self { error: StoreError::Broken(why.into()), cut: false }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => of_database(said),
            None => Self {
                error: StoreError::Unavailable(format!("the database cannot be reached: {}", chain(&error))),
                cut: true,
            },
        }
    }
}

/// The step's result, or that the database is too slow.
pub async fn within<T, E: Into<Fault>>(limit: Duration, step: impl Future<Output = Result<T, E>>) -> Result<T, Fault> {
    match tokio::time::timeout(limit, step).await {
        Ok(result) => result.map_err(Into::into),
        Err(_) => Err(Fault::unavailable(format!("the database did not answer within {} ms", limit.as_millis()))),
    }
}

/// Whether a failed COMMIT is known to have committed nothing.
pub fn refused_commit(error: &tokio_postgres::Error) -> bool {
    let class = |said: &DbError| matches!(said.code().code().get(..2), Some("23" | "25" | "40"));
    error.as_db_error().is_some_and(class)
}

fn of_database(said: &DbError) -> Fault {
    let text = format!("the database refused: {} ({})", said.message(), said.code().code());
    let code = said.code();
    if [SqlState::UNDEFINED_TABLE, SqlState::UNDEFINED_COLUMN, SqlState::INVALID_SCHEMA_NAME].contains(code) {
        return Fault::schema(format!("{text}: run `tidegate migrations status`"));
    }
    // A stopping server ends sessions with these; another connection finds a new one, or none.
    let cut = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW].contains(code);
    // Connections (08), authentication (28), name of the database (3D), standby (25006), deadlock and its kin (40),
    // resources (53), locks and timeouts (55, 57), the disk (58): an operator or time mends them.
    let class = code.code().get(..2).unwrap_or_default();
    let outage = matches!(class, "08" | "28" | "3D" | "40" | "53" | "55" | "57" | "58")
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION;
    Fault { error: if outage { StoreError::Unavailable(text) } else { StoreError::Broken(text) }, cut }
}

/// An error with its causes: the driver's own text often says no more than "error connecting to server".
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
