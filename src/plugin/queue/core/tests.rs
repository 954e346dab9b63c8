//! The queue's behaviour as scripts: what is pushed and what happens when, and what the queue has done by then.

use super::*;

/// A queue of numbers with a clock; every output is written down as text.
struct Script {
    core: QueueCore<u32>,
    begun: Instant,
    now: Instant,
    log: Vec<String>,
    /// Deliveries whose outcome was not told yet.
    open: VecDeque<u64>,
}

impl Script {
    fn new(options: QueueOptions) -> Self {
        let now = Instant::now();
        Self { core: QueueCore::new(options), begun: now, now, log: Vec::new(), open: VecDeque::new() }
    }

    fn push(&mut self, entries: impl IntoIterator<Item = u32>) -> &mut Self {
        for entry in entries {
            self.core.push(self.now, entry, 10);
        }
        self.note()
    }

    fn push_sized(&mut self, entry: u32, bytes: usize) -> &mut Self {
        self.core.push(self.now, entry, bytes);
        self.note()
    }

    /// Lets time pass as a driver does: with a tick whenever one is due.
    fn pass(&mut self, ms: u64) -> &mut Self {
        let until = self.now + Duration::from_millis(ms);
        while let Some(at) = self.core.wake_at().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.core.tick(self.now);
            self.note();
            if self.core.is_over() {
                break;
            }
        }
        self.now = until;
        self
    }

    fn deliver(&mut self) -> &mut Self {
        let delivery = self.open.pop_front().unwrap();
        self.core.delivered(self.now, delivery);
        self.note()
    }

    fn fail(&mut self) -> &mut Self {
        let delivery = self.open.pop_front().unwrap();
        self.core.failed(self.now, delivery, "no".to_owned());
        self.note()
    }

    fn close(&mut self, limit_ms: u64) -> &mut Self {
        self.core.close(self.now, self.now + Duration::from_millis(limit_ms));
        self.note()
    }

    fn note(&mut self) -> &mut Self {
        while let Some(output) = self.core.output() {
            let text = match output {
                QueueOutput::Deliver { delivery, batch } => {
                    self.open.push_back(delivery);
                    format!("send {batch:?}")
                }
                QueueOutput::Notice(notice) => format!("{notice:?}"),
            };
            self.log.push(format!("{} {text}", (self.now - self.begun).as_millis()));
        }
        self
    }

    /// Compares what was written down since the last call.
    fn did(&mut self, expected: &[&str]) -> &mut Self {
        assert_eq!(std::mem::take(&mut self.log), expected);
        self
    }
}

fn batches_of(size: usize) -> QueueOptions {
    QueueOptions { max_batch_size: size, ..QueueOptions::default() }
}

#[test]
fn a_batch_size_of_one_sends_at_once_and_one_at_a_time() {
    let mut script = Script::new(batches_of(1));
    script.push([1, 2, 3]).did(&["0 send [1]"]).deliver().did(&["0 send [2]"]).deliver().did(&["0 send [3]"]);
    script.deliver().pass(5_000).did(&[]);
    assert_eq!(script.core.wake_at(), None);
    assert_eq!(script.core.totals(), QueueTotals { pushed: 3, delivered: 3, ..QueueTotals::default() });
}

#[test]
fn a_complete_batch_is_sent_at_once() {
    Script::new(batches_of(3)).push([1, 2]).did(&[]).pass(500).push([3]).did(&["500 send [1, 2, 3]"]);
}

#[test]
fn an_incomplete_batch_waits_for_the_coalescing_delay_from_its_first_entry() {
    Script::new(batches_of(3))
        .push([1])
        .pass(900)
        .push([2])
        .did(&[])
        .pass(99)
        .did(&[])
        .pass(1)
        .did(&["1000 send [1, 2]"]);
}

#[test]
fn a_rest_below_50_ms_counts_as_over() {
    Script::new(batches_of(3)).push([1]).pass(949).push([2]).did(&[]).pass(10).did(&[]);
    Script::new(batches_of(3)).push([1]).pass(951).push([2]).did(&["951 send [1, 2]"]);
    let quick = QueueOptions { max_coalescing_delay: Duration::from_millis(49), ..batches_of(3) };
    Script::new(quick).push([1]).did(&["0 send [1]"]);
}

