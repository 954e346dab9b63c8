//! One limit of a hit, and the outcome of a hit.

use smallvec::SmallVec;

use crate::counter::period::Period;
use crate::counter::word::COUNT_MAX;

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
    /// Usage before this hit, per limit, as far as this node knows. It never falls within a window; once a refusal was
    /// told in a window it stays at the limit or above.
    pub usage: SmallVec<[u64; 6]>,
    /// Cluster time of the decision, Unix ms; at least the start of the window that was counted in.
    pub at_ms: u64,
    /// Somebody should call `name`.
    pub unnamed: bool,
}

impl Limit {
    /// How many requests have room. Kong: `limit - usage` must be above zero, so a limit of 0.5 admits one, and 1.5 two.
    pub fn room(&self) -> u64 {
        (self.limit.ceil() as u64).min(COUNT_MAX)
    }
}
