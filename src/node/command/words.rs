//! The command line as words: which command, which options, or Kong's complaint about them. Pure.
//!
//! Own parser, because scripts around Kong know its texts and its `--v`; what a parser crate prints is not those.

use std::collections::BTreeMap;

/// A command and what it takes.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    pub name: &'static str,
    /// Empty: none.
    pub subcommands: &'static [&'static str],
    /// Most words beside options.
    pub arguments_max: usize,
    pub options: &'static [Flag],
    /// Shown in the usage.
    pub purpose: &'static str,
}

/// An option.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    pub short: Option<&'static str>,
    pub long: &'static str,
    pub takes_value: bool,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Invocation {
    pub command: &'static Command,
    pub subcommand: Option<&'static str>,
    options: BTreeMap<&'static str, String>,
    pub arguments: Vec<String>,
    /// 0, 1 (`--v`) or 2 (`--vv`).
    pub verbosity: u8,
}

/// Why nothing can be run: text for stderr, or help that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Help(String),
    Wrong(String),
}

impl Invocation {
    pub fn option(&self, long: &str) -> Option<&str> {
        self.options.get(long).map(String::as_str)
    }

    pub fn has(&self, long: &str) -> bool {
        self.options.contains_key(long)
    }
}

const CONF: Flag = Flag { short: Some("-c"), long: "--conf", takes_value: true };
const PREFIX: Flag = Flag { short: Some("-p"), long: "--prefix", takes_value: true };
const YES: Flag = Flag { short: Some("-y"), long: "--yes", takes_value: false };
const QUIET: Flag = Flag { short: Some("-q"), long: "--quiet", takes_value: false };
const FORCE: Flag = Flag { short: Some("-f"), long: "--force", takes_value: false };
const DB_TIMEOUT: Flag = Flag { short: None, long: "--db-timeout", takes_value: true };
const LOCK_TIMEOUT: Flag = Flag { short: None, long: "--lock-timeout", takes_value: true };
const MIGRATE: Flag = Flag { short: None, long: "--run-migrations", takes_value: false };
const NGINX_CONF: Flag = Flag { short: None, long: "--nginx-conf", takes_value: true };
const NGINX_FLAGS: Flag = Flag { short: None, long: "--nginx-conf-flags", takes_value: true };
const TIMEOUT: Flag = Flag { short: Some("-t"), long: "--timeout", takes_value: true };
const NODE: Flag = Flag { short: None, long: "--node", takes_value: true };
const ALL: Flag = Flag { short: Some("-a"), long: "--all", takes_value: false };

const fn plain(name: &'static str, options: &'static [Flag], purpose: &'static str) -> Command {
    Command { name, subcommands: &[], arguments_max: 0, options, purpose }
}

/// Every command. What belongs to nginx is taken and means nothing.
pub static COMMANDS: &[Command] = &[
    plain(
        "start",
        &[CONF, PREFIX, MIGRATE, DB_TIMEOUT, LOCK_TIMEOUT, NGINX_CONF, NGINX_FLAGS],
        "run a node in the foreground",
    ),
    Command {
        subcommands: &["bootstrap", "up", "finish", "list", "status"],
        ..plain("migrations", &[CONF, PREFIX, YES, QUIET, FORCE, DB_TIMEOUT, LOCK_TIMEOUT], "the schema in PostgreSQL")
    },
    Command { arguments_max: 1, ..plain("check", &[], "validate a configuration file") },
    plain("health", &[CONF, PREFIX], "whether the node of this prefix runs and is ready"),
    plain("version", &[ALL], "our version; -a: also the Kong that we speak"),
    Command {
        subcommands: &["init", "parse", "db_import", "db_export"],
        arguments_max: 1,
        ..plain("config", &[CONF, PREFIX], "declarative configuration files")
    },
    Command {
        subcommands: &["status", "leave"],
        ..plain(
            "cluster",
            &[CONF, PREFIX, TIMEOUT],
            "members of the cluster as a table; leave: drain and end this node",
        )
    },
    plain(
        "demo",
        &[NODE],
        "three regions on this machine, with a limit to try; Ctrl-C removes all of it (--node: one region, started by it)",
    ),
    plain("prepare", &[CONF, PREFIX, NGINX_CONF], "make the prefix"),
    plain("reload", &[CONF, PREFIX, NGINX_CONF, NGINX_FLAGS], "certificates and log files again"),
    plain("stop", &[CONF, PREFIX, TIMEOUT], "stop the node of this prefix, gracefully"),
    Command { name: "quit", ..plain("quit", &[CONF, PREFIX, TIMEOUT], "the same as stop") },
];

/// Understands the words behind the program's name.
pub fn parse(words: &[String]) -> Result<Invocation, Refusal> {
    let Some((name, rest)) = words.split_first() else { return Err(Refusal::Wrong(usage())) };
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        return Err(Refusal::Help(usage()));
    }
    let name = if name == "--version" { "version" } else { name };
    let command = COMMANDS
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| Refusal::Wrong(format!("No such command: {name}\n\n{}", usage())))?;
    let mut invocation =
        Invocation { command, subcommand: None, options: BTreeMap::new(), arguments: Vec::new(), verbosity: 0 };
    take_words(&mut invocation, rest)?;
    take_subcommand(&mut invocation)?;
    if let Some(extra) = invocation.arguments.get(command.arguments_max) {
        return Err(unrecognized(command, extra));
    }
    Ok(invocation)
}

