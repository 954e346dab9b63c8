//! Versions of the protocol, and the one that two nodes agree on.

/// The version that this crate writes.
pub const VERSION: u8 = 2;
/// The oldest version that it reads.
pub const VERSION_OLDEST: u8 = 1;

/// The versions of the protocol that a node reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub oldest: u8,
    pub newest: u8,
}

impl Versions {
    /// Those of this crate.
    pub const OURS: Self = Self { oldest: VERSION_OLDEST, newest: VERSION };

    /// What two nodes write to each other: the newest that both know. `None`: they have no version in common.
    pub fn agreed(self, peer: Self) -> Option<u8> {
        let version = self.newest.min(peer.newest);
        (version >= self.oldest.max(peer.oldest)).then_some(version)
    }
}
