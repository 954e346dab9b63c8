//! The words of a counter at one moment, and what they mean for a hit.

use crate::counter::ask::Ask;
use crate::counter::calendar::Window;
use crate::counter::decide::Case;
use crate::counter::decide::Denial;
use crate::counter::decide::blind_cap;
use crate::counter::decide::cold_start_cap;
use crate::counter::period::Period;
use crate::counter::period::Reach;
use crate::counter::word::Facts;
use crate::counter::word::Pace;
use crate::counter::word::Tag;
use crate::counter::word::Tagged;
use crate::counter::word::gate_in;

pub(crate) struct Moment {
    pub own: Tagged,
    pub facts: Facts,
    pub remote: Tagged,
    pub forecast: u64,
    pub gate: u64,
    pub next: u64,
    /// The window the hit counts in, and its tag.
    pub window: Window,
    pub tag: Tag,
}

impl Moment {
    /// Own count of the window.
    fn count(&self) -> u64 {
        self.own.in_window(self.tag).unwrap_or(0)
    }

    /// What is published for the window.
    fn known(&self) -> Option<u64> {
        self.remote.in_window(self.tag).filter(|_| self.remote.spare != 0)
    }

    fn refused(&self, ask: &Ask<'_>) -> bool {
        self.facts.refused_in(self.tag) && ask.room <= self.facts.room
    }

    pub(crate) fn denial(&self, ask: &Ask<'_>) -> Option<Denial> {
        match ask.reach {
            Reach::Local => (self.count() >= ask.room).then_some(Denial::Count),
            Reach::Cluster => self.case(ask).denial(),
            // Has counters of its own.
            Reach::Strict => Some(Denial::Count),
        }
    }

    fn case(&self, ask: &Ask<'_>) -> Case {
        let (known, terms) = (self.known(), ask.terms);
        let start_ms = || self.window.start_s().saturating_mul(1000);
        let (slope, forecast, next) = if known.is_some() {
            let pace = Pace::unpack(self.forecast);
            (pace.per_ms, pace.since_zero(ask.now_ms), None)
        } else {
            let pace = Pace::unpack(self.next);
            let elapsed_ms = if pace.per_ms > 0.0 { ask.now_ms.saturating_sub(start_ms()) } else { 0 };
            (pace.per_ms, f64::from(pace.per_ms) * elapsed_ms as f64, Some(pace))
        };
        let blind = next.filter(|_| self.window.period == Period::Second);
        let guarded = ask.now_ms < terms.guard_until_ms() && start_ms() < terms.boot_ms();
        Case {
            room: ask.room,
            own: self.count(),
            known: known.unwrap_or(0),
            forecast,
            gate: gate_in(self.gate, self.tag),
            closed: self.facts.sticky && self.refused(ask),
            alone: known.unwrap_or(0) == 0 && slope == 0.0,
            cap: blind.map(|next| blind_cap(ask.room, terms.nodes(), next.number.into())),
            guard: guarded.then(|| cold_start_cap(ask.room, terms.nodes())),
        }
    }

    /// The usage that is told: it never falls, so after a refusal it stays at the limit.
    pub(crate) fn told(&self, ask: &Ask<'_>, denial: Option<Denial>) -> u64 {
        let known = if ask.reach == Reach::Local { 0 } else { self.known().unwrap_or(0) };
        let usage = self.count().saturating_add(known);
        if denial.is_some() || self.refused(ask) { usage.max(ask.room) } else { usage }
    }
}
