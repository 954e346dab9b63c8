//! What peers say of their counts becomes slots of tracked counters.

use std::collections::BTreeSet;

use tidegate_proto::demand;
use tidegate_proto::frame::{Counts, Group};

use crate::cluster::core::tally::sources::Place;
use crate::cluster::core::tally::tracked::{Heard, Said};
use crate::cluster::core::tally::{AGE_MAX_MS, Tally};
use crate::counter::{Period, Window};

impl Tally {
    pub fn hear(&mut self, peer: &str, counts: Counts, now_ms: u64) {
        let Some((place, source)) = self.sources.peer(peer).filter(|(_, source)| source.connected) else { return };
        let earliest_ms = now_ms.saturating_sub(source.way_ms.saturating_mul(2).saturating_add(AGE_MAX_MS));
        let at_ms = counts.time_ms.clamp(earliest_ms, now_ms.saturating_sub(source.way_ms / 2).max(earliest_ms));
        let mut seen = BTreeSet::new();
        for group in &counts.groups {
            self.hear_group(place, group, at_ms, now_ms, &mut seen);
        }
        if let Some(source) = self.sources.source_mut(place) {
            source.heard_ms = now_ms;
            for period in 0..6 {
                if counts.complete & (1 << period) != 0 {
                    source.watermarks[period] = source.watermarks[period].max(at_ms);
                }
            }
        }
        // A peer told what it has: what this process forgot in its restart it now knows from there.
        if counts.complete != 0 {
            self.guard_until_ms = self.guard_until_ms.min(now_ms);
        }
        self.publish_all(seen, now_ms);
    }

    fn hear_group(&mut self, peer: Place, group: &Group, at_ms: u64, now_ms: u64, seen: &mut BTreeSet<u64>) {
        let Some(period) = Period::ALL.get(usize::from(group.period)).copied() else { return };
        let window = Window { period, number: group.window };
        let current = Window::at(period, now_ms / 1_000);
        if current.number.abs_diff(window.number) > 1 {
            self.figures.foreign_windows += group.slots.len() as u64;
            return;
        }
        let place = match &group.source {
            None => peer,
            Some((node_id, incarnation)) => {
                if *node_id == self.me.node_id && *incarnation == self.me.incarnation {
                    return;
                }
                let Some(place) = self.sources.find_or_add(node_id, *incarnation, now_ms) else { return };
                place
            }
        };
        for slot in &group.slots {
            self.figures.entries_received += 1;
            let said = Said {
                count: slot.count,
                demand_per_ms: demand::decode(slot.demand) / 1e3,
                stopped: slot.stopped,
                at_ms,
            };
            let Some(tracked) = self.track(slot.key, window, group.room, now_ms) else { continue };
            tracked.roll(if current.number < window.number { window } else { current });
            let heard = tracked.hear(place, window.number, said, now_ms);
            if group.source.is_none() && matches!(heard, Heard::First | Heard::More) {
                tracked.forward = true;
                self.unsaid[period as usize].forward.insert(slot.key);
            }
            if heard == Heard::First
                && let Some(source) = self.sources.source_mut(place)
            {
                source.slots += 1;
            }
            seen.insert(slot.key);
        }
    }
}
