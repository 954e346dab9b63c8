//! Windows: in UTC, at the starts of the calendar's seconds, minutes, hours, days, months and years, told apart by
//! number.
//!
//! A window is its period and how many of them passed since 1970. Every node finds the same number for the same time,
//! so it can stand in a counter's word and in a frame, where a start in seconds would need twice the bits. Plain
//! arithmetic, since a limit by month asks for it on every request; a date library agrees with it in the tests.

use crate::counter::period::Period;

const DAY_S: u64 = 86_400;
/// The calendar repeats after 400 years.
const ERA_DAYS: u64 = 146_097;
const ERA_YEARS: u64 = 400;

/// One window by its number: Unix seconds divided by the length; months and years counted since January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    pub period: Period,
    pub number: u32,
}

impl Window {
    /// The window that holds `unix_s`. Windows after the last number (seconds: in the year 2106) are all that one.
    pub fn at(period: Period, unix_s: u64) -> Window {
        let number = match period {
            // Written out, since dividing by a constant takes no division.
            Period::Second => unix_s,
            Period::Minute => unix_s / 60,
            Period::Hour => unix_s / 3_600,
            Period::Day => unix_s / DAY_S,
            Period::Month => month(unix_s / DAY_S),
            Period::Year => year(unix_s / DAY_S).0,
        };
        Window { period, number: u32::try_from(number).unwrap_or(u32::MAX) }
    }

    /// Its first second.
    pub fn start_s(self) -> u64 {
        let number = u64::from(self.number);
        match self.period {
            Period::Second | Period::Minute | Period::Hour | Period::Day => number * self.period.length_s(),
            Period::Month => DAY_S * month_start(number),
            Period::Year => DAY_S * year_start(number),
        }
    }

    /// The first second after it.
    pub fn end_s(self) -> u64 {
        let number = u64::from(self.number) + 1;
        match self.period {
            Period::Second | Period::Minute | Period::Hour | Period::Day => number * self.period.length_s(),
            Period::Month => DAY_S * month_start(number),
            Period::Year => DAY_S * year_start(number),
        }
    }

    pub fn next(self) -> Window {
        Window { number: self.number.saturating_add(1), ..self }
    }

    pub fn previous(self) -> Window {
        Window { number: self.number.saturating_sub(1), ..self }
    }
}

/// The year's number and its first day.
fn year(day: u64) -> (u64, u64) {
    // A year has at most 366 days, so this guess does not pass the year that is looked for; a step or two remain.
    let mut number = day / ERA_DAYS * ERA_YEARS + day % ERA_DAYS / 366;
    let mut start = year_start(number);
    while start + days_of(number) <= day {
        start += days_of(number);
        number += 1;
    }
    (number, start)
}

fn month(day: u64) -> u64 {
    let (year, start) = year(day);
    let rest = day - start;
    let month = (1..12).take_while(|&month| month_offset(year, month) <= rest).count();
    12 * year + month as u64
}

/// First day of a year, counted from 1970.
fn year_start(number: u64) -> u64 {
    365 * number + leap_years(1970, 1970 + number)
}

fn month_start(number: u64) -> u64 {
    year_start(number / 12) + month_offset(number / 12, number % 12)
}

/// Days of the year before its month, which is counted from 0.
fn month_offset(year: u64, month: u64) -> u64 {
    const BEFORE: [u16; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = if month > 1 { days_of(year) - 365 } else { 0 };
    u64::from(BEFORE[month as usize % 12]) + leap
}

fn days_of(number: u64) -> u64 {
    365 + leap_years(1970 + number, 1971 + number)
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
            let window = Window::at(period, at(now));
            assert_eq!((window.start_s(), window.end_s()), (at(start), at(end)), "{period:?} {now}");
        }
    }

    #[test]
    fn the_end_of_time_is_survived() {
        for period in Period::ALL {
            let last = Window::at(period, u64::MAX);
            assert_eq!((last.number, last.next().number), (u32::MAX, u32::MAX), "{period:?}");
            assert!(last.start_s() < last.end_s(), "{period:?}");
        }
    }

    proptest! {
        /// Up to the year 9999, where the library ends; seconds end in 2106.
        #[test]
        fn a_date_library_agrees(now_s in 0_u64..253_300_000_000) {
            let date = Timestamp::from_second(i64::try_from(now_s).unwrap()).unwrap().to_zoned(TimeZone::UTC);
            let second = |zoned: &jiff::Zoned| u64::try_from(zoned.timestamp().as_second()).unwrap();
            for (period, unit) in [(Period::Minute, Unit::Minute), (Period::Hour, Unit::Hour), (Period::Day, Unit::Day)] {
                let round = jiff::ZonedRound::new().smallest(unit).mode(jiff::RoundMode::Trunc);
                prop_assert_eq!(Window::at(period, now_s).start_s(), second(&date.round(round).unwrap()));
            }
            let month = date.first_of_month().unwrap().start_of_day().unwrap();
            let year = date.first_of_year().unwrap().start_of_day().unwrap();
            prop_assert_eq!(Window::at(Period::Month, now_s).start_s(), second(&month));
            prop_assert_eq!(Window::at(Period::Year, now_s).start_s(), second(&year));
            prop_assert_eq!(i64::from(Window::at(Period::Year, now_s).number), i64::from(date.year()) - 1970);
        }

        /// CLUSTER.md 2, failure 9: a length or an expiry in the wrong unit. Windows of every period follow each other
        /// without a gap, and every second of one finds it.
        #[test]
        fn windows_follow_each_other(now_s in 0_u64..u64::from(u32::MAX)) {
            for period in Period::ALL {
                let window = Window::at(period, now_s);
                prop_assert!(window.start_s() <= now_s && now_s < window.end_s());
                prop_assert_eq!(window.end_s(), window.next().start_s());
                prop_assert_eq!(Window::at(period, window.start_s()), window);
                prop_assert_eq!(Window::at(period, window.end_s() - 1), window);
                prop_assert_eq!(Window::at(period, window.end_s()), window.next());
                prop_assert!(window.end_s() - window.start_s() >= period.length_s() * 28 / 30);
                prop_assert!(window.end_s() - window.start_s() <= period.length_s() * 31 / 30 + 1);
            }
        }
    }
}
