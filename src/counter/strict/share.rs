//! A node's share of every limit: the part of a cycle of places that belongs to it, so that all shares together are the
//! whole, to the last right.
//!
//! The rights of a limit stand at places of a cycle of 2^20, the next always far from those before it. A node's base
//! rights are the places within its interval. Of two disjoint intervals no place belongs to both, so shares never add up
//! to more than the limit; a greater limit only adds places, so that holds as well while nodes disagree about the limit
//! (the sum is at most the greatest one); and a part of an interval has no place that the whole has not.
//!
//! What lost: the limit times a weight, rounded down, which leaves a right of each node to nobody (a limit of 20 over 35
//! nodes would be none at all); handing the rest to somebody by rule, which hands out too many when nodes see different
//! limits.

/// Places in a cycle: weights are exact to a millionth.
pub const CYCLE_BITS: u32 = 20;
pub const CYCLE: u32 = 1 << CYCLE_BITS;

/// An interval of places, the end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Share {
    from: u32,
    to: u32,
}

impl Share {
    pub const NONE: Share = Share { from: 0, to: 0 };
    pub const WHOLE: Share = Share { from: 0, to: CYCLE };

    /// Nothing when the ends are the wrong way round; what lies beyond the cycle is left out.
    pub fn new(from: u32, to: u32) -> Share {
        let (from, to) = (from.min(CYCLE), to.min(CYCLE));
        if from < to { Share { from, to } } else { Share::NONE }
    }

    pub fn ends(self) -> (u32, u32) {
        (self.from, self.to)
    }

    /// Its part of the whole, 0 to 1.
    pub fn part(self) -> f64 {
        f64::from(self.to - self.from) / f64::from(CYCLE)
    }

    /// What is in both.
    pub fn meet(self, other: Share) -> Share {
        Share::new(self.from.max(other.from), self.to.min(other.to))
    }

    pub fn is_within(self, other: Share) -> bool {
        self.meet(other) == self
    }

    /// How many of the first `room` rights stand in it.
    pub fn of(self, room: u64) -> u64 {
        let cycles = room >> CYCLE_BITS;
        let rest = room as u32 & (CYCLE - 1);
        let part = first_below(rest, self.to) - first_below(rest, self.from);
        cycles * u64::from(self.to - self.from) + u64::from(part)
    }
}

/// How many of the first `rest` places are below `end`. The place of a number is its bits in reverse, so a run of 2^k
/// numbers that begins at a multiple of 2^k has its places evenly spread.
fn first_below(rest: u32, end: u32) -> u32 {
    let mut below = 0;
    let mut start = 0;
    for bit in (0..CYCLE_BITS).rev().filter(|bit| rest >> bit & 1 == 1) {
        let first = place(start);
        let apart = CYCLE_BITS - bit;
        below += end.saturating_sub(first).div_ceil(1 << apart).min(1 << bit);
        start |= 1 << bit;
    }
    below
}

fn place(number: u32) -> u32 {
    number.reverse_bits() >> (32 - CYCLE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Place by place.
    fn counted(share: Share, room: u64) -> u64 {
        let inside = |number: &u64| (share.from..share.to).contains(&place(*number as u32 & (CYCLE - 1)));
        (0..room).filter(inside).count() as u64
    }

    #[test]
    fn thirds_of_300_are_about_100_and_300_in_all() {
        let cuts = [0, CYCLE / 3, CYCLE / 3 * 2, CYCLE];
        let shares: Vec<u64> = cuts.windows(2).map(|ends| Share::new(ends[0], ends[1]).of(300)).collect();
        assert_eq!(shares.iter().sum::<u64>(), 300);
        assert!(shares.iter().all(|share| share.abs_diff(100) <= 3), "{shares:?}");
    }

    #[test]
    fn the_whole_is_everything_and_nothing_is_nothing() {
        for room in [0, 1, 2, 7, u64::from(CYCLE) - 1, u64::from(CYCLE), u64::from(CYCLE) + 1, (1 << 40) - 1] {
            assert_eq!((Share::WHOLE.of(room), Share::NONE.of(room)), (room, 0));
        }
        assert_eq!((Share::new(5, 5), Share::new(9, 3)), (Share::NONE, Share::NONE));
        assert_eq!(Share::new(0, u32::MAX), Share::WHOLE);
    }

    proptest! {
        #[test]
        fn places_are_counted(from in 0..CYCLE, len in 0..CYCLE, room in 0_u64..5_000) {
            let share = Share::new(from, from.saturating_add(len));
            prop_assert_eq!(share.of(room), counted(share, room));
        }

        /// Nodes that see different limits hold no more than the greatest of them.
        #[test]
        fn shares_of_different_rooms_stay_within_the_greatest(
            mut cuts in prop::collection::vec(0..=CYCLE, 2..40),
            rooms in prop::collection::vec(0_u64..3_000_000, 40),
        ) {
            cuts.sort_unstable();
            let shares = cuts.windows(2).map(|ends| Share::new(ends[0], ends[1]));
            let held: u64 = shares.zip(&rooms).map(|(share, room)| share.of(*room)).sum();
            prop_assert!(held <= rooms.iter().copied().max().unwrap_or(0));
        }

        #[test]
        fn a_part_holds_no_more_than_the_whole(a in 0..CYCLE, b in 0..CYCLE, c in 0..CYCLE, d in 0..CYCLE, room in 0_u64..3_000_000) {
            let (one, other) = (Share::new(a.min(b), a.max(b)), Share::new(c.min(d), c.max(d)));
            let both = one.meet(other);
            prop_assert!(both.is_within(one) && both.is_within(other));
            prop_assert!(both.of(room) <= one.of(room).min(other.of(room)));
        }

        #[test]
        fn a_share_is_near_its_weight(a in 0..CYCLE, b in 0..CYCLE, room in 0_u64..3_000_000) {
            let share = Share::new(a.min(b), a.max(b));
            let exact = room as f64 * f64::from(share.to - share.from) / f64::from(CYCLE);
            prop_assert!((share.of(room) as f64 - exact).abs() <= f64::from(CYCLE_BITS));
        }
    }
}
