//! Rights on their way: what is asked of whom, and what is given.
//!
//! A node asks before it runs out, for what it will need in three round trips, first of the peer that said it has most to
//! spare, then of the nearest that said nothing yet. Who has nothing to give says so once, and tells by itself when that
//! changed; so a limit that is used up costs a question per pair of nodes and window, and rights do not stay with a node
//! whose traffic stopped.
//!
//! `wish` and `total` are cumulative between two processes in one window: a repeated question is answered with the same
//! rights, a repeated answer adds nothing.

mod handover;
mod room_member;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate_proto::frame::{Ask, Frame, Grant};

use crate::cluster::core::rights::events::{Now, Output};
use crate::counter::strict::{Held, ROOM_MAX};
use crate::counter::{Counters, Period, Window};

/// Counters in exchange at most, each for one window. For a further one nothing is asked and nothing given: it has its
/// base rights.
const LINES_MAX: usize = 65_536;
/// Counters that are looked at in one go.
const LOOKS_MAX: usize = 4_096;
/// Processes that one counter gave to, or took from, at most.
const PARTNERS_MAX: usize = 2_000;
/// Questions on the way per counter.
const ASKS_MAX: usize = 4;
/// A question without an answer for two round trips and this long is asked of somebody else.
const PATIENCE_MS: u64 = 200;
/// How long a peer that did not answer is passed over.
const PASSED_OVER_MS: u64 = 1_000;
/// Round trips of traffic below which is asked, and for which is asked.
const LOW: f64 = 1.5;
const WISH: f64 = 3.0;
/// The least part of a limit that is asked for: so small ones do not move right by right.
const PART: u64 = 256;
/// Demand is that of about so long.
const DEMAND_MS: f64 = 1_000.0;
/// How often peers that were told "nothing" are told of what is left over.
const OFFER_MS: u64 = 200;
/// A round trip before one was measured.
const RTT_MS: f64 = 50.0;
/// How long after the end of a window a line is kept; later grants for it are dropped.
const GRACE_S: u64 = 10;

/// The exchange of one process.
pub struct Transfers {
    me: String,
    incarnation: u64,
    counters: Arc<Counters>,
    peers: BTreeMap<String, Peer>,
    lines: BTreeMap<(u64, Window), Line>,
    /// Windows up to these are over for the exchange, by period.
    floor: [Option<u32>; 6],
    /// Lines with something that has to be looked at again without anything arriving.
    watched: BTreeSet<(u64, Window)>,
    look_ms: u64,
    expire_ms: u64,
    /// Nothing is admitted here: nothing is asked for, and everything given.
    idle: bool,
    leaving: bool,
    pub figures: Figures,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub given: u64,
    pub taken: u64,
    pub asked: u64,
    pub offered: u64,
    /// Counters that found no place in the exchange.
    pub crowded: u64,
}

struct Peer {
    incarnation: u64,
    rtt_ms: f64,
}

#[derive(Default)]
struct Line {
    demand: Demand,
    /// By peer and its incarnation, since the window began.
    given: BTreeMap<(String, u64), u64>,
    taken: BTreeMap<(String, u64), u64>,
    /// Peer, and since when.
    asks: Vec<(String, u64)>,
    /// What peers said they can spare.
    spare: BTreeMap<String, u64>,
    /// Until when.
    passed_over: BTreeMap<String, u64>,
    /// Peers that were told "nothing".
    denied: BTreeSet<String>,
    offered_ms: u64,
}

/// How much is wanted of a counter here, from what was counted.
#[derive(Clone, Copy, Default)]
struct Demand {
    seen: u64,
    at_ms: Option<u64>,
    per_ms: f64,
}

impl Transfers {
    pub fn new(me: &str, incarnation: u64, counters: Arc<Counters>) -> Transfers {
        Transfers {
            me: me.to_owned(),
            incarnation,
            counters,
            peers: BTreeMap::new(),
            lines: BTreeMap::new(),
            floor: [None; 6],
            watched: BTreeSet::new(),
            look_ms: 0,
            expire_ms: 0,
            idle: false,
            leaving: false,
            figures: Figures::default(),
        }
    }

    /// Whether this node admits nothing for now.
    pub fn set_idle(&mut self, idle: bool) {
        self.idle = idle || self.leaving;
    }

    pub fn connected(&mut self, peer: &str, incarnation: u64) {
        if peer == self.me {
            return;
        }
        self.peers.insert(peer.to_owned(), Peer { incarnation, rtt_ms: RTT_MS });
        for line in self.lines.values_mut() {
            // Another process may have something else to give; this one may not have heard "nothing".
            line.forget(peer);
        }
    }

    pub fn disconnected(&mut self, peer: &str) {
        self.peers.remove(peer);
        for line in self.lines.values_mut() {
            line.forget(peer);
        }
    }

