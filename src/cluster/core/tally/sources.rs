//! Processes that count: peers with a connection, and those whose slots others passed on.
//!
//! A process is a node and its incarnation. The one before a restart keeps its slots until their windows end, and never
//! counts again.

use std::collections::HashMap;

/// Processes remembered at most; slots of further ones are dropped and counted.
const SOURCES_MAX: usize = 4_096;
/// A peer from which nothing was heard for so long is stale; more where its batches are farther apart.
const STALE_MS: u64 = 1_000;

/// A place in the table.
pub type Place = u16;

#[derive(Clone, Debug)]
pub struct Source {
    pub node_id: String,
    pub incarnation: u64,
    pub connected: bool,
    /// Dead, left, or replaced by a later incarnation, since then.
    pub gone_ms: Option<u64>,
    /// A later process of the node is there: this one counts no more.
    pub replaced: bool,
    /// Half a round trip.
    pub way_ms: u64,
    pub heard_ms: u64,
    /// By period: everything that changed up to then was said.
    pub watermarks: [u64; 6],
    /// Slots held of it, to know when it can be forgotten.
    pub slots: usize,
}

#[derive(Debug, Default)]
pub struct Sources {
    all: Vec<Option<Source>>,
    /// The latest process of each node.
    latest: HashMap<String, Place>,
    by_process: HashMap<(String, u64), Place>,
}

impl Sources {
    /// A peer is there; an older process of it is gone.
    pub fn connect(&mut self, node_id: &str, incarnation: u64, now_ms: u64) -> Option<Place> {
        if let Some(old) = self.latest.get(node_id).copied()
            && let Some(old) = self.source_mut(old)
            && old.incarnation != incarnation
        {
            (old.connected, old.replaced) = (false, true);
            old.gone_ms = old.gone_ms.or(Some(now_ms));
        }
        let place = self.find_or_add(node_id, incarnation, now_ms)?;
        let source = self.source_mut(place)?;
        (source.connected, source.gone_ms, source.replaced, source.heard_ms) = (true, None, false, now_ms);
        self.latest.insert(node_id.to_owned(), place);
        Some(place)
    }

    pub fn disconnect(&mut self, node_id: &str) {
        if let Some(source) = self.peer_mut(node_id) {
            source.connected = false;
        }
    }

    pub fn gone(&mut self, node_id: &str, now_ms: u64) {
        if let Some(source) = self.peer_mut(node_id) {
            source.connected = false;
            source.gone_ms = source.gone_ms.or(Some(now_ms));
        }
    }

    pub fn peer_mut(&mut self, node_id: &str) -> Option<&mut Source> {
        let place = self.latest.get(node_id).copied()?;
        self.source_mut(place)
    }

    pub fn peer(&self, node_id: &str) -> Option<(Place, &Source)> {
        let place = self.latest.get(node_id).copied()?;
        Some((place, self.source(place)?))
    }

    pub fn source(&self, place: Place) -> Option<&Source> {
        self.all.get(usize::from(place))?.as_ref()
    }

    pub fn source_mut(&mut self, place: Place) -> Option<&mut Source> {
        self.all.get_mut(usize::from(place))?.as_mut()
    }

    /// A process that is known from others, if only by its slots: it counts as gone until it connects.
    pub fn find_or_add(&mut self, node_id: &str, incarnation: u64, now_ms: u64) -> Option<Place> {
        let process = (node_id.to_owned(), incarnation);
        if let Some(place) = self.by_process.get(&process) {
            return Some(*place);
        }
        let free = self.all.iter().position(Option::is_none);
        let at = free.unwrap_or(self.all.len());
        if at >= SOURCES_MAX {
            return None;
        }
        let source = Source {
            node_id: node_id.to_owned(),
            incarnation,
            connected: false,
            gone_ms: Some(now_ms),
            replaced: false,
            way_ms: 0,
            heard_ms: now_ms,
            watermarks: [0; 6],
            slots: 0,
        };
        match free {
            Some(at) => self.all[at] = Some(source),
            None => self.all.push(Some(source)),
        }
        let place = Place::try_from(at).ok()?;
        self.by_process.insert(process, place);
        Some(place)
    }

    /// Peers with a connection, in order of their ids.
    pub fn connected(&self) -> Vec<String> {
        let mut peers: Vec<String> =
            self.all.iter().flatten().filter(|source| source.connected).map(|source| source.node_id.clone()).collect();
        peers.sort_unstable();
        peers
    }

    /// The same with their places.
    pub fn connected_sources(&self) -> impl Iterator<Item = (Place, &Source)> {
        let places =
            self.all.iter().enumerate().filter_map(|(at, source)| Some((Place::try_from(at).ok()?, source.as_ref()?)));
        places.filter(|(_, source)| source.connected)
    }

    pub fn connected_count(&self) -> usize {
        self.all.iter().flatten().filter(|source| source.connected).count()
    }

    /// Peers that belong to the cluster as far as this node knows: connected, or missing and not yet gone.
    pub fn members(&self) -> usize {
        self.all.iter().flatten().filter(|source| source.connected || source.gone_ms.is_none()).count()
    }

    /// Members that were not heard in time.
    pub fn stale(&self, now_ms: u64) -> usize {
        let member = |source: &&Source| source.connected || source.gone_ms.is_none();
        self.all
            .iter()
            .flatten()
            .filter(member)
            .filter(|source| !source.connected && !source.is_fresh(0, now_ms))
            .count()
    }

    /// The longest way to a connected peer, ms.
    pub fn way_max_ms(&self) -> u64 {
        self.all.iter().flatten().filter(|source| source.connected).map(|source| source.way_ms).max().unwrap_or(0)
    }

    /// Forgets processes that are gone and of which no slot is left.
    pub fn forget(&mut self) {
        for place in &mut self.all {
            let Some(source) = place else { continue };
            if source.slots > 0 || source.connected || source.gone_ms.is_none() {
                continue;
            }
            self.by_process.remove(&(source.node_id.clone(), source.incarnation));
            if self
                .latest
                .get(&source.node_id)
                .is_some_and(|latest| self.by_process.values().all(|known| known != latest))
            {
                self.latest.remove(&source.node_id);
            }
            *place = None;
        }
    }
}

impl Source {
    /// Heard lately, for batches that come each `tier_ms`.
    pub fn is_fresh(&self, tier_ms: u64, now_ms: u64) -> bool {
        self.connected && now_ms.saturating_sub(self.heard_ms) <= STALE_MS.max(3 * tier_ms) + self.way_ms
    }
}
