//! A model of Postgres: one history, which may be away, or be replaced by an older copy of itself.

use std::collections::BTreeMap;

use tidegate_proto::frame::{Changed, Span};
use tidegate_proto::{Revision, Vector};

use crate::node::{Key, put};

#[derive(Clone, Debug)]
pub struct Database {
    pub up: bool,
    pub epoch: u64,
    pub number: u64,
    pub docs: BTreeMap<Key, String>,
    log: Vec<Span>,
}

impl Default for Database {
    fn default() -> Self {
        Self { up: true, epoch: 1, number: 0, docs: BTreeMap::new(), log: Vec::new() }
    }
}

impl Database {
    pub fn vector(&self) -> Vector {
        Vector::of_database(Revision::new(self.epoch, self.number))
    }

    /// Numbers are without gaps and in the order of commits, since each transaction locks the revision first.
    pub fn commit(&mut self, writes: &[(Key, Option<String>)]) -> Span {
        self.number += 1;
        let changes = writes.iter().map(|((kind, id), text)| {
            put(&mut self.docs, (kind.clone(), *id), text.clone());
            Changed { kind: kind.clone(), id: *id, time: self.number, text: text.clone() }
        });
        let span = Span {
            epoch: self.epoch,
            origin: String::new(),
            after: self.number - 1,
            upto: self.number,
            changes: changes.collect(),
        };
        self.log.push(span.clone());
        span
    }

    /// What came after a position; `None`: take everything. A reader that is further than the database begins an epoch.
    pub fn since(&mut self, position: &Vector) -> Option<Vec<Span>> {
        if position.revision() > self.vector().revision() {
            self.epoch = position.epoch + 1;
            self.log.clear();
            return None;
        }
        let count = position.count("");
        let reaches = position.epoch == self.epoch && self.log.first().is_none_or(|first| first.after <= count);
        (reaches && (count == self.number || !self.log.is_empty()))
            .then(|| self.log.iter().filter(|span| span.upto > count).cloned().collect())
    }
}
