//! Tests only: tries every route, as plainly as the rules are written, and agrees with the router on random routes and
//! requests. Shares no code with it but the types in and out.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::sample::subsequence;
use regex::bytes::Regex;
use uuid::Uuid;

use crate::router::Match;
use crate::router::Query;
use crate::router::Router;
use crate::router::Rule;
use crate::router::compiled::Compiled;
use crate::router::compiled::compile;

/// The answer of trying all matchers in order.
fn find(rules: &[Rule], query: &Query<'_>) -> Option<Match> {
    let mut matchers = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let groups = groups(rule);
        for (number, paths) in groups.iter().enumerate() {
            let name = format!("{}#{}", rule.id, number + 1);
            let derived = Uuid::new_v5(&"7f145bf9-0dce-4f91-98eb-debbce4b9f6b".parse().unwrap(), name.as_bytes());
            let id = if groups.len() > 1 { derived } else { rule.id };
            matchers.push((Reverse((priority(rule, paths), id)), at, paths.clone()));
        }
    }
    matchers.sort();
    matchers.into_iter().find_map(|(_, at, paths)| {
        let rule = &rules[at];
        let (path, matched_len) = path_match(rule, &paths, query.path)?;
        let fields = method_matches(rule, query) && host_matches(rule, query) && sni_matches(rule, query);
        (fields && headers_match(rule, query)).then_some(Match { rule: at, matched_len, path })
    })
}

fn groups(rule: &Rule) -> Vec<Vec<usize>> {
    let kind = |path: &String| if path.starts_with('~') { None } else { Some(path.len()) };
    let mut groups: Vec<(Option<usize>, Vec<usize>)> = Vec::new();
    for (at, path) in rule.paths.iter().enumerate() {
        match groups.iter_mut().find(|(other, _)| *other == kind(path)) {
            Some((_, group)) => group.push(at),
            None => groups.push((kind(path), vec![at])),
        }
    }
    if groups.is_empty() { vec![Vec::new()] } else { groups.into_iter().map(|(_, group)| group).collect() }
}

/// Numbers to be compared from the first on; greater goes first.
fn priority(rule: &Rule, paths: &[usize]) -> Vec<i128> {
    let taking_part = [rule.methods.len(), rule.hosts.len(), rule.paths.len(), rule.headers.len(), rule.snis.len()];
    let fields = taking_part.iter().filter(|values| **values > 0).count() as i128;
    let plain = i128::from(!rule.hosts.is_empty() && rule.hosts.iter().all(|host| !host.contains('*')));
    let path = paths.first().map_or("", |&at| &rule.paths[at]);
    let regex = i128::from(path.starts_with('~'));
    let regex_priority = if regex == 1 { i128::from(rule.regex_priority) } else { 0 };
    let length = if regex == 1 { 0 } else { path.len() as i128 };
    let headers = rule.headers.len() as i128;
    if fields >= 4 {
        return vec![1, fields, plain, headers, regex, regex_priority, length];
    }
    let merged = (fields << 29) | (headers << 20) | ((regex_priority.max(0) % 8192) << 19) | length;
    vec![0, plain, regex, merged, regex_priority.min(0)]
}

fn path_match(rule: &Rule, paths: &[usize], path: &[u8]) -> Option<(Option<usize>, usize)> {
    if paths.is_empty() {
        return Some((None, 0));
    }
    paths.iter().find_map(|&at| match rule.paths[at].strip_prefix('~') {
        Some(pattern) => {
            let found = search(&format!("^{pattern}"), path)?;
            Some((Some(at), found.len()))
        }
        None => path.starts_with(rule.paths[at].as_bytes()).then(|| (Some(at), rule.paths[at].len())),
    })
}

/// Compiled once per pattern, or the tests would do little else.
fn search(pattern: &str, text: &[u8]) -> Option<Range<usize>> {
    thread_local!(static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default());
    COMPILED.with_borrow_mut(|compiled| {
        let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).unwrap());
        regex.find(text).map(|found| found.range())
    })
}

