//! Tests only: who wins, as tables.

use std::sync::Arc;

use http::HeaderMap;
use uuid::Uuid;

use crate::router::Match;
use crate::router::Query;
use crate::router::Router;
use crate::router::Rule;
use crate::router::compiled::compile;

/// `METHOD,METHOD host,host /path,/path` with `-` for what takes no part; ids are positions, so the later wins a tie.
fn rule(at: usize, text: &str) -> Rule {
    let mut fields = text.split(' ').map(|field| {
        let values = field.split(',').filter(|value| *value != "-");
        values.map(str::to_owned).collect::<Vec<_>>()
    });
    let mut next = || fields.next().unwrap_or_default();
    Rule {
        id: Uuid::from_u128(at as u128 + 1),
        methods: next(),
        hosts: next(),
        paths: next(),
        headers: next().into_iter().map(|name| (name, vec!["1".to_owned()])).collect(),
        snis: next(),
        regex_priority: next().first().map_or(0, |priority| priority.parse().unwrap()),
    }
}

fn router(rules: &[&str]) -> Router {
    let rules = rules.iter().enumerate().map(|(at, text)| compile(&rule(at, text)).unwrap());
    Router::build(&rules.map(Arc::new).collect::<Vec<_>>())
}

/// `METHOD host /path`, over plain HTTP with the headers that the rules of this file name.
fn find(router: &Router, request: &str) -> Option<Match> {
    let mut parts = request.split(' ');
    let mut headers = HeaderMap::new();
    headers.insert("x-a", "1".parse().unwrap());
    headers.insert("x-b", "1".parse().unwrap());
    router.find(&Query {
        method: parts.next().unwrap(),
        host: parts.next().unwrap(),
        path: parts.next().unwrap().as_bytes(),
        headers: &headers,
        sni: None,
        port: 80,
    })
}

/// The first rule wins whatever the ids, which break ties only.
fn check(why: &str, request: &str, first: &str, second: &str) {
    assert_eq!(find(&router(&[first, second]), request).map(|found| found.rule), Some(0), "{why}");
    assert_eq!(find(&router(&[second, first]), request).map(|found| found.rule), Some(1), "{why}, ids swapped");
}

#[test]
fn precedence() {
    for (why, request, first, second) in [
        ("plain host, then anything", "GET h /very/long/prefix", "- h /", "- - /very/long/prefix"),
        ("plain host over more fields", "GET h /x", "- h -", "GET - /x"),
        ("more fields over length", "GET h /a/b", "GET - /a", "- - /a/b"),
        ("regex over more fields", "GET h /a", "- - ~/a", "GET - /a"),
        ("plain host over length under a wildcard", "GET a.x.com /longer", "- a.x.com /", "- *.x.com /longer"),
        ("regex over length", "GET h /x/y/z", "- - ~/x", "- - /x/y/z"),
        ("plain host over regex", "GET h /x", "- h -", "- - ~/x"),
        ("plain host over wildcard host", "GET a.x /", "- a.x -", "- *.x -"),
        ("a wildcard among the hosts makes none plain", "GET a.x /", "- - ~/", "- a.x,*.y /"),
        ("longer prefix", "GET h /a/b", "- - /a/b", "- - /a"),
        ("one more header", "GET h /a/b", "- - /a x-a,x-b", "- - /a/b x-a"),
        ("four fields over a plain host", "GET h.x /a", "GET *.x /a x-a", "- h.x /a x-a"),
        ("regex_priority", "GET h /a", "- - ~/a - - 2", "- - ~/.+ - - 1"),
        ("regex_priority does not help a prefix", "GET h /ab", "- - /ab", "- - /a - - 9"),
        ("each path of a route ranks for itself", "GET h /a/b", "- - /a/b", "- - /a,/a/b/c"),
    ] {
        check(why, request, first, second);
    }
}

#[test]
fn what_does_not_match_is_passed_over() {
    for (request, rules, expected) in [
        ("POST h /a/b", &["GET - /a", "- - /a/b"][..], Some(1)),
        ("GET h /a", &["POST h /a", "- - ~/ab", "- - /a"], Some(2)),
        ("GET h /a", &["- - /b"], None),
        ("GET other /", &["- h /"], None),
        ("GET h /A", &["- - /a"], None),
        ("get h /a", &["GET - /a"], None),
        ("PURGE h /a", &["GET,PURGE - /a"], Some(0)),
        ("GET h /", &[], None),
    ] {
        assert_eq!(find(&router(rules), request).map(|found| found.rule), expected, "{request} {rules:?}");
    }
}

#[test]
fn equal_priority_goes_to_the_greater_id() {
    for (request, tied) in [
        ("GET h /a", ["- - /a", "- - /a"]),
        ("GET a.x.b /", ["- *.b /", "- a.* /"]),
        ("GET b.a.x /", ["- *.a.x /", "- *.x /"]),
        ("GET h /abc", ["- - ~/abc", "- - ~/a"]),
        ("GET h /a", ["- - ~/a - - 1024", "- - ~/a"]),
    ] {
        for rules in [tied, [tied[1], tied[0]]] {
            assert_eq!(find(&router(&rules), request).map(|found| found.rule), Some(1), "{request} {rules:?}");
        }
    }
}

#[test]
fn a_match_says_what_was_matched() {
    for (request, rule, matched_len, path) in [
        ("GET h /a/b", "- h -", 0, None),
        ("GET h /apix", "- - /b,/api", 4, Some(1)),
        ("GET h /a/b", "- - /a/b,/b,/a", 4, Some(0)),
        ("GET h /v12/items/7", "- - ~/(?<v>v[0-9]+)/items", 10, Some(0)),
        ("GET h /ab", "- - ~/abc,~/a,~/ab", 2, Some(1)),
        ("GET h /x/b", "- - ~/a|/b", 2, Some(0)),
    ] {
        let found = find(&router(&[rule]), request);
        assert_eq!(found, Some(Match { rule: 0, matched_len, path }), "{request} {rule}");
    }
}

#[test]
fn captures_are_there_when_the_regex_has_groups() {
    let router = router(&["- - ~/(?<version>v[0-9]+)(/x)?/items", "- - ~/plain", "- - /p"]);
    let path = "/v12/items/7";
    let found = find(&router, &format!("GET h {path}")).unwrap();
    let captures = router.captures(&found, path.as_bytes()).unwrap();
    assert_eq!(&captures[0], b"/v12/items");
    assert_eq!(&captures["version"], b"v12");
    assert!(captures.get(2).is_none());
    for path in ["/plain", "/p"] {
        let found = find(&router, &format!("GET h {path}")).unwrap();
        assert!(router.captures(&found, path.as_bytes()).is_none(), "{path}");
    }
}
