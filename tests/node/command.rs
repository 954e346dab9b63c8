//! The commands as scripts and entrypoints see them: what is printed where, and the exit status.

use crate::gateway::{Plan, file, texts};
use crate::postgres::Server;

fn check(plan: &Plan, words: &[&str], status: i32, stdout: &str, stderr: &str) {
    let output = plan.run(words);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(status), "{words:?}\n{out}\n{err}");
    assert!(out.contains(stdout), "{words:?}: stdout lacks {stdout:?}:\n{out}");
    assert!(err.contains(stderr), "{words:?}: stderr lacks {stderr:?}:\n{err}");
}

#[test]
fn words_that_are_no_command_get_the_usage_and_status_1() {
    let plan = Plan::new([]);
    check(&plan, &["nope"], 1, "", "No such command: nope");
    check(&plan, &["start", "--bogus"], 1, "", "tidegate: unrecognized parameter: bogus");
    check(&plan, &["--help"], 0, "The available commands are:", "");
    check(&plan, &["version"], 0, env!("CARGO_PKG_VERSION"), "");
    check(&plan, &["version", "-a"], 0, "Kong: 3.9.3", "");
}

#[test]
fn check_tells_all_mistakes_and_start_the_first() {
    let plan = Plan::new([]);
    let good = file(plan.directory.path(), "good.conf", "log_level = info\n");
    check(&plan, &["check", &good], 0, &format!("configuration at {good} is valid\n"), "");
    let bad = file(plan.directory.path(), "bad.conf", "log_level = x\npg_port = y\n");
    check(&plan, &["check", &bad], 1, "", " [error] log_level has an invalid value: 'x' (debug, info,");
    check(&plan, &["check", &bad], 1, "", " [error] pg_port is not a number: 'y'\n");
    check(&plan, &["start", "-c", &bad], 1, "", "Error: log_level has an invalid value: 'x'");
    let (_, err) = texts(&plan.run(&["start", "-c", &bad]));
    assert!(!err.contains("pg_port") && err.ends_with("  Run with --v (verbose) or --vv (debug) for more details\n"));
    check(&plan, &["start", "-c", "gone.conf"], 1, "", "Error: no file at: gone.conf\n");
}

#[test]
fn migrations_bring_a_database_up_and_say_how_it_stands() {
    let database = Server::shared().create_empty_database();
    let plan = Plan::new(database.env());
    check(&plan, &["migrations", "list"], 3, "", "tidegate migrations bootstrap");
    check(&plan, &["migrations", "up"], 1, "", "tidegate migrations bootstrap");
    check(
        &plan,
        &["start"],
        1,
        "",
        "Error: the database has no tidegate schema yet: run `tidegate migrations bootstrap`",
    );
    check(&plan, &["migrations", "bootstrap"], 0, "Bootstrapping database...\n", "");
    check(&plan, &["migrations", "bootstrap"], 0, "Database already bootstrapped\n", "");
    check(&plan, &["migrations", "up"], 0, "Database is already up-to-date\n", "");
    check(&plan, &["migrations", "finish"], 0, "No pending migrations to finish\n", "");
    check(&plan, &["migrations", "list"], 0, "Executed migrations:\n", "");
    check(&plan, &["migrations", "status"], 0, "\"bootstrapped\": true", "");
}

#[test]
fn a_newer_schema_stops_the_start() {
    let database = Server::shared().create_database();
    database.sql("INSERT INTO tidegate_migrations (number, name, checksum) VALUES (9999, 'future', '\\x00')");
    let plan = Plan::new(database.env());
    check(&plan, &["start"], 1, "", "newer tidegate (9999_future): upgrade tidegate");
}

#[test]
fn without_postgres_migrations_have_nothing_to_do() {
    let plan = Plan::new([]);
    for subcommand in ["bootstrap", "up", "finish", "list", "status"] {
        check(&plan, &["migrations", subcommand], 0, "Nothing to migrate with database = embedded\n", "");
    }
}

#[test]
fn configurations_are_parsed_imported_and_exported() {
    let plan = Plan::new([]);
    let directory = plan.directory.path();
    let good = file(
        directory,
        "good.yml",
        "_format_version: '3.0'\nservices:\n- name: a\n  url: http://localhost\n  routes: [{name: r, paths: [/r]}]\n",
    );
    let bad = file(directory, "bad.yml", "_format_version: '3.0'\nservices:\n- name: a\n");
    check(&plan, &["config", "init", "new.yml"], 0, "", "");
    check(&plan, &["config", "parse", "new.yml"], 0, "parse successful\n", "");
    check(&plan, &["config", "init", "new.yml"], 1, "", "new.yml already exists. Will not overwrite it.");
    check(&plan, &["config", "parse", &bad], 1, "", "in 'host': required field missing");
    check(&plan, &["config", "parse", "gone.yml"], 1, "", "Failed parsing:\ngone.yml: No such file or directory");
    check(&plan, &["config", "db_import", &good], 0, "parse successful, beginning import\nimport successful\n", "");
    check(&plan, &["config", "db_export", "out.yml"], 0, "", "");
    let exported = std::fs::read_to_string(directory.join("out.yml")).unwrap();
    assert!(exported.contains("name: r") && exported.contains("/r"), "{exported}");
    check(&plan, &["config", "parse", "out.yml"], 0, "parse successful\n", "");
}
