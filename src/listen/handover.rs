//! Why the proxy's lean path left a connection to the general one.
//!
//! It stands here because the proxy counts it and the Admin API shows it, and these two do not know each other.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the request had that the lean path does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// A head that is long, odd or wrong; the general path says what is wrong.
    Head,
    /// Not HTTP/1.1.
    Version,
    /// `Upgrade`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// `TE`: trailers may be wanted.
    Trailers,
    /// A body that is not held whole: long, chunked, or on a route without request buffering.
    Body,
    /// A plugin that wants to see the body.
    Plugin,
}

/// How often each came about.
#[derive(Debug, Default)]
pub struct Handovers([AtomicU64; Handover::ALL.len()]);

impl Handover {
    /// In the order of their declaration.
    pub const ALL: [Self; 7] =
        [Self::Head, Self::Version, Self::Upgrade, Self::Expect, Self::Trailers, Self::Body, Self::Plugin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::Version => "version",
            Self::Upgrade => "upgrade",
            Self::Expect => "expect",
            Self::Trailers => "trailers",
            Self::Body => "body",
            Self::Plugin => "plugin",
        }
    }
}

impl Handovers {
    pub fn note(&self, handover: Handover) {
        self.0[handover as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections were handed over for this.
    pub fn count(&self, handover: Handover) -> u64 {
        self.0[handover as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_by_itself() {
        let handovers = Handovers::default();
        for (place, handover) in Handover::ALL.into_iter().enumerate() {
            (0..place).for_each(|_| handovers.note(handover));
        }
        assert_eq!(Handover::ALL.map(|handover| handovers.count(handover)), [0, 1, 2, 3, 4, 5, 6]);
    }
}
