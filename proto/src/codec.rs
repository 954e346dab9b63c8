//! Frames to bytes and back.
//!
//! Envelope: version byte, kind (u16, little endian), then the bincode (standard configuration) of the body, and nothing
//! behind it. Decoding borrows from the input and goes through `bound`, which refuses a length before it asks for memory;
//! what the types cannot say is in `check`. The limit that bincode counts itself is the second line: it counts decoded
//! sizes, not bytes of the input, hence the factor. Encoding holds the same bounds, so a node never sends what its peers
//! would close the connection for. The body of `Counts` is packed by hand, see there.

use serde::{Deserialize, Serialize};

use crate::bound::Unnamed;
use crate::check;
use crate::counts::Counts;
use crate::frame::{Frame, Records};
use crate::kind::Kind;
use crate::malformed::Malformed;
use crate::sizes::{FRAME_LEN_MAX, RECORDS_LEN_MAX};
use crate::versions::Versions;

/// Version byte and kind.
const HEAD_LEN: usize = 3;
/// A one-byte integer counts as eight against bincode's limit.
const CODEC_LIMIT: usize = 8 * FRAME_LEN_MAX;

/// What bytes turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    Frame(Frame),
    /// A kind that a later version added, by number: pass over it.
    Unknown(u16),
}

impl Frame {
    /// The frame's bytes in the version that was agreed with the peer.
    ///
    /// Fails where the peer would refuse: a frame too long for its kind (`TooLong`: send less, or let the peer take the
    /// whole), a kind that `version` does not have, content out of bounds. A `Hello` is the same in every version.
    pub fn encode(&self, version: u8) -> Result<Vec<u8>, Malformed> {
        let kind = self.kind();
        if version < kind.since() {
            return Err(Malformed::Version(version));
        }
        check::frame(self).map_err(Malformed::Content)?;
        let version = if kind == Kind::Hello { 1 } else { version };
        let [low, high] = kind.number().to_le_bytes();
        let mut bytes = vec![version, low, high];
        self.encode_body(&mut bytes)?;
        if bytes.len() > kind.len_max() { Err(Malformed::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// The frame in `bytes`, all of them, as this crate's versions have it.
    pub fn decode(bytes: &[u8]) -> Result<Decoded, Malformed> {
        Self::decode_as(bytes, Versions::OURS)
    }

    /// As `decode`, for a node that says in its Hello that it reads `versions`.
    pub fn decode_as(bytes: &[u8], versions: Versions) -> Result<Decoded, Malformed> {
        let Some((&[version, low, high], body)) = bytes.split_first_chunk::<HEAD_LEN>() else {
            return Err(Malformed::Short);
        };
        let number = u16::from_le_bytes([low, high]);
        let readable = (versions.oldest..=versions.newest).contains(&version);
        // A Hello is read in any version: it is where nodes without a common one find that out.
        if !readable && number != Kind::Hello.number() {
            return Err(Malformed::Version(version));
        }
        let kind = Kind::of(number, versions.newest);
        if bytes.len() > kind.map_or(FRAME_LEN_MAX, Kind::len_max) {
            return Err(Malformed::TooLong(bytes.len()));
        }
        let Some(kind) = kind else { return Ok(Decoded::Unknown(number)) };
        let frame = Self::decode_body(kind, body)?;
        check::frame(&frame).map_err(Malformed::Content)?;
        Ok(Decoded::Frame(frame))
    }

    fn encode_body(&self, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Hello(body) => write(body, bytes),
            Self::Beat(body) => write(body, bytes),
            Self::Spans(body) => write(body, bytes),
            Self::Pull(body) => write(body, bytes),
            Self::Whole(body) => write(body, bytes),
            Self::Fetch(body) => write(body, bytes),
            Self::Chunk(body) => write(body, bytes),
            Self::Gossip(body) => write(body, bytes),
            Self::Leave(body) => write(body, bytes),
            Self::Busy(body) => write(body, bytes),
            Self::Counts(body) => {
                body.write(bytes);
                write(&Unnamed, bytes)
            }
            Self::CountsPull(body) => write(body, bytes),
            Self::Ask(body) => write(body, bytes),
            Self::Grant(body) => write(body, bytes),
            #[cfg(test)]
            Self::Probe(body) => write(body, bytes),
        }
    }

    fn decode_body(kind: Kind, body: &[u8]) -> Result<Self, Malformed> {
        match kind {
            Kind::Hello => read(body).map(Self::Hello),
            Kind::Beat => read(body).map(Self::Beat),
            Kind::Spans => read(body).map(Self::Spans),
            Kind::Pull => read(body).map(Self::Pull),
            Kind::Whole => read(body).map(Self::Whole),
            Kind::Fetch => read(body).map(Self::Fetch),
            Kind::Chunk => read(body).map(Self::Chunk),
            Kind::Gossip => read(body).map(Self::Gossip),
            Kind::Leave => read(body).map(Self::Leave),
            Kind::Busy => read(body).map(Self::Busy),
            Kind::Counts => {
                let mut rest = body;
                let counts = Counts::read(&mut rest)?;
                read::<Unnamed>(rest)?;
                Ok(Self::Counts(counts))
            }
            Kind::CountsPull => read(body).map(Self::CountsPull),
            Kind::Ask => read(body).map(Self::Ask),
            Kind::Grant => read(body).map(Self::Grant),
            #[cfg(test)]
            Kind::Probe => read(body).map(Self::Probe),
        }
    }
}

impl Records {
    /// The bytes that go compressed into a chunk.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        check::records(self).map_err(Malformed::Content)?;
        let mut bytes = Vec::new();
        write(self, &mut bytes)?;
        if bytes.len() > RECORDS_LEN_MAX { Err(Malformed::TooLong(bytes.len())) } else { Ok(bytes) }
    }

    /// The records in decompressed bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > RECORDS_LEN_MAX {
            return Err(Malformed::TooLong(bytes.len()));
        }
        let records = read(bytes)?;
        check::records(&records).map_err(Malformed::Content)?;
        Ok(records)
    }
}

fn write(body: &impl Serialize, bytes: &mut Vec<u8>) -> Result<(), Malformed> {
    bincode::serde::encode_into_std_write(body, bytes, codec()).map_err(|error| Malformed::Codec(error.to_string()))?;
    Ok(())
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    let (body, used) = bincode::serde::borrow_decode_from_slice(bytes, codec())
        .map_err(|error| Malformed::Codec(error.to_string()))?;
    if used < bytes.len() { Err(Malformed::Trailing(bytes.len() - used)) } else { Ok(body) }
}

fn codec() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<CODEC_LIMIT>()
}
