//! What kinds of frames there are: number, name and bounds of each in one place.

use crate::sizes::FRAME_LEN_MAX;

/// The kind of a frame. Numbers are never used again, names are those of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Hello,
    Beat,
    Spans,
    Pull,
    Whole,
    Fetch,
    Chunk,
    Gossip,
    Leave,
    Busy,
    Counts,
    CountsPull,
    Ask,
    Grant,
    #[cfg(test)]
    Probe,
}

/// What is fixed about a kind.
struct Fact {
    kind: Kind,
    number: u16,
    name: &'static str,
    /// The version that brought it.
    since: u8,
    /// Bytes, with the envelope's head.
    len_max: usize,
}

/// In the order of `Kind`.
const FACTS: &[Fact] = &[
    fact(Kind::Hello, 1, "hello", 1, 4 << 10),
    fact(Kind::Beat, 2, "beat", 1, 1 << 10),
    fact(Kind::Spans, 3, "spans", 1, FRAME_LEN_MAX),
    fact(Kind::Pull, 4, "pull", 1, 512 << 10),
    fact(Kind::Whole, 5, "whole", 1, 512 << 10),
    fact(Kind::Fetch, 6, "fetch", 1, 4 << 10),
    fact(Kind::Chunk, 7, "chunk", 1, FRAME_LEN_MAX),
    fact(Kind::Gossip, 8, "gossip", 1, 256 << 10),
    fact(Kind::Leave, 9, "leave", 1, 4 << 10),
    fact(Kind::Busy, 10, "busy", 1, 4 << 10),
    fact(Kind::Counts, 11, "counts", 2, 64 << 10),
    fact(Kind::CountsPull, 12, "counts_pull", 2, 1 << 10),
    fact(Kind::Ask, 13, "ask", 2, 1 << 10),
    fact(Kind::Grant, 14, "grant", 2, 1 << 10),
    #[cfg(test)]
    fact(Kind::Probe, 40_000, "probe", 3, 4 << 10),
];

impl Kind {
    /// Every kind, for tables by kind.
    pub fn all() -> impl Iterator<Item = Self> {
        FACTS.iter().map(|fact| fact.kind)
    }

    /// The kind with this number, as a node knows it that speaks `version`.
    pub fn of(number: u16, version: u8) -> Option<Self> {
        FACTS.iter().find(|fact| fact.number == number && fact.since <= version).map(|fact| fact.kind)
    }

    pub fn number(self) -> u16 {
        self.fact().number
    }

    /// Lower case, for metrics and logs.
    pub fn name(self) -> &'static str {
        self.fact().name
    }

    /// The first version with this kind.
    pub fn since(self) -> u8 {
        self.fact().since
    }

    /// The longest frame of this kind in bytes, envelope included.
    pub fn len_max(self) -> usize {
        self.fact().len_max
    }

    fn fact(self) -> &'static Fact {
        &FACTS[self as usize]
    }
}

const fn fact(kind: Kind, number: u16, name: &'static str, since: u8, len_max: usize) -> Fact {
    Fact { kind, number, name, since, len_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_stand_in_the_order_of_kinds() {
        for (at, fact) in FACTS.iter().enumerate() {
            assert_eq!(fact.kind as usize, at);
            assert_eq!(Kind::of(fact.number, 3), Some(fact.kind));
        }
    }

    #[test]
    fn a_kind_is_unknown_before_its_version() {
        assert_eq!(Kind::of(Kind::Counts.number(), 1), None);
        assert_eq!(Kind::of(Kind::Probe.number(), 2), None);
        assert_eq!(Kind::of(Kind::Hello.number(), 1), Some(Kind::Hello));
        assert_eq!(Kind::of(0, 9), None);
    }
}
