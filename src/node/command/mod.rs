//! The commands: each takes an invocation and answers what to print or why it failed. Kong's texts and exit codes.

mod cluster;
mod config;
mod database;
mod failure;
mod health;
mod load;
mod migrations;
mod running;
mod words;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::node::command::failure::Failure;
use crate::node::command::load::{load, load_from};
use crate::node::command::running::{reload, stop};
use crate::node::command::words::{Invocation, Refusal};
use crate::node::demo;
use crate::node::instance;
use crate::node::settings::Settings;
use crate::node::settings::said::DEFAULT_FILES;
use crate::node::start;
use crate::node::telemetry;
use crate::node::terminal::{complain, say};

/// Runs what the command line says, to its end.
pub fn run() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let invocation = match words::parse(&words) {
        Ok(invocation) => invocation,
        Err(Refusal::Help(text)) => {
            say(&text);
            return ExitCode::SUCCESS;
        }
        Err(Refusal::Wrong(text)) => {
            complain(&text);
            return ExitCode::FAILURE;
        }
    };
    if invocation.command.name != "start" && !invocation.has("--node") {
        telemetry::install_for_command(invocation.verbosity);
    }
    match dispatch(&invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { message, status }) => {
            let hint = if invocation.verbosity == 0 { HINT } else { "" };
            if !message.is_empty() {
                complain(&format!("Error: {message}\n{hint}"));
            }
            ExitCode::from(status)
        }
    }
}

const HINT: &str = "\n  Run with --v (verbose) or --vv (debug) for more details\n";

fn dispatch(invocation: &Invocation) -> Result<(), Failure> {
    match invocation.command.name {
        "start" => run_node(invocation),
        "migrations" => migrations::run(invocation, &load(invocation)?),
        "check" => check(invocation),
        "health" => health::run(&load(invocation)?),
        "version" => {
            version(invocation.has("--all"));
            Ok(())
        }
        "config" => config::run(invocation),
        "cluster" => cluster::run(invocation, &load(invocation)?),
        "demo" => run_demo(invocation),
        "prepare" => prepare(&load(invocation)?),
        "reload" => reload(&load(invocation)?.node.prefix),
        _ => stop(invocation, &load(invocation)?.node.prefix),
    }
}

fn run_node(invocation: &Invocation) -> Result<(), Failure> {
    let mut settings = load(invocation)?;
    if invocation.verbosity == 2 {
        settings.logs.level = "debug".to_owned();
    }
    if invocation.has("--run-migrations") {
        migrations::bring_up(&settings)?;
    }
    let claim = instance::claim(&settings.node.prefix)?;
    start::run(settings, CancellationToken::new())?;
    drop(claim);
    Ok(())
}

/// The demo, or with `--node FOLDER` one region of it.
fn run_demo(invocation: &Invocation) -> Result<(), Failure> {
    let Some(folder) = invocation.option("--node") else { return Ok(demo::run()?) };
    let settings = load_from(Some(Path::new(folder).join(demo::region::SETTINGS)), Some(folder.to_owned()));
    let settings = settings.map_err(|mut problems| Failure::from(problems.swap_remove(0)))?;
    let claim = instance::claim(&settings.node.prefix)?;
    demo::member::run(settings, Path::new(folder))?;
    drop(claim);
    Ok(())
}

fn check(invocation: &Invocation) -> Result<(), Failure> {
    let file = invocation.arguments.first().map(PathBuf::from);
    match load_from(file, None) {
        Ok(settings) => {
            let place = settings.file.unwrap_or_else(|| DEFAULT_FILES[0].into());
            say(&format!("configuration at {} is valid\n", place.display()));
            Ok(())
        }
        Err(problems) => {
            let now = jiff::Zoned::now().strftime("%Y/%m/%d %H:%M:%S").to_string();
            problems.iter().for_each(|problem| complain(&format!("{now} [error] {problem}\n")));
            Err(String::new().into())
        }
    }
}

fn version(all: bool) {
    say(&format!("{}\n", crate::VERSION));
    if all {
        say(&format!("Tidegate: {}\nKong: {} (the Admin API and behaviour)\n", crate::VERSION, crate::KONG_VERSION));
    }
}

fn prepare(settings: &Settings) -> Result<(), Failure> {
    let prefix = &settings.node.prefix;
    std::fs::create_dir_all(prefix).map_err(|error| format!("cannot make {}: {error}", prefix.display()).into())
}
