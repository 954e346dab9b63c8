//! Counters of strict limits: each node spends rights that it holds, so the cluster never admits more than the limit.
//!
//! In a window of a counter a node holds its base rights, a share of the limit fixed when it first opens that window,
//! and what peers gave it. A right is spent by a hit or given to a peer, once. All of this stands under one lock, together
//! with the terms that say which windows may be opened with what share; so a right cannot be spent twice, and a window
//! cannot be opened on terms that were taken back. What must stay true, and what the proof in `cluster::core::rights`
//! rests on:
//!
//! - Base rights of a window are given out once per process: a window is remembered until its time is over, and one that
//!   was forgotten, or lies before the two that a counter remembers, is never opened again.
//! - A window that starts at or after `Terms::until_s` is not opened at all. Whoever changes the terms from a label on
//!   that is not below `until_s` changes nothing that was used.
//! - The limit that a window was opened with stays its limit.
//!
//! A map of atomics as for other limits lost: five numbers change together here, and a decision that takes a few tens of
//! nanoseconds more is a small price where the answer has to be exact. Shards keep workers apart.
//!
//! Memory is bounded: at most a quarter of the counters' capacity. Beyond it hits are refused; nothing is pushed out.

pub mod share;

mod account;
mod shard;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

pub use crate::counter::strict::account::Figures;
pub use crate::counter::strict::account::Given;
pub use crate::counter::strict::account::Held;
pub use crate::counter::strict::account::ROOM_MAX;
pub use crate::counter::strict::account::Reading;
pub use crate::counter::strict::account::Terms;

use crate::counter::calendar::Window;
use crate::counter::keys;
use crate::counter::limit::Limit;
use crate::counter::limit::Verdict;
use crate::counter::period::Period;
use crate::counter::strict::shard::Shard;
use crate::counter::strict::share::Share;
use crate::counter::view::Name;

