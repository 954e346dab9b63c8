//! The bytes of every frame, which no change of code may change.

use crate::tests::*;

/// In the order of `samples`. The README has the same bytes taken apart.
const GOLDEN: [&str; 14] = [
    "010100026331026e3103667261fd00e897b69a0100000a5b3a3a315d3a3830303505302e312e30010108656d6265646465640107036e6577",
    "0102000902fb2d01fd5ff24b00e973c735fdf4e997b69a01000000fbfb00010107036e6577",
    "01030001020161fb2b01fb2c010206726f7574657301010101010101010101010101010101fc7011010001027b7d08736572766963657302020202020202020202020202020202fc711101000002020161fb2c010162010107036e6577",
    "01040002020161fb2c010162010107036e6577",
    "010500010100fc0000010000",
    "0106000106726f75746573030303030303030303030303030303030107036e6577",
    "01070002020161fb2c0101620102cafefc00001000010107036e6577",
    "010800030102030107036e6577",
    "0109000107036e6577",
    "010a00fa0107036e6577",
    "020b00f4d3dfb4ab33230301c8b7820ed80403efcdab8967452301d699d904010000000000000000000002000000000000000000feffffffff3f08026e3281d0dfb4ab33f48592c9060a0103000000000000000000800110f58592c9060001030000000000000000000200",
    "020c000107036e6577",
    "020d00fdefcdab896745230101fcc89bc001fb580214fd00e897b69a010000fd01e897b69a0100000107036e6577",
    "020e00fdefcdab896745230101fcc89bc0012dfd00e897b69a010000fd01e897b69a0100000f0107036e6577",
];

const GOLDEN_RECORDS: &str = "0206726f7574657301010101010101010101010101010101fc70110100016101027b7d06726f7574657302020202020202020202020202020202fc70110100016100";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn golden_bytes_of_every_frame_stay() {
    for (frame, golden) in samples().iter().zip(GOLDEN) {
        assert_eq!(hex(&frame.encode(frame.kind().since()).unwrap()), golden, "{}", frame.kind().name());
        assert_eq!(decoded(&unhex(golden)), *frame);
    }
}

#[test]
fn every_kind_has_golden_bytes() {
    let kinds: Vec<_> = samples().iter().map(Frame::kind).collect();
    let all: Vec<_> = Kind::all().filter(|kind| kind.since() <= VERSION).collect();
    assert_eq!(kinds, all);
}

#[test]
fn golden_bytes_of_records_stay() {
    assert_eq!(hex(&records().encode().unwrap()), GOLDEN_RECORDS);
    assert_eq!(Records::decode(&unhex(GOLDEN_RECORDS)), Ok(records()));
}

#[test]
fn digests_stay() {
    assert_eq!(Vector::default().digest(), 0xc77b_3abb_6f87_acd9);
    assert_eq!(vector().digest(), 0x35c7_73e9_004b_f25f);
}

proptest! {
    #[test]
    fn frames_round_trip(frame in any_frame()) {
        let bytes = frame.encode(VERSION).unwrap();
        prop_assert_eq!(Frame::decode(&bytes), Ok(Decoded::Frame(frame)));
    }

    #[test]
    fn records_round_trip(records in any_records()) {
        let bytes = records.encode().unwrap();
        let size: usize = records.records.iter().map(WholeRecord::size).sum();
        prop_assert!(bytes.len() <= size + 16);
        prop_assert_eq!(Records::decode(&bytes), Ok(records));
    }

    #[test]
    fn a_span_says_no_less_than_its_bytes(span in any_span()) {
        let size = span.size();
        let empty = Spans { spans: vec![], vector: Vector::default(), more: vec![] };
        let head = Frame::Spans(empty.clone()).encode(1).unwrap().len();
        let len = Frame::Spans(Spans { spans: vec![span], ..empty }).encode(1).unwrap().len();
        prop_assert!(len - head <= size);
    }

    #[test]
    fn equal_vectors_have_equal_digests(vector in any_vector(), count in 1..u64::MAX) {
        let mut other = vector.clone();
        other.counts.insert("zero".to_owned(), 0);
        prop_assert_eq!(&other, &vector);
        prop_assert_eq!(other.digest(), vector.digest());
        other.counts.insert("zero".to_owned(), count);
        prop_assert_ne!(other.digest(), vector.digest());
    }
}
