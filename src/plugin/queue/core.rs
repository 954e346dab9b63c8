//! The queue as a state machine: entries and outcomes of deliveries go in with the time, deliveries and notices come out.
//!
//! One delivery is in progress at a time. While none is, arriving entries form a batch, which is cut when it holds
//! `max_batch_size` entries or when `max_coalescing_delay` after its first entry is over. While a delivery is in
//! progress or waits for its next attempt, up to `max_entries` entries wait; one more evicts the oldest. So a queue holds
//! at most `max_batch_size` entries in delivery and the greater of `max_batch_size` and `max_entries` before it.
//!
//! Departures from Kong: bytes of a batch that is being delivered do not count towards `max_bytes`, and eviction never
//! removes entries that are being delivered. Repeated conditions are reported once until they change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::plugin::queue::options::QueueOptions;

/// A batch that would wait less than this for further entries is cut at once, as in Kong.
const COALESCING_REST_MIN: Duration = Duration::from_millis(50);

/// Where a queue of entries of type `T` stands. Bounds: see the module's documentation.
#[derive(Debug)]
pub struct QueueCore<T> {
    options: QueueOptions,
    entries: VecDeque<Weighed<T>>,
    /// Sum of the sizes in `entries`.
    bytes: usize,
    /// When the batch at the front of `entries` is cut; `None`: no batch is being coalesced.
    cut_at: Option<Instant>,
    deliveries: Vec<Delivery<T>>,
    next_delivery: u64,
    outputs: VecDeque<QueueOutput<T>>,
    totals: QueueTotals,
    reported: Reported,
    /// Closed: nothing more is accepted, and what is left by then is dropped.
    end_at: Option<Instant>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum QueueOutput<T> {
    /// Deliver `batch`, then call `delivered` or `failed` with the number.
    Deliver { delivery: u64, batch: Arc<[T]> },
    /// Write a log line.
    Notice(QueueNotice),
}

/// A change of the queue's condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueNotice {
    /// 80 % of `max_entries` wait. Reported again after the number fell below that.
    NearFull,
    /// The queue is full: each further entry evicts the oldest (with `unlimited`: is dropped).
    Full,
    /// A batch was delivered after the queue had been full. `dropped`: entries lost meanwhile.
    Resumed { dropped: u64 },
    /// `max_bytes` is reached: `dropped` entries were evicted for a new one. Reported again after a delivery.
    BytesExceeded { dropped: u64 },
    /// An entry is larger than `max_bytes` and was refused. Reported again after a delivery.
    TooLarge { bytes: usize, max_bytes: usize },
    /// An attempt failed. `first`: the attempt before it, of this batch or another, had not failed.
    Failed { why: String, first: bool },
    /// A batch was delivered after failed attempts. `lost`: entries of batches that were given up meanwhile.
    Recovered { lost: u64 },
    /// A batch was dropped because `max_retry_time` is over. `first`: no other was since the last delivery.
    GaveUp { lost: usize, first: bool },
    /// The queue ended with undelivered entries.
    Ended { lost: usize },
}

/// Numbers of entries since the queue began. `pushed` is the sum of the others and of what the queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    pub pushed: u64,
    pub delivered: u64,
    /// Evicted, or with `unlimited` not accepted, because of `max_entries`.
    pub dropped_full: u64,
    /// Evicted or refused because of `max_bytes`.
    pub dropped_bytes: u64,
    /// Lost with a batch that could not be delivered in `max_retry_time`.
    pub dropped_failed: u64,
    /// Pushed after the end, or not delivered in time at the end.
    pub dropped_closed: u64,
}

#[derive(Debug)]
struct Weighed<T> {
    entry: T,
    bytes: usize,
}

#[derive(Debug)]
struct Delivery<T> {
    number: u64,
    batch: Arc<[T]>,
    begun_at: Instant,
    attempts: u32,
    /// `None`: an attempt is in progress.
    retry_at: Option<Instant>,
}

/// Conditions that were reported and did not change since.
#[derive(Debug, Default)]
struct Reported {
    near_full: bool,
    /// `QueueTotals::dropped_full` before the queue became full.
    full: Option<u64>,
    bytes_exceeded: bool,
    too_large: bool,
    /// `QueueTotals::dropped_failed` before the first failed attempt.
    failing: Option<u64>,
    gave_up: bool,
}

