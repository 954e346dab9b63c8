//! Counts per fixed window, and decides: one step reads, compares and increments.
//!
//! Pure: `now` is an argument. A count is read together with the window it belongs to, so nothing of one window is ever
//! taken for another's.
//!
//! The node's own count of a window only grows, and only by requests that were admitted. What the peers counted is told
//! by one task (`publish`), and so is how it probably went on since (the forecast); the decision is made here, from these
//! numbers alone.

mod calendar;
mod plain;
pub mod strict;

use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;
use uuid::Uuid;

pub use crate::counter::calendar::Window;
use crate::counter::plain::Plain;
use crate::counter::strict::Strict;

/// Keeps the counters of a subject's periods apart.
const APART: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

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

/// Whose counts decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// This node's own count.
    Local,
    /// The counts of all nodes, and the forecast of what is not known yet.
    Cluster,
    /// The rights this node holds; never above the limit in the whole cluster.
    Strict,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most counters that are kept, one per subject and period.
    pub capacity: usize,
    /// Of the hash of subjects: the same on all nodes of a cluster, unknown to everybody else.
    pub key: [u8; 16],
}

/// What one hit found, per limit in the order given.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub admitted: bool,
    /// Usage before this hit, per limit, as far as this node knows. It never falls within a window; once a refusal was
    /// told in a window it stays at the limit or above.
    pub usage: SmallVec<[u64; 6]>,
    /// Cluster time of the decision, Unix ms.
    pub at_ms: u64,
    /// Somebody should call `name`.
    pub unnamed: bool,
}

/// Whom a counter is about, for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As `limit_by` of the plugin has it.
    pub limit_by: &'static str,
    pub identifier: String,
    pub route: Option<Uuid>,
    pub service: Option<Uuid>,
}

/// Where a counter is. It stays valid when the counter's place is given to another one: calls then find nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    line: u32,
    key: u64,
}

/// What `drain` left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// More was counted than the list of changed counters holds: look at all of them with `scan`.
    pub lost: bool,
}

/// A counter as this node counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub key: u64,
    /// The last window in which this node counted; the running one when it never did.
    pub window: Window,
    /// Admitted in that window. It only grows.
    pub own: u64,
    /// The window counted in before, and its final count.
    pub previous: Option<(Window, u64)>,
    /// Refused since the counter is kept; wraps at 2^24.
    pub refused: u32,
    /// The limit as the last hit had it, rounded up; for counters that only peers have, as they told it.
    pub room: u64,
    pub reach: Reach,
    /// Somebody was refused in `window`.
    pub stopped: bool,
}

/// What the task knows about a counter's window beyond this node's own count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Remote {
    pub window: Window,
    /// Sum of the other nodes' slots. A smaller sum than was published before for the window is not believed.
    pub known: u64,
    /// How fast the others go on since they were heard.
    pub slope_per_ms: f32,
    /// Cluster time, Unix ms, at which the forecast line is 0.
    pub zero_ms: u64,
    /// How fast the others will begin the next window.
    pub resume_per_ms: f32,
    pub gate: Gate,
    /// The most this node may count in the next window, if that is a second's, before anything is published for it; the
    /// larger of this and the default applies. 0: the default.
    pub burst: u64,
}

/// How the own count is held, beyond the estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// As long as own, known and forecast stay below the limit.
    Open,
    /// That, and the own count below this.
    Capped(u64),
    /// As long as the own count is below this, and own and known below the limit; the forecast does not matter.
    Fill(u64),
}

/// Where a `scan` or `expire` goes on. One per use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    next: u64,
}

/// Since the start, except for `lines`, `capacity` and `names`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub admitted: u64,
    pub refused: u64,
    /// Refused because of the forecast alone: own and known counts still left room.
    pub forecast_refused: u64,
    pub strict_refused: u64,
    /// Counters that were dropped before their window ended.
    pub evicted: u64,
    /// Hits decided by the sketch, because there was no place for a counter.
    pub sketched: u64,
    /// Counters now.
    pub lines: u64,
    pub capacity: u64,
    pub names: u64,
}

