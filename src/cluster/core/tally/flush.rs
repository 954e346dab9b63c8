//! What is said to whom, and when.
//!
//! The next batch of a period takes along every counter that was hit since the last one. A counter near its limit does
//! not wait for that: one datagram every few milliseconds has all that is urgent. In a large cluster, or past the budget,
//! a counter that nobody else is known to have goes to its two homes only; a home that sees several sources passes their
//! slots on, each as it is, and from then on they tell each other. A sum would be counted twice where homes change.

use std::collections::BTreeMap;

use hashbrown::HashSet;

use tidegate_proto::demand;
use tidegate_proto::frame::{Counts, Frame, Slot};

use crate::cluster::core::tally::batch::Groups;
use crate::cluster::core::tally::sources::{Place, Sources};
use crate::cluster::core::tally::tracked::{Tracked, tier_ms};
use crate::cluster::core::tally::{Output, TRACKED_MAX, Tally, URGENT_MS};
use crate::counter::{Cursor, Handle, Period, Reach, Window};

/// Up to so many nodes everybody hears of every counter.
const EVERYBODY_MAX: u64 = 64;
/// A count below this part of an even share of the limit is not worth telling.
const EPSILON: f64 = 0.02;
/// A home passes slots on from this part of the limit on.
const FORWARD: f64 = 0.1;
const HOMES: usize = 2;
/// A slot with its part of the head, bytes.
const SLOT_LEN: u64 = 14;
/// A frame around slots, with QUIC and UDP, bytes.
const FRAME_LEN: u64 = 80;
/// The longest frame on a stream, bytes.
const STREAM_LEN_MAX: usize = 48 << 10;
/// How often it is said at least that nothing was counted, ms.
const SILENCE_MS: u64 = 100;
/// Who hears of a counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Audience {
    Everybody,
    These(Vec<Place>),
}

impl Tally {
    pub fn flush(&mut self, now_ms: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        let peers = self.sources.connected();
        self.budget.refill(now_ms);
        if peers.is_empty() {
            // Whoever connects gets everything.
            self.cold.iter_mut().for_each(HashSet::clear);
            self.unsaid.iter_mut().for_each(|unsaid| unsaid.own.clear());
            return outputs;
        }
        if now_ms >= self.urgent_ms + URGENT_MS {
            self.flush_urgent(&peers, now_ms, &mut outputs);
        }
        for period in Period::ALL {
            if now_ms >= self.due_ms[period as usize] && self.has_batch(period as usize) {
                self.due_ms[period as usize] = now_ms + tier_ms(Window { period, number: 0 });
                self.flush_period(period, &peers, now_ms, &mut outputs);
            }
        }
        outputs
    }

    pub fn has_batch(&self, period: usize) -> bool {
        let unsaid = &self.unsaid[period];
        let something = !unsaid.own.is_empty() || !unsaid.forward.is_empty() || !self.cold[period].is_empty();
        (something || self.looked_ms < self.lively_until_ms[period]) && self.sources.connected_count() > 0
    }

    fn flush_urgent(&mut self, peers: &[String], now_ms: u64, outputs: &mut Vec<Output>) {
        let urgent: Vec<u64> =
            self.hot.iter().copied().filter(|key| self.keys.get(key).is_some_and(Tracked::is_urgent)).collect();
        if urgent.is_empty() {
            return;
        }
        self.urgent_ms = now_ms;
        let mut by_audience: BTreeMap<Audience, Groups> = BTreeMap::new();
        for key in urgent {
            let audience = self.audience(key, now_ms);
            let Some(tracked) = self.keys.get_mut(&key) else { continue };
            tracked.hinted = tracked.now_told();
            let slot = own_slot(key, tracked);
            by_audience.entry(audience).or_default().add(None, tracked.window, tracked.room, slot);
        }
        for (audience, groups) in by_audience {
            let peers = self.names(&audience, peers);
            self.say(peers, groups.into_counts(now_ms, 0), true, outputs);
        }
    }

    fn flush_period(&mut self, period: Period, peers: &[String], now_ms: u64, outputs: &mut Vec<Output>) {
        let mut by_audience: BTreeMap<Audience, Groups> = BTreeMap::new();
        let mut everybody = Groups::default();
        let room = self.budget.left.max(0) as u64 / SLOT_LEN / peers.len().max(1) as u64;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let room = self.gather_own(period, room, now_ms, &mut everybody, &mut by_audience);
        self.gather_cold(period, room, now_ms, &mut everybody, &mut by_audience);
        self.gather_forward(period, now_ms, &mut by_audience);
        for (audience, groups) in by_audience {
            let peers = self.names(&audience, peers);
            self.say(peers, groups.into_counts(now_ms, 0), false, outputs);
        }
        // Silence is word, too, but not as often.
        let silent_ms = now_ms.saturating_sub(self.said_ms[period as usize]);
        if !everybody.is_empty() || silent_ms >= SILENCE_MS {
            self.said_ms[period as usize] = now_ms;
            self.say(peers.to_vec(), everybody.into_counts(now_ms, 1 << period as u8), false, outputs);
        }
    }

