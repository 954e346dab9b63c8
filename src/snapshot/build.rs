//! Builds snapshots, keeping from one to the next what did not change.

use tidegate_proto::Revision;

use crate::snapshot::{Builder, Entities, Problem, Snapshot};

impl Builder {
    /// Compiles `entities` (all kinds, any order) as they stand at `revision`.
    pub fn build(&mut self, entities: Entities, revision: Revision) -> (Snapshot, Vec<Problem>) {
        let _ = (entities, revision);
        unimplemented!()
    }
}
