//! What this process knows of the marks of revisions: the same number with another mark is another history.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tidegate_proto::Revision;
use uuid::Uuid;

/// Marks that are kept: of the newest revisions, which are the ones that anybody still asks about.
const KEPT_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Marks(Mutex<VecDeque<(Revision, Uuid)>>);

impl Marks {
    pub fn remember(&self, revision: Revision, mark: Uuid) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|(known, _)| *known != revision);
        marks.push_back((revision, mark));
        if marks.len() > KEPT_MAX {
            marks.pop_front();
        }
    }

    pub fn of(&self, revision: Revision) -> Option<Uuid> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        marks.iter().find(|(known, _)| *known == revision).map(|(_, mark)| *mark)
    }
}
