//! The store in one file under `prefix`: redb, one writer thread.
//!
//! The thread owns the file and does one job at a time; redb's calls block on the disk, so none runs on the async
//! runtime. A transaction is a lock on this side and one redb transaction at its commit, which fsyncs: what was
//! answered is on the disk. Every value begins with a version byte. redb is done with a file after an error of the disk,
//! so the file is then opened anew, and a disk that was full for an hour needs no restart. One redb transaction open from `begin` to
//! `commit` lost: the thread would sit waiting for whoever decides.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use futures_util::future::BoxFuture;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use tidegate_proto::Revision;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};
use uuid::Uuid;

use crate::entity::{Change, Entity, Kind};
use crate::store::{Contents, Missed, Store, StoreError, Transaction};

/// Changes that the log keeps. Whoever lacks more takes everything.
pub const LOG_MAX: u64 = 100_000;

/// Jobs that may wait for the thread; one more waits outside.
const JOBS_MAX: usize = 64;

/// The first byte of each value: a version byte, then JSON.
const FORMAT: u8 = 1;

/// (kind, id) to a document.
const ENTITIES: TableDefinition<(&str, u128), &[u8]> = TableDefinition::new("entities");

/// (number, ordinal) to (kind, id, document or its end).
const LOG: TableDefinition<(u64, u32), Logged> = TableDefinition::new("log");

/// `epoch` and `number`.
const REVISION: TableDefinition<&str, u64> = TableDefinition::new("revision");

type Logged = (&'static str, u128, Option<&'static [u8]>);

/// The store in a redb file.
pub struct Embedded {
    jobs: mpsc::Sender<Job>,
    /// Held by the transaction of the moment, and by its commit until that is on the disk.
    writer: Arc<Mutex<()>>,
}

/// What the thread is asked to do, and where the answer goes. An asker that went away changes nothing.
enum Job {
    Load(oneshot::Sender<Result<Contents, StoreError>>),
    Since(Revision, oneshot::Sender<Result<Missed, StoreError>>),
    Commit(Vec<Change>, OwnedMutexGuard<()>, oneshot::Sender<Result<Revision, StoreError>>),
}

struct Open {
    missed: Option<Missed>,
    jobs: mpsc::Sender<Job>,
    turn: OwnedMutexGuard<()>,
}

impl Embedded {
    /// Opens or creates `tidegate.redb` in `directory`, whose parent has to exist. Blocking.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_bounded(directory, LOG_MAX)
    }

    /// As `open`, with another bound on the changes that the log keeps.
    pub fn open_bounded(directory: &Path, log_max: u64) -> Result<Self, StoreError> {
        let path = directory.join("tidegate.redb");
        std::fs::create_dir_all(directory).map_err(|error| broken(&error))?;
        let file = path.clone();
        Self::over(path, log_max, move || Ok(Database::create(&file)?))
    }

    fn over(
        path: PathBuf,
        log_max: u64,
        open: impl Fn() -> Result<Database, redb::Error> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let mut file = Disk { database: None, open, log_max, path };
        file.told(|disk| disk.database().map(drop))?;
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let run = move || file.run(queue);
        thread::Builder::new().name("store".into()).spawn(run).map_err(|error| broken(&error))?;
        Ok(Self { jobs, writer: Arc::default() })
    }
}

impl Store for Embedded {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(ask(self.jobs.clone(), Job::Load))
    }

    fn begin(&self, seen: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async move {
            let turn = self.writer.clone().lock_owned().await;
            let missed = Some(self.since(seen).await?);
            Ok(Box::new(Open { missed, jobs: self.jobs.clone(), turn }) as Box<dyn Transaction>)
        })
    }

    fn since(&self, seen: Revision) -> BoxFuture<'_, Result<Missed, StoreError>> {
        Box::pin(ask(self.jobs.clone(), move |answer| Job::Since(seen, answer)))
    }

    fn name(&self) -> &'static str {
        "embedded"
    }
}

impl Transaction for Open {
    fn missed(&mut self) -> Missed {
        let nothing = || Missed::Changes { changes: Vec::new(), revision: Revision::default() };
        self.missed.take().unwrap_or_else(nothing)
    }

    fn commit(self: Box<Self>, changes: Vec<Change>) -> BoxFuture<'static, Result<Revision, StoreError>> {
        let Open { jobs, turn, .. } = *self;
        Box::pin(ask(jobs, move |answer| Job::Commit(changes, turn, answer)))
    }
}

