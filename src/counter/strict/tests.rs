use super::*;
use crate::counter::Counters;
use crate::counter::Options;
use crate::counter::Reach;

const NOW_S: u64 = 1_795_519_380;
const MINUTE: Period = Period::Minute;

fn counters(shares: &[(u64, Share)], until_s: u64) -> Counters {
    let counters = Counters::new(Options { capacity: 4_096, key: [7; 16] });
    counters.strict().set_terms(&Terms { shares: shares.to_vec(), until_s });
    counters
}

fn half() -> Share {
    Share::new(0, share::CYCLE / 2)
}

fn hits(counters: &Counters, room: u64, now_s: u64, times: usize) -> usize {
    let limits = [Limit { period: MINUTE, limit: room as f64 }];
    (0..times).filter(|_| counters.hit(5, Reach::Strict, &limits, now_s * 1000).admitted).count()
}

fn key() -> u64 {
    Counters::key(5, MINUTE)
}

fn window(now_s: u64) -> Window {
    Window::at(MINUTE, now_s)
}

#[test]
fn without_terms_nothing_is_admitted() {
    let counters = Counters::default();
    assert_eq!(hits(&counters, 100, NOW_S, 10), 0);
    assert!(counters.strict().was_wanted() && !counters.strict().was_wanted());
    assert_eq!(counters.strict().held(key(), window(NOW_S)), None);
}

#[test]
fn a_node_spends_its_base_and_what_it_received_and_not_what_it_gave() {
    let counters = counters(&[(0, half())], u64::MAX);
    assert_eq!(hits(&counters, 100, NOW_S, 30), 30);
    let strict = counters.strict();
    assert_eq!(strict.give(key(), window(NOW_S), 100, 5, 0), Some(Given { given: 5, spare: 15 }));
    assert_eq!(strict.give(key(), window(NOW_S), 100, 50, 1_000), Some(Given { given: 7, spare: 8 }));
    assert_eq!(strict.give(key(), window(NOW_S), 100, 50, 2), Some(Given { given: 6, spare: 2 }));
    assert!(strict.grant(key(), window(NOW_S), 10));
    assert_eq!(hits(&counters, 100, NOW_S, 100), 12);
    assert_eq!(strict.give(key(), window(NOW_S), 100, 50, 0), Some(Given { given: 0, spare: 0 }));
    assert!(!strict.grant(key(), window(NOW_S + 60), 10), "a window that is not open");
}

#[test]
fn a_window_keeps_its_limit_and_a_lower_one_holds_here_at_once() {
    let counters = counters(&[(0, Share::WHOLE)], u64::MAX);
    assert_eq!(hits(&counters, 10, NOW_S, 4), 4);
    assert_eq!(hits(&counters, 1_000, NOW_S, 100), 6);
    assert_eq!(hits(&counters, 100, NOW_S + 60, 20), 20);
    assert_eq!(hits(&counters, 30, NOW_S + 60, 100), 10);
    assert_eq!(counters.strict().give(key(), window(NOW_S + 60), 5, 1_000, 0), Some(Given { given: 70, spare: 0 }));
}

#[test]
fn shares_go_by_the_start_of_a_window() {
    let counters = counters(&[(NOW_S + 60, half()), (NOW_S + 120, Share::WHOLE)], NOW_S + 180);
    let admitted: Vec<usize> = (0..4).map(|minute| hits(&counters, 100, NOW_S + 60 * minute, 200)).collect();
    assert_eq!(admitted, [0, 50, 100, 0]);
    counters.strict().set_terms(&Terms { shares: vec![(NOW_S + 180, half())], until_s: NOW_S + 240 });
    assert_eq!(hits(&counters, 100, NOW_S + 180, 200), 50);
}

