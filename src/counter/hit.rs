//! What happens to the counters of one hit, in order.
//!
//! With one limit the counter decides and counts in one step. With several all are looked at first, so that a limit that
//! refuses costs the others nothing. Two hits that race for the last place of a later limit may leave a count too many in
//! an earlier one, never in one that comes after: towards refusing. (Taking it back lost: others have seen it.)

use smallvec::SmallVec;

use crate::counter::ask::Ask;
use crate::counter::ask::Outcome;
use crate::counter::calendar::Window;
use crate::counter::cells::Cells;
use crate::counter::changes::Changes;
use crate::counter::decide::Denial;
use crate::counter::keys::key_of;
use crate::counter::limit::Limit;
use crate::counter::limit::Verdict;
use crate::counter::line::Line;
use crate::counter::period::Reach;
use crate::counter::sketch::Sketch;
use crate::counter::table::Table;
use crate::counter::terms::Terms;
use crate::counter::word::Tag;

/// Entries of the list of changed counters; of a smaller table, as many as it has.
const CHANGES: usize = 1 << 16;

/// A counter is found, and its line given to another key before it is counted in, once in a blue moon; after so many
/// times in a row the sketch decides.
const TRIES: usize = 4;

/// All counters of a node for limits of reach local and cluster, which are decided by counts and forecasts.
pub(crate) struct Estimated {
    pub table: Table,
    pub terms: Terms,
    pub changes: Changes,
    pub cells: Cells,
    sketch: Sketch,
}

impl Estimated {
    /// `capacity`: maximum number of counters, one per subject and period.
    pub(crate) fn new(capacity: usize) -> Estimated {
        Estimated {
            table: Table::new(capacity),
            terms: Terms::default(),
            changes: Changes::new(capacity.min(CHANGES)),
            cells: Cells::default(),
            sketch: Sketch::default(),
        }
    }

    /// See `Counters::hit`.
    pub(crate) fn hit(&self, subject: u64, reach: Reach, limits: &[Limit], unix_ms: u64) -> Verdict {
        let now_ms = self.terms.cluster_ms(unix_ms);
        let ask = |limit: &Limit| {
            let window = Window::at(limit.period, now_ms / 1000);
            Ask {
                key: key_of(subject, limit.period),
                window,
                tag: Tag::of(window.number),
                room: limit.room(),
                reach,
                now_ms,
                counts: true,
                terms: &self.terms,
            }
        };
        let blank = || Verdict { admitted: true, at_ms: now_ms, ..Verdict::default() };
        let mut verdict = blank();
        if let [limit] = limits {
            let ask = ask(limit);
            let outcome = count(self, &ask);
            note(&mut verdict, ask.window, &outcome);
            verdict.admitted = sum(self, &[outcome.denial]);
            verdict.unnamed = outcome.unnamed && verdict.admitted;
            return verdict;
        }
        let mut denials: SmallVec<[Option<Denial>; 6]> = SmallVec::new();
        for limit in limits {
            let ask = ask(limit);
            let outcome = look(self, &ask);
            note(&mut verdict, ask.window, &outcome);
            denials.push(outcome.denial);
        }
        if denials.iter().any(Option::is_some) {
            for (limit, _) in limits.iter().zip(&denials).filter(|(_, denial)| denial.is_some()) {
                count(self, &Ask { counts: false, ..ask(limit) });
            }
            verdict.admitted = sum(self, &denials);
            return verdict;
        }
        denials.clear();
        verdict = blank();
        let mut counts = true;
        for limit in limits {
            let ask = Ask { counts, ..ask(limit) };
            let outcome = count(self, &ask);
            counts &= outcome.denial.is_none();
            note(&mut verdict, ask.window, &outcome);
            verdict.unnamed |= outcome.unnamed;
            denials.push(outcome.denial);
        }
        verdict.admitted = sum(self, &denials);
        verdict.unnamed &= verdict.admitted;
        verdict
    }
}

/// What one limit found. A hit that was counted in the next window was decided when that began, as far as anybody is told.
fn note(verdict: &mut Verdict, asked: Window, outcome: &Outcome) {
    verdict.usage.push(outcome.usage);
    if outcome.late {
        verdict.at_ms = verdict.at_ms.max(asked.end_s().saturating_mul(1000));
    }
}

/// Adds a hit to the sums, by what each limit found; whether it is admitted.
fn sum(counters: &Estimated, denials: &[Option<Denial>]) -> bool {
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
fn look(counters: &Estimated, ask: &Ask<'_>) -> Outcome {
    let found = counters.table.find(ask.key).and_then(|(_, line)| line.look(ask));
    found.unwrap_or(Outcome::untold(0, (ask.room == 0).then_some(Denial::Count)))
}

/// Counts in the counter, which is made if need be, or marks it as one that refused.
fn count(counters: &Estimated, ask: &Ask<'_>) -> Outcome {
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

fn at(counters: &Estimated, number: u32, line: &Line, ask: &Ask<'_>) -> Option<Outcome> {
    let outcome = line.hit(ask)?;
    if outcome.changed {
        counters.changes.push(number);
    }
    Some(outcome)
}

/// There is no place for a counter.
fn untracked(counters: &Estimated, ask: &Ask<'_>) -> Outcome {
    counters.cells.mine().add(|sums| &sums.sketched);
    let (usage, admitted) = counters.table.alone(ask.key, || counters.sketch.hit(ask.key, ask.window, ask.room));
    Outcome::untold(usage, (!admitted).then_some(Denial::Count))
}
