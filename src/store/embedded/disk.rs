//! The file of the embedded store, on its thread: what stands, when it was written and by whom, and how much of each
//! node's history is in. All of that moves in one redb transaction.
//!
//! What has a stamp and no document is gone. A document that this program cannot read stays where it is. A log beside
//! the state lost: peers are answered from memory or with the whole, and nobody else reads this file.

use std::path::PathBuf;
use std::sync::Arc;

use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
    WriteTransaction,
};
use tidegate_proto::frame::NAME_LEN_MAX;
use tidegate_proto::{Revision, Stamp, Vector};
use uuid::Uuid;

use crate::entity::{Change, Entity, Kind, Stamped};
use crate::store::{Contents, Merged, Merging, Missed, StoreError};

/// The one history of a configuration that all nodes write.
const EPOCH: u64 = 1;

/// The first byte of each document: a version byte, then JSON.
const FORMAT: u8 = 1;

/// As much of a node id as leaves room for the rest of an origin's name.
const NODE_LEN_MAX: usize = NAME_LEN_MAX - 9;

/// (kind, id) to a document.
const ENTITIES: TableDefinition<(&str, u128), &[u8]> = TableDefinition::new("entities");

/// (kind, id) to (epoch, time, origin) of the last change.
const STAMPS: TableDefinition<(&str, u128), (u64, u64, &str)> = TableDefinition::new("stamps");

/// Origin to how many of its transactions are in.
const COUNTS: TableDefinition<&str, u64> = TableDefinition::new("counts");

/// `origin`: the name of the transactions of this file.
const NAMES: TableDefinition<&str, &str> = TableDefinition::new("names");

/// `epoch`, `number`, and `time`, the greatest of all stamps.
const REVISION: TableDefinition<&str, u64> = TableDefinition::new("revision");

/// What files of the first version had.
const LOG: TableDefinition<(u64, u32), Logged> = TableDefinition::new("log");

type Logged = (&'static str, u128, Option<&'static [u8]>);

/// The file, opened when needed.
pub struct Disk<F> {
    /// `None` until opened, and again after an error of the disk.
    pub database: Option<Database>,
    pub open: F,
    pub node_id: String,
    pub path: PathBuf,
}

impl<F: Fn() -> Result<Database, redb::Error>> Disk<F> {
    /// Does a job, and closes the file after an error of the disk: redb is done with it then.
    pub fn told<T>(&mut self, job: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let done = self.database().and_then(job);
        done.map_err(|error| {
            if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
                self.database = None;
            }
            self.at(&error)
        })
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        match &mut self.database {
            Some(database) => Ok(database),
            closed => Ok(closed.insert(prepared((self.open)()?, &self.node_id)?)),
        }
    }

    fn at(&self, error: &redb::Error) -> StoreError {
        let path = self.path.display();
        match error {
            redb::Error::DatabaseAlreadyOpen => StoreError::Unavailable(format!("{path} is in use by another process")),
            redb::Error::Io(_) | redb::Error::PreviousIo => {
                StoreError::Unavailable(format!("{path} cannot be read or written: {error}"))
            }
            _ => StoreError::Broken(format!("{path}: {error}")),
        }
    }
}

/// Everything.
pub fn load(database: &Database) -> Result<Contents, redb::Error> {
    contents(&database.begin_read()?)
}

/// Nothing, or everything: there is one reader, and it nearly always stands where the file does.
pub fn since(database: &Database, seen: Revision) -> Result<Missed, redb::Error> {
    let reading = database.begin_read()?;
    let revision = revision(&reading.open_table(REVISION)?)?;
    if seen == revision {
        return Ok(Missed::Changes { changes: Vec::new(), revision });
    }
    Ok(Missed::Everything(contents(&reading)?))
}

/// Makes what won durable.
pub fn merge(database: &Database, merging: &Merging) -> Result<Revision, redb::Error> {
    let writing = database.begin_write()?;
    put(&writing, merging)?;
    let revision = advance(&writing, merging)?;
    writing.commit()?;
    Ok(revision)
}

