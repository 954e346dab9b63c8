//! The hybrid logical clock that stamps writes of the embedded store: Unix ms in the upper 48 bits, a counter in the
//! lower 16.
//!
//! Times of one node grow, whatever its wall clock does: a clock that steps back is waited for by counting. A write is
//! stamped after what it replaces, so that what a user saw and changed stays changed. What a peer whose clock runs
//! ahead wrote is merged like anything else, since whether a change wins must not depend on whose clock looks at it; but
//! it draws this clock along by `AHEAD_MAX_MS` at most, so one wrong clock spoils the order of what it wrote and not of
//! the cluster. Refusing such changes lost: nodes would differ for as long as the clock is wrong.

/// How far the times of others may draw this clock ahead of the wall.
pub const AHEAD_MAX_MS: u64 = 500;

/// The greatest time that is believed from a peer, so that there is always room for a later write: the year 6429.
pub const TIME_MAX: u64 = u64::MAX / 2;

const COUNTER_BITS: u32 = 16;

/// Hands out times.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: u64,
}

impl Clock {
    /// Goes on after `last`, the greatest time this node is known to have used; 0 for a new one.
    pub fn after(last: u64) -> Self {
        Self { last }
    }

    /// A time for a write over something with the time `replaced` (0: nothing): greater than that, and than `last`. A
    /// `replaced` beyond `AHEAD_MAX_MS` is exceeded for this one write and leaves `last` behind; no entity sees a time
    /// twice for it, as the next write there replaces a greater one.
    pub fn stamp(&mut self, unix_ms: u64, replaced: u64) -> u64 {
        self.last = self.last.saturating_add(1).max(time_of(unix_ms));
        self.hear(replaced, unix_ms);
        let time = self.last.max(replaced.saturating_add(1));
        if time > self.last && time <= bound(unix_ms) {
            self.last = time;
        }
        time
    }

    /// Takes note of a time that a peer used, so that later writes here come after it.
    pub fn hear(&mut self, time: u64, unix_ms: u64) {
        self.last = self.last.max(time.min(bound(unix_ms)));
    }

    /// The greatest time so far; what `after` wants at the next start.
    pub fn last(&self) -> u64 {
        self.last
    }
}

/// The first time of a millisecond.
pub fn time_of(unix_ms: u64) -> u64 {
    unix_ms.min(TIME_MAX >> COUNTER_BITS) << COUNTER_BITS
}

/// The millisecond of a time.
pub fn unix_ms_of(time: u64) -> u64 {
    time >> COUNTER_BITS
}

fn bound(unix_ms: u64) -> u64 {
    time_of(unix_ms.saturating_add(AHEAD_MAX_MS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: u64 = 1_764_000_000_000;

    #[test]
    fn times_follow_the_wall() {
        let mut clock = Clock::default();
        assert_eq!(clock.stamp(NOON, 0), time_of(NOON));
        assert_eq!(clock.stamp(NOON, 0), time_of(NOON) + 1);
        assert_eq!(clock.stamp(NOON + 1, 0), time_of(NOON + 1));
    }

    #[test]
    fn a_step_back_is_survived_by_counting() {
        let mut clock = Clock::after(time_of(NOON));
        let first = clock.stamp(NOON - 3_600_000, 0);
        assert_eq!(first, time_of(NOON) + 1);
        assert!(clock.stamp(0, 0) > first);
    }

    #[test]
    fn a_counter_that_runs_over_borrows_from_the_next_millisecond() {
        let mut clock = Clock::after(time_of(NOON) + 0xffff);
        assert_eq!(clock.stamp(NOON, 0), time_of(NOON + 1));
    }

    #[test]
    fn a_write_comes_after_what_it_replaces_however_far_ahead_that_is() {
        let ahead = time_of(NOON + 600_000);
        let mut clock = Clock::default();
        assert_eq!(clock.stamp(NOON, ahead), ahead + 1);
        assert!(clock.stamp(NOON, 0) <= bound(NOON) + 1, "other writes stay near the wall");
    }

    #[test]
    fn a_peer_draws_the_clock_along_within_the_bound() {
        let mut clock = Clock::default();
        clock.hear(time_of(NOON + 400), NOON);
        assert_eq!(clock.stamp(NOON, 0), time_of(NOON + 400) + 1);
        clock.hear(u64::MAX, NOON);
        assert_eq!(clock.last(), bound(NOON));
    }

    proptest! {
        #[test]
        fn times_grow(walls in proptest::collection::vec((any::<u64>(), 0..TIME_MAX), 1..50)) {
            let mut clock = Clock::default();
            for (wall, replaced) in walls {
                let before = clock.last();
                let time = clock.stamp(wall % (NOON * 2), replaced);
                prop_assert!(time > before && time > replaced);
            }
        }
    }
}
