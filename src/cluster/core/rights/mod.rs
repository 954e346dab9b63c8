//! Strict limits: never more than the limit is admitted in the whole cluster, whatever is lost, late, cut off or
//! restarted. Pure: `now` is an argument.
//!
//! # What is held
//!
//! For every counter, every window and every limit L that was configured while the window could be opened:
//! the requests that all nodes admit together are at most the greatest such L.
//!
//! # Why
//!
//! **Rights.** A node admits by spending a right. Rights come into being in one place, when a process first opens a window
//! (`counter::strict`): the base, `share.of(limit)`. From then on they are spent once or given once, in one step under
//! one lock. A gift is counted between one process and another, cumulatively; the receiver adds what exceeds the most it
//! has seen. So a gift that is lost, late, doubled or replayed adds at most what the donor took off, and a process that
//! comes back does not take again what its predecessor spent: its incarnation is another. Hence the admitted are at most
//! the sum of all bases that were ever opened for the window.
//!
//! **One base per node and window.** A process opens no window that starts at or after the `until_s` on its disk, and the
//! next process gives itself no base before that. Within a process the counters open no window twice. A node that lost
//! its disk begins with windows that start after it did; this alone trusts its clock.
//!
//! **Bases add up.** Let a node's *share at s* be what it has in windows that start at s. Registries of weights are ordered
//! by (epoch, digest). A node promises registries in ascending order, each on its disk before it is said: "from T on my
//! share is within what R gives me", where T is its `until_s`, so that no window from T on was opened. It *raises* its
//! share to R's for windows from the latest T on, when every node that R lists has promised exactly R. And it promises
//! no R that leaves out a node which an earlier promised registry lists, unless R says that this node is gone.
//!
//! Take a window that starts at s, and of all registries to which anybody raised for s the greatest, R. Claim: every node
//! holds at s a part of what R gives it. Let a node n hold anything at s; then it raised to some Q ≤ R for s. If Q = R, n
//! holds R's share or, after further promises, a part of it. Otherwise Q < R, and some node z is listed by both (see
//! below). z promised Q and later R, so R lists n, or says that it is gone, which it is not. So n promised R before anyone
//! raised to R, with a T that is at most the start from which R's shares are held; hence n's share at s is within R's. The
//! shares of one registry are disjoint, and disjoint shares stay within the greatest of the limits they are applied to
//! (`counter::strict::share`), which proves the bound.
//!
//! *Some node is listed by both*: the Admin API refuses weights that leave out a node of those before, so all registries
//! that go back to one first registry list its nodes. This is what an operator has to keep to, and all there is: there is
//! one first registry; a node in `gone` never runs again with its disk; and while the only nodes that two changes have in
//! common are gone, changes are not made on two sides of a partition at once. With PostgreSQL the database sees to the
//! last. Nodes that lost their disk promise only what is newer than the registry they found, so that they do not promise
//! again what their predecessor had promised to leave behind: after such a loss the epoch is raised by one.
//!
//! **A limit that changes** applies to windows that a node opens afterwards. Until every node has it the greater of the
//! two bounds the sum.
//!
//! # What lost
//!
//! Consensus or leases for each window: a partition then either refuses on one side what it could admit, or needs clocks
//! that agree. A quorum for weights: it would survive the loss of a minority in mid-change, and needs a membership of its
//! own. Here a change of weights waits for everyone it concerns, and meanwhile nobody's rights are in doubt.

mod events;
mod registry;
mod transfer;
mod weights;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use crate::cluster::core::rights::events::{Input, Me, Now, Output};
pub use crate::cluster::core::rights::registry::{Mark, Promise, Registry};
pub use crate::cluster::core::rights::transfer::Figures;
pub use crate::cluster::core::rights::weights::{Kept, Standing};

use crate::cluster::core::rights::transfer::Transfers;
use crate::cluster::core::rights::weights::Weights;
use crate::cluster::core::view::{LimitRow, keep_fullest};
use crate::counter::Counters;
use crate::counter::strict::share::Share;

/// The member of `Beat::more` with the sender's promise: 24 bytes, epoch, digest and start, each little-endian.
pub const PROMISE: u16 = 2;

/// After a write to the disk that failed.
const RETRY_MS: u64 = 1_000;

/// The strict limits of one process.
pub struct Rights {
    counters: Arc<Counters>,
    weights: Weights,
    transfers: Transfers,
    standing: Option<Standing>,
    promise: Option<Promise>,
    /// The configuration has strict limits, or a hit wanted one.
    in_use: bool,
    wanted: bool,
    retry_ms: u64,
}

impl Rights {
    /// `kept`: what was last written; `None` where there is nothing to be read.
    pub fn new(me: Me, counters: Arc<Counters>, kept: Option<Kept>, now: Now) -> Rights {
        let weights = Weights::new(&me.node_id, me.alone, kept, now.cluster_ms / 1000);
        counters.strict().set_terms(&weights.terms());
        Rights {
            weights,
            transfers: Transfers::new(&me.node_id, me.incarnation, counters.clone()),
            counters,
            standing: None,
            promise: None,
            in_use: false,
            wanted: false,
            retry_ms: 0,
        }
    }

