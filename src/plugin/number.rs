//! Whole numbers as header values.
//!
//! Rate limit headers are mostly small numbers, sent with every response. Up to `TABLE` they are slices of one text
//! made at first use: no allocation, and no reference count that all workers would write to.

use std::fmt::Write;
use std::sync::LazyLock;

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

/// The header value of a number.
pub fn header(number: u64) -> HeaderValue {
    let known = usize::try_from(number).ok().filter(|small| *small < TABLE);
    match known.and_then(|small| DIGITS.get(small * 4..small * 4 + 4)) {
        Some(padded) => HeaderValue::from_static(padded.trim_ascii_end()),
        None => HeaderValue::from(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_reads_as_itself() {
        for number in (0..10_000).chain([123_456, u64::MAX]) {
            assert_eq!(header(number), number.to_string().as_str());
        }
    }
}
