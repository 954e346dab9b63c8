//! The lengths of windows, and whose counts a limit is decided by.

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
