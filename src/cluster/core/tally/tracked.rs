//! One counter that peers care about: this node's slot, theirs, and what follows for the decision.
//!
//! What others admitted since they were heard is a sum of straight lines, so what is handed to the hot path is one
//! straight line. Where a peer cannot be heard, its line is held at its share of the limit: a constant, said as a line
//! that hardly rises.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::cluster::core::tally::rate::{Rate, tau_ms};
use crate::cluster::core::tally::sources::{Place, Sources};
use crate::counter::{Gate, Handle, Reading, Remote, Window};

/// A gone peer's demand halves in this time.
const HALF_LIFE_MS: f64 = 30_000.0;
/// How many standard deviations of what cannot be known yet are left for the rounds after the stop, where there is time
/// for some, and where there is none.
const CAUTION: f64 = 2.5;
const CAUTION_LATE: f64 = 1.0;
/// Rounds that are enough time to give out in parts what is left.
const ROUNDS: u64 = 10;
/// A change of demand that is worth saying.
const DRIFT: f64 = 0.1;
/// A constant as a line: so long ago it was 0.
const FLAT_MS: f64 = 1e8;
/// The least that a node may admit at once in a second's window, where the limit allows it: what a person clicks, or a
/// page loads. A stricter one would refuse bursts that no other node has any part in.
const BURST_MIN: u64 = 10;
/// Slots of one counter; more sources than that are not believed to be.
const SLOTS_MAX: usize = 2_048;

/// What a source said.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub source: Place,
    pub window: u32,
    pub count: u64,
    /// The window before, as it ended.
    pub previous: Option<(u32, u64)>,
    pub demand_per_ms: f64,
    pub stopped: bool,
    /// Cluster time of the count.
    pub at_ms: u64,
}

/// A slot as it came.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub count: u64,
    pub demand_per_ms: f64,
    pub stopped: bool,
    pub at_ms: u64,
}

/// What was last said about the own slot, in its window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    pub count: u64,
    pub stopped: bool,
    pub per_ms: f64,
}

/// The world around a counter at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    pub now_ms: u64,
    /// Nodes that share the limits, this one included.
    pub nodes: u64,
    /// Until what is counted here is known by everybody, ms.
    pub delay_ms: u64,
    /// Peers that are gone lose their part of the limit with time.
    pub decays: bool,
    /// In 0..1, for what cannot be divided.
    pub chance: f64,
}

#[derive(Debug)]
pub struct Tracked {
    pub handle: Handle,
    pub window: Window,
    pub room: u64,
    pub own: u64,
    pub stopped: bool,
    pub rate: Rate,
    pub slots: Vec<Slot>,
    /// By streams, and by anything.
    pub told: Told,
    pub hinted: Told,
    /// The window before, not yet said to the end: its number and final count.
    pub ended: Option<(u32, u64)>,
    pub previous: Option<(u32, u64)>,
    /// The last window of which the total was looked at.
    pub judged: Option<u32>,
    /// Hits or slots came at this time.
    pub touched_ms: u64,
    pub estimate: Estimate,
    /// Slots of others arrived that a home has to pass on.
    pub forward: bool,
    refused: u32,
    read_ms: u64,
    /// Hits seen and not yet in the rate.
    pending: u64,
    /// Own counts of this window over the last `delay_ms`.
    trail: VecDeque<(u64, u64)>,
    paused_until_ms: u64,
    /// The own count when the last pause ended.
    base: u64,
    filled_ms: u64,
    fill: u64,
}

/// What others have counted, and probably will have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Estimate {
    pub known: u64,
    pub slope_per_ms: f64,
    /// The forecast at `at_ms`.
    pub unseen: f64,
    pub resume_per_ms: f64,
    pub sources: u32,
    /// Sources that go on in this window.
    pub active: u32,
}

impl Tracked {
    pub fn new(handle: Handle, window: Window, room: u64, now_ms: u64) -> Self {
        Self {
            handle,
            window,
            room,
            own: 0,
            stopped: false,
            rate: Rate::default(),
            slots: Vec::new(),
            told: Told::default(),
            hinted: Told::default(),
            ended: None,
            previous: None,
            judged: None,
            touched_ms: now_ms,
            estimate: Estimate::default(),
            forward: false,
            refused: 0,
            read_ms: now_ms,
            pending: 0,
            trail: VecDeque::new(),
            paused_until_ms: 0,
            base: 0,
            filled_ms: 0,
            fill: 0,
        }
    }

