//! A list whose copy is cheap and shares with the original what does not change: positions stay, chunks are shared.
//!
//! A plain list lost: a copy of 100,000 counted references touches each of them. A tree of several levels lost: two are
//! enough, as the upper one of 100,000 has 400 entries.

use std::sync::Arc;

const CHUNK: usize = 256;

/// Values by position; positions may be empty.
#[derive(Clone, Debug)]
pub(crate) struct Slots<T> {
    chunks: Vec<Arc<[Option<T>; CHUNK]>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { chunks: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn at(&self, position: usize) -> Option<&T> {
        self.chunks.get(position / CHUNK)?.get(position % CHUNK)?.as_ref()
    }

    /// All that is there, with its position.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        let all = self.chunks.iter().flat_map(|chunk| chunk.iter());
        all.enumerate().filter_map(|(position, value)| Some((position, value.as_ref()?)))
    }
}

impl<T: Clone> Slots<T> {
    /// Copies one chunk when it is shared.
    pub(crate) fn set(&mut self, position: usize, value: Option<T>) {
        while self.chunks.len() <= position / CHUNK {
            self.chunks.push(Arc::new(std::array::from_fn(|_| None)));
        }
        Arc::make_mut(&mut self.chunks[position / CHUNK])[position % CHUNK] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_changes_alone_and_shares_the_rest() {
        let mut before = Slots::default();
        for position in [0, 1, CHUNK, 3 * CHUNK + 7] {
            before.set(position, Some(position));
        }
        let mut after = before.clone();
        after.set(1, None);
        after.set(2, Some(9));
        let values = |slots: &Slots<usize>| slots.iter().map(|(at, value)| (at, *value)).collect::<Vec<_>>();
        assert_eq!(values(&before), [(0, 0), (1, 1), (CHUNK, CHUNK), (3 * CHUNK + 7, 3 * CHUNK + 7)]);
        assert_eq!(values(&after), [(0, 0), (2, 9), (CHUNK, CHUNK), (3 * CHUNK + 7, 3 * CHUNK + 7)]);
        assert!(!Arc::ptr_eq(&before.chunks[0], &after.chunks[0]) && Arc::ptr_eq(&before.chunks[1], &after.chunks[1]));
        assert_eq!((after.at(2), after.at(9 * CHUNK)), (Some(&9), None));
    }
}
