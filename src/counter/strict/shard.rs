//! Some of the strict counters of a node, under one lock.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use smallvec::SmallVec;

use crate::counter::calendar::Window;
use crate::counter::keys;
use crate::counter::limit::Limit;
use crate::counter::limit::Verdict;
use crate::counter::period::Period;
use crate::counter::strict::account::Figures;
use crate::counter::strict::account::Given;
use crate::counter::strict::account::Held;
use crate::counter::strict::account::ROOM_MAX;
use crate::counter::strict::account::Reading;
use crate::counter::strict::account::Terms;
use crate::counter::view::Name;

/// How long a counter is kept after its last window ended: for hits and grants that are late.
const GRACE_S: u64 = 10;
/// Windows that a counter remembers.
const WINDOWS: usize = 2;
/// From how many hits on somebody is asked for the counter's name; or a tenth of its limit.
const NAMED_FROM: u64 = 8;

pub(crate) struct Shard {
    pub terms: Terms,
    /// Nothing is admitted, whatever is held.
    pub suspended: bool,
    pub figures: Figures,
    /// Keys are keyed hashes already: nobody outside can aim two at one place.
    lines: HashMap<u64, Line, FixedState>,
    changed: Vec<(u64, Period)>,
    /// Windows up to these were forgotten, by period, and are not opened again.
    floor: [Option<u32>; 6],
    capacity: usize,
}

/// What others than the client should learn of a hit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// A counter changed that is not listed as changed yet.
    pub news: bool,
    /// A window was wanted that may not be opened yet.
    pub early: bool,
}

struct Line {
    /// Newest first, at most two: clocks of nodes differ a little, so the next window begins while this one runs.
    windows: SmallVec<[Held; WINDOWS]>,
    /// The newest of those that were forgotten.
    floor: Option<u32>,
    listed: bool,
    /// The window in which a refusal was told.
    refused_in: Option<u32>,
    name: Option<Box<Name>>,
}

/// Why a window cannot be had.
pub(crate) enum Closed {
    Early,
    Late,
    Crowded,
    Suspended,
}

impl Shard {
    pub fn new(capacity: usize) -> Shard {
        Shard {
            terms: Terms::default(),
            suspended: false,
            figures: Figures::default(),
            lines: HashMap::default(),
            changed: Vec::new(),
            floor: [None; 6],
            capacity,
        }
    }

    pub fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    pub fn has(&self, key: u64) -> bool {
        self.lines.contains_key(&key)
    }

    /// Every limit needs an unspent right; then one is spent of each.
    pub fn hit(&mut self, subject: u64, limits: &[Limit], now_ms: u64) -> (Verdict, Outcome) {
        let mut verdict = Verdict { admitted: true, at_ms: now_ms, ..Verdict::default() };
        let mut outcome = Outcome::default();
        for limit in limits {
            let window = Window::at(limit.period, now_ms / 1000);
            let room = limit.room().min(ROOM_MAX);
            let admits = self.look(subject, window, room, &mut verdict, &mut outcome);
            verdict.admitted &= admits;
        }
        for limit in limits {
            let window = Window::at(limit.period, now_ms / 1000);
            self.count(keys::key_of(subject, limit.period), window, &mut verdict, &mut outcome);
        }
        self.figures.admitted += u64::from(verdict.admitted);
        self.figures.refused += u64::from(!verdict.admitted);
        (verdict, outcome)
    }

    /// Whether one limit admits. Tells the usage.
    fn look(&mut self, subject: u64, window: Window, room: u64, verdict: &mut Verdict, outcome: &mut Outcome) -> bool {
        let key = keys::key_of(subject, window.period);
        if room == 0 {
            verdict.usage.push(0);
            return false;
        }
        // The one subject per period whose key is another's would be looked for in another shard by peers.
        let open = if self.suspended {
            Err(Closed::Suspended)
        } else if keys::subject_of(key, window.period) == subject {
            self.open(key, window, room)
        } else {
            Err(Closed::Crowded)
        };
        match open {
            Ok(()) => {}
            Err(closed) => {
                outcome.early |= matches!(closed, Closed::Early);
                match closed {
                    Closed::Early | Closed::Late | Closed::Suspended => self.figures.closed += 1,
                    Closed::Crowded => self.figures.crowded += 1,
                }
                verdict.usage.push(room);
                return false;
            }
        }
        let Some((line, at)) = self.line_mut(key, window) else { return false };
        let held = &line.windows[at];
        let admits = held.spare() > 0 && held.admitted < room;
        let used = held.admitted + held.given;
        if !admits {
            line.refused_in = line.refused_in.max(Some(window.number));
        }
        let told = if line.refused_in == Some(window.number) { used.max(room) } else { used };
        verdict.usage.push(told);
        admits
    }

