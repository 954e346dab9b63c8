//! No store: the configuration is a declarative file or what `POST /config` brought, whole each time.
//!
//! What was taken last is kept under `prefix`, so a restart without a file serves it again. The revision counts
//! replacements.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tidegate_proto::Revision;

use crate::entity::Entity;
use crate::pace;
use crate::store::local::Local;
use crate::store::{Contents, Missed, Store, StoreError, Transaction};

/// The configuration of a node without a database.
pub struct Declarative {
    contents: Mutex<Contents>,
    local: Local,
}

impl Declarative {
    /// `entities` of a file, or (`None`) what was taken last under `prefix`, or nothing. Blocking.
    /// The sentences tell of kept files that could not be used, and of a disk that cannot keep.
    pub fn open(prefix: &Path, entities: Option<Vec<Arc<Entity>>>) -> (Self, Vec<String>) {
        let local = Local::new(prefix, "declarative", "off");
        let found = local.load();
        let mut problems = found.problems;
        let kept = found.contents.unwrap_or_default();
        let contents = match entities {
            None => kept,
            Some(entities) if entities == kept.entities => kept,
            Some(entities) => Contents { revision: after(kept.revision), entities, ..Contents::default() },
        };
        if contents.revision != Revision::default()
            && let Err(error) = local.save(contents.revision, &contents.entities)
        {
            problems.push(format!("the configuration cannot be kept for the next start: {error}"));
        }
        (Self { contents: Mutex::new(contents), local }, problems)
    }

    fn contents(&self) -> Contents {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for Declarative {
    fn load(&self) -> BoxFuture<'_, Result<Contents, StoreError>> {
        Box::pin(async { Ok(self.contents()) })
    }

    fn begin(&self, _seen: Revision) -> BoxFuture<'_, Result<Box<dyn Transaction>, StoreError>> {
        Box::pin(async { Err(StoreError::ReadOnly) })
    }

    fn since(&self, seen: Revision) -> BoxFuture<'_, Result<Missed, StoreError>> {
        let contents = self.contents();
        let missed = match contents.revision == seen {
            true => Missed::Changes { changes: Vec::new(), revision: seen },
            false => Missed::Everything(contents),
        };
        Box::pin(async { Ok(missed) })
    }

    fn name(&self) -> &'static str {
        "off"
    }

    fn writable(&self) -> bool {
        false
    }

    /// Kong: a configuration is taken even when the disk cannot keep it for the next start.
    fn replace(&self, entities: Vec<Arc<Entity>>) -> BoxFuture<'_, Result<Revision, StoreError>> {
        Box::pin(async move {
            let kept = pace::copies(&entities);
            let (revision, old) = {
                let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
                let revision = after(contents.revision);
                let new = Contents { revision, entities: kept, ..Contents::default() };
                (revision, std::mem::replace(&mut *contents, new))
            };
            pace::release(old.entities);
            let local = self.local.clone();
            let saved = pace::aside(move || {
                let saved = local.save(revision, &entities);
                pace::release(entities);
                saved
            })
            .await;
            if let Err(error) = saved.unwrap_or_else(|panic| Err(std::io::Error::other(panic))) {
                tracing::error!(%error, "the configuration could not be kept for the next start");
            }
            Ok(revision)
        })
    }
}

fn after(revision: Revision) -> Revision {
    Revision::new(revision.epoch.max(1), revision.number + 1)
}
