//! From one registry of weights to the next: what this node promises, when it may hold more, and which windows it may
//! open. Every step is on the disk before it has an effect.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::cluster::core::rights::registry::{Mark, Promise, Registry};
use crate::counter::strict::Terms;
use crate::counter::strict::share::Share;

/// Windows are opened that start at most so far ahead of the last write to the disk; a restart waits that long before it
/// opens one with base rights. Seconds.
const AHEAD_S: u64 = 15;
/// When less is left, it is written anew: every 10 s while strict limits are in use.
const LEFT_S: u64 = 5;
/// A registry that shows so soon after the start of a node was there before it. Seconds.
pub const FOUND_S: u64 = 3;
/// Peers whose promises are remembered.
const PROMISES_MAX: usize = 2_000;
/// Shares that are remembered by the start of windows; older windows that are opened late have no base rights.
const SHARES_MAX: usize = 6;

/// What is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The last promise. Marks of promises ascend.
    promised: Option<Promise>,
    /// Nodes that some promised registry knew of, without those that are gone.
    nodes: BTreeSet<String>,
    /// As in `Terms`.
    shares: Vec<(u64, (u32, u32))>,
    until_s: u64,
    /// Written by a node without a mesh, which has every limit to itself.
    alone: bool,
}

/// How it stands with the weights, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A node without a mesh.
    Alone,
    /// This node's clock is far from its peers': it admits nothing.
    Skewed,
    /// Nobody said what share this node has: it has none.
    Unsaid,
    /// The registry is older than this node's disk: its epoch has to be raised.
    NewDisk { epoch: u64 },
    /// The registry does not name this node of an earlier one.
    Forgets { epoch: u64, node: String },
    /// These have not promised yet.
    Waits { epoch: u64, nodes: Vec<String> },
    /// Promised by all.
    Settled { epoch: u64 },
}

impl Standing {
    /// All names, as metrics list them.
    pub const NAMES: [&str; 7] = ["alone", "skewed", "unsaid", "new_disk", "forgets", "waits", "settled"];

    pub fn name(&self) -> &'static str {
        match self {
            Standing::Alone => "alone",
            Standing::Skewed => "skewed",
            Standing::Unsaid => "unsaid",
            Standing::NewDisk { .. } => "new_disk",
            Standing::Forgets { .. } => "forgets",
            Standing::Waits { .. } => "waits",
            Standing::Settled { .. } => "settled",
        }
    }
}

/// The state of one process.
#[derive(Debug)]
pub struct Weights {
    me: String,
    alone: bool,
    started_s: u64,
    /// The configuration was read once.
    is_read: bool,
    /// Nothing was on the disk.
    fresh: bool,
    /// Of a fresh disk: the first registry that was found. It may have been promised before the disk was lost.
    first: Option<u64>,
    kept: Kept,
    /// On its way to the disk.
    next: Option<Kept>,
    registry: Option<Registry>,
    promises: BTreeMap<String, Promise>,
    in_use: bool,
    skewed: bool,
}

impl Kept {
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `None`: damaged, which is like a lost disk.
    pub fn from_text(text: &str) -> Option<Kept> {
        serde_json::from_str(text).ok()
    }

    pub fn terms(&self) -> Terms {
        let shares = self.shares.iter().map(|(from_s, (from, to))| (*from_s, Share::new(*from, *to))).collect();
        Terms { shares, until_s: self.until_s }
    }

    /// Changes the share in windows that start at `from_s` or later.
    fn set_share(&mut self, from_s: u64, change: impl Fn(Share) -> Share) {
        let current = self.terms().share(from_s);
        let later = self.shares.iter().filter(|(other_s, _)| *other_s > from_s).copied();
        let later: Vec<_> = std::iter::once((from_s, current.ends())).chain(later).collect();
        self.shares.retain(|(other_s, _)| *other_s < from_s);
        for (from_s, (from, to)) in later {
            let ends = change(Share::new(from, to)).ends();
            if self.shares.last().is_none_or(|(_, last)| *last != ends) {
                self.shares.push((from_s, ends));
            }
        }
        let surplus = self.shares.len().saturating_sub(SHARES_MAX);
        self.shares.drain(..surplus);
    }
}

impl Weights {
    /// `kept`: what an earlier process left, `None` on a new disk. Windows that the earlier process may have opened have
    /// no base rights now: those up to its `until_s`, on a new disk those that began before now.
    pub fn new(me: &str, alone: bool, kept: Option<Kept>, now_s: u64) -> Weights {
        let fresh = kept.is_none();
        let mut kept = kept.unwrap_or_default();
        // One second more: the window of this very second may have been opened.
        let from_s = if fresh { now_s + 1 } else { kept.until_s };
        let share = match (alone, kept.alone) {
            (true, _) => Share::WHOLE,
            // What it held alone is not its share in a cluster.
            (false, true) => Share::NONE,
            (false, false) => kept.terms().share(from_s),
        };
        let later = kept.shares.iter().filter(|(other_s, _)| *other_s > from_s && !alone && !kept.alone).copied();
        kept.shares = std::iter::once((from_s, share.ends())).chain(later).collect();
        (kept.until_s, kept.alone) = (from_s, alone);
        Weights {
            me: me.to_owned(),
            alone,
            started_s: now_s,
            is_read: false,
            fresh,
            first: None,
            kept,
            next: None,
            registry: None,
            promises: BTreeMap::new(),
            in_use: false,
            skewed: false,
        }
    }

    /// What the configuration says now. A smaller registry than one that was seen is left alone.
    pub fn on_registry(&mut self, registry: Option<Registry>, now_s: u64) {
        self.is_read = true;
        let Some(registry) = registry.filter(|_| !self.alone) else { return };
        self.find_none(now_s);
        self.first.get_or_insert(registry.mark().epoch);
        if self.registry.as_ref().is_none_or(|known| known.mark() < registry.mark()) {
            self.registry = Some(registry);
        }
    }

