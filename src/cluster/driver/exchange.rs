//! What is shared of the exchange of counts between its task and those who ask for counters.
//!
//! Whoever asks locks the core for a moment; requests never do.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cluster::core::rights;
use crate::cluster::core::rights::{Kept, Now, Promise, Rights};
use crate::cluster::core::tally::{Me, Options, Tally};
use crate::cluster::core::view::{LimitFigures, LimitRow, keep_fullest};
use crate::cluster::driver::strict;
use crate::cluster::driver::unix_time::unix_ms;
use crate::counter::Counters;

/// Samples of clocks that wait; more are dropped, there will be others.
pub const SAMPLES_MAX: usize = 64;

/// The exchange of counts, for readers of any thread.
pub struct Exchange {
    tally: Mutex<Tally>,
    rights: Mutex<Rights>,
    started: Instant,
    pub(super) counters: Arc<Counters>,
    /// Cluster time less Unix time.
    pub(super) offset_ms: AtomicI64,
    pub(super) roused: Arc<Notify>,
}

impl Exchange {
    pub fn new(me: Me, counters: Arc<Counters>, options: Options, kept: Option<Kept>) -> Self {
        let roused = Arc::new(Notify::new());
        let rouse = roused.clone();
        counters.on_rouse(Arc::new(move || rouse.notify_one()));
        let started = Instant::now();
        let rights = {
            let me = rights::Me { node_id: me.node_id.clone(), incarnation: me.incarnation, alone: false };
            let now = Now { mono_ms: 0, cluster_ms: unix_ms() };
            Mutex::new(Rights::new(me, counters.clone(), kept, now))
        };
        let tally = Mutex::new(Tally::new(me, counters.clone(), options, unix_ms()));
        Self { tally, rights, started, counters, offset_ms: AtomicI64::new(0), roused }
    }

    pub fn hottest(&self, max: usize) -> Vec<LimitRow> {
        let mut rows = self.tally(|tally| tally.hottest(max, self.now_ms()));
        rows.extend(self.rights(|rights| rights.fullest(max, self.now())));
        keep_fullest(&mut rows, max);
        rows
    }

    pub fn figures(&self) -> LimitFigures {
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        let (moved, standing, share) =
            self.rights(|rights| (rights.figures(), rights.standing().name(), rights.share(self.now())));
        LimitFigures {
            offset_ms,
            strict_given: moved.given,
            strict_taken: moved.taken,
            strict_standing: standing,
            strict_share: share,
            ..self.tally(|tally| tally.figures(self.now_ms()))
        }
    }

    /// Cluster time.
    pub(super) fn now_ms(&self) -> u64 {
        unix_ms().saturating_add_signed(self.offset_ms.load(Ordering::Relaxed))
    }

    /// A peer's beat said what it promised.
    pub fn promised(&self, peer: &str, promise: Promise) {
        let peer = peer.to_owned();
        self.rights(|rights| rights.on(rights::Input::Promise { peer, promise }, self.now()));
        self.roused.notify_one();
    }

    pub(super) fn now(&self) -> Now {
        Now { mono_ms: strict::millis(self.started.elapsed()), cluster_ms: self.now_ms() }
    }

    pub(super) fn rights<T>(&self, act: impl FnOnce(&mut Rights) -> T) -> T {
        act(&mut self.rights.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn tally<T>(&self, act: impl FnOnce(&mut Tally) -> T) -> T {
        act(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
