//! The works: what is prepared, and what a round does.

use std::hint::black_box;
use std::net::Ipv4Addr;

use http::header::HeaderMap;
use tidegate::counter::strict::Terms;
use tidegate::counter::strict::share::Share;
use tidegate::counter::{Counters, Limit, Name, Options, Period, Reach};
use tidegate::http1::request::{HeadScan, RequestHead};
use tidegate::http1::{HeadLimits, Parsed};
use tidegate::plugin::chain::Run;
use tidegate::plugin::notes::Notes;
use tidegate::plugin::upward::Upward;
use tidegate::plugin::{Exchange, Step};
use tidegate::proxy::measure::Desk;
use tidegate::router::Query;
use tidegate::snapshot::Builder;
use tidegate_bench::random;
use uuid::Uuid;

use crate::Outcome;
use crate::configuration;
use crate::requests::{self, Request};

pub struct Work {
    pub name: &'static str,
    /// In the first of the two counted runs; the second has twice as many.
    pub rounds: u64,
    /// In a round.
    pub operations: u64,
    pub prepare: fn() -> Outcome<Round>,
}

pub type Round = Box<dyn FnMut()>;

pub const FIND_FEW: &str = "route match among 10";
pub const FIND_MANY: &str = "route match among 100,000";

pub static WORKS: &[Work] = &[
    Work { name: FIND_FEW, rounds: 10, operations: FINDS as u64, prepare: || find(10) },
    Work { name: "route match among 10,000", rounds: 10, operations: FINDS as u64, prepare: || find(10_000) },
    Work { name: FIND_MANY, rounds: 10, operations: FINDS as u64, prepare: || find(100_000) },
    Work { name: "plugins: key-auth, rate-limiting", rounds: 10, operations: REPEATS, prepare: plugins },
    Work { name: "counter hit", rounds: 10, operations: REPEATS, prepare: || hits(Reach::Cluster) },
    Work { name: "counter hit, strict", rounds: 10, operations: REPEATS, prepare: || hits(Reach::Strict) },
    Work { name: "request head forwarded", rounds: 10, operations: REPEATS, prepare: forwarding },
    Work { name: "snapshot of 100,000 routes", rounds: 1, operations: 1, prepare: building },
    Work { name: "snapshot after one change", rounds: 5, operations: 1, prepare: rebuilding },
];

/// Requests of a round, spread over all routes.
const FINDS: usize = 999;
const REPEATS: u64 = 1_000;
const NOW_MS: u64 = 1_796_083_020_000;
/// Keyed by no chance, so that runs repeat.
const COUNTERS: Options = Options { capacity: 1 << 16, key: *b"of every run the" };

/// A browser's, twelve headers.
const HEAD: &[u8] = b"GET /api/items/17?page=2&sort=name HTTP/1.1\r\n\
    Host: shop.example.com\r\n\
    Connection: keep-alive\r\n\
    Cache-Control: max-age=0\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://shop.example.com/start\r\n\
    Cookie: session=4b1f0c7e9d2a4f6bb8c3; theme=dark; seen=1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\r\n";

fn find(routes: usize) -> Outcome<Round> {
    let router = requests::router(routes)?;
    let order = random::order(routes);
    let numbers = (0..FINDS).map(|step| order[step * routes / FINDS.min(routes) % routes]);
    let requests: Vec<Request> = numbers.map(Request::of).collect();
    Ok(Box::new(move || {
        for request in &requests {
            let found = router.find(&black_box(request).query());
            assert!(found.is_some_and(|found| found.rule == request.number));
        }
    }))
}

