//! Counts per fixed window, and decides: one step reads, compares and increments.
//!
//! Pure: `now` is an argument. A count is read together with the window it belongs to, so nothing of one window is ever
//! taken for another's.
//!
//! The node's own count of a window only grows, and only by requests that were admitted. What the peers counted is told
//! by one task (`publish`), and so is how it probably went on since (the forecast); the decision is made here, from these
//! numbers alone. A hit on a counter that exists takes no lock and allocates nothing.
//!
//! A counter stands for a subject and a period, and lives on from window to window. A counter per window lost: what is
//! known of the last window is how the next one is forecast, and every window would begin with a search for a place.

mod ask;
mod block;
mod calendar;
mod cells;
mod changes;
mod decide;
mod hit;
mod index;
mod keys;
mod limit;
mod line;
mod moment;
mod names;
mod period;
mod sip;
mod sketch;
pub mod strict;
mod table;
mod terms;
mod vacancy;
mod view;
mod word;

use std::hash::BuildHasher;
use std::hash::Hasher;
use std::hash::RandomState;
use std::sync::Arc;

use uuid::Uuid;

pub use crate::counter::calendar::Window;
pub use crate::counter::limit::Limit;
pub use crate::counter::limit::Verdict;
pub use crate::counter::period::Period;
pub use crate::counter::period::Reach;
pub use crate::counter::view::Cursor;
pub use crate::counter::view::Drained;
pub use crate::counter::view::Figures;
pub use crate::counter::view::Gate;
pub use crate::counter::view::Handle;
pub use crate::counter::view::Name;
pub use crate::counter::view::Reading;
pub use crate::counter::view::Remote;

use crate::counter::hit::Estimated;
use crate::counter::line::Line;
use crate::counter::strict::Strict;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most counters that are kept, one per subject and period.
    pub capacity: usize,
    /// Of the hash of subjects: the same on all nodes of a cluster, unknown to everybody else.
    pub key: [u8; 16],
}

/// All counters of a node. Shared by the workers.
pub struct Counters {
    key: [u8; 16],
    estimated: Estimated,
    strict: Strict,
}

impl Counters {
    pub fn new(options: Options) -> Self {
        Counters {
            key: options.key,
            estimated: Estimated::new(options.capacity),
            strict: Strict::new(options.capacity / 4),
        }
    }

    /// The keyed hash of a subject: scopes (nil when unscoped) and identifier. Equal on all nodes of a cluster, and in no
    /// two clusters.
    #[inline]
    pub fn subject(&self, route: Uuid, service: Uuid, identifier: &[u8]) -> u64 {
        sip::hash(&self.key, route, service, identifier)
    }

    /// The counter of a subject and period, here and between nodes. Different subjects have different keys.
    pub fn key(subject: u64, period: Period) -> u64 {
        keys::key_of(subject, period)
    }

    /// The other way.
    pub fn subject_of(key: u64, period: Period) -> u64 {
        keys::subject_of(key, period)
    }

    /// Admits when every limit has room and then counts in all of them; else counts in none. A period stands at most once
    /// in `limits`. When two hits race for the last place, the loser may have been counted in a limit that stands earlier
    /// in the list.
    ///
    /// The hit counts in the window that holds `unix_ms`, corrected to cluster time; one that comes just after its
    /// window ended counts in the next.
    pub fn hit(&self, subject: u64, reach: Reach, limits: &[Limit], unix_ms: u64) -> Verdict {
        match reach {
            Reach::Strict => self.strict.hit(subject, limits, unix_ms),
            Reach::Local | Reach::Cluster => self.estimated.hit(subject, reach, limits, unix_ms),
        }
    }

    /// Keeps a name for the counters of a subject; call after a verdict with `unnamed`. At most 4,096 names are kept.
    pub fn name(&self, subject: u64, limits: &[Limit], name: impl FnOnce() -> Name) {
        let Some(name) = self.strict.name(subject, limits, name) else { return };
        let name = name();
        for limit in limits {
            let key = Self::key(subject, limit.period);
            let named = self.find(key).and_then(|handle| self.estimated.table.with(handle, Line::set_named));
            if named.is_some() {
                self.estimated.table.names.add(key, &name);
            }
        }
    }

    /// The name that was kept for a counter.
    pub fn name_of(&self, key: u64) -> Option<Name> {
        self.estimated.table.names.of(key)
    }