async fn ask<T>(
    jobs: mpsc::Sender<Job>,
    job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
) -> Result<T, StoreError> {
    let gone = || StoreError::Broken("the thread of the embedded store has ended".into());
    let (sender, answer) = oneshot::channel();
    jobs.send(job(sender)).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// The file, on its thread.
struct Disk<F> {
    /// `None` until opened, and again after an error of the disk.
    database: Option<Database>,
    open: F,
    log_max: u64,
    path: PathBuf,
}

impl<F: Fn() -> Result<Database, redb::Error>> Disk<F> {
    /// Until the last handle is dropped.
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            match job {
                Job::Load(answer) => drop(answer.send(self.told(Self::load))),
                Job::Since(seen, answer) => drop(answer.send(self.told(|disk| disk.since(seen)))),
                Job::Commit(changes, turn, answer) => {
                    // Whether the last fsync that failed wrote anything shows when the file is opened anew.
                    let committed = self.told(|disk| disk.commit(&changes)).map_err(|error| match error {
                        StoreError::Unavailable(why) => StoreError::Unknown(why),
                        other => other,
                    });
                    drop(turn);
                    drop(answer.send(committed));
                }
            }
        }
    }

    fn told<T>(&mut self, job: impl FnOnce(&mut Self) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        job(self).map_err(|error| {
            if matches!(error, redb::Error::Io(_) | redb::Error::PreviousIo) {
                self.database = None;
            }
            at(&self.path, &error)
        })
    }

    fn database(&mut self) -> Result<&Database, redb::Error> {
        match &mut self.database {
            Some(database) => Ok(database),
            closed => Ok(closed.insert(prepared((self.open)()?)?)),
        }
    }

    fn load(&mut self) -> Result<Contents, redb::Error> {
        contents(&self.database()?.begin_read()?)
    }

    fn since(&mut self, seen: Revision) -> Result<Missed, redb::Error> {
        let reading = self.database()?.begin_read()?;
        let revision = revision(&reading.open_table(REVISION)?)?;
        let log = reading.open_table(LOG)?;
        let first = log.first()?.map_or(revision.number + 1, |(key, _)| key.value().0);
        let reaches_back = seen.epoch == revision.epoch && seen <= revision && seen.number + 1 >= first;
        if !reaches_back {
            return Ok(Missed::Everything(contents(&reading)?));
        }
        let mut changes = Vec::new();
        for entry in log.range((seen.number + 1, 0)..)? {
            let (_, value) = entry?;
            let (kind, id, value) = value.value();
            changes.extend(change(kind, Uuid::from_u128(id), value));
        }
        Ok(Missed::Changes { changes, revision })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<Revision, redb::Error> {
        let log_max = self.log_max;
        let writing = self.database()?.begin_write()?;
        let mut revisions = writing.open_table(REVISION)?;
        let next = revision(&revisions)?.next();
        revisions.insert("number", next.number)?;
        drop(revisions);
        let mut entities = writing.open_table(ENTITIES)?;
        let mut log = writing.open_table(LOG)?;
        for (change, ordinal) in changes.iter().zip(0u32..) {
            let (kind, id) = (change.kind.name, change.id.as_u128());
            let value = change.entity.as_ref().map(|entity| [&[FORMAT], entity.text().as_bytes()].concat());
            match &value {
                Some(value) => drop(entities.insert((kind, id), value.as_slice())?),
                None => drop(entities.remove((kind, id))?),
            }
            log.insert((next.number, ordinal), (kind, id, value.as_deref()))?;
        }
        trim(&mut log, log_max)?;
        drop((entities, log));
        writing.commit()?;
        Ok(next)
    }
}

/// The database with its tables.
fn prepared(database: Database) -> Result<Database, redb::Error> {
    let writing = database.begin_write()?;
    writing.open_table(ENTITIES)?;
    writing.open_table(LOG)?;
    let mut revision = writing.open_table(REVISION)?;
    if revision.is_empty()? {
        revision.insert("epoch", 1)?;
        revision.insert("number", 0)?;
    }
    drop(revision);
    writing.commit()?;
    Ok(database)
}

