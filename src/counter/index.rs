//! Where a key's line is: open addressing over words of 32 bits, of which half at most are in use.
//!
//! A word holds the line's number and eight bits of its key, so that a lookup reads the line it wants and seldom another;
//! with words this small the index of a million counters stays in the processor's caches, and a lookup costs the one
//! miss of the line itself. Lines in the table instead (no index) lost: lines must not move, and a table grows.
//!
//! Lookups take no lock. Whoever changes the index holds the shard's; a lookup at the same time may miss a key that is
//! there and look again under the lock, and it finds nothing that is not there, because it compares the line's own key.
//! When the index grows, the smaller one stays for those who are reading it: a third more memory.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::Release;

/// Most lines an index can tell apart.
pub(crate) const LINES_MAX: usize = (1 << 24) - 1;
const LINE_MASK: u32 = (1 << 24) - 1;
/// Sizes grow by four; the smallest that is used has at least this many words, if so many are ever needed.
const SMALLEST: usize = 1 << 10;
const LEVELS: usize = 9;

#[derive(Debug)]
pub(crate) struct Index {
    /// Smallest first.
    levels: [OnceLock<Box<[AtomicU32]>>; LEVELS],
    level: AtomicUsize,
    /// Words of the last level, a power of two.
    words_max: usize,
    last: usize,
}

impl Index {
    /// For at most `lines` keys.
    pub(crate) fn new(lines: usize) -> Index {
        let words_max = (2 * lines).next_power_of_two().max(16);
        let mut last = 0;
        while last + 1 < LEVELS && words_max >> (2 * (last + 1)) >= SMALLEST {
            last += 1;
        }
        Index { levels: Default::default(), level: AtomicUsize::new(0), words_max, last }
    }

    /// The line of a key; `is` compares a line's.
    #[inline]
    pub(crate) fn find(&self, key: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let words = self.levels[self.level.load(Acquire) % LEVELS].get()?;
        let mask = words.len() - 1;
        let mut at = home(key) & mask;
        // Half is free, except for a moment while an entry moves; that must not become an endless walk.
        for _ in 0..=mask {
            let word = words[at].load(Acquire);
            if word == 0 {
                return None;
            }
            let line = (word & LINE_MASK) - 1;
            if word >> 24 == print(key) && is(line) {
                return Some(line);
            }
            at = (at + 1) & mask;
        }
        None
    }

    /// Makes room for one more than `len` keys; `lines` gives them all. Under the shard's lock.
    pub(crate) fn reserve(&self, len: usize, lines: impl Iterator<Item = (u32, u64)>) {
        let mut level = self.level.load(Relaxed);
        let fits = |level: usize| 2 * (len + 1) <= self.words(level);
        if self.levels[level].get().is_some() && (fits(level) || level == self.last) {
            return;
        }
        while level < self.last && !fits(level) {
            level += 1;
        }
        let words = self.levels[level].get_or_init(|| (0..self.words(level)).map(|_| AtomicU32::new(0)).collect());
        for (line, key) in lines {
            place(words, key, line);
        }
        self.level.store(level, Release);
    }

    fn words(&self, level: usize) -> usize {
        self.words_max >> (2 * (self.last - level))
    }

    /// Under the shard's lock, after `reserve`.
    pub(crate) fn insert(&self, key: u64, line: u32) {
        if let Some(words) = self.levels[self.level.load(Relaxed)].get() {
            place(words, key, line);
        }
    }

    /// Under the shard's lock. What stands behind the gap moves up, so that no walk ends too early; `key_of` tells the
    /// key of a line.
    pub(crate) fn remove(&self, key: u64, line: u32, key_of: impl Fn(u32) -> u64) {
        let Some(words) = self.levels[self.level.load(Relaxed)].get() else { return };
        let mask = words.len() - 1;
        let mut gap = home(key) & mask;
        while words[gap].load(Relaxed) & LINE_MASK != line + 1 {
            if words[gap].load(Relaxed) == 0 {
                return;
            }
            gap = (gap + 1) & mask;
        }
        let mut at = (gap + 1) & mask;
        loop {
            let word = words[at].load(Relaxed);
            if word == 0 {
                break;
            }
            let home = home(key_of((word & LINE_MASK) - 1)) & mask;
            // It may stand in the gap unless its home is behind it.
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(gap) & mask {
                words[gap].store(word, Release);
                gap = at;
            }
            at = (at + 1) & mask;
        }
        words[gap].store(0, Release);
    }
}

fn place(words: &[AtomicU32], key: u64, line: u32) {
    let mask = words.len() - 1;
    let mut at = home(key) & mask;
    while words[at].load(Relaxed) != 0 {
        at = (at + 1) & mask;
    }
    words[at].store(print(key) << 24 | (line + 1), Release);
}

/// The low bits; the high ones chose the shard.
fn home(key: u64) -> usize {
    key as usize & 0xffff_ffff
}

fn print(key: u64) -> u32 {
    u32::from((key >> 40) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Homes are few, so entries crowd, wrap around the end and move up.
        #[test]
        fn a_map_agrees(steps in prop::collection::vec((any::<bool>(), 0..40_u64), 1..400)) {
            let index = Index::new(20);
            let (mut map, mut keys) = (HashMap::new(), [0_u64; 20]);
            for (add, number) in steps {
                let key = number % 5 + 28 + (number << 40);
                if add && map.len() < 20 && !map.contains_key(&key) {
                    let line = keys.iter().position(|key| *key == 0).map_or(0, |line| line as u32);
                    index.reserve(map.len(), std::iter::empty());
                    keys[line as usize] = key;
                    index.insert(key, line);
                    map.insert(key, line);
                } else if let Some(line) = map.remove(&key) {
                    index.remove(key, line, |line| keys[line as usize]);
                    keys[line as usize] = 0;
                }
                for number in 0..40 {
                    let key = number % 5 + 28 + (number << 40);
                    let found = index.find(key, |line| keys[line as usize] == key);
                    prop_assert_eq!(found, map.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn it_grows_to_twice_what_it_was_made_for() {
        let index = Index::new(100_000);
        let key = |line: u32| (u64::from(line) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for line in 0..100_000 {
            index.reserve(line as usize, (0..line).map(|line| (line, key(line))));
            index.insert(key(line), line);
        }
        for line in 0..100_000 {
            assert_eq!(index.find(key(line), |other| other == line), Some(line));
        }
        let words: usize = index.levels.iter().filter_map(OnceLock::get).map(|words| words.len()).sum();
        assert_eq!(words, (1 << 18) + (1 << 16) + (1 << 14) + (1 << 12) + (1 << 10));
    }
}
