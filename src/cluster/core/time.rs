//! Cluster time: this node's clock, corrected towards the median of its peers' by a little at a time.
//!
//! Windows end by this time, so nodes whose clocks differ by tens of milliseconds agree about them. The correction is
//! bounded: a node whose clock is far off stays far off and says so, since half the nodes may be wrong and no clock here
//! is better than another. Following one leader's clock lost: it has to be elected.

use std::collections::BTreeMap;

/// The largest correction, ms.
pub const OFFSET_MAX_MS: i64 = 500;
/// How much nearer than that a clock comes before it counts as near again.
const RETURN_MS: i64 = 100;
/// How fast the correction moves: ms per second.
const SLEW_PER_S: i64 = 20;
/// A sample counts for so long.
const SAMPLE_MS: u64 = 60_000;
/// Samples kept for each peer, the one with the shortest round trip counts.
const SAMPLES: usize = 8;
/// Peers that are asked for the median; more are not kept.
const PEERS_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset_ms: i64,
    rtt_ms: u64,
    at_ms: u64,
}

/// What peers' clocks show, and the correction. `now_ms` is this node's own clock, Unix ms.
#[derive(Debug, Default)]
pub struct Offsets {
    peers: BTreeMap<String, Vec<Sample>>,
    /// Where the correction stood at the time of the last sample, ms, and where it goes.
    from_ms: i64,
    target_ms: i64,
    since_ms: Option<u64>,
}

impl Offsets {
    /// A peer's clock minus ours, and the round trip over which that was found.
    pub fn on_sample(&mut self, peer: &str, offset_ms: i64, rtt_ms: u64, now_ms: u64) {
        if !self.peers.contains_key(peer) && self.peers.len() >= PEERS_MAX {
            return;
        }
        let samples = self.peers.entry(peer.to_owned()).or_default();
        if samples.len() >= SAMPLES {
            samples.remove(0);
        }
        samples.push(Sample { offset_ms, rtt_ms, at_ms: now_ms });
        self.peers.retain(|_, samples| {
            // A clock that stepped makes ages meaningless: what is not of the last minute, either way, goes.
            samples.retain(|sample| now_ms.abs_diff(sample.at_ms) <= SAMPLE_MS);
            !samples.is_empty()
        });
        let first = self.since_ms.is_none();
        self.from_ms = self.offset_ms(now_ms);
        self.since_ms = Some(now_ms);
        // Everybody goes to the median of all clocks, which all find to be about the same.
        self.target_ms = self.median_ms().clamp(-OFFSET_MAX_MS, OFFSET_MAX_MS);
        if first {
            self.from_ms = self.target_ms;
        }
    }

    /// What to add to this node's clock.
    pub fn offset_ms(&self, now_ms: u64) -> i64 {
        let Some(since_ms) = self.since_ms else { return 0 };
        let step =
            i64::try_from(now_ms.saturating_sub(since_ms)).unwrap_or(i64::MAX).saturating_mul(SLEW_PER_S) / 1_000;
        let missing = self.target_ms - self.from_ms;
        self.from_ms + missing.clamp(-step, step)
    }

    /// How far this node's own clock is from the median of its peers', ms; positive: it is behind. Its own clock is one of them.
    pub fn skew_ms(&self) -> i64 {
        self.median_ms()
    }

    /// Whether the clock is further off than the correction goes. Once it is, it has to come back by some more, so that a
    /// clock at the edge does not make this change to and fro.
    pub fn is_skewed(&self, was: bool) -> bool {
        self.skew_ms().abs() > if was { OFFSET_MAX_MS - RETURN_MS } else { OFFSET_MAX_MS }
    }

    fn median_ms(&self) -> i64 {
        let best = |samples: &Vec<Sample>| samples.iter().min_by_key(|sample| sample.rtt_ms).map(|best| best.offset_ms);
        let mut offsets: Vec<i64> = self.peers.values().filter_map(best).collect();
        offsets.push(0);
        offsets.sort_unstable();
        let half = offsets.len() / 2;
        if offsets.len() % 2 == 1 { offsets[half] } else { (offsets[half - 1] + offsets[half]) / 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sample_steps_and_later_ones_slew() {
        let mut offsets = Offsets::default();
        offsets.on_sample("a", 100, 10, 1_000);
        let first = offsets.offset_ms(1_000);
        assert!(first > 0);
        for peer in ["a", "b", "c", "d"] {
            offsets.on_sample(peer, 400, 5, 1_000);
        }
        let after = |ms: u64| offsets.offset_ms(1_000 + ms);
        assert_eq!(after(0), first);
        assert_eq!(after(1_000), first + SLEW_PER_S);
        assert!(after(600_000) <= OFFSET_MAX_MS);
    }

    #[test]
    fn the_correction_is_bounded_and_the_skew_is_told() {
        let mut offsets = Offsets::default();
        for peer in ["a", "b", "c", "d"] {
            offsets.on_sample(peer, 90_000, 5, 1_000);
        }
        assert_eq!(offsets.offset_ms(10_000_000), OFFSET_MAX_MS);
        assert_eq!(offsets.skew_ms(), 90_000);
    }

    #[test]
    fn a_clock_beyond_the_correction_is_skewed_until_it_is_well_within() {
        let skewed = |offset_ms: i64, was: bool| {
            let mut offsets = Offsets::default();
            for peer in ["a", "b"] {
                offsets.on_sample(peer, offset_ms, 5, 1_000);
            }
            offsets.is_skewed(was)
        };
        for sign in [-1, 1] {
            let told = [400, 401, 500, 501].map(|ms| (skewed(sign * ms, false), skewed(sign * ms, true)));
            assert_eq!(told, [(false, false), (false, true), (false, true), (true, true)]);
        }
        assert!(!Offsets::default().is_skewed(true));
    }

    #[test]
    fn the_sample_with_the_shortest_way_counts() {
        let mut offsets = Offsets::default();
        for (offset_ms, rtt_ms) in [(70, 200), (10, 4), (-60, 300)] {
            offsets.on_sample("a", offset_ms, rtt_ms, 1_000);
            offsets.on_sample("b", offset_ms, rtt_ms, 1_000);
        }
        assert_eq!(offsets.skew_ms(), 10);
    }
}
