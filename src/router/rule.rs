//! Input and output of the router: rules, queries, and matches.

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
    /// Position of the rule in what the router was made of.
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
