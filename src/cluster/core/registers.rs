//! A last-writer-wins register per entity: how writes of several nodes become one state.
//!
//! The register holds when its entity was written and whether it is there or gone; the documents stay with whoever keeps
//! entities. Merging is commutative, associative and idempotent, so order, repeats and the way a change took do not
//! matter. Nobody waits for anybody's clock.
//!
//! A tombstone has to outlive every copy of what it buries, or a node that comes back after a long absence brings the
//! dead along. It is forgotten after `TOMBSTONE_AGE_MS` all the same: when two whole configurations meet, a record that
//! only one of them has is buried in the other if that one knows as much of the record's writer (`is_buried`). Keeping
//! tombstones for good lost: churn would fill the memory. A map with a vector clock per entry (`crdts::Map`) lost: a
//! whole document replaces a whole document here, nothing is merged inside of one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use crdts::{CmRDT, LWWReg};
use tidegate_proto::frame::{Changed, Span, WholeRecord};
use tidegate_proto::{Stamp, Vector};

use crate::cluster::core::clock::{time_of, unix_ms_of};

/// How long it is remembered that an entity is gone: 7 days.
pub const TOMBSTONE_AGE_MS: u64 = 7 * 24 * 3_600_000;
/// The most tombstones kept; beyond, the oldest go before their age.
pub const TOMBSTONES_MAX: usize = 200_000;

/// Whether the entity of a register is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Held {
    Here,
    Gone,
}

/// A `Stamp` whose origin is shared among all registers of that writer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    epoch: u64,
    time: u64,
    origin: Arc<str>,
}

type Register = LWWReg<Held, Mark>;
type Shelf = BTreeMap<[u8; 16], Register>;

/// One register, as the iteration shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub kind: &'a str,
    pub id: &'a [u8; 16],
    pub epoch: u64,
    pub time: u64,
    pub origin: &'a str,
    pub held: Held,
}

/// What a whole configuration changes here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adoption<'a> {
    /// Records that are newer than what is here, documents and tombstones.
    pub winners: Vec<&'a WholeRecord>,
    /// Entities and tombstones that are to be forgotten: the sender of the whole has seen them go, and forgot that.
    pub strays: Vec<(String, [u8; 16])>,
}

/// All registers of a node.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    kinds: BTreeMap<Arc<str>, Shelf>,
    origins: BTreeSet<Arc<str>>,
    len: usize,
    tombstones: usize,
}

impl Registers {
    /// When the entity was written last, or went; `None`: nothing is known of it.
    pub fn stamp_of(&self, kind: &str, id: &[u8; 16]) -> Option<Stamp> {
        self.register(kind, id).map(|register| {
            let Mark { epoch, time, origin } = &register.marker;
            Stamp { epoch: *epoch, time: *time, origin: origin.to_string() }
        })
    }

    /// The time alone; 0 when nothing is known. What `Clock::stamp` wants as `replaced`.
    pub fn time_of(&self, kind: &str, id: &[u8; 16]) -> u64 {
        self.register(kind, id).map_or(0, |register| register.marker.time)
    }

