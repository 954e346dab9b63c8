//! Finds the route of a request: Kong's `traditional_compatible` flavor, compiled.
//!
//! Kong tries every route in the order of its priority, and the first that matches wins. A [`Router`] gives that answer
//! without trying every one: each matcher has a rank (0 is the best) and stands in sorted lists, found by host, then by
//! path. What stays true, and makes the shortcut right:
//!
//! - A matcher that can match a request stands in at least one list that the request leads to.
//! - A list is left early only at a rank that cannot beat the best match so far.
//! - A matcher counts as matching only when each of its conditions was checked, or follows from the way to its list.
//!
//! Asking all lists of a request at once, best first, lost: they are few and short, and a heap costs more.

pub mod compiled;
mod domains;
mod header;
mod host;
mod literal;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod measure;
mod priority;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod reference;
mod shelf;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod trie;

use std::sync::Arc;

use http::HeaderMap;
use regex::bytes::Captures;
use uuid::Uuid;

use crate::router::compiled::Compiled;
use crate::router::compiled::Group;
use crate::router::compiled::Hit;
use crate::router::compiled::Methods;
use crate::router::domains::ANY;
use crate::router::domains::Domains;
use crate::router::shelf::Rank;
use crate::router::shelf::Shelf;
use crate::router::trie::Forest;

/// A group of paths and a set of hosts that together give more places than this is found by its hosts alone, and its
/// paths are then tried one by one. Tests have it low, so that random routes come to both sides of it.
const PLACES: usize = if cfg!(test) { 3 } else { 1024 };

/// What a route matches on, as its entity says. Empty lists take no part.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub id: Uuid,
    pub methods: Vec<String>,
    pub hosts: Vec<String>,
    /// Prefixes, or regexes beginning with `~`.
    pub paths: Vec<String>,
    pub headers: Vec<(String, Vec<String>)>,
    pub snis: Vec<String>,
    pub regex_priority: i64,
}

/// A request as the router sees it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub method: &'a str,
    /// The Host header as sent, port included; empty when absent.
    pub host: &'a str,
    /// Normalised by `entity::path::normalise`.
    pub path: &'a [u8],
    pub headers: &'a HeaderMap,
    /// `None`: the connection is not TLS, and `snis` take no part. TLS without a server name: `Some("")`.
    pub sni: Option<&'a str>,
    /// The listening port, after `port_maps`; counts where the Host header has none.
    pub port: u16,
}

/// The best match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Position of the rule in what the router was built from.
    pub rule: usize,
    /// Bytes of `Query::path` that the route's path matched, to be stripped from its start; 0 when the route has no path.
    pub matched_len: usize,
    /// Position (in `Rule::paths`) of the path that matched.
    pub path: Option<usize>,
}

/// A rule that could not be compiled; the others work.
#[derive(Clone, Debug)]
pub struct Uncompiled {
    pub id: Uuid,
    pub why: String,
}

/// Immutable once built.
#[derive(Debug)]
pub struct Router {
    rules: Vec<Arc<Compiled>>,
    /// By rank.
    matchers: Vec<Matcher>,
    domains: Domains,
    /// A trie of path prefixes per bucket of `domains`; its values are lists of `shelf`.
    forest: Forest,
    shelf: Shelf,
}

/// One group of a rule, with what can be checked without looking at the rule.
#[derive(Debug)]
struct Matcher {
    rule: u32,
    group: u32,
    /// Length of the only path, a prefix, which the way to the matcher has compared.
    prefix_len: u32,
    /// Position of that path.
    path: u32,
    /// Bits of the methods it takes; all when any.
    methods: u16,
    checks: Checks,
}

/// Conditions to be checked on the rule itself.
#[derive(Clone, Copy, Debug)]
struct Checks {
    any: bool,
    hosts: bool,
    paths: bool,
}

/// A search under way.
struct Search<'r, 'q> {
    router: &'r Router,
    query: &'q Query<'q>,
    host: &'q str,
    port: u32,
    method: u16,
    best: Rank,
    hit: Hit,
}

/// A way to a matcher, while building.
type Place<'c> = (u32, &'c [u8], Rank);

impl Default for Router {
    fn default() -> Self {
        Router::build(&[])
    }
}

impl Router {
    /// Puts compiled rules in order. Their positions are what [`Match::rule`] tells.
    pub fn build(rules: &[Arc<Compiled>]) -> Router {
        let order = in_order(rules);
        let mut domains = Domains::default();
        let mut places = Vec::with_capacity(order.len());
        let mut matchers = Vec::with_capacity(order.len());
        for (rank, &(rule, group)) in order.iter().enumerate() {
            let compiled = &*rules[rule];
            place(compiled, &compiled.groups[group], number(rank), &mut domains, &mut places);
            matchers.push(Matcher::new(compiled, rule, group));
        }
        places.sort_unstable();
        places.dedup();
        let mut forest = Forest::new(domains.len());
        let mut shelf = Shelf::default();
        for bucket in places.chunk_by(|a, b| a.0 == b.0) {
            shelve(bucket, &mut forest, &mut shelf, |rank| &rules[order[rank as usize].0]);
        }
        Router { rules: rules.to_vec(), matchers, domains, forest, shelf }
    }

    /// The match with the highest priority, or none. Allocates nothing, but what the regex engine keeps per thread and
    /// for a header line beyond 512 bytes that has capitals.
    pub fn find(&self, query: &Query<'_>) -> Option<Match> {
        let (host, port) = host::split_port(query.host);
        let mut search = Search {
            router: self,
            query,
            host,
            port: port.unwrap_or(u32::from(query.port)),
            method: Methods::bit(query.method),
            best: Rank::MAX,
            hit: Hit { path: None, len: 0 },
        };
        self.domains.each(host, |bucket| search.bucket(bucket));
        let matcher = self.matchers.get(search.best as usize)?;
        Some(Match { rule: matcher.rule as usize, matched_len: search.hit.len, path: search.hit.path })
    }