fn take_words(invocation: &mut Invocation, words: &[String]) -> Result<(), Refusal> {
    let command = invocation.command;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, joined) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        match name {
            "--help" | "-h" => return Err(Refusal::Help(command_usage(command))),
            "--v" => invocation.verbosity = 1,
            "--vv" => invocation.verbosity = 2,
            name if name.starts_with('-') => {
                let flag =
                    find_flag(command, name).ok_or_else(|| unrecognized(command, name.trim_start_matches('-')))?;
                let value = match (flag.takes_value, joined) {
                    (true, joined) => {
                        joined.or_else(|| words.next().cloned()).ok_or_else(|| needs_value(command, name))?
                    }
                    (false, None) => String::new(),
                    (false, Some(_)) => return Err(unrecognized(command, word)),
                };
                invocation.options.insert(flag.long, value);
            }
            _ => invocation.arguments.push(word.clone()),
        }
    }
    Ok(())
}

fn take_subcommand(invocation: &mut Invocation) -> Result<(), Refusal> {
    let command = invocation.command;
    if command.subcommands.is_empty() {
        return Ok(());
    }
    if invocation.arguments.is_empty() {
        return Err(Refusal::Wrong(command_usage(command)));
    }
    let word = invocation.arguments.remove(0);
    let known = command.subcommands.iter().find(|known| **known == word);
    let wrong =
        || Refusal::Wrong(format!("No such command for {}: {word}\n\n{}", command.name, command_usage(command)));
    invocation.subcommand = Some(known.copied().ok_or_else(wrong)?);
    Ok(())
}

fn find_flag(command: &Command, name: &str) -> Option<&'static Flag> {
    let command = COMMANDS.iter().find(|known| known.name == command.name)?;
    command.options.iter().find(|flag| flag.long == name || flag.short == Some(name))
}

fn unrecognized(command: &Command, word: &str) -> Refusal {
    Refusal::Wrong(format!("tidegate: unrecognized parameter: {word}\n\n{}", command_usage(command)))
}

fn needs_value(command: &Command, name: &str) -> Refusal {
    Refusal::Wrong(format!("tidegate: {name} needs a value\n\n{}", command_usage(command)))
}

fn usage() -> String {
    let mut text = "Usage: tidegate COMMAND [OPTIONS]\n\nThe available commands are:\n".to_owned();
    for command in COMMANDS {
        text += &format!("  {:<11} {}\n", command.name, command.purpose);
    }
    text + "\nOptions:\n  --v         verbose\n  --vv        debug\n"
}

fn command_usage(command: &Command) -> String {
    let mut text = format!("Usage: tidegate {}", command.name);
    if !command.subcommands.is_empty() {
        text += &format!(" {}", command.subcommands.join("|"));
    }
    if command.arguments_max > 0 {
        text += " [FILE]";
    }
    text += &format!(" [OPTIONS]\n\n  {}\n\nOptions:\n", command.purpose);
    for flag in command.options {
        let short = flag.short.map_or_else(|| "   ".to_owned(), |short| format!("{short},"));
        text += &format!("  {short} {}{}\n", flag.long, if flag.takes_value { " VALUE" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Invocation, Refusal> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn check_wrong(line: &str, beginning: &str) {
        match parsed(line) {
            Err(Refusal::Wrong(text)) => assert!(text.starts_with(beginning), "{line}: {text}"),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_have_short_and_long_forms() {
        for line in
            ["start -c a.conf -p /p --v", "start --conf a.conf --prefix=/p --v", "start --v --conf=a.conf -p /p"]
        {
            let start = parsed(line).unwrap();
            assert_eq!(
                (start.command.name, start.option("--conf"), start.option("--prefix")),
                ("start", Some("a.conf"), Some("/p"))
            );
            assert_eq!(start.verbosity, 1);
            assert!(!start.has("--run-migrations"));
        }
    }

    #[test]
    fn subcommands_and_arguments_are_told_apart() {
        let import = parsed("config db_import -c a.conf kong.yml").unwrap();
        assert_eq!((import.subcommand, import.arguments.as_slice()), (Some("db_import"), &["kong.yml".to_owned()][..]));
        assert_eq!(parsed("migrations up -y -q").unwrap().subcommand, Some("up"));
        assert_eq!(parsed("--version").unwrap().command.name, "version");
    }

    #[test]
    fn mistakes_get_kongs_words() {
        check_wrong("nope", "No such command: nope\n\nUsage: tidegate COMMAND");
        check_wrong("migrations nope", "No such command for migrations: nope");
        check_wrong("start --bogus", "tidegate: unrecognized parameter: bogus\n\nUsage: tidegate start");
        check_wrong("start bogus", "tidegate: unrecognized parameter: bogus");
        check_wrong("version -a b", "tidegate: unrecognized parameter: b");
        check_wrong("start -c", "tidegate: -c needs a value");
        check_wrong("migrations", "Usage: tidegate migrations bootstrap|up");
        check_wrong("", "Usage: tidegate COMMAND");
    }

    #[test]
    fn help_is_no_mistake() {
        assert!(matches!(parsed("--help"), Err(Refusal::Help(_))));
        assert!(matches!(parsed("start --help"), Err(Refusal::Help(_))));
    }
}