fn method_matches(rule: &Rule, query: &Query<'_>) -> bool {
    rule.methods.is_empty() || rule.methods.iter().any(|method| method == query.method)
}

fn host_and_port(host: &str) -> (String, Option<u16>) {
    match host.split_once(':').map(|(name, port)| (name, port.parse())) {
        Some((name, Ok(port))) => (name.to_owned(), Some(port)),
        _ => (host.to_owned(), None),
    }
}

fn name_matches(entry: &str, name: &str) -> bool {
    match entry.split_once('*') {
        Some((before, after)) => name.starts_with(before) && name.ends_with(after),
        None => entry == name,
    }
}

fn host_matches(rule: &Rule, query: &Query<'_>) -> bool {
    let (name, port) = host_and_port(query.host);
    rule.hosts.is_empty()
        || rule.hosts.iter().any(|entry| {
            let (entry, wanted) = host_and_port(entry);
            name_matches(&entry, &name) && (wanted.is_none() || wanted == Some(port.unwrap_or(query.port)))
        })
}

fn sni_matches(rule: &Rule, query: &Query<'_>) -> bool {
    let Some(sni) = query.sni else { return true };
    rule.snis.is_empty() || rule.snis.iter().any(|entry| name_matches(entry.trim_end_matches('.'), sni))
}

fn headers_match(rule: &Rule, query: &Query<'_>) -> bool {
    rule.headers.iter().all(|(name, values)| {
        let name = name.to_lowercase().replace('_', "-");
        query.headers.iter().take(100).any(|(other, line)| {
            let line = line.to_str().unwrap().to_lowercase();
            other.as_str().replace('_', "-") == name
                && values.iter().map(|value| value.to_lowercase()).any(|value| match value.strip_prefix("~*") {
                    Some(pattern) => search(pattern, line.as_bytes()).is_some(),
                    None => value == line,
                })
        })
    })
}

const HOSTS: &[&str] =
    &["a.x", "b.x", "b.a.x", "*.x", "*.a.x", "a.*", "b.a.*", "a.x:80", "a.x:81", "*.x:81", "a.*:80", "x"];
const PATHS: &[&str] = &[
    "/",
    "/a",
    "/b",
    "/ab",
    "/a/",
    "/a/b",
    "/abc",
    "/é",
    "~/a",
    "~/a|/b",
    "~/(?<n>a+)(/b)?",
    "~/a$",
    "~/.b",
    "~/[ab]+/",
    "~/b?",
    "~/(a|ab)(c|)",
    "~/(?i)A",
    "~/a{2}",
];
const SNIS: &[&str] = &["a.x", "b.x.", "*.x", "a.*"];
const VALUES: &[&str] = &["1", "Two", "3", "~*^t", "~*\\D", "~*[^T]"];

fn some(all: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    let some = subsequence(all, 0..=most.min(all.len())).prop_shuffle();
    some.prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

/// Values of a field that often takes no part.
fn field(all: &'static [&'static str], absent: u32) -> impl Strategy<Value = Vec<String>> {
    prop_oneof![absent => Just(Vec::new()), 2 => some(all, 3)]
}

fn header_field(absent: u32) -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let one =
        (select(&["X-A", "x_b", "x-C"][..]), some(VALUES, 2)).prop_map(|(name, values)| (name.to_owned(), values));
    let distinct = prop::collection::vec(one, 1..3).prop_map(|mut headers| {
        headers.sort();
        headers.dedup_by(|a, b| a.0 == b.0);
        headers
    });
    prop_oneof![absent => Just(Vec::new()), 2 => distinct]
}

/// Routes of many shapes; with `crowded`, many on the same few hosts and paths, told apart by headers and server names.
fn rule(crowded: bool) -> impl Strategy<Value = Rule> {
    let (hosts, paths) = if crowded { (&HOSTS[..2], &PATHS[..2]) } else { (HOSTS, PATHS) };
    let often = if crowded { 9 } else { 1 };
    let regex_priority = select(&[-2, -1, 0, 0, 1, 5, 1024, 4096, 8192, 8193][..]);
    let methods = field(&["GET", "POST", "FOO", "BAR"], 2 * often);
    let rest = if crowded { 1 } else { 3 };
    (
        any::<u128>(),
        methods,
        field(hosts, often),
        field(paths, 1),
        header_field(rest),
        field(SNIS, rest),
        regex_priority,
    )
        .prop_map(|(id, methods, hosts, paths, headers, snis, regex_priority)| Rule {
            id: Uuid::from_u128(id),
            methods,
            hosts,
            paths,
            headers,
            snis,
            regex_priority,
        })
}

