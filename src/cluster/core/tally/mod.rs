//! The limits of the cluster: what this node counted goes to its peers, what they counted becomes part of its decisions.
//!
//! Pure: frames and time go in, frames come out; the hot path is `counter`, to which results are published. What travels
//! are absolute counts, a slot for each process: loss, repetition and disorder do no harm, and nobody has to acknowledge
//! anything. A count is said at once when the limit is near and with the next batch else. Between words a peer's count is
//! forecast from its demand. Shipping increments lost: each needs to arrive exactly once. So did asking an owner of the
//! key: that is a trip on each request, or the same staleness twice.
//!
//! Memory is bounded: counters that matter are tracked up to `TRACKED_MAX`; those above it are told by batches and
//! decided from this node's count alone.

mod batch;
mod budget;
mod flush;
mod hear;
mod questions;
mod rate;
mod rejoin;
mod show;
mod sources;
mod tracked;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use tidegate_proto::frame::{Counts, Frame};

use crate::cluster::core::tally::batch::Unsaid;
use crate::cluster::core::tally::budget::Budget;
use crate::cluster::core::tally::questions::{Answers, Asks};
use crate::cluster::core::tally::sources::Sources;
use crate::cluster::core::tally::tracked::{Around, Tracked, tier_ms};
use crate::cluster::core::view::LimitFigures;
use crate::counter::{Counters, Cursor, Handle, Reach, Reading, Window};

/// Counters with slots of peers, or hits of late, that are followed at once.
pub const TRACKED_MAX: usize = 65_536;
/// Pause between two urgent words to peers, and between two looks at counters that are being hit, where there are peers.
const URGENT_MS: u64 = 5;
/// A counter is looked at so often for so long after its last hit.
const HOT_MS: u64 = 200;
/// How often forecasts of counters that nobody hits are looked at.
const SWEEP_MS: u64 = 100;
/// Counters drained in one look.
const DRAIN_MAX: usize = 65_536;
/// Counters of a period that are not tracked and wait for a batch; for further ones all counters are looked at again.
const COLD_MAX: usize = 65_536;
/// Counters looked at for expiry in one sweep.
const EXPIRE_LINES: usize = 4_096;
/// How long a new process holds itself back in windows that began before it, unless a peer told it what it counted.
const GUARD_MS: u64 = 1_000;
/// The sender's time of a count is believed so far back from its arrival, beyond the way.
const AGE_MAX_MS: u64 = 1_000;

/// This process.
#[derive(Clone, Debug)]
pub struct Me {
    pub node_id: String,
    pub incarnation: u64,
}

/// What becomes of the part of the limit that peers used who cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// It comes over to those who can, within a minute or two after they are taken for dead.
    Share,
    /// It stays reserved.
    Hold,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes that this node sends to all its peers together in a second; urgent words are counted and not held.
    pub budget_per_s: u64,
    pub partition: Partition,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    Connected {
        peer: String,
        incarnation: u64,
    },
    Disconnected {
        peer: String,
    },
    /// Dead, or left.
    Gone {
        peer: String,
    },
    Rtt {
        peer: String,
        rtt_ms: u64,
    },
    Counts {
        peer: String,
        counts: Counts,
    },
    /// A peer that starts asks for the slots of those who cannot tell it themselves.
    CountsPull {
        peer: String,
    },
    /// A batch to this peer was dropped: it is owed everything.
    Congested {
        peer: String,
    },
    /// This node stops: everything is said now.
    Drain,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Urgent: by datagram.
    Send { peers: Vec<String>, frame: Frame, urgent: bool },
}

/// How far the look at all counters is.
#[derive(Debug, Default)]
struct Behind {
    cursor: Cursor,
    again: bool,
}

/// The exchange of one node. All times are cluster time, Unix ms.
pub struct Tally {
    me: Me,
    counters: Arc<Counters>,
    options: Options,
    sources: Sources,
    keys: HashMap<u64, Tracked, FixedState>,
    /// Keys that were hit lately: looked at every `URGENT_MS`.
    hot: BTreeSet<u64>,
    /// Counters that were hit and are not tracked, by period, until their next batch.
    cold: [HashSet<Handle, FixedState>; 6],
    unsaid: [Unsaid; 6],
    /// By period: when the next batch goes out; and until when batches go out even if they have nothing to say.
    due_ms: [u64; 6],
    lively_until_ms: [u64; 6],
    said_ms: [u64; 6],
    urgent_ms: u64,
    looked_ms: u64,
    swept_ms: u64,
    owed: BTreeSet<String>,
    owed_ms: u64,
    asks: Asks,
    answers: Answers,
    guard_until_ms: u64,
    boot_ms: u64,
    budget: Budget,
    expiry: Cursor,
    /// More changed than the list of changes holds: all counters are looked at, a part at a time; and once more when that
    /// happened again meanwhile.
    behind: Option<Behind>,
    random: u64,
    drained: Vec<Handle>,
    figures: LimitFigures,
}

