//! The table behind `Counters`, said plainly: a map under one lock.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::counter::Counters;
use crate::counter::Cursor;
use crate::counter::Drained;
use crate::counter::Figures;
use crate::counter::Gate;
use crate::counter::Handle;
use crate::counter::Limit;
use crate::counter::Name;
use crate::counter::Period;
use crate::counter::Reach;
use crate::counter::Reading;
use crate::counter::Remote;
use crate::counter::Verdict;
use crate::counter::Window;

pub(crate) struct Plain {
    counters: HashMap<u64, Counter>,
    names: HashMap<u64, Name>,
    dirty: VecDeque<u64>,
    capacity: usize,
    figures: Figures,
    dozing: bool,
    pub offset_ms: i64,
    pub nodes: u32,
    pub guard_until_ms: u64,
    pub boot_ms: u64,
    pub rouse: Option<Arc<dyn Fn() + Send + Sync>>,
}

#[derive(Clone)]
struct Counter {
    window: Window,
    own: u64,
    counted: bool,
    previous: Option<(Window, u64)>,
    refused: u32,
    room: u64,
    reach: Reach,
    refused_in: Option<u32>,
    sticky: bool,
    dirty: bool,
    named: bool,
    remote: Option<Remote>,
}

enum Denial {
    Count,
    Forecast,
    Held,
}

impl Plain {
    pub fn new(capacity: usize) -> Plain {
        Plain {
            counters: HashMap::new(),
            names: HashMap::new(),
            dirty: VecDeque::new(),
            capacity,
            figures: Figures::default(),
            dozing: false,
            offset_ms: 0,
            nodes: 1,
            guard_until_ms: 0,
            boot_ms: 0,
            rouse: None,
        }
    }

    pub fn hit(&mut self, subject: u64, reach: Reach, limits: &[Limit], unix_ms: u64) -> Verdict {
        let now_ms = unix_ms.saturating_add_signed(self.offset_ms);
        let mut verdict = Verdict { admitted: true, at_ms: now_ms, ..Verdict::default() };
        let mut denials = Vec::new();
        for limit in limits {
            let (room, window) = (limit.room(), Window::at(limit.period, now_ms / 1000));
            let key = Counters::key(subject, limit.period);
            if !self.counters.contains_key(&key) && room > 0 {
                self.insert(key, window, room, reach, now_ms);
            }
            let Some(mut counter) = self.counters.remove(&key) else {
                verdict.admitted = false;
                verdict.usage.push(room);
                continue;
            };
            counter.roll(window);
            if room > counter.room {
                (counter.refused_in, counter.sticky) = (None, false);
            }
            counter.room = room;
            counter.reach = reach;
            let denial = self.denial(&counter, reach, room, now_ms).err();
            let mut usage = counter.own + counter.known(reach);
            if denial.is_some() || counter.refused_in == Some(counter.window.number) {
                usage = usage.max(room);
            }
            verdict.usage.push(usage);
            if let Some(denial) = denial {
                verdict.admitted = false;
                counter.refused = (counter.refused + 1) & 0xff_ffff;
                let fresh = counter.refused_in != Some(counter.window.number);
                counter.refused_in = Some(counter.window.number);
                let loose = counter.slope() == 0.0 && counter.known(reach) == 0;
                counter.sticky = (counter.sticky && !fresh) || (matches!(denial, Denial::Forecast) && !loose);
                denials.push(denial);
            }
            self.counters.insert(key, counter);
        }
        for limit in limits {
            let key = Counters::key(subject, limit.period);
            let Some(counter) = self.counters.get_mut(&key) else { continue };
            if verdict.admitted {
                counter.own += 1;
                counter.counted = true;
                verdict.unnamed |= !counter.named && (counter.own >= 8 || counter.own * 10 >= counter.room);
            }
            if reach != Reach::Local && !counter.dirty {
                counter.dirty = true;
                self.dirty.push_back(key);
                if std::mem::take(&mut self.dozing)
                    && let Some(rouse) = &self.rouse
                {
                    rouse();
                }
            }
        }
        self.tally(&verdict, &denials);
        verdict
    }

