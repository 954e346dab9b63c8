//! What holds for all counters at a time: cluster time, and how many nodes there are.
//!
//! Written now and then, read by every hit; so these words lie together and apart from everything that hits write.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Terms {
    offset_ms: AtomicI64,
    nodes: AtomicU32,
    guard_until_ms: AtomicU64,
    boot_ms: AtomicU64,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            offset_ms: AtomicI64::new(0),
            nodes: AtomicU32::new(1),
            guard_until_ms: AtomicU64::new(0),
            boot_ms: AtomicU64::new(0),
        }
    }
}

impl Terms {
    pub(crate) fn set_offset_ms(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Relaxed);
    }

    pub(crate) fn cluster_ms(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_add_signed(self.offset_ms.load(Relaxed))
    }

    pub(crate) fn set_peers(&self, nodes: u32, guard_until_ms: u64, boot_ms: u64) {
        self.nodes.store(nodes.max(1), Relaxed);
        self.boot_ms.store(boot_ms, Relaxed);
        self.guard_until_ms.store(guard_until_ms, Relaxed);
    }

    pub(crate) fn nodes(&self) -> u32 {
        self.nodes.load(Relaxed)
    }

    pub(crate) fn guard_until_ms(&self) -> u64 {
        self.guard_until_ms.load(Relaxed)
    }

    pub(crate) fn boot_ms(&self) -> u64 {
        self.boot_ms.load(Relaxed)
    }
}
