//! What happens to the counters of one hit, in order.
//!
//! With one limit the counter decides and counts in one step. With several all are looked at first, so that a limit that
//! refuses costs the others nothing. Two hits that race for the last place of a later limit may leave a count too many in
//! an earlier one, never in one that comes after: towards refusing. (Taking it back lost: others have seen it.)

use smallvec::SmallVec;

use crate::counter::Counters;
use crate::counter::Limit;
use crate::counter::Reach;
use crate::counter::Verdict;
use crate::counter::Window;
use crate::counter::decide::Denial;
use crate::counter::line::Ask;
use crate::counter::line::Line;
use crate::counter::line::Outcome;
use crate::counter::word::Tag;

/// A counter is found, and its line given to another key before it is counted in, once in a blue moon; after so many
/// times in a row the sketch decides.
const TRIES: usize = 4;

/// See `Counters::hit`.
pub(crate) fn run(counters: &Counters, subject: u64, reach: Reach, limits: &[Limit], unix_ms: u64) -> Verdict {
    let now_ms = counters.terms.cluster_ms(unix_ms);
    let ask = |limit: &Limit| {
        let window = Window::at(limit.period, now_ms / 1000);
        Ask {
            key: Counters::key(subject, limit.period),
            window,
            tag: Tag::of(window.number),
            room: limit.room(),
            reach,
            now_ms,
            counts: true,
            terms: &counters.terms,
        }
    };
    let blank = || Verdict { admitted: true, at_ms: now_ms, ..Verdict::default() };
    let mut verdict = blank();
    if let [limit] = limits {
        let ask = ask(limit);
        let outcome = count(counters, &ask);
        note(&mut verdict, ask.window, &outcome);
        verdict.admitted = sum(counters, &[outcome.denial]);
        verdict.unnamed = outcome.unnamed && verdict.admitted;
        return verdict;
    }
    let mut denials: SmallVec<[Option<Denial>; 6]> = SmallVec::new();
    for limit in limits {
        let ask = ask(limit);
        let outcome = look(counters, &ask);
        note(&mut verdict, ask.window, &outcome);
        denials.push(outcome.denial);
    }
    if denials.iter().any(Option::is_some) {
        for (limit, _) in limits.iter().zip(&denials).filter(|(_, denial)| denial.is_some()) {
            count(counters, &Ask { counts: false, ..ask(limit) });
        }
        verdict.admitted = sum(counters, &denials);
        return verdict;
    }
    denials.clear();
    verdict = blank();
    let mut counts = true;
    for limit in limits {
        let ask = Ask { counts, ..ask(limit) };
        let outcome = count(counters, &ask);
        counts &= outcome.denial.is_none();
        note(&mut verdict, ask.window, &outcome);
        verdict.unnamed |= outcome.unnamed;
        denials.push(outcome.denial);
    }
    verdict.admitted = sum(counters, &denials);
    verdict.unnamed &= verdict.admitted;
    verdict
}

/// What one limit found. A hit that was counted in the next window was decided when that began, as far as anybody is told.
fn note(verdict: &mut Verdict, asked: Window, outcome: &Outcome) {
    verdict.usage.push(outcome.usage);
    if outcome.late {
        verdict.at_ms = verdict.at_ms.max(asked.end_s().saturating_mul(1000));
    }
}

/// Adds a hit to the sums, by what each limit found; whether it is admitted.
fn sum(counters: &Counters, denials: &[Option<Denial>]) -> bool {
    let sums = counters.cells.mine();
    if denials.iter().all(Option::is_none) {
        sums.add(|sums| &sums.admitted);
        return true;
    }
    sums.add(|sums| &sums.refused);
    if denials.iter().flatten().all(|denial| matches!(denial, Denial::Estimate | Denial::Held)) {
        sums.add(|sums| &sums.forecast_refused);
    }
    false
}

/// What the counter says, which need not be there yet.
fn look(counters: &Counters, ask: &Ask<'_>) -> Outcome {
    let found = counters.table.find(ask.key).and_then(|(_, line)| line.look(ask));
    found.unwrap_or(Outcome::untold(0, (ask.room == 0).then_some(Denial::Count)))
}

/// Counts in the counter, which is made if need be, or marks it as one that refused.
fn count(counters: &Counters, ask: &Ask<'_>) -> Outcome {
    if let Some((number, line)) = counters.table.find(ask.key)
        && let Some(outcome) = at(counters, number, line, ask)
    {
        return outcome;
    }
    if ask.room == 0 {
        return Outcome::untold(0, Some(Denial::Count));
    }
    for _ in 0..TRIES {
        let new = (ask.window, ask.room, ask.reach);
        let Some((number, line)) = counters.table.obtain(ask.key, new, ask.now_ms) else { break };
        if let Some(outcome) = at(counters, number, line, ask) {
            return outcome;
        }
    }
    untracked(counters, ask)
}

fn at(counters: &Counters, number: u32, line: &Line, ask: &Ask<'_>) -> Option<Outcome> {
    let outcome = line.hit(ask)?;
    if outcome.changed {
        counters.changes.push(number);
    }
    Some(outcome)
}

/// There is no place for a counter.
fn untracked(counters: &Counters, ask: &Ask<'_>) -> Outcome {
    counters.cells.mine().add(|sums| &sums.sketched);
    let (usage, admitted) = counters.table.alone(ask.key, || counters.sketch.hit(ask.key, ask.window, ask.room));
    Outcome::untold(usage, (!admitted).then_some(Denial::Count))
}