impl Tally {
    pub fn new(me: Me, counters: Arc<Counters>, options: Options, now_ms: u64) -> Self {
        let random = me.node_id.bytes().fold(me.incarnation, |seed, byte| seed.rotate_left(9) ^ u64::from(byte)) | 1;
        let tally = Self {
            sources: Sources::default(),
            keys: HashMap::with_hasher(FixedState::default()),
            hot: BTreeSet::new(),
            cold: std::array::from_fn(|_| HashSet::with_hasher(FixedState::default())),
            unsaid: Default::default(),
            due_ms: [now_ms; 6],
            lively_until_ms: [0; 6],
            said_ms: [0; 6],
            urgent_ms: 0,
            looked_ms: now_ms,
            swept_ms: now_ms,
            owed: BTreeSet::new(),
            owed_ms: 0,
            asks: Asks::new(now_ms),
            answers: Answers::default(),
            guard_until_ms: now_ms + GUARD_MS,
            boot_ms: now_ms,
            budget: Budget::new(options.budget_per_s, now_ms),
            expiry: Cursor::default(),
            behind: None,
            random,
            drained: Vec::new(),
            figures: LimitFigures::default(),
            me,
            counters,
            options,
        };
        tally.tell_peers();
        tally
    }

    pub fn on(&mut self, input: Input, now_ms: u64) {
        match input {
            Input::Connected { peer, incarnation } => self.connected(peer, incarnation, now_ms),
            Input::Disconnected { peer } => {
                self.answers.forget(&peer);
                self.sources.disconnect(&peer);
            }
            Input::Gone { peer } => self.sources.gone(&peer, now_ms),
            Input::Rtt { peer, rtt_ms } => {
                if let Some(source) = self.sources.peer_mut(&peer) {
                    source.way_ms = rtt_ms.div_ceil(2);
                }
            }
            Input::Counts { peer, counts } => self.hear(&peer, counts, now_ms),
            Input::CountsPull { peer } => {
                self.answers.ask(peer);
            }
            Input::Congested { peer } => {
                self.owed.insert(peer);
                self.owed_ms = self.owed_ms.max(now_ms + SWEEP_MS);
            }
            Input::Drain => self.due_ms = [now_ms; 6],
        }
        self.tell_peers();
    }

    /// Does what is due. Call when `wake_ms` is reached, and after the counters roused.
    pub fn poll(&mut self, now_ms: u64) -> Vec<Output> {
        self.look(now_ms);
        if now_ms >= self.swept_ms + SWEEP_MS {
            self.swept_ms = now_ms;
            self.sweep(now_ms);
        }
        let mut outputs = self.flush(now_ms);
        outputs.extend(self.rejoin(now_ms));
        outputs
    }

    /// Between two looks at counters that are being hit. A node that knows of nobody has nothing to tell and nothing to
    /// forecast, and leaves its cores to requests.
    pub fn pause_ms(&self) -> u64 {
        if self.sources.members() == 0 { SWEEP_MS } else { URGENT_MS }
    }

    /// When `poll` is due, at the latest.
    pub fn wake_ms(&self) -> u64 {
        let mut wake_ms = u64::MAX;
        if !self.hot.is_empty() || self.catches_up() {
            wake_ms = self.looked_ms + self.pause_ms();
        }
        for period in 0..6 {
            if self.has_batch(period) {
                wake_ms = wake_ms.min(self.due_ms[period]);
            }
        }
        if !self.owed.is_empty() || self.answers.is_due() {
            wake_ms = wake_ms.min(self.owed_ms.max(self.looked_ms + URGENT_MS));
        }
        wake_ms = wake_ms.min(self.asks.wake_ms());
        if !self.keys.is_empty() {
            wake_ms = wake_ms.min(self.swept_ms + SWEEP_MS);
        }
        // What was hit since the last look is told within this time; without a hit nothing has to be looked at.
        if self.counters.doze() { wake_ms } else { wake_ms.min(self.looked_ms + self.pause_ms()) }
    }

    fn connected(&mut self, peer: String, incarnation: u64, now_ms: u64) {
        self.answers.forget(&peer);
        if self.sources.connect(&peer, incarnation, now_ms).is_some() {
            self.asks.connected();
            self.owed.insert(peer);
        }
    }

    /// The tracked counter of a key, made when it is new and there is a place.
    fn track(&mut self, key: u64, window: Window, room: u64, now_ms: u64) -> Option<&mut Tracked> {
        if !self.keys.contains_key(&key) {
            if self.keys.len() >= TRACKED_MAX {
                self.figures.withheld += 1;
                return None;
            }
            let handle = self.counters.find(key).or_else(|| self.counters.open(key, window.period, room, now_ms))?;
            let mut tracked = Tracked::new(handle, window, room, now_ms);
            if let Some(reading) = self.counters.read(handle, now_ms) {
                tracked.begin(&reading);
            }
            self.keys.insert(key, tracked);
        }
        self.keys.get_mut(&key)
    }

