//! The date that answers carry, written once per second.

use std::cell::{Cell, RefCell};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// One worker's.
#[derive(Default)]
pub struct Calendar {
    /// Unix seconds of what `line` says.
    second: Cell<u64>,
    line: RefCell<Vec<u8>>,
}

impl Calendar {
    /// Writes the header line `Date` for a time in Unix seconds.
    pub fn write_date(&self, out: &mut Vec<u8>, now_s: u64) {
        if self.second.replace(now_s) != now_s {
            *self.line.borrow_mut() = line(now_s).unwrap_or_default();
        }
        out.extend_from_slice(&self.line.borrow());
    }
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
        let calendar = Calendar::default();
        for (second, date) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (1_764_000_000, "Mon, 24 Nov 2025 16:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            calendar.write_date(&mut out, second);
            assert_eq!(str::from_utf8(&out), Ok(format!("Date: {date}\r\n").as_str()));
        }
    }
}