/// All counters of a node. Shared by the workers.
pub struct Counters {
    key: [u8; 16],
    plain: Mutex<Plain>,
    strict: Strict,
}

impl Counters {
    pub fn new(options: Options) -> Self {
        Counters {
            key: options.key,
            plain: Mutex::new(Plain::new(options.capacity)),
            strict: Strict::new(options.capacity / 4),
        }
    }

    /// The keyed hash of a subject: scopes (nil when unscoped) and identifier. Equal on all nodes of a cluster, and in no
    /// two clusters.
    pub fn subject(&self, route: Uuid, service: Uuid, identifier: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(route.as_bytes());
        hasher.write(service.as_bytes());
        hasher.write(identifier);
        hasher.finish()
    }

    /// The counter of a subject and period, here and between nodes. Different subjects have different keys.
    pub fn key(subject: u64, period: Period) -> u64 {
        // 0 marks what is free; two subjects in 2^64 share a counter for it.
        (subject ^ APART[period as usize]).max(1)
    }

    /// The other way.
    pub fn subject_of(key: u64, period: Period) -> u64 {
        key ^ APART[period as usize]
    }

    /// Admits when every limit has room and then counts in all of them; else counts in none. A period stands at most once
    /// in `limits`. When two hits race for the last place, the loser may have been counted in a limit that stands earlier
    /// in the list.
    ///
    /// The hit counts in the window that holds `unix_ms`, corrected to cluster time; one that comes just after its
    /// window ended counts in the next.
    pub fn hit(&self, subject: u64, reach: Reach, limits: &[Limit], unix_ms: u64) -> Verdict {
        match reach {
            Reach::Strict => self.strict.hit(subject, limits, unix_ms),
            Reach::Local | Reach::Cluster => self.plain().hit(subject, reach, limits, unix_ms),
        }
    }

    /// Keeps a name for the counters of a subject; call after a verdict with `unnamed`. At most 4,096 names are kept.
    pub fn name(&self, subject: u64, limits: &[Limit], name: impl FnOnce() -> Name) {
        if let Some(name) = self.strict.name(subject, limits, name) {
            self.plain().name(subject, limits, name);
        }
    }

    /// The name that was kept for a counter.
    pub fn name_of(&self, key: u64) -> Option<Name> {
        self.plain().name_of(key)
    }

    /// Counters of reach cluster hit since they were last drained, at most `max`; read them after this call.
    pub fn drain(&self, into: &mut Vec<Handle>, max: usize) -> Drained {
        self.plain().drain(into, max)
    }

    /// `None`: the counter is gone. `now_ms` is cluster time.
    pub fn read(&self, handle: Handle, now_ms: u64) -> Option<Reading> {
        self.plain().read(handle, now_ms)
    }

    pub fn find(&self, key: u64) -> Option<Handle> {
        self.plain().find(key)
    }

    /// A counter for a key that only peers counted so far, of reach cluster. `None`: there is no place.
    pub fn open(&self, key: u64, period: Period, room: u64, now_ms: u64) -> Option<Handle> {
        self.plain().open(key, period, room, now_ms)
    }

    /// Does nothing when the counter is gone, or when something was published for a later window.
    pub fn publish(&self, handle: Handle, remote: &Remote, now_ms: u64) {
        self.plain().publish(handle, remote, now_ms);
    }

    /// All counters, in parts of about `lines_max`; none: the round is complete, and the next call begins anew.
    pub fn scan(&self, cursor: &mut Cursor, lines_max: usize) -> impl Iterator<Item = Handle> + use<> {
        self.plain().scan(cursor, lines_max).into_iter()
    }

    /// Frees counters whose window ended more than its grace ago: 10 s, or its length up to 60 s.
    pub fn expire(&self, cursor: &mut Cursor, now_ms: u64, lines_max: usize) {
        self.plain().expire(cursor, now_ms, lines_max);
    }

