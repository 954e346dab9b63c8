use super::*;
use crate::counter::tests::plain::Plain;
use crdts::CmRDT;
use crdts::CvRDT;
use crdts::GCounter;
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

mod plain;

const NOW_S: u64 = 1_795_519_399;

fn limit(period: Period, limit: f64) -> Limit {
    Limit { period, limit }
}

fn small(capacity: usize) -> Counters {
    Counters::new(Options { capacity, ..Options::default() })
}

fn admitted(counters: &Counters, subject: u64, limits: &[Limit], now_s: u64, hits: usize) -> usize {
    (0..hits).filter(|_| counters.hit(subject, Reach::Local, limits, now_s * 1000).admitted).count()
}

#[test]
fn a_limit_admits_until_nothing_remains() {
    for (allowed, expected) in [(6.0, 6), (1.0, 1), (0.5, 1), (1.5, 2), (2.0, 2), (0.0, 0), (-1.0, 0), (f64::NAN, 0)] {
        let limits = [limit(Period::Minute, allowed)];
        assert_eq!(admitted(&small(9), 1, &limits, NOW_S, 10), expected, "{allowed}");
    }
}

#[test]
fn usage_is_told_as_it_was_before_the_hit() {
    let counters = Counters::default();
    let limits = [limit(Period::Second, 2.0), limit(Period::Hour, 9.0)];
    for (now_s, usage, expected) in [
        (NOW_S, [0, 0], true),
        (NOW_S, [1, 1], true),
        (NOW_S, [2, 2], false),
        (NOW_S, [2, 2], false),
        (NOW_S + 1, [0, 2], true),
    ] {
        let verdict = counters.hit(7, Reach::Local, &limits, now_s * 1000);
        assert_eq!((&verdict.usage[..], verdict.admitted), (&usage[..], expected));
    }
}

#[test]
fn what_one_limit_refuses_no_limit_counts() {
    let counters = Counters::default();
    let minute = limit(Period::Minute, 1.0);
    assert_eq!(admitted(&counters, 1, &[minute, limit(Period::Day, 5.0)], NOW_S, 4), 1);
    assert_eq!(counters.hit(1, Reach::Local, &[limit(Period::Day, 5.0)], NOW_S * 1000).usage[..], [1]);
}

#[test]
fn subjects_differ_by_scope_and_identifier_and_by_process() {
    let counters = Counters::default();
    let (nil, one) = (Uuid::nil(), Uuid::from_u128(1));
    let subjects = [
        counters.subject(nil, nil, b"a"),
        counters.subject(nil, nil, b""),
        counters.subject(one, nil, b"a"),
        counters.subject(nil, one, b"a"),
        Counters::default().subject(nil, nil, b"a"),
    ];
    assert_eq!(subjects[0], counters.subject(nil, nil, b"a"));
    for (at, subject) in subjects.iter().enumerate() {
        assert!(!subjects[..at].contains(subject));
    }
}

#[test]
fn parallel_hits_admit_exactly_the_limit() {
    let counters = Counters::default();
    let limits = [limit(Period::Minute, 1000.0), limit(Period::Year, 1_500.0)];
    let total = AtomicUsize::new(0);
    let run = |now_s: u64| {
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    total.fetch_add(admitted(&counters, 42, &limits, now_s, 100), Relaxed);
                });
            }
        });
    };
    run(NOW_S);
    assert_eq!(total.load(Relaxed), 1_000);
    run(NOW_S + 60);
    assert_eq!(total.load(Relaxed), 1_500);
}

/// Cluster time of the tests: three minutes before a month ends.
const NOW_MS: u64 = 1_796_083_020_000;

const REMOTE: Remote = Remote {
    window: Window { period: Period::Minute, number: 0 },
    known: 0,
    slope_per_ms: 0.0,
    zero_ms: NOW_MS,
    resume_per_ms: 0.0,
    gate: Gate::Open,
    burst: 0,
};

fn minute(now_ms: u64) -> Window {
    Window::at(Period::Minute, now_ms / 1000)
}

