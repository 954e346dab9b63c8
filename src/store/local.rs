//! The local snapshot under `prefix`: what a node serves from while its store is away.
//!
//! Temp file, fsync, rename, two generations: a crash at any moment leaves a whole one, and a damaged current one
//! gives way to the one before. The file is `proto`'s snapshot with its SHA-256 behind. Blocking: call it off the
//! runtime. A database file in its place lost: nothing here is looked up or changed in parts.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use tidegate_proto::{Pieces, Record, Revision, SNAPSHOT_LEN_MAX, Snapshot};
use uuid::Uuid;

use crate::entity::{Entity, Kind};
use crate::pace;
use crate::store::{Anchor, Contents};

/// No kind of entity: a record with the mark as its id and the revision as its text. Programs that do not know it skip it.
const ANCHOR: &str = "(anchor)";

/// Where one configuration is kept between runs.
#[derive(Clone, Debug)]
pub struct Local {
    current: PathBuf,
    previous: PathBuf,
    temporary: PathBuf,
    /// Which history this is: a snapshot of another store says nothing about this one.
    origin: String,
}

/// A file that is written, and the checksum of it so far.
struct Summed {
    file: File,
    sum: digest::Context,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// `None`: there is nothing, or nothing of use.
    pub contents: Option<Contents>,
    /// Why a file was passed over, a sentence each.
    pub problems: Vec<String>,
}

impl Local {
    /// The files `NAME.snapshot` and `NAME.snapshot.previous` in `directory`. `origin` names the store that the
    /// revision counts in (`postgres://HOST:PORT/DATABASE`); snapshots of another origin are passed over.
    pub fn new(directory: &Path, name: &str, origin: impl Into<String>) -> Self {
        let file = |suffix: &str| directory.join(format!("{name}.snapshot{suffix}"));
        Self { current: file(""), previous: file(".previous"), temporary: file(".new"), origin: origin.into() }
    }

