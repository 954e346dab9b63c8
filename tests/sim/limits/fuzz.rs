//! Failure 3: whatever peers say, in whatever order, nothing stops and nothing grows without bound.

use std::sync::Arc;

use proptest::prelude::*;
use tidegate::cluster::core::tally::{Input, Me, Options, Partition, Tally};
use tidegate::counter::{Counters, Limit, Options as CounterOptions, Period, Reach};
use tidegate_proto::frame::{COUNT_MAX, Counts, Group, PERIODS, Slot};

use crate::limits::process::START_MS;

const CAPACITY: usize = 256;
/// Frames that one poll may give out.
const OUTPUTS_MAX: usize = 4_096;
const LIMIT: f64 = 100.0;
const SUBJECTS: u64 = 8;

fn integer() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(u64::MAX), 0..1_000u64, any::<u64>()]
}

/// Keys that are counted here, keys that are not, and keys of all kinds.
fn key() -> impl Strategy<Value = u64> {
    let ours = (0..SUBJECTS, 0..PERIODS)
        .prop_map(|(subject, period)| Counters::key(subject, Period::ALL[usize::from(period)]));
    prop_oneof![4 => ours, 1 => integer()]
}

fn slot() -> impl Strategy<Value = Slot> {
    (key(), prop_oneof![0..200u64, 0..=COUNT_MAX], any::<u16>(), any::<bool>())
        .prop_map(|(key, count, demand, stopped)| Slot { key, count, demand, stopped })
}

/// Windows that run, that ended, that have not begun, and that never will.
fn window() -> impl Strategy<Value = u32> {
    let seconds = (START_MS / 1_000) as u32;
    prop_oneof![
        seconds - 3..seconds + 20,
        seconds / 60 - 3..seconds / 60 + 4,
        seconds / 3_600 - 1..seconds / 3_600 + 2,
        Just(0),
        Just(u32::MAX),
        any::<u32>(),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["peer-[0-4]", Just("me".to_owned()), "[a-z]{0,12}"]
}

fn counts() -> impl Strategy<Value = Counts> {
    let source = proptest::option::of((name(), integer()));
    let group = (source, any::<u8>(), window(), integer(), proptest::collection::vec(slot(), 1..12)).prop_map(
        |(source, period, window, room, slots)| Group { source, period: period % PERIODS, window, room, slots },
    );
    let time = prop_oneof![START_MS - 5_000..START_MS + 20_000, integer()];
    (time, any::<u8>(), proptest::collection::vec(group, 0..6)).prop_map(|(time_ms, complete, groups)| Counts {
        time_ms,
        complete,
        groups,
    })
}

#[derive(Clone, Debug)]
enum Step {
    Input(Input),
    /// Later by so many ms, or earlier.
    Time(i64),
    Hit(u64, u8),
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    let input = prop_oneof![
        4 => (name(), counts()).prop_map(|(peer, counts)| Input::Counts { peer, counts }),
        2 => (name(), integer()).prop_map(|(peer, incarnation)| Input::Connected { peer, incarnation }),
        1 => name().prop_map(|peer| Input::Disconnected { peer }),
        1 => name().prop_map(|peer| Input::Gone { peer }),
        // Measured here and not said.
        1 => (name(), 0..100_000u64).prop_map(|(peer, rtt_ms)| Input::Rtt { peer, rtt_ms }),
        1 => name().prop_map(|peer| Input::CountsPull { peer }),
        1 => name().prop_map(|peer| Input::Congested { peer }),
        1 => Just(Input::Drain),
    ];
    prop_oneof![
        6 => input.prop_map(Step::Input),
        3 => prop_oneof![0..50i64, -3_000..3_000i64, Just(86_400_000), Just(i64::from(i32::MAX))].prop_map(Step::Time),
        4 => (0..SUBJECTS, 0..PERIODS).prop_map(|(subject, period)| Step::Hit(subject, period)),
        3 => Just(Step::Poll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn failure_03_nothing_a_peer_says_panics(steps in proptest::collection::vec(step(), 1..120)) {
        let counters = Arc::new(Counters::new(CounterOptions { capacity: CAPACITY, key: [7; 16] }));
        let me = Me { node_id: "me".to_owned(), incarnation: 3 };
        let options = Options { budget_per_s: 100_000, partition: Partition::Share };
        let mut now_ms = START_MS;
        let mut tally = Tally::new(me, counters.clone(), options, now_ms);
        for step in steps {
            match step {
                Step::Input(input) => tally.on(input, now_ms),
                Step::Time(ms) => now_ms = now_ms.saturating_add_signed(ms),
                Step::Hit(subject, period) => {
                    let limit = Limit { period: Period::ALL[usize::from(period)], limit: LIMIT };
                    let verdict = counters.hit(subject, Reach::Cluster, &[limit], now_ms);
                    prop_assert_eq!(verdict.usage.len(), 1);
                }
                Step::Poll => {
                    let outputs = tally.poll(now_ms);
                    prop_assert!(outputs.len() <= OUTPUTS_MAX);
                }
            }
            prop_assert!(tally.wake_ms() > 0);
        }
        prop_assert!(counters.figures().lines <= CAPACITY as u64);
        prop_assert!(tally.hottest(16, now_ms).len() <= 16);
        // The node still counts, in a window that nobody could have said anything about.
        let later_ms = now_ms.saturating_add(7_200_000);
        let limit = Limit { period: Period::Second, limit: LIMIT };
        prop_assert!(counters.hit(99, Reach::Cluster, &[limit], later_ms).admitted);
    }
}
