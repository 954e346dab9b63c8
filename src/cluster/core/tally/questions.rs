//! Questions for the slots of processes that are gone: this node's, and those of its peers.

use std::collections::BTreeSet;

/// Peers that are asked.
pub const DONORS: usize = 2;
/// How long is waited for nearer peers before those that are there are asked.
pub const WAIT_MS: u64 = 300;
/// Later nobody is asked: by then it was told what mattered, or there was nobody.
pub const OVER_MS: u64 = 10_000;

/// The questions of a process that starts.
#[derive(Debug)]
pub struct Asks {
    pub due_ms: u64,
    pub over_ms: u64,
    pub asked: usize,
    pub somebody: bool,
}

/// What peers asked. One is answered once on a connection: an answer takes a look at everything.
#[derive(Debug, Default)]
pub struct Answers {
    due: BTreeSet<String>,
    asked: BTreeSet<String>,
}

impl Answers {
    pub fn ask(&mut self, peer: String) {
        if self.asked.insert(peer.clone()) {
            self.due.insert(peer);
        }
    }

    /// A connection began or ended.
    pub fn forget(&mut self, peer: &str) {
        self.asked.remove(peer);
    }

    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// The peers to answer now.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.due).into_iter().collect()
    }
}

impl Asks {
    pub fn new(now_ms: u64) -> Self {
        Self { due_ms: now_ms + WAIT_MS, over_ms: now_ms + OVER_MS, asked: 0, somebody: false }
    }

    pub fn connected(&mut self) {
        self.somebody = true;
    }

    pub fn wake_ms(&self) -> u64 {
        if self.somebody && self.asked < DONORS { self.due_ms } else { u64::MAX }
    }
}
