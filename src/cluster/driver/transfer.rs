//! Takes a whole configuration from one donor after the other until it is complete.
//!
//! What one donor sent is kept when the next one goes on. The position that the whole may then claim is what both had:
//! records that are newer do no harm, because the transactions behind that position are applied again, in order.

use std::time::Duration;

use tidegate_proto::Vector;
use tidegate_proto::frame::{Chunk, Fetch, RECORDS_LEN_MAX, Records, WholeRecord};
use tokio::sync::mpsc;

use crate::cluster::transport::Mesh;

/// A donor that sends nothing for so long is given up.
const PROGRESS: Duration = Duration::from_secs(2);
/// All chunks before compression, in bytes.
const WHOLE_LEN_MAX: usize = 1 << 30;

/// What has arrived of a whole.
#[derive(Debug, Default)]
pub struct Partial {
    /// `None` before the first chunk.
    vector: Option<Vector>,
    pub records: Vec<WholeRecord>,
    len: usize,
}

/// How a donor ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Complete,
    /// Somebody else may go on.
    Broken,
    /// What it sent is wrong.
    Liar(&'static str),
}

/// What a finished transfer reports.
pub struct Collected {
    /// The number that it was started with.
    pub number: u64,
    pub peer: String,
    pub partial: Partial,
    pub outcome: Outcome,
}

/// Transfers from `peer` what `partial` lacks, and reports.
pub async fn collect(mesh: Mesh, number: u64, peer: String, mut partial: Partial, report: mpsc::Sender<Collected>) {
    let fetch = Fetch { after: partial.last(), more: Vec::new() };
    let chunks = mesh.fetch(&peer, fetch);
    let outcome = partial.fill(chunks).await;
    let _ = report.send(Collected { number, peer, partial, outcome }).await;
}

impl Partial {
    /// The position that a complete whole stands for.
    pub fn vector(&self) -> Vector {
        self.vector.clone().unwrap_or_default()
    }

    async fn fill(&mut self, mut chunks: mpsc::Receiver<Chunk>) -> Outcome {
        loop {
            let Ok(Some(chunk)) = tokio::time::timeout(PROGRESS, chunks.recv()).await else { return Outcome::Broken };
            let last = chunk.last;
            if let Err(why) = self.put(chunk) {
                *self = Self::default();
                return Outcome::Liar(why);
            }
            if last {
                return Outcome::Complete;
            }
        }
    }

    fn put(&mut self, chunk: Chunk) -> Result<(), &'static str> {
        let len = usize::try_from(chunk.len).unwrap_or(usize::MAX);
        if len > RECORDS_LEN_MAX || self.len + len > WHOLE_LEN_MAX {
            return Err("a configuration beyond all bounds");
        }
        let bytes = zstd::bulk::decompress(&chunk.records, len).map_err(|_| "a chunk that cannot be unpacked")?;
        let Records { records } = Records::decode(&bytes).map_err(|_| "a chunk that cannot be read")?;
        let mut place = self.last();
        for record in &records {
            let next = Some((record.kind.clone(), record.id));
            if next <= place {
                return Err("records out of order");
            }
            place = next;
        }
        self.vector = Some(match self.vector.take() {
            Some(standing) => meet(standing, chunk.vector).ok_or("another history in the middle of a transfer")?,
            None => chunk.vector,
        });
        self.len += len;
        self.records.extend(records);
        Ok(())
    }

    fn last(&self) -> Option<(String, [u8; 16])> {
        self.records.last().map(|record| (record.kind.clone(), record.id))
    }
}

/// What is in both; `None` for different histories.
fn meet(one: Vector, other: Vector) -> Option<Vector> {
    (one.epoch == other.epoch).then_some(())?;
    let counts = one.counts.into_iter().map(|(origin, count)| {
        let both = count.min(other.count(&origin));
        (origin, both)
    });
    Some(Vector { epoch: one.epoch, counts: counts.filter(|(_, count)| *count > 0).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u8) -> WholeRecord {
        WholeRecord { kind: "routes".to_owned(), id: [id; 16], time: 1, origin: String::new(), text: None }
    }

    fn chunk(ids: &[u8], count: u64, last: bool) -> Chunk {
        let bytes = Records { records: ids.iter().map(|id| record(*id)).collect() }.encode().unwrap();
        let mut vector = Vector::default();
        vector.advance("a", count);
        vector.advance("b", 10 - count);
        let records = zstd::bulk::compress(&bytes, 1).unwrap();
        Chunk { vector, records, len: bytes.len() as u32, last, more: Vec::new() }
    }

    /// Fills from one donor that sends `chunks` and then ends.
    async fn fill(partial: &mut Partial, chunks: Vec<Chunk>) -> Outcome {
        let (sender, receiver) = mpsc::channel(chunks.len().max(1));
        for chunk in chunks {
            sender.send(chunk).await.unwrap();
        }
        drop(sender);
        partial.fill(receiver).await
    }

    #[tokio::test]
    async fn a_second_donor_goes_on_and_the_whole_claims_what_both_had() {
        let mut partial = Partial::default();
        assert_eq!(fill(&mut partial, vec![chunk(&[1, 2], 7, false)]).await, Outcome::Broken);
        assert_eq!(partial.last(), Some(("routes".to_owned(), [2; 16])));
        assert_eq!(fill(&mut partial, vec![chunk(&[3], 4, false), chunk(&[4], 4, true)]).await, Outcome::Complete);
        assert_eq!(partial.records.len(), 4);
        let vector = partial.vector();
        assert_eq!((vector.count("a"), vector.count("b")), (4, 3));
    }

    #[tokio::test]
    async fn a_donor_that_lies_leaves_nothing_behind() {
        let lies = [
            ("records out of order", chunk(&[2], 7, true)),
            (
                "a chunk that cannot be read",
                Chunk { len: 0, records: zstd::bulk::compress(&[], 1).unwrap(), ..chunk(&[3], 7, true) },
            ),
            ("a chunk that cannot be unpacked", Chunk { len: 1, ..chunk(&[3], 7, true) }),
            ("a configuration beyond all bounds", Chunk { len: u32::MAX, ..chunk(&[3], 7, true) }),
            (
                "another history in the middle of a transfer",
                Chunk { vector: Vector { epoch: 9, ..Vector::default() }, ..chunk(&[3], 7, true) },
            ),
        ];
        for (why, lie) in lies {
            let mut partial = Partial::default();
            assert_eq!(fill(&mut partial, vec![chunk(&[2], 7, false), lie]).await, Outcome::Liar(why));
            assert!(partial.records.is_empty() && partial.last().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_donor_is_given_up() {
        let (_sender, receiver) = mpsc::channel(1);
        assert_eq!(Partial::default().fill(receiver).await, Outcome::Broken);
    }
}
