//! Floors and habits, checked by reading the text of the code: what the compiler cannot hold, this does.
//!
//! Each test gathers every offender before it fails, so that one run shows all there is to mend.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules of `src/` by floor: a module may name lower floors and itself, never a sibling.
const FLOORS: &[&[&str]] = &[
    &["pace"],
    &["entity"],
    &["http1", "router", "balancer", "counter", "listen"],
    &["plugin", "cluster/core"],
    &["snapshot", "store"],
    &["proxy", "admin", "cluster"],
    &["node"],
];

/// Crates with sharp edges, and the few places where each may be named.
const FENCED: &[(&str, &str)] = &[
    ("bincode", "proto/src/"),
    ("tokio_postgres", "src/store/postgres"),
    ("tokio_postgres_rustls", "src/store/postgres"),
    ("redb", "src/store/embedded"),
    ("multer", "src/admin/"),
    ("serde_saphyr", "src/entity/declarative/"),
    ("hickory_resolver", "src/proxy/upstream/"),
    ("rcgen", "src/listen/tls"),
    ("rcgen", "src/cluster/transport/identity"),
    ("rcgen", "bench/src/peer/"),
    ("quinn", "src/cluster/transport"),
    ("quinn_proto", "src/cluster/transport/"),
    ("chitchat", "src/cluster/membership"),
];

/// Folders, with all folders below them, that may still contain import cycles.
const CYCLES_EXEMPT: &[&str] = &["src/entity", "src/plugin", "src/proxy", "src/snapshot"];

/// Longest file without its tests, and with them.
const CODE_LINES_MAX: usize = 500;
const FILE_LINES_MAX: usize = 800;
/// Longer files, each with the reason.
const LONG: &[(&str, &str)] = &[];

const UNWANTED_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "manager", "misc"];

/// A file of the repository.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
    /// Nothing in it runs outside of tests.
    tests_only: bool,
}

impl Source {
    /// The lines before the tests, without comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("mod tests {");
        let end = tests.and_then(|tests| self.text[..tests].rfind("#[cfg(test)]"));
        numbered(if self.tests_only { "" } else { &self.text[..end.unwrap_or(self.text.len())] })
    }

    /// All lines without comments, numbered from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        numbered(&self.text)
    }

    /// The tests of a module in a file of their own: the module says what they are about.
    fn is_unit_test(&self) -> bool {
        self.path.starts_with("src/") && self.tests_only
    }

    /// `router` for `src/router/…` and `src/router.rs`; the core of the cluster stands lower than the rest of it.
    fn module(&self) -> Option<&str> {
        if self.path.starts_with("src/cluster/core/") {
            return Some("cluster/core");
        }
        self.path.strip_prefix("src/")?.split(['/', '.']).next()
    }
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(at, line)| (at + 1, without_comment(line)))
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line.split(" // ").next().unwrap_or_default() }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(wanted: impl Fn(&str) -> bool) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    found.retain(|path| wanted(path));
    found.sort();
    let read = |path: String| {
        let text = fs::read_to_string(root().join(&path)).ok()?;
        Some(Source { tests_only: path.starts_with("tests/"), path, text })
    };
    found.into_iter().filter_map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !path.is_symlink() {
            if !matches!(name.as_str(), "target" | ".git" | "tidegate-data" | "node_modules") {
                walk(&path, found);
            }
        } else if name != ".git" {
            found.push(path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/"));
        }
    }
}

fn rust() -> Vec<Source> {
    let mut sources = files(|path| path.ends_with(".rs"));
    assert!(sources.len() > 20, "the walk found next to nothing");
    let tests: Vec<String> = sources.iter().flat_map(test_modules).collect();
    for source in &mut sources {
        let of_tests = |module: &String| {
            source.path.strip_prefix(module.as_str()).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        source.tests_only |= tests.iter().any(of_tests);
    }
    sources
}

/// Paths, without `.rs`, of the modules that `source` declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let root = source.path.strip_suffix("/mod.rs").or(source.path.strip_suffix("/lib.rs"));
    let folder = root.or(source.path.strip_suffix(".rs")).unwrap_or_default();
    let declared = source.text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().find(|line| !line.starts_with("#["))?;
        line.trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';')
    });
    declared.map(|name| format!("{folder}/{name}")).collect()
}

