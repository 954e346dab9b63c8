//! Names of counters that were hit often, for people who look at the hottest.
//!
//! Bounded: while 4,096 are kept, further counters stay without a name, and are not asked about again. Dropping the
//! oldest lost: a flood of keys would leave none of those that matter.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use crate::counter::view::Name;

const NAMES_MAX: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Names {
    by_key: Mutex<HashMap<u64, Name>>,
}

impl Names {
    pub(crate) fn add(&self, key: u64, name: &Name) {
        let mut names = self.lock();
        if names.len() < NAMES_MAX {
            names.entry(key).or_insert_with(|| name.clone());
        }
    }

    pub(crate) fn of(&self, key: u64) -> Option<Name> {
        self.lock().get(&key).cloned()
    }

    pub(crate) fn remove(&self, key: u64) {
        self.lock().remove(&key);
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Name>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
