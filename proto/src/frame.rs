//! The frames that nodes exchange. `README.md` is the specification; `codec` turns them into bytes and back.
//!
//! A body ends with `More`: members that later versions add, by number, so that older nodes can pass over what they do
//! not know. Decoding holds every bound that is written here, so what a frame costs in memory is a small multiple of its
//! length. Members of optional type at the end lost to `More`: bincode cannot tell a missing member from a damaged one.

use serde::{Deserialize, Serialize};

use crate::bound::{bytes, cursor, elements, more, name, optional_document, spans, text, write_bytes};
use crate::revision::Revision;
use crate::vector::Vector;

pub use crate::counts::{COUNT_MAX, Counts, Group, PERIODS, Slot};
pub use crate::kind::Kind;
pub use crate::malformed::Malformed;
pub use crate::more::{More, member};
pub use crate::sizes::{FRAME_LEN_MAX, KINDS_MAX, MORE_MAX, NAME_LEN_MAX, RECORDS_LEN_MAX, SPANS_MAX, TEXT_LEN_MAX};
pub use crate::versions::{VERSION, VERSION_OLDEST, Versions};

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
    /// What was counted for the limits of the cluster.
    Counts(Counts),
    /// Asks for all slots that the receiver knows, of every source.
    CountsPull(CountsPull),
    /// Asks for rights of a strict limit.
    Ask(Ask),
    /// Rights of a strict limit that move to the receiver.
    Grant(Grant),
    /// What a later version adds, for the tests of two versions.
    #[cfg(test)]
    Probe(Probe),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Fingerprint of cluster name and secret.
    #[serde(deserialize_with = "text")]
    pub cluster_id: String,
    #[serde(deserialize_with = "name")]
    pub node_id: String,
    #[serde(deserialize_with = "text")]
    pub region: String,
    /// Unix ms at the start of the process, larger at each start.
    pub incarnation: u64,
    /// Where peers dial, `IP:PORT`.
    #[serde(deserialize_with = "text")]
    pub address: String,
    /// Of the program.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// Versions of this protocol that the sender reads.
    pub oldest: u8,
    pub newest: u8,
    /// `postgres` or `embedded`: histories of different stores do not mix.
    #[serde(deserialize_with = "name")]
    pub store: String,
    #[serde(deserialize_with = "more")]
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
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// A transaction, or several of one writer in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    pub epoch: u64,
    #[serde(deserialize_with = "name")]
    pub origin: String,
    /// Applies where the count of `origin` is at least `after` and less than `upto`.
    pub after: u64,
    pub upto: u64,
    #[serde(deserialize_with = "elements")]
    pub changes: Vec<Changed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    #[serde(deserialize_with = "name")]
    pub kind: String,
    pub id: [u8; 16],
    /// `Stamp::time`; the rest of the stamp is the span's.
    pub time: u64,
    /// The document as JSON; `None`: the entity is gone.
    #[serde(deserialize_with = "optional_document")]
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spans {
    #[serde(deserialize_with = "spans")]
    pub spans: Vec<Span>,
    /// Where the sender stands.
    pub vector: Vector,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pull {
    pub vector: Vector,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    pub vector: Vector,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// Resumes after this (kind, id) of an earlier transfer; `None`: from the beginning.
    #[serde(deserialize_with = "cursor")]
    pub after: Option<(String, [u8; 16])>,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// Records in order of (kind, id), compressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where the donor stood when the transfer began: everything up to there is in the whole.
    pub vector: Vector,
    /// `Records`, encoded, then compressed with zstd.
    #[serde(serialize_with = "write_bytes", deserialize_with = "bytes")]
    pub records: Vec<u8>,
    /// The length before compression, for the bound of the reader.
    pub len: u32,
    pub last: bool,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// The content of a chunk: (kind, id) ascends, kinds compared as bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Records {
    #[serde(deserialize_with = "elements")]
    pub records: Vec<WholeRecord>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WholeRecord {
    #[serde(deserialize_with = "name")]
    pub kind: String,
    pub id: [u8; 16],
    pub time: u64,
    #[serde(deserialize_with = "name")]
    pub origin: String,
    /// `None`: a tombstone.
    #[serde(deserialize_with = "optional_document")]
    pub text: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gossip {
    #[serde(serialize_with = "write_bytes", deserialize_with = "bytes")]
    pub envelope: Vec<u8>,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leave {
    #[serde(deserialize_with = "more")]
    pub more: More,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Busy {
    pub retry_after_ms: u32,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// The sender has just joined and knows no slots but its own; answered by `Counts`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsPull {
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// Wants to admit more in one window of a strict limit than the sender has rights for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub key: u64,
    /// 0 to 5, from second to year.
    pub period: u8,
    pub window: u32,
    /// How many hits the limit admits in a window, as the sender knows it.
    pub room: u64,
    /// Rights that would be of use, cumulative: with all that this process of the receiver ever gave to this process of the
    /// sender in this window. So an ask that is repeated is not answered twice.
    pub wish: u64,
    /// The sender's, and the receiver's as the sender knows it: an ask for another process is not answered.
    pub incarnation: u64,
    pub donor_incarnation: u64,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// Rights in one window of a strict limit, cumulative: what is repeated or overtaken does no harm, what is lost is lost
/// to both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub key: u64,
    /// 0 to 5, from second to year.
    pub period: u8,
    pub window: u32,
    /// All rights that this process of the sender ever gave to this process of the receiver in this window.
    pub total: u64,
    /// Of the receiver, who asked, and of the sender.
    pub incarnation: u64,
    pub donor_incarnation: u64,
    /// Rights that the sender has left for itself.
    pub spare: u64,
    /// Member 0: the limit, 8 bytes little-endian; the receiver may not know the counter, as the sender leaves and hands
    /// over what it held.
    #[serde(deserialize_with = "more")]
    pub more: More,
}

/// The frame of a later version, for tests.
#[cfg(test)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub nonce: u64,
    #[serde(deserialize_with = "more")]
    pub more: More,
}

impl Frame {
    /// The kind of the frame.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Beat(_) => Kind::Beat,
            Self::Spans(_) => Kind::Spans,
            Self::Pull(_) => Kind::Pull,
            Self::Whole(_) => Kind::Whole,
            Self::Fetch(_) => Kind::Fetch,
            Self::Chunk(_) => Kind::Chunk,
            Self::Gossip(_) => Kind::Gossip,
            Self::Leave(_) => Kind::Leave,
            Self::Busy(_) => Kind::Busy,
            Self::Counts(_) => Kind::Counts,
            Self::CountsPull(_) => Kind::CountsPull,
            Self::Ask(_) => Kind::Ask,
            Self::Grant(_) => Kind::Grant,
            #[cfg(test)]
            Self::Probe(_) => Kind::Probe,
        }
    }
}

impl Span {
    /// At least as many bytes as this takes up in a frame: what rings and frames are filled by.
    pub fn size(&self) -> usize {
        let changes = self.changes.iter().map(|changed| 48 + changed.kind.len() + text_len(&changed.text));
        48 + self.origin.len() + changes.sum::<usize>()
    }
}

impl WholeRecord {
    /// At least as many bytes as this takes up in `Records`.
    pub fn size(&self) -> usize {
        56 + self.kind.len() + self.origin.len() + text_len(&self.text)
    }
}

fn text_len(text: &Option<String>) -> usize {
    text.as_ref().map_or(0, String::len)
}
