//! The frames that nodes exchange, and the envelope around them. `README.md` is the specification.
//!
//! Envelope: version byte, kind (u16), then the bincode of the body. A body ends with `More`: members that later
//! versions add, by number, so that older nodes can pass over what they do not know.

use serde::{Deserialize, Serialize};

use crate::{Revision, Vector};

/// The version that this crate writes.
pub const VERSION: u8 = 1;
/// The oldest version that it reads.
pub const VERSION_OLDEST: u8 = 1;
/// The longest frame, in bytes; more is refused before anything is allocated for it.
pub const FRAME_LEN_MAX: usize = 1 << 20;

/// One message between nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// First on a connection, both ways.
    Hello(Hello),
    /// Every second, and when the position changed.
    Beat(Beat),
    /// Transactions, as the writer pushes them or a pull is answered.
    Spans(Spans),
    /// What the sender lacks is asked for.
    Pull(Pull),
    /// The range is gone: take the whole, from this node.
    Whole(Whole),
    /// Asks for records after a place; answered on the same stream by `Chunk`s.
    Fetch(Fetch),
    Chunk(Chunk),
    /// An envelope of the membership protocol; opaque here.
    Gossip(Gossip),
    /// The sender leaves on purpose.
    Leave(Leave),
    /// Not now: try again after some time, or somewhere else.
    Busy(Busy),
}

/// Members that a later version added, by number.
pub type More = Vec<(u16, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Fingerprint of cluster name and secret.
    pub cluster_id: String,
    pub node_id: String,
    pub region: String,
    /// Unix ms at the start of the process, larger at each start.
    pub incarnation: u64,
    /// Where peers dial, `IP:PORT`.
    pub address: String,
    /// Of the program.
    pub version: String,
    /// Versions of this protocol that the sender reads.
    pub oldest: u8,
    pub newest: u8,
    /// `postgres` or `embedded`: histories of different stores do not mix.
    pub store: String,
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Beat {
    /// Grows by one per beat and connection.
    pub sequence: u64,
    pub revision: Revision,
    /// Digest of the vector: equal digests, equal vectors.
    pub digest: u64,
    /// Sender's Unix ms, and the last time of the receiver it heard, with how long ago: round trips and skew.
    pub time_ms: u64,
    pub echo_ms: u64,
    pub echo_age_ms: u32,
    /// The sender stops taking traffic.
    pub draining: bool,
    pub more: More,
}

/// A transaction, or several of one writer in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub epoch: u64,
    pub origin: String,
    /// Applies where the count of `origin` is at least `after` and less than `upto`.
    pub after: u64,
    pub upto: u64,
    pub changes: Vec<Changed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub kind: String,
    pub id: [u8; 16],
    /// `Stamp::time`; the rest of the stamp is the span's.
    pub time: u64,
    /// The document as JSON; `None`: the entity is gone.
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spans {
    pub spans: Vec<Span>,
    /// Where the sender stands.
    pub vector: Vector,
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pull {
    pub vector: Vector,
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    pub vector: Vector,
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// Resumes after this (kind, id) of an earlier transfer; `None`: from the beginning.
    pub after: Option<(String, [u8; 16])>,
    pub more: More,
}

/// Records in order of (kind, id), compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where the donor stood when the transfer began: everything up to there is in the whole.
    pub vector: Vector,
    /// `Records`, encoded, then compressed with zstd.
    pub records: Vec<u8>,
    /// The length before compression, for the bound of the reader.
    pub len: u32,
    pub last: bool,
    pub more: More,
}

/// The content of a chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Records {
    pub records: Vec<WholeRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WholeRecord {
    pub kind: String,
    pub id: [u8; 16],
    pub time: u64,
    pub origin: String,
    /// `None`: a tombstone.
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gossip {
    pub envelope: Vec<u8>,
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leave {
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    pub retry_after_ms: u32,
    pub more: More,
}
