//! Counts per fixed window, and decides: one step reads, compares and increments.
//!
//! Pure: `now` is an argument. A counter belongs to one window, so nothing is ever reset in place.
//!
//! All counters of a subject live in one shard, and a hit does its work under that shard's lock: of N parallel requests
//! against a limit of L exactly L are admitted, over all periods at once. An atomic per counter lost for now: with
//! several periods it would have to take back what it counted, and readers would see that.
//!
//! Memory is bounded. Windows are dropped when they have ended. When a shard is full of running ones, a new counter
//! takes the place of the one least full among a few: what a flood of new subjects pushes out is mostly the flood, and a
//! subject near its limit stays. A subject that was pushed out starts again from zero.

mod calendar;
mod shard;

use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;
use std::sync::Mutex;
use std::sync::PoisonError;

use smallvec::SmallVec;
use uuid::Uuid;

use crate::counter::shard::Shard;

/// Locks are held for tens of nanoseconds; with this many, two cores seldom want the same.
const SHARDS: usize = 256;

/// A span of Kong's: a window starts at its calendar start in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

/// One limit of a subject.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub period: Period,
    /// Fractions are allowed, as Kong allows them.
    pub limit: f64,
}

/// What one hit found, per limit in the order given.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub admitted: bool,
    /// Usage before this hit, per limit.
    pub usage: SmallVec<[u64; 6]>,
}

/// All counters of a node. Shared by the workers.
#[derive(Debug)]
pub struct Counters {
    shards: Box<[Mutex<Shard>]>,
    /// Random per process: nobody outside can aim two subjects at one counter, or many at one shard.
    key: RandomState,
}

impl Counters {
    /// At most `capacity` counters are kept (rounded up a little); see the module on what goes when it is full. A counter
    /// takes some 40 bytes.
    pub fn new(capacity: usize) -> Self {
        let share = capacity.div_ceil(SHARDS).max(Period::ALL.len());
        let shards = (0..SHARDS).map(|_| Mutex::new(Shard::new(share))).collect();
        Counters { shards, key: RandomState::new() }
    }

    /// Admits when every limit has room and then counts in all of them; else counts in none.
    /// `subject` is the keyed hash of (route scope, service scope, identifier); `now_s` Unix seconds. A period stands at
    /// most once in `limits`.
    ///
    /// A hit counts in the window that holds its own `now_s`; one that comes more than two seconds after the end of that
    /// window may find it gone, and starts it anew.
    pub fn hit(&self, subject: u64, limits: &[Limit], now_s: u64) -> Verdict {
        // Not the highest bits: the tables tell their entries apart by those. Not the lowest: those place them.
        let shard = &self.shards[usize::from((subject >> 40) as u8) % SHARDS];
        // A panic while the lock is held leaves at most a count too few, so the shard is used on.
        shard.lock().unwrap_or_else(PoisonError::into_inner).hit(subject, limits, now_s)
    }

    /// The keyed hash of a subject: scopes (nil when unscoped) and identifier.
    pub fn subject(&self, route: Uuid, service: Uuid, identifier: &[u8]) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write(route.as_bytes());
        hasher.write(service.as_bytes());
        hasher.write(identifier);
        hasher.finish()
    }

    /// Start of the window that holds `now_s`.
    pub fn window_start_s(period: Period, now_s: u64) -> u64 {
        calendar::window(period, now_s).start_s
    }

    /// How many counters there are, those of ended windows not yet dropped included. Locks each shard in turn.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}

impl Default for Counters {
    /// A million counters.
    fn default() -> Self {
        Counters::new(1 << 20)
    }
}

impl Limit {
    /// Kong: `limit - usage` must be above zero, so a limit of 0.5 admits one, and 1.5 two.
    #[expect(clippy::cast_precision_loss, reason = "usage is far below 2^53")]
    fn has_room(&self, usage: u64) -> bool {
        self.limit - usage as f64 > 0.0
    }
}

impl Period {
    pub const ALL: [Period; 6] =
        [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month, Period::Year];

    /// Length in seconds by which `RateLimit-Reset` is computed: 1, 60, 3600, 86400, 2592000, 31536000.
    pub fn length_s(self) -> u64 {
        match self {
            Period::Second => 1,
            Period::Minute => 60,
            Period::Hour => 3_600,
            Period::Day => 86_400,
            Period::Month => 2_592_000,
            Period::Year => 31_536_000,
        }
    }

