//! `tidegate migrations`: the schema in PostgreSQL. With the other stores there is nothing to do, and every
//! subcommand says so and succeeds, since charts and entrypoints call them.

use serde_json::json;

use crate::node::command::database;
use crate::node::command::failure::Failure;
use crate::node::command::words::Invocation;
use crate::node::settings::Settings;
use crate::node::settings::durable::{Database, Postgres};
use crate::node::stores;
use crate::node::terminal::say;
use crate::store::StoreError;
use crate::store::postgres::{self, Options, Status};

pub fn run(invocation: &Invocation, settings: &Settings) -> Result<(), Failure> {
    let tell = |text: &str| {
        if !invocation.has("--quiet") {
            say(text);
        }
    };
    let Database::Postgres(address) = &settings.database else {
        tell(&format!("Nothing to migrate with database = {}\n", settings.database.name()));
        return Ok(());
    };
    match invocation.subcommand {
        Some("bootstrap") => bootstrap(address, &tell),
        Some("up") => up(address, &tell),
        Some("finish") => finish(address, &tell),
        Some("list") => list(address, &tell),
        _ => print_status(address),
    }
}

/// `start --run-migrations`: whatever is missing.
pub fn bring_up(settings: &Settings) -> Result<(), Failure> {
    match &settings.database {
        Database::Postgres(address) => bootstrap(address, &say),
        Database::Embedded | Database::Off(_) => Ok(()),
    }
}

fn bootstrap(address: &Postgres, tell: &dyn Fn(&str)) -> Result<(), Failure> {
    if status(address)?.problem().is_none() {
        tell("Database already bootstrapped\n");
        return Ok(());
    }
    tell("Bootstrapping database...\n");
    let applied = apply(address, async |options| postgres::bootstrap(options).await)?;
    tell_applied(&applied, tell);
    tell("Database is up-to-date\n");
    Ok(())
}

fn up(address: &Postgres, tell: &dyn Fn(&str)) -> Result<(), Failure> {
    let applied = apply(address, async |options| postgres::up(options).await)?;
    if applied.is_empty() {
        tell("Database is already up-to-date\n");
        return Ok(());
    }
    tell_applied(&applied, tell);
    tell("Database is up-to-date\n");
    Ok(())
}

/// There is no second half: a migration here is one that old and new nodes both understand.
fn finish(address: &Postgres, tell: &dyn Fn(&str)) -> Result<(), Failure> {
    if let Some(problem) = status(address)?.problem() {
        return Err(problem.into());
    }
    tell("No pending migrations to finish\n");
    Ok(())
}

/// Kong: exit status 3 says that the database needs bootstrapping, 5 that there are new migrations.
fn list(address: &Postgres, tell: &dyn Fn(&str)) -> Result<(), Failure> {
    let status = status(address)?;
    if !status.is_bootstrapped() {
        return Err(Failure { message: problem(&status), status: 3 });
    }
    for (title, names) in [("Executed migrations", &status.applied), ("New migrations available", &status.pending)] {
        if !names.is_empty() {
            tell(&format!("{title}:\n  {}\n", names.join("\n  ")));
        }
    }
    match status.problem() {
        None => Ok(()),
        Some(message) => Err(Failure { message, status: 5 }),
    }
}

fn print_status(address: &Postgres) -> Result<(), Failure> {
    let status = status(address)?;
    let document = json!({
        "bootstrapped": status.is_bootstrapped(),
        "executed_migrations": status.applied,
        "new_migrations": status.pending,
        "of_a_newer_version": status.newer,
        "altered": status.altered,
        "problem": status.problem(),
    });
    say(&format!("{document:#}\n"));
    Ok(())
}

fn status(address: &Postgres) -> Result<Status, Failure> {
    apply(address, async |options| postgres::status(options).await)
}

fn apply<T>(address: &Postgres, work: impl AsyncFnOnce(Options) -> Result<T, StoreError>) -> Result<T, Failure> {
    let options = stores::postgres_options(address)?;
    database::block_on(async { work(options).await.map_err(|error| format!("[PostgreSQL error] {error}")) })
}

fn tell_applied(applied: &[String], tell: &dyn Fn(&str)) {
    applied.iter().for_each(|name| tell(&format!("  {name}\n")));
}

fn problem(status: &Status) -> String {
    status.problem().unwrap_or_default()
}