    pub fn rtt(&mut self, peer: &str, rtt_ms: f64) {
        if let Some(peer) = self.peers.get_mut(peer).filter(|_| rtt_ms.is_finite() && rtt_ms >= 0.0) {
            peer.rtt_ms = rtt_ms;
        }
    }

    /// A peer wants rights.
    pub fn asked(&mut self, peer: &str, ask: &Ask, now: Now) -> Vec<Output> {
        let known = self.peers.get(peer).is_some_and(|known| known.incarnation == ask.incarnation);
        let Some(window) = self.window(ask.period, ask.window, now) else { return Vec::new() };
        if !known || ask.donor_incarnation != self.incarnation || ask.room == 0 || ask.wish > ROOM_MAX {
            return Vec::new();
        }
        let place = (ask.key, window);
        let need = self.need(place, now);
        let Some(line) = self.line_mut(place) else { return Vec::new() };
        let partner = (peer.to_owned(), ask.incarnation);
        if line.given.len() >= PARTNERS_MAX && !line.given.contains_key(&partner) {
            return Vec::new();
        }
        let before = line.given.get(&partner).copied().unwrap_or(0);
        let more = ask.wish.saturating_sub(before);
        let Some(given) = self.counters.strict().give(ask.key, window, ask.room, more, need) else { return Vec::new() };
        let total = before + given.given;
        let Some(line) = self.lines.get_mut(&place) else { return Vec::new() };
        line.given.insert(partner, total);
        let spare = beyond(given.spare, need);
        if given.given < more && spare == 0 {
            line.denied.insert(peer.to_owned());
            self.watched.insert(place);
        } else {
            line.denied.remove(peer);
        }
        self.figures.given += given.given;
        vec![self.grant(place, peer, ask.incarnation, total, spare, None)]
    }

    /// A peer gave rights, or says what it can spare.
    pub fn granted(&mut self, peer: &str, grant: &Grant, now: Now) -> Vec<Output> {
        let Some(window) = self.window(grant.period, grant.window, now) else { return Vec::new() };
        let place = (grant.key, window);
        self.welcome(peer, grant, place);
        let Some(line) = self.lines.get_mut(&place).filter(|_| grant.incarnation == self.incarnation) else {
            return Vec::new();
        };
        let partner = (peer.to_owned(), grant.donor_incarnation);
        let before = line.taken.get(&partner).copied().unwrap_or(0);
        if grant.total > before && grant.total <= ROOM_MAX && line.taken.len() < PARTNERS_MAX {
            let more = grant.total - before;
            if self.counters.strict().grant(grant.key, window, more) {
                line.taken.insert(partner, grant.total);
                self.figures.taken += more;
            }
        }
        if self.peers.get(peer).is_some_and(|known| known.incarnation == grant.donor_incarnation) {
            line.asks.retain(|(other, _)| other != peer);
            line.spare.insert(peer.to_owned(), grant.spare);
            line.passed_over.remove(peer);
        }
        if self.leaving {
            // What was asked for before, or comes from another that leaves.
            return self.hand_over(place, Some(peer), &mut BTreeMap::new()).into_iter().collect();
        }
        self.consider(place, now).into_iter().collect()
    }