    /// `second`, as config members have it.
    pub fn name(self) -> &'static str {
        match self {
            Period::Second => "second",
            Period::Minute => "minute",
            Period::Hour => "hour",
            Period::Day => "day",
            Period::Month => "month",
            Period::Year => "year",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    const NOW_S: u64 = 1_795_519_399;

    fn limit(period: Period, limit: f64) -> Limit {
        Limit { period, limit }
    }

    fn admitted(counters: &Counters, subject: u64, limits: &[Limit], now_s: u64, hits: usize) -> usize {
        (0..hits).filter(|_| counters.hit(subject, limits, now_s).admitted).count()
    }

    #[test]
    fn a_limit_admits_until_nothing_remains() {
        for (allowed, expected) in
            [(6.0, 6), (1.0, 1), (0.5, 1), (1.5, 2), (2.0, 2), (0.0, 0), (-1.0, 0), (f64::NAN, 0)]
        {
            let limits = [limit(Period::Minute, allowed)];
            assert_eq!(admitted(&Counters::new(9), 1, &limits, NOW_S, 10), expected, "{allowed}");
        }
    }

    #[test]
    fn usage_is_told_as_it_was_before_the_hit() {
        let counters = Counters::default();
        let limits = [limit(Period::Second, 2.0), limit(Period::Hour, 9.0)];
        for (now_s, usage, expected) in [
            (NOW_S, [0, 0], true),
            (NOW_S, [1, 1], true),
            (NOW_S, [2, 2], false),
            (NOW_S, [2, 2], false),
            (NOW_S + 1, [0, 2], true),
        ] {
            let verdict = counters.hit(7, &limits, now_s);
            assert_eq!((&verdict.usage[..], verdict.admitted), (&usage[..], expected));
        }
    }

    #[test]
    fn what_one_limit_refuses_no_limit_counts() {
        let counters = Counters::default();
        let minute = limit(Period::Minute, 1.0);
        assert_eq!(admitted(&counters, 1, &[minute, limit(Period::Day, 5.0)], NOW_S, 4), 1);
        assert_eq!(counters.hit(1, &[limit(Period::Day, 5.0)], NOW_S).usage[..], [1]);
    }

    #[test]
    fn subjects_differ_by_scope_and_identifier_and_by_process() {
        let counters = Counters::default();
        let (nil, one) = (Uuid::nil(), Uuid::from_u128(1));
        let subjects = [
            counters.subject(nil, nil, b"a"),
            counters.subject(nil, nil, b""),
            counters.subject(one, nil, b"a"),
            counters.subject(nil, one, b"a"),
            Counters::default().subject(nil, nil, b"a"),
        ];
        assert_eq!(subjects[0], counters.subject(nil, nil, b"a"));
        for (at, subject) in subjects.iter().enumerate() {
            assert!(!subjects[..at].contains(subject));
        }
    }

    #[test]
    fn parallel_hits_admit_exactly_the_limit() {
        let counters = Counters::default();
        let limits = [limit(Period::Minute, 1000.0), limit(Period::Year, 1_500.0)];
        let total = AtomicUsize::new(0);
        let run = |now_s: u64| {
            std::thread::scope(|scope| {
                for _ in 0..64 {
                    scope.spawn(|| {
                        total.fetch_add(admitted(&counters, 42, &limits, now_s, 100), Ordering::Relaxed);
                    });
                }
            });
        };
        run(NOW_S);
        assert_eq!(total.load(Ordering::Relaxed), 1_000);
        run(NOW_S + 60);
        assert_eq!(total.load(Ordering::Relaxed), 1_500);
    }

    #[test]
    fn ended_windows_are_dropped() {
        let counters = Counters::new(1 << 20);
        let limits = [limit(Period::Second, 9.0), limit(Period::Minute, 9.0)];
        for second in 0..200 {
            for subject in 0..100_u64 {
                counters.hit(subject << 40, &limits, NOW_S + second);
            }
            assert!(counters.count() <= 100 * (4 + 2), "second {second}: {}", counters.count());
        }
    }

    #[test]
    fn memory_is_bounded_and_a_flood_does_not_free_who_is_at_the_limit() {
        let counters = Counters::new(SHARDS * 64);
        let limits = [limit(Period::Hour, 10.0)];
        let busy: Vec<u64> =
            (0..32).map(|number: u64| counters.subject(Uuid::nil(), Uuid::nil(), &number.to_le_bytes())).collect();
        for &subject in &busy {
            assert_eq!(admitted(&counters, subject, &limits, NOW_S, 20), 10);
        }
        for flood in 0..200_000_u64 {
            let subject = counters.subject(Uuid::nil(), Uuid::max(), &flood.to_le_bytes());
            assert!(counters.hit(subject, &limits, NOW_S).admitted);
        }
        assert_eq!(counters.count(), SHARDS * 64);
        for &subject in &busy {
            assert_eq!(admitted(&counters, subject, &limits, NOW_S, 20), 0);
        }
    }

    #[test]
    fn a_clock_that_jumps_keeps_few_windows() {
        let counters = Counters::default();
        for step in 0..1_000_u64 {
            let now_s = NOW_S - step * 7_919 % 1_000_003;
            counters.hit(5, &[limit(Period::Second, 9.0), limit(Period::Hour, 9.0)], now_s);
        }
        assert!(counters.count() <= 8, "{}", counters.count());
    }

    proptest! {
        /// A map from (subject, period, window) to a number says the same, while the clock seen by hits runs at most two
        /// seconds back.
        #[test]
        fn a_plain_map_agrees(
            hits in prop::collection::vec((0..4_u64, 0..64_u8, prop_oneof![8 => 0..3_u64, 1 => 0..4_000_000_u64], 0..3_u64), 1..200),
            allowed in prop::array::uniform6(prop_oneof![Just(0.5), Just(2.0), Just(3.0), Just(10.0)]),
        ) {
            let counters = Counters::default();
            let mut model: HashMap<(u64, Period, u64), u64> = HashMap::new();
            let mut clock_s = NOW_S;
            for (subject, periods, step_s, late_s) in hits {
                clock_s += step_s;
                let now_s = clock_s - late_s;
                let limits: Vec<Limit> = (0..6)
                    .filter(|at| periods >> at & 1 == 1)
                    .map(|at| limit(Period::ALL[at], allowed[at]))
                    .collect();
                let key = |period| (subject, period, Counters::window_start_s(period, now_s));
                let usage: Vec<u64> =
                    limits.iter().map(|limit| model.get(&key(limit.period)).copied().unwrap_or(0)).collect();
                let expected = limits.iter().zip(&usage).all(|(limit, &usage)| limit.limit > usage as f64);
                if expected {
                    limits.iter().for_each(|limit| *model.entry(key(limit.period)).or_default() += 1);
                }
                let verdict = counters.hit(subject, &limits, now_s);
                prop_assert_eq!(verdict.admitted, expected);
                prop_assert_eq!(&verdict.usage[..], &usage[..]);
            }
        }
    }
}