/// A counter of subject 1 that was hit once, and its handle.
fn opened(reach: Reach, limits: &[Limit]) -> (Counters, Handle) {
    let counters = small(100);
    counters.hit(1, reach, limits, NOW_MS);
    let handle = counters.find(Counters::key(1, limits[0].period)).unwrap();
    (counters, handle)
}

fn admits(counters: &Counters, reach: Reach, limits: &[Limit], now_ms: u64, hits: usize) -> usize {
    (0..hits).filter(|_| counters.hit(1, reach, limits, now_ms).admitted).count()
}

#[test]
fn what_peers_counted_is_used_up() {
    let limits = [limit(Period::Minute, 100.0)];
    let (counters, handle) = opened(Reach::Cluster, &limits);
    assert!(counters.publish(handle, &Remote { window: minute(NOW_MS), known: 60, ..REMOTE }, NOW_MS));
    assert_eq!(counters.hit(1, Reach::Cluster, &limits, NOW_MS).usage[..], [61]);
    assert_eq!(counters.hit(1, Reach::Local, &limits, NOW_MS).usage[..], [2]);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS, 100), 37);
    assert_eq!(counters.hit(1, Reach::Cluster, &limits, NOW_MS).usage[..], [100]);
    assert_eq!(counters.figures().forecast_refused, 0);
}

#[test]
fn the_forecast_closes_a_window_until_the_others_are_known_to_rest() {
    let limits = [limit(Period::Minute, 100.0)];
    let (counters, handle) = opened(Reach::Cluster, &limits);
    let remote = Remote { window: minute(NOW_MS), known: 50, slope_per_ms: 0.5, resume_per_ms: 0.25, ..REMOTE };
    counters.publish(handle, &remote, NOW_MS);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS + 60, 100), 19);
    assert_eq!(counters.hit(1, Reach::Cluster, &limits, NOW_MS + 60).usage[..], [100]);
    assert_eq!(counters.figures().forecast_refused, 82);
    assert!(counters.read(handle, NOW_MS).unwrap().stopped);
    // Fewer came than was foreseen. The window stays closed, and what is told stays told.
    counters.publish(handle, &Remote { zero_ms: NOW_MS + 60, known: 51, ..remote }, NOW_MS + 60);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS + 60, 9), 0);
    let fill = Remote { known: 51, gate: Gate::Fill(23), ..remote };
    counters.publish(handle, &fill, NOW_MS + 60);
    let verdict = counters.hit(1, Reach::Cluster, &limits, NOW_MS + 70);
    assert_eq!((verdict.admitted, &verdict.usage[..]), (true, &[100][..]));
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS + 70, 9), 2);
    // The next window begins with the pace that was told for it.
    let next_ms = minute(NOW_MS).next().start_s() * 1000;
    assert_eq!(admits(&counters, Reach::Cluster, &limits, next_ms + 200, 100), 50);
    let alone = Remote { window: minute(next_ms), ..REMOTE };
    counters.publish(handle, &alone, next_ms);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, next_ms + 200, 100), 50);
}

#[test]
fn a_cap_holds_for_as_long_as_it_is_published() {
    let limits = [limit(Period::Minute, 100.0)];
    let (counters, handle) = opened(Reach::Cluster, &limits);
    let remote = Remote { window: minute(NOW_MS), known: 3, gate: Gate::Capped(10), ..REMOTE };
    counters.publish(handle, &remote, NOW_MS);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS, 100), 9);
    counters.publish(handle, &Remote { gate: Gate::Open, ..remote }, NOW_MS);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS, 100), 87);
}

#[test]
fn windows_of_a_second_begin_blind() {
    let (second, minute) = ([limit(Period::Second, 1_000.0)], [limit(Period::Minute, 1_000.0)]);
    let counters = small(100);
    counters.set_peers(35, 0, 0);
    assert_eq!(admits(&counters, Reach::Cluster, &minute, NOW_MS, 2_000), 1_000);
    assert_eq!(admits(&counters, Reach::Cluster, &second, NOW_MS, 2_000), 28);
    let handle = counters.find(Counters::key(1, Period::Second)).unwrap();
    let window = Window::at(Period::Second, NOW_MS / 1000);
    counters.publish(handle, &Remote { window, burst: 200, ..REMOTE }, NOW_MS);
    assert_eq!(admits(&counters, Reach::Cluster, &second, NOW_MS, 2_000), 972);
    assert_eq!(admits(&counters, Reach::Cluster, &second, NOW_MS + 1_000, 2_000), 200);
    assert_eq!(admits(&counters, Reach::Local, &second, NOW_MS + 2_000, 2_000), 1_000);
}

