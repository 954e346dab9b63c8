//! How much of everybody's history a node has: the coordinates in which nodes compare what they run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Revision;

/// For each writer the number of its transactions that are in. With Postgres there is one writer, the database, under
/// the empty name; in the embedded store each node is one, under its node id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector {
    /// A history that was replaced by another (a restored database) begins a new epoch; the greater one wins whole.
    pub epoch: u64,
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
}
