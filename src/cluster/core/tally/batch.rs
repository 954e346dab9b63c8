//! Slots that are gathered for a frame, and the counters that have something to send.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_proto::frame::{Counts, Group, Slot};

use crate::counter::Window;

/// Every period: with this frame the receiver has all.
pub const ALL_PERIODS: u8 = 0x3f;

/// Groups in the making, by source, window and room.
#[derive(Default)]
pub struct Groups(BTreeMap<Heading, Vec<Slot>>);

/// Whose slots, of which window, under which limit.
type Heading = (Option<(String, u64)>, Window, u64);

/// Counters that have something to say with the next batch of their period.
#[derive(Debug, Default)]
pub struct Unsaid {
    pub own: BTreeSet<u64>,
    pub forward: BTreeSet<u64>,
}

impl Groups {
    pub fn add(&mut self, source: Option<(String, u64)>, window: Window, room: u64, slot: Slot) {
        self.0.entry((source, window, room)).or_default().push(slot);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn into_counts(self, time_ms: u64, complete: u8) -> Counts {
        let group = |((source, window, room), slots): (Heading, Vec<Slot>)| Group {
            source,
            period: window.period as u8,
            window: window.number,
            room,
            slots,
        };
        Counts { time_ms, complete, groups: self.0.into_iter().map(group).collect() }
    }
}
