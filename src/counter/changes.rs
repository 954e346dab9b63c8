//! Which counters changed since they were last looked at: a ring that hits write and one task reads.
//!
//! A line is listed when it was not listed already (its dirty mark), so a hit on a busy counter does not come here. The
//! ring is bounded: when the task is that far behind, the oldest entries are written over, and it is told to look at
//! everything once. A queue that grows, or hits that wait, lost: a slow task must cost a request nothing.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::Ordering::SeqCst;

pub(crate) struct Changes {
    /// The low bits of the entry's position plus one, and a line.
    ring: Box<[AtomicU64]>,
    head: AtomicU64,
    tail: Mutex<u64>,
    lost: AtomicBool,
    dozing: AtomicBool,
    rouse: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

impl Changes {
    /// A ring of `len` entries, rounded up to a power of two.
    pub(crate) fn new(len: usize) -> Changes {
        Changes {
            ring: (0..len.next_power_of_two()).map(|_| AtomicU64::new(0)).collect(),
            head: AtomicU64::new(0),
            tail: Mutex::new(0),
            lost: AtomicBool::new(false),
            dozing: AtomicBool::new(false),
            rouse: OnceLock::new(),
        }
    }

    pub(crate) fn push(&self, line: u32) {
        let at = self.head.fetch_add(1, SeqCst);
        let place = &self.ring[at as usize & (self.ring.len() - 1)];
        let mut old = place.load(Relaxed);
        loop {
            if mark(at).wrapping_sub((old >> 32) as u32).cast_signed() <= 0 {
                // This thread stopped while the others went all around.
                self.lost.store(true, SeqCst);
                break;
            }
            match place.compare_exchange(old, u64::from(mark(at)) << 32 | u64::from(line), AcqRel, Relaxed) {
                Ok(_) => break,
                Err(other) => old = other,
            }
        }
        if self.dozing.load(SeqCst)
            && self.dozing.swap(false, SeqCst)
            && let Some(rouse) = self.rouse.get()
        {
            rouse();
        }
    }

    /// Gives at most `max` lines to `take`; whether some were written over.
    pub(crate) fn drain(&self, max: usize, mut take: impl FnMut(u32)) -> bool {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = false;
        for _ in 0..max {
            let head = self.head.load(SeqCst);
            if head - *tail > self.ring.len() as u64 {
                lost = true;
                *tail = head - self.ring.len() as u64 / 2;
            }
            let entry = self.ring[*tail as usize & (self.ring.len() - 1)].load(Acquire);
            if *tail == head || (entry >> 32) as u32 != mark(*tail) {
                // Empty, or not written yet, or written over just now, which shows in the next turn or call.
                break;
            }
            take(entry as u32);
            *tail += 1;
        }
        self.lost.swap(false, SeqCst) || lost
    }

    pub(crate) fn on_rouse(&self, rouse: Arc<dyn Fn() + Send + Sync>) {
        let _ = self.rouse.set(rouse);
    }

    pub(crate) fn doze(&self) -> bool {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        self.dozing.store(true, SeqCst);
        // After the store: a hit that did not see it is seen here.
        let empty = self.head.load(SeqCst) == *tail && !self.lost.load(SeqCst);
        if !empty {
            self.dozing.store(false, SeqCst);
        }
        empty
    }
}

fn mark(at: u64) -> u32 {
    (at as u32).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn drained(changes: &Changes, max: usize) -> (Vec<u32>, bool) {
        let mut lines = Vec::new();
        let lost = changes.drain(max, |line| lines.push(line));
        (lines, lost)
    }

    #[test]
    fn what_was_pushed_comes_out_in_order() {
        let changes = Changes::new(4);
        for round in 0..9 {
            (0..3).for_each(|line| changes.push(10 * round + line));
            assert_eq!(drained(&changes, 2), (vec![10 * round, 10 * round + 1], false));
            assert_eq!(drained(&changes, 9), (vec![10 * round + 2], false));
        }
    }

    #[test]
    fn what_is_written_over_is_told_once() {
        let changes = Changes::new(4);
        (0..9).for_each(|line| changes.push(line));
        assert_eq!(drained(&changes, 9), (vec![7, 8], true));
        assert_eq!(drained(&changes, 9), (vec![], false));
    }

    #[test]
    fn a_sleeper_is_roused_once() {
        let (changes, calls) = (Changes::new(4), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&calls);
        changes.on_rouse(Arc::new(move || {
            count.fetch_add(1, Relaxed);
        }));
        changes.push(1);
        assert!(!changes.doze(), "there is something to drain");
        drained(&changes, 9);
        assert!(changes.doze());
        (0..3).for_each(|line| changes.push(line));
        assert_eq!(calls.load(Relaxed), 1);
    }

    /// All threads push, one reads; what is lost is told.
    #[test]
    fn nothing_is_lost_in_silence() {
        let (changes, done) = (Changes::new(1 << 12), AtomicUsize::new(0));
        let seen = std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (changes, done) = (&changes, &done);
                scope.spawn(move || {
                    (0..20_000).for_each(|number| changes.push(thread * 100_000 + number));
                    done.fetch_add(1, SeqCst);
                });
            }
            let (mut seen, mut lost) = (Vec::new(), false);
            loop {
                let over = done.load(SeqCst) == 4;
                let (lines, some_lost) = drained(&changes, 1_000);
                lost |= some_lost;
                if over && lines.is_empty() && changes.doze() {
                    break (seen, lost);
                }
                seen.extend(lines);
            }
        });
        let (mut lines, lost) = seen;
        assert!(lost || lines.len() == 80_000, "{}", lines.len());
        lines.sort_unstable();
        lines.dedup();
        assert!(lost || lines.len() == 80_000);
    }
}
