//! All entities at one revision, as bytes: a node's local snapshot, and what a peer that lacks everything gets.
//!
//! Layout: one version byte, then the bincode (standard configuration) of `Snapshot`. Documents stay JSON text, so
//! the format knows no entity and a new field needs no new version. Decoding borrows from the input: a forged length
//! finds no bytes to borrow, so it cannot ask for memory. JSON for the whole lost: escaping the documents again cost
//! more than everything else.

use std::fmt;
use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::revision::Revision;

/// The first byte of what this crate writes.
pub const SNAPSHOT_VERSION: u8 = 1;

/// The longest snapshot that is written or read, in bytes: a million entities of a kilobyte.
pub const SNAPSHOT_LEN_MAX: usize = 1 << 30;

/// Every entity at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot<'a> {
    /// Which history the revision counts in; revisions of different origins do not compare.
    pub origin: &'a str,
    pub revision: Revision,
    #[serde(borrow)]
    pub records: Vec<Record<'a>>,
}

/// One entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// Internal plural name of the kind. A reader skips kinds that it does not know.
    pub kind: &'a str,
    /// The UUID's bytes.
    pub id: [u8; 16],
    /// The document, JSON.
    pub text: &'a str,
}

/// Why bytes are no snapshot, or a snapshot cannot become bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    Empty,
    /// More than `SNAPSHOT_LEN_MAX` bytes.
    TooLong,
    /// Written by another version of this crate.
    Version(u8),
    /// Bytes remain after the end.
    Trailing(usize),
    /// The codec's own words.
    Codec(String),
}

impl Snapshot<'_> {
    /// The snapshot's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the snapshot's bytes, in small pieces: give it a buffer. What was written of a snapshot that turns out to be
    /// too long is to be thrown away.
    pub fn write(&self, out: &mut impl Write) -> Result<(), Malformed> {
        let mut pieces = Pieces::begin(out, self.origin, self.revision, self.records.len())?;
        self.records.iter().try_for_each(|record| pieces.add(record))
    }
}

/// A snapshot that is written record by record, so that its texts are never all there at once. Whoever began it adds as many
/// records as were announced.
pub struct Pieces<'o, W> {
    out: &'o mut W,
    written: usize,
}

impl<'o, W: Write> Pieces<'o, W> {
    /// Writes what stands before the records, of which there will be so many.
    pub fn begin(out: &'o mut W, origin: &str, revision: Revision, records: usize) -> Result<Self, Malformed> {
        let mut pieces = Pieces { out, written: 0 };
        pieces.out.write_all(&[SNAPSHOT_VERSION]).map_err(|error| Malformed::Codec(error.to_string()))?;
        pieces.put(&(origin, revision, records as u64))?;
        Ok(pieces)
    }

    /// Writes the next record.
    pub fn add(&mut self, record: &Record<'_>) -> Result<(), Malformed> {
        self.put(record)
    }

    fn put(&mut self, part: &impl Serialize) -> Result<(), Malformed> {
        let written = bincode::serde::encode_into_std_write(part, &mut *self.out, codec())
            .map_err(|error| Malformed::Codec(error.to_string()))?;
        self.written += written;
        if self.written < SNAPSHOT_LEN_MAX { Ok(()) } else { Err(Malformed::TooLong) }
    }
}

impl<'a> Snapshot<'a> {
    /// The snapshot in `bytes`, all of them.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (version, body) = bytes.split_first().ok_or(Malformed::Empty)?;
        if *version != SNAPSHOT_VERSION {
            return Err(Malformed::Version(*version));
        }
        if bytes.len() > SNAPSHOT_LEN_MAX {
            return Err(Malformed::TooLong);
        }
        let (snapshot, used) = bincode::serde::borrow_decode_from_slice(body, codec())
            .map_err(|error| Malformed::Codec(error.to_string()))?;
        if used < body.len() { Err(Malformed::Trailing(body.len() - used)) } else { Ok(snapshot) }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no bytes"),
            Self::TooLong => write!(f, "longer than {SNAPSHOT_LEN_MAX} bytes"),
            Self::Version(version) => write!(f, "format version {version}, this program reads {SNAPSHOT_VERSION}"),
            Self::Trailing(count) => write!(f, "{count} bytes after the end"),
            Self::Codec(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Malformed {}

fn codec() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<SNAPSHOT_LEN_MAX>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn sample() -> Snapshot<'static> {
        let record = Record { kind: "services", id: [7; 16], text: r#"{"id":1}"# };
        Snapshot { origin: "here", revision: Revision::new(1, 300), records: vec![record] }
    }

    #[test]
    fn golden_bytes_stay() {
        let mut golden = vec![1, 4];
        golden.extend(b"here");
        golden.extend([1, 251, 44, 1, 1, 8]);
        golden.extend(b"services");
        golden.extend([7; 16]);
        golden.push(8);
        golden.extend(br#"{"id":1}"#);
        assert_eq!(sample().encode().unwrap(), golden);
        assert_eq!(Snapshot::decode(&golden), Ok(sample()));
    }

    #[test]
    fn damage_is_refused() {
        let bytes = sample().encode().unwrap();
        assert_eq!(Snapshot::decode(&[]), Err(Malformed::Empty));
        assert_eq!(Snapshot::decode(&[9, 1, 2]), Err(Malformed::Version(9)));
        assert_eq!(Snapshot::decode(&[&bytes[..], &[0]].concat()), Err(Malformed::Trailing(1)));
        for len in 1..bytes.len() {
            assert!(matches!(Snapshot::decode(&bytes[..len]), Err(Malformed::Codec(_))), "cut at {len}");
        }
    }

    #[test]
    fn forged_lengths_ask_for_no_memory() {
        for forged in [&[1, 253, 255, 255, 255, 255, 255, 255, 255, 255][..], &[1, 0, 1, 1, 252, 255, 255, 255, 255]] {
            assert!(matches!(Snapshot::decode(forged), Err(Malformed::Codec(_))), "{forged:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), honest in any::<bool>()) {
            if honest && let Some(first) = bytes.first_mut() {
                *first = SNAPSHOT_VERSION;
            }
            if let Ok(snapshot) = Snapshot::decode(&bytes) {
                let again = snapshot.encode().unwrap();
                prop_assert_eq!(Snapshot::decode(&again), Ok(snapshot.clone()));
            }
        }

        #[test]
        fn snapshots_round_trip(texts in proptest::collection::vec(".*", 0..6), epoch in any::<u64>(), number in any::<u64>()) {
            let records = texts.iter().map(|text| Record { kind: text, id: [1; 16], text }).collect();
            let snapshot = Snapshot { origin: "o", revision: Revision::new(epoch, number), records };
            let bytes = snapshot.encode().unwrap();
            prop_assert_eq!(Snapshot::decode(&bytes), Ok(snapshot.clone()));
        }
    }
}
