//! What is known about names, and until when: pure, `now` is an argument.
//!
//! An answer is renewed shortly before its time is over, kept for `stale` after it, and dropped at once when the name
//! service says that the name is gone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::proxy::upstream::options::UpstreamOptions;
use crate::proxy::upstream::resolve::{Outcome, Unresolved};

/// Names kept. At the bound all that nobody may use any longer goes, and if that is nothing, any one.
const MAX_NAMES: usize = 10_000;
/// Kong: `dns_error_ttl`.
const ERROR_TTL: Duration = Duration::from_secs(1);
/// Kong: `dns_not_found_ttl`.
const NOT_FOUND_TTL: Duration = Duration::from_secs(30);
/// No answer is believed for longer, whatever it says.
const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// What the settings say about time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// In place of every answer's own time to live.
    pub(super) valid: Option<Duration>,
    pub(super) stale: Duration,
}

impl Rules {
    pub(super) fn of(options: &UpstreamOptions) -> Self {
        Self { valid: options.dns_valid_ttl, stale: options.dns_stale_ttl }
    }
}

/// What to do about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Use(Arc<[IpAddr]>),
    /// Good to use, and time to ask again in the background.
    Renew(Arc<[IpAddr]>),
    Fail(Unresolved),
    /// Nothing to use without asking, unless the asking fails.
    Ask {
        fallback: Option<Arc<[IpAddr]>>,
    },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    good: Option<Good>,
    bad: Option<Bad>,
}

#[derive(Clone, Debug)]
struct Good {
    addresses: Arc<[IpAddr]>,
    renew_at: Instant,
    fresh_until: Instant,
    stale_until: Instant,
}

#[derive(Clone, Debug)]
struct Bad {
    why: Unresolved,
    until: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    names: hashbrown::HashMap<Box<str>, Entry, foldhash::fast::RandomState>,
}

impl Cache {
    pub(super) fn look(&self, name: &str, now: Instant) -> Look {
        self.names.get(name).map_or(Look::Ask { fallback: None }, |entry| entry.look(now))
    }

    pub(super) fn entry(&self, name: &str) -> Option<Entry> {
        self.names.get(name).cloned()
    }

    /// Takes in what the name service said; returns what is known now.
    pub(super) fn fill(&mut self, name: &str, outcome: &Outcome, rules: &Rules, now: Instant) -> Entry {
        let mut entry = self.entry(name).unwrap_or_default();
        entry.fill(outcome, rules, now);
        self.put(name, entry.clone(), now);
        entry
    }

    /// Takes over what is known elsewhere.
    pub(super) fn put(&mut self, name: &str, entry: Entry, now: Instant) {
        if let Some(known) = self.names.get_mut(name) {
            *known = entry;
            return;
        }
        if self.names.len() >= MAX_NAMES {
            self.make_room(now);
        }
        self.names.insert(name.into(), entry);
    }

    fn make_room(&mut self, now: Instant) {
        self.names.retain(|_, entry| entry.look(now) != Look::Ask { fallback: None });
        if self.names.len() >= MAX_NAMES
            && let Some(any) = self.names.keys().next().cloned()
        {
            self.names.remove(&any);
        }
    }
}

impl Entry {
    pub(super) fn look(&self, now: Instant) -> Look {
        let failing = self.bad.as_ref();
        let resting = failing.is_some_and(|bad| now < bad.until);
        match &self.good {
            Some(good) if now < good.renew_at => Look::Use(good.addresses.clone()),
            Some(good) if now < good.stale_until && resting => Look::Use(good.addresses.clone()),
            // While the name service fails nobody waits for it again.
            Some(good) if now < good.fresh_until || (now < good.stale_until && failing.is_some()) => {
                Look::Renew(good.addresses.clone())
            }
            Some(good) if now < good.stale_until => Look::Ask { fallback: Some(good.addresses.clone()) },
            _ => match failing {
                Some(bad) if resting => Look::Fail(bad.why.clone()),
                _ => Look::Ask { fallback: None },
            },
        }
    }