    /// Cluster time is Unix time plus this.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.plain().offset_ms = offset_ms;
        self.strict.set_offset_ms(offset_ms);
    }

    /// How many nodes share the limits, this one included; until when, in cluster ms, windows that began before
    /// `boot_ms` are held to a share, because peers may know more about them.
    pub fn set_peers(&self, nodes: u32, guard_until_ms: u64, boot_ms: u64) {
        let mut plain = self.plain();
        (plain.nodes, plain.guard_until_ms, plain.boot_ms) = (nodes, guard_until_ms, boot_ms);
    }

    /// What to call, once, when a counter is hit after `doze`. The first call counts.
    pub fn on_rouse(&self, rouse: Arc<dyn Fn() + Send + Sync>) {
        self.strict.on_rouse(rouse.clone());
        self.plain().rouse.get_or_insert(rouse);
    }

    /// Arms the call of `on_rouse`. `false`: there is something to drain, so do not sleep.
    pub fn doze(&self) -> bool {
        self.plain().doze() && self.strict.doze()
    }

    pub fn figures(&self) -> Figures {
        let (mut figures, strict) = (self.plain().figures(), self.strict.figures());
        figures.admitted += strict.admitted;
        figures.refused += strict.refused;
        figures.strict_refused += strict.refused;
        figures.lines += strict.lines;
        figures
    }

    /// The counters of strict limits.
    pub fn strict(&self) -> &Strict {
        &self.strict
    }

    fn plain(&self) -> MutexGuard<'_, Plain> {
        // A panic while the lock is held leaves at most a count too few.
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Counters {
    /// A million counters and a key of its own, for a node that shares them with nobody.
    fn default() -> Self {
        Counters::new(Options::default())
    }
}

impl Default for Options {
    /// A million counters, a random key.
    fn default() -> Self {
        let half = || RandomState::new().build_hasher().finish().to_le_bytes();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&half());
        key[8..].copy_from_slice(&half());
        Options { capacity: 1 << 20, key }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

impl Limit {
    /// How many requests have room. Kong: `limit - usage` must be above zero, so a limit of 0.5 admits one, and 1.5 two.
    pub fn room(&self) -> u64 {
        self.limit.ceil() as u64
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

    /// How long a counter is kept after its window ended: for hits and peers that are late, and for the rate at which
    /// the next window begins.
    pub fn grace_s(self) -> u64 {
        self.length_s().clamp(10, 60)
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
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    const NOW_S: u64 = 1_795_519_399;

    fn limit(period: Period, limit: f64) -> Limit {
        Limit { period, limit }
    }

    fn small(capacity: usize) -> Counters {
        Counters::new(Options { capacity, ..Options::default() })
    }

    fn admitted(counters: &Counters, subject: u64, limits: &[Limit], now_s: u64, hits: usize) -> usize {
        (0..hits).filter(|_| counters.hit(subject, Reach::Local, limits, now_s * 1000).admitted).count()
    }

    #[test]
    fn a_limit_admits_until_nothing_remains() {
        for (allowed, expected) in
            [(6.0, 6), (1.0, 1), (0.5, 1), (1.5, 2), (2.0, 2), (0.0, 0), (-1.0, 0), (f64::NAN, 0)]
        {
            let limits = [limit(Period::Minute, allowed)];
            assert_eq!(admitted(&small(9), 1, &limits, NOW_S, 10), expected, "{allowed}");
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
            let verdict = counters.hit(7, Reach::Local, &limits, now_s * 1000);
            assert_eq!((&verdict.usage[..], verdict.admitted), (&usage[..], expected));
        }
    }

    #[test]
    fn what_one_limit_refuses_no_limit_counts() {
        let counters = Counters::default();
        let minute = limit(Period::Minute, 1.0);
        assert_eq!(admitted(&counters, 1, &[minute, limit(Period::Day, 5.0)], NOW_S, 4), 1);
        assert_eq!(counters.hit(1, Reach::Local, &[limit(Period::Day, 5.0)], NOW_S * 1000).usage[..], [1]);
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
}