fn assert_none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}\n", offenders.join("\n  "));
}

fn floor(module: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&module))
}

/// The modules that a line names by `crate::` paths.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let word = |rest: &str| rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    line.split("crate::")
        .skip(1)
        .map(move |rest| if rest.starts_with("cluster::core") { "cluster/core" } else { &rest[..word(rest)] })
}

#[test]
fn modules_name_lower_floors_only() {
    let mut offenders = Vec::new();
    for source in rust() {
        let Some(own) = source.module() else { continue };
        let Some(own_floor) = floor(own) else { continue };
        for (number, line) in source.lines() {
            for other in named(line).filter(|other| *other != own) {
                if floor(other).is_some_and(|other_floor| other_floor >= own_floor) {
                    offenders.push(format!("{}:{number}: {own} names {other}", source.path));
                }
            }
        }
    }
    assert_none("a module may name lower floors and itself only", &offenders);
}

#[test]
fn every_module_has_a_floor() {
    let offenders: Vec<_> = rust()
        .iter()
        .filter_map(Source::module)
        .filter(|module| !matches!(*module, "lib" | "main") && floor(module).is_none())
        .map(str::to_owned)
        .collect();
    assert_none("modules without a floor in tests/tidy.rs", &offenders);
}

#[test]
fn the_data_plane_cannot_spell_a_store() {
    let lower =
        ["entity", "router", "balancer", "counter", "listen", "plugin", "snapshot", "proxy", "cluster", "cluster/core"];
    let mut offenders = Vec::new();
    for source in rust() {
        if !source.module().is_some_and(|module| lower.contains(&module)) {
            continue;
        }
        for (number, line) in source.lines() {
            if line.contains("crate::store") || line.contains("use tokio_postgres") || line.contains("use redb") {
                offenders.push(format!("{}:{number}", source.path));
            }
        }
    }
    assert_none("what a request passes through names a store", &offenders);
}

#[test]
fn imports_can_be_read_line_by_line() {
    let mut offenders = Vec::new();
    for source in rust() {
        for (number, line) in source.lines() {
            if line.contains(concat!("use crate::", "{")) {
                offenders.push(format!("{}:{number}: a group at the root", source.path));
            }
        }
        for (number, line) in source.code() {
            if line.contains("super::") {
                offenders.push(format!("{}:{number}: a path out of its module", source.path));
            }
        }
    }
    assert_none("write imports as `use crate::router::Route;`", &offenders);
}

#[test]
fn files_say_what_they_are_for() {
    let explained = |source: &Source| source.is_unit_test() || source.text.starts_with("//!");
    let offenders: Vec<_> = rust().into_iter().filter(|source| !explained(source)).map(|source| source.path).collect();
    assert_none("files that do not open with `//!`", &offenders);
}

#[test]
fn files_are_short() {
    let mut offenders = Vec::new();
    for source in rust().into_iter().filter(|source| !source.tests_only) {
        let (code, all) = (source.code().count(), source.lines().count());
        let long = code > CODE_LINES_MAX || all > FILE_LINES_MAX;
        let listed = LONG.iter().any(|(path, reason)| *path == source.path && !reason.is_empty());
        if long != listed {
            offenders.push(format!("{}: {code} lines of code, {all} in all, listed: {listed}", source.path));
        }
    }
    assert_none("files too long for one reading, or listed as such in vain", &offenders);
}