/// `access` of both plugins, with the answer's headers that they leave.
fn plugins() -> Outcome<Round> {
    let snapshot = configuration::build(&mut Builder::default(), configuration::limited()?)?;
    let counters = Counters::new(COUNTERS);
    counters.set_peers(35, 0, 0);
    let asked = format!("GET /items?page=2 HTTP/1.1\r\nApikey: {}\r\nAccept: */*\r\n\r\n", configuration::KEY);
    let mut head = RequestHead::default();
    let parsed = head.parse(asked.as_bytes(), &HeadLimits::default(), &mut HeadScan::default());
    if parsed != Parsed::Head(asked.len()) {
        return Err("the request is not valid".into());
    }
    let round = move || {
        let headers = HeaderMap::new();
        let query = Query { method: "GET", host: "h", path: b"/items", headers: &headers, sni: None, port: 80 };
        let found = snapshot.find(&query);
        for _ in 0..REPEATS {
            let Some(plan) = found.as_ref().map(|found| found.plan) else { continue };
            let (mut upward, mut response_headers) = (Upward::default(), Vec::new());
            let mut exchange = Exchange {
                request: &head,
                path: b"/items",
                body: None,
                route_id: Some(plan.route_id),
                service_id: plan.service.as_ref().map(|service| service.id),
                client_ip: Ipv4Addr::LOCALHOST.into(),
                now_s: NOW_MS / 1_000,
                now_ms: NOW_MS,
                consumer: None,
                credential: None,
                upward: &mut upward,
                response_headers: &mut response_headers,
                notes: &mut Notes::default(),
                directory: &snapshot.directory,
                counters: &counters,
            };
            let step = plan.chain.access(&mut exchange, &mut Run::default());
            assert!(matches!(step, Step::Continue) && exchange.response_headers.len() == 5);
        }
    };
    round();
    Ok(Box::new(round))
}

/// The hash of a name, and the decision about a counter that is in the cache, and named in the first round.
fn hits(reach: Reach) -> Outcome<Round> {
    let counters = Counters::new(COUNTERS);
    counters.set_peers(35, 0, 0);
    counters.strict().set_terms(&Terms { shares: vec![(0, Share::WHOLE)], until_s: u64::MAX });
    let limits = [Limit { period: Period::Minute, limit: 1e9 }];
    let round = move || {
        for _ in 0..REPEATS {
            let subject = counters.subject(Uuid::nil(), Uuid::max(), black_box(b"0123456789abcdef"));
            let verdict = counters.hit(subject, reach, &limits, NOW_MS);
            assert!(verdict.admitted);
            if verdict.unnamed {
                let name = || Name { limit_by: "ip", identifier: String::new(), route: None, service: None };
                counters.name(subject, &limits, name);
            }
        }
    };
    round();
    Ok(Box::new(round))
}

/// A request's head read, and that for the upstream written.
fn forwarding() -> Outcome<Round> {
    let mut desk = Desk::default();
    let mut round = move || {
        for _ in 0..REPEATS {
            assert!(desk.forward(black_box(HEAD), "/api".len()).is_some());
        }
    };
    round();
    Ok(Box::new(round))
}

fn building() -> Outcome<Round> {
    let entities = configuration::large()?;
    let mut made = Vec::new();
    Ok(Box::new(move || {
        let mut builder = Builder::default();
        let snapshot = configuration::build(&mut builder, entities.clone());
        assert!(snapshot.is_ok());
        // Kept: freeing is no part of it.
        made.push((builder, snapshot.ok()));
    }))
}

/// Collecting the entities and replacing the snapshot of before are part of it, as they are of the publisher's work.
fn rebuilding() -> Outcome<Round> {
    let mut entities = configuration::large()?;
    let mut builder = Builder::default();
    let mut live = configuration::build(&mut builder, entities.clone())?;
    let mut changes = 0;
    Ok(Box::new(move || {
        changes += 1;
        let changed = configuration::with_route_at(&mut entities, changes * 7_919, &format!("/moved{changes}"));
        let snapshot = configuration::build(&mut builder, entities.clone());
        assert!(changed.is_ok() && snapshot.is_ok());
        if let Ok(snapshot) = snapshot {
            live = snapshot;
        }
        black_box(&live);
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_work_of_the_request_path_does_its_round() {
        for work in WORKS.iter().filter(|work| work.operations > 1) {
            let mut round = (work.prepare)().unwrap();
            round();
        }
    }

    #[test]
    fn names_of_works_differ_and_the_browser_sends_twelve_headers() {
        let mut names: Vec<_> = WORKS.iter().map(|work| work.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), WORKS.len());
        assert_eq!(HEAD.windows(2).filter(|pair| pair == b"\r\n").count(), 1 + 12 + 1);
    }
}
