//! Where every node writes: which changes stand, decided in memory, before a store makes exactly them durable.

use std::collections::BTreeMap;

use tidegate_proto::frame::Span;
use tidegate_proto::{Stamp, Vector};
use uuid::Uuid;

use crate::cluster::core::clock::Clock;
use crate::entity::catalog::Catalog;
use crate::entity::{Change, Kind, Stamped};
use crate::store::ledger::held::Merge;
use crate::store::ledger::spans::{self, Taken};

/// The epoch of a configuration that all nodes write: there is only one history.
pub const EPOCH: u64 = 1;

/// What a store is to make durable, and what then stands.
pub struct Step {
    pub changes: Vec<Stamped>,
    pub vector: Vector,
    pub clock: Clock,
    /// What peers are told of it.
    pub span: Option<Span>,
}

/// A transaction of this node.
pub fn written(merge: &Merge, catalog: &Catalog, changes: Vec<Change>, unix_ms: u64) -> Step {
    let Merge { origin, vector, clock } = merge;
    let (mut vector, mut clock) = (vector.clone(), clock.clone());
    let number = vector.count(origin) + 1;
    vector.advance(origin, number);
    let stamp = |change: Change| {
        let replaced = catalog.stamp(change.kind, change.id).map_or(0, |stamp| stamp.time);
        let time = clock.stamp(unix_ms, replaced);
        Stamped { change, stamp: Stamp { epoch: EPOCH, time, origin: origin.clone() } }
    };
    let changes: Vec<_> = changes.into_iter().map(stamp).collect();
    let span = spans::of_node(&changes, EPOCH, origin, number);
    Step { changes, vector, clock, span: Some(span) }
}

/// Transactions of other nodes, those that fit.
pub fn followed(merge: &Merge, catalog: &Catalog, taken: Vec<Taken>, unix_ms: u64) -> Step {
    let mut winners = Winners::over(catalog);
    let mut vector = merge.vector.clone();
    for span in taken {
        let count = vector.count(&span.origin);
        if span.epoch == EPOCH && !span.origin.is_empty() && span.after <= count && count < span.upto {
            vector.advance(&span.origin, span.upto);
            span.changes.into_iter().for_each(|change| winners.add(change));
        }
    }
    winners.step(merge, vector, unix_ms)
}

/// The whole of another node.
pub fn adopted(merge: &Merge, catalog: &Catalog, theirs: &Vector, records: Vec<Stamped>, unix_ms: u64) -> Step {
    let mut winners = Winners::over(catalog);
    let mut vector = merge.vector.clone();
    if theirs.epoch == EPOCH {
        theirs.counts.iter().for_each(|(origin, count)| vector.advance(origin, *count));
        records.into_iter().for_each(|change| winners.add(change));
    }
    winners.step(merge, vector, unix_ms)
}

/// Of all changes of an entity the latest, if that is later than what stands.
struct Winners<'a> {
    catalog: &'a Catalog,
    changes: BTreeMap<(Kind, Uuid), Stamped>,
}

impl<'a> Winners<'a> {
    fn over(catalog: &'a Catalog) -> Self {
        Self { catalog, changes: BTreeMap::new() }
    }

    fn add(&mut self, change: Stamped) {
        let (kind, id) = (change.change.kind, change.change.id);
        let rival = self.changes.get(&(kind, id)).map(|rival| &rival.stamp);
        if self.catalog.wins(kind, id, &change.stamp) && rival.is_none_or(|rival| *rival < change.stamp) {
            self.changes.insert((kind, id), change);
        }
    }

    fn step(self, merge: &Merge, vector: Vector, unix_ms: u64) -> Step {
        let mut clock = merge.clock.clone();
        let changes: Vec<_> = self.changes.into_values().collect();
        changes.iter().for_each(|change| clock.hear(change.stamp.time, unix_ms));
        Step { changes, vector, clock, span: None }
    }
}
