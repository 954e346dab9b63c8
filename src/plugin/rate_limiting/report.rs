//! What a client is told about its limits: `X-RateLimit-*` per period, `RateLimit-*` for the tightest, `Retry-After`.

use http::HeaderValue;
use smallvec::SmallVec;

use crate::counter::{Limit, Period, Verdict, Window};
use crate::http1::name::{Name, name};
use crate::plugin::number;

static RATE_LIMIT_LIMIT: Name = name!("ratelimit-limit");
static RATE_LIMIT_REMAINING: Name = name!("ratelimit-remaining");
static RATE_LIMIT_RESET: Name = name!("ratelimit-reset");
static RETRY_AFTER: Name = name!("retry-after");

/// One period's part of a verdict, also as it is shown.
struct Rest {
    period: Period,
    remaining: f64,
    values: [HeaderValue; 2],
}

/// The limits as they are shown, in their order.
pub(crate) fn shown_limits(limits: &[Limit]) -> SmallVec<[HeaderValue; 1]> {
    limits.iter().map(|limit| shown(limit.limit)).collect()
}

/// Adds the headers of `verdict`, whose usage is in the order of `limits`, as `shown_limits` is. What remains is by the counts of all nodes
/// that decided, and so is when the window ends: by the cluster's time.
pub(crate) fn add(
    limits: &[Limit],
    shown_limits: &[HeaderValue],
    verdict: &Verdict,
    headers: &mut Vec<(&'static Name, HeaderValue)>,
) {
    headers.reserve(2 * limits.len() + 4);
    let mut exceeded = false;
    let mut tightest: Option<Rest> = None;
    for ((limit, shown_limit), usage) in limits.iter().zip(shown_limits).zip(&verdict.usage) {
        let left = limit.limit - *usage as f64;
        // One of the exceeded periods counts as the one that refused, and is told as if this request had been taken.
        let refuses = left <= 0.0 && !exceeded;
        exceeded |= refuses;
        let remaining = if verdict.admitted || refuses { left - 1.0 } else { left }.max(0.0);
        let [limit_name, remaining_name] = names(limit.period);
        let values = [shown_limit.clone(), shown(remaining)];
        headers.push((limit_name, values[0].clone()));
        headers.push((remaining_name, values[1].clone()));
        if tightest.as_ref().is_none_or(|other| remaining <= other.remaining) {
            tightest = Some(Rest { period: limit.period, remaining, values });
        }
    }
    let Some(Rest { period, values: [limit, remaining], .. }) = tightest else { return };
    let reset_s = number::header(reset_s(period, verdict.at_ms / 1000));
    headers.push((&RATE_LIMIT_LIMIT, limit));
    headers.push((&RATE_LIMIT_REMAINING, remaining));
    headers.push((&RATE_LIMIT_RESET, reset_s.clone()));
    if !verdict.admitted {
        headers.push((&RETRY_AFTER, reset_s));
    }
}

/// Seconds until the window is over, at least one. Kong: months have 30 days and years 365, whatever the calendar says.
fn reset_s(period: Period, now_s: u64) -> u64 {
    let elapsed_s = now_s.saturating_sub(Window::at(period, now_s).start_s());
    period.length_s().saturating_sub(elapsed_s).max(1)
}

/// A limit or a rest: a number that is nearly always whole.
fn shown(number: f64) -> HeaderValue {
    if number.fract() == 0.0 && number < u64::MAX as f64 {
        return number::header(number as u64);
    }
    let text = format!("{number:.10}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("0"))
}

/// `X-RateLimit-Limit-Minute` and `X-RateLimit-Remaining-Minute`.
fn names(period: Period) -> &'static [Name; 2] {
    macro_rules! pair {
        ($period:literal) => {{
            static PAIR: [Name; 2] =
                [name!(concat!("x-ratelimit-limit-", $period)), name!(concat!("x-ratelimit-remaining-", $period))];
            &PAIR
        }};
    }
    match period {
        Period::Second => pair!("second"),
        Period::Minute => pair!("minute"),
        Period::Hour => pair!("hour"),
        Period::Day => pair!("day"),
        Period::Month => pair!("month"),
        Period::Year => pair!("year"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_S: u64 = 1_764_000_000 / 86_400 * 86_400 + 43_200;

    fn lines(limits: &[(Period, f64)], usage: &[u64], admitted: bool) -> Vec<String> {
        let limits: Vec<_> = limits.iter().map(|(period, limit)| Limit { period: *period, limit: *limit }).collect();
        let verdict =
            Verdict { admitted, usage: usage.iter().copied().collect(), at_ms: (NOON_S + 15) * 1000, unnamed: false };
        let mut headers = Vec::new();
        add(&limits, &shown_limits(&limits), &verdict, &mut headers);
        headers.iter().map(|(name, value)| format!("{}: {}", name.lower, value.to_str().unwrap_or_default())).collect()
    }

    #[test]
    fn an_admitted_request_is_counted_in_what_remains() {
        let expected = [
            "x-ratelimit-limit-minute: 6",
            "x-ratelimit-remaining-minute: 5",
            "x-ratelimit-limit-hour: 10000",
            "x-ratelimit-remaining-hour: 9999",
            "ratelimit-limit: 6",
            "ratelimit-remaining: 5",
            "ratelimit-reset: 45",
        ];
        assert_eq!(lines(&[(Period::Minute, 6.0), (Period::Hour, 10_000.0)], &[0, 0], true), expected);
    }

    #[test]
    fn a_refused_request_costs_the_other_periods_nothing() {
        let expected = [
            "x-ratelimit-limit-minute: 2",
            "x-ratelimit-remaining-minute: 0",
            "x-ratelimit-limit-hour: 10",
            "x-ratelimit-remaining-hour: 8",
            "ratelimit-limit: 2",
            "ratelimit-remaining: 0",
            "ratelimit-reset: 45",
            "retry-after: 45",
        ];
        assert_eq!(lines(&[(Period::Minute, 2.0), (Period::Hour, 10.0)], &[2, 2], false), expected);
    }

    #[test]
    fn on_equal_rest_the_longer_window_is_told() {
        let found = lines(&[(Period::Second, 2.0), (Period::Hour, 2.0)], &[0, 0], true);
        assert!(found.contains(&"ratelimit-reset: 3585".to_owned()), "{found:?}");
    }

    #[test]
    fn fractions_are_told_as_such() {
        let found = lines(&[(Period::Minute, 2.5)], &[1], true);
        assert_eq!(found[..2], ["x-ratelimit-limit-minute: 2.5", "x-ratelimit-remaining-minute: 0.5"]);
    }
}
