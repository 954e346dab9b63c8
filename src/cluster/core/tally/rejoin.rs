//! A process that starts, and a peer that comes back: who tells what.
//!
//! Each process tells its own slots to whoever connects, all of them. What processes counted that are gone, among them
//! the one that this one replaces, only others know: two near peers are asked for it. Asking everybody lost: thirty-four
//! donors would send the same.

use tidegate_proto::demand;
use tidegate_proto::frame::{CountsPull, Frame, Slot};

use crate::cluster::core::tally::batch::{ALL_PERIODS, Groups};
use crate::cluster::core::tally::questions::{DONORS, WAIT_MS};
use crate::cluster::core::tally::{Output, Tally, URGENT_MS};

impl Tally {
    /// What connections and questions of peers ask for.
    pub fn rejoin(&mut self, now_ms: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        if now_ms >= self.owed_ms && !self.owed.is_empty() {
            let owed: Vec<String> = std::mem::take(&mut self.owed).into_iter().collect();
            let connected = self.sources.connected();
            let owed: Vec<String> = owed.into_iter().filter(|peer| connected.contains(peer)).collect();
            let counts = self.everything(now_ms).into_counts(now_ms, ALL_PERIODS);
            self.say(owed, counts, false, &mut outputs);
        }
        if self.answers.is_due() {
            let asked = self.answers.take();
            let gone = self.of_the_gone();
            if !gone.is_empty() {
                self.say(asked, gone.into_counts(now_ms, 0), false, &mut outputs);
            }
        }
        self.ask(now_ms, &mut outputs);
        outputs
    }

    fn ask(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        if now_ms < self.asks.wake_ms() {
            return;
        }
        self.asks.due_ms = now_ms + URGENT_MS.max(WAIT_MS);
        if now_ms > self.asks.over_ms {
            self.asks.asked = DONORS;
            return;
        }
        let mut near: Vec<(u64, String)> = Vec::new();
        for (_, source) in self.sources.connected_sources() {
            near.push((source.way_ms, source.node_id.clone()));
        }
        near.sort_unstable();
        let donors: Vec<String> = near.into_iter().map(|(_, peer)| peer).skip(self.asks.asked).collect();
        let donors: Vec<String> = donors.into_iter().take(DONORS - self.asks.asked).collect();
        self.asks.asked += donors.len();
        // Without another peer there is nobody to ask before one connects.
        self.asks.somebody = !donors.is_empty();
        if !donors.is_empty() {
            let frame = Frame::CountsPull(CountsPull { more: Vec::new() });
            outputs.push(Output::Send { peers: donors, frame, urgent: false });
        }
    }

    /// Slots of processes that cannot tell them themselves.
    fn of_the_gone(&self) -> Groups {
        let mut all = Groups::default();
        for (key, tracked) in &self.keys {
            for said in tracked.slots.iter().filter(|slot| slot.window == tracked.window.number && slot.count > 0) {
                let Some(source) = self.sources.source(said.source) else { continue };
                if source.connected {
                    continue;
                }
                let demand = if source.replaced { 0 } else { demand::encode(said.demand_per_ms * 1e3) };
                let slot = Slot { key: *key, count: said.count, demand, stopped: said.stopped };
                let process = Some((source.node_id.clone(), source.incarnation));
                all.add(process, tracked.window, tracked.room, slot);
            }
        }
        all
    }
}
