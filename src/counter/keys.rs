//! Keys of counters: the keyed hash of a subject, made different for each period.

use crate::counter::period::Period;

/// One constant per period, combined with the hash of the subject by exclusive or.
const APART: [u64; 6] = [
    0x9e37_79b9_7f4a_7c15,
    0xbf58_476d_1ce4_e5b9,
    0x94d0_49bb_1331_11eb,
    0xd6e8_feb8_6659_fd93,
    0xa076_1d64_78bd_642f,
    0xe703_7ed1_a0b4_28db,
];

/// The key of the counter of a subject and period; never 0, which marks a free line.
pub(crate) fn key_of(subject: u64, period: Period) -> u64 {
    // Two subjects in 2^64 share a counter because of this.
    (subject ^ APART[period as usize]).max(1)
}

/// The subject of the counter with this key and period; the inverse of `key_of`.
pub(crate) fn subject_of(key: u64, period: Period) -> u64 {
    key ^ APART[period as usize]
}
