//! Finds the route of a request: Kong's `traditional_compatible` flavor, compiled.
//!
//! Kong tries every route in the order of its priority, and the first that matches wins. A [`Router`] gives that answer
//! without trying every one: each matcher stands at places that are found by host, then by path. What stays true, and makes
//! the shortcut right:
//!
//! - A matcher that can match a request stands in at least one place that the request leads to.
//! - A place or a list is left early only where nothing can beat the best match so far.
//! - A matcher counts as matching only when each of its conditions was checked, or follows from the way to its place.
//!
//! A router is made of another and what changes, and shares with it all that does not: the cost grows with the change.
//! Ranks lost, the position of each matcher in the order of trying: one route more would change those of all others.
//! Asking all lists of a request at once, best first, lost: they are few and short, and a heap costs more.

mod bucket;
pub mod compiled;
mod domains;
mod header;
mod host;
mod list;
mod literal;
mod matcher;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod measure;
mod order;
mod prefix_hash;
mod priority;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod reference;
mod rule;
mod sharded;
pub(crate) mod slots;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod text;

use std::sync::Arc;

use regex::bytes::Captures;

use crate::pace;
use crate::router::bucket::Bucket;
use crate::router::bucket::Content;
use crate::router::compiled::Compiled;
use crate::router::compiled::Group;
use crate::router::compiled::Hit;
use crate::router::compiled::Methods;
use crate::router::domains::Domains;
use crate::router::host::Name;
use crate::router::matcher::Checks;
use crate::router::matcher::Matcher;
use crate::router::matcher::number;
use crate::router::order::Rules;
use crate::router::order::order;
use crate::router::prefix_hash::Hashes;

pub use crate::router::rule::Match;
pub use crate::router::rule::Query;
pub use crate::router::rule::Rule;
pub use crate::router::rule::Uncompiled;

/// A group of paths and a set of hosts that together give more places than this is found by its hosts alone, and its
/// paths are then tried one by one. Tests have it low, so that random routes come to both sides of it.
const PLACES: usize = if cfg!(test) { 3 } else { 1024 };

/// Immutable once built; a copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct Router {
    rules: Rules,
    domains: Domains,
}

/// A search under way.
struct Search<'r, 'q> {
    router: &'r Router,
    query: &'q Query<'q>,
    host: &'q str,
    port: u32,
    method: u16,
    best: Option<Matcher>,
    hit: Hit,
}

/// A router in the making, with the places whose lists are to be put in order.
struct Draft {
    router: Router,
    unsettled: Vec<(Option<Name>, Box<[u8]>)>,
}

/// More changes than this, or more than half of the rules, and a router is built from nothing.
const CHANGES: usize = if cfg!(test) { 4 } else { 2_000 };

impl Router {
    /// The router of these rules. Their positions are what [`Match::rule`] tells.
    pub fn build(rules: &[Arc<Compiled>]) -> Router {
        Router::of(rules.iter().cloned().enumerate())
    }

    /// This router with other rules at some positions; `None` takes away the one that is there. What does not change is
    /// shared.
    pub fn changed(&self, changes: &[(usize, Option<Arc<Compiled>>)]) -> Router {
        if changes.len() > CHANGES {
            let mut rules = self.rules.clone();
            changes.iter().for_each(|(slot, rule)| rules.set(*slot, rule.clone()));
            return Router::of(rules.iter().map(|(slot, rule)| (slot, Arc::clone(rule))));
        }
        let mut draft = Draft { router: self.clone(), unsettled: Vec::new() };
        changes.iter().for_each(|(slot, rule)| draft.set(*slot, rule.clone()));
        draft.finish()
    }

    fn of(rules: impl Iterator<Item = (usize, Arc<Compiled>)>) -> Router {
        let mut draft = Draft { router: Router::default(), unsettled: Vec::new() };
        rules.for_each(|(slot, rule)| draft.set(slot, Some(rule)));
        draft.finish()
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
            best: None,
            hit: Hit { path: None, len: 0 },
        };
        let mut hashes = Hashes::of(query.path);
        self.domains.each(host, |bucket| search.bucket(bucket, &mut hashes));
        let best = search.best?;
        Some(Match { rule: best.slot as usize, matched_len: search.hit.len, path: search.hit.path })
    }

    /// What the groups of the route's regex matched of `path`, the path that `found` was found for. Runs the regex again.
    /// `None` when the path that matched is no regex, or has no groups.
    pub fn captures<'p>(&self, found: &Match, path: &'p [u8]) -> Option<Captures<'p>> {
        self.rules.at(found.rule)?.captures(found, path)
    }
}