    fn tally(&mut self, verdict: &Verdict, denials: &[Denial]) {
        self.figures.admitted += u64::from(verdict.admitted);
        self.figures.refused += u64::from(!verdict.admitted);
        let forecast = !verdict.admitted && denials.iter().all(|denial| matches!(denial, Denial::Forecast));
        self.figures.forecast_refused += u64::from(forecast);
    }

    fn denial(&self, counter: &Counter, reach: Reach, room: u64, now_ms: u64) -> Result<(), Denial> {
        let own = counter.own;
        let below = |bound: u64, denial: Denial| if own < bound { Ok(()) } else { Err(denial) };
        match reach {
            Reach::Local => below(room, Denial::Count),
            // Has counters of its own.
            Reach::Strict => Err(Denial::Count),
            Reach::Cluster => {
                let start_ms = counter.window.start_s() * 1000;
                if now_ms < self.guard_until_ms && start_ms < self.boot_ms {
                    below((room / u64::from(self.nodes.max(3))).max(1), Denial::Held)?;
                }
                let known = counter.known(reach);
                below(room.saturating_sub(known), Denial::Count)?;
                let current = counter.remote.as_ref().filter(|remote| remote.window == counter.window);
                let gate = current.map_or(Gate::Open, |remote| remote.gate);
                if let Gate::Fill(cap) = gate {
                    return below(cap, Denial::Forecast);
                }
                if counter.sticky && counter.refused_in == Some(counter.window.number) {
                    return Err(Denial::Forecast);
                }
                if let Gate::Capped(cap) = gate {
                    below(cap, Denial::Held)?;
                }
                let blind = (room / u64::from(self.nodes.max(1))).max(room.min(10)).max(counter.burst());
                if current.is_none() && counter.window.period == Period::Second {
                    below(blind, Denial::Held)?;
                }
                let from_ms = current.map_or(start_ms, |remote| remote.zero_ms);
                let forecast = f64::from(counter.slope()) * now_ms.saturating_sub(from_ms) as f64;
                if (own + known) as f64 + forecast < room as f64 { Ok(()) } else { Err(Denial::Forecast) }
            }
        }
    }

    fn insert(&mut self, key: u64, window: Window, room: u64, reach: Reach, now_ms: u64) {
        if self.counters.len() >= self.capacity {
            let over = |counter: &Counter| counter.over(now_ms);
            let least = self.counters.iter().filter(|(_, counter)| over(counter) || counter.own * 2 < counter.room);
            let order = |(key, counter): (&u64, &Counter)| (!over(counter), counter.own * 1000 / counter.room, *key);
            let Some((.., gone)) = least.map(order).min() else { return };
            if let Some(gone) = self.counters.remove(&gone)
                && !gone.over(now_ms)
            {
                self.figures.evicted += 1;
            }
        }
        let counter = Counter {
            window,
            own: 0,
            counted: false,
            previous: None,
            refused: 0,
            room,
            reach,
            refused_in: None,
            sticky: false,
            dirty: false,
            named: false,
            remote: None,
        };
        self.counters.insert(key, counter);
    }

    pub fn name(&mut self, subject: u64, limits: &[Limit], name: impl FnOnce() -> Name) {
        let name = name();
        for limit in limits {
            let key = Counters::key(subject, limit.period);
            if let Some(counter) = self.counters.get_mut(&key) {
                counter.named = true;
                if self.names.len() < 4_096 {
                    self.names.insert(key, name.clone());
                }
            }
        }
    }

    pub fn name_of(&self, key: u64) -> Option<Name> {
        self.names.get(&key).cloned()
    }

