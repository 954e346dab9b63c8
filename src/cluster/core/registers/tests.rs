#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

const NOON: u64 = 1_764_000_000_000;
const DAY: u64 = 24 * 3_600_000;

/// (kind, id, time, origin, whether it is there): a write of a made-up history. The text follows from the stamp, as a
/// writer uses each stamp once.
type Write = (u8, u8, u64, u8, bool);

fn span(writes: &[(&str, u8, u64, bool)], origin: &str) -> Span {
    let changes = writes.iter().map(|(kind, id, time, there)| Changed {
        kind: (*kind).to_owned(),
        id: [*id; 16],
        time: *time,
        text: there.then(|| format!("{time}")),
    });
    Span { epoch: 1, origin: origin.to_owned(), after: 0, upto: 1, changes: changes.collect() }
}

fn write(registers: &mut Registers, (kind, id, time, origin, there): Write) -> bool {
    let there = there ^ (time % 2 == 0);
    registers.set(&format!("k{kind}"), &[id; 16], (1, time, &format!("n{origin}")), held(there))
}

fn all(registers: &Registers) -> Vec<Entry<'_>> {
    registers.after(None).collect()
}

fn whole(registers: &Registers) -> Vec<WholeRecord> {
    let record = |entry: Entry<'_>| WholeRecord {
        kind: entry.kind.to_owned(),
        id: *entry.id,
        time: entry.time,
        origin: entry.origin.to_owned(),
        text: (entry.held == Held::Here).then(String::new),
    };
    registers.after(None).map(record).collect()
}

fn vector(counts: &[(&str, u64)]) -> Vector {
    Vector { epoch: 1, counts: counts.iter().map(|(origin, count)| ((*origin).to_owned(), *count)).collect() }
}

/// Takes the whole of `from` in.
fn take(into: &mut Registers, mine: &Vector, from: &Registers, theirs: &Vector) {
    let records = whole(from);
    let adoption = into.compare((mine, theirs), &records, NOON);
    into.adopt(1, &adoption);
}

#[test]
fn the_later_write_wins_and_the_origin_breaks_ties() {
    let mut registers = Registers::default();
    assert_eq!(registers.merge(&span(&[("routes", 1, 5, true)], "a")), 1);
    assert_eq!(registers.merge(&span(&[("routes", 1, 4, false)], "b")), 0);
    assert_eq!(registers.merge(&span(&[("routes", 1, 5, false)], "b")), 1);
    assert_eq!(registers.merge(&span(&[("routes", 1, 5, true)], "a")), 0);
    let stamp = registers.stamp_of("routes", &[1; 16]).unwrap();
    assert_eq!((stamp.time, stamp.origin.as_str(), registers.tombstones()), (5, "b", 1));
}

#[test]
fn winners_name_each_entity_once_and_change_nothing() {
    let mut registers = Registers::default();
    registers.merge(&span(&[("routes", 2, 9, true)], "a"));
    let later = span(&[("routes", 1, 5, true), ("routes", 2, 8, true), ("routes", 1, 6, false)], "b");
    let winners = registers.winners(&later);
    assert_eq!(winners, [&later.changes[2]]);
    assert_eq!(registers.len(), 1);
    registers.merge(&later);
    assert_eq!(registers.winners(&later), Vec::<&Changed>::new());
}

#[test]
fn iteration_resumes_after_a_place() {
    let mut registers = Registers::default();
    let writes = [("services", 1, 1, true), ("routes", 2, 2, false), ("routes", 1, 3, true), ("tags", 0, 4, true)];
    registers.merge(&span(&writes, "a"));
    let names = |place| registers.after(place).map(|entry| (entry.kind, entry.id[0])).collect::<Vec<_>>();
    assert_eq!(names(None), [("routes", 1), ("routes", 2), ("services", 1), ("tags", 0)]);
    assert_eq!(names(Some(("routes", &[1; 16]))), [("routes", 2), ("services", 1), ("tags", 0)]);
    assert_eq!(names(Some(("routes", &[9; 16]))), [("services", 1), ("tags", 0)]);
    assert_eq!(names(Some(("sand", &[9; 16]))), [("services", 1), ("tags", 0)]);
    assert_eq!(names(Some(("zebra", &[0; 16]))), []);
}

#[test]
fn tombstones_go_when_they_are_old() {
    let mut registers = Registers::default();
    let (old, young) = (time_of(NOON - 8 * DAY), time_of(NOON - 6 * DAY));
    registers.merge(&span(&[("routes", 1, old, false), ("routes", 2, young, false), ("routes", 3, old, true)], "a"));
    assert_eq!(registers.forget(NOON), [("routes".to_owned(), [1; 16])]);
    assert_eq!((registers.len(), registers.tombstones()), (2, 1));
    assert_eq!(registers.forget(NOON), []);
}