/// A request in parts that a query can borrow.
#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    host: &'static str,
    path: Vec<u8>,
    headers: HeaderMap,
    sni: Option<&'static str>,
    port: u16,
}

fn request() -> impl Strategy<Value = Request> {
    let host = select(
        &["", "a.x", "a.x:80", "a.x:81", "b.x", "b.a.x", "c.b.a.x:9", "a.", "a.y", "b.a.y:80", "x", ".x", "a.x:"][..],
    );
    let path = "/(a|b|ab|c|/|é){0,4}".prop_map(String::into_bytes);
    let broken = prop_oneof![9 => path.clone(), 1 => path.prop_map(|mut path| { path.push(0xFF); path })];
    let line = (select(&["x-a", "x_a", "x-b", "x_b", "x-c"][..]), select(&["1", "two", "TWO", "3", "x"][..]));
    let headers = prop::collection::vec(line, 0..5).prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    });
    let sni = select(&[None, Some(""), Some("a.x"), Some("b.x"), Some("c.x"), Some("a.y")][..]);
    (select(&["GET", "POST", "FOO", "BAZ"][..]), host, broken, headers, sni, select(&[80, 81][..]))
        .prop_map(|(method, host, path, headers, sni, port)| Request { method, host, path, headers, sni, port })
}

fn check(rules: &[Rule], requests: &[Request]) {
    let compiled: Vec<_> = rules.iter().map(|rule| compile(rule).map(Arc::new)).collect();
    let keep = |at: &usize| compiled[*at].is_ok();
    let rules: Vec<Rule> = (0..rules.len()).filter(keep).map(|at| rules[at].clone()).collect();
    let compiled: Vec<_> = compiled.into_iter().flatten().collect();
    let built = Router::build(&compiled);
    let changed = in_steps(&compiled);
    for request in requests {
        let Request { method, host, path, headers, sni, port } = request;
        let query = Query { method, host, path, headers, sni: *sni, port: *port };
        let expected = find(&rules, &query);
        assert_eq!(built.find(&query), expected, "{query:?}\nof {rules:#?}");
        assert_eq!(changed.find(&query), expected, "changed: {query:?}\nof {rules:#?}");
    }
}

/// The same rules in the end, after others stood at their positions and went. Routers made on the way have to stay as
/// they are, which is checked by going on from the first of them again.
fn in_steps(compiled: &[Arc<Compiled>]) -> Router {
    let last = compiled.len();
    let wrong: Vec<_> = (0..last).map(|at| (at, Some(Arc::clone(&compiled[(at + 1) % last])))).collect();
    let right = |at: usize| (at, Some(Arc::clone(&compiled[at])));
    let begun = Router::default().changed(&wrong);
    let mut router = begun.clone();
    for _ in 0..2 {
        router = begun.clone();
        for at in 0..last {
            router = match at % 3 {
                0 => router.changed(&[(at, None)]).changed(&[right(at)]),
                1 => router.changed(&[right(at)]),
                _ => router.changed(&[right(at), (last, Some(Arc::clone(&compiled[0])))]).changed(&[(last, None)]),
            };
        }
    }
    router
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_router_agrees_with_trying_every_route(
        rules in prop::collection::vec(rule(false), 0..24),
        requests in prop::collection::vec(request(), 32),
    ) {
        check(&rules, &requests);
    }

    #[test]
    fn routes_crowded_on_one_path_agree_with_trying_every_route(
        rules in prop::collection::vec(rule(true), 20..80),
        requests in prop::collection::vec(request(), 24),
    ) {
        check(&rules, &requests);
    }
}
