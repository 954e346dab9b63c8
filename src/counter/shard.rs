//! The counters of some subjects, under one lock.
//!
//! There is a table per window, so a window that has ended is dropped as a whole, without a look at its counters: no
//! sweep, no queue of expiries, and nothing that was counted in one window can be seen in another.

use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::counter::Limit;
use crate::counter::Period;
use crate::counter::Verdict;
use crate::counter::calendar;
use crate::counter::calendar::Span;

/// A window is kept this long after its end, for requests that read the clock just before it.
const GRACE_S: u64 = 2;
/// Windows of one period that are kept at once; more only appear when the clock jumps back and forth.
const WINDOWS: usize = 4;
/// Counters per window of which the least full goes when the shard is full.
const SAMPLE: usize = 4;

/// Some of the counters of a node; at most `capacity`.
#[derive(Debug)]
pub(crate) struct Shard {
    windows: Vec<Window>,
    counters: usize,
    capacity: usize,
    /// When the first window can be dropped.
    expiry_s: u64,
    /// Where the next sample begins; moves on, so that all counters come up in turn.
    cursor: usize,
}

#[derive(Debug)]
struct Window {
    period: Period,
    span: Span,
    /// Positions in `counters`, hashed by subject.
    index: HashTable<u32>,
    counters: Vec<Counter>,
}

#[derive(Clone, Copy, Debug)]
struct Counter {
    subject: u64,
    usage: u64,
    /// As the last admitted hit had it; tells how full the counter is.
    limit: f64,
}

impl Shard {
    pub(crate) fn new(capacity: usize) -> Shard {
        Shard { windows: Vec::new(), counters: 0, capacity, expiry_s: u64::MAX, cursor: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.counters
    }

    /// See `Counters::hit`.
    pub(crate) fn hit(&mut self, subject: u64, limits: &[Limit], now_s: u64) -> Verdict {
        if now_s >= self.expiry_s {
            self.expire(now_s);
        }
        let found: SmallVec<[Option<(usize, usize)>; 6]> =
            limits.iter().map(|limit| self.find(subject, limit.period, now_s)).collect();
        let usage: SmallVec<[u64; 6]> =
            found.iter().map(|found| found.map_or(0, |(window, at)| self.windows[window].counters[at].usage)).collect();
        let admitted = limits.iter().zip(&usage).all(|(limit, &usage)| limit.has_room(usage));
        if admitted {
            // What exists comes first: adding may move it.
            for (&Limit { limit, .. }, found) in limits.iter().zip(&found) {
                if let Some((window, at)) = *found {
                    self.windows[window].counters[at].count(limit);
                }
            }
            for (&Limit { period, limit }, found) in limits.iter().zip(&found) {
                if found.is_none() {
                    self.add(Counter { subject, usage: 1, limit }, period, now_s);
                }
            }
        }
        Verdict { admitted, usage }
    }

    /// Positions of the window and of the counter in it.
    fn find(&self, subject: u64, period: Period, now_s: u64) -> Option<(usize, usize)> {
        let window = self.window(period, now_s)?;
        Some((window, self.windows[window].find(subject)?))
    }

    fn window(&self, period: Period, now_s: u64) -> Option<usize> {
        self.windows.iter().position(|window| window.period == period && window.holds(now_s))
    }

    fn add(&mut self, counter: Counter, period: Period, now_s: u64) {
        if self.counters >= self.capacity {
            self.make_room();
        }
        let window = self.window(period, now_s).unwrap_or_else(|| self.open(period, now_s));
        self.windows[window].add(counter);
        self.counters += 1;
    }

    /// A new window. The farthest of its period goes when there are too many.
    fn open(&mut self, period: Period, now_s: u64) -> usize {
        let same = self.windows.iter().enumerate().filter(|(_, window)| window.period == period);
        if same.clone().count() >= WINDOWS
            && let Some((farthest, _)) = same.max_by_key(|(_, window)| window.span.start_s.abs_diff(now_s))
        {
            self.counters -= self.windows.swap_remove(farthest).counters.len();
        }
        let span = calendar::window(period, now_s);
        self.windows.push(Window { period, span, index: HashTable::new(), counters: Vec::new() });
        self.expiry_s = self.expiry_s.min(span.end_s.saturating_add(GRACE_S));
        self.windows.len() - 1
    }

    fn expire(&mut self, now_s: u64) {
        self.windows.retain(|window| window.span.end_s.saturating_add(GRACE_S) > now_s);
        self.counters = self.windows.iter().map(|window| window.counters.len()).sum();
        let ends = self.windows.iter().map(|window| window.span.end_s.saturating_add(GRACE_S));
        self.expiry_s = ends.min().unwrap_or(u64::MAX);
    }

    /// Drops the least full of a sample from each window; of equally full ones, that whose window ends first.
    fn make_room(&mut self) {
        self.cursor = self.cursor.wrapping_add(SAMPLE);
        let mut least: Option<(f64, u64, usize, usize)> = None;
        for (at, window) in self.windows.iter().enumerate() {
            for step in 0..SAMPLE.min(window.counters.len()) {
                let counter = self.cursor.wrapping_add(step) % window.counters.len();
                let fullness = window.counters[counter].fullness();
                let candidate = (fullness, window.span.end_s, at, counter);
                if least.is_none_or(|(other, end_s, ..)| (fullness, window.span.end_s) < (other, end_s)) {
                    least = Some(candidate);
                }
            }
        }
        if let Some((_, _, window, counter)) = least {
            self.windows[window].remove(counter);
            self.counters -= 1;
        }
    }
}

impl Window {
    fn holds(&self, now_s: u64) -> bool {
        self.span.start_s <= now_s && now_s < self.span.end_s
    }

    fn find(&self, subject: u64) -> Option<usize> {
        let at = self.index.find(subject, |&at| self.counters[at as usize].subject == subject)?;
        Some(*at as usize)
    }

    fn add(&mut self, counter: Counter) {
        let Ok(at) = u32::try_from(self.counters.len()) else { return };
        self.counters.push(counter);
        let counters = &self.counters;
        self.index.insert_unique(counter.subject, at, |&at| counters[at as usize].subject);
    }

    /// The last counter takes the place of the removed one.
    fn remove(&mut self, at: usize) {
        let last = self.counters.len() - 1;
        let removed = self.counters[at].subject;
        let moved = self.counters[last].subject;
        if let Ok(entry) = self.index.find_entry(removed, |&other| other as usize == at) {
            entry.remove();
        }
        if at != last
            && let Some(place) = self.index.find_mut(moved, |&other| other as usize == last)
            && let Ok(at) = u32::try_from(at)
        {
            *place = at;
        }
        self.counters.swap_remove(at);
    }
}

impl Counter {
    fn count(&mut self, limit: f64) {
        self.usage = self.usage.saturating_add(1);
        self.limit = limit;
    }

    /// 1 at the limit.
    #[expect(clippy::cast_precision_loss, reason = "only compared roughly")]
    fn fullness(&self) -> f64 {
        self.usage as f64 / self.limit
    }
}
