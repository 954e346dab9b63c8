//! The bytes that a node may still send to its peers.

/// For so long after the budget was spent only homes hear of counters that nobody shares.
const THRIFT_MS: u64 = 10_000;

/// Bytes that may still be sent; refilled with time, at most a second's worth.
#[derive(Debug)]
pub struct Budget {
    per_s: u64,
    pub left: i64,
    at_ms: u64,
    /// When the budget was last spent.
    pub spent_ms: Option<u64>,
}

impl Budget {
    pub fn new(per_s: u64, now_ms: u64) -> Self {
        Self { per_s, left: i64::try_from(per_s).unwrap_or(i64::MAX), at_ms: now_ms, spent_ms: None }
    }

    pub fn refill(&mut self, now_ms: u64) {
        let per_s = i64::try_from(self.per_s).unwrap_or(i64::MAX);
        let elapsed_ms = i64::try_from(now_ms.saturating_sub(self.at_ms)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(per_s.saturating_mul(elapsed_ms) / 1_000).min(per_s);
        self.at_ms = self.at_ms.max(now_ms);
    }

    pub fn spend(&mut self, len: u64) {
        self.left = self.left.saturating_sub(i64::try_from(len).unwrap_or(i64::MAX)).max(-(1 << 40));
    }

    /// Whether the budget was spent within the last `THRIFT_MS`.
    pub fn is_thrifty(&self, now_ms: u64) -> bool {
        self.spent_ms.is_some_and(|spent_ms| now_ms < spent_ms + THRIFT_MS)
    }
}
