//! Where every node writes: which changes stand, decided in memory, before a store makes exactly them durable.

use std::collections::BTreeMap;

use tidegate_proto::frame::{Span, WholeRecord};
use tidegate_proto::{Stamp, Vector};
use uuid::Uuid;

use crate::cluster::core::clock::Clock;
use crate::cluster::core::registers::{Adoption, Held as There, Registers};
use crate::entity::catalog::Catalog;
use crate::entity::{Change, Kind, Stamped};
use crate::store::ledger::spans::{self, Taken};
use crate::store::{Merged, Merging};

/// Between two looks for tombstones that are old enough to be forgotten.
const FORGET_EVERY_MS: u64 = 3_600_000;

/// What this node knows of everybody's writes, beside the catalog of what stands.
pub struct Merge {
    /// The name of this node's writes.
    origin: String,
    pub vector: Vector,
    clock: Clock,
    pub registers: Registers,
    /// Tombstones that are forgotten here and not yet on the disk.
    forgotten: Vec<(String, [u8; 16])>,
    forget_at_ms: u64,
}

/// What a store is to make durable, and what peers are told of it.
pub struct Step {
    pub merging: Merging,
    pub span: Option<Span>,
    clock: Clock,
    unix_ms: u64,
}

impl Merge {
    /// As the store has it, with all changes.
    pub fn of(merged: Merged) -> (Self, Vec<Stamped>) {
        let Merged { origin, vector, changes } = merged;
        let mut registers = Registers::default();
        changes.iter().for_each(|change| set(&mut registers, change));
        let clock = Clock::after(registers.time_max());
        (Self { origin, vector, clock, registers, forgotten: Vec::new(), forget_at_ms: 0 }, changes)
    }

    /// A transaction of this node.
    pub fn written(&self, changes: Vec<Change>, unix_ms: u64) -> Step {
        let (mut vector, mut clock) = (self.vector.clone(), self.clock.clone());
        let (epoch, number) = (vector.epoch, vector.count(&self.origin) + 1);
        vector.advance(&self.origin, number);
        let stamp = |change: Change| {
            let replaced = self.registers.time_of(change.kind.name, change.id.as_bytes());
            let time = clock.stamp(unix_ms, replaced);
            Stamped { change, stamp: Stamp { epoch, time, origin: self.origin.clone() } }
        };
        let changes: Vec<_> = changes.into_iter().map(stamp).collect();
        let span = Some(spans::of_node(&changes, epoch, &self.origin, number));
        Step { merging: Merging { changes, forgotten: self.forgotten.clone(), vector }, span, clock, unix_ms }
    }

    /// Transactions of other nodes, those that fit.
    pub fn followed(&self, taken: Vec<Taken>, unix_ms: u64) -> Step {
        let mut vector = self.vector.clone();
        let mut winners = BTreeMap::new();
        for span in taken {
            let count = vector.count(&span.origin);
            if span.epoch == vector.epoch && !span.origin.is_empty() && span.after <= count && count < span.upto {
                vector.advance(&span.origin, span.upto);
                span.changes.into_iter().for_each(|change| self.compete(&mut winners, change));
            }
        }
        self.step(winners.into_values().collect(), Vec::new(), vector, unix_ms)
    }

    /// The whole of another node, which stood at `theirs` when it began to hand it over.
    pub fn adopted(&self, theirs: &Vector, records: &[WholeRecord], unix_ms: u64) -> Step {
        let mut vector = self.vector.clone();
        if theirs.epoch != vector.epoch {
            return self.step(Vec::new(), Vec::new(), vector, unix_ms);
        }
        theirs.counts.iter().for_each(|(origin, count)| vector.advance(origin, *count));
        let Adoption { winners, strays } = self.registers.compare((&self.vector, theirs), records, unix_ms);
        let winners = winners.into_iter().filter_map(|record| spans::adopted(theirs.epoch, record)).collect();
        self.step(winners, strays, vector, unix_ms)
    }

    /// Takes in what is durable now.
    pub fn take(&mut self, step: &Step) {
        let Step { merging, clock, unix_ms, .. } = step;
        let Merging { changes, forgotten, vector } = merging;
        changes.iter().for_each(|change| set(&mut self.registers, change));
        self.registers.adopt(vector.epoch, &Adoption { winners: Vec::new(), strays: forgotten.clone() });
        self.vector = vector.clone();
        self.clock = clock.clone();
        self.forgotten.clear();
        if *unix_ms >= self.forget_at_ms {
            self.forget_at_ms = unix_ms + FORGET_EVERY_MS;
            self.forgotten = self.registers.forget(*unix_ms);
        }
    }

    /// Of all changes of an entity the latest wins, if it is later than what stands.
    fn compete(&self, winners: &mut BTreeMap<(Kind, Uuid), Stamped>, change: Stamped) {
        let (kind, id) = (change.change.kind, change.change.id);
        let standing = self.registers.stamp_of(kind.name, id.as_bytes());
        let rival = winners.get(&(kind, id)).map(|rival| &rival.stamp);
        if standing.as_ref().max(rival).is_none_or(|standing| *standing < change.stamp) {
            winners.insert((kind, id), change);
        }
    }

    fn step(&self, changes: Vec<Stamped>, strays: Vec<(String, [u8; 16])>, vector: Vector, unix_ms: u64) -> Step {
        let mut clock = self.clock.clone();
        changes.iter().for_each(|change| clock.hear(change.stamp.time, unix_ms));
        let forgotten = self.forgotten.iter().cloned().chain(strays).collect();
        Step { merging: Merging { changes, forgotten, vector }, span: None, clock, unix_ms }
    }
}

impl Merging {
    /// Leads a catalog where this leads.
    pub fn apply_to(&self, catalog: &mut Catalog) {
        let revision = self.vector.revision();
        catalog.merge(self.changes.iter().cloned(), revision);
        let strays = self.forgotten.iter().filter_map(|(kind, id)| {
            let kind = Kind::of_name(kind)?;
            Some(Change { kind, id: Uuid::from_bytes(*id), entity: None })
        });
        catalog.apply(&strays.collect::<Vec<_>>(), revision);
    }
}

fn set(registers: &mut Registers, Stamped { change, stamp }: &Stamped) {
    let there = if change.entity.is_some() { There::Here } else { There::Gone };
    registers.set(change.kind.name, change.id.as_bytes(), (stamp.epoch, stamp.time, &stamp.origin), there);
}