#[test]
fn a_window_older_than_the_process_is_held_to_a_share() {
    let limits = [limit(Period::Minute, 100.0)];
    let counters = small(100);
    counters.set_peers(10, NOW_MS + 1_000, NOW_MS + 1);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS + 500, 200), 10);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS + 1_000, 200), 90);
    assert_eq!(counters.figures().forecast_refused, 190);
}

#[test]
fn cluster_time_is_what_counts() {
    let limits = [limit(Period::Minute, 10.0)];
    let counters = small(100);
    counters.set_offset_ms(-1_500);
    let verdict = counters.hit(1, Reach::Cluster, &limits, NOW_MS + 1_000);
    assert_eq!(verdict.at_ms, NOW_MS - 500);
    let handle = counters.find(Counters::key(1, Period::Minute)).unwrap();
    assert_eq!(counters.read(handle, NOW_MS).unwrap().window, minute(NOW_MS - 500));
}

/// CLUSTER.md 2, failure 2: the count of a peer, carried over into a window it was not for.
#[test]
fn failure_2_no_slot_is_carried_into_another_window() {
    let limits = [limit(Period::Minute, 100.0)];
    let (counters, handle) = opened(Reach::Cluster, &limits);
    let (this, next_ms) = (minute(NOW_MS), NOW_MS + 60_000);
    counters.publish(handle, &Remote { window: this, known: 90, slope_per_ms: 9.0, ..REMOTE }, NOW_MS);
    let usage = |now_ms| counters.hit(1, Reach::Cluster, &limits, now_ms).usage[0];
    assert_eq!(usage(next_ms), 0);
    // Late news of the window before.
    counters.publish(handle, &Remote { window: this, known: 95, gate: Gate::Capped(0), ..REMOTE }, next_ms);
    assert_eq!(usage(next_ms), 1);
    counters.publish(handle, &Remote { window: this.next(), known: 7, zero_ms: next_ms, ..REMOTE }, next_ms);
    assert_eq!(usage(next_ms), 9);
    assert!(!counters.publish(handle, &Remote { window: this, known: 99, ..REMOTE }, next_ms), "it is over");
    assert!(!counters.publish(handle, &Remote { window: this.next().next(), ..REMOTE }, next_ms), "it has not begun");
    assert_eq!(usage(next_ms), 10);
    // A hit that read its clock before the window ended counts where the counter is.
    assert_eq!(usage(next_ms - 1), 11);
}

/// The same while windows turn and a task publishes: usage never has more than the window's own.
#[test]
fn a_hit_that_comes_late_is_told_the_window_it_counts_in() {
    let limits = [limit(Period::Second, 10.0), limit(Period::Minute, 100.0)];
    let counters = small(100);
    let end_ms = minute(NOW_MS).end_s() * 1000;
    for (now_ms, at_ms, usage) in [(end_ms + 3, end_ms + 3, 0), (end_ms - 2, end_ms, 1), (end_ms + 4, end_ms + 4, 2)] {
        let verdict = counters.hit(1, Reach::Cluster, &limits, now_ms);
        assert_eq!((verdict.at_ms, &verdict.usage[..]), (at_ms, &[usage, usage][..]), "at {now_ms}");
    }
}

