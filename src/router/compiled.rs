//! A rule, compiled: what is costly is done here once, so that a router is rebuilt from parts that did not change.

use regex::bytes::Captures;
use regex::bytes::Regex;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::entity::path;
use crate::router::header::Condition;
use crate::router::host::Host;
use crate::router::host::Name;
use crate::router::literal::leading_literal;
use crate::router::priority::PathWeight;
use crate::router::priority::Priority;
use crate::router::priority::Weights;
use crate::router::rule::Match;
use crate::router::rule::Rule;
use crate::router::rule::Uncompiled;

/// Kong derives the ids of a split route's matchers in this namespace.
const SPLIT: Uuid = Uuid::from_u128(0x7f145bf9_0dce_4f91_98eb_debbce4b9f6b);

/// A rule that is ready to be put into routers, as often as wanted.
///
/// Its lists are as long as what is in them: a list that grew as it was collected has place for four, and most have one.
#[derive(Debug)]
pub struct Compiled {
    pub(crate) methods: Methods,
    pub(crate) hosts: Box<[Host]>,
    pub(crate) paths: Box<[Path]>,
    pub(crate) headers: Box<[Condition]>,
    pub(crate) snis: Box<[Name]>,
    /// What is matched and ranked on its own: one, or more where the paths differ in kind or length.
    pub(crate) groups: SmallVec<[Group; 1]>,
}

/// Compiles a rule. A rule that matches on nothing, or holds a broken regex or header name, is refused whole.
pub fn compile(rule: &Rule) -> Result<Compiled, Uncompiled> {
    parse(rule).map_err(|why| Uncompiled { id: rule.id, why })
}

/// A path of a rule.
#[derive(Debug)]
pub(crate) enum Path {
    Prefix(Box<[u8]>),
    Regex {
        regex: Regex,
        /// What every match begins with.
        literal: Box<[u8]>,
    },
}

/// The paths of a rule that share a priority.
#[derive(Debug)]
pub(crate) struct Group {
    pub id: Uuid,
    pub priority: Priority,
    /// Positions in `Compiled::paths`, in the rule's order; empty when the rule has no paths.
    pub paths: SmallVec<[usize; 1]>,
    pub regex: bool,
}

/// The bit of a method that is none of HTTP's own.
const OTHER: u16 = 1 << 15;

/// The methods of a rule: those of HTTP as bits; all bits when the rule names none.
#[derive(Debug)]
pub(crate) struct Methods {
    bits: u16,
    others: Box<[Box<str>]>,
}

/// What of a path matched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// Position in `Compiled::paths`.
    pub path: Option<usize>,
    pub len: usize,
}

impl Compiled {
    /// The groups of the regex of `found`, over the path it was found for. `None` when the route's path is no regex, or
    /// the regex has no groups.
    pub fn captures<'p>(&self, found: &Match, path: &'p [u8]) -> Option<Captures<'p>> {
        match self.paths.get(found.path?)? {
            Path::Regex { regex, .. } if regex.captures_len() > 1 => regex.captures(path),
            _ => None,
        }
    }

    /// Server names take no part when the connection is not TLS.
    pub(crate) fn snis_match(&self, sni: Option<&str>) -> bool {
        self.snis.is_empty() || sni.is_none_or(|sni| self.snis.iter().any(|name| name.matches(sni)))
    }

    /// The first of the group's paths that matches.
    pub(crate) fn first_path(&self, group: &Group, path: &[u8]) -> Option<Hit> {
        if group.paths.is_empty() {
            return Some(Hit { path: None, len: 0 });
        }
        group.paths.iter().find_map(|&at| {
            let len = self.paths[at].matched_len(path)?;
            Some(Hit { path: Some(at), len })
        })
    }
}

impl Path {
    /// Kong: strips as many bytes as the regex matched, wherever it matched them (`/a|/b` may match further right).
    fn matched_len(&self, path: &[u8]) -> Option<usize> {
        match self {
            Path::Prefix(prefix) => path.starts_with(prefix).then_some(prefix.len()),
            Path::Regex { regex, .. } => regex.find(path).map(|found| found.len()),
        }
    }

    /// What a path begins with when this one matches it.
    pub(crate) fn anchor(&self) -> &[u8] {
        match self {
            Path::Prefix(prefix) => prefix,
            Path::Regex { literal, .. } => literal,
        }
    }
}

impl Methods {
    fn parse(methods: &[String]) -> Methods {
        if methods.is_empty() {
            return Methods { bits: u16::MAX, others: Box::default() };
        }
        let bits = methods.iter().fold(0, |bits, method| bits | Methods::bit(method));
        let others = methods.iter().filter(|method| Methods::bit(method) == OTHER);
        Methods { bits, others: others.map(|method| method.as_str().into()).collect() }
    }

    /// The bit of a method of HTTP; 0 for any other.
    pub(crate) fn bit(method: &str) -> u16 {
        const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];
        KNOWN.iter().position(|known| *known == method).map_or(OTHER, |at| 1 << at)
    }

    /// The bits of all methods that may match. [`OTHER`] alone does not tell.
    pub(crate) fn bits(&self) -> u16 {
        self.bits
    }

    pub(crate) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// `bit` is that of `method`.
    pub(crate) fn contain(&self, bit: u16, method: &str) -> bool {
        self.bits & bit != 0
            && (bit != OTHER || self.others.is_empty() || self.others.iter().any(|other| **other == *method))
    }
}