    pub fn drain(&mut self, into: &mut Vec<Handle>, max: usize) -> Drained {
        for _ in 0..max {
            let Some(key) = self.dirty.pop_front() else { break };
            if let Some(counter) = self.counters.get_mut(&key) {
                counter.dirty = false;
                into.push(Handle { line: 0, key });
            }
        }
        Drained { lost: false }
    }

    pub fn read(&self, handle: Handle, now_ms: u64) -> Option<Reading> {
        let counter = self.counters.get(&handle.key)?;
        let running = Window::at(counter.window.period, now_ms / 1000);
        Some(Reading {
            key: handle.key,
            window: if counter.counted { counter.window } else { running },
            own: counter.own,
            previous: counter.previous,
            refused: counter.refused,
            room: counter.room,
            reach: counter.reach,
            stopped: counter.refused_in == Some(counter.window.number),
        })
    }

    pub fn find(&self, key: u64) -> Option<Handle> {
        self.counters.contains_key(&key).then_some(Handle { line: 0, key })
    }

    pub fn open(&mut self, key: u64, period: Period, room: u64, now_ms: u64) -> Option<Handle> {
        if !self.counters.contains_key(&key) {
            self.insert(key, Window::at(period, now_ms / 1000), room, Reach::Cluster, now_ms);
        }
        self.find(key)
    }

    pub fn publish(&mut self, handle: Handle, remote: &Remote, _now_ms: u64) {
        let Some(counter) = self.counters.get_mut(&handle.key) else { return };
        let mut remote = *remote;
        if let Some(old) = &counter.remote {
            if old.window.number > remote.window.number {
                return;
            }
            if old.window == remote.window {
                remote.known = remote.known.max(old.known);
            }
        }
        counter.remote = Some(remote);
    }

    pub fn scan(&self, cursor: &mut Cursor, lines_max: usize) -> Vec<Handle> {
        let mut keys: Vec<u64> = self.counters.keys().copied().filter(|key| *key > cursor.next).collect();
        keys.sort_unstable();
        keys.truncate(lines_max);
        cursor.next = keys.last().copied().unwrap_or(0);
        keys.into_iter().map(|key| Handle { line: 0, key }).collect()
    }

    pub fn expire(&mut self, _cursor: &mut Cursor, now_ms: u64, _lines_max: usize) {
        self.counters.retain(|_, counter| !counter.over(now_ms));
        let counters = &self.counters;
        self.names.retain(|key, _| counters.contains_key(key));
    }

    pub fn doze(&mut self) -> bool {
        self.dozing = self.dirty.is_empty();
        self.dozing
    }

    pub fn figures(&self) -> Figures {
        let (lines, capacity, names) = (self.counters.len(), self.capacity, self.names.len());
        Figures { lines: lines as u64, capacity: capacity as u64, names: names as u64, ..self.figures }
    }
}

impl Counter {
    /// Moves to the window of a hit.
    fn roll(&mut self, window: Window) {
        if window.number == self.window.number || window.number + 1 == self.window.number {
            return;
        }
        if self.counted {
            self.previous = Some((self.window, self.own));
        }
        (self.window, self.own) = (window, 0);
    }

    fn known(&self, reach: Reach) -> u64 {
        let current = self.remote.as_ref().filter(|remote| remote.window == self.window && reach != Reach::Local);
        current.map_or(0, |remote| remote.known)
    }

    fn slope(&self) -> f32 {
        let Some(remote) = &self.remote else { return 0.0 };
        if remote.window == self.window { remote.slope_per_ms } else { remote.resume_per_ms }
    }

    fn burst(&self) -> u64 {
        self.remote.as_ref().map_or(0, |remote| remote.burst)
    }

    /// Whether its window, and what was published, ended a grace ago.
    fn over(&self, now_ms: u64) -> bool {
        let published = self.remote.as_ref().map_or(0, |remote| remote.window.end_s());
        self.window.end_s().max(published) + self.window.period.grace_s() <= now_ms / 1000
    }
}