impl<T> QueueCore<T> {
    pub fn new(options: QueueOptions) -> Self {
        Self {
            options,
            entries: VecDeque::new(),
            bytes: 0,
            cut_at: None,
            deliveries: Vec::new(),
            next_delivery: 0,
            outputs: VecDeque::new(),
            totals: QueueTotals::default(),
            reported: Reported::default(),
            end_at: None,
        }
    }

    /// Takes an entry whose size is `bytes`.
    pub fn push(&mut self, now: Instant, entry: T, bytes: usize) {
        self.totals.pushed += 1;
        if self.end_at.is_some() {
            self.totals.dropped_closed += 1;
        } else if self.options.unlimited {
            self.deliver_alone(now, entry);
        } else if self.make_room(bytes) {
            self.bytes += bytes;
            self.entries.push_back(Weighed { entry, bytes });
            self.report_near_full();
            self.advance(now);
        }
    }

    /// The attempt for `delivery` succeeded.
    pub fn delivered(&mut self, now: Instant, delivery: u64) {
        let Some(at) = self.deliveries.iter().position(|it| it.number == delivery) else { return };
        self.totals.delivered += self.deliveries.swap_remove(at).batch.len() as u64;
        self.reported.gave_up = false;
        if let Some(before) = self.reported.failing.take() {
            self.notice(QueueNotice::Recovered { lost: self.totals.dropped_failed - before });
        }
        if let Some(before) = self.reported.full.take() {
            self.notice(QueueNotice::Resumed { dropped: self.totals.dropped_full - before });
        }
        self.reported.bytes_exceeded = false;
        self.reported.too_large = false;
        self.advance(now);
    }

    /// The attempt for `delivery` failed.
    pub fn failed(&mut self, now: Instant, delivery: u64, why: String) {
        let Some(at) = self.deliveries.iter().position(|it| it.number == delivery) else { return };
        let first = self.reported.failing.is_none();
        self.reported.failing.get_or_insert(self.totals.dropped_failed);
        self.notice(QueueNotice::Failed { why, first });
        let (limit, failed) = (self.options.max_retry_time, &mut self.deliveries[at]);
        failed.attempts = failed.attempts.saturating_add(1);
        if now.saturating_duration_since(failed.begun_at) <= limit && !limit.is_zero() {
            failed.retry_at = Some(now + self.options.retry_delay(failed.attempts));
            return;
        }
        let lost = self.deliveries.swap_remove(at).batch.len();
        self.totals.dropped_failed += lost as u64;
        let first = !std::mem::replace(&mut self.reported.gave_up, true);
        self.notice(QueueNotice::GaveUp { lost, first });
        self.advance(now);
    }

    /// Time passed. To be called at `wake_at`; harmless at any other time.
    pub fn tick(&mut self, now: Instant) {
        if self.end_at.is_some_and(|end_at| end_at <= now) {
            self.end();
            return;
        }
        for delivery in self.deliveries.iter_mut().filter(|it| it.retry_at.is_some_and(|at| at <= now)) {
            delivery.retry_at = None;
            let (number, batch) = (delivery.number, delivery.batch.clone());
            self.outputs.push_back(QueueOutput::Deliver { delivery: number, batch });
        }
        self.advance(now);
    }

    /// Accepts nothing more, sends without coalescing, makes pending attempts at once, and drops at `end_at` what is left.
    /// A second call can only bring the end forward.
    pub fn close(&mut self, now: Instant, end_at: Instant) {
        self.end_at = Some(self.end_at.map_or(end_at, |before| before.min(end_at)));
        for delivery in self.deliveries.iter_mut().filter(|it| it.retry_at.is_some()) {
            delivery.retry_at = Some(now);
        }
        self.tick(now);
    }

    /// When `tick` is due; `None`: not before another event.
    pub fn wake_at(&self) -> Option<Instant> {
        let retries = self.deliveries.iter().filter_map(|delivery| delivery.retry_at);
        retries.chain(self.cut_at).chain(self.end_at).min()
    }

    /// The next thing to do; `None` until another event.
    pub fn output(&mut self) -> Option<QueueOutput<T>> {
        self.outputs.pop_front()
    }

    pub fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// Whether the queue is closed and holds nothing.
    pub fn is_over(&self) -> bool {
        self.end_at.is_some() && self.entries.is_empty() && self.deliveries.is_empty()
    }

    pub fn totals(&self) -> QueueTotals {
        self.totals
    }

