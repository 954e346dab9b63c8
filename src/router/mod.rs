//! Finds the route of a request: Kong's `traditional_compatible` flavor, compiled.

use http::HeaderMap;
use uuid::Uuid;

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
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    /// `None`: the connection is not TLS, and `snis` take no part.
    pub sni: Option<&'a str>,
    /// TLS without a server name: `Some("")` in `sni`. The listening port, after `port_maps`.
    pub port: u16,
}

/// The best match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Position of the rule in what the router was built from.
    pub rule: usize,
    /// Bytes of `Query::path` that the route's path matched; 0 when the route has no path.
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
#[derive(Debug, Default)]
pub struct Router {}

impl Router {
    /// Compiles every rule. What cannot be compiled is left out and reported.
    pub fn build(rules: &[Rule]) -> (Router, Vec<Uncompiled>) {
        let _ = rules;
        (Router {}, Vec::new())
    }

    /// The match with the highest priority, or none.
    pub fn find(&self, query: &Query<'_>) -> Option<Match> {
        let _ = query;
        None
    }
}
