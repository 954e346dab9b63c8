//! The counters said plainly, for one thread: maps, options and full numbers instead of words and tags.

use std::collections::HashMap;

use crate::counter::*;

#[derive(Default)]
pub(crate) struct Plain {
    pub counters: HashMap<u64, Counter>,
    pub offset_ms: i64,
    pub nodes: u32,
    pub guard_until_ms: u64,
    pub boot_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Counter {
    window: Window,
    own: u64,
    previous: Option<(Window, u64)>,
    refused: u32,
    room: u64,
    reach: Reach,
    refused_in: Option<u32>,
    sticky: bool,
    remote: Option<Remote>,
    gate: (u32, Gate),
}

/// Who refuses, and whether because of the estimate.
type Denial = Option<bool>;

impl Plain {
    pub(crate) fn hit(&mut self, subject: u64, reach: Reach, limits: &[Limit], unix_ms: u64) -> (bool, Vec<u64>) {
        let now_ms = unix_ms.saturating_add_signed(self.offset_ms);
        let mut found = Vec::new();
        for limit in limits {
            let (room, window) = (limit.room(), Window::at(limit.period, now_ms / 1000));
            let key = Counters::key(subject, limit.period);
            let counter = self.counters.get(&key).cloned().unwrap_or(Counter::new(window, room, reach));
            let eff = counter.standing(window, reach);
            let denial = if room == 0 { Some(false) } else { self.denial(&counter, eff, reach, room, now_ms) };
            let held = counter.refused_in == Some(eff.number) && room <= counter.room;
            let known = if reach == Reach::Local { 0 } else { counter.known(eff).unwrap_or(0) };
            let mut usage = counter.count(eff) + known;
            if denial.is_some() || held {
                usage = usage.max(room);
            }
            found.push((key, counter, eff, room, denial, usage));
        }
        let admitted = found.iter().all(|(.., denial, _)| denial.is_none());
        let usage = found.iter().map(|(.., usage)| *usage).collect();
        for (key, mut counter, eff, room, denial, _) in found {
            if (denial.is_some() || admitted) && (room > 0 || self.counters.contains_key(&key)) {
                counter.settle(eff, room, reach, denial);
                self.counters.insert(key, counter);
            }
        }
        (admitted, usage)
    }

    fn denial(&self, counter: &Counter, eff: Window, reach: Reach, room: u64, now_ms: u64) -> Denial {
        let own = counter.count(eff);
        match reach {
            Reach::Local => (own >= room).then_some(false),
            Reach::Strict => Some(false),
            Reach::Cluster => {
                let (known, start_ms) = (counter.known(eff), eff.start_s() * 1000);
                let share = (room / u64::from(self.nodes.max(3))).max(1);
                if own + known.unwrap_or(0) >= room
                    || (now_ms < self.guard_until_ms && start_ms < self.boot_ms && own >= share)
                {
                    return Some(false);
                }
                let gate = if counter.gate.0 == eff.number { counter.gate.1 } else { Gate::Open };
                if let Gate::Fill(cap) = gate {
                    return (own >= cap).then_some(false);
                }
                let slope = match (known, &counter.remote) {
                    (Some(_), Some(remote)) => remote.slope_per_ms,
                    (None, Some(remote)) => remote.resume_per_ms,
                    _ => 0.0,
                };
                let alone = known.unwrap_or(0) == 0 && slope == 0.0;
                let stopped = counter.sticky && counter.refused_in == Some(eff.number) && room <= counter.room;
                if stopped && !alone {
                    return Some(true);
                }
                let burst = counter.remote.as_ref().map_or(0, |remote| remote.burst);
                let blind = (room / u64::from(self.nodes.max(1))).max(room.min(10)).max(burst);
                if matches!(gate, Gate::Capped(cap) if own >= cap)
                    || (known.is_none() && eff.period == Period::Second && own >= blind)
                {
                    return Some(false);
                }
                let zero_ms = match (known, &counter.remote) {
                    (Some(_), Some(remote)) => remote.zero_ms,
                    _ => start_ms,
                };
                let forecast = f64::from(slope) * now_ms.saturating_sub(zero_ms) as f64;
                ((own + known.unwrap_or(0)) as f64 + forecast >= room as f64).then_some(true)
            }
        }
    }

