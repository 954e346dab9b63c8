//! Transactions as peers hand them to each other, and back.
//!
//! A change that cannot be read is left out and told to the log; its transaction still counts, or its sender would be
//! asked for it again without end. Kinds that only a newer program knows are kept as they are (`entity::stranger`).

use std::sync::Arc;

use tidegate_proto::frame::{Changed, FRAME_LEN_MAX, Span, WholeRecord};
use tidegate_proto::{Revision, Stamp};
use uuid::Uuid;

use crate::cluster::core::clock::TIME_MAX;
use crate::cluster::core::registers::Entry;
use crate::entity::{Change, Entity, Kind, Stamped};

/// Of a longer transaction peers are told the place only, and fetch the whole.
const SPAN_LEN_MAX: usize = FRAME_LEN_MAX / 4;

/// A span, read.
#[derive(Clone, Debug)]
pub struct Taken {
    pub epoch: u64,
    pub origin: String,
    pub after: u64,
    pub upto: u64,
    pub changes: Vec<Stamped>,
}

/// What led one database from `after` to `revision`.
pub fn of_database(changes: &[Change], after: u64, revision: Revision) -> Span {
    let changed = changes.iter().map(|change| changed(change, revision.number));
    span(revision.epoch, String::new(), after, revision.number, changed.collect())
}

/// One transaction of this node, the `number`th of `origin`.
pub fn of_node(changes: &[Stamped], epoch: u64, origin: &str, number: u64) -> Span {
    let changed = changes.iter().map(|stamped| changed(&stamped.change, stamped.stamp.time));
    span(epoch, origin.to_owned(), number - 1, number, changed.collect())
}

/// Says where a database stands, and not what led there: it applies nowhere.
pub fn place(revision: Revision) -> Span {
    span(revision.epoch, String::new(), revision.number, revision.number, Vec::new())
}

/// A span as the catalog takes it. Reads every document: off the runtime when there are many.
pub fn taken(span: Span) -> Taken {
    let Span { epoch, origin, after, upto, changes } = span;
    let stamped = changes.into_iter().filter_map(|changed| {
        let stamp = Stamp { epoch, time: changed.time, origin: origin.clone() };
        stamped(&changed.kind, changed.id, changed.text.as_deref(), stamp)
    });
    let changes = stamped.collect();
    Taken { epoch, origin, after, upto, changes }
}

/// A record of a whole, as the catalog takes it.
pub fn adopted(epoch: u64, record: &WholeRecord) -> Option<Stamped> {
    let stamp = Stamp { epoch, time: record.time, origin: record.origin.clone() };
    stamped(&record.kind, record.id, record.text.as_deref(), stamp)
}

/// An entity as it is handed to another node where there are no stamps.
pub fn record(entity: &Entity) -> WholeRecord {
    WholeRecord {
        kind: entity.kind().name.to_owned(),
        id: *entity.id().as_bytes(),
        time: 0,
        origin: String::new(),
        text: Some(entity.text()),
    }
}

/// What is known of an entity that stands (`there`), or is gone.
pub fn record_of(entry: &Entry<'_>, there: Option<&Arc<Entity>>) -> WholeRecord {
    WholeRecord {
        kind: entry.kind.to_owned(),
        id: *entry.id,
        time: entry.time,
        origin: entry.origin.to_owned(),
        text: there.map(|entity| entity.text()),
    }
}

fn span(epoch: u64, origin: String, after: u64, upto: u64, changes: Vec<Changed>) -> Span {
    let span = Span { epoch, origin, after, upto, changes };
    if span.size() > SPAN_LEN_MAX {
        return Span { after: upto, changes: Vec::new(), ..span };
    }
    span
}

fn changed(change: &Change, time: u64) -> Changed {
    Changed {
        kind: change.kind.name.to_owned(),
        id: *change.id.as_bytes(),
        time,
        text: change.entity.as_ref().map(|entity| entity.text()),
    }
}

fn stamped(kind: &str, id: [u8; 16], text: Option<&str>, stamp: Stamp) -> Option<Stamped> {
    let id = Uuid::from_bytes(id);
    let read = || {
        let kind = Kind::of_name(kind).filter(|_| stamp.time <= TIME_MAX)?;
        let entity = match text {
            Some(text) => Some(Arc::new(Entity::from_text(kind, text).filter(|entity| entity.id() == id)?)),
            None => None,
        };
        Some(Change { kind, id, entity })
    };
    let change = read();
    if change.is_none() {
        tracing::error!(kind, %id, origin = stamp.origin, "what a peer says of an entity cannot be read and is left out");
    }
    Some(Stamped { change: change?, stamp })
}
