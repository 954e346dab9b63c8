//! Idle connections, for the next request to the same upstream.
//!
//! The connection that was used last is taken first, so that a pool shrinks when traffic does. No task polls an idle
//! connection; once a second all are checked, and those that are too old or that the upstream has closed are dropped. One
//! that was closed since is noticed when it is taken.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::proxy::upstream::http1::Http1Connection;
use crate::proxy::upstream::key::Key;
use crate::proxy::upstream::options::UpstreamOptions;

/// Time between two checks of all idle connections.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The bounds of the settings.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Idle connections per key; the one that has been idle longest makes room.
    size: usize,
    /// Zero: no limit.
    max_requests: u64,
    /// Zero: never.
    idle_timeout: Duration,
}

/// The idle connections of one worker.
pub(super) struct Pool {
    bounds: Bounds,
    idle: RefCell<hashbrown::HashMap<Key, VecDeque<Idle>, foldhash::fast::RandomState>>,
    swept: Cell<bool>,
}

struct Idle {
    connection: Box<Http1Connection>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(options: &UpstreamOptions) -> Rc<Self> {
        let bounds = Bounds {
            size: options.keepalive_pool_size,
            max_requests: options.keepalive_max_requests,
            idle_timeout: options.keepalive_idle_timeout,
        };
        Rc::new(Self { bounds, idle: RefCell::default(), swept: Cell::new(false) })
    }

    /// The connection that was used last, unless it has been idle too long by `now` or is closed.
    pub(super) fn take(&self, key: &Key, now: Instant) -> Option<Box<Http1Connection>> {
        let mut idle = self.idle.borrow_mut();
        let connections = idle.get_mut(key)?;
        while let Some(mut last) = connections.pop_back() {
            if last.connection.is_open() && !self.bounds.expired(last.since, now) {
                return Some(last.connection);
            }
        }
        None
    }

    /// Keeps a connection that is ready for another request, if the bounds allow.
    pub(super) fn put(self: &Rc<Self>, connection: Box<Http1Connection>) {
        let bounds = &self.bounds;
        if bounds.size == 0 || (bounds.max_requests > 0 && connection.requests() >= bounds.max_requests) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let since = Instant::now();
        match idle.get_mut(connection.key()) {
            Some(connections) => {
                if connections.len() >= bounds.size {
                    connections.pop_front();
                }
                connections.push_back(Idle { connection, since });
            }
            None => {
                let key = connection.key().clone();
                idle.insert(key, VecDeque::from([Idle { connection, since }]));
            }
        }
        if !self.swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// Drops what is too old or closed; true when something is left.
    fn retain_open(&self, now: Instant) -> bool {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, connections| {
            connections.retain_mut(|one| one.connection.is_open() && !self.bounds.expired(one.since, now));
            !connections.is_empty()
        });
        !idle.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.idle.borrow().values().map(VecDeque::len).sum()
    }
}

impl Bounds {
    fn expired(&self, since: Instant, now: Instant) -> bool {
        !self.idle_timeout.is_zero() && now.saturating_duration_since(since) >= self.idle_timeout
    }
}

/// Runs while there are idle connections; `put` starts it again.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.retain_open(Instant::now()) {
            pool.swept.set(false);
            return;
        }
    }
}