/// A node was away for longer than tombstones live, with an entity of `origin` that the others have buried since.
fn returns_from_the_dead(origin: &str, away: &Vector, home: &Vector) {
    let mut zombie = Registers::default();
    zombie.merge(&span(&[("routes", 1, time_of(NOON - 20 * DAY), true)], origin));
    let mut registers = zombie.clone();
    registers.merge(&span(&[("routes", 1, time_of(NOON - 10 * DAY), false)], "n2"));
    registers.forget(NOON);

    let mut there = registers.clone();
    take(&mut there, home, &zombie, away);
    assert_eq!(all(&there), [], "the dead stay dead where they are known");
    take(&mut zombie, away, &registers, home);
    assert_eq!(all(&zombie), [], "and the one that returns learns of it");
}

#[test]
fn a_node_away_for_longer_than_tombstones_live_resurrects_nothing() {
    returns_from_the_dead("n1", &vector(&[("n1", 3)]), &vector(&[("n1", 3), ("n2", 1)]));
    returns_from_the_dead("z", &vector(&[("z", 3)]), &vector(&[("z", 3), ("n2", 1)]));
    returns_from_the_dead("z", &vector(&[("z", 4)]), &vector(&[("z", 3), ("n2", 1)]));
}

#[test]
fn a_fresh_node_takes_old_entities_and_keeps_its_own() {
    let mut old = Registers::default();
    old.merge(&span(&[("routes", 1, time_of(NOON - 400 * DAY), true)], "n1"));
    let mut fresh = Registers::default();
    fresh.merge(&span(&[("routes", 2, time_of(NOON), true)], "n9"));
    take(&mut fresh, &vector(&[("n9", 1)]), &old, &vector(&[("n1", 1)]));
    assert_eq!(fresh.len(), 2);
}

#[test]
fn a_hundred_thousand_registers_stay_lean() {
    assert!(size_of::<Register>() + 16 <= 72, "{}", size_of::<Register>());
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    proptest::collection::vec((0..3u8, 0..4u8, 0..40u64, 0..3u8, Just(true)), 0..40)
}

/// The greatest stamp of each entity, by the book.
fn oracle(writes: &[Write]) -> BTreeMap<(String, [u8; 16]), (u64, String)> {
    let mut state = BTreeMap::new();
    for (kind, id, time, origin, _) in writes {
        let slot = state.entry((format!("k{kind}"), [*id; 16])).or_insert((0, String::new()));
        *slot = (*slot).clone().max((*time, format!("n{origin}")));
    }
    state
}

fn built(writes: &[Write]) -> Registers {
    let mut registers = Registers::default();
    for one in writes {
        write(&mut registers, *one);
    }
    registers
}

proptest! {
    #[test]
    fn any_order_and_any_repeats_lead_to_the_oracle(
        (straight, shuffled) in writes().prop_flat_map(|writes| (Just(writes.clone()), Just(writes).prop_shuffle())),
        again in 0..40usize,
    ) {
        let mut other = built(&shuffled);
        for one in shuffled.iter().take(again) {
            prop_assert!(!write(&mut other, *one), "a repeat changes nothing");
        }
        let one = built(&straight);
        prop_assert_eq!(all(&one), all(&other));
        let stamps: BTreeMap<_, _> = all(&one)
            .iter()
            .map(|entry| ((entry.kind.to_owned(), *entry.id), (entry.time, entry.origin.to_owned())))
            .collect();
        prop_assert_eq!(stamps, oracle(&straight));
        prop_assert_eq!(one.len(), all(&one).len());
        prop_assert_eq!(one.tombstones(), one.gone().count());
    }

    #[test]
    fn wholes_merge_in_any_grouping(a in writes(), b in writes(), c in writes()) {
        // Three writers that know nothing of each other.
        let named = |writes: &[Write], origin: u8| -> Registers {
            built(&writes.iter().map(|(kind, id, time, _, there)| (*kind, *id, *time, origin, *there)).collect::<Vec<_>>())
        };
        let (a, b, c) = (named(&a, 0), named(&b, 1), named(&c, 2));
        let (va, vb, vc) = (vector(&[("n0", 1)]), vector(&[("n1", 1)]), vector(&[("n2", 1)]));
        let (vab, vbc) = (vector(&[("n0", 1), ("n1", 1)]), vector(&[("n1", 1), ("n2", 1)]));
        let mut left = a.clone();
        take(&mut left, &va, &b, &vb);
        take(&mut left, &vab, &c, &vc);
        let mut bc = c.clone();
        take(&mut bc, &vc, &b, &vb);
        let mut right = bc.clone();
        take(&mut right, &vbc, &a, &va);
        prop_assert_eq!(all(&left), all(&right));
        let before = left.clone();
        take(&mut left, &vab, &before, &vab);
        prop_assert_eq!(all(&left), all(&before));
    }
}
