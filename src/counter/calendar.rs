//! Where windows start and end: in UTC, at the starts of the calendar's seconds, minutes, hours, days, months and years.
//!
//! Plain arithmetic, since a limit by month asks for it on every request; a date library agrees with it in the tests.

use crate::counter::Period;

const DAY_S: u64 = 86_400;
/// The calendar repeats after 400 years.
const ERA_DAYS: u64 = 146_097;
const ERA_YEARS: u64 = 400;

/// A window in Unix seconds; `end_s` is the first second after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub start_s: u64,
    pub end_s: u64,
}

/// The window that holds `now_s`.
pub(crate) fn window(period: Period, now_s: u64) -> Span {
    match period {
        Period::Second | Period::Minute | Period::Hour | Period::Day => {
            let length = period.length_s();
            let start_s = now_s - now_s % length;
            Span { start_s, end_s: start_s.saturating_add(length) }
        }
        Period::Month => month(now_s),
        Period::Year => year(now_s).1,
    }
}

/// The year's number and span.
fn year(now_s: u64) -> (u64, Span) {
    let days = now_s / DAY_S;
    let first = 1970 + days / ERA_DAYS * ERA_YEARS;
    let mut year = first;
    let mut start = days - days % ERA_DAYS;
    // A year has at most 366 days, so this jump does not pass the year that is looked for; a step or two remain.
    let jump = days % ERA_DAYS / 366;
    year += jump;
    start += 365 * jump + leap_years(first, year);
    while start + days_of(year) <= days {
        start += days_of(year);
        year += 1;
    }
    (year, span(start, days_of(year)))
}

fn month(now_s: u64) -> Span {
    let days = now_s / DAY_S;
    let (year, Span { start_s, .. }) = year(now_s);
    let february = days_of(year) - 337;
    let mut start = start_s / DAY_S;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < start + length {
            return span(start, length);
        }
        start += length;
    }
    span(start, 31)
}

fn span(start_days: u64, length_days: u64) -> Span {
    Span { start_s: start_days * DAY_S, end_s: (start_days * DAY_S).saturating_add(length_days * DAY_S) }
}

fn days_of(year: u64) -> u64 {
    365 + leap_years(year, year + 1)
}

/// Leap years in `from..to`.
fn leap_years(from: u64, to: u64) -> u64 {
    let before = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    before(to) - before(from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use jiff::Unit;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    #[test]
    fn windows_start_with_the_calendar() {
        let at = |text: &str| u64::try_from(text.parse::<Timestamp>().unwrap().as_second()).unwrap();
        for (period, now, start, end) in [
            (Period::Second, "2026-11-24T11:23:19Z", "2026-11-24T11:23:19Z", "2026-11-24T11:23:20Z"),
            (Period::Minute, "2026-11-24T11:23:19Z", "2026-11-24T11:23:00Z", "2026-11-24T11:24:00Z"),
            (Period::Hour, "2026-11-24T11:59:59Z", "2026-11-24T11:00:00Z", "2026-11-24T12:00:00Z"),
            (Period::Day, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
            (Period::Month, "2026-11-30T23:59:59Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            (Period::Month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            (Period::Month, "2100-03-01T00:00:00Z", "2100-03-01T00:00:00Z", "2100-04-01T00:00:00Z"),
            (Period::Year, "2000-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "2001-01-01T00:00:00Z"),
            (Period::Year, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "1971-01-01T00:00:00Z"),
        ] {
            let expected = Span { start_s: at(start), end_s: at(end) };
            assert_eq!(window(period, at(now)), expected, "{period:?} {now}");
        }
    }

    #[test]
    fn the_end_of_time_is_survived() {
        for period in Period::ALL {
            let Span { start_s, end_s } = window(period, u64::MAX);
            assert_eq!((start_s < u64::MAX, end_s), (period != Period::Second, u64::MAX), "{period:?}");
        }
    }

    proptest! {
        /// Up to the year 9999, where the library ends.
        #[test]
        fn a_date_library_agrees(now_s in 0_u64..253_300_000_000) {
            let date = Timestamp::from_second(i64::try_from(now_s).unwrap()).unwrap().to_zoned(TimeZone::UTC);
            let second = |zoned: &jiff::Zoned| u64::try_from(zoned.timestamp().as_second()).unwrap();
            for (period, unit) in [(Period::Minute, Unit::Minute), (Period::Hour, Unit::Hour), (Period::Day, Unit::Day)] {
                let round = jiff::ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc);
                prop_assert_eq!(window(period, now_s).start_s, second(&date.round(round).unwrap()));
            }
            let month = date.first_of_month().unwrap().start_of_day().unwrap();
            let year = date.first_of_year().unwrap().start_of_day().unwrap();
            prop_assert_eq!(window(Period::Month, now_s).start_s, second(&month));
            prop_assert_eq!(window(Period::Year, now_s).start_s, second(&year));
            for period in Period::ALL {
                let Span { start_s, end_s } = window(period, now_s);
                prop_assert!(start_s <= now_s && now_s < end_s);
                prop_assert_eq!(window(period, end_s).start_s, end_s);
                prop_assert_eq!(window(period, start_s), Span { start_s, end_s });
            }
        }
    }
}
