//! The store in one file under `prefix`: redb, one writer thread.
//!
//! The thread owns the file and does one job at a time; redb's calls block on the disk, so none runs on the async
//! runtime. A transaction is a lock on this side and one redb transaction at its commit, which fsyncs: what was
//! answered is on the disk. redb is done with a file after an error of the disk, so the file is then opened anew, and a
//! disk that was full for an hour needs no restart. One redb transaction open from `begin` to `commit` lost: the thread
//! would sit waiting for whoever decides.
//!
//! Every node of a cluster writes to a file of its own, under an `origin` of its own: the node id and a random part that
//! is made with the file. An older copy of a file that is put back goes on under its old name: peers hand it what it
//! lacks as soon as they meet, but what is written to it before that is not told apart from what it wrote the first time.

mod disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use futures_util::future::BoxFuture;
use redb::Database;
use tidegate_proto::Revision;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use crate::entity::Change;
use crate::store::embedded::disk::Disk;
use crate::store::{Contents, Merging, Missed, Store, StoreError, Transaction};

/// Jobs that may wait for the thread; one more waits outside.
const JOBS_MAX: usize = 64;

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
    Commit(Written, OwnedMutexGuard<()>, oneshot::Sender<Result<Revision, StoreError>>),
}

/// Changes, with their stamps or without.
enum Written {
    Plain(Vec<Change>),
    Merged(Box<Merging>),
}

struct Open {
    missed: Option<Missed>,
    jobs: mpsc::Sender<Job>,
    turn: OwnedMutexGuard<()>,
}

impl Embedded {
    /// Opens or creates `tidegate.redb` in `directory`, whose parent has to exist. `node_id` names the writes of a new
    /// file. Blocking.
    pub fn open(directory: &Path, node_id: &str) -> Result<Self, StoreError> {
        let path = directory.join("tidegate.redb");
        std::fs::create_dir_all(directory).map_err(|error| broken(&error))?;
        let file = path.clone();
        Self::over(path, node_id, move || Ok(Database::create(&file)?))
    }

    /// In memory, for tests.
    #[cfg(test)]
    pub fn in_memory(node_id: &str) -> Result<Self, StoreError> {
        let open = || Ok(Database::builder().create_with_backend(redb::backends::InMemoryBackend::new())?);
        Self::over(PathBuf::new(), node_id, open)
    }

    fn over(
        path: PathBuf,
        node_id: &str,
        open: impl Fn() -> Result<Database, redb::Error> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let mut file = Disk { database: None, open, node_id: node_id.to_owned(), path };
        file.told(|_| Ok(()))?;
        let (jobs, queue) = mpsc::channel(JOBS_MAX);
        let run = move || run(file, queue);
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
        Box::pin(ask(jobs, move |answer| Job::Commit(Written::Plain(changes), turn, answer)))
    }

    fn merge(self: Box<Self>, merging: Merging) -> BoxFuture<'static, Result<Revision, StoreError>> {
        let Open { jobs, turn, .. } = *self;
        Box::pin(ask(jobs, move |answer| Job::Commit(Written::Merged(Box::new(merging)), turn, answer)))
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

/// Until the last handle is dropped.
fn run<F: Fn() -> Result<Database, redb::Error>>(mut file: Disk<F>, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        match job {
            Job::Load(answer) => drop(answer.send(file.told(disk::load))),
            Job::Since(seen, answer) => drop(answer.send(file.told(|database| disk::since(database, seen)))),
            Job::Commit(written, turn, answer) => {
                let committed = file.told(|database| match written {
                    Written::Plain(changes) => disk::commit(database, changes),
                    Written::Merged(merging) => disk::merge(database, &merging),
                });
                // Whether the last fsync that failed wrote anything shows when the file is opened anew.
                let committed = committed.map_err(|error| match error {
                    StoreError::Unavailable(why) => StoreError::Unknown(why),
                    other => other,
                });
                drop(turn);
                drop(answer.send(committed));
            }
        }
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
    use uuid::Uuid;

    use super::*;
    use crate::entity::{Entity, Kind};

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
        let store = Embedded::over(path, "node", open).unwrap();
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