/// One transaction of this node, by whoever keeps no stamps himself.
pub fn commit(database: &Database, changes: Vec<Change>) -> Result<Revision, redb::Error> {
    let reading = database.begin_read()?;
    let (origin, mut vector) = (origin(&reading)?, vector(&reading)?);
    vector.advance(&origin, vector.count(&origin) + 1);
    let time = read(&reading.open_table(REVISION)?, "time")? + 1;
    let stamp = Stamp { epoch: EPOCH, time, origin };
    let changes = changes.into_iter().map(|change| Stamped { change, stamp: stamp.clone() }).collect();
    merge(database, &Merging { changes, forgotten: Vec::new(), vector })
}

fn put(writing: &WriteTransaction, merging: &Merging) -> Result<(), redb::Error> {
    let mut entities = writing.open_table(ENTITIES)?;
    let mut stamps = writing.open_table(STAMPS)?;
    for Stamped { change, stamp } in &merging.changes {
        let key = (change.kind.name, change.id.as_u128());
        match &change.entity {
            Some(entity) => drop(entities.insert(key, [&[FORMAT], entity.text().as_bytes()].concat().as_slice())?),
            None => drop(entities.remove(key)?),
        }
        stamps.insert(key, (stamp.epoch, stamp.time, stamp.origin.as_str()))?;
    }
    for (kind, id) in &merging.forgotten {
        let key = (kind.as_str(), u128::from_be_bytes(*id));
        entities.remove(key)?;
        stamps.remove(key)?;
    }
    Ok(())
}

fn advance(writing: &WriteTransaction, merging: &Merging) -> Result<Revision, redb::Error> {
    let next = merging.vector.revision();
    let mut counts = writing.open_table(COUNTS)?;
    for (origin, count) in &merging.vector.counts {
        counts.insert(origin.as_str(), count)?;
    }
    let mut revisions = writing.open_table(REVISION)?;
    revisions.insert("number", next.number)?;
    let latest = merging.changes.iter().map(|stamped| stamped.stamp.time).max().unwrap_or(0);
    let latest = latest.max(read(&revisions, "time")?);
    revisions.insert("time", latest)?;
    Ok(next)
}

/// The database with its tables. A file of the first version, which knew one writer, gets the oldest stamps.
fn prepared(database: Database, node_id: &str) -> Result<Database, redb::Error> {
    let writing = database.begin_write()?;
    writing.delete_table(LOG)?;
    let mut names = writing.open_table(NAMES)?;
    if names.is_empty()? {
        // Not the node's name alone: a node that lost its disk starts to count again, and nobody would take that for new.
        let fresh = Uuid::new_v4().simple().to_string();
        let (fresh, node) = (&fresh[..8], node_id.get(..NODE_LEN_MAX).unwrap_or(node_id));
        let origin = format!("{node}.{fresh}");
        names.insert("origin", origin.as_str())?;
        begin_history(&writing, &origin)?;
    }
    drop(names);
    writing.commit()?;
    Ok(database)
}

fn begin_history(writing: &WriteTransaction, origin: &str) -> Result<(), redb::Error> {
    let mut revisions = writing.open_table(REVISION)?;
    let number = read(&revisions, "number")?;
    for (name, value) in [("epoch", EPOCH), ("number", number), ("time", 0)] {
        revisions.insert(name, value)?;
    }
    let mut counts = writing.open_table(COUNTS)?;
    if number > 0 {
        counts.insert(origin, number)?;
    }
    let mut stamps = writing.open_table(STAMPS)?;
    for entry in writing.open_table(ENTITIES)?.iter()? {
        stamps.insert(entry?.0.value(), (EPOCH, 0, origin))?;
    }
    Ok(())
}