impl Draft {
    fn set(&mut self, slot: usize, rule: Option<Arc<Compiled>>) {
        pace::step();
        if let Some(before) = self.router.rules.at(slot).cloned() {
            for (name, prefix) in before.groups.iter().flat_map(|group| ways(&before, group)) {
                self.change(name, prefix, |bucket| bucket.remove(prefix, number(slot)));
            }
        }
        if let Some(rule) = &rule {
            for (at, group) in rule.groups.iter().enumerate() {
                let matcher = Matcher::new(rule, slot, at);
                for (name, prefix) in ways(rule, group) {
                    self.change(name, prefix, |bucket| bucket.add(prefix, matcher));
                }
            }
        }
        self.router.rules.set(slot, rule);
    }

    fn change(&mut self, name: Option<&Name>, prefix: &[u8], change: impl FnOnce(&mut Bucket) -> bool) {
        if self.router.domains.change(name, change) {
            self.unsettled.push((name.cloned(), prefix.into()));
        }
    }

    fn finish(self) -> Router {
        let Router { rules, mut domains } = self.router;
        for (name, prefix) in self.unsettled {
            domains.change(name.as_ref(), |bucket| bucket.settle(&prefix, &rules));
        }
        Router { rules, domains }
    }
}

impl Search<'_, '_> {
    fn bucket(&mut self, bucket: &Bucket, hashes: &mut Hashes<'_>) {
        let query = self.query;
        bucket.search(hashes, query.path, self.least(), |content, prefix_len| {
            match content {
                Content::One(matcher) => self.try_each(&[*matcher], prefix_len),
                Content::Several(list) => list.visit(query, |matchers| self.try_each(matchers, prefix_len)),
            }
            self.least()
        });
    }

    /// What a matcher has to weigh, at least, to beat the best match.
    fn least(&self) -> u64 {
        self.best.map_or(0, |best| best.weight)
    }

    /// Tries matchers, the best first, until one matches or cannot beat the best match.
    fn try_each(&mut self, matchers: &[Matcher], prefix_len: usize) {
        for matcher in matchers {
            if self.best.is_some_and(|best| order(&self.router.rules, matcher, &best).is_le()) {
                return;
            }
            if let Some(hit) = self.check(matcher, prefix_len) {
                self.best = Some(*matcher);
                self.hit = hit;
                return;
            }
        }
    }

    /// Cheap conditions first, regexes last.
    fn check(&self, matcher: &Matcher, prefix_len: usize) -> Option<Hit> {
        if matcher.methods & self.method == 0 {
            return None;
        }
        let checks = matcher.checks;
        let by_way = Hit { path: matcher.path(), len: prefix_len };
        if checks.is_none() {
            return Some(by_way);
        }
        let compiled = self.router.rules.at(matcher.slot as usize)?;
        let fields = !checks.has(Checks::FIELDS)
            || compiled.methods.contain(self.method, self.query.method)
                && compiled.snis_match(self.query.sni)
                && compiled.headers.iter().all(|condition| condition.matches(self.query.headers));
        let hosts =
            || !checks.has(Checks::HOSTS) || compiled.hosts.iter().any(|host| host.matches(self.host, self.port));
        if !fields || !hosts() {
            return None;
        }
        if !checks.has(Checks::PATHS) {
            return Some(by_way);
        }
        compiled.first_path(compiled.groups.get(matcher.group as usize)?, self.query.path)
    }
}

/// The ways to a group: each host of its rule with each of its paths.
fn ways<'c>(compiled: &'c Compiled, group: &'c Group) -> impl Iterator<Item = (Option<&'c Name>, &'c [u8])> {
    let by_path =
        !group.paths.is_empty() && (group.paths.len() == 1 || group.paths.len() * compiled.hosts.len() <= PLACES);
    let paths = if by_path { &group.paths[..] } else { &[] };
    let prefixes = move || {
        let anchors = paths.iter().map(|&at| compiled.paths[at].anchor());
        anchors.chain((!by_path).then_some(&[][..]))
    };
    let hostless = compiled.hosts.is_empty().then_some(None);
    let names = compiled.hosts.iter().map(|host| Some(&host.name)).chain(hostless);
    names.flat_map(move |name| prefixes().map(move |prefix| (name, prefix)))
}