    pub fn poll(&mut self, now: Now) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut changed = Vec::new();
        let all = self.counters.strict().changed(&mut changed, LOOKS_MAX);
        for (key, period) in changed {
            self.hit(key, period, now, &mut outputs);
        }
        if now.mono_ms >= self.look_ms {
            self.look_ms = now.mono_ms + OFFER_MS / 4;
            for place in self.watched.clone() {
                self.watch(place, now, &mut outputs);
            }
        }
        if now.mono_ms >= self.expire_ms {
            self.expire_ms = now.mono_ms + 1_000;
            self.expire(now);
        }
        if !all {
            self.look_ms = now.mono_ms;
        }
        outputs
    }

    /// When to poll again although nothing was hit.
    pub fn wake_ms(&self) -> u64 {
        if self.watched.is_empty() { self.expire_ms } else { self.look_ms.min(self.expire_ms) }
    }

    pub fn len(&self) -> u64 {
        self.lines.len() as u64
    }

    /// Who counted or gave in a window, this process included.
    pub fn partners(&self, key: u64, window: Window) -> usize {
        self.lines.get(&(key, window)).map_or(1, |line| {
            let taken = line.taken.keys();
            1 + taken.chain(line.given.keys()).collect::<BTreeSet<_>>().len()
        })
    }

    /// Whether the window is one that clocks may be in now.
    fn window(&self, period: u8, number: u32, now: Now) -> Option<Window> {
        let period = *Period::ALL.get(usize::from(period))?;
        let running = Window::at(period, now.cluster_ms / 1000);
        let over = self.floor[period as usize] >= Some(number);
        (running.number.abs_diff(number) <= 1 && !over).then_some(Window { period, number })
    }

    /// A counter was hit: its newest windows may need rights.
    fn hit(&mut self, key: u64, period: Period, now: Now, outputs: &mut Vec<Output>) {
        let Some(reading) = self.counters.strict().read(key, period) else { return };
        for held in reading.windows {
            let place = (key, held.window);
            let is_low = held.refused > 0 || held.spare() * 2 < held.base + held.received;
            if self.lines.contains_key(&place) || is_low && self.window(period as u8, held.window.number, now).is_some()
            {
                outputs.extend(self.consider(place, now));
            }
        }
    }

    /// Asks for more when that is due.
    fn consider(&mut self, place: (u64, Window), now: Now) -> Option<Output> {
        if self.idle {
            return None;
        }
        let held = self.counters.strict().held(place.0, place.1)?;
        let demand = self.line_mut(place)?.demand.look(&held, now);
        let line = self.lines.get(&place)?;
        let left_ms = (place.1.end_s() * 1000).saturating_sub(now.cluster_ms);
        let donor = self.donor(line, now)?;
        let rtt_ms = self.peers.get(&donor)?.rtt_ms.max(1.0);
        let low = (demand * rtt_ms * LOW).ceil() as u64;
        // What is on its way counts as there: half a wish each.
        let coming = line.asks.len() as u64 * (demand * rtt_ms * WISH / 2.0) as u64;
        if left_ms == 0 || demand == 0.0 || held.spare() + coming >= low.max(1) || line.asks.len() >= ASKS_MAX {
            return None;
        }
        let until_the_end = (demand * left_ms as f64).ceil() as u64;
        let wish = ((demand * rtt_ms * WISH).ceil() as u64).max(held.room / PART).min(until_the_end);
        let more = wish.saturating_sub(held.spare()).max(1);
        let donor_incarnation = self.peers.get(&donor)?.incarnation;
        let line = self.lines.get_mut(&place)?;
        let taken = line.taken.get(&(donor.clone(), donor_incarnation)).copied().unwrap_or(0);
        line.asks.push((donor.clone(), now.mono_ms));
        self.watched.insert(place);
        self.figures.asked += 1;
        let (key, window) = place;
        let ask = Ask {
            key,
            period: window.period as u8,
            window: window.number,
            room: held.room,
            wish: (taken + more).min(ROOM_MAX),
            incarnation: self.incarnation,
            donor_incarnation,
            more: Vec::new(),
        };
        Some(Output::Send { peer: donor, frame: Frame::Ask(ask) })
    }

    /// Who said it has most to spare; else the nearest that said nothing yet.
    fn donor(&self, line: &Line, now: Now) -> Option<String> {
        let free = |peer: &String| {
            !line.asks.iter().any(|(other, _)| other == peer)
                && line.passed_over.get(peer).is_none_or(|until_ms| *until_ms <= now.mono_ms)
        };
        let candidates = || self.peers.iter().filter(|(name, _)| free(name));
        let spare = |name: &String| line.spare.get(name).copied();
        let rich = candidates().filter(|(name, _)| spare(name).is_some_and(|spare| spare > 0));
        let richest = rich.max_by_key(|(name, _)| spare(name));
        let unknown = candidates().filter(|(name, _)| spare(name).is_none());
        let nearest = || unknown.min_by(|(_, a), (_, b)| a.rtt_ms.total_cmp(&b.rtt_ms));
        richest.or_else(nearest).map(|(name, _)| name.clone())
    }

    /// Questions that stay without an answer, and peers that wait for what is left over.
    fn watch(&mut self, place: (u64, Window), now: Now, outputs: &mut Vec<Output>) {
        let need = self.need(place, now);
        let held = self.counters.strict().held(place.0, place.1);
        let (Some(line), Some(held)) = (self.lines.get_mut(&place), held) else {
            self.watched.remove(&place);
            return;
        };
        let peers = &self.peers;
        let patience = |peer: &str| peers.get(peer).map_or(0, |peer| (peer.rtt_ms * 2.0) as u64 + PATIENCE_MS);
        let (waits, over): (Vec<_>, Vec<_>) = std::mem::take(&mut line.asks)
            .into_iter()
            .partition(|(peer, since_ms)| since_ms + patience(peer) > now.mono_ms);
        line.asks = waits;
        line.passed_over.retain(|_, until_ms| *until_ms > now.mono_ms);
        for (peer, _) in over {
            line.passed_over.insert(peer, now.mono_ms + PASSED_OVER_MS);
        }
        let spare = beyond(held.spare(), need);
        let mut told = Vec::new();
        if spare > 0 && !line.denied.is_empty() && now.mono_ms >= line.offered_ms + OFFER_MS {
            // Told again and again, with growing pauses' worth of silence, until they ask: an offer may be lost.
            line.offered_ms = now.mono_ms + OFFER_MS * 4;
            told = line.denied.iter().filter(|peer| peers.contains_key(*peer)).cloned().collect();
        }
        if line.asks.is_empty() && line.passed_over.is_empty() && line.denied.is_empty() {
            self.watched.remove(&place);
        }
        for peer in told {
            let Some(incarnation) = self.peers.get(&peer).map(|known| known.incarnation) else { continue };
            let given = self.lines.get(&place).and_then(|line| line.given.get(&(peer.clone(), incarnation)));
            let total = given.copied().unwrap_or(0);
            outputs.push(self.grant(place, &peer, incarnation, total, spare, None));
            self.figures.offered += 1;
        }
        // Those that do not answer make room for a question to somebody else.
        outputs.extend(self.consider(place, now));
    }

    /// What this node will want itself until the window ends; 0: it is idle.
    fn need(&mut self, place: (u64, Window), now: Now) -> u64 {
        let Some(held) = self.counters.strict().held(place.0, place.1).filter(|_| !self.idle) else { return 0 };
        let Some(line) = self.line_mut(place) else { return u64::MAX };
        let demand = line.demand.look(&held, now);
        let left_ms = (place.1.end_s() * 1000).saturating_sub(now.cluster_ms);
        (demand * left_ms as f64) as u64
    }

    /// `room`: the receiver may not know of the counter yet.
    fn grant(
        &self,
        (key, window): (u64, Window),
        peer: &str,
        incarnation: u64,
        total: u64,
        spare: u64,
        room: Option<u64>,
    ) -> Output {
        let grant = Grant {
            key,
            period: window.period as u8,
            window: window.number,
            total,
            incarnation,
            donor_incarnation: self.incarnation,
            spare,
            more: room.map(room_member::member_of).into_iter().collect(),
        };
        Output::Send { peer: peer.to_owned(), frame: Frame::Grant(grant) }
    }

    /// A new line begins with the demand of the window before.
    fn line_mut(&mut self, place: (u64, Window)) -> Option<&mut Line> {
        let (key, window) = place;
        if self.floor[window.period as usize] >= Some(window.number) {
            return None;
        }
        if !self.lines.contains_key(&place) {
            if self.lines.len() >= LINES_MAX {
                self.figures.crowded += 1;
                return None;
            }
            let before = self.lines.get(&(key, window.previous())).map_or(0.0, |line| line.demand.per_ms);
            let line = Line { demand: Demand { per_ms: before, ..Demand::default() }, ..Line::default() };
            self.lines.insert(place, line);
        }
        self.lines.get_mut(&place)
    }

    /// The counters first: what they forget is not granted again, and neither is what is forgotten here.
    fn expire(&mut self, now: Now) {
        self.counters.strict().expire(now.cluster_ms);
        let floor = &mut self.floor;
        self.lines.retain(|(_, window), _| {
            let over = window.end_s().saturating_add(GRACE_S) <= now.cluster_ms / 1000;
            if over {
                let floor = &mut floor[window.period as usize];
                *floor = (*floor).max(Some(window.number));
            }
            !over
        });
        let lines = &self.lines;
        self.watched.retain(|place| lines.contains_key(place));
    }
}