    /// The fullest first; those beyond `room` wait for the next batch. Answers how much room is left.
    fn gather_own(
        &mut self,
        period: Period,
        room: usize,
        now_ms: u64,
        everybody: &mut Groups,
        others: &mut BTreeMap<Audience, Groups>,
    ) -> usize {
        let nodes = self.nodes() as f64;
        let mut keys: Vec<u64> = std::mem::take(&mut self.unsaid[period as usize].own).into_iter().collect();
        if keys.len() > room {
            let weight = |key: &u64| {
                self.keys.get(key).map_or(0.0, |tracked| tracked.fullness() * f64::from(tracked.estimate.sources + 1))
            };
            keys.sort_by(|a, b| weight(b).total_cmp(&weight(a)).then(a.cmp(b)));
            self.unsaid[period as usize].own.extend(keys.drain(room..));
            self.figures.over_budget += 1;
            self.budget.spent_ms = Some(now_ms);
        }
        let room = room - keys.len();
        for key in keys {
            let audience = self.audience(key, now_ms);
            let Some(tracked) = self.keys.get_mut(&key) else { continue };
            if let Some((number, count)) = tracked.ended.take() {
                let slot = Slot { key, count, demand: 0, stopped: true };
                let window = Window { number, ..tracked.window };
                groups(&audience, everybody, others).add(None, window, tracked.room, slot);
            }
            if !tracked.is_owed() {
                continue;
            }
            // Whoever shares a counter takes silence for word, so to them nothing is withheld.
            let shared = !tracked.slots.is_empty();
            if !shared && (tracked.own as f64) < EPSILON * tracked.room as f64 / nodes {
                self.figures.withheld += 1;
                continue;
            }
            tracked.told = tracked.now_told();
            tracked.hinted = tracked.told;
            groups(&audience, everybody, others).add(None, tracked.window, tracked.room, own_slot(key, tracked));
        }
        room
    }

    /// Counters beyond those that are tracked; those beyond `room` wait for the next batch.
    fn gather_cold(
        &mut self,
        period: Period,
        room: usize,
        now_ms: u64,
        everybody: &mut Groups,
        others: &mut BTreeMap<Audience, Groups>,
    ) {
        let cold = &mut self.cold[period as usize];
        let handles: Vec<Handle> = cold.iter().copied().take(room).collect();
        handles.iter().for_each(|handle| {
            cold.remove(handle);
        });
        if !cold.is_empty() {
            self.figures.over_budget += 1;
            self.budget.spent_ms = Some(now_ms);
        }
        let nodes = self.nodes() as f64;
        for handle in handles {
            let Some(reading) = self.counters.read(handle, now_ms) else { continue };
            if (reading.own as f64) < EPSILON * reading.room as f64 / nodes {
                self.figures.withheld += 1;
                continue;
            }
            let audience = self.audience(reading.key, now_ms);
            let slot = Slot { key: reading.key, count: reading.own, demand: 0, stopped: reading.stopped };
            groups(&audience, everybody, others).add(None, reading.window, reading.room, slot);
        }
    }

    /// A home tells each source what the others said.
    fn gather_forward(&mut self, period: Period, now_ms: u64, others: &mut BTreeMap<Audience, Groups>) {
        let keys = std::mem::take(&mut self.unsaid[period as usize].forward);
        if self.nodes() <= EVERYBODY_MAX && !self.budget.is_thrifty(now_ms) {
            return;
        }
        for key in keys {
            let Some(tracked) = self.keys.get_mut(&key) else { continue };
            if !std::mem::take(&mut tracked.forward) || tracked.slots.len() < 2 || tracked.fullness() < FORWARD {
                continue;
            }
            for receiver in &tracked.slots {
                if !self.sources.source(receiver.source).is_some_and(|source| source.connected) {
                    continue;
                }
                for said in tracked.slots.iter().filter(|slot| slot.source != receiver.source) {
                    let Some(source) = self.sources.source(said.source) else { continue };
                    if said.window != tracked.window.number {
                        continue;
                    }
                    let slot = Slot {
                        key,
                        count: said.count,
                        demand: demand::encode(said.demand_per_ms * 1e3),
                        stopped: said.stopped,
                    };
                    let process = Some((source.node_id.clone(), source.incarnation));
                    let audience = Audience::These(vec![receiver.source]);
                    others.entry(audience).or_default().add(process, tracked.window, tracked.room, slot);
                }
            }
        }
    }