/// CLUSTER.md 2, failure 8: the clock goes back.
#[test]
fn a_window_that_was_forgotten_is_not_opened_again() {
    let counters = counters(&[(0, Share::WHOLE)], u64::MAX);
    assert_eq!(hits(&counters, 10, NOW_S + 60, 7), 7);
    assert_eq!(hits(&counters, 10, NOW_S, 3), 3, "clocks of peers may be ahead");
    assert_eq!(hits(&counters, 10, NOW_S + 60, 7), 3);
    assert_eq!(hits(&counters, 10, NOW_S, 100), 7);
    assert_eq!(hits(&counters, 10, NOW_S + 120, 1), 1);
    assert_eq!(hits(&counters, 10, NOW_S, 100), 0);
    counters.strict().expire((NOW_S + 190) * 1000);
    assert_eq!(counters.strict().figures().lines, 0);
    assert_eq!(hits(&counters, 10, NOW_S + 120, 100), 0, "freed, and refused");
    assert_eq!(hits(&counters, 10, NOW_S + 180, 100), 10);
}

#[test]
fn periods_are_decided_together() {
    let counters = counters(&[(0, Share::WHOLE)], u64::MAX);
    let limits = [Limit { period: MINUTE, limit: 5.0 }, Limit { period: Period::Hour, limit: 3.0 }];
    let verdicts: Vec<Verdict> = (0..5).map(|_| counters.hit(5, Reach::Strict, &limits, NOW_S * 1000)).collect();
    let told: Vec<(bool, [u64; 2])> =
        verdicts.iter().map(|verdict| (verdict.admitted, [verdict.usage[0], verdict.usage[1]])).collect();
    let expected = [(true, [0, 0]), (true, [1, 1]), (true, [2, 2]), (false, [3, 3]), (false, [3, 3])];
    assert_eq!(told, expected);
}

#[test]
fn what_was_told_never_falls() {
    let counters = counters(&[(0, half())], u64::MAX);
    let limits = [Limit { period: MINUTE, limit: 10.0 }];
    let usage = || counters.hit(5, Reach::Strict, &limits, NOW_S * 1000).usage[0];
    let mut told: Vec<u64> = (0..6).map(|_| usage()).collect();
    counters.strict().grant(key(), window(NOW_S), 2);
    told.extend((0..3).map(|_| usage()));
    assert_eq!(told, [0, 1, 2, 3, 4, 10, 10, 10, 10]);
}

#[test]
fn memory_is_bounded_and_what_does_not_fit_is_refused() {
    let counters = counters(&[(0, Share::WHOLE)], u64::MAX);
    let limits = [Limit { period: MINUTE, limit: 10.0 }];
    let mut admitted = 0;
    for number in 0_u64..20_000 {
        let subject = counters.subject(uuid::Uuid::nil(), uuid::Uuid::nil(), &number.to_le_bytes());
        admitted += u64::from(counters.hit(subject, Reach::Strict, &limits, NOW_S * 1000).admitted);
    }
    let figures = counters.strict().figures();
    assert_eq!((admitted, figures.crowded), (1_024, 20_000 - 1_024));
    assert_eq!((figures.lines, figures.admitted), (1_024, 1_024));
}

#[test]
fn changes_are_listed_once_and_wake_who_sleeps() {
    let counters = counters(&[(0, Share::WHOLE)], u64::MAX);
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    counters.on_rouse(Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    assert!(counters.doze());
    hits(&counters, 10, NOW_S, 20);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(!counters.doze());
    let mut keys = Vec::new();
    assert!(counters.strict().changed(&mut keys, 0) || counters.strict().changed(&mut keys, 10));
    assert_eq!(keys, [(key(), MINUTE)]);
    assert!(counters.doze());
    hits(&counters, 10, NOW_S, 1);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

/// Exactly the limit, however many workers there are and whatever is given meanwhile.
#[test]
fn parallel_hits_and_gifts_spend_each_right_once() {
    let counters = counters(&[(0, Share::WHOLE)], u64::MAX);
    let (admitted, given) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| admitted.fetch_add(hits(&counters, 5_000, NOW_S, 1_000) as u64, Ordering::Relaxed));
            scope.spawn(|| {
                for _ in 0..100 {
                    let gift = counters.strict().give(key(), window(NOW_S), 5_000, 3, 10_000).unwrap();
                    given.fetch_add(gift.given, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(admitted.load(Ordering::Relaxed) + given.load(Ordering::Relaxed), 5_000);
}
