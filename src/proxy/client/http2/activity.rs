//! Which side of a connection is waited for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

/// Longest time between two checks whether a connection is idle.
pub(super) const CHECK_EVERY: Duration = Duration::from_secs(5);

/// Whether a connection waits for its client, and when something moved.
#[derive(Default)]
pub(super) struct Activity {
    /// Exchanges that wait for the gateway or an upstream rather than for the client.
    busy: Cell<u32>,
    /// Changes whenever something moves.
    progress: Cell<u64>,
}

impl Activity {
    pub(super) fn note(&self) {
        self.progress.set(self.progress.get().wrapping_add(1));
    }

    /// Returns when everything has waited for the client, and nothing moved, for `limit`.
    pub(super) async fn idle_for(&self, limit: Duration) {
        let (mut seen, mut since) = (self.progress.get(), Instant::now());
        while since.elapsed() < limit {
            tokio::time::sleep(CHECK_EVERY.min(limit / 4)).await;
            if seen != self.progress.get() || self.busy.get() > 0 {
                (seen, since) = (self.progress.get(), Instant::now());
            }
        }
    }
}

/// While it exists, an exchange does not wait for its client.
pub(super) struct Busy(Rc<Activity>);

impl Busy {
    pub(super) fn on(activity: &Rc<Activity>) -> Self {
        activity.note();
        activity.busy.set(activity.busy.get() + 1);
        Self(Rc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.note();
        self.0.busy.set(self.0.busy.get() - 1);
    }
}
