//! Request ids: 32 hexadecimal characters, unlike any other of this worker and, by its random start, of any other.
//!
//! A worker draws from the operating system once and then counts: two bijections of one counter, so no id repeats. Ids
//! identify requests; nothing is protected by them. Rejected: a UUID per request. It costs a random draw and its formatting.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use crate::http1::added::Value;

/// One request's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub [u8; 32]);

/// Where a worker's ids come from.
pub struct RequestIds {
    high: Cell<u64>,
    low: Cell<u64>,
}

impl RequestIds {
    /// Starts at a place drawn from the operating system's randomness.
    pub fn new() -> Self {
        let draw = |salt: u8| Cell::new(RandomState::new().hash_one(salt));
        Self { high: draw(0), low: draw(1) }
    }

    pub fn next(&self) -> RequestId {
        let mut text = [0; 32];
        hex(step(&self.high), &mut text[..16]);
        hex(step(&self.low), &mut text[16..]);
        RequestId(text)
    }
}

impl RequestId {
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// For a header.
    pub fn value(&self) -> Value<'_> {
        Value::text(&self.0).unwrap_or(Value::Nothing)
    }
}

/// The SplitMix64 step: a Weyl sequence through an invertible mixer.
fn step(state: &Cell<u64>) -> u64 {
    let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(next);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn hex(number: u64, into: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (place, byte) in into.iter_mut().enumerate() {
        *byte = DIGITS[(number >> (60 - 4 * place) & 15) as usize];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_and_differ() {
        let ids = RequestIds::new();
        let made: std::collections::HashSet<_> = (0..10_000).map(|_| ids.next().as_str().to_owned()).collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))));
        assert!(made.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn two_workers_start_at_different_places() {
        assert_ne!(RequestIds::new().next(), RequestIds::new().next());
    }
}
