//! What decides when there is no place for a counter: a count-min sketch, so that a limit bites for every subject, at the
//! price of too early for some.
//!
//! Four rows of cells per period; a subject has one cell in each, shared with whoever else falls there, and its count is
//! at most the smallest of them. Conservative update raises only what is at that minimum. To admit what has no counter
//! lost, since a flood of names would be the way around every limit; to refuse it lost, since it shuts everybody out.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::counter::calendar::Window;

const ROWS: usize = 4;
const CELLS: usize = 1 << 16;

/// Two MB per period, made when first needed.
#[derive(Debug, Default)]
pub(crate) struct Sketch {
    periods: [OnceLock<Box<[AtomicU64]>>; 6],
}

impl Sketch {
    /// Admits and counts when the subject's estimate is below `room`; the estimate before, and whether it was. Calls for
    /// one key do not run at the same time: the shard's lock is held.
    pub(crate) fn hit(&self, key: u64, window: Window, room: u64) -> (u64, bool) {
        let cells =
            self.periods[window.period as usize].get_or_init(|| (0..ROWS * CELLS).map(|_| AtomicU64::new(0)).collect());
        let mine = (0..ROWS).map(|row| &cells[row * CELLS + (key >> (16 * row)) as usize % CELLS]);
        let number = u64::from(window.number);
        // A cell tells its window and a count. One of the next window is from a hit that read the clock later.
        let current = |cell: u64| cell >> 32 == number || cell >> 32 == number + 1;
        let count = |cell: u64| if current(cell) { cell & 0xffff_ffff } else { 0 };
        let estimate = mine.clone().map(|cell| count(cell.load(Relaxed))).min().unwrap_or(0);
        let admitted = estimate < room;
        if admitted {
            for cell in mine {
                let raised = (estimate + 1).min(0xffff_ffff);
                let _ = cell.fetch_update(Relaxed, Relaxed, |old| match current(old) {
                    true => (count(old) < raised).then_some(old >> 32 << 32 | raised),
                    false => Some(number << 32 | raised),
                });
            }
        }
        (estimate, admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::period::Period;

    fn key(number: u64) -> u64 {
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    #[test]
    fn a_limit_bites_in_each_window() {
        let sketch = Sketch::default();
        for period in Period::ALL {
            for step in [0, 1, 5, 2] {
                let window = Window { period, number: 100 + step };
                let admitted = (0..20).filter(|_| sketch.hit(key(7), window, 10).1).count();
                assert_eq!(admitted, 10, "{period:?} {step}");
            }
        }
    }

    #[test]
    fn nobody_passes_a_limit_because_of_others_and_few_are_refused() {
        let (sketch, window) = (Sketch::default(), Window { period: Period::Hour, number: 9 });
        let mut refused = 0;
        for number in 0..20_000 {
            let admitted = (0..12).filter(|_| sketch.hit(key(number), window, 10).1).count();
            assert!(admitted <= 10);
            refused += usize::from(admitted < 10);
        }
        assert!(refused < 400, "{refused} of 20,000 got less than their limit");
    }
}