    /// From a beat. A smaller promise than one that was heard came late.
    pub fn on_promise(&mut self, peer: &str, promise: Promise) {
        let known = self.promises.get(peer);
        if known.is_none() && self.promises.len() >= PROMISES_MAX {
            return;
        }
        if known.is_none_or(|known| (known.mark, known.from_s) < (promise.mark, promise.from_s)) {
            self.promises.insert(peer.to_owned(), promise);
        }
    }

    pub fn set_in_use(&mut self, in_use: bool) {
        self.in_use = in_use;
    }

    /// A clock far from the peers' tells no windows: none is opened that was not allowed before, so that a date far ahead
    /// does not get to the disk.
    pub fn set_skewed(&mut self, skewed: bool) {
        self.skewed = skewed;
    }

    /// The promise to tell everybody: it is on the disk.
    pub fn promise(&self) -> Option<Promise> {
        self.kept.promised.filter(|_| !self.alone)
    }

    pub fn terms(&self) -> Terms {
        self.kept.terms()
    }

    /// What has to be on the disk next; answer with `on_kept` or `on_failed`. One at a time.
    pub fn poll(&mut self, now_s: u64) -> Option<Kept> {
        if self.next.is_some() {
            return None;
        }
        self.find_none(now_s);
        let mut next = self.kept.clone();
        self.promise_anew(&mut next);
        self.raise(&mut next);
        if self.in_use && !self.skewed && next.until_s < now_s + LEFT_S {
            next.until_s = now_s + AHEAD_S;
        }
        if next == self.kept {
            return None;
        }
        self.next = Some(next.clone());
        Some(next)
    }

    /// It is on the disk: from now on it holds. True: the terms changed.
    pub fn on_kept(&mut self) -> bool {
        let Some(next) = self.next.take() else { return false };
        let changed = next.terms() != self.kept.terms();
        self.kept = next;
        changed
    }

    pub fn on_failed(&mut self) {
        self.next = None;
    }

    /// When the windows that may be opened run out.
    pub fn due_s(&self) -> u64 {
        if self.in_use && !self.skewed { self.kept.until_s.saturating_sub(LEFT_S) } else { u64::MAX }
    }

    pub fn standing(&self) -> Standing {
        if self.skewed {
            return Standing::Skewed;
        }
        let Some(registry) = &self.registry else {
            return if self.alone { Standing::Alone } else { Standing::Unsaid };
        };
        let epoch = registry.mark().epoch;
        if self.kept.promised.is_none_or(|promised| promised.mark < registry.mark()) {
            if self.is_as_old_as_the_disk(registry) {
                return Standing::NewDisk { epoch };
            }
            if let Some(node) = self.forgotten(registry) {
                return Standing::Forgets { epoch, node: node.clone() };
            }
        }
        let mark = registry.mark();
        let nodes: Vec<String> =
            registry.nodes().filter(|node| self.promised_by(node, mark).is_none()).cloned().collect();
        if nodes.is_empty() { Standing::Settled { epoch } } else { Standing::Waits { epoch, nodes } }
    }

    /// The share in windows that start now or later.
    pub fn share(&self, now_s: u64) -> Share {
        self.kept.terms().share(now_s)
    }

    /// Some time went by without a registry: the first that comes now is new.
    fn find_none(&mut self, now_s: u64) {
        if self.is_read && self.registry.is_none() && now_s >= self.started_s + FOUND_S {
            self.first.get_or_insert(0);
        }
    }

    /// Less at once: no window that starts at or after `until_s` was opened yet.
    fn promise_anew(&self, next: &mut Kept) {
        let Some(registry) = &self.registry else { return };
        let known = next.promised.is_some_and(|promised| promised.mark >= registry.mark());
        if known || self.is_as_old_as_the_disk(registry) || self.forgotten(registry).is_some() {
            return;
        }
        let (from_s, share) = (next.until_s, registry.share(&self.me));
        next.set_share(from_s, |held| held.meet(share));
        next.nodes.retain(|node| !registry.gone().contains(node));
        next.nodes.extend(registry.nodes().cloned());
        next.promised = Some(Promise { mark: registry.mark(), from_s });
    }

    /// More, once everybody has promised: from the latest of their windows on.
    fn raise(&self, next: &mut Kept) {
        let Some(registry) = &self.registry else { return };
        // This node's own promise has to be on the disk, not on its way there.
        let promised = |node: &String| self.promised_by(node, registry.mark());
        let starts: Option<Vec<u64>> = registry.nodes().chain([&self.me]).map(promised).collect();
        let Some(latest_s) = starts.and_then(|starts| starts.into_iter().max()) else { return };
        if next.promised != self.kept.promised {
            return;
        }
        let (from_s, share) = (latest_s.max(next.until_s), registry.share(&self.me));
        if next.shares.iter().all(|(other_s, _)| *other_s <= from_s) && next.terms().share(u64::MAX) == share {
            return;
        }
        next.set_share(from_s, |_| share);
    }

    fn promised_by(&self, node: &str, mark: Mark) -> Option<u64> {
        let promise = if node == self.me { self.kept.promised } else { self.promises.get(node).copied() };
        promise.filter(|promise| promise.mark == mark).map(|promise| promise.from_s)
    }

    fn is_as_old_as_the_disk(&self, registry: &Registry) -> bool {
        self.fresh && self.kept.promised.is_none() && self.first.is_some_and(|first| registry.mark().epoch <= first)
    }

    fn forgotten(&self, registry: &Registry) -> Option<&String> {
        self.kept.nodes.iter().find(|node| !registry.names(node))
    }
}
