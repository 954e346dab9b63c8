//! Why a connection between nodes is refused or closed: the application error codes of QUIC's CONNECTION_CLOSE.

use crate::frame::Hello;
use crate::versions::Versions;

/// The reason that goes with a close. Numbers stay; a reader takes an unknown one for `Misbehaved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Close {
    /// The sender stops.
    Stopping = 0,
    /// The certificate, or the Hello, is of another cluster.
    OtherCluster = 1,
    /// No version of the protocol in common.
    NoCommonVersion = 2,
    /// Histories of different stores do not mix.
    OtherStore = 3,
    /// The Hello names another node than the certificate, or the receiver itself.
    Identity = 4,
    /// There is another connection between the two nodes, and that one is used.
    Duplicate = 5,
    /// Bytes that are no frame.
    Malformed = 6,
    /// A frame where it must not be: before or beside the Hello, on the wrong carrier, a second Hello.
    Unexpected = 7,
    /// Content that contradicts what the peer said earlier.
    Misbehaved = 8,
    /// No Hello in time, or a backlog beyond its bound.
    TooSlow = 9,
    /// More connections than this node takes.
    Full = 10,
}

const ALL: [Close; 11] = [
    Close::Stopping,
    Close::OtherCluster,
    Close::NoCommonVersion,
    Close::OtherStore,
    Close::Identity,
    Close::Duplicate,
    Close::Malformed,
    Close::Unexpected,
    Close::Misbehaved,
    Close::TooSlow,
    Close::Full,
];

impl Close {
    pub fn code(self) -> u32 {
        self as u32
    }

    pub fn of(code: u64) -> Self {
        ALL.into_iter().find(|close| u64::from(close.code()) == code).unwrap_or(Self::Misbehaved)
    }

    /// Lower case, for metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::OtherCluster => "other_cluster",
            Self::NoCommonVersion => "no_common_version",
            Self::OtherStore => "other_store",
            Self::Identity => "identity",
            Self::Duplicate => "duplicate",
            Self::Malformed => "malformed",
            Self::Unexpected => "unexpected",
            Self::Misbehaved => "misbehaved",
            Self::TooSlow => "too_slow",
            Self::Full => "full",
        }
    }
}

impl Hello {
    pub fn versions(&self) -> Versions {
        Versions { oldest: self.oldest, newest: self.newest }
    }

    /// The version to write to `peer`, or why there is nothing to say to it. Both sides come to the same answer.
    ///
    /// Which cluster a peer is of is what its certificate proves, not asked here: while a secret is replaced by another,
    /// members rightly say different ids.
    pub fn greet(&self, peer: &Hello) -> Result<u8, Close> {
        if self.node_id == peer.node_id {
            Err(Close::Identity)
        } else if self.store != peer.store {
            Err(Close::OtherStore)
        } else {
            self.versions().agreed(peer.versions()).ok_or(Close::NoCommonVersion)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stay() {
        for (code, close) in ALL.into_iter().enumerate() {
            assert_eq!((close.code() as usize, Close::of(code as u64)), (code, close));
        }
        assert_eq!(Close::of(1 << 40), Close::Misbehaved);
    }
}