#[test]
fn entries_pile_up_during_a_delivery_and_the_next_batch_begins_after_it() {
    let mut script = Script::new(batches_of(2));
    script.push([1, 2, 3, 4, 5]).did(&["0 send [1, 2]"]).pass(3_000).did(&[]);
    script.deliver().did(&["3000 send [3, 4]"]).pass(10).deliver().did(&[]);
    script.pass(1_000).did(&["4010 send [5]"]);
}

#[test]
fn defaults_make_14_attempts_in_82_seconds() {
    let mut script = Script::new(batches_of(1));
    script.push([1]);
    let mut attempts = 0;
    while let Some(delivery) = script.open.pop_front() {
        attempts += 1;
        script.core.failed(script.now, delivery, "no".to_owned());
        script.note();
        let next = script.core.wake_at().map_or(0, |at| (at - script.now).as_millis() as u64);
        script.pass(next);
    }
    assert_eq!(attempts, 14);
    assert_eq!(script.log.last().unwrap(), "81910 GaveUp { lost: 1, first: true }");
    assert_eq!(script.core.totals().dropped_failed, 1);
}

#[test]
fn the_same_batch_is_sent_again_after_a_pause_that_doubles() {
    let mut script = Script::new(batches_of(2));
    script.push([1, 2]).did(&["0 send [1, 2]"]);
    script.fail().push([3]).did(&[r#"0 Failed { why: "no", first: true }"#]).pass(10).did(&["10 send [1, 2]"]);
    script.fail().did(&[r#"10 Failed { why: "no", first: false }"#]).pass(20).did(&["30 send [1, 2]"]);
    script.deliver().did(&["30 Recovered { lost: 0 }"]).pass(1_000).did(&["1030 send [3]"]);
    script.fail().did(&[r#"1030 Failed { why: "no", first: true }"#]);
}

#[test]
fn a_retry_time_of_zero_means_one_attempt() {
    let options = QueueOptions { max_retry_time: Duration::ZERO, ..batches_of(1) };
    let mut script = Script::new(options);
    script.push([1, 2]).did(&["0 send [1]"]).fail();
    script.did(&[r#"0 Failed { why: "no", first: true }"#, "0 GaveUp { lost: 1, first: true }", "0 send [2]"]);
    script.push([3]).fail();
    script.did(&[r#"0 Failed { why: "no", first: false }"#, "0 GaveUp { lost: 1, first: false }", "0 send [3]"]);
    script.deliver().did(&["0 Recovered { lost: 2 }"]);
}

#[test]
fn a_full_queue_evicts_the_oldest_and_says_so_once() {
    let mut script = Script::new(QueueOptions { max_entries: 5, ..batches_of(1) });
    script.push([0]).did(&["0 send [0]"]);
    script.push([1, 2, 3]).did(&[]).push([4]).did(&["0 NearFull"]).push([5]).did(&[]);
    script.push([6]).did(&["0 Full"]).push([7, 8]).did(&[]);
    script.deliver().did(&["0 Resumed { dropped: 3 }", "0 send [4]"]).deliver().did(&["0 send [5]"]);
    assert_eq!(script.core.totals().dropped_full, 3);
    // Three wait: below 80 %. Reaching it again is reported again.
    script.push([9]).did(&["0 NearFull"]);
}

#[test]
fn only_waiting_entries_count_towards_the_number_of_entries() {
    let mut script = Script::new(QueueOptions { max_entries: 2, ..batches_of(4) });
    script.push([1, 2, 3, 4]).did(&["0 send [1, 2, 3, 4]"]);
    script.push([5, 6]).did(&["0 NearFull"]).push([7]).did(&["0 Full"]);
    script.deliver().did(&["0 Resumed { dropped: 1 }"]).pass(1_000).did(&["1000 send [6, 7]"]);
}

#[test]
fn bytes_are_bounded_by_evicting_the_oldest() {
    let mut script = Script::new(QueueOptions { max_bytes: Some(100), ..batches_of(1) });
    script.push([0]).push_sized(1, 60).push_sized(2, 40).did(&["0 send [0]"]);
    script.push_sized(3, 50).did(&["0 BytesExceeded { dropped: 1 }"]).push_sized(4, 100).did(&[]);
    script.push_sized(5, 101).did(&["0 TooLarge { bytes: 101, max_bytes: 100 }"]).push_sized(6, 200).did(&[]);
    script.deliver().did(&["0 send [4]"]).deliver().did(&[]);
    assert_eq!(script.core.totals().dropped_bytes, 5);
    script.push_sized(7, 102).did(&["0 TooLarge { bytes: 102, max_bytes: 100 }"]);
}

#[test]
fn eviction_from_a_batch_that_is_being_coalesced_keeps_its_time() {
    let mut script = Script::new(QueueOptions { max_bytes: Some(20), ..batches_of(5) });
    script.push([1, 2]).pass(500).push([3]).did(&["500 BytesExceeded { dropped: 1 }"]);
    script.pass(500).did(&["1000 send [2, 3]"]);
}

#[test]
fn without_a_limit_every_entry_is_a_delivery_of_its_own() {
    let mut script = Script::new(QueueOptions { unlimited: true, max_entries: 3, ..batches_of(10) });
    script.push([1, 2, 3]).did(&["0 send [1]", "0 send [2]", "0 send [3]"]).push([4, 5]).did(&["0 Full"]);
    script.fail().did(&[r#"0 Failed { why: "no", first: true }"#]);
    script.deliver().did(&["0 Recovered { lost: 0 }", "0 Resumed { dropped: 2 }"]).push([6]).did(&["0 send [6]"]);
    script.pass(10).did(&["10 send [1]"]);
}

#[test]
fn closing_sends_what_waits_without_coalescing_and_makes_pending_attempts_at_once() {
    let mut script = Script::new(batches_of(2));
    script.push([1, 2]).pass(1).fail().push([3, 4, 5]).pass(1);
    script.log.clear();
    script.close(1_000).did(&["2 send [1, 2]"]).push([6]).deliver().did(&["2 Recovered { lost: 0 }", "2 send [3, 4]"]);
    script.deliver().did(&["2 send [5]"]);
    assert!(!script.core.is_over());
    script.deliver();
    assert!(script.core.is_over());
    assert_eq!(
        script.core.totals(),
        QueueTotals { pushed: 6, delivered: 5, dropped_closed: 1, ..QueueTotals::default() }
    );
}

#[test]
fn what_is_left_at_the_end_is_dropped_and_counted() {
    let mut script = Script::new(batches_of(1));
    script.push([1, 2, 3]).close(1_000).did(&["0 send [1]"]).pass(999).did(&[]);
    script.pass(1).did(&["1000 Ended { lost: 3 }"]);
    assert!(script.core.is_over());
    script.deliver();
    assert_eq!(script.core.totals(), QueueTotals { pushed: 3, dropped_closed: 3, ..QueueTotals::default() });
}

proptest::proptest! {
    /// Whatever happens: nothing is lost without being counted, order holds, and the bounds hold.
    #[test]
    fn every_entry_is_accounted_for(
        events in proptest::collection::vec((0_u8..6, 1_usize..40), 0..200),
        size in 1_usize..5, entries in 1_usize..8, bytes in proptest::option::of(20_usize..100),
        unlimited in proptest::prelude::any::<bool>(),
    ) {
        let options = QueueOptions { max_batch_size: size, max_entries: entries, max_bytes: bytes, unlimited, ..QueueOptions::default() };
        let (mut core, mut now) = (QueueCore::new(options), Instant::now());
        let (mut open, mut next, mut last) = (Vec::new(), 0_u32, 0_u32);
        for (event, number) in events {
            match (event, open.pop()) {
                (0 | 1, delivery) => { next += 1; open.extend(delivery); core.push(now, next, number) }
                (2, Some((delivery, _))) => core.delivered(now, delivery),
                (3, Some((delivery, _))) => core.failed(now, delivery, String::new()),
                (_, delivery) => { open.extend(delivery); now += Duration::from_millis(number as u64 * 20); core.tick(now) }
            }
            while let Some(output) = core.output() {
                let QueueOutput::Deliver { delivery, batch } = output else { continue };
                assert!(batch.len() <= size && batch.is_sorted());
                if !unlimited {
                    assert!(open.is_empty(), "one delivery at a time");
                    assert!(batch[0] >= last, "in order");
                    last = batch[0];
                }
                open.push((delivery, batch.len()));
            }
            let held: usize = core.deliveries.iter().map(|it| it.batch.len()).sum::<usize>() + core.waiting();
            let totals = core.totals();
            let gone = totals.delivered + totals.dropped_full + totals.dropped_bytes + totals.dropped_failed;
            assert_eq!(totals.pushed, gone + held as u64);
            assert!(core.waiting() <= entries.max(size));
            assert!(bytes.is_none_or(|max| core.bytes <= max));
            assert_eq!(core.bytes, core.entries.iter().map(|entry| entry.bytes).sum::<usize>());
        }
    }
}