fn contents(reading: &ReadTransaction) -> Result<Contents, redb::Error> {
    let entities = reading.open_table(ENTITIES)?;
    let mut changes = Vec::new();
    for entry in reading.open_table(STAMPS)?.iter()? {
        let (key, stamp) = entry?;
        let ((kind, id), (epoch, time, origin)) = (key.value(), stamp.value());
        let value = entities.get((kind, id))?;
        let Some(change) = change(kind, Uuid::from_u128(id), value.as_ref().map(|value| value.value())) else {
            continue;
        };
        changes.push(Stamped { change, stamp: Stamp { epoch, time, origin: origin.to_owned() } });
    }
    let standing = changes.iter().filter_map(|stamped: &Stamped| stamped.change.entity.clone()).collect();
    let merged = Merged { origin: origin(reading)?, vector: vector(reading)?, changes };
    Ok(Contents { revision: merged.vector.revision(), entities: standing, merged: Some(merged), anchor: None })
}

fn origin(reading: &ReadTransaction) -> Result<String, redb::Error> {
    let names = reading.open_table(NAMES)?;
    Ok(names.get("origin")?.map_or_else(String::new, |name| name.value().to_owned()))
}

fn vector(reading: &ReadTransaction) -> Result<Vector, redb::Error> {
    let mut vector = Vector { epoch: EPOCH, ..Vector::default() };
    for entry in reading.open_table(COUNTS)?.iter()? {
        let (origin, count) = entry?;
        vector.advance(origin.value(), count.value());
    }
    Ok(vector)
}

fn revision(table: &impl ReadableTable<&'static str, u64>) -> Result<Revision, redb::Error> {
    Ok(Revision::new(read(table, "epoch")?, read(table, "number")?))
}

fn read(table: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(table.get(name)?.map_or(0, |value| value.value()))
}

/// `None` for a format that this program does not know: a newer one wrote it.
fn change(kind: &str, id: Uuid, value: Option<&[u8]>) -> Option<Change> {
    let read = || {
        let kind = Kind::of_name(kind)?;
        let Some(value) = value else { return Some(Change { kind, id, entity: None }) };
        let (_, text) = value.split_first().filter(|(format, _)| **format == FORMAT)?;
        let entity = Entity::from_text(kind, std::str::from_utf8(text).ok()?)?;
        (entity.id() == id).then(|| Change { kind, id, entity: Some(Arc::new(entity)) })
    };
    let change = read();
    if change.is_none() {
        tracing::error!(%kind, %id, "a stored entity cannot be read and is left out");
    }
    change
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn a_file_of_the_first_version_goes_on_with_the_oldest_stamps() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let id = Uuid::from_u128(7);
        let text = format!(r#"{{"id":"{id}","host":"h"}}"#);
        let value = [&[FORMAT], text.as_bytes()].concat();
        let writing = database.begin_write().unwrap();
        writing.open_table(ENTITIES).unwrap().insert(("services", id.as_u128()), value.as_slice()).unwrap();
        writing.open_table(LOG).unwrap().insert((4, 0), ("services", id.as_u128(), Some(value.as_slice()))).unwrap();
        for (name, value) in [("epoch", 1), ("number", 4)] {
            writing.open_table(REVISION).unwrap().insert(name, value).unwrap();
        }
        writing.commit().unwrap();

        let node_id = "n".repeat(64);
        let database = prepared(prepared(database, &node_id).unwrap(), "another").unwrap();
        let contents = load(&database).unwrap();
        let merged = contents.merged.unwrap();
        assert!(merged.origin.starts_with("nnn") && merged.origin.len() == NAME_LEN_MAX);
        assert_eq!((contents.revision, merged.vector.count(&merged.origin)), (Revision::new(1, 4), 4));
        let stamp = Stamp { epoch: 1, time: 0, origin: merged.origin };
        assert!(matches!(&merged.changes[..], [it] if it.stamp == stamp && it.change.id == id));
        assert_eq!(contents.entities[0].text(), text);

        let end = Change { kind: Kind::SERVICES, id, entity: None };
        assert_eq!(commit(&database, vec![end]).unwrap(), Revision::new(1, 5));
        let Missed::Everything(contents) = since(&database, Revision::new(1, 4)).unwrap() else { panic!() };
        assert!(contents.entities.is_empty() && contents.merged.unwrap().changes[0].stamp > stamp);
    }
}