    fn fill(&mut self, outcome: &Outcome, rules: &Rules, now: Instant) {
        match outcome {
            Ok(answer) => {
                let ttl = rules.valid.unwrap_or(answer.ttl).min(MAX_TTL);
                let fresh_until = now + ttl;
                *self = Self {
                    good: Some(Good {
                        addresses: answer.addresses.clone(),
                        renew_at: fresh_until - ttl / 10,
                        fresh_until,
                        stale_until: fresh_until + rules.stale,
                    }),
                    bad: None,
                };
            }
            Err(Unresolved::NotFound) => {
                *self = Self { good: None, bad: Some(Bad { why: Unresolved::NotFound, until: now + NOT_FOUND_TTL }) };
            }
            Err(why) => self.bad = Some(Bad { why: why.clone(), until: now + ERROR_TTL }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::proxy::upstream::resolve::Answer;

    const RULES: Rules = Rules { valid: None, stale: Duration::from_secs(3600) };

    fn addresses(last: u8) -> Arc<[IpAddr]> {
        [IpAddr::from([10, 0, 0, last])].into()
    }

    fn good(last: u8, ttl_s: u64) -> Outcome {
        Ok(Answer { addresses: addresses(last), ttl: Duration::from_secs(ttl_s) })
    }

    fn failed() -> Unresolved {
        Unresolved::Failed("servfail".into())
    }

    /// Fills at the given seconds, then looks at others.
    fn check(rules: &Rules, fills: Vec<(f64, Outcome)>, looks: Vec<(f64, Look)>) {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut cache = Cache::default();
        for (seconds, outcome) in fills {
            cache.fill("a.test", &outcome, rules, at(seconds));
        }
        for (seconds, expected) in looks {
            assert_eq!(cache.look("a.test", at(seconds)), expected, "at {seconds} s");
        }
    }

    #[test]
    fn an_unknown_name_is_asked_for() {
        check(&RULES, vec![], vec![(0.0, Look::Ask { fallback: None })]);
    }

    #[test]
    fn an_answer_is_used_then_renewed_then_only_a_fallback_then_gone() {
        let old = || addresses(1);
        let looks = vec![
            (0.0, Look::Use(old())),
            (8.9, Look::Use(old())),
            (9.1, Look::Renew(old())),
            (10.1, Look::Ask { fallback: Some(old()) }),
            (3609.0, Look::Ask { fallback: Some(old()) }),
            (3611.0, Look::Ask { fallback: None }),
        ];
        check(&RULES, vec![(0.0, good(1, 10))], looks);
    }

    #[test]
    fn the_last_good_answer_outlives_failures_and_nobody_waits() {
        let looks = vec![
            (10.6, Look::Use(addresses(1))),
            (11.6, Look::Renew(addresses(1))),
            (3000.0, Look::Renew(addresses(1))),
            (3611.0, Look::Ask { fallback: None }),
        ];
        check(&RULES, vec![(0.0, good(1, 10)), (10.5, Err(failed()))], looks);
    }

    #[test]
    fn a_name_that_is_gone_is_dropped_at_once_and_remembered_for_half_a_minute() {
        let looks = vec![
            (1.0, Look::Fail(Unresolved::NotFound)),
            (30.9, Look::Fail(Unresolved::NotFound)),
            (31.1, Look::Ask { fallback: None }),
        ];
        check(&RULES, vec![(0.0, good(1, 10)), (1.0, Err(Unresolved::NotFound))], looks);
    }

    #[test]
    fn a_failure_is_remembered_for_a_second() {
        let looks = vec![(0.9, Look::Fail(failed())), (1.1, Look::Ask { fallback: None })];
        check(&RULES, vec![(0.0, Err(failed()))], looks);
    }

    #[test]
    fn a_new_answer_forgets_the_failure() {
        let fills = vec![(0.0, good(1, 10)), (10.5, Err(failed())), (11.0, good(2, 10))];
        check(&RULES, fills, vec![(11.1, Look::Use(addresses(2))), (21.1, Look::Ask { fallback: Some(addresses(2)) })]);
    }

    #[test]
    fn no_time_to_live_means_asking_each_time() {
        check(&RULES, vec![(0.0, good(1, 0))], vec![(0.0, Look::Ask { fallback: Some(addresses(1)) })]);
    }

    #[test]
    fn the_setting_overrides_the_answer_and_a_day_is_the_most() {
        let rules = Rules { valid: Some(Duration::from_secs(5)), stale: Duration::ZERO };
        check(
            &rules,
            vec![(0.0, good(1, 3600))],
            vec![(4.0, Look::Use(addresses(1))), (5.1, Look::Ask { fallback: None })],
        );
        let day = 86_400.0;
        let rules = Rules { valid: None, stale: Duration::ZERO };
        check(&rules, vec![(0.0, good(1, u64::from(u32::MAX)))], vec![(day + 1.0, Look::Ask { fallback: None })]);
    }

    #[test]
    fn at_the_bound_useless_names_go_first() {
        let now = Instant::now();
        let mut cache = Cache::default();
        for number in 0..MAX_NAMES {
            let outcome = if number == 7 { good(7, 60) } else { Err(failed()) };
            cache.fill(&format!("{number}.test"), &outcome, &RULES, now);
        }
        let later = now + Duration::from_secs(5);
        cache.fill("new.test", &good(1, 60), &RULES, later);
        assert_eq!(cache.names.len(), 2);
        assert_eq!(cache.look("7.test", later), Look::Use(addresses(7)));
        for number in 0..MAX_NAMES {
            cache.fill(&format!("{number}.more"), &good(1, 60), &RULES, later);
        }
        assert_eq!(cache.names.len(), MAX_NAMES);
    }
}