    /// Call `poll` after it.
    pub fn on(&mut self, input: Input, now: Now) -> Vec<Output> {
        match input {
            Input::Connected { peer, incarnation } => self.transfers.connected(&peer, incarnation),
            Input::Disconnected { peer } => self.transfers.disconnected(&peer),
            Input::Rtt { peer, rtt_ms } => self.transfers.rtt(&peer, rtt_ms),
            Input::Ask { peer, ask } => return self.transfers.asked(&peer, &ask, now),
            Input::Grant { peer, grant } => return self.transfers.granted(&peer, &grant, now),
            Input::Promise { peer, promise } => self.weights.on_promise(&peer, promise),
            Input::Registry(registry) => self.weights.on_registry(registry, now.cluster_ms / 1000),
            Input::InUse(in_use) => self.in_use = in_use,
            Input::Skewed(skewed) => {
                self.weights.set_skewed(skewed);
                self.transfers.set_idle(skewed);
                self.counters.strict().suspend(skewed);
            }
            Input::Leaving => return self.transfers.leave(now),
            Input::Kept => {
                if self.weights.on_kept() {
                    self.counters.strict().set_terms(&self.weights.terms());
                }
            }
            Input::KeepFailed => {
                self.weights.on_failed();
                self.retry_ms = now.mono_ms + RETRY_MS;
            }
        }
        Vec::new()
    }

    pub fn poll(&mut self, now: Now) -> Vec<Output> {
        let mut outputs = self.transfers.poll(now);
        self.wanted |= self.counters.strict().was_wanted();
        self.weights.set_in_use(self.in_use || self.wanted);
        if now.mono_ms >= self.retry_ms
            && let Some(kept) = self.weights.poll(now.cluster_ms / 1000)
        {
            outputs.push(Output::Keep(kept));
        }
        if let Some(promise) = self.weights.promise().filter(|promise| self.promise != Some(*promise)) {
            self.promise = Some(promise);
            outputs.push(Output::Promise(promise));
        }
        let standing = self.weights.standing();
        if self.standing.as_ref() != Some(&standing) {
            self.standing = Some(standing.clone());
            outputs.push(Output::Standing(standing));
        }
        outputs
    }

    /// When `poll` is to be called next, on the clock that never goes back, when nothing happens and nothing is hit.
    pub fn wake_ms(&self, now: Now) -> u64 {
        let due_s = self.weights.due_s();
        let due_ms = due_s.saturating_mul(1000).saturating_sub(now.cluster_ms).saturating_add(now.mono_ms);
        self.transfers.wake_ms().min(due_ms.max(self.retry_ms))
    }

    pub fn standing(&self) -> Standing {
        self.weights.standing()
    }

    /// The part of each limit that is this node's in windows that begin now, 0 to 1.
    pub fn share(&self, now: Now) -> f64 {
        self.weights.share(now.cluster_ms / 1000).part()
    }

    pub fn figures(&self) -> Figures {
        self.transfers.figures
    }

    /// Counters in exchange.
    pub fn lines(&self) -> u64 {
        self.transfers.len()
    }

    /// The fullest strict counters, as this node sees them.
    pub fn fullest(&self, max: usize, now: Now) -> Vec<LimitRow> {
        let mut rows = rows(&self.counters, max, now.cluster_ms);
        for row in &mut rows {
            let window = crate::counter::Window::at(row.period, row.window_start_s);
            row.sources = u32::try_from(self.transfers.partners(row.key, window)).unwrap_or(u32::MAX);
        }
        rows
    }

    /// For tests: which share this node has in windows that start then.
    pub fn share_at(&self, start_s: u64) -> Share {
        self.weights.share(start_s)
    }
}

/// The fullest strict counters of running windows: `own` is what was admitted here, `remote` what was given to others,
/// `remaining` what this node may still admit without asking.
pub fn rows(counters: &Counters, max: usize, now_ms: u64) -> Vec<LimitRow> {
    let mut rows = Vec::new();
    counters.strict().each(|reading| {
        let running = |held: &&crate::counter::strict::Held| {
            held.window == crate::counter::Window::at(held.window.period, now_ms / 1000)
        };
        if let Some(held) = reading.windows.iter().find(running) {
            rows.push(LimitRow {
                key: reading.key,
                period: held.window.period,
                window_start_s: held.window.start_s(),
                limit: held.room,
                own: held.admitted,
                remote: held.given,
                forecast: 0.0,
                remaining: held.spare(),
                sources: 1,
                strict: true,
                name: reading.name.clone(),
            });
        }
        // Never much more than is wanted, however many there are.
        if rows.len() >= max.saturating_mul(2).max(1_024) {
            keep_fullest(&mut rows, max);
        }
        true
    });
    keep_fullest(&mut rows, max);
    rows
}