    /// The current generation, else the previous one.
    pub fn load(&self) -> Found {
        let mut found = Found::default();
        for path in [&self.current, &self.previous] {
            match self.read(path) {
                Ok(contents) => {
                    found.contents = Some(contents);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => found.problems.push(format!("{}: {error}", path.display())),
            }
        }
        found
    }

    /// As `keep`, without an anchor.
    pub fn save(&self, revision: Revision, entities: &[Arc<Entity>]) -> io::Result<()> {
        self.put(revision, entities, None)
    }

    /// Makes this the current generation. When it returns, it survives a loss of power.
    pub fn keep(&self, contents: &Contents) -> io::Result<()> {
        self.put(contents.revision, &contents.entities, contents.anchor)
    }

    fn put(&self, revision: Revision, entities: &[Arc<Entity>], anchor: Option<Anchor>) -> io::Result<()> {
        let text = anchor.map(|anchor| anchor.revision.to_string()).unwrap_or_default();
        let anchor = anchor.map(|anchor| Record { kind: ANCHOR, id: *anchor.mark.as_bytes(), text: &text });
        let count = entities.len() + usize::from(anchor.is_some());
        let mut summed = Summed { file: File::create(&self.temporary)?, sum: digest::Context::new(&digest::SHA256) };
        let mut buffered = pace::writer(&mut summed);
        let mut pieces = Pieces::begin(&mut buffered, &self.origin, revision, count).map_err(io::Error::other)?;
        if let Some(anchor) = anchor {
            pieces.add(&anchor).map_err(io::Error::other)?;
        }
        for entity in entities {
            let text = entity.text();
            let record = Record { kind: entity.kind().name, id: *entity.id().as_bytes(), text: &text };
            pieces.add(&record).map_err(io::Error::other)?;
        }
        buffered.flush()?;
        drop(buffered);
        let Summed { mut file, sum } = summed;
        file.write_all(sum.finish().as_ref())?;
        file.sync_all()?;
        match fs::rename(&self.current, &self.previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&self.temporary, &self.current)?;
        // The names are durable once their directory is.
        self.current.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }

    fn read(&self, path: &Path) -> io::Result<Contents> {
        let mut bytes = Vec::new();
        File::open(path)?.take(SNAPSHOT_LEN_MAX as u64 + 64).read_to_end(&mut bytes)?;
        let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let split = bytes.len().checked_sub(digest::SHA256_OUTPUT_LEN).ok_or_else(|| damaged("too short"))?;
        let (bytes, sum) = bytes.split_at(split);
        if checksum(bytes).as_ref() != sum {
            return Err(damaged("the checksum does not match"));
        }
        let snapshot = Snapshot::decode(bytes).map_err(|error| damaged(&error.to_string()))?;
        if snapshot.origin != self.origin {
            return Err(damaged(&format!("it is of {}, not of {}", snapshot.origin, self.origin)));
        }
        let anchor = snapshot.records.iter().find_map(anchor);
        let entities = snapshot.records.iter().filter_map(entity).map(Arc::new).collect();
        Ok(Contents { revision: snapshot.revision, entities, anchor, merged: None })
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn anchor(record: &Record<'_>) -> Option<Anchor> {
    let revision = record.text.parse().ok().filter(|_| record.kind == ANCHOR)?;
    Some(Anchor { revision, mark: Uuid::from_bytes(record.id) })
}

/// `None` for a document that is none, or of no kind.
fn entity(record: &Record<'_>) -> Option<Entity> {
    Entity::from_text(Kind::of_name(record.kind)?, record.text)
        .filter(|entity| entity.id() == Uuid::from_bytes(record.id))
}

fn checksum(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn service(number: u128) -> Arc<Entity> {
        let text = format!(r#"{{"id":"{}","host":"é"}}"#, Uuid::from_u128(number));
        Arc::new(Entity::from_text(Kind::SERVICES, &text).unwrap())
    }

    fn saved(directory: &Path) -> Local {
        let local = Local::new(directory, "config", "here");
        local.save(Revision::new(1, 1), &[service(1)]).unwrap();
        local.save(Revision::new(1, 2), &[service(1), service(2)]).unwrap();
        local
    }

    #[test]
    fn what_was_saved_last_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let found = saved(directory.path()).load();
        assert_eq!(found.problems, [""; 0]);
        let contents = found.contents.unwrap();
        assert_eq!((contents.revision, contents.entities), (Revision::new(1, 2), vec![service(1), service(2)]));
    }

    #[test]
    fn the_anchor_is_kept_beside() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path(), "config", "here");
        let anchor = Some(Anchor { revision: Revision::new(1, 7), mark: Uuid::from_u128(9) });
        let contents = Contents { revision: Revision::new(1, 8), entities: vec![service(1)], anchor, merged: None };
        local.keep(&contents).unwrap();
        let found = local.load().contents.unwrap();
        assert_eq!((found.revision, found.entities, found.anchor), (contents.revision, contents.entities, anchor));
    }

    #[test]
    fn nothing_is_no_problem() {
        let directory = tempfile::tempdir().unwrap();
        let found = Local::new(directory.path(), "config", "here").load();
        assert!(found.contents.is_none() && found.problems.is_empty());
    }

    #[test]
    fn a_damaged_generation_gives_way_to_the_one_before() {
        let check = |damage: &dyn Fn(&mut Vec<u8>), why: &str| {
            let directory = tempfile::tempdir().unwrap();
            let local = saved(directory.path());
            let mut bytes = fs::read(&local.current).unwrap();
            damage(&mut bytes);
            fs::write(&local.current, bytes).unwrap();
            let found = local.load();
            assert_eq!(found.contents.unwrap().revision, Revision::new(1, 1), "{why}");
            assert!(found.problems.len() == 1 && found.problems[0].contains(why), "{:?}", found.problems);
        };
        check(&|bytes| bytes[20] ^= 1, "checksum");
        check(&|bytes| bytes.truncate(40), "checksum");
        check(&|bytes| bytes.clear(), "too short");
        check(&|bytes| bytes.extend(b"more"), "checksum");
        check(
            &|bytes| {
                bytes[0] = 99;
                let len = bytes.len() - digest::SHA256_OUTPUT_LEN;
                let sum = checksum(&bytes[..len]);
                bytes[len..].copy_from_slice(sum.as_ref());
            },
            "version 99",
        );
    }

    #[test]
    fn a_crash_between_the_renames_leaves_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let local = saved(directory.path());
        fs::rename(&local.current, &local.previous).unwrap();
        let found = local.load();
        assert_eq!(found.contents.unwrap().revision, Revision::new(1, 2));
        local.save(Revision::new(1, 3), &[]).unwrap();
        assert_eq!(local.load().contents.unwrap().revision, Revision::new(1, 3));
    }

    #[test]
    fn another_stores_snapshot_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        saved(directory.path());
        let found = Local::new(directory.path(), "config", "elsewhere").load();
        assert!(found.contents.is_none());
        assert_eq!(found.problems.len(), 2);
    }

    #[test]
    fn kinds_that_are_not_known_are_kept_and_damage_is_skipped() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path(), "config", "here");
        let text = r#"{"id":"00000000-0000-0000-0000-000000000001"}"#;
        let id = *Uuid::from_u128(1).as_bytes();
        let records = vec![
            Record { kind: "newer_things", id, text },
            Record { kind: "no kind", id, text },
            Record { kind: "services", id, text },
            Record { kind: "routes", id: [9; 16], text },
        ];
        let bytes = Snapshot { origin: "here", revision: Revision::new(1, 1), records }.encode().unwrap();
        fs::write(&local.current, [&bytes, checksum(&bytes).as_ref()].concat()).unwrap();
        let entities = local.load().contents.unwrap().entities;
        local.save(Revision::new(1, 2), &entities).unwrap();
        let kinds = local.load().contents.unwrap().entities.iter().map(|entity| entity.kind().name).collect::<Vec<_>>();
        assert_eq!(kinds, ["newer_things", "services"]);
    }
}
