//! Whole numbers as header values.
//!
//! Rate limit headers are mostly small numbers, sent with every response. Up to `TABLE` they are slices of one text
//! made at first use: no allocation, and no reference count that all workers would write to. Larger ones are written
//! one behind the other into memory of the thread's own, which is used again when all in it have been sent.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::LazyLock;

use bytes::BytesMut;
use http::HeaderValue;

/// Numbers below are in the table: every limit, rest and reset of an hour's window and most others.
const TABLE: usize = 4_000;

/// Digits of the numbers below `TABLE`, four bytes each, padded at the end.
static DIGITS: LazyLock<&'static str> = LazyLock::new(|| {
    let mut text = String::with_capacity(TABLE * 4);
    for number in 0..TABLE {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{number:<4}");
    }
    text.leak()
});

/// Bytes that are allocated at once for larger numbers. An answer that waits for its client keeps them all.
const ROOM_BYTES: usize = 512;

/// Digits of the largest number.
const DIGITS_MAX: usize = 20;

thread_local! {
    static ROOM: RefCell<BytesMut> = RefCell::default();
}

/// The header value of a number.
pub fn header(number: u64) -> HeaderValue {
    let known = usize::try_from(number).ok().filter(|small| *small < TABLE);
    match known.and_then(|small| DIGITS.get(small * 4..small * 4 + 4)) {
        Some(padded) => HeaderValue::from_static(padded.trim_ascii_end()),
        None => written(number),
    }
}

fn written(number: u64) -> HeaderValue {
    let (mut digits, mut start, mut left) = ([b'0'; DIGITS_MAX], DIGITS_MAX, number);
    while left > 0 || start == DIGITS_MAX {
        start -= 1;
        digits[start] += (left % 10) as u8;
        left /= 10;
    }
    let text = ROOM.with_borrow_mut(|room| {
        if room.capacity() < DIGITS_MAX {
            room.reserve(ROOM_BYTES);
        }
        room.extend_from_slice(&digits[start..]);
        room.split().freeze()
    });
    HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_as_itself() {
        let numbers = || (0..10_000).chain([123_456, u64::MAX]);
        let values: Vec<_> = numbers().map(header).collect();
        for (number, value) in numbers().zip(values) {
            assert_eq!(value, number.to_string().as_str());
        }
    }
}
