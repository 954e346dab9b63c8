//! Sums that every hit adds to, spread over cells so that two cores seldom write to the same cache line.

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

const CELLS: usize = 32;

thread_local! {
    /// This thread's cell; `usize::MAX`: not chosen yet.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[derive(Debug, Default)]
pub(crate) struct Cells {
    cells: [Sums; CELLS],
}

/// The sums of some threads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Sums {
    pub admitted: AtomicU64,
    pub refused: AtomicU64,
    pub forecast_refused: AtomicU64,
    pub sketched: AtomicU64,
}

impl Cells {
    /// The sums of this thread and perhaps some others.
    pub(crate) fn mine(&self) -> &Sums {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let mine = MINE.get();
        if mine == usize::MAX {
            MINE.set(NEXT.fetch_add(1, Relaxed) % CELLS);
        }
        &self.cells[MINE.get() % CELLS]
    }

    pub(crate) fn sum(&self, of: impl Fn(&Sums) -> &AtomicU64) -> u64 {
        self.cells.iter().map(|cell| of(cell).load(Relaxed)).sum()
    }
}

impl Sums {
    pub(crate) fn add(&self, to: impl Fn(&Sums) -> &AtomicU64) {
        to(self).fetch_add(1, Relaxed);
    }
}
