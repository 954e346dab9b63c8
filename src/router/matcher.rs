//! One group of a rule, with what can be checked without looking at the rule.

use crate::router::compiled::Compiled;
use crate::router::compiled::Group;

/// Conditions that are to be checked on the rule itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checks(Bits);

/// Every set of three conditions. Not a number: what holds a matcher or something else then needs no place for which.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum Bits {
    None,
    Fields,
    Hosts,
    FieldsHosts,
    Paths,
    FieldsPaths,
    HostsPaths,
    All,
}

impl Bits {
    const EVERY: [Bits; 8] = [
        Bits::None,
        Bits::Fields,
        Bits::Hosts,
        Bits::FieldsHosts,
        Bits::Paths,
        Bits::FieldsPaths,
        Bits::HostsPaths,
        Bits::All,
    ];

    fn of(bits: u8) -> Bits {
        Bits::EVERY[usize::from(bits & 7)]
    }
}

impl Checks {
    pub(crate) const NONE: Checks = Checks(Bits::None);
    /// Headers, server names, or methods that HTTP does not know.
    pub(crate) const FIELDS: Checks = Checks(Bits::Fields);
    pub(crate) const HOSTS: Checks = Checks(Bits::Hosts);
    pub(crate) const PATHS: Checks = Checks(Bits::Paths);

    pub(crate) fn has(self, other: Checks) -> bool {
        self.0 as u8 & other.0 as u8 != 0
    }

    pub(crate) fn is_none(self) -> bool {
        matches!(self.0, Bits::None)
    }

    fn with(self, other: Checks, wanted: bool) -> Checks {
        if wanted { Checks(Bits::of(self.0 as u8 | other.0 as u8)) } else { self }
    }

    pub(crate) fn without(self, other: Checks) -> Checks {
        Checks(Bits::of(self.0 as u8 & !(other.0 as u8)))
    }
}

/// Small enough to stand wherever it may be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matcher {
    /// Of its priority, as [`crate::router::priority::Priority::weight`] says.
    pub weight: u64,
    /// Position of the rule.
    pub slot: u32,
    pub group: u32,
    /// Position of the only path, a prefix, which the way to the matcher has compared.
    path: u32,
    /// Bits of the methods it takes; all when any.
    pub methods: u16,
    pub checks: Checks,
}

impl Matcher {
    pub(crate) fn new(compiled: &Compiled, slot: usize, at: usize) -> Matcher {
        let group = &compiled.groups[at];
        let only = only_prefix(group);
        let fields = !compiled.headers.is_empty() || !compiled.snis.is_empty() || compiled.methods.has_others();
        let hosts = compiled.hosts.iter().any(|host| host.port.is_some() || !host.name.is_indexed());
        let checks = Checks::NONE
            .with(Checks::FIELDS, fields)
            .with(Checks::HOSTS, hosts)
            .with(Checks::PATHS, only.is_none() && !group.paths.is_empty());
        Matcher {
            weight: group.priority.weight(),
            slot: number(slot),
            group: number(at),
            path: only.map_or(u32::MAX, number),
            methods: compiled.methods.bits(),
            checks,
        }
    }

    /// The same group of the same rule.
    pub(crate) fn is(&self, other: &Matcher) -> bool {
        (self.slot, self.group) == (other.slot, other.group)
    }

    pub(crate) fn path(&self) -> Option<usize> {
        (self.path != u32::MAX).then_some(self.path as usize)
    }
}

fn only_prefix(group: &Group) -> Option<usize> {
    match group.paths[..] {
        [at] if !group.regex => Some(at),
        _ => None,
    }
}

/// Positions fit 32 bits: a router of 4 billion matchers would not fit memory.
#[expect(clippy::cast_possible_truncation, reason = "see above")]
pub(crate) fn number(position: usize) -> u32 {
    position as u32
}