    /// Everything that this process counted, for a peer that lacks it.
    pub fn everything(&mut self, now_ms: u64) -> Groups {
        let mut all = Groups::default();
        for (key, tracked) in &self.keys {
            if tracked.own > 0 {
                all.add(None, tracked.window, tracked.room, own_slot(*key, tracked));
            }
        }
        if self.keys.len() >= TRACKED_MAX {
            // The scan takes away the marks of what was hit, so the others are told again, too.
            self.fall_behind();
            let mut cursor = Cursor::default();
            loop {
                let handles: Vec<_> = self.counters.scan(&mut cursor, 4_096).collect();
                if handles.is_empty() {
                    break;
                }
                for reading in handles.into_iter().filter_map(|handle| self.counters.read(handle, now_ms)) {
                    let running = Window::at(reading.window.period, now_ms / 1_000) == reading.window;
                    let shared = reading.reach == Reach::Cluster;
                    if running && shared && reading.own > 0 && !self.keys.contains_key(&reading.key) {
                        let slot = Slot { key: reading.key, count: reading.own, demand: 0, stopped: reading.stopped };
                        all.add(None, reading.window, reading.room, slot);
                    }
                }
            }
        }
        all
    }

    pub fn say(&mut self, peers: Vec<String>, counts: Counts, urgent: bool, outputs: &mut Vec<Output>) {
        if peers.is_empty() {
            return;
        }
        let slots: u64 = counts.groups.iter().map(|group| group.slots.len() as u64).sum();
        self.figures.entries_sent += slots * peers.len() as u64;
        self.budget.spend((FRAME_LEN + slots * SLOT_LEN) * peers.len() as u64);
        let parts = if urgent { vec![counts] } else { counts.split(STREAM_LEN_MAX) };
        for counts in parts {
            outputs.push(Output::Send { peers: peers.clone(), frame: Frame::Counts(counts), urgent });
        }
    }

    fn audience(&self, key: u64, now_ms: u64) -> Audience {
        let small = self.nodes() <= EVERYBODY_MAX;
        let tracked = self.keys.get(&key);
        let shared = tracked.is_some_and(|tracked| !tracked.slots.is_empty());
        if small && (shared || !self.budget.is_thrifty(now_ms)) {
            return Audience::Everybody;
        }
        let mut hearers: Vec<Place> = homes(key, &self.me.node_id, &self.sources);
        if let Some(tracked) = tracked {
            hearers.extend(tracked.slots.iter().map(|slot| slot.source));
        }
        hearers.retain(|place| self.sources.source(*place).is_some_and(|source| source.connected));
        hearers.sort_unstable();
        hearers.dedup();
        Audience::These(hearers)
    }

    fn names(&self, audience: &Audience, everybody: &[String]) -> Vec<String> {
        match audience {
            Audience::Everybody => everybody.to_vec(),
            Audience::These(places) => {
                places.iter().filter_map(|place| Some(self.sources.source(*place)?.node_id.clone())).collect()
            }
        }
    }
}

fn groups<'a>(
    audience: &Audience,
    everybody: &'a mut Groups,
    others: &'a mut BTreeMap<Audience, Groups>,
) -> &'a mut Groups {
    match audience {
        Audience::Everybody => everybody,
        Audience::These(_) => others.entry(audience.clone()).or_default(),
    }
}

fn own_slot(key: u64, tracked: &Tracked) -> Slot {
    Slot { key, count: tracked.own, demand: demand::encode(tracked.rate.per_ms() * 1e3), stopped: tracked.stopped }
}

/// The connected nodes that come first for this key by a hash of both; this node may be one, and is left out then.
fn homes(key: u64, me: &str, sources: &Sources) -> Vec<Place> {
    let weight = |name: &str| {
        let mut hash = key ^ 0x9e37_79b9_7f4a_7c15;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash ^= hash >> 32;
        hash.wrapping_mul(0xd6e8_feb8_6659_fd93)
    };
    let mut first: Vec<(u64, Option<Place>)> = vec![(weight(me), None)];
    for (place, source) in sources.connected_sources() {
        first.push((weight(&source.node_id), Some(place)));
        first.sort_unstable_by(|a, b| b.cmp(a));
        first.truncate(HOMES);
    }
    first.into_iter().filter_map(|(_, place)| place).collect()
}