#[test]
fn failure_2_no_slot_is_carried_over_while_windows_turn() {
    let limits = [limit(Period::Second, 1e9)];
    let counters = small(100);
    let handle = counters.open(Counters::key(1, Period::Second), Period::Second, 0, NOW_MS).unwrap();
    let clock_ms = AtomicU64::new(NOW_MS);
    std::thread::scope(|scope| {
        let (counters, clock_ms) = (&counters, &clock_ms);
        for _ in 0..3 {
            scope.spawn(move || {
                while let now_ms @ ..=1_796_083_320_000 = clock_ms.load(Relaxed) {
                    let usage = counters.hit(1, Reach::Cluster, &limits, now_ms).usage[0];
                    // Known counts are a million times the window's place, and own counts are few.
                    let later = usage / 1_000_000;
                    assert!(later <= (clock_ms.load(Relaxed) - NOW_MS) / 1_000, "{usage}");
                    assert!(later == 0 || later + 1 >= (now_ms - NOW_MS) / 1_000, "{usage} of an old window");
                }
            });
        }
        for second in 0..=300_u64 {
            let now_ms = NOW_MS + 1_000 * second;
            clock_ms.store(now_ms, Relaxed);
            let window = Window::at(Period::Second, now_ms / 1000);
            let remote = Remote { window, known: 1_000_000 * second, zero_ms: now_ms, ..REMOTE };
            counters.publish(handle, &remote, now_ms);
        }
        clock_ms.store(u64::MAX, Relaxed);
    });
}

/// Ends those that run by this clock, also when the test fails.
struct Stop<'a>(&'a AtomicU64);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(0, Relaxed);
    }
}

/// CLUSTER.md 2, failure 7: a slot that grows and shrinks, which the largest value seen makes permanent.
#[test]
fn failure_7_the_own_slot_only_grows() {
    let limits = [limit(Period::Second, 700.0), limit(Period::Minute, 5_000.0)];
    let counters = small(100);
    let (clock_ms, total) = (AtomicU64::new(NOW_MS), AtomicUsize::new(0));
    let seen_ms: [AtomicU64; 4] = Default::default();
    counters.hit(1, Reach::Cluster, &limits, NOW_MS);
    std::thread::scope(|scope| {
        let (counters, clock_ms, total, seen_ms) = (&counters, &clock_ms, &total, &seen_ms);
        let _stop = Stop(clock_ms);
        for mine in seen_ms {
            scope.spawn(move || {
                while let now_ms @ 1.. = clock_ms.load(Relaxed) {
                    let admitted = counters.hit(1, Reach::Cluster, &limits, now_ms).admitted;
                    total.fetch_add(usize::from(admitted), Relaxed);
                    mine.store(now_ms, Relaxed);
                }
            });
        }
        let mut seen: HashMap<Window, u64> = HashMap::new();
        for step in 1..=200 {
            // Nobody is left more than one window behind.
            let now_ms = clock_ms.load(Relaxed);
            while seen_ms.iter().any(|seen| seen.load(Relaxed) < now_ms) {
                for limit in limits {
                    let handle = counters.find(Counters::key(1, limit.period)).unwrap();
                    let reading = counters.read(handle, NOW_MS).unwrap();
                    let before = seen.insert(reading.window, reading.own).unwrap_or(0);
                    assert!(before <= reading.own && reading.own <= limit.room(), "{before} then {reading:?}");
                    // Histories are written just after the window turned.
                    if let Some((window, count)) = reading.previous
                        && let Some(before) = seen.get(&window)
                    {
                        assert!(*before <= count, "{before} came to {count} in {window:?}");
                    }
                }
            }
            clock_ms.store(NOW_MS + 400 * step, Relaxed);
        }
    });
    assert!(total.load(Relaxed) > 200);
}

/// CLUSTER.md 2, failure 9: seconds taken for milliseconds. A counter of each period counts for its window's length, and
/// is kept for its grace.
#[test]
fn failure_9_windows_of_all_periods_end_and_are_dropped_in_time() {
    for period in Period::ALL {
        for at_ms in [NOW_MS, NOW_MS + 40 * 86_400_000, NOW_MS + 100 * 86_400_000] {
            let (limits, counters) = ([limit(period, 3.0)], small(100));
            let window = Window::at(period, at_ms / 1000);
            let (start_ms, end_ms) = (window.start_s() * 1000, window.end_s() * 1000);
            assert_eq!(admits(&counters, Reach::Cluster, &limits, start_ms, 2), 2);
            assert_eq!(admits(&counters, Reach::Cluster, &limits, end_ms - 1, 9), 1, "{period:?}");
            let mut cursor = Cursor::default();
            let grace_ms = 1000 * period.length_s().clamp(10, 60);
            counters.expire(&mut cursor, end_ms + grace_ms - 1, 100);
            let handle = counters.find(Counters::key(1, period)).unwrap();
            assert_eq!(counters.read(handle, end_ms).unwrap().window, window);
            assert_eq!(admits(&counters, Reach::Cluster, &limits, end_ms, 9), 3, "{period:?}");
            assert_eq!(counters.read(handle, end_ms).unwrap().previous, Some((window, 3)));
            let end_ms = window.next().end_s() * 1000;
            counters.expire(&mut cursor, end_ms + grace_ms - 1, 100);
            assert_eq!(counters.figures().lines, 1);
            counters.expire(&mut cursor, end_ms + grace_ms, 100);
            assert_eq!(counters.figures().lines, 0, "{period:?}");
        }
    }
}

