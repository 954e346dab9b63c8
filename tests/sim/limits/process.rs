//! One node's process: the production counters, exchange and clock correction, and nothing decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidegate::cluster::core::tally::{Me, Options, Partition, Tally};
use tidegate::cluster::core::time::Offsets;
use tidegate::counter::{Counters, Options as CounterOptions};

use crate::limits::oracle::Actor;

/// Unix ms when worlds begin: the first second of a day.
pub const START_MS: u64 = 1_767_225_600_000;
/// The cluster's key.
const KEY: [u8; 16] = *b"sixteen bytes...";
const BUDGET_PER_S: u64 = 1_000_000;

pub struct Process {
    pub actor: Actor,
    pub incarnation: u64,
    pub counters: Arc<Counters>,
    pub tally: Tally,
    pub offsets: Offsets,
    /// When the exchange is to be polled next; `u64::MAX`: when something happens.
    pub due_us: u64,
    /// Polls in this second of virtual time.
    pub polls: u64,
    roused: Arc<AtomicBool>,
}

/// A node, whose process may be gone.
pub struct Node {
    pub name: String,
    /// What its clock shows more than the true one.
    pub skew_us: i64,
    /// Of all its processes so far.
    pub incarnations: Vec<u64>,
    pub process: Option<Process>,
}

impl Node {
    pub fn new(index: usize) -> Self {
        Self { name: format!("node-{index:04}"), skew_us: 0, incarnations: Vec::new(), process: None }
    }

    /// Which of its processes is the last, from 1.
    pub fn runs(&self) -> u16 {
        self.incarnations.len() as u16
    }

    /// Unix ms by the node's own clock.
    pub fn unix_ms(&self, now_us: u64) -> u64 {
        (START_MS * 1_000 + now_us).saturating_add_signed(self.skew_us) / 1_000
    }

    /// Unix ms as the cluster has it, as far as the node knows.
    pub fn cluster_ms(&self, now_us: u64) -> u64 {
        let offset_ms = self.process.as_ref().map_or(0, |process| process.offsets.offset_ms(self.unix_ms(now_us)));
        self.unix_ms(now_us).saturating_add_signed(offset_ms)
    }

    /// When the cluster's clock, as the node knows it, shows `cluster_ms`.
    pub fn until_us(&self, cluster_ms: u64, now_us: u64) -> u64 {
        now_us + cluster_ms.saturating_sub(self.cluster_ms(now_us)) * 1_000
    }

    pub fn start(&mut self, index: usize, capacity: usize, partition: Partition, now_us: u64) {
        let unix_ms = self.unix_ms(now_us);
        let incarnation = self.incarnations.last().map_or(unix_ms, |last| unix_ms.max(last + 1));
        self.incarnations.push(incarnation);
        let actor = Actor { node: index as u16, run: self.runs() };
        let counters = Arc::new(Counters::new(CounterOptions { capacity, key: KEY }));
        let roused = Arc::new(AtomicBool::new(false));
        let flag = roused.clone();
        counters.on_rouse(Arc::new(move || flag.store(true, Ordering::Relaxed)));
        let me = Me { node_id: self.name.clone(), incarnation };
        let options = Options { budget_per_s: BUDGET_PER_S, partition };
        let tally = Tally::new(me, counters.clone(), options, unix_ms);
        self.process = Some(Process {
            actor,
            incarnation,
            counters,
            tally,
            offsets: Offsets::default(),
            due_us: u64::MAX,
            polls: 0,
            roused,
        });
    }
}

impl Process {
    /// A hit made something to do while the exchange slept.
    pub fn was_roused(&self) -> bool {
        self.roused.load(Ordering::Relaxed) && self.roused.swap(false, Ordering::Relaxed)
    }
}