    /// What the groups of the route's regex matched of `path`, the path that `found` was found for. Runs the regex again.
    /// `None` when the path that matched is no regex, or has no groups.
    pub fn captures<'p>(&self, found: &Match, path: &'p [u8]) -> Option<Captures<'p>> {
        self.rules.get(found.rule)?.captures(found, path)
    }
}

impl Matcher {
    fn new(compiled: &Compiled, rule: usize, group: usize) -> Matcher {
        let paths = &compiled.groups[group].paths;
        let only = match paths[..] {
            [at] if !compiled.groups[group].regex => Some(at),
            _ => None,
        };
        let checks = Checks {
            any: !compiled.headers.is_empty() || !compiled.snis.is_empty() || compiled.methods.has_others(),
            hosts: compiled.hosts.iter().any(|host| host.port.is_some() || !host.name.is_indexed()),
            paths: only.is_none() && !paths.is_empty(),
        };
        Matcher {
            rule: number(rule),
            group: number(group),
            prefix_len: number(only.map_or(0, |at| compiled.paths[at].anchor().len())),
            path: only.map_or(u32::MAX, number),
            methods: compiled.methods.bits(),
            checks,
        }
    }
}

impl Search<'_, '_> {
    fn bucket(&mut self, bucket: u32) {
        let Some(list) = self.router.forest.longest(bucket, self.query.path) else { return };
        self.router.shelf.climb(list, self.query, self.best, |ranks| self.try_each(ranks));
    }

    /// Tries ranks, the best first, until one matches or cannot beat the best match; returns the best match's rank.
    fn try_each(&mut self, ranks: &[Rank]) -> Rank {
        for &rank in ranks {
            if rank >= self.best {
                break;
            }
            if let Some(hit) = self.check(&self.router.matchers[rank as usize]) {
                self.best = rank;
                self.hit = hit;
                break;
            }
        }
        self.best
    }

    /// Cheap conditions first, regexes last.
    fn check(&self, matcher: &Matcher) -> Option<Hit> {
        let Checks { any, hosts, paths } = matcher.checks;
        if matcher.methods & self.method == 0 {
            return None;
        }
        if !any && !hosts && !paths {
            let path = (matcher.path != u32::MAX).then_some(matcher.path as usize);
            return Some(Hit { path, len: matcher.prefix_len as usize });
        }
        let compiled = &*self.router.rules[matcher.rule as usize];
        let admitted = compiled.methods.contain(self.method, self.query.method)
            && (!hosts || compiled.hosts.iter().any(|host| host.matches(self.host, self.port)))
            && compiled.snis_match(self.query.sni)
            && compiled.headers.iter().all(|condition| condition.matches(self.query.headers));
        if !admitted {
            return None;
        }
        compiled.first_path(&compiled.groups[matcher.group as usize], self.query.path)
    }
}

/// All groups of all rules, the first to be tried first, as positions of rule and group.
fn in_order(rules: &[Arc<Compiled>]) -> Vec<(usize, usize)> {
    let mut keyed = Vec::with_capacity(rules.len());
    for (rule, compiled) in rules.iter().enumerate() {
        let groups = compiled.groups.iter().enumerate();
        keyed.extend(groups.map(|(at, group)| (group.priority, group.id, (rule, at))));
    }
    keyed.sort_unstable_by(|a, b| b.cmp(a));
    keyed.into_iter().map(|(_, _, position)| position).collect()
}

/// Adds the ways to a matcher: each of its hosts with each of its paths.
fn place<'c>(compiled: &'c Compiled, group: &Group, rank: Rank, domains: &mut Domains, places: &mut Vec<Place<'c>>) {
    let by_path =
        !group.paths.is_empty() && (group.paths.len() == 1 || group.paths.len() * compiled.hosts.len() <= PLACES);
    let mut within = |bucket: u32| {
        if by_path {
            places.extend(group.paths.iter().map(|&at| (bucket, compiled.paths[at].anchor(), rank)));
        } else {
            places.push((bucket, &[], rank));
        }
    };
    if compiled.hosts.is_empty() {
        within(ANY);
    }
    for host in &compiled.hosts {
        within(domains.bucket(&host.name));
    }
}

/// Puts the matchers of one bucket on the shelf: a list per prefix, each knowing that of the next shorter one.
fn shelve<'c>(bucket: &[Place<'c>], forest: &mut Forest, shelf: &mut Shelf, compiled: impl Fn(Rank) -> &'c Compiled) {
    let first = shelf.next();
    let mut prefixes: Vec<&[u8]> = Vec::new();
    let mut above: Vec<(&[u8], u32)> = Vec::new();
    let mut ranks = Vec::new();
    for places in bucket.chunk_by(|a, b| a.1 == b.1) {
        let prefix = places[0].1;
        while above.pop_if(|(shorter, _)| !prefix.starts_with(shorter)).is_some() {}
        let up = above.last().map(|&(_, list)| list);
        above.push((prefix, shelf.next()));
        prefixes.push(prefix);
        ranks.clear();
        ranks.extend(places.iter().map(|place| place.2));
        shelf.add(&ranks, up, &compiled);
    }
    forest.fill(bucket[0].0, &prefixes, first);
}

/// Positions fit 32 bits: a router of 4 billion matchers would not fit memory.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn number(position: usize) -> u32 {
    position as u32
}
