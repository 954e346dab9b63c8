//! A process that ends hands over the rights that it holds, to whoever wanted them last, else to the nearest.
//!
//! It is a gift like any other, counted between two processes, with the limit beside it, since the receiver may not know
//! the counter yet. Leaving the rights lost: a limit of a day would be smaller by a node's share after each restart.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tidegate_proto::frame::Grant;

use crate::cluster::core::rights::events::{Now, Output};
use crate::cluster::core::rights::transfer::room_member::room_in;
use crate::cluster::core::rights::transfer::{PARTNERS_MAX, Peer, Transfers};
use crate::counter::Window;
use crate::counter::strict::ROOM_MAX;

/// Counters that a process hands over when it ends, and of them to one peer: some 60 bytes each, so many that the queue
/// of small frames takes them all.
const LEFT_MAX: usize = 4_096;
const HEIR_MAX: usize = 400;
/// Windows that end sooner are not worth it.
const LEFT_MS: u64 = 1_000;

impl Transfers {
    /// Hands over what this node holds in windows that run, those that run longest first. What does not fit is lost when
    /// this process ends.
    pub fn leave(&mut self, now: Now) -> Vec<Output> {
        (self.idle, self.leaving) = (true, true);
        let mut left: Vec<(u64, u64, Window)> = Vec::new();
        let least_s = (now.cluster_ms + LEFT_MS).div_ceil(1000);
        self.counters.strict().each(|reading| {
            let held = reading.windows.iter().filter(|held| held.spare() > 0 && held.window.end_s() > least_s);
            left.extend(held.map(|held| (held.spare(), reading.key, held.window)));
            if left.len() >= LEFT_MAX * 2 {
                keep_longest(&mut left, LEFT_MAX);
            }
            true
        });
        keep_longest(&mut left, LEFT_MAX);
        let mut heirs = BTreeMap::new();
        left.into_iter().filter_map(|(_, key, window)| self.hand_over((key, window), None, &mut heirs)).collect()
    }

    /// `heirs`: how many counters each peer was given already. `from` gave it to this process, and leaves too.
    pub fn hand_over(
        &mut self,
        place: (u64, Window),
        from: Option<&str>,
        heirs: &mut BTreeMap<String, usize>,
    ) -> Option<Output> {
        let room = self.counters.strict().held(place.0, place.1)?.room;
        self.line_mut(place)?;
        let line = self.lines.get(&place)?;
        let free = |(peer, _): &(&String, &Peer)| {
            Some(peer.as_str()) != from && heirs.get(*peer).is_none_or(|count| *count < HEIR_MAX)
        };
        let took = |peer: &String| line.given.keys().any(|(taker, _)| taker == peer);
        let rank = |peer: &String| (!line.denied.contains(peer), !took(peer));
        let order = |(a, near): &(&String, &Peer), (b, far): &(&String, &Peer)| {
            rank(a).cmp(&rank(b)).then(near.rtt_ms.total_cmp(&far.rtt_ms))
        };
        let (heir, incarnation) =
            self.peers.iter().filter(free).min_by(order).map(|(heir, known)| (heir.clone(), known.incarnation))?;
        let partner = (heir.clone(), incarnation);
        if line.given.len() >= PARTNERS_MAX && !line.given.contains_key(&partner) {
            return None;
        }
        let given = self.counters.strict().give(place.0, place.1, room, ROOM_MAX, 0)?.given;
        let line = self.lines.get_mut(&place)?;
        let total = line.given.entry(partner).or_default();
        *total += given;
        let total = *total;
        self.figures.given += given;
        *heirs.entry(heir.clone()).or_default() += 1;
        Some(self.grant(place, &heir, incarnation, total, 0, Some(room)))
    }

    /// Opens the window of a counter that a peer hands over: nobody here may have wanted it yet.
    pub fn welcome(&mut self, peer: &str, grant: &Grant, place: (u64, Window)) {
        if let Some(room) = room_in(grant)
            && grant.incarnation == self.incarnation
            && self.peers.contains_key(peer)
            && self.line_mut(place).is_some()
        {
            self.counters.strict().open(place.0, place.1, room);
        }
    }
}

/// Brings those to the front whose windows end last, then those with most to spare, and drops the rest.
fn keep_longest(left: &mut Vec<(u64, u64, Window)>, max: usize) {
    left.sort_unstable_by_key(|(spare, key, window)| (Reverse(window.end_s()), Reverse(*spare), *key));
    left.truncate(max);
}