    /// Takes in what was counted here, and publishes what follows.
    fn look(&mut self, now_ms: u64) {
        self.looked_ms = now_ms;
        let mut drained = std::mem::take(&mut self.drained);
        drained.clear();
        if self.counters.drain(&mut drained, DRAIN_MAX).lost {
            self.fall_behind();
        }
        if self.catches_up()
            && let Some(behind) = &mut self.behind
        {
            let drained_len = drained.len();
            drained.extend(self.counters.scan(&mut behind.cursor, COLD_MAX / 2));
            if drained.len() == drained_len {
                self.behind = behind.again.then(Behind::default);
            }
        }
        for handle in drained.drain(..) {
            let Some(reading) = self.counters.read(handle, now_ms) else { continue };
            if reading.reach == Reach::Cluster {
                self.counted(handle, &reading, now_ms);
            }
        }
        self.drained = drained;
        let hot = self.hot.clone();
        self.publish_all(hot, now_ms);
    }

    /// There is something to look at, and a place for what is found.
    fn catches_up(&self) -> bool {
        self.behind.is_some() && self.cold.iter().all(|cold| cold.len() <= COLD_MAX / 2)
    }

    fn fall_behind(&mut self) {
        match &mut self.behind {
            Some(behind) => behind.again = true,
            None => self.behind = Some(Behind::default()),
        }
    }

    fn counted(&mut self, handle: Handle, reading: &Reading, now_ms: u64) {
        let period = reading.window.period as usize;
        if self.track(reading.key, reading.window, reading.room, now_ms).is_none() {
            let cold = &mut self.cold[period];
            if cold.len() < COLD_MAX {
                cold.insert(handle);
            } else {
                self.fall_behind();
            }
            return;
        }
        self.lively_until_ms[period] = now_ms + 3 * tier_ms(reading.window) + 1_000;
        self.hot.insert(reading.key);
        self.unsaid[period].own.insert(reading.key);
        if let Some(tracked) = self.keys.get_mut(&reading.key) {
            tracked.handle = handle;
            tracked.touched_ms = now_ms;
        }
    }

    /// Reads the counters of `keys`, forecasts, and hands the result to the hot path.
    fn publish_all(&mut self, keys: BTreeSet<u64>, now_ms: u64) {
        for key in keys {
            let around = self.around(now_ms);
            let Some(tracked) = self.keys.get_mut(&key) else {
                self.hot.remove(&key);
                continue;
            };
            let Some(reading) = self.counters.read(tracked.handle, now_ms) else {
                // Its place was given to another one.
                self.forget(key);
                continue;
            };
            tracked.count(&reading, now_ms);
            let current = Window::at(tracked.window.period, now_ms / 1_000);
            tracked.roll(current);
            tracked.estimate(&self.sources, &around);
            let remote = tracked.remote(&around);
            self.counters.publish(tracked.handle, &remote, now_ms);
            if now_ms > tracked.touched_ms + HOT_MS {
                self.hot.remove(&key);
            }
        }
    }

    /// What time alone changes: forecasts grow and end, windows end, peers are silent.
    fn sweep(&mut self, now_ms: u64) {
        self.counters.expire(&mut self.expiry, now_ms, EXPIRE_LINES);
        let mut stale = BTreeSet::new();
        let mut over = Vec::new();
        for (key, tracked) in &self.keys {
            let length_ms = tracked.window.period.length_s() * 1_000;
            let grace_ms = tracked.window.period.grace_s() * 1_000;
            let idle_ms = now_ms.saturating_sub(tracked.touched_ms);
            if now_ms > tracked.window.end_s() * 1_000 + grace_ms || idle_ms > length_ms + grace_ms {
                over.push(*key);
                continue;
            }
            let forecast = tracked.estimate.slope_per_ms > 0.0 || tracked.estimate.unseen > 0.0;
            let ended = Window::at(tracked.window.period, now_ms / 1_000) != tracked.window;
            if forecast || ended || idle_ms < 2 * SWEEP_MS {
                stale.insert(*key);
            }
        }
        self.judge(now_ms);
        self.publish_all(stale, now_ms);
        over.into_iter().for_each(|key| self.forget(key));
        self.sources.forget();
        self.tell_peers();
    }

    fn forget(&mut self, key: u64) {
        self.hot.remove(&key);
        let Some(tracked) = self.keys.remove(&key) else { return };
        for slot in tracked.slots {
            if let Some(source) = self.sources.source_mut(slot.source) {
                source.slots = source.slots.saturating_sub(1);
            }
        }
    }

    fn around(&mut self, now_ms: u64) -> Around {
        Around {
            now_ms,
            nodes: self.nodes(),
            delay_ms: self.delay_ms(),
            decays: self.options.partition == Partition::Share,
            chance: self.chance(),
        }
    }

    fn nodes(&self) -> u64 {
        self.sources.members() as u64 + 1
    }

    /// Until what happens here is known everywhere: the longest way, the pause before an urgent word, and its handling.
    fn delay_ms(&self) -> u64 {
        self.sources.way_max_ms() + 2 * URGENT_MS
    }

    /// Evenly in 0..1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }

    fn tell_peers(&self) {
        let nodes = u32::try_from(self.nodes()).unwrap_or(u32::MAX);
        self.counters.set_peers(nodes, self.guard_until_ms, self.boot_ms);
    }
}