    /// Counts what was decided.
    fn count(&mut self, key: u64, window: Window, verdict: &mut Verdict, outcome: &mut Outcome) {
        let Some((line, at)) = self.line_mut(key, window) else { return };
        let held = &mut line.windows[at];
        if verdict.admitted {
            held.admitted += 1;
            let counted = held.admitted;
            verdict.unnamed |= line.name.is_none() && (counted == NAMED_FROM || counted * 10 >= held.room);
        } else {
            held.refused += 1;
        }
        if !std::mem::replace(&mut line.listed, true) {
            self.changed.push((key, window.period));
            outcome.news = true;
        }
    }

    /// False: there are more than `max`.
    pub fn changed(&mut self, into: &mut Vec<(u64, Period)>, max: usize) -> bool {
        while into.len() < max
            && let Some((key, period)) = self.changed.pop()
        {
            if let Some(line) = self.lines.get_mut(&key) {
                line.listed = false;
                into.push((key, period));
            }
        }
        self.changed.is_empty()
    }

    pub fn read(&self, key: u64) -> Option<Reading> {
        self.lines.get(&key).map(|line| line.reading(key))
    }

    pub fn all(&self) -> Vec<Reading> {
        self.lines.iter().map(|(key, line)| line.reading(*key)).collect()
    }

    pub fn held(&self, key: u64, window: Window) -> Option<Held> {
        let line = self.lines.get(&key)?;
        line.windows.iter().find(|held| held.window == window).copied()
    }

    pub fn grant(&mut self, key: u64, window: Window, more: u64) -> bool {
        let Some((line, at)) = self.line_mut(key, window) else { return false };
        let held = &mut line.windows[at];
        held.received = held.received.saturating_add(more).min(ROOM_MAX);
        true
    }

    pub fn give(&mut self, key: u64, window: Window, room: u64, wish: u64, need: u64) -> Option<Given> {
        self.open(key, window, room.min(ROOM_MAX)).ok()?;
        let (line, at) = self.line_mut(key, window)?;
        let held = &mut line.windows[at];
        let spare = held.spare();
        let given = wish.min(spare - need.min(spare.div_ceil(2)));
        held.given += given;
        Some(Given { given, spare: spare - given })
    }

    /// How many names went.
    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let floor = &mut self.floor;
        let mut unnamed = 0;
        self.lines.retain(|_, line| {
            let Some(newest) = line.windows.first().map(|held| held.window) else { return false };
            let over = newest.end_s().saturating_add(GRACE_S) <= now_ms / 1000;
            if over {
                let floor = &mut floor[newest.period as usize];
                *floor = (*floor).max(Some(newest.number));
                unnamed += u64::from(line.name.is_some());
            }
            !over
        });
        unnamed
    }

    pub fn name(&mut self, key: u64, name: &Name) -> bool {
        let Some(line) = self.lines.get_mut(&key) else { return false };
        let unnamed = line.name.is_none();
        line.name.get_or_insert_with(|| Box::new(name.clone()));
        unnamed
    }

    fn line_mut(&mut self, key: u64, window: Window) -> Option<(&mut Line, usize)> {
        let line = self.lines.get_mut(&key)?;
        let at = line.windows.iter().position(|held| held.window == window)?;
        Some((line, at))
    }

    /// Makes sure that a window is there: the only place where base rights come from.
    pub fn open(&mut self, key: u64, window: Window, room: u64) -> Result<(), Closed> {
        let crowded = self.lines.len() >= self.capacity;
        let line = self.lines.get_mut(&key);
        let (windows, floor) = line.as_ref().map_or((&[][..], None), |line| (&line.windows[..], line.floor));
        if windows.iter().any(|held| held.window == window) {
            return Ok(());
        }
        let oldest = windows.get(WINDOWS - 1).map(|held| held.window.number);
        if floor.max(oldest).max(self.floor[window.period as usize]) >= Some(window.number) {
            return Err(Closed::Late);
        }
        if window.start_s() >= self.terms.until_s {
            return Err(Closed::Early);
        }
        let base = self.terms.share(window.start_s()).of(room);
        let held = Held { window, room, base, received: 0, given: 0, admitted: 0, refused: 0 };
        match line {
            Some(line) => line.open(held),
            None if crowded => return Err(Closed::Crowded),
            None => {
                let windows = SmallVec::from_iter([held]);
                self.lines.insert(key, Line { windows, floor: None, listed: false, refused_in: None, name: None });
            }
        }
        Ok(())
    }
}

impl Line {
    /// The window is newer than the oldest of two, which goes.
    fn open(&mut self, held: Held) {
        if self.windows.len() == WINDOWS
            && let Some(gone) = self.windows.pop()
        {
            self.floor = Some(gone.window.number);
        }
        let at = self.windows.partition_point(|other| other.window.number > held.window.number);
        self.windows.insert(at, held);
    }

    fn reading(&self, key: u64) -> Reading {
        Reading { key, windows: self.windows.to_vec(), name: self.name.as_deref().cloned() }
    }
}
