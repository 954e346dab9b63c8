//! When a change was made, in an order that all nodes agree on.

use serde::{Deserialize, Serialize};

/// Totally ordered: the greatest stamp of an entity is its state. With Postgres `time` is the number of the transaction
/// and `origin` empty; in the embedded store `time` is a hybrid logical clock (Unix ms in the upper 48 bits, a counter
/// in the lower 16) and `origin` the node that wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub epoch: u64,
    pub time: u64,
    pub origin: String,
}
