//! A hash table whose copy is cheap and shares with the original what does not change.
//!
//! Many small tables, each shared until it is written to: a change copies one of some hundred entries. A tree of hashes
//! lost: it costs a cache miss per level, a table one for its tags, which mostly are in the cache, and one for the entry.

use std::sync::Arc;

use hashbrown::HashTable;

/// Entries of a shard, on average, beyond which there are twice as many shards.
const FULL: usize = 256;
/// Bits of a hash below this one place an entry within its shard, those above the shards' are its tag there.
const SHARD_BIT: u32 = 36;

/// Entries by hash. The owner says what is equal.
#[derive(Clone, Debug)]
pub(crate) struct Sharded<T> {
    shards: Vec<Arc<HashTable<T>>>,
    len: usize,
}

impl<T> Default for Sharded<T> {
    fn default() -> Self {
        Sharded { shards: vec![Arc::default()], len: 0 }
    }
}

impl<T> Sharded<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn find(&self, hash: u64, equal: impl FnMut(&T) -> bool) -> Option<&T> {
        self.shards.get(self.shard(hash))?.find(hash, equal)
    }

    fn shard(&self, hash: u64) -> usize {
        (hash >> SHARD_BIT) as usize & (self.shards.len() - 1)
    }
}

impl<T: Clone> Sharded<T> {
    pub(crate) fn find_mut(&mut self, hash: u64, equal: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let shard = self.shard(hash);
        Arc::make_mut(self.shards.get_mut(shard)?).find_mut(hash, equal)
    }

    /// Adds what is not there yet. `hash_of` tells any entry's hash.
    pub(crate) fn add(&mut self, entry: T, hash_of: impl Fn(&T) -> u64) {
        if self.len >= FULL * self.shards.len() {
            self.spread(&hash_of);
        }
        self.place(entry, &hash_of);
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, hash: u64, equal: impl FnMut(&T) -> bool) {
        let shard = self.shard(hash);
        if let Some(shard) = self.shards.get_mut(shard)
            && let Ok(entry) = Arc::make_mut(shard).find_entry(hash, equal)
        {
            entry.remove();
            self.len -= 1;
        }
    }

    fn place(&mut self, entry: T, hash_of: &impl Fn(&T) -> u64) {
        let hash = hash_of(&entry);
        let shard = self.shard(hash);
        Arc::make_mut(&mut self.shards[shard]).insert_unique(hash, entry, hash_of);
    }

    fn spread(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let twice = self.shards.len() * 2;
        let before = std::mem::replace(&mut self.shards, vec![Arc::default(); twice]);
        for shard in before {
            for entry in Arc::unwrap_or_clone(shard) {
                self.place(entry, hash_of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(value: &u64) -> u64 {
        value.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[test]
    fn what_was_added_is_found_and_copies_change_alone() {
        let mut before = Sharded::default();
        (0..5_000).for_each(|value| before.add(value, hash));
        let mut after = before.clone();
        (0..100).for_each(|value| after.remove(hash(&value), |other| *other == value));
        after.remove(hash(&7), |other| *other == 7);
        let has = |table: &Sharded<u64>, value| table.find(hash(&value), |other| *other == value).is_some();
        assert!((0..5_000).all(|value| has(&before, value)) && !has(&before, 5_000));
        assert!((0..5_000).all(|value| has(&after, value) == (value >= 100)));
        assert!(before.shards.len() > 16 && before.len == 5_000 && after.len == 4_900);
    }
}