#[test]
fn a_round_over_no_counters_ends() {
    let (counters, mut cursor) = (small(1 << 20), Cursor::default());
    for _ in 0..3 {
        counters.expire(&mut cursor, NOW_MS, usize::MAX);
    }
    assert_eq!(counters.figures().lines, 0);
}

/// CLUSTER.md 2, failure 10: more identifiers than there are counters. The bench has the same with ten million.
#[test]
fn failure_10_a_flood_does_not_free_who_is_at_half_the_limit() {
    let counters = small(64 << 10);
    let limits = [limit(Period::Hour, 10.0)];
    let subject = |number: u64, of: Uuid| counters.subject(Uuid::nil(), of, &number.to_le_bytes());
    let half: Vec<u64> = (0..200).map(|number| subject(number, Uuid::nil())).collect();
    for &subject in &half {
        assert_eq!(admitted(&counters, subject, &limits, NOW_S, 5), 5);
    }
    for number in 0..400_000 {
        assert!(counters.hit(subject(number, Uuid::max()), Reach::Local, &limits, NOW_S * 1000).admitted);
    }
    let figures = counters.figures();
    assert!(figures.lines <= figures.capacity && figures.capacity == 64 << 10, "{figures:?}");
    assert!(figures.evicted > 300_000 && figures.sketched == 0, "{figures:?}");
    for &subject in &half {
        assert_eq!(admitted(&counters, subject, &limits, NOW_S, 20), 5);
    }
}

#[test]
fn failure_10_when_all_counters_are_wanted_the_limit_still_bites() {
    let counters = small(1_000);
    let limits = [limit(Period::Hour, 2.0)];
    for subject in 0..1_000 {
        assert_eq!(admitted(&counters, subject, &limits, NOW_S, 1), 1);
    }
    for subject in 1_000..3_000 {
        assert_eq!(admitted(&counters, subject, &limits, NOW_S, 5), 2);
    }
    assert_eq!(counters.figures().sketched, 10_000);
    for subject in 0..1_000 {
        assert_eq!(admitted(&counters, subject, &limits, NOW_S, 5), 1);
    }
    // An hour and a minute later they are gone, up to four for each that comes.
    assert_eq!(admitted(&counters, 9_000, &limits, NOW_S + 3_661, 5), 2);
    assert_eq!((counters.figures().lines, counters.figures().sketched), (997, 10_000));
}

/// CLUSTER.md 2, failure 11: two subjects in one counter, made to meet. Without the key nobody can make any.
#[test]
fn failure_11_subjects_are_hashed_with_the_clusters_key() {
    let with = |key: u8| Counters::new(Options { capacity: 100, key: [key; 16] });
    let (one, same, other) = (with(1), with(1), with(2));
    let subject = |counters: &Counters| counters.subject(Uuid::nil(), Uuid::max(), b"somebody");
    assert_eq!(subject(&one), subject(&same));
    assert_ne!(subject(&one), subject(&other));
    let mut keys: Vec<u64> =
        (0..1_000).flat_map(|subject| Period::ALL.map(|period| Counters::key(subject, period))).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 6_000);
}

