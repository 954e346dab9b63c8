//! Tests only, run on demand: what finding and building cost, by number of routes.
//!
//! `cargo test --release --lib router::measure -- --ignored --nocapture`

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::HeaderValue;
use uuid::Uuid;

use crate::router::Query;
use crate::router::Router;
use crate::router::Rule;
use crate::router::compiled::compile;

const REQUESTS: usize = 20_000;
const ROUNDS: usize = 20;

/// A way to tell many routes apart: the number given is the route's.
struct Shape {
    name: &'static str,
    rule: fn(usize) -> Rule,
}

const SHAPES: &[Shape] = &[
    Shape { name: "hosts", rule: |n| Rule { hosts: vec![host(n)], ..Rule::default() } },
    Shape { name: "prefixes", rule: |n| Rule { paths: vec![prefix(n)], ..Rule::default() } },
    Shape {
        name: "hosts, methods, prefixes",
        rule: |n| Rule {
            hosts: vec![host(n / 8)],
            methods: vec!["GET".to_owned()],
            paths: vec![prefix(n)],
            ..Rule::default()
        },
    },
    Shape {
        name: "wildcard hosts",
        rule: |n| Rule { hosts: vec![format!("*.{}", host(n))], paths: vec!["/".to_owned()], ..Rule::default() },
    },
    Shape {
        name: "regexes",
        rule: |n| Rule { paths: vec![format!("~{}/(?<item>[0-9]+)$", prefix(n))], ..Rule::default() },
    },
    Shape {
        name: "headers on one path",
        rule: |n| Rule {
            paths: vec!["/".to_owned()],
            headers: vec![("x-tenant".to_owned(), vec![n.to_string()])],
            ..Rule::default()
        },
    },
    Shape {
        name: "server names on one path",
        rule: |n| Rule { paths: vec!["/".to_owned()], snis: vec![host(n)], ..Rule::default() },
    },
];

fn host(n: usize) -> String {
    format!("shop{n}.example.com")
}

fn prefix(n: usize) -> String {
    format!("/tenant-{n}/api")
}

#[test]
#[ignore = "takes seconds and asserts little: a measurement"]
#[allow(clippy::print_stdout)]
fn cost_by_number_of_routes() {
    for Shape { name, rule } in SHAPES {
        for routes in [10, 10_000, 100_000] {
            let rules: Vec<Rule> = (0..routes).map(|n| Rule { id: Uuid::from_u128(n as u128), ..rule(n) }).collect();
            let start = Instant::now();
            let compiled: Vec<_> = rules.iter().map(|rule| Arc::new(compile(rule).unwrap())).collect();
            let compiling = start.elapsed();
            let start = Instant::now();
            let router = Router::build(&compiled);
            let building = start.elapsed();
            let find_ns = find_ns(&router, &rules);
            println!(
                "{name:26} {routes:7} routes: compile {compiling:9.1?} build {building:9.1?} find {find_ns:6.0} ns"
            );
        }
    }
}

/// A request that a route takes.
struct Request {
    host: String,
    path: String,
    headers: HeaderMap,
    sni: String,
}

impl Request {
    fn of(rule: &Rule, n: usize) -> Request {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        headers.insert("user-agent", HeaderValue::from_static("measure"));
        headers.insert("x-tenant", n.into());
        Request {
            host: rule.hosts.first().map_or_else(|| "any.test".to_owned(), |host| host.replace('*', "a")),
            path: format!("{}/{n}", prefix(n)),
            headers,
            sni: rule.snis.first().cloned().unwrap_or_default(),
        }
    }

    fn query(&self) -> Query<'_> {
        let Request { host, path, headers, sni } = self;
        Query { method: "GET", host, path: path.as_bytes(), headers, sni: Some(sni), port: 80 }
    }
}

/// The quickest of several rounds, all over the routes. Requests are made beforehand, as making them is not to be measured.
fn find_ns(router: &Router, rules: &[Rule]) -> f64 {
    let numbers = (0..REQUESTS).map(|step| step * 7_919 % rules.len());
    let requests: Vec<Request> = numbers.map(|n| Request::of(&rules[n], n)).collect();
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for request in &requests {
            assert!(black_box(router.find(&black_box(request).query())).is_some());
        }
        start.elapsed().as_secs_f64()
    });
    rounds.fold(f64::INFINITY, f64::min) * 1e9 / REQUESTS as f64
}
