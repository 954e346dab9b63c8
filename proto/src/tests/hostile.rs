//! What peers may send that are broken, or worse.

use crate::tests::*;

/// A frame of this kind with this body.
fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let [low, high] = kind.number().to_le_bytes();
    [&[VERSION, low, high], body].concat()
}

fn content(frame: &Frame) -> &'static str {
    match frame.encode(1) {
        Err(Malformed::Content(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn truncated_frames_are_refused() {
    for frame in samples() {
        let bytes = frame.encode(VERSION).unwrap();
        for len in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..len]).is_err(), "{} cut at {len}", frame.kind().name());
        }
        assert_eq!(Frame::decode(&[&bytes[..], &[0]].concat()), Err(Malformed::Trailing(1)));
    }
}

#[test]
fn forged_lengths_are_refused() {
    let huge = [253, 255, 255, 255, 255, 255, 255, 255, 255];
    let large = [252, 255, 255, 255, 0];
    for kind in Kind::all().filter(|kind| kind.since() <= VERSION) {
        for length in [&huge[..], &large[..]] {
            assert!(Frame::decode(&framed(kind, length)).is_err(), "{}", kind.name());
        }
    }
    let envelope = framed(Kind::Gossip, &huge);
    assert!(matches!(Frame::decode(&envelope), Err(Malformed::Codec(_))));
    assert!(matches!(Records::decode(&huge), Err(Malformed::Codec(_))));
}

#[test]
fn frames_longer_than_their_kind_are_refused_unread() {
    for kind in [Kind::Hello, Kind::Beat, Kind::Pull, Kind::Gossip, Kind::Counts, Kind::Ask] {
        let mut bytes = framed(kind, &[]);
        bytes.resize(kind.len_max() + 1, 255);
        assert_eq!(Frame::decode(&bytes), Err(Malformed::TooLong(kind.len_max() + 1)));
    }
    let gossip = Frame::Gossip(Gossip { envelope: vec![0; 300 << 10], more: vec![] });
    assert!(matches!(gossip.encode(1), Err(Malformed::TooLong(_))));
}

#[test]
fn vectors_out_of_order_are_refused() {
    let pull = |counts: &[u8]| Frame::decode(&framed(Kind::Pull, &[&[1], counts, &[0]].concat()));
    assert!(pull(&[2, 1, b'a', 1, 1, b'b', 1]).is_ok());
    for refused in [&[2, 1, b'b', 1, 1, b'a', 1][..], &[2, 1, b'a', 1, 1, b'a', 1], &[1, 1, b'a', 0]] {
        assert!(matches!(pull(refused), Err(Malformed::Codec(_))), "{refused:?}");
    }
}

#[test]
fn content_out_of_bounds_is_neither_sent_nor_taken() {
    let of = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello();
        change(&mut hello);
        content(&Frame::Hello(hello))
    };
    assert!(of(&|hello| hello.node_id = "n 1".to_owned()).contains("node id"));
    assert!(of(&|hello| hello.node_id = "n".repeat(65)).contains("node id"));
    assert!(of(&|hello| hello.address = "somewhere:8005".to_owned()).contains("address"));
    assert!(of(&|hello| hello.region = "a\nb".to_owned()).contains("region"));
    assert!(of(&|hello| hello.newest = 0).contains("versions"));
    assert!(of(&|hello| hello.oldest = 0).contains("versions"));

    let spans = |change: &dyn Fn(&mut Span)| {
        let mut span = span();
        change(&mut span);
        content(&Frame::Spans(Spans { spans: vec![span], vector: vector(), more: vec![] }))
    };
    assert!(spans(&|span| span.upto = span.after).contains("backwards"));
    assert!(spans(&|span| span.origin = "/".to_owned()).contains("origin"));
    assert!(spans(&|span| span.changes[0].kind.clear()).contains("kind"));
    let changed = span().changes[0].clone();
    let kinds = |number| Changed { kind: format!("kind{number}"), ..changed.clone() };
    assert!(spans(&|span| span.changes = (0..=KINDS_MAX).map(kinds).collect()).contains("too many kinds"));

    let more = |more: More| content(&Frame::Leave(Leave { more }));
    assert!(more(vec![(2, vec![]), (1, vec![])]).contains("order"));
    assert!(more((0..65).map(|number| (number, vec![])).collect()).contains("many"));
    let counts = (0..=crate::ORIGINS_MAX as u64).map(|number| (format!("n{number}"), 1)).collect();
    assert!(content(&Frame::Pull(Pull { vector: Vector { epoch: 1, counts }, more: vec![] })).contains("origins"));
}

#[test]
fn rights_of_no_period_are_neither_sent_nor_taken() {
    for frame in
        [Frame::Ask(Ask { period: 6, ..Ask::default() }), Frame::Grant(Grant { period: 6, ..Grant::default() })]
    {
        assert!(matches!(frame.encode(VERSION), Err(Malformed::Content(why)) if why.contains("period")));
    }
    assert_eq!(
        Frame::decode(&framed(Kind::Ask, &[1, 6, 0, 0, 0, 0, 0, 0])),
        Err(Malformed::Content("a period is one of six"))
    );
}

#[test]
fn records_out_of_order_are_refused() {
    let mut records = records();
    records.records.reverse();
    assert!(matches!(records.encode(), Err(Malformed::Content(_))));
    records.records[0].id = [1; 16];
    records.records[1].id = [1; 16];
    assert!(matches!(records.encode(), Err(Malformed::Content(_))), "the same twice");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(kind in 0..16u8, body in vec(any::<u8>(), 0..300)) {
        let _ = Records::decode(&body);
        let bytes = [&[VERSION, kind, 0], &body[..]].concat();
        if let Ok(Decoded::Frame(frame)) = Frame::decode(&bytes) {
            prop_assert_eq!(decoded(&frame.encode(VERSION).unwrap()), frame);
        }
    }

    #[test]
    fn damaged_frames_never_panic(frame in any_frame(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = frame.encode(VERSION).unwrap();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        if let Ok(Decoded::Frame(frame)) = Frame::decode(&bytes) {
            prop_assert_eq!(decoded(&frame.encode(VERSION).unwrap()), frame);
        }
    }
}
