//! Connections that are kept for the next call to the same peer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::plugin::tools::outbound::Peer;

/// Kept connections in all. One more closes the one that would expire first.
const IDLE_MAX: usize = 256;

/// Kept connections of one type, by peer. Security is part of a peer, so a connection that was opened without
/// verification never serves a call that asks for it.
pub(super) struct Idle<C>(Mutex<Vec<Kept<C>>>);

struct Kept<C> {
    peer: Peer,
    connection: C,
    until: Instant,
}

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Idle<C> {
    /// The connection to `peer` that was kept last.
    pub(super) fn take(&self, peer: &Peer) -> Option<C> {
        let (now, mut kept) = (Instant::now(), self.kept());
        let at = kept.iter().rposition(|it| it.peer == *peer && it.until > now)?;
        Some(kept.remove(at).connection)
    }

    /// Keeps a connection for `keepalive`; zero closes it.
    pub(super) fn keep(&self, peer: Peer, connection: C, keepalive: Duration) {
        let Some(until) = Instant::now().checked_add(keepalive).filter(|_| !keepalive.is_zero()) else { return };
        let mut kept = self.kept();
        if kept.len() >= IDLE_MAX {
            let first = kept.iter().enumerate().min_by_key(|(_, it)| it.until).map(|(at, _)| at);
            first.map(|at| kept.remove(at));
        }
        kept.push(Kept { peer, connection, until });
    }

    pub(super) fn close_expired(&self) {
        let now = Instant::now();
        self.kept().retain(|kept| kept.until > now);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_kept_for_its_peer_and_for_its_time() {
        let (idle, a, b) = (Idle::default(), Peer::plain("a.test", 80), Peer::tls("a.test", 80, false));
        idle.keep(a.clone(), 1, MINUTE);
        idle.keep(a.clone(), 2, MINUTE);
        idle.keep(b.clone(), 3, Duration::ZERO);
        idle.keep(Peer::tls("a.test", 80, true), 4, MINUTE);
        assert_eq!([idle.take(&b), idle.take(&a), idle.take(&a), idle.take(&a)], [None, Some(2), Some(1), None]);
        idle.keep(a.clone(), 5, MINUTE);
        tokio::time::advance(MINUTE).await;
        assert_eq!(idle.take(&a), None);
        idle.close_expired();
        assert!(idle.kept().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_kept_connections_is_bounded() {
        let (idle, peer) = (Idle::default(), Peer::plain("a.test", 80));
        for number in 0..IDLE_MAX + 10 {
            idle.keep(peer.clone(), number, MINUTE);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(idle.kept().len(), IDLE_MAX);
        let taken: Vec<_> = std::iter::from_fn(|| idle.take(&peer)).collect();
        assert_eq!((taken[0], taken[IDLE_MAX - 1]), (IDLE_MAX + 9, 10));
    }
}