    /// The first reading of a counter only says where it stands.
    pub fn begin(&mut self, reading: &Reading) {
        self.refused = reading.refused;
    }

    /// Takes in what was counted here since the last reading.
    pub fn count(&mut self, reading: &Reading, now_ms: u64) {
        let refused = u64::from(reading.refused.wrapping_sub(self.refused) & 0xff_ffff);
        self.refused = reading.refused;
        if reading.room > 0 {
            self.room = reading.room;
        }
        let mut admitted = 0;
        if reading.window.number > self.window.number {
            if let Some((window, count)) = reading.previous
                && window == self.window
            {
                admitted += count.saturating_sub(self.own);
                self.own = self.own.max(count);
            }
            self.roll(reading.window);
        }
        if reading.window == self.window {
            admitted += reading.own.saturating_sub(self.own);
            self.own = self.own.max(reading.own);
            self.stopped = reading.stopped;
        }
        let elapsed_ms = now_ms.saturating_sub(self.read_ms);
        self.pending += admitted + refused;
        if admitted + refused > 0 {
            self.touched_ms = now_ms;
        }
        // Several looks within a millisecond are one.
        if elapsed_ms > 0 {
            let events = std::mem::take(&mut self.pending);
            self.rate.observe(events, elapsed_ms, tau_ms(self.window.period.length_s()));
            self.read_ms = now_ms;
        }
    }

    /// The counter goes on in a later window.
    pub fn roll(&mut self, window: Window) {
        if window.number <= self.window.number {
            return;
        }
        let told = self.told.count;
        self.previous = Some((self.window.number, self.own));
        self.ended = (self.own > told).then_some((self.window.number, self.own));
        self.window = window;
        (self.own, self.stopped) = (0, false);
        (self.told, self.hinted) = (Told::default(), Told::default());
        self.trail.clear();
        (self.fill, self.filled_ms, self.paused_until_ms, self.base) = (0, 0, 0, 0);
    }

