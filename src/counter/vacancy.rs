//! Which lines of a shard are free: a bit each, so that a given line can be asked for.
//!
//! A stack of free lines, which is what this was, hands out any line in one step and knows nothing of a given one.

/// The lines of one shard; all are free at first.
#[derive(Debug, Default)]
pub(crate) struct Vacancy {
    /// A one is a line that is taken. What is not there yet is free.
    words: Vec<u64>,
    /// The word where the search for any free line begins: where one was freed last, or found.
    at: usize,
}

impl Vacancy {
    pub(crate) fn is_free(&self, line: u32) -> bool {
        let (word, bit) = place(line);
        self.words.get(word).is_none_or(|word| word & bit == 0)
    }

    pub(crate) fn take(&mut self, line: u32) {
        let (word, bit) = place(line);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= bit;
    }

    pub(crate) fn give(&mut self, line: u32) {
        let (word, bit) = place(line);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
        self.at = word;
    }

    /// A free line below `lines`. Looks at each word once at most, and at one or two unless nearly all are taken.
    pub(crate) fn any(&mut self, lines: u32) -> Option<u32> {
        let words = (lines as usize).div_ceil(64);
        let order = (self.at..words).chain(0..self.at.min(words));
        let free = |word: usize| {
            let taken = self.words.get(word).copied().unwrap_or(0);
            let line = 64 * word as u32 + taken.trailing_ones();
            (taken != u64::MAX && line < lines).then_some(line)
        };
        let found = order.into_iter().find_map(free)?;
        self.at = found as usize / 64;
        Some(found)
    }
}

fn place(line: u32) -> (usize, u64) {
    (line as usize / 64, 1 << (line % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_set_agrees(steps in prop::collection::vec((0_u32..150, 0..3), 1..400), lines in 1_u32..150) {
            let (mut vacancy, mut taken) = (Vacancy::default(), BTreeSet::new());
            for (line, what) in steps {
                match what {
                    0 => {
                        vacancy.take(line);
                        taken.insert(line);
                    }
                    1 => {
                        vacancy.give(line);
                        taken.remove(&line);
                    }
                    _ => {
                        let any = vacancy.any(lines);
                        prop_assert!(any.is_none_or(|line| line < lines && !taken.contains(&line)));
                        prop_assert_eq!(any.is_none(), (0..lines).all(|line| taken.contains(&line)));
                    }
                }
                prop_assert_eq!(vacancy.is_free(line), !taken.contains(&line));
            }
        }
    }
}
