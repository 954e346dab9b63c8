//! How much of everybody's history a node has: the coordinates in which nodes compare what they run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::bound::{counts, write_counts};
use crate::revision::Revision;

/// For each writer the number of its transactions that are in. With Postgres there is one writer, the database, under
/// the empty name; in the embedded store each node is one, under its node id.
///
/// A count of 0 says the same as no count.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Vector {
    /// A history that was replaced by another (a restored database) begins a new epoch; the greater one wins whole.
    pub epoch: u64,
    #[serde(serialize_with = "write_counts", deserialize_with = "counts")]
    pub counts: BTreeMap<String, u64>,
}

impl Vector {
    /// The history of a database.
    pub fn of_database(revision: Revision) -> Self {
        Self { epoch: revision.epoch, counts: BTreeMap::from([(String::new(), revision.number)]) }
    }

    /// How many transactions of `origin` are in.
    pub fn count(&self, origin: &str) -> u64 {
        self.counts.get(origin).copied().unwrap_or(0)
    }

    /// The revision shown for it: the epoch, and all transactions added up. Equal vectors have equal revisions.
    pub fn revision(&self) -> Revision {
        let number = self.counts.values().fold(0u64, |sum, count| sum.saturating_add(*count));
        Revision::new(self.epoch, number)
    }

    /// Whether everything that is in `other` is in here too.
    pub fn covers(&self, other: &Vector) -> bool {
        self.epoch > other.epoch
            || self.epoch == other.epoch && other.counts.iter().all(|(origin, count)| self.count(origin) >= *count)
    }

    /// Takes in that the first `count` transactions of `origin` are in.
    pub fn advance(&mut self, origin: &str, count: u64) {
        let standing = self.counts.entry(origin.to_owned()).or_default();
        *standing = (*standing).max(count);
    }

    /// 64 bits that are the same for equal vectors, on every node and in every version: XXH3 (seed 0) of the epoch, then
    /// of each origin with a count above 0, in ascending order, its length, its bytes and its count. Numbers as 8 bytes,
    /// little endian.
    pub fn digest(&self) -> u64 {
        let mut hash = Xxh3Default::new();
        hash.update(&self.epoch.to_le_bytes());
        for (origin, count) in self.present() {
            hash.update(&(origin.len() as u64).to_le_bytes());
            hash.update(origin.as_bytes());
            hash.update(&count.to_le_bytes());
        }
        hash.digest()
    }

    fn present(&self) -> impl Iterator<Item = (&String, &u64)> {
        self.counts.iter().filter(|(_, count)| **count > 0)
    }
}

impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.present().eq(other.present())
    }
}

impl Eq for Vector {}