    pub(crate) fn read(&self, key: u64, now_ms: u64) -> Option<Reading> {
        let counter = self.counters.get(&key)?;
        let running = Window::at(counter.window.period, now_ms / 1000);
        let window = if counter.own == 0 { running } else { counter.window };
        Some(Reading {
            key,
            window,
            own: counter.own,
            previous: counter.previous,
            refused: counter.refused,
            room: counter.room,
            reach: counter.reach,
            stopped: counter.refused_in == Some(window.number),
        })
    }

    pub(crate) fn open(&mut self, key: u64, period: Period, room: u64, now_ms: u64) {
        let window = Window::at(period, now_ms / 1000);
        self.counters.entry(key).or_insert_with(|| Counter::new(window, room, Reach::Cluster));
    }

    pub(crate) fn publish(&mut self, key: u64, remote: &Remote, now_ms: u64) -> bool {
        let Some(counter) = self.counters.get_mut(&key) else { return false };
        let running = Window::at(counter.window.period, now_ms / 1000);
        let mut remote = *remote;
        let believed = counter.remote.as_ref().filter(|old| old.window.number <= running.number);
        if remote.window.period != running.period
            || remote.window.number > running.number
            || believed.is_some_and(|old| old.window.number > remote.window.number)
        {
            return false;
        }
        if let Some(old) = believed.filter(|old| old.window == remote.window) {
            remote.known = remote.known.max(old.known);
        }
        counter.gate = (remote.window.number, remote.gate);
        counter.remote = Some(remote);
        true
    }

    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.counters.retain(|_, counter| {
            let latest = counter.remote.as_ref().map_or(counter.window, |remote| remote.window.max(counter.window));
            latest.end_s() + latest.period.grace_s() > now_ms / 1000
        });
    }
}

impl Counter {
    fn new(window: Window, room: u64, reach: Reach) -> Counter {
        Counter {
            window,
            own: 0,
            previous: None,
            refused: 0,
            room,
            reach,
            refused_in: None,
            sticky: false,
            remote: None,
            gate: (0, Gate::Open),
        }
    }

    /// The window a hit counts in: that of the line when it comes a little late.
    fn standing(&self, window: Window, reach: Reach) -> Window {
        let remote = self.remote.as_ref().filter(|_| reach != Reach::Local);
        let line = remote.map_or(self.window, |remote| remote.window.max(self.window));
        if window.next() == line { line } else { window }
    }

    fn settle(&mut self, eff: Window, room: u64, reach: Reach, denial: Denial) {
        self.turn(eff);
        if denial.is_none() {
            self.own += 1;
        }
        if room > self.room {
            (self.refused_in, self.sticky) = (None, false);
        }
        if let Some(estimate) = denial {
            self.refused = (self.refused + 1) & 0xff_ffff;
            self.sticky = (self.sticky && self.refused_in == Some(eff.number)) || estimate;
            self.refused_in = Some(eff.number);
        }
        (self.room, self.reach) = (room, reach);
    }

    fn turn(&mut self, window: Window) {
        if window != self.window {
            let near = self.window.number.abs_diff(window.number) < 120;
            self.previous = near.then_some((self.window, self.own));
            if self.refused_in != Some(window.number) {
                (self.refused_in, self.sticky) = (None, false);
            }
            (self.window, self.own) = (window, 0);
        }
    }

    fn count(&self, window: Window) -> u64 {
        if self.window == window { self.own } else { 0 }
    }

    fn known(&self, window: Window) -> Option<u64> {
        self.remote.as_ref().filter(|remote| remote.window == window).map(|remote| remote.known)
    }
}
