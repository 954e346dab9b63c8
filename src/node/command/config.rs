//! `tidegate config`: declarative files, read and written.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::entity::declarative;
use crate::node::command::database;
use crate::node::command::failure::Failure;
use crate::node::command::load::load;
use crate::node::command::words::Invocation;
use crate::node::settings::Settings;
use crate::node::settings::durable::Database;
use crate::node::stores::now_s;
use crate::node::terminal::say;
use crate::plugin;
use crate::store::ledger::WriteError;

const EXAMPLE: &str = include_str!("example.yml");

pub fn run(invocation: &Invocation) -> Result<(), Failure> {
    let file = invocation.arguments.first().map(Path::new);
    match invocation.subcommand {
        Some("init") => init(file.unwrap_or(Path::new("kong.yml"))),
        Some("parse") => {
            parse(named(file)?)?;
            say("parse successful\n");
            Ok(())
        }
        Some("db_import") => db_import(named(file)?, &load(invocation)?),
        _ => db_export(file.unwrap_or(Path::new("kong.yml")), &load(invocation)?),
    }
}

fn named(file: Option<&Path>) -> Result<&Path, Failure> {
    file.ok_or_else(|| "expected a declarative configuration file".to_owned().into())
}

fn init(file: &Path) -> Result<(), Failure> {
    write_new(file, EXAMPLE)
}

fn parse(file: &Path) -> Result<declarative::Loaded, Failure> {
    let text = fs::read(file).map_err(|error| format!("Failed parsing:\n{}: {}", file.display(), reason(&error)))?;
    declarative::load(&text, &plugin::declarations(), now_s())
        .map_err(|invalid| format!("Failed parsing:\n{}", invalid.report()).into())
}

/// As a C library puts it, which is what Kong shows.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        _ => error.to_string(),
    }
}

fn db_import(file: &Path, settings: &Settings) -> Result<(), Failure> {
    needs_database("db_import", settings)?;
    let loaded = parse(file)?;
    say("parse successful, beginning import\n");
    database::with_ledger(settings, async |ledger| {
        let imported = ledger.write(now_s(), |draft| loaded.import(draft)).await;
        imported.map(|_| ()).map_err(|error| match error {
            WriteError::Rejected(rejection) => format!("Failed importing:\n{}", rejection.message()),
            WriteError::Store(error) => error.to_string(),
        })
    })?;
    say("import successful\n");
    Ok(())
}

fn db_export(file: &Path, settings: &Settings) -> Result<(), Failure> {
    needs_database("db_export", settings)?;
    let mut text = String::new();
    database::with_ledger(settings, async |ledger| {
        let (entities, _) = ledger.entities();
        text = declarative::export(&entities, &plugin::declarations(), now_s())?;
        Ok(())
    })?;
    write_new(file, &text)
}

fn needs_database(command: &str, settings: &Settings) -> Result<(), Failure> {
    match settings.database {
        Database::Off(_) => Err(format!("'tidegate config {command}' only works with a database.").into()),
        Database::Embedded | Database::Postgres(_) => Ok(()),
    }
}

/// Kong: never overwrites.
fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!("{} already exists. Will not overwrite it.", file.display()),
        _ => format!("cannot write {}: {error}", file.display()),
    };
    let mut made = OpenOptions::new().write(true).create_new(true).open(file).map_err(failed)?;
    Ok(made.write_all(text.as_bytes()).map_err(failed)?)
}
