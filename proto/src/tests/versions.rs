//! Adjacent versions in one cluster. Version 3 exists in tests only: it adds the frame `Probe` and, to `Beat`, the member
//! `LOAD`.

use crate::close::Close;
use crate::tests::*;

const OLD: Versions = Versions { oldest: 1, newest: 1 };
const NEW: Versions = Versions { oldest: 1, newest: 3 };
/// A later program that has retired version 1.
const LATER: Versions = Versions { oldest: 2, newest: 4 };
/// The first program, whose frames were ten.
const FIRST_KINDS: usize = 10;

/// Percent, one byte.
const LOAD: u16 = 1;

fn beat(load: Option<u8>) -> Frame {
    let more = load.map(|percent| (LOAD, vec![percent])).into_iter().collect();
    let Frame::Beat(beat) = samples().remove(1) else { panic!() };
    Frame::Beat(Beat { more, ..beat })
}

/// How a node of version 3 reads its member, whoever wrote the frame.
fn load(frame: &Frame) -> Option<u8> {
    match frame {
        Frame::Beat(beat) => member(&beat.more, LOAD).and_then(|value| value.first().copied()),
        _ => None,
    }
}

fn read(bytes: &[u8], reader: Versions) -> Frame {
    match Frame::decode_as(bytes, reader).unwrap() {
        Decoded::Frame(frame) => frame,
        Decoded::Unknown(kind) => panic!("kind {kind} is unknown"),
    }
}

#[test]
fn both_sides_agree_on_the_newest_that_both_know() {
    assert_eq!((OLD.agreed(OLD), OLD.agreed(NEW), NEW.agreed(OLD)), (Some(1), Some(1), Some(1)));
    assert_eq!((NEW.agreed(NEW), NEW.agreed(LATER), LATER.agreed(NEW)), (Some(3), Some(3), Some(3)));
    assert_eq!((Versions::OURS.agreed(OLD), Versions::OURS.agreed(NEW)), (Some(1), Some(2)));
    assert_eq!((OLD.agreed(LATER), LATER.agreed(OLD)), (None, None));
}

#[test]
fn an_old_node_reads_what_a_new_node_writes() {
    let version = NEW.agreed(OLD).unwrap();
    assert_eq!(samples_of_version_1().len(), FIRST_KINDS);
    for frame in samples_of_version_1() {
        assert_eq!(read(&frame.encode(version).unwrap(), OLD), frame);
    }
    // A member that the old node does not know is kept, and does no harm.
    assert_eq!(read(&beat(Some(50)).encode(version).unwrap(), OLD), beat(Some(50)));
}

#[test]
fn a_new_node_reads_what_an_old_node_writes() {
    let version = OLD.agreed(NEW).unwrap();
    for frame in samples_of_version_1() {
        assert_eq!(read(&frame.encode(version).unwrap(), NEW), frame);
    }
    assert_eq!(load(&read(&beat(None).encode(version).unwrap(), NEW)), None);
}

#[test]
fn new_nodes_use_what_is_new_among_themselves() {
    let version = NEW.agreed(NEW).unwrap();
    assert_eq!(load(&read(&beat(Some(50)).encode(version).unwrap(), NEW)), Some(50));
    let probe = Frame::Probe(Probe { nonce: 1, more: vec![] });
    assert_eq!(read(&probe.encode(version).unwrap(), NEW), probe);
}

#[test]
fn a_new_frame_is_not_written_to_an_old_node_and_passed_over_when_it_was() {
    let probe = Frame::Probe(Probe { nonce: 1, more: vec![] });
    assert_eq!(probe.encode(2), Err(Malformed::Version(2)));
    for (young, old) in samples()
        .into_iter()
        .filter(|frame| frame.kind().since() == 2)
        .map(|frame| (frame, OLD))
        .chain([(probe, Versions::OURS)])
    {
        let mut bytes = young.encode(NEW.newest).unwrap();
        bytes[0] = old.newest;
        assert_eq!(Frame::decode_as(&bytes, old), Ok(Decoded::Unknown(young.kind().number())));
    }
}

#[test]
fn what_was_not_agreed_is_refused() {
    let bytes = beat(None).encode(2).unwrap();
    assert_eq!(Frame::decode_as(&bytes, OLD), Err(Malformed::Version(2)));
    let retired = beat(None).encode(1).unwrap();
    assert_eq!(Frame::decode_as(&retired, LATER), Err(Malformed::Version(1)));
    assert_eq!(beat(None).encode(0), Err(Malformed::Version(0)));
}

#[test]
fn a_hello_is_understood_across_all_versions() {
    let of = |node_id: &str, versions: Versions| {
        let (oldest, newest) = (versions.oldest, versions.newest);
        Hello { node_id: node_id.to_owned(), oldest, newest, ..hello() }
    };
    let (old, later) = (of("old", OLD), of("later", LATER));
    let bytes = Frame::Hello(old.clone()).encode(1).unwrap();
    assert_eq!(read(&bytes, LATER), Frame::Hello(old.clone()));
    assert_eq!(Frame::Hello(later.clone()).encode(4).unwrap()[0], 1);
    assert_eq!(old.greet(&later), Err(Close::NoCommonVersion));
    assert_eq!(old.greet(&of("new", NEW)), Ok(1));
}

#[test]
fn strangers_are_not_greeted() {
    let own = hello();
    let peer = Hello { node_id: "n2".to_owned(), ..hello() };
    assert_eq!(own.greet(&peer), Ok(1));
    assert_eq!(own.greet(&Hello { cluster_id: "c2".to_owned(), ..peer.clone() }), Ok(1), "secrets are being replaced");
    assert_eq!(own.greet(&Hello { store: "postgres".to_owned(), ..peer }), Err(Close::OtherStore));
    assert_eq!(own.greet(&own), Err(Close::Identity));
}