    /// Takes in a slot; false: it said nothing new, or there is no place for it.
    pub fn hear(&mut self, source: Place, window: u32, said: Said, now_ms: u64) -> Heard {
        self.touched_ms = self.touched_ms.max(now_ms);
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.source == source) else {
            if self.slots.len() >= SLOTS_MAX {
                return Heard::Nothing;
            }
            let Said { count, demand_per_ms, stopped, at_ms } = said;
            self.slots.push(Slot { source, window, count, previous: None, demand_per_ms, stopped, at_ms });
            return Heard::First;
        };
        if window < slot.window {
            if let Some((number, count)) = &mut slot.previous
                && *number == window
            {
                *count = (*count).max(said.count);
            } else if slot.previous.is_none_or(|(number, _)| number < window) {
                slot.previous = Some((window, said.count));
            }
            return Heard::Late;
        }
        if window > slot.window {
            slot.previous = Some((slot.window, slot.count));
            (slot.window, slot.count, slot.stopped, slot.at_ms) = (window, 0, false, 0);
        }
        let newer = said.at_ms > slot.at_ms;
        let changed = said.count > slot.count || newer;
        slot.count = slot.count.max(said.count);
        if newer {
            (slot.demand_per_ms, slot.stopped, slot.at_ms) = (said.demand_per_ms, said.stopped, said.at_ms);
        }
        if changed { Heard::More } else { Heard::Nothing }
    }

    /// Looks at all slots again.
    pub fn estimate(&mut self, sources: &Sources, around: &Around) {
        let (now, window) = (around.now_ms, self.window);
        let start_ms = window.start_s() * 1_000;
        let tau = tau_ms(window.period.length_s());
        let tier = tier_ms(window);
        let mut sum = Estimate::default();
        let mut variance = 0.0;
        let mut waiting: SmallVec<[(f64, f64); 32]> = SmallVec::new();
        let demand: f64 = self.slots.iter().map(|slot| slot.demand_per_ms).sum::<f64>() + self.rate.per_ms();
        for slot in &self.slots {
            let Some(source) = sources.source(slot.source) else { continue };
            let here = slot.window == window.number;
            let count = if here { slot.count } else { 0 };
            sum.known += count;
            sum.sources += u32::from(here && count > 0);
            let mark = source.watermarks[window.period as usize];
            let (mut per_ms, mut from_ms) = (slot.demand_per_ms, slot.at_ms.max(start_ms));
            from_ms = from_ms.max(mark);
            // Silence is word that nothing was admitted; of a source that had stopped, that is no news before the next
            // window.
            let silent_from_ms = match (slot.stopped, here) {
                (true, true) => mark,
                (true, false) => start_ms,
                (false, _) => slot.at_ms,
            };
            per_ms *= (-(mark.saturating_sub(silent_from_ms) as f64) / tau).exp();
            if let (Some(gone_ms), true) = (source.gone_ms, around.decays) {
                per_ms *= (-(now.saturating_sub(gone_ms) as f64) / HALF_LIFE_MS).exp2();
            }
            if source.replaced {
                per_ms = 0.0;
            }
            if per_ms < 1e-9 {
                continue;
            }
            sum.resume_per_ms += per_ms;
            if here && slot.stopped {
                continue;
            }
            sum.active += 1;
            let age_ms = now.saturating_sub(from_ms) as f64;
            if source.is_fresh(tier, now) {
                waiting.push((per_ms, age_ms));
            } else {
                // It may admit its share of the limit, and not more, since it forecasts us too.
                let share = slot.demand_per_ms / demand.max(1e-12) * self.room as f64;
                sum.unseen += (per_ms * age_ms).min((share * per_ms / slot.demand_per_ms - count as f64).max(0.0));
            }
        }
        // A peer that had counted more than this would have said so at once, and we had heard it a trip ago.
        let left = (self.room as f64 - self.own as f64 - sum.known as f64).max(0.0);
        let unsaid = (urgent_step(left, sum.active) - 1.0).max(0.0);
        let delay_ms = around.delay_ms as f64;
        for (per_ms, age_ms) in waiting {
            let most = unsaid + per_ms * age_ms.min(delay_ms);
            let unseen = (per_ms * age_ms).min(most);
            if age_ms <= delay_ms || per_ms * age_ms < most {
                sum.slope_per_ms += per_ms;
            }
            sum.unseen += unseen;
            variance += unseen;
        }
        // Of a few hits nobody has to be careful: a small limit would never be used up at once.
        sum.unseen += caution(window, around) * ((variance + 1.0).sqrt() - 1.0);
        self.estimate = sum;
    }

    /// What the hot path should go by from now on.
    pub fn remote(&mut self, around: &Around) -> Remote {
        let Estimate { known, slope_per_ms, unseen, resume_per_ms, .. } = self.estimate;
        let slope = if unseen > 0.0 { slope_per_ms.max(unseen / FLAT_MS) } else { slope_per_ms };
        // Hits read a clock of whole milliseconds, which is half of one late.
        let age_ms = if slope > 0.0 { (unseen / slope + 0.5).round() as u64 } else { 0 };
        let delay = around.delay_ms.max(1) as f64;
        let burst = if self.is_short() {
            self.allowance(around).max((3.0 * self.rate.usual_per_ms() * delay) as u64)
        } else {
            0
        };
        let gate = self.gate(around);
        Remote {
            window: self.window,
            known,
            slope_per_ms: slope as f32,
            zero_ms: around.now_ms.saturating_sub(age_ms),
            resume_per_ms: resume_per_ms as f32,
            gate,
            burst,
        }
    }

    fn gate(&mut self, around: &Around) -> Gate {
        if self.stopped {
            return Gate::Fill(self.round(around));
        }
        if !self.is_short() || around.nodes < 2 {
            return Gate::Open;
        }
        self.blind_cap(around)
    }

    /// A second's window can be used up within one trip, before anybody can be warned.
    fn blind_cap(&mut self, around: &Around) -> Gate {
        let (now, delay) = (around.now_ms, around.delay_ms.max(1));
        while self.trail.len() > 1 && self.trail[1].0 + delay <= now {
            self.trail.pop_front();
        }
        if self.trail.back().is_none_or(|(at_ms, _)| *at_ms < now) {
            self.trail.push_back((now, self.own));
        }
        if now < self.paused_until_ms {
            return Gate::Capped(self.own);
        }
        if self.paused_until_ms > 0 {
            (self.paused_until_ms, self.base) = (0, self.own);
        }
        let lately = self.trail.front().filter(|(at_ms, _)| at_ms + delay <= now).map_or(0, |(_, own)| *own);
        let usual = (3.0 * self.rate.usual_per_ms() * delay as f64) as u64;
        let cap = lately.max(self.base) + self.allowance(around).max(usual);
        if self.own >= cap {
            // Everybody pauses at about the same time; not all go on at once.
            self.paused_until_ms = now + delay + (around.chance * delay as f64 / 2.0) as u64;
            return Gate::Capped(self.own);
        }
        Gate::Capped(cap)
    }

    fn allowance(&self, around: &Around) -> u64 {
        self.room.div_ceil(around.nodes.max(1)).max(self.room.min(BURST_MIN))
    }

    /// After the stop: what is left by all that is known is divided among those who want it, in rounds so far apart that
    /// everything granted in one is known in the next.
    fn round(&mut self, around: &Around) -> u64 {
        let now = around.now_ms;
        let apart_ms = around.apart_ms();
        if self.filled_ms == 0 {
            // What was under way when this node stopped has to arrive first.
            (self.filled_ms, self.fill) = (now, self.own);
        }
        if now < self.filled_ms + apart_ms {
            return self.fill;
        }
        self.filled_ms = now;
        self.fill = self.own;
        let left = self.room as f64 - self.own as f64 - self.estimate.known as f64 - self.estimate.unseen;
        let mine = self.rate.per_ms();
        if left >= 1.0 && mine > 0.0 {
            // Several nodes may win the same last places; with time to spare only a part is put up.
            let calm = if rounds_left(self.window, around) >= ROUNDS { 0.5 } else { 1.0 };
            let part = calm * left * mine / (mine + self.estimate.resume_per_ms);
            let lottery = u64::from(part.fract() > around.chance);
            self.fill += part as u64 + lottery;
        }
        self.fill
    }

    /// Whether peers should hear of the own slot now and not with the next batch.
    pub fn is_urgent(&self) -> bool {
        if self.room == 0 {
            return false;
        }
        if self.stopped != self.hinted.stopped && self.own + self.estimate.known > 0 {
            return true;
        }
        let unsaid = self.own.saturating_sub(self.hinted.count);
        let left = self.room as f64 - self.own as f64 - self.estimate.known as f64 - self.estimate.unseen;
        unsaid > 0 && unsaid as f64 >= urgent_step(left, self.estimate.active)
    }

    pub fn is_owed(&self) -> bool {
        // A stopped node admits nothing, and still has to say how it will begin the next window.
        let moved = self.stopped && (self.rate.per_ms() - self.told.per_ms).abs() > DRIFT * self.told.per_ms;
        self.own > self.told.count
            || self.own > 0 && (self.stopped != self.told.stopped || moved)
            || self.ended.is_some()
    }

    /// The own slot as it is said now.
    pub fn now_told(&self) -> Told {
        Told { count: self.own, stopped: self.stopped, per_ms: self.rate.per_ms() }
    }

    /// Admitted by all in a window, as far as is known.
    pub fn total(&self, number: u32) -> u64 {
        let own = [Some((self.window.number, self.own)), self.previous];
        let own = own.into_iter().flatten().find(|(window, _)| *window == number).map_or(0, |(_, count)| count);
        let of = |slot: &Slot| {
            let both = [Some((slot.window, slot.count)), slot.previous];
            both.into_iter().flatten().find(|(window, _)| *window == number).map_or(0, |(_, count)| count)
        };
        own + self.slots.iter().map(of).sum::<u64>()
    }

    pub fn fullness(&self) -> f64 {
        (self.own + self.estimate.known) as f64 / self.room.max(1) as f64
    }

    pub fn is_short(&self) -> bool {
        self.window.period.length_s() < 10
    }
}

/// What a slot that came did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    First,
    More,
    /// It belongs to the window before.
    Late,
    Nothing,
}

impl Around {
    /// Between two rounds: everything granted in one is known in the next.
    fn apart_ms(&self) -> u64 {
        2 * self.delay_ms + 20
    }
}

/// Rounds for which this window has time.
fn rounds_left(window: Window, around: &Around) -> u64 {
    (window.end_s() * 1_000).saturating_sub(around.now_ms) / around.apart_ms()
}

fn caution(window: Window, around: &Around) -> f64 {
    if rounds_left(window, around) >= 2 { CAUTION } else { CAUTION_LATE }
}

/// How much a node may count before it says so at once: half of its even part of what is left.
fn urgent_step(left: f64, others: u32) -> f64 {
    (left / 2.0 / f64::from(others + 1)).max(1.0)
}

/// How often batches of a window's counters go out, ms: a fiftieth of the window, between 20 ms and 5 s.
pub fn tier_ms(window: Window) -> u64 {
    (window.period.length_s() * 20).clamp(20, 5_000)
}
