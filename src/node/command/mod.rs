//! The commands: each takes an invocation and answers what to print or why it failed. Kong's texts and exit codes.

mod cluster;
mod config;
mod database;
mod health;
pub(crate) mod http;
pub(crate) mod instance;
mod migrations;
mod words;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::node::command::words::{Invocation, Refusal};
use crate::node::demo;
use crate::node::settings::Settings;
use crate::node::settings::said::{self, DEFAULT_FILES, Sources};
use crate::node::start;
use crate::node::telemetry;

/// Why a command ends with another status than 0.
#[derive(Debug)]
pub struct Failure {
    /// Empty: all was said already.
    message: String,
    status: u8,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, status: 1 }
    }
}

impl From<&str> for Failure {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

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

/// Settings for a command; of several mistakes the first is shown.
fn load(invocation: &Invocation) -> Result<Settings, Failure> {
    let file = invocation.option("--conf").map(PathBuf::from);
    let prefix = invocation.option("--prefix").map(str::to_owned);
    load_from(file, prefix).map_err(|mut problems| Failure::from(problems.swap_remove(0)))
}

/// Never an empty list of mistakes.
fn load_from(file: Option<PathBuf>, prefix: Option<String>) -> Result<Settings, Vec<String>> {
    let (environment, mut problems) = said::environment();
    let read_file = |path: &Path| std::fs::read(path);
    match Settings::load(&Sources { environment, file, prefix, read_file: &read_file }) {
        Ok(settings) if problems.is_empty() => Ok(settings),
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
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

fn reload(prefix: &Path) -> Result<(), Failure> {
    let pid =
        instance::running(prefix).ok_or_else(|| format!("tidegate not running in prefix: {}", prefix.display()))?;
    instance::signal(pid, "HUP").map_err(|error| error.to_string())?;
    say("Tidegate reloaded its certificates and log files\n");
    Ok(())
}

/// Sends SIGTERM and waits until the node has drained; `--timeout` seconds at most.
fn stop(invocation: &Invocation, prefix: &Path) -> Result<(), Failure> {
    let seconds = seconds(invocation)?;
    let pid = instance::running(prefix).ok_or_else(|| format!("tidegate is not running in {}", prefix.display()))?;
    instance::signal(pid, "TERM").map_err(|error| error.to_string())?;
    await_end(prefix, pid, seconds)?;
    say("Tidegate stopped\n");
    Ok(())
}

/// `--timeout`, by default 40: over the node's own bound.
fn seconds(invocation: &Invocation) -> Result<u64, Failure> {
    let Some(text) = invocation.option("--timeout") else { return Ok(40) };
    text.parse().map_err(|_| format!("--timeout has an invalid value: '{text}' (seconds)").into())
}

fn await_end(prefix: &Path, pid: u32, seconds: u64) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while instance::running(prefix) == Some(pid) {
        if Instant::now() >= deadline {
            return Err(format!("still draining after {seconds} s").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// To stdout; a reader that has gone away is no failure.
pub(crate) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
