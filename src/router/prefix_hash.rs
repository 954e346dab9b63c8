//! Hashes of the beginnings of a path, each for a step or two more than the one before.
//!
//! Whole words of eight bytes are hashed once and kept; a beginning that ends within a word adds the rest of it. Hashing
//! each beginning anew lost where prefixes have many lengths. Only configured texts are ever stored, so hashes need no
//! secret: a client cannot add to a table.

use smallvec::SmallVec;

const WORD: usize = 8;
const START: u64 = 0x2545_F491_4F6C_DD1D;
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
const END: u64 = 0xD6E8_FEB8_6659_FD93;

/// The hashes of one path.
pub(crate) struct Hashes<'p> {
    path: &'p [u8],
    /// After so many whole words.
    states: SmallVec<[u64; 24]>,
}

/// The hash of a text.
pub(crate) fn hash(text: &[u8]) -> u64 {
    let whole = text.len() / WORD;
    let state = (0..whole).fold(START, |state, at| step(state, word(text, at)));
    end(state, tail(text, text.len()), text.len())
}

impl<'p> Hashes<'p> {
    pub(crate) fn of(path: &'p [u8]) -> Self {
        let mut states = SmallVec::new();
        states.push(START);
        Hashes { path, states }
    }

    /// The hash of the first `len` bytes, of which there are so many.
    pub(crate) fn first(&mut self, len: usize) -> u64 {
        let whole = len / WORD;
        while self.states.len() <= whole {
            let at = self.states.len() - 1;
            self.states.push(step(self.states[at], word(self.path, at)));
        }
        end(self.states[whole], tail(self.path, len), len)
    }
}

fn step(state: u64, word: u64) -> u64 {
    fold(state ^ word, STEP)
}

fn end(state: u64, tail: u64, len: usize) -> u64 {
    fold(state ^ tail, END ^ (len as u64))
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The word number `at`; zeros after the end.
fn word(text: &[u8], at: usize) -> u64 {
    let rest = text.get(at * WORD..).unwrap_or_default();
    if let Some(word) = rest.first_chunk() {
        return u64::from_le_bytes(*word);
    }
    rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// What of the first `len` bytes is beyond whole words.
fn tail(text: &[u8], len: usize) -> u64 {
    match len % WORD {
        0 => 0,
        rest => word(text, len / WORD) & ((1 << (8 * rest)) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_hash_like_texts_of_their_own() {
        let path = b"/tenant-12345/api/items/and/more/of/the/same";
        for order in [(0..=path.len()).collect::<Vec<_>>(), (0..=path.len()).rev().collect()] {
            let mut hashes = Hashes::of(path);
            for len in order {
                assert_eq!(hashes.first(len), hash(&path[..len]), "{len}");
            }
        }
        let mut all: Vec<u64> = (0..=path.len()).map(|len| hash(&path[..len])).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), path.len() + 1);
    }
}