    /// Counters of reach cluster hit since they were last drained, at most `max`; read them after this call.
    pub fn drain(&self, into: &mut Vec<Handle>, max: usize) -> Drained {
        Drained { lost: self.estimated.changes.drain(max, |line| into.extend(self.estimated.table.take(line))) }
    }

    /// `None`: the counter is gone. `now_ms` is cluster time.
    pub fn read(&self, handle: Handle, now_ms: u64) -> Option<Reading> {
        self.estimated.table.with(handle, |line| line.read(now_ms))
    }

    pub fn find(&self, key: u64) -> Option<Handle> {
        self.estimated.table.find(key).map(|(line, _)| Handle { line, key })
    }

    /// A counter for a key that only peers counted so far, of reach cluster. `None`: there is no place.
    pub fn open(&self, key: u64, period: Period, room: u64, now_ms: u64) -> Option<Handle> {
        let window = Window::at(period, now_ms / 1000);
        let (line, _) = self.estimated.table.obtain(key, (window, room, Reach::Cluster), now_ms)?;
        Some(Handle { line, key })
    }

    /// `false`, and nothing is changed: the counter is gone, the window has not begun, or something was published for a
    /// later one.
    pub fn publish(&self, handle: Handle, remote: &Remote, now_ms: u64) -> bool {
        self.estimated.table.with(handle, |line| line.publish(remote, now_ms)).unwrap_or(false)
    }

    /// All counters, in parts of about `lines_max`; none: the round is complete, and the next call begins anew.
    pub fn scan(&self, cursor: &mut Cursor, lines_max: usize) -> impl Iterator<Item = Handle> + use<> {
        self.estimated.table.scan(cursor, lines_max).into_iter()
    }

    /// Frees counters whose window ended more than its grace ago: 10 s, or its length up to 60 s.
    pub fn expire(&self, cursor: &mut Cursor, now_ms: u64, lines_max: usize) {
        self.estimated.table.expire(cursor, now_ms, lines_max);
    }

    /// Cluster time is Unix time plus this.
    pub fn set_offset_ms(&self, offset_ms: i64) {
        self.estimated.terms.set_offset_ms(offset_ms);
        self.strict.set_offset_ms(offset_ms);
    }

    /// How many nodes share the limits, this one included; until when, in cluster ms, windows that began before
    /// `boot_ms` are held to a share, because peers may know more about them.
    pub fn set_peers(&self, nodes: u32, guard_until_ms: u64, boot_ms: u64) {
        self.estimated.terms.set_peers(nodes, guard_until_ms, boot_ms);
    }

    /// What to call, once, when a counter is hit after `doze`. The first call counts.
    pub fn on_rouse(&self, rouse: Arc<dyn Fn() + Send + Sync>) {
        self.strict.on_rouse(rouse.clone());
        self.estimated.changes.on_rouse(rouse);
    }

    /// Arms the call of `on_rouse`. `false`: there is something to drain, so do not sleep.
    pub fn doze(&self) -> bool {
        self.estimated.changes.doze() && self.strict.doze()
    }

    pub fn figures(&self) -> Figures {
        let strict = self.strict.figures();
        Figures {
            admitted: self.estimated.cells.sum(|sums| &sums.admitted) + strict.admitted,
            refused: self.estimated.cells.sum(|sums| &sums.refused) + strict.refused,
            forecast_refused: self.estimated.cells.sum(|sums| &sums.forecast_refused),
            strict_refused: strict.refused,
            sketched: self.estimated.cells.sum(|sums| &sums.sketched),
            evicted: self.estimated.table.evicted(),
            lines: self.estimated.table.len() as u64 + strict.lines,
            capacity: self.estimated.table.capacity() as u64,
            names: self.estimated.table.names.len() as u64,
        }
    }

    /// The counters of strict limits.
    pub fn strict(&self) -> &Strict {
        &self.strict
    }
}

impl Default for Counters {
    /// A million counters and a key of its own, for a node that shares them with nobody.
    fn default() -> Self {
        Counters::new(Options::default())
    }
}

impl Default for Options {
    /// A million counters, a random key.
    fn default() -> Self {
        let half = || RandomState::new().build_hasher().finish().to_le_bytes();
        let mut key = [0; 16];
        key[..8].copy_from_slice(&half());
        key[8..].copy_from_slice(&half());
        Options { capacity: 1 << 20, key }
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").field("figures", &self.figures()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