#[test]
fn a_clock_set_back_starts_the_window_anew() {
    let limits = [limit(Period::Minute, 3.0)];
    for (reach, expected) in [(Reach::Local, 3), (Reach::Cluster, 3)] {
        let counters = small(100);
        assert_eq!(admits(&counters, reach, &limits, NOW_MS, 9), 3);
        assert_eq!(admits(&counters, reach, &limits, NOW_MS - 60_000, 9), 0, "one window back is the same one");
        assert_eq!(admits(&counters, reach, &limits, NOW_MS - 600_000, 9), expected);
        assert_eq!(admits(&counters, reach, &limits, NOW_MS, 9), expected);
        assert_eq!(counters.figures().lines, 1);
    }
}

#[test]
fn changed_counters_are_listed_once_and_told_to_a_sleeper() {
    let limits = [limit(Period::Minute, 3.0)];
    let counters = small(100);
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    counters.on_rouse(Arc::new(move || {
        count.fetch_add(1, Relaxed);
    }));
    let drained = |max| {
        let mut handles = Vec::new();
        let lost = counters.drain(&mut handles, max).lost;
        (handles.len(), lost)
    };
    assert!(counters.doze());
    for subject in [1, 1, 2, 2, 3, 1] {
        counters.hit(subject, Reach::Cluster, &limits, NOW_MS);
        counters.hit(subject + 10, Reach::Local, &limits, NOW_MS);
    }
    assert_eq!(calls.load(Relaxed), 1);
    assert!(!counters.doze());
    assert_eq!([drained(2), drained(9), drained(9)], [(2, false), (1, false), (0, false)]);
    assert_eq!(admits(&counters, Reach::Cluster, &limits, NOW_MS, 9), 0);
    assert_eq!(drained(9), (1, false), "refusals are told too");
    for subject in 1_000..1_300 {
        counters.hit(subject, Reach::Cluster, &limits, NOW_MS);
    }
    assert!(drained(999).1, "the list is shorter than this");
    let (mut cursor, mut seen) = (Cursor::default(), 0);
    loop {
        let part = counters.scan(&mut cursor, 7).count();
        assert!(part <= 7);
        seen += part;
        if part == 0 {
            break;
        }
    }
    assert_eq!(seen as u64, counters.figures().lines);
    // What was lost and seen by the scan is listed when it is hit again.
    for subject in 1_290..1_300 {
        counters.hit(subject, Reach::Cluster, &limits, NOW_MS);
    }
    assert_eq!(drained(999), (10, false));
}

#[test]
fn names_are_asked_for_once_and_few_are_kept() {
    let counters = Counters::default();
    let limits = [limit(Period::Minute, 50.0)];
    let name = |number: u64| Name { limit_by: "ip", identifier: number.to_string(), route: None, service: None };
    let unnamed = |subject| counters.hit(subject, Reach::Cluster, &limits, NOW_MS).unnamed;
    assert_eq!((0..6).map(|_| unnamed(1)).collect::<Vec<_>>(), [false, false, false, false, true, true]);
    counters.name(1, &limits, || name(1));
    assert!(!unnamed(1));
    assert_eq!(counters.name_of(Counters::key(1, Period::Minute)), Some(name(1)));
    assert_eq!(counters.name_of(Counters::key(1, Period::Hour)), None);
    for subject in 2..6_000 {
        counters.hit(subject, Reach::Cluster, &limits, NOW_MS);
        counters.name(subject, &limits, || name(subject));
    }
    assert_eq!(counters.figures().names, 4_096);
    counters.expire(&mut Cursor::default(), NOW_MS + 300_000, 1 << 20);
    assert_eq!((counters.figures().names, counters.figures().lines), (0, 0));
}

/// Few lines, many keys, all at once: a line that changes hands is counted in for the key that was meant, or not at all.
#[test]
fn lines_that_change_hands_take_no_count_along() {
    let counters = small(40);
    let limits = [limit(Period::Hour, 1e6)];
    let counted: Vec<_> = (0..400).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (counters, counted) = (&counters, &counted);
            scope.spawn(move || {
                let mut random = thread + 1;
                for _ in 0..20_000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let subject = random >> 33;
                    // Half of the hits go to a tenth of the keys.
                    let subject = if subject % 2 == 0 { subject % 40 } else { subject % 400 };
                    counted[subject as usize].fetch_add(1, Relaxed);
                    assert!(counters.hit(subject, Reach::Cluster, &limits, NOW_MS).admitted);
                }
            });
        }
    });
    let figures = counters.figures();
    assert!(figures.evicted > 1_000 && figures.lines == 40, "{figures:?}");
    let mut found = 0;
    for subject in 0..400 {
        let Some(handle) = counters.find(Counters::key(subject, Period::Hour)) else { continue };
        let own = counters.read(handle, NOW_MS).unwrap().own;
        assert!(own <= counted[subject as usize].load(Relaxed) as u64, "{subject}: {own}");
        found += 1;
    }
    assert_eq!(found, 40);
}