/// Forgets the oldest transactions, each whole, until the log is within its bound.
fn trim(log: &mut redb::Table<(u64, u32), Logged>, log_max: u64) -> Result<(), redb::Error> {
    let mut excess = log.len()?.saturating_sub(log_max);
    let mut forgetting = None;
    loop {
        let first = log.first()?.map(|(key, _)| key.value());
        let Some(key) = first.filter(|key| excess > 0 || forgetting == Some(key.0)) else { return Ok(()) };
        log.remove(key)?;
        forgetting = Some(key.0);
        excess = excess.saturating_sub(1);
    }
}

fn revision(table: &impl ReadableTable<&'static str, u64>) -> Result<Revision, redb::Error> {
    let read = |name| Ok::<_, redb::Error>(table.get(name)?.map_or(0, |value| value.value()));
    Ok(Revision::new(read("epoch")?, read("number")?))
}

fn contents(reading: &ReadTransaction) -> Result<Contents, redb::Error> {
    let mut entities = Vec::new();
    for entry in reading.open_table(ENTITIES)?.iter()? {
        let (key, value) = entry?;
        let (kind, id) = key.value();
        entities.extend(change(kind, Uuid::from_u128(id), Some(value.value())).and_then(|change| change.entity));
    }
    Ok(Contents { revision: revision(&reading.open_table(REVISION)?)?, entities, merged: None })
}

/// `None` for a kind or a format that this program does not know: a newer one wrote it.
fn change(kind: &str, id: Uuid, value: Option<&[u8]>) -> Option<Change> {
    let kind = Kind::named(kind)?;
    let Some(value) = value else { return Some(Change { kind, id, entity: None }) };
    let (format, text) = value.split_first()?;
    let entity = Entity::from_text(kind, std::str::from_utf8(text).ok()?).filter(|entity| entity.id() == id);
    if *format != FORMAT || entity.is_none() {
        tracing::error!(%kind, %id, "a stored entity cannot be read and is left out");
        return None;
    }
    Some(Change { kind, id, entity: entity.map(Arc::new) })
}

fn at(path: &Path, error: &redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen => {
            StoreError::Unavailable(format!("{} is in use by another process", path.display()))
        }
        redb::Error::Io(_) | redb::Error::PreviousIo => {
            StoreError::Unavailable(format!("{} cannot be read or written: {error}", path.display()))
        }
        _ => StoreError::Broken(format!("{}: {error}", path.display())),
    }
}

fn broken(error: &dyn std::error::Error) -> StoreError {
    StoreError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io;
    use std::sync::atomic::{AtomicBool, Ordering};

    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use super::*;

    /// A file on a disk that fills up and is emptied again.
    #[derive(Debug)]
    struct Full(FileBackend, Arc<AtomicBool>);

    impl Full {
        fn room(&self) -> io::Result<()> {
            if self.1.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    impl StorageBackend for Full {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.room()?;
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.room()?;
            self.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.room()?;
            self.0.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
    }

    #[tokio::test]
    async fn a_disk_that_was_full_needs_no_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (path, full) = (directory.path().join("file"), Arc::new(AtomicBool::new(false)));
        let (file, switch) = (path.clone(), full.clone());
        let open = move || {
            let file = std::fs::File::options().read(true).write(true).create(true).truncate(false).open(&file)?;
            Ok(Database::builder().create_with_backend(Full(FileBackend::new(file)?, switch.clone()))?)
        };
        let store = Embedded::over(path, 100, open).unwrap();
        let service = |number: u128| {
            let text = format!(r#"{{"id":"{}"}}"#, Uuid::from_u128(number));
            let entity = Entity::from_text(Kind::SERVICES, &text).map(Arc::new);
            vec![Change { kind: Kind::SERVICES, id: Uuid::from_u128(number), entity }]
        };
        let first = store.begin(Revision::default()).await.unwrap().commit(service(1)).await.unwrap();
        let open_before = store.begin(first).await.unwrap();
        full.store(true, Ordering::SeqCst);
        let refused = open_before.commit(service(2)).await;
        assert!(matches!(refused, Err(StoreError::Unknown(_))), "{refused:?}");
        assert!(matches!(store.load().await, Err(StoreError::Unavailable(_))));
        full.store(false, Ordering::SeqCst);
        let contents = store.load().await.unwrap();
        assert_eq!((contents.revision, contents.entities.len()), (first, 1));
        let next = store.begin(first).await.unwrap().commit(service(3)).await.unwrap();
        assert_eq!(next, first.next());
    }
}
