//! Whether one more request is admitted, from the numbers of one moment.
//!
//! The estimate is the own count, what the peers are known to have counted, and what they probably counted since. Once it
//! has reached the limit the window stays closed here, because an estimate that swings around the limit would let all
//! nodes in again at the same time; what was refused too much comes back as a `Gate::Fill` with a share per node.

use crate::counter::view::Gate;

/// Why a hit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// What is known to be counted is the limit.
    Count,
    /// The forecast makes it the limit.
    Estimate,
    /// There would be room, but not for this node, not yet.
    Held,
}

/// A window of the cluster as this node sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub room: u64,
    pub own: u64,
    pub known: u64,
    /// Counted by others since they were heard, probably.
    pub forecast: f64,
    pub gate: Gate,
    /// The estimate closed this window before.
    pub closed: bool,
    /// The others are known to count nothing.
    pub alone: bool,
    /// Most of its own this node may count while nothing is known of the window.
    pub cap: Option<u64>,
    /// The same for the first moments of a process.
    pub guard: Option<u64>,
}

impl Case {
    pub(crate) fn denial(&self) -> Option<Denial> {
        let (known, own) = (self.own.saturating_add(self.known), self.own);
        let full = |most: Option<u64>| most.is_some_and(|most| own >= most);
        let (cap, fill) = match self.gate {
            Gate::Open => (self.cap, false),
            Gate::Capped(cap) => (Some(self.cap.map_or(cap, |other| other.min(cap))), false),
            Gate::Fill(cap) => (Some(cap), true),
        };
        if known >= self.room {
            Some(Denial::Count)
        } else if full(self.guard) {
            Some(Denial::Held)
        } else if fill {
            full(cap).then_some(Denial::Held)
        } else if self.closed && !self.alone {
            Some(Denial::Estimate)
        } else if full(cap) {
            Some(Denial::Held)
        } else {
            (known as f64 + self.forecast >= self.room as f64).then_some(Denial::Estimate)
        }
    }
}

/// Own counts a node starts a window of a second with while it has heard of nobody: its share, or ten where the limit is
/// small, or what it had in the last windows.
pub(crate) fn blind_cap(room: u64, nodes: u32, burst: u64) -> u64 {
    (room / u64::from(nodes.max(1))).max(room.min(10)).max(burst)
}

/// Own counts of a window that began before this process: peers may know of a predecessor's.
pub(crate) fn cold_start_cap(room: u64, nodes: u32) -> u64 {
    (room / u64::from(nodes.max(3))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: Case = Case {
        room: 100,
        own: 10,
        known: 50,
        forecast: 0.0,
        gate: Gate::Open,
        closed: false,
        alone: false,
        cap: None,
        guard: None,
    };

    #[test]
    fn the_first_reason_refuses() {
        let held = Some(Denial::Held);
        for (case, expected) in [
            (CASE, None),
            (Case { known: 89, ..CASE }, None),
            (Case { known: 90, ..CASE }, Some(Denial::Count)),
            (Case { known: u64::MAX, ..CASE }, Some(Denial::Count)),
            (Case { forecast: 39.9, ..CASE }, None),
            (Case { forecast: 40.0, ..CASE }, Some(Denial::Estimate)),
            (Case { closed: true, ..CASE }, Some(Denial::Estimate)),
            (Case { closed: true, alone: true, known: 0, ..CASE }, None),
            (Case { gate: Gate::Capped(11), ..CASE }, None),
            (Case { gate: Gate::Capped(10), ..CASE }, held),
            (Case { gate: Gate::Capped(11), forecast: 40.0, ..CASE }, Some(Denial::Estimate)),
            (Case { gate: Gate::Fill(11), forecast: 900.0, closed: true, ..CASE }, None),
            (Case { gate: Gate::Fill(10), ..CASE }, held),
            (Case { gate: Gate::Fill(11), known: 90, ..CASE }, Some(Denial::Count)),
            (Case { cap: Some(10), ..CASE }, held),
            (Case { cap: Some(11), ..CASE }, None),
            (Case { guard: Some(10), gate: Gate::Fill(11), ..CASE }, held),
        ] {
            assert_eq!(case.denial(), expected, "{case:?}");
        }
    }

    #[test]
    fn the_blind_start_with_a_share_or_what_they_had() {
        for (room, nodes, burst, expected) in
            [(1_000, 35, 0, 28), (100, 35, 0, 10), (5, 35, 0, 5), (1_000, 35, 400, 400), (1_000, 1, 0, 1_000)]
        {
            assert_eq!(blind_cap(room, nodes, burst), expected);
        }
        assert_eq!([cold_start_cap(100, 1), cold_start_cap(100, 10), cold_start_cap(2, 9)], [33, 10, 1]);
    }
}