proptest! {
    /// CLUSTER.md's oracle: nodes that hear of each other now and then. Each tells what is the merge of what it had heard
    /// and its own; slots come from the counters, so nothing that they lost or counted twice could agree.
    #[test]
    fn merged_values_are_those_of_a_grow_only_counter(
        steps in prop::collection::vec((0..3_usize, 0..3_usize, 1..8_u64), 1..60),
    ) {
        let limits = [limit(Period::Minute, 1e6)];
        let (key, window) = (Counters::key(1, Period::Minute), minute(NOW_MS));
        let nodes: Vec<Counters> = (0..3).map(|_| small(10)).collect();
        let handles: Vec<Handle> =
            nodes.iter().map(|node| node.open(key, Period::Minute, 0, NOW_MS).unwrap()).collect();
        let mut oracles: Vec<GCounter<usize>> = vec![GCounter::new(); 3];
        for (from, to, hits) in steps {
            for _ in 0..hits {
                prop_assert!(nodes[from].hit(1, Reach::Cluster, &limits, NOW_MS).admitted);
                let op = oracles[from].inc(from);
                oracles[from].apply(op);
            }
            let heard = oracles[from].clone();
            oracles[to].merge(heard);
            let all: u64 = oracles[to].read().try_into().unwrap();
            let own = nodes[to].read(handles[to], NOW_MS).unwrap().own;
            nodes[to].publish(handles[to], &Remote { window, known: all - own, ..REMOTE }, NOW_MS);
            for (node, oracle) in nodes.iter().zip(&mut oracles) {
                let expected: u64 = oracle.read().try_into().unwrap();
                let actor = nodes.iter().position(|other| std::ptr::eq(other, node)).unwrap();
                prop_assert_eq!(node.hit(1, Reach::Cluster, &limits, NOW_MS).usage[0], expected);
                let op = oracle.inc(actor);
                oracle.apply(op);
            }
        }
    }

    /// All together: the words say what plain maps say.
    #[test]
    fn plain_maps_agree(steps in prop::collection::vec(step(), 1..120)) {
        let (counters, mut plain) = (small(1_000), Plain { nodes: 1, ..Plain::default() });
        let (mut now_ms, mut cursor) = (NOW_MS, Cursor::default());
        for step in steps {
            match step {
                Step::Clock(by_ms) => now_ms = now_ms.saturating_add_signed(by_ms),
                Step::Hit(subject, reach, periods, room) => {
                    let limits: Vec<Limit> = (0..6)
                        .filter(|at| periods >> at & 1 == 1)
                        .map(|at| limit(Period::ALL[at], room))
                        .collect();
                    let verdict = counters.hit(subject, reach, &limits, now_ms);
                    let (admitted, usage) = plain.hit(subject, reach, &limits, now_ms);
                    prop_assert_eq!((verdict.admitted, &verdict.usage[..]), (admitted, &usage[..]));
                    // A counter that has its name is decided by the short way.
                    if verdict.unnamed {
                        counters.name(subject, &limits, || NAME);
                    }
                }
                Step::Open(key, period) => {
                    plain.open(key, period, 5, now_ms);
                    counters.open(key, period, 5, now_ms);
                }
                Step::Publish(key, period, windows, mut remote) => {
                    let window = Window::at(period, now_ms / 1000);
                    remote.window = Window { number: window.number.saturating_add_signed(windows), ..window };
                    remote.zero_ms = now_ms + 100;
                    let done = counters.find(key).is_some_and(|handle| counters.publish(handle, &remote, now_ms));
                    prop_assert_eq!(done, plain.publish(key, &remote, now_ms));
                }
                Step::Peers(nodes, guard_ms) => {
                    let until_ms = now_ms + guard_ms;
                    counters.set_peers(nodes, until_ms, now_ms);
                    (plain.nodes, plain.guard_until_ms, plain.boot_ms) = (nodes, until_ms, now_ms);
                }
            }
            counters.expire(&mut cursor, now_ms, 1_000);
            plain.expire(now_ms);
            prop_assert_eq!(counters.figures().lines as usize, plain.counters.len());
            for key in plain.counters.keys() {
                let reading = counters.find(*key).and_then(|handle| counters.read(handle, now_ms));
                prop_assert_eq!(reading, plain.read(*key, now_ms));
            }
        }
    }

    /// What is told never falls within a window, whatever is published and however the clock moves on.
    #[test]
    fn usage_told_never_falls_within_a_window(
        steps in prop::collection::vec((0..3_u8, 0..30_000_u64, remote()), 1..80),
    ) {
        let limits = [limit(Period::Minute, 20.0)];
        let (counters, handle) = opened(Reach::Cluster, &limits);
        let (mut now_ms, mut told) = (NOW_MS, (minute(NOW_MS), 1));
        for (what, step_ms, mut remote) in steps {
            match what {
                0 => now_ms += step_ms,
                1 => {
                    (remote.window, remote.zero_ms) = (minute(now_ms), now_ms);
                    counters.publish(handle, &remote, now_ms);
                }
                _ => {
                    let usage = counters.hit(1, Reach::Cluster, &limits, now_ms).usage[0];
                    prop_assert!(told.0 != minute(now_ms) || told.1 <= usage, "{:?} then {}", told, usage);
                    told = (minute(now_ms), usage);
                }
            }
        }
    }
}

