//! The commands as scripts and entrypoints see them: what is printed where, and the exit status.

use std::process::Output;

use crate::postgres::Server;
use crate::process::{Node, settings_of};

const NO_SETTINGS: [(&str, &str); 0] = [];

fn run(node: &Node, words: &str) -> Output {
    node.command(words).current_dir(node.prefix()).output().unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// `stdout` and `stderr` are parts of what has to be there.
fn check(node: &Node, words: &str, status: i32, stdout: &str, stderr: &str) {
    let output = run(node, words);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(status), "{words}\n{out}\n{err}");
    assert!(out.contains(stdout), "{words}: stdout lacks {stdout:?}:\n{out}");
    assert!(err.contains(stderr), "{words}: stderr lacks {stderr:?}:\n{err}");
}

fn file(node: &Node, name: &str, text: &str) {
    std::fs::write(node.prefix().join(name), text).unwrap();
}

#[test]
fn words_that_are_no_command_get_the_usage_and_status_1() {
    let node = Node::new(NO_SETTINGS);
    check(&node, "nope", 1, "", "No such command: nope");
    check(&node, "start --bogus", 1, "", "tidegate: unrecognized parameter: bogus");
    check(&node, "--help", 0, "The available commands are:", "");
    check(&node, "version", 0, env!("CARGO_PKG_VERSION"), "");
    check(&node, "version -a", 0, "Kong: 3.9.3", "");
}

#[test]
fn check_tells_all_mistakes_and_start_the_first() {
    let node = Node::new(NO_SETTINGS);
    file(&node, "good.conf", "log_level = info\n");
    check(&node, "check good.conf", 0, "configuration at good.conf is valid\n", "");
    file(&node, "bad.conf", "log_level = x\npg_port = y\n");
    check(&node, "check bad.conf", 1, "", " [error] log_level has an invalid value: 'x' (debug, info,");
    check(&node, "check bad.conf", 1, "", " [error] pg_port is not a number: 'y'\n");
    check(&node, "start -c bad.conf", 1, "", "Error: log_level has an invalid value: 'x'");
    let (_, err) = texts(&run(&node, "start -c bad.conf"));
    assert!(!err.contains("pg_port") && err.ends_with("  Run with --v (verbose) or --vv (debug) for more details\n"));
    check(&node, "start -c gone.conf", 1, "", "Error: no file at: gone.conf\n");
}

#[test]
fn migrations_bring_a_database_up_and_say_how_it_stands() {
    let database = Server::shared().create_empty_database();
    let node = Node::new(settings_of(&database));
    check(&node, "migrations list", 3, "", "tidegate migrations bootstrap");
    check(&node, "migrations up", 1, "", "tidegate migrations bootstrap");
    check(&node, "start", 1, "", "Error: the database has no tidegate schema yet: run `tidegate migrations bootstrap`");
    check(&node, "migrations bootstrap", 0, "Bootstrapping database...\n", "");
    check(&node, "migrations bootstrap", 0, "Database already bootstrapped\n", "");
    check(&node, "migrations up", 0, "Database is already up-to-date\n", "");
    check(&node, "migrations finish", 0, "No pending migrations to finish\n", "");
    check(&node, "migrations list", 0, "Executed migrations:\n", "");
    check(&node, "migrations status", 0, "\"bootstrapped\": true", "");
}

#[test]
fn a_newer_schema_stops_the_start() {
    let database = Server::shared().create_database();
    database.sql("INSERT INTO tidegate_migrations (number, name, checksum) VALUES (9999, 'future', '\\x00')");
    let node = Node::new(settings_of(&database));
    check(&node, "start", 1, "", "newer tidegate (9999_future): upgrade tidegate");
}

#[test]
fn without_postgres_migrations_have_nothing_to_do() {
    let node = Node::new(NO_SETTINGS);
    for subcommand in ["bootstrap", "up", "finish", "list", "status"] {
        check(&node, &format!("migrations {}", subcommand), 0, "Nothing to migrate with database = embedded\n", "");
    }
}

#[test]
fn configurations_are_parsed_imported_and_exported() {
    let node = Node::new(NO_SETTINGS);
    file(
        &node,
        "good.yml",
        "_format_version: '3.0'\nservices:\n- name: a\n  url: http://localhost\n  routes: [{name: r, paths: [/r]}]\n",
    );
    file(&node, "bad.yml", "_format_version: '3.0'\nservices:\n- name: a\n");
    check(&node, "config init new.yml", 0, "", "");
    check(&node, "config parse new.yml", 0, "parse successful\n", "");
    check(&node, "config init new.yml", 1, "", "new.yml already exists. Will not overwrite it.");
    check(&node, "config parse bad.yml", 1, "", "in 'host': required field missing");
    check(&node, "config parse gone.yml", 1, "", "Failed parsing:\ngone.yml: No such file or directory");
    check(&node, "config db_import good.yml", 0, "parse successful, beginning import\nimport successful\n", "");
    check(&node, "config db_export out.yml", 0, "", "");
    let exported = std::fs::read_to_string(node.prefix().join("out.yml")).unwrap();
    assert!(exported.contains("name: r") && exported.contains("/r"), "{exported}");
    check(&node, "config parse out.yml", 0, "parse successful\n", "");
}