    /// Number of entries that wait, without those in delivery.
    pub fn waiting(&self) -> usize {
        self.entries.len()
    }

    /// Cuts a batch when it is time, or begins to coalesce one.
    fn advance(&mut self, now: Instant) {
        if self.options.unlimited || !self.deliveries.is_empty() || self.entries.is_empty() {
            return;
        }
        let complete = self.entries.len() >= self.options.max_batch_size || self.end_at.is_some();
        let cut_at = *self.cut_at.get_or_insert(now + self.options.max_coalescing_delay);
        if complete || cut_at.saturating_duration_since(now) < COALESCING_REST_MIN {
            self.cut(now);
        }
    }

    fn cut(&mut self, now: Instant) {
        self.cut_at = None;
        let size = self.options.max_batch_size.min(self.entries.len());
        let cut: Vec<Weighed<T>> = self.entries.drain(..size).collect();
        self.bytes -= cut.iter().map(|entry| entry.bytes).sum::<usize>();
        self.begin(now, cut.into_iter().map(|entry| entry.entry).collect());
        // What is left waits for the delivery from now on.
        self.report_near_full();
    }

    fn begin(&mut self, now: Instant, batch: Arc<[T]>) {
        let number = self.next_delivery;
        self.next_delivery += 1;
        self.deliveries.push(Delivery { number, batch: batch.clone(), begun_at: now, attempts: 0, retry_at: None });
        self.outputs.push_back(QueueOutput::Deliver { delivery: number, batch });
    }

    fn deliver_alone(&mut self, now: Instant, entry: T) {
        if self.deliveries.len() < self.options.max_entries {
            self.begin(now, Arc::new([entry]));
        } else {
            self.report_full();
            self.totals.dropped_full += 1;
        }
    }

    /// Evicts the oldest entries until one of `bytes` fits. False: it never will.
    fn make_room(&mut self, bytes: usize) -> bool {
        if let Some(max_bytes) = self.options.max_bytes {
            if bytes > max_bytes {
                self.totals.dropped_bytes += 1;
                if !std::mem::replace(&mut self.reported.too_large, true) {
                    self.notice(QueueNotice::TooLarge { bytes, max_bytes });
                }
                return false;
            }
            self.evict_bytes(max_bytes - bytes);
        }
        let delivering = !self.deliveries.is_empty();
        while delivering && self.entries.len() >= self.options.max_entries {
            self.report_full();
            self.evict();
            self.totals.dropped_full += 1;
        }
        true
    }

    /// Evicts the oldest entries until the others together have at most `most` bytes.
    fn evict_bytes(&mut self, most: usize) {
        let before = self.totals.dropped_bytes;
        while self.bytes > most && self.evict() {
            self.totals.dropped_bytes += 1;
        }
        let dropped = self.totals.dropped_bytes - before;
        if dropped > 0 && !std::mem::replace(&mut self.reported.bytes_exceeded, true) {
            self.notice(QueueNotice::BytesExceeded { dropped });
        }
    }

    fn evict(&mut self) -> bool {
        let evicted = self.entries.pop_front();
        self.bytes -= evicted.as_ref().map_or(0, |entry| entry.bytes);
        evicted.is_some()
    }

    fn report_full(&mut self) {
        if self.reported.full.is_none() {
            self.reported.full = Some(self.totals.dropped_full);
            self.notice(QueueNotice::Full);
        }
    }

    /// Kong's warning at 80 % of `max_entries`, once per crossing.
    fn report_near_full(&mut self) {
        let delivering = !self.deliveries.is_empty();
        let near = delivering && self.entries.len() * 5 >= self.options.max_entries * 4;
        if near && !self.reported.near_full {
            self.notice(QueueNotice::NearFull);
        }
        self.reported.near_full = near;
    }

    fn notice(&mut self, notice: QueueNotice) {
        self.outputs.push_back(QueueOutput::Notice(notice));
    }

    fn end(&mut self) {
        let delivering: usize = self.deliveries.drain(..).map(|delivery| delivery.batch.len()).sum();
        let lost = delivering + self.entries.drain(..).count();
        self.bytes = 0;
        self.cut_at = None;
        self.totals.dropped_closed += lost as u64;
        self.outputs.retain(|output| matches!(output, QueueOutput::Notice(_)));
        if lost > 0 {
            self.notice(QueueNotice::Ended { lost });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