impl Line {
    fn forget(&mut self, peer: &str) {
        self.asks.retain(|(other, _)| other != peer);
        self.spare.remove(peer);
        self.passed_over.remove(peer);
        self.denied.remove(peer);
    }
}

impl Demand {
    /// Hits per ms, admitted or not, as of now.
    fn look(&mut self, held: &Held, now: Now) -> f64 {
        let seen = held.admitted + held.refused;
        let Some(at_ms) = self.at_ms else {
            // All that is known: so many since the window began.
            let since_ms = now.cluster_ms.saturating_sub(held.window.start_s() * 1000).max(1);
            let mean = seen as f64 / since_ms as f64;
            *self = Demand { seen, at_ms: Some(now.mono_ms), per_ms: self.per_ms.max(mean) };
            return self.per_ms;
        };
        let elapsed_ms = now.mono_ms.saturating_sub(at_ms);
        // Too short a time says too little.
        if elapsed_ms >= 5 {
            let fresh = seen.saturating_sub(self.seen) as f64 / elapsed_ms as f64;
            let weight = 1.0 - (-(elapsed_ms as f64) / DEMAND_MS).exp();
            self.per_ms += (fresh - self.per_ms) * weight;
            (self.seen, self.at_ms) = (seen, Some(now.mono_ms));
        }
        // Less than a hit in a minute is none.
        if self.per_ms < 1.0 / 60_000.0 { 0.0 } else { self.per_ms }
    }
}

/// What `Strict::give` would give of so many.
fn beyond(spare: u64, need: u64) -> u64 {
    spare - need.min(spare.div_ceil(2))
}
