//! Counts per fixed window, and decides: one atomic step reads, compares and increments.
//!
//! Pure: `now` is an argument. A counter's key holds its window's start, so nothing is ever reset in place.

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
    pub usage: smallvec::SmallVec<[u64; 6]>,
}

/// All counters of a node. Shared by the workers.
#[derive(Debug, Default)]
pub struct Counters {}

impl Counters {
    /// At most `capacity` counters are kept; see the module on what goes when it is full.
    pub fn new(capacity: usize) -> Self {
        let _ = capacity;
        Self {}
    }

    /// Admits when every limit has room and then counts in all of them; else counts in none.
    /// `subject` is the keyed hash of (route scope, service scope, identifier); `now_s` Unix seconds.
    pub fn hit(&self, subject: u64, limits: &[Limit], now_s: u64) -> Verdict {
        let _ = (subject, limits, now_s);
        unimplemented!()
    }

    /// The keyed hash of a subject: scopes (nil when unscoped) and identifier.
    pub fn subject(&self, route: uuid::Uuid, service: uuid::Uuid, identifier: &[u8]) -> u64 {
        let _ = (route, service, identifier);
        unimplemented!()
    }

    /// Start of the window that holds `now_s`.
    pub fn window_start_s(period: Period, now_s: u64) -> u64 {
        let _ = (period, now_s);
        unimplemented!()
    }
}