fn parse(rule: &Rule) -> Result<Compiled, String> {
    let fields = [rule.methods.len(), rule.hosts.len(), rule.paths.len(), rule.headers.len(), rule.snis.len()]
        .into_iter()
        .map(|values| u8::from(values > 0))
        .sum();
    if fields == 0 {
        return Err("nothing to match on".to_owned());
    }
    let hosts: Box<[Host]> = rule.hosts.iter().map(|host| Host::parse(host)).collect();
    let plain_hosts = !hosts.is_empty() && hosts.iter().all(|host| matches!(host.name, Name::Plain(_)));
    let weights = Weights { fields, plain_hosts, headers: rule.headers.len(), path: PathWeight::Absent };
    let paths = rule.paths.iter().map(|path| parse_path(path)).collect::<Result<Box<[_]>, _>>()?;
    let groups = split(rule, &paths, weights);
    Ok(Compiled {
        methods: Methods::parse(&rule.methods),
        hosts,
        paths,
        headers: rule.headers.iter().map(|(name, values)| Condition::parse(name, values)).collect::<Result<_, _>>()?,
        snis: rule.snis.iter().map(|sni| Name::parse_sni(sni)).collect(),
        groups,
    })
}

fn parse_path(path: &str) -> Result<Path, String> {
    let Some(pattern) = path.strip_prefix('~') else {
        return Ok(Path::Prefix(path.as_bytes().into()));
    };
    let regex = path::compile(pattern).map_err(|why| format!("{path}: {why}"))?;
    let literal = leading_literal(regex.as_str()).into();
    Ok(Path::Regex { regex, literal })
}

/// One group for all regexes, one per length of prefix; in order of first appearance, which Kong numbers into their ids.
fn split(rule: &Rule, paths: &[Path], weights: Weights) -> SmallVec<[Group; 1]> {
    let mut groups = SmallVec::<[Group; 1]>::new();
    for (at, path) in paths.iter().enumerate() {
        let weight = match path {
            Path::Prefix(prefix) => PathWeight::Prefix(prefix.len()),
            Path::Regex { .. } => PathWeight::Regex(rule.regex_priority),
        };
        let same_kind = |group: &&mut Group| {
            let first = group.paths.first().map(|&at| &paths[at]);
            match (first, path) {
                (Some(Path::Prefix(first)), Path::Prefix(prefix)) => first.len() == prefix.len(),
                (Some(Path::Regex { .. }), Path::Regex { .. }) => true,
                _ => false,
            }
        };
        match groups.iter_mut().find(same_kind) {
            Some(group) => group.paths.push(at),
            None => groups.push(Group {
                id: rule.id,
                priority: Priority::of(Weights { path: weight, ..weights }),
                paths: SmallVec::from_elem(at, 1),
                regex: matches!(path, Path::Regex { .. }),
            }),
        }
    }
    if groups.is_empty() {
        groups.push(Group { id: rule.id, priority: Priority::of(weights), paths: SmallVec::new(), regex: false });
    }
    if groups.len() > 1 {
        for (at, group) in groups.iter_mut().enumerate() {
            group.id = Uuid::new_v5(&SPLIT, format!("{}#{}", rule.id, at + 1).as_bytes());
        }
    }
    groups
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rule(paths: &[&str]) -> Rule {
        Rule { id: Uuid::from_u128(7), paths: paths.iter().map(|path| (*path).to_owned()).collect(), ..Rule::default() }
    }

    #[test]
    fn paths_of_unlike_kind_or_length_are_ranked_apart() {
        for (paths, expected) in [
            (&[][..], &[&[][..]][..]),
            (&["/a", "/b"], &[&[0, 1]]),
            (&["/a", "~/x", "/bb", "/c", "~/yy", "/dd"], &[&[0, 3], &[1, 4], &[2, 5]]),
        ] {
            let rule = Rule { methods: vec!["GET".to_owned()], ..rule(paths) };
            let groups = compile(&rule).unwrap().groups;
            let positions: Vec<&[usize]> = groups.iter().map(|group| &group.paths[..]).collect();
            assert_eq!(positions, expected, "{paths:?}");
        }
    }

    #[test]
    fn only_a_split_rule_gets_derived_ids() {
        assert_eq!(compile(&rule(&["/a", "/b"])).unwrap().groups[0].id, Uuid::from_u128(7));
        let groups = compile(&rule(&["/a", "/bb"])).unwrap().groups;
        let second = Uuid::new_v5(&SPLIT, b"00000000-0000-0000-0000-000000000007#2");
        assert_eq!(groups[1].id, second);
        assert_ne!(groups[0].id, second);
    }

    #[test]
    fn what_cannot_be_compiled_says_why() {
        for (paths, why) in [(&[][..], "nothing to match on"), (&["~/a("], "~/a(: unclosed group")] {
            assert_eq!(compile(&rule(paths)).unwrap_err().why, why);
        }
    }
}