/// Locks are held for tens of nanoseconds; with this many, two workers seldom want the same.
const SHARDS: usize = 64;
/// Names of counters that are kept.
const NAMES_MAX: u64 = 4_096;
/// All strict counters of a node. Shared by the workers.
pub struct Strict {
    shards: Box<[Mutex<Shard>]>,
    /// Some counter changed since `changed` was last called.
    news: AtomicBool,
    dozing: AtomicBool,
    /// A hit wanted a window that starts at or after `Terms::until_s`.
    wanted: AtomicBool,
    names: AtomicU64,
    offset_ms: AtomicI64,
    rouse: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

impl Strict {
    pub fn new(capacity: usize) -> Strict {
        let share = capacity.div_ceil(SHARDS).max(Period::ALL.len());
        Strict {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::new(share))).collect(),
            news: AtomicBool::new(false),
            dozing: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            names: AtomicU64::new(0),
            offset_ms: AtomicI64::new(0),
            rouse: OnceLock::new(),
        }
    }

    /// See `Counters::hit`.
    pub(crate) fn hit(&self, subject: u64, limits: &[Limit], unix_ms: u64) -> Verdict {
        let now_ms = unix_ms.saturating_add_signed(self.offset_ms.load(Ordering::Relaxed));
        let (verdict, outcome) = self.shard_of(subject).hit(subject, limits, now_ms);
        if outcome.early {
            self.wanted.store(true, Ordering::Release);
        }
        if outcome.news || outcome.early {
            self.news.store(true, Ordering::Release);
            self.rouse_up();
        }
        verdict
    }

    /// Replaces the terms. For windows that start before the `until_s` that held so far, the new terms must say what the
    /// old ones said; see the module.
    pub fn set_terms(&self, terms: &Terms) {
        for shard in &self.shards {
            lock(shard).terms = terms.clone();
        }
    }

    /// While suspended every hit is refused. What this node holds stays, and can be given to peers.
    pub fn suspend(&self, suspended: bool) {
        for shard in &self.shards {
            lock(shard).suspended = suspended;
        }
    }

    /// The share in windows that start then.
    pub fn share(&self, start_s: u64) -> Share {
        self.shards.first().map_or(Share::NONE, |shard| lock(shard).terms.share(start_s))
    }

    /// Whether a hit was refused since the last call because its window may not be opened yet.
    pub fn was_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::AcqRel)
    }

    /// Counters hit since they were last listed, at most `max`; false: there are more.
    pub fn changed(&self, into: &mut Vec<(u64, Period)>, max: usize) -> bool {
        if !self.news.swap(false, Ordering::AcqRel) {
            return true;
        }
        for shard in &self.shards {
            if !lock(shard).changed(into, max) {
                self.news.store(true, Ordering::Release);
                return false;
            }
        }
        true
    }

    pub fn read(&self, key: u64, period: Period) -> Option<Reading> {
        self.shard_by(key, period).read(key)
    }

    /// One window of a counter, if this node has opened it.
    pub fn held(&self, key: u64, window: Window) -> Option<Held> {
        self.shard_by(key, window.period).held(key, window)
    }

    /// Makes sure that a window is open, with `room` as its limit if it was not. `false`: it may not be opened, or there is
    /// no place.
    pub fn open(&self, key: u64, window: Window, room: u64) -> bool {
        self.shard_by(key, window.period).open(key, window, room.min(ROOM_MAX)).is_ok()
    }

    /// Rights received from a peer, beside those received before. `false`: this window is not open here, and what was
    /// given is lost.
    pub fn grant(&self, key: u64, window: Window, more: u64) -> bool {
        self.shard_by(key, window.period).grant(key, window, more)
    }

    /// Takes up to `wish` unspent rights; of those it keeps `need` or the half, whichever is less. They are gone from here
    /// when this returns, so they can be promised to a peer. A window that this node has not opened is opened, with
    /// `room` as its limit. `None`: it may not be opened, or there is no place.
    pub fn give(&self, key: u64, window: Window, room: u64, wish: u64, need: u64) -> Option<Given> {
        self.shard_by(key, window.period).give(key, window, room, wish, need)
    }

    /// Frees counters of which all windows ended more than 10 s ago. `now_ms` is cluster time.
    pub fn expire(&self, now_ms: u64) {
        for shard in &self.shards {
            let unnamed = lock(shard).expire(now_ms);
            self.names.fetch_sub(unnamed, Ordering::Relaxed);
        }
    }

    /// All counters, a shard at a time: calls `each` until it says false.
    pub fn each(&self, mut each: impl FnMut(&Reading) -> bool) {
        for shard in &self.shards {
            let readings = lock(shard).all();
            if !readings.iter().all(&mut each) {
                return;
            }
        }
    }

    pub fn figures(&self) -> Figures {
        let mut sum = Figures::default();
        for shard in &self.shards {
            let shard = lock(shard);
            sum.admitted += shard.figures.admitted;
            sum.refused += shard.figures.refused;
            sum.crowded += shard.figures.crowded;
            sum.closed += shard.figures.closed;
            sum.lines += shard.len();
        }
        sum
    }

    /// See `Counters::name`. Gives the name back when there is no such counter here.
    pub(crate) fn name<N: FnOnce() -> Name>(&self, subject: u64, limits: &[Limit], name: N) -> Option<N> {
        let mut shard = self.shard_of(subject);
        let mut keys =
            limits.iter().map(|limit| keys::key_of(subject, limit.period)).filter(|key| shard.has(*key)).peekable();
        if keys.peek().is_none() {
            return Some(name);
        }
        if self.names.load(Ordering::Relaxed) < NAMES_MAX {
            let keys: SmallVec<[u64; 6]> = keys.collect();
            let name = name();
            let named = keys.iter().filter(|key| shard.name(**key, &name)).count();
            self.names.fetch_add(named as u64, Ordering::Relaxed);
        }
        None
    }

    pub(crate) fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    pub(crate) fn on_rouse(&self, rouse: Arc<dyn Fn() + Send + Sync>) {
        let _ = self.rouse.set(rouse);
    }

    /// Arms the call of `on_rouse`. `false`: something changed already.
    pub(crate) fn doze(&self) -> bool {
        self.dozing.store(true, Ordering::SeqCst);
        let asleep = !self.news.load(Ordering::SeqCst);
        if !asleep {
            self.dozing.store(false, Ordering::SeqCst);
        }
        asleep
    }

    fn rouse_up(&self) {
        if self.dozing.swap(false, Ordering::SeqCst)
            && let Some(rouse) = self.rouse.get()
        {
            rouse();
        }
    }

    fn shard_of(&self, subject: u64) -> MutexGuard<'_, Shard> {
        // Not the lowest bits: those place a counter within the shard's table.
        lock(&self.shards[(subject >> 40) as usize % SHARDS])
    }

    fn shard_by(&self, key: u64, period: Period) -> MutexGuard<'_, Shard> {
        self.shard_of(keys::subject_of(key, period))
    }
}

/// A panic while the lock is held would leave at most a count too many.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