const NAME: Name = Name { limit_by: "ip", identifier: String::new(), route: None, service: None };

#[derive(Clone, Debug)]
enum Step {
    Clock(i64),
    Hit(u64, Reach, u8, f64),
    Open(u64, Period),
    Publish(u64, Period, i32, Remote),
    Peers(u32, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let period = prop_oneof![4 => Just(Period::Second), 4 => Just(Period::Minute), 1 => Just(Period::Month)];
    let keyed = (0..2_u64, period).prop_map(|(subject, period)| (Counters::key(subject, period), period));
    let reach = prop_oneof![1 => Just(Reach::Local), 6 => Just(Reach::Cluster)];
    let periods = prop_oneof![Just(1_u8), Just(2), Just(3), Just(18), Just(63)];
    let room = prop_oneof![6 => Just(12.0), 1 => Just(5.5), 1 => Just(40.0), 1 => Just(0.0)];
    let windows = prop_oneof![12 => Just(0), 2 => Just(-1), 1 => Just(1), 1 => Just(-3)];
    let clock = prop_oneof![6 => 0..900_i64, 2 => 0..70_000_i64, 1 => -2_500..0_i64, 1 => -200_000..400_000_i64];
    prop_oneof![
        4 => clock.prop_map(Step::Clock),
        12 => (0..2_u64, reach, periods, room).prop_map(|(a, b, c, d)| Step::Hit(a, b, c, d)),
        1 => keyed.clone().prop_map(|(key, period)| Step::Open(key, period)),
        5 => (keyed, windows, remote()).prop_map(|((a, b), c, d)| Step::Publish(a, b, c, d)),
        1 => (1..40_u32, 0..2_000_u64).prop_map(|(nodes, guard_ms)| Step::Peers(nodes, guard_ms)),
    ]
}

/// For now and no window yet.
fn remote() -> impl Strategy<Value = Remote> {
    let gate = prop_oneof![
        4 => Just(Gate::Open),
        1 => (0..12_u64).prop_map(Gate::Capped),
        1 => (0..12_u64).prop_map(Gate::Fill),
    ];
    let pace = prop_oneof![2 => Just(0.0_f32), 1 => Just(0.01), 1 => Just(0.5)];
    (0..14_u64, pace.clone(), pace, gate, 0..14_u64).prop_map(|(known, slope_per_ms, resume_per_ms, gate, burst)| {
        Remote { known, slope_per_ms, resume_per_ms, gate, burst, ..REMOTE }
    })
}