    /// The changes of a span that win over what is here, at most one per entity, in the span's order. Changes nothing:
    /// the winners go to the disk first, then `merge`.
    pub fn winners<'a>(&self, span: &'a Span) -> Vec<&'a Changed> {
        let mut best: BTreeMap<(&str, &[u8; 16]), usize> = BTreeMap::new();
        for (at, changed) in span.changes.iter().enumerate() {
            let standing = best.get(&(changed.kind.as_str(), &changed.id)).map(|at| span.changes[*at].time);
            let wins = match standing {
                Some(time) => changed.time > time,
                None => self.is_newer(&changed.kind, &changed.id, (span.epoch, changed.time, &span.origin)),
            };
            if wins {
                best.insert((&changed.kind, &changed.id), at);
            }
        }
        let mut places: Vec<usize> = best.into_values().collect();
        places.sort_unstable();
        places.into_iter().map(|at| &span.changes[at]).collect()
    }

    /// Takes a span in, and answers how many of its changes won.
    pub fn merge(&mut self, span: &Span) -> usize {
        let mut won = 0;
        for changed in &span.changes {
            let held = held(changed.text.is_some());
            won += usize::from(self.set(&changed.kind, &changed.id, (span.epoch, changed.time, &span.origin), held));
        }
        won
    }

    /// Sets one register, as read from the disk; false when a newer write is here already.
    pub fn set(&mut self, kind: &str, id: &[u8; 16], stamp: (u64, u64, &str), held: Held) -> bool {
        if !self.is_newer(kind, id, stamp) {
            return false;
        }
        let marker = Mark { epoch: stamp.0, time: stamp.1, origin: self.origin(stamp.2) };
        let register = Register { val: held, marker };
        let shelf = self.shelf(kind);
        match shelf.get_mut(id) {
            Some(standing) => {
                let was = standing.val;
                standing.apply(register);
                self.tombstones -= usize::from(was == Held::Gone);
            }
            None => {
                shelf.insert(*id, register);
                self.len += 1;
            }
        }
        self.tombstones += usize::from(held == Held::Gone);
        true
    }

    /// What taking a whole in would change, with `mine` and `theirs` as the positions of both sides. Changes nothing:
    /// the disk first, then `adopt`.
    pub fn compare<'a>(
        &self,
        (mine, theirs): (&Vector, &Vector),
        records: &'a [WholeRecord],
        unix_ms: u64,
    ) -> Adoption<'a> {
        let wins = |record: &&WholeRecord| {
            let stamp = (theirs.epoch, record.time, record.origin.as_str());
            self.is_newer(&record.kind, &record.id, stamp)
                && (self.register(&record.kind, &record.id).is_some()
                    || !is_buried(&record.origin, record.time, (mine, theirs), unix_ms))
        };
        let there: BTreeSet<(&str, &[u8; 16])> = records.iter().map(|record| (&*record.kind, &record.id)).collect();
        let is_stray = |entry: &Entry<'_>| {
            !there.contains(&(entry.kind, entry.id)) && is_buried(entry.origin, entry.time, (theirs, mine), unix_ms)
        };
        let strays = self.after(None).filter(is_stray).map(|entry| (entry.kind.to_owned(), *entry.id));
        Adoption { winners: records.iter().filter(wins).collect(), strays: strays.collect() }
    }

    /// Takes in what `compare` answered.
    pub fn adopt(&mut self, epoch: u64, adoption: &Adoption<'_>) {
        for (kind, id) in &adoption.strays {
            self.remove(kind, id);
        }
        for record in &adoption.winners {
            let held = held(record.text.is_some());
            self.set(&record.kind, &record.id, (epoch, record.time, &record.origin), held);
        }
    }

    /// Everything after a place, tombstones included, in order of (kind, id).
    pub fn after<'a>(&'a self, place: Option<(&'a str, &'a [u8; 16])>) -> impl Iterator<Item = Entry<'a>> {
        let kinds = match place {
            Some((kind, _)) => self.kinds.range::<str, _>((Bound::Included(kind), Bound::Unbounded)),
            None => self.kinds.range::<str, _>(..),
        };
        kinds.flat_map(move |(kind, shelf)| {
            let from = match place {
                Some((within, id)) if within == &**kind => Bound::Excluded(*id),
                _ => Bound::Unbounded,
            };
            shelf.range((from, Bound::Unbounded)).map(|(id, register)| entry(kind, id, register))
        })
    }

    /// Forgets tombstones that are older than `TOMBSTONE_AGE_MS` or too many, and names them, for the disk to follow.
    pub fn forget(&mut self, unix_ms: u64) -> Vec<(String, [u8; 16])> {
        // Where nothing was deleted, looking for it among 100,000 entities would keep a core from requests for 4 ms.
        if self.tombstones == 0 {
            return Vec::new();
        }
        let mut horizon = time_of(unix_ms.saturating_sub(TOMBSTONE_AGE_MS));
        if self.tombstones > TOMBSTONES_MAX {
            let mut times: Vec<u64> = self.gone().map(|entry| entry.time).collect();
            let (_, nth, _) = times.select_nth_unstable(self.tombstones - TOMBSTONES_MAX);
            horizon = horizon.max(*nth);
        }
        let old = self.gone().filter(|entry| entry.time < horizon);
        let old: Vec<(String, [u8; 16])> = old.map(|entry| (entry.kind.to_owned(), *entry.id)).collect();
        for (kind, id) in &old {
            self.remove(kind, id);
        }
        old
    }

    /// The greatest time of all registers; what a `Clock` goes on after.
    pub fn time_max(&self) -> u64 {
        self.after(None).map(|entry| entry.time).max().unwrap_or(0)
    }

    /// Registers, tombstones included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn tombstones(&self) -> usize {
        self.tombstones
    }

    fn register(&self, kind: &str, id: &[u8; 16]) -> Option<&Register> {
        self.kinds.get(kind)?.get(id)
    }

    fn is_newer(&self, kind: &str, id: &[u8; 16], stamp: (u64, u64, &str)) -> bool {
        self.register(kind, id).is_none_or(|register| {
            let Mark { epoch, time, origin } = &register.marker;
            stamp > (*epoch, *time, &**origin)
        })
    }

    fn gone(&self) -> impl Iterator<Item = Entry<'_>> {
        self.after(None).filter(|entry| entry.held == Held::Gone)
    }

    fn remove(&mut self, kind: &str, id: &[u8; 16]) {
        let Some(shelf) = self.kinds.get_mut(kind) else { return };
        if let Some(register) = shelf.remove(id) {
            self.len -= 1;
            self.tombstones -= usize::from(register.val == Held::Gone);
        }
        if shelf.is_empty() {
            self.kinds.remove(kind);
        }
    }

    fn shelf(&mut self, kind: &str) -> &mut Shelf {
        if !self.kinds.contains_key(kind) {
            self.kinds.insert(kind.into(), Shelf::new());
        }
        self.kinds.entry(kind.into()).or_default()
    }

    fn origin(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.origins.get(name) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = name.into();
        self.origins.insert(Arc::clone(&shared));
        shared
    }
}

impl Entry<'_> {
    /// The age of the register's last write.
    pub fn age_ms(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_sub(unix_ms_of(self.time))
    }
}

/// Whether a record of `origin` that is missing on one side was seen there and is gone, rather than never seen.
///
/// A side that knows as much of the writer as the other has seen the record. One that knows nothing of the writer has not.
/// In between it is the age that decides, the same on both sides: a tombstone would still be there if it were younger.
fn is_buried(origin: &str, time: u64, (lacking, having): (&Vector, &Vector), unix_ms: u64) -> bool {
    if lacking.epoch != having.epoch {
        return lacking.epoch > having.epoch;
    }
    let known = lacking.count(origin);
    known >= having.count(origin) || known > 0 && time < time_of(unix_ms.saturating_sub(TOMBSTONE_AGE_MS))
}

fn held(there: bool) -> Held {
    if there { Held::Here } else { Held::Gone }
}

fn entry<'a>(kind: &'a str, id: &'a [u8; 16], register: &'a Register) -> Entry<'a> {
    let Mark { epoch, time, origin } = &register.marker;
    Entry { kind, id, epoch: *epoch, time: *time, origin, held: register.val }
}

#[cfg(test)]
mod tests;
