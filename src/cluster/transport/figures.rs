//! What went over the mesh, and what was refused, counted.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use quinn::ConnectionStats;
use tidegate_proto::kind::Kind;

use crate::cluster::core::view::Figures;

/// Counters that only grow. Reasons are words of this program, so the maps stay small.
pub struct Counters {
    kinds: Vec<PerKind>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    misbehaved: Mutex<BTreeMap<&'static str, u64>>,
    /// Of connections that are over.
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

#[derive(Default)]
struct PerKind {
    sent: AtomicU64,
    sent_bytes: AtomicU64,
    received: AtomicU64,
    received_bytes: AtomicU64,
}

impl Counters {
    pub fn new() -> Self {
        Self {
            kinds: Kind::all().map(|_| PerKind::default()).collect(),
            refused: Mutex::default(),
            misbehaved: Mutex::default(),
            bytes_sent: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
        }
    }

    pub fn sent(&self, kind: Kind, len: usize) {
        if let Some(per) = self.kinds.get(kind as usize) {
            per.sent.fetch_add(1, Ordering::Relaxed);
            per.sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    pub fn received(&self, kind: Kind, len: usize) {
        if let Some(per) = self.kinds.get(kind as usize) {
            per.received.fetch_add(1, Ordering::Relaxed);
            per.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }

    /// A handshake that did not become a connection.
    pub fn refused(&self, why: &'static str) {
        add(&self.refused, why);
    }

    /// A connection that was closed for what its peer did.
    pub fn misbehaved(&self, why: &'static str) {
        add(&self.misbehaved, why);
    }

    /// Takes over the bytes of a connection that is over.
    pub fn ended(&self, stats: &ConnectionStats) {
        self.bytes_sent.fetch_add(stats.udp_tx.bytes, Ordering::Relaxed);
        self.bytes_received.fetch_add(stats.udp_rx.bytes, Ordering::Relaxed);
    }

    /// Everything, with the bytes of the connections that still run.
    pub fn figures(&self, running: impl Iterator<Item = ConnectionStats>) -> Figures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (mut sent, mut received) = (load(&self.bytes_sent), load(&self.bytes_received));
        for stats in running {
            sent += stats.udp_tx.bytes;
            received += stats.udp_rx.bytes;
        }
        let row = |(kind, per): (Kind, &PerKind)| {
            (kind.name(), load(&per.sent), load(&per.sent_bytes), load(&per.received), load(&per.received_bytes))
        };
        Figures {
            frames: Kind::all().zip(&self.kinds).map(row).collect(),
            refused_handshakes: list(&self.refused),
            misbehaved: list(&self.misbehaved),
            bytes_sent: sent,
            bytes_received: received,
            ..Figures::default()
        }
    }
}

fn add(counts: &Mutex<BTreeMap<&'static str, u64>>, why: &'static str) {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
}

fn list(counts: &Mutex<BTreeMap<&'static str, u64>>) -> Vec<(&'static str, u64)> {
    counts.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(why, count)| (*why, *count)).collect()
}
