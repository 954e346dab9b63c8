//! The `Date` of responses, formatted once per second.

use std::cell::RefCell;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

thread_local! {
    /// Unix seconds, and the header line of that second.
    static LINE: RefCell<(u64, Vec<u8>)> = RefCell::default();
}

/// Writes the header line `Date` for a time in Unix seconds.
pub(super) fn write_date(out: &mut Vec<u8>, now_s: u64) {
    LINE.with_borrow_mut(|(second, text)| {
        if *second != now_s {
            (*second, *text) = (now_s, line(now_s).unwrap_or_default());
        }
        out.extend_from_slice(text);
    });
}

/// `None` in years that HTTP has no date for: then there is none.
fn line(now_s: u64) -> Option<Vec<u8>> {
    let now = Timestamp::from_second(i64::try_from(now_s).ok()?).ok()?;
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok()?;
    Some(format!("Date: {date}\r\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_second() {
        for (second, date) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_764_000_000, "Mon, 24 Nov 2025 16:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            write_date(&mut out, second);
            assert_eq!(str::from_utf8(&out), Ok(format!("Date: {date}\r\n").as_str()));
        }
    }
}