#[test]
fn nothing_is_left_for_later() {
    let words = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!("));
    let mut offenders = Vec::new();
    for source in rust() {
        for (number, line) in source.lines() {
            if words.iter().any(|word| line.contains(word)) {
                offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("unfinished", &offenders);
}

#[test]
fn nothing_from_outside_can_stop_a_thread() {
    let words = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "process::exit("];
    let mut offenders = Vec::new();
    for source in rust() {
        for (number, line) in source.code() {
            if source.path.starts_with("src/") && words.iter().any(|word| line.contains(word)) {
                offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("panics in code that runs outside of tests", &offenders);
}

#[test]
fn the_data_plane_knows_no_json_but_in_plugins() {
    let plane = ["router", "balancer", "counter", "listen", "proxy"];
    let mut offenders = Vec::new();
    for source in rust().iter().filter(|source| source.module().is_some_and(|module| plane.contains(&module))) {
        let named = source.code().filter(|(_, line)| line.contains("serde_json"));
        offenders.extend(named.map(|(number, _)| format!("{}:{number}", source.path)));
    }
    assert_none("JSON where requests pass", &offenders);
}

#[test]
fn sharp_crates_live_in_one_place() {
    let mut offenders = Vec::new();
    for source in rust().iter().filter(|source| !source.tests_only) {
        for (number, line) in source.code() {
            for (name, place) in FENCED {
                let used = line.contains(&format!("{name}::")) && !line.contains(&format!("_{name}::"));
                let allowed = FENCED.iter().any(|(other, place)| other == name && source.path.starts_with(place));
                if used && !allowed {
                    offenders.push(format!("{}:{number}: {name} belongs into {place}", source.path));
                }
            }
        }
    }
    assert_none("crates outside their place", &offenders);
}

#[test]
fn names_say_something() {
    let mut offenders = Vec::new();
    for source in rust() {
        let unwanted = |part: &str| UNWANTED_NAMES.contains(&part);
        if source.path.split(['/', '.']).any(unwanted) {
            offenders.push(source.path.clone());
        }
        for (number, line) in source.code() {
            if line.contains("fn get_") {
                offenders.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none("names to make better", &offenders);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut offenders = Vec::new();
    for source in files(|path| !path.starts_with("tests/scenarios/")) {
        for (at, line) in source.text.lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                offenders.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    assert_none("paths of a machine", &offenders);
}

/// Names from the root of a crate to a module; empty for the root itself.
type ModulePath = Vec<String>;

/// One folder's imports: importing child, imported child, and one line for each pair that shows where it is.
type ChildImports = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn folders_have_no_import_cycles() {
    let sources = rust();
    let mut offenders = Vec::new();
    for base in ["src", "proto/src"] {
        for (folder, imports) in imports_by_folder(base, &sources) {
            let folder = if folder.is_empty() { base.to_owned() } else { format!("{base}/{}", folder.join("/")) };
            let exempt = CYCLES_EXEMPT.iter().any(|exempt| Path::new(&folder).starts_with(exempt));
            // Floors order the modules of `src` itself.
            if !exempt && folder != "src" {
                offenders.extend(cycles(&imports).iter().map(|cycle| described(&folder, cycle, &imports)));
            }
        }
    }
    assert_none("children of a folder that import each other", &offenders);
}

#[test]
fn import_cycles_are_found() {
    let check = |files: &[(&str, &str)], expected: &[&[&str]]| {
        let source = |(path, text): &(&str, &str)| Source {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
            tests_only: false,
        };
        let sources: Vec<_> = files.iter().map(source).collect();
        let found: Vec<_> = imports_by_folder("src", &sources).values().flat_map(cycles).collect();
        assert_eq!(found, expected, "{files:?}");
    };
    check(&[("src/a/b.rs", "use crate::a::c::C;"), ("src/a/c.rs", "fn c() {}")], &[]);
    check(&[("src/a/b.rs", "use crate::a::c::C;"), ("src/a/c.rs", "fn c() { crate::a::b::B }")], &[&["b", "c"]]);
    check(&[("src/a/mod.rs", "pub use b::B;"), ("src/a/b.rs", "use crate::a::A;")], &[&["a", "b"]]);
    check(
        &[("src/a.rs", "use crate::a::{\n    b::{self, B},\n};"), ("src/a/b.rs", "use crate::a::A;")],
        &[&["a", "b"]],
    );
    check(
        &[("src/a/b.rs", "use crate::a::c::C;"), ("src/a/b/d.rs", ""), ("src/a/c.rs", "use crate::a::b::d;")],
        &[&["b", "c"]],
    );
    check(&[("src/a/b.rs", "use crate::a::{c::C, B};"), ("src/a/c.rs", "// use crate::a::b::B;")], &[]);
}

/// The imports between the direct children of each folder of the crate whose files are below `base`.
///
/// A file and the folder of the same name are one child. The folder's own module file is a child with the folder's name.
fn imports_by_folder(base: &str, sources: &[Source]) -> BTreeMap<ModulePath, ChildImports> {
    let modules: BTreeMap<ModulePath, &Source> = sources
        .iter()
        .filter(|source| !source.tests_only)
        .filter_map(|source| Some((module_path(base, &source.path)?, source)))
        .collect();
    let mut folders: BTreeMap<ModulePath, ChildImports> = BTreeMap::new();
    for (importer, source) in &modules {
        for path in imported_paths(importer, source, &modules) {
            let known = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length]));
            let imported = &path[..known.unwrap_or_default()];
            let shared = importer.iter().zip(imported).take_while(|(own, other)| own == other).count();
            let folder = &importer[..shared];
            let own_file = folder.last().map_or("lib", String::as_str);
            let child = |module: &[String]| module.get(shared).map_or(own_file, String::as_str).to_owned();
            let (from, to) = (child(importer), child(imported));
            if from != to {
                let example = format!("{} names {}", source.path, path.join("::"));
                folders.entry(folder.to_vec()).or_default().entry(from).or_default().insert(to, example);
            }
        }
    }
    folders
}

/// `["router", "list"]` for `src/router/list.rs`, `["router"]` for `src/router/mod.rs`; `None` outside of `base`.
fn module_path(base: &str, path: &str) -> Option<ModulePath> {
    let inside = path.strip_prefix(base)?.strip_prefix('/')?.strip_suffix(".rs")?;
    let mut names: ModulePath = inside.split('/').map(str::to_owned).collect();
    if matches!(names.last()?.as_str(), "mod" | "lib" | "main") {
        names.pop();
    }
    Some(names)
}

/// The paths, from the root of the crate, that a module names: `crate::` paths, and paths that begin with a child of it.
fn imported_paths(module: &[String], source: &Source, modules: &BTreeMap<ModulePath, &Source>) -> Vec<ModulePath> {
    let code = source.code().map(|(_, line)| line).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let start = code[..at].rfind(|c: char| !is_name(c)).map_or(0, |before| before + 1);
        let first = &code[start..at];
        if first.is_empty() || code[..start].ends_with("::") {
            continue;
        }
        let child = [module, &[first.to_owned()]].concat();
        if first == "crate" {
            expand(&code[at + 2..], &[], &mut found);
        } else if modules.contains_key(&child) {
            expand(&code[at + 2..], &child, &mut found);
        }
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Adds the paths that begin with `path` and go on with the start of `text`, which may be a group in braces. Returns the
/// text behind them.
fn expand<'a>(text: &'a str, path: &[String], found: &mut Vec<ModulePath>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut members) = text.strip_prefix('{') {
        while !members.is_empty() {
            members = members.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if let Some(rest) = members.strip_prefix('}') {
                return rest;
            }
            let rest = expand(members, path, found);
            // A member that is no path, such as `a as b`, ends at the next comma or brace.
            members = rest.find([',', '}']).map_or("", |end| &rest[end..]);
        }
        return members;
    }
    let (name, rest) = text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()));
    let longer = if matches!(name, "" | "self") { path.to_vec() } else { [path, &[name.to_owned()]].concat() };
    match rest.strip_prefix("::") {
        Some(rest) if rest.starts_with(|c| is_name(c) || c == '{') => expand(rest, &longer, found),
        _ => {
            found.push(longer);
            rest
        }
    }
}

/// The strongly connected components with more than one child, each sorted.
fn cycles(imports: &ChildImports) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|child| (child, reachable(child, imports))).collect();
    let mutual = |one: &String, other: &String| reached.get(one).is_some_and(|reached| reached.contains(other));
    let mut found = BTreeSet::new();
    for child in imports.keys().filter(|child| mutual(child, child)) {
        let cycle = imports.keys().filter(|other| mutual(child, other) && mutual(other, child));
        found.insert(cycle.cloned().collect::<Vec<_>>());
    }
    found.into_iter().collect()
}

fn reachable<'a>(child: &String, imports: &'a ChildImports) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&String> = imports.get(child).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}

fn described(folder: &str, cycle: &[String], imports: &ChildImports) -> String {
    let within = |name: &&String| cycle.contains(name);
    let examples = imports.iter().filter(|(child, _)| cycle.contains(child)).flat_map(|(_, imported)| {
        imported.iter().filter(|(other, _)| within(other)).map(|(other, example)| format!("\n    {other}: {example}"))
    });
    format!("{folder}: {}{}", cycle.join(", "), examples.collect::<String>())
}
