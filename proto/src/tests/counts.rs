//! Counts: how much a slot costs, how a frame is split, and what is no frame.

use crate::tests::*;

/// Slots as a node has them: keys of a hash, small counts.
fn many(slots: u64) -> Counts {
    let slot = |number: u64| Slot { demand: 30_000, ..slot(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number % 900) };
    let group = Group { source: None, period: 1, window: 29_400_008, room: 600, slots: (0..slots).map(slot).collect() };
    Counts { time_ms: 1_764_000_000_500, complete: 0b10, groups: vec![group] }
}

fn encoded(counts: Counts) -> Vec<u8> {
    Frame::Counts(counts).encode(2).unwrap()
}

fn body(counts: &Counts) -> Vec<u8> {
    encoded(counts.clone())[3..].to_vec()
}

fn read(body: &[u8]) -> Result<Decoded, Malformed> {
    Frame::decode(&[&[2, 11, 0], body].concat())
}

/// All slots one by one, with what their group says of them.
fn flat(counts: &[Counts]) -> Vec<(Group, Slot)> {
    let groups = counts.iter().flat_map(|part| &part.groups);
    groups
        .flat_map(|group| group.slots.iter().map(|slot| (Group { slots: Vec::new(), ..group.clone() }, *slot)))
        .collect()
}

#[test]
fn a_slot_takes_twelve_bytes() {
    let len = encoded(many(1_000)).len();
    assert!(len <= 12_000 + 30, "{len} bytes for 1,000 slots");
}

#[test]
fn a_datagram_has_room_for_a_hundred_keys() {
    assert!(encoded(many(95)).len() <= 1_162, "what a path of 1,200 bytes leaves");
    assert_eq!(many(1_000).split(1_162).len(), 11);
}

#[test]
fn a_watermark_alone_is_a_frame() {
    let nothing = Counts { time_ms: 1_764_000_000_500, complete: 0b11_1111, groups: Vec::new() };
    assert_eq!(nothing.clone().split(1_000), std::slice::from_ref(&nothing));
    assert_eq!(decoded(&encoded(nothing.clone())), Frame::Counts(nothing));
}

#[test]
fn members_of_later_versions_are_passed_over() {
    let mut bytes = encoded(counts());
    assert_eq!(bytes.pop(), Some(0));
    bytes.extend([1, 7, 3]);
    bytes.extend(b"new");
    assert_eq!(decoded(&bytes), Frame::Counts(counts()));
    let at = bytes.len() - 6;
    bytes.truncate(at);
    bytes.extend([2, 7, 0, 6, 0]);
    assert!(matches!(Frame::decode(&bytes), Err(Malformed::Codec(why)) if why.contains("order")));
}

#[test]
fn the_example_of_the_readme_is_read_as_it_says() {
    let page = include_str!("../../README.md");
    let example =
        page.split_once("A `Counts` with 300 hits").unwrap().1.split_once("The same of every frame").unwrap().0;
    let bytes = example.lines().filter_map(|line| line.strip_prefix("    ")).flat_map(|line| {
        let hex = line.split("  ").next().unwrap_or_default().split(' ');
        hex.map(|byte| u8::from_str_radix(byte, 16).unwrap())
    });
    let Frame::Counts(expected) = decoded(&encoded(counts())) else { panic!() };
    let [own, passed_on, _] = &expected.groups[..] else { panic!() };
    let own = Group { slots: own.slots[..1].to_vec(), ..own.clone() };
    let groups = vec![own, passed_on.clone()];
    assert_eq!(decoded(&bytes.collect::<Vec<_>>()), Frame::Counts(Counts { complete: 2, groups, ..expected }));
}

#[test]
fn an_old_node_is_not_sent_counts() {
    for frame in samples().iter().filter(|frame| frame.kind().since() > 1) {
        assert_eq!(frame.encode(1), Err(Malformed::Version(1)), "{}", frame.kind().name());
    }
}

#[test]
fn what_is_no_counts_is_refused() {
    let group = |head: &[u8], rest: &[u8]| [&[5, 0, 1][..], head, rest, &[0]].concat();
    let slot = [9, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 3];
    let fine = |head: &[u8]| group(head, &[&[1, 1][..], &[1], &slot[1..]].concat());
    assert!(read(&fine(&[0])).is_ok());
    assert!(read(&fine(&[8, 1, b'n', 3])).is_ok());
    let check = |body: &[u8], why: &str| match read(body) {
        Err(malformed) => assert!(malformed.to_string().contains(why), "{malformed}, not {why}"),
        Ok(decoded) => panic!("{decoded:?}, not {why}"),
    };
    check(&fine(&[6]), "period");
    check(&fine(&[0x20]), "unknown bits");
    check(&fine(&[0x18]), "unknown bits");
    check(&fine(&[0x10]), "no source before");
    check(&fine(&[8, 65]), "too long");
    check(&fine(&[8, 1, 0xff, 3]), "no text");
    check(&fine(&[8, 0, 3]), "node id");
    check(&fine(&[8, 1, b'/', 3]), "node id");
    check(&group(&[0, 1, 1, 0], &[]), "more elements than bytes");
    check(&group(&[0, 1, 1, 0], &[1, 7, 9, 0, 0, 0, 0, 0, 0, 0, 0]), "no slots");
    check(&group(&[0, 0xff, 0xff, 0xff, 0xff, 0x10, 1, 1], &slot[1..]), "too large");
    check(&[5, 0x40, 0, 0], "set of periods");
    check(&[0x85, 0, 0, 0, 0], "longer than it needs");
    check(&[&[0xff; 9][..], &[2, 0, 0, 0]].concat(), "64 bits");
    check(&[&[0xff; 10][..], &[1, 0, 0, 0]].concat(), "64 bits");
    check(&[5, 0, 0xff, 0xff, 3], "more elements than bytes");
    let above = Counts {
        groups: vec![Group { slots: vec![slot_of(COUNT_MAX + 1)], ..counts().groups[0].clone() }],
        ..counts()
    };
    assert!(matches!(Frame::Counts(above).encode(2), Err(Malformed::Content(_))));
}

fn slot_of(count: u64) -> Slot {
    slot(1, count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn parts_say_the_same_and_fit(counts in any_counts(), len_max in 200..2_000usize) {
        let parts = counts.clone().split(len_max);
        prop_assert_eq!(flat(&parts), flat(std::slice::from_ref(&counts)));
        let (last, others) = parts.split_last().unwrap();
        prop_assert_eq!(last.complete, counts.complete);
        prop_assert!(others.iter().all(|part| part.complete == 0 && !part.is_empty()));
        for part in parts {
            prop_assert_eq!(part.time_ms, counts.time_ms);
            let len = encoded(part).len();
            prop_assert!(len <= len_max, "{} of {}", len, len_max);
        }
    }

    #[test]
    fn what_is_read_is_written_the_same(bytes in vec(any::<u8>(), 0..400), honest in any_counts(), at in any::<prop::sample::Index>()) {
        let _ = read(&bytes);
        let mut mixed = body(&honest);
        let at = at.index(mixed.len());
        let end = mixed.len().min(at + bytes.len() % 12);
        mixed.splice(at..end, bytes.iter().take(12).copied());
        if let Ok(Decoded::Frame(frame)) = read(&mixed) {
            prop_assert_eq!(decoded(&frame.encode(2).unwrap()), frame);
        }
    }
}
