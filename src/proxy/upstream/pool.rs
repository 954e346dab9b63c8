//! Connections at rest, for the next request to the same place.
//!
//! The one used last is taken first, so that a pool shrinks when traffic does. Nobody polls a connection at rest; once
//! a second all are looked at, and those that are too old or that the upstream has closed are dropped. One that was
//! closed since is found out by the request that takes it, which hyper then hands back unsent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use crate::proxy::upstream::Options;
use crate::proxy::upstream::tls::Verify;

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Connections with the same key are interchangeable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Rc<Secured>>,
}

/// What sets TLS connections to one address apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Secured {
    /// The name sent and verified; empty: none is sent.
    pub(super) name: Box<str>,
    pub(super) verify: Verify,
}

/// The bounds of the settings.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections at rest per key; the one that rested longest makes room.
    size: usize,
    /// Zero: no limit.
    max_requests: u64,
    /// Zero: never.
    idle_timeout: Duration,
}

/// A connection that can rest.
pub(super) trait Restful {
    fn key(&self) -> &Key;

    /// Requests begun on it.
    fn requests(&self) -> u64;

    /// Whether it can serve another request, as far as is known without asking the system.
    fn is_ready(&mut self) -> bool;

    /// Wakes nobody until it is used again.
    fn rest(&mut self);

    /// The same as `is_ready`, but looks; called from time to time while it rests.
    fn is_alive(&mut self) -> bool;
}

/// The connections at rest of one worker, of one way to speak HTTP.
pub(super) struct Pool<C> {
    bounds: Bounds,
    resting: RefCell<hashbrown::HashMap<Key, VecDeque<Resting<C>>, foldhash::fast::RandomState>>,
    swept: Cell<bool>,
}

struct Resting<C> {
    link: C,
    since: Instant,
}

impl<C: Restful + 'static> Pool<C> {
    pub(super) fn new(options: &Options) -> Rc<Self> {
        let bounds = Bounds {
            size: options.keepalive_pool_size,
            max_requests: options.keepalive_max_requests,
            idle_timeout: options.keepalive_idle_timeout,
        };
        Rc::new(Self { bounds, resting: RefCell::default(), swept: Cell::new(false) })
    }

    /// The connection that came last, unless it has rested too long by `now` or is known to be closed.
    pub(super) fn take(&self, key: &Key, now: Instant) -> Option<C> {
        let mut resting = self.resting.borrow_mut();
        let links = resting.get_mut(key)?;
        while let Some(mut last) = links.pop_back() {
            if last.link.is_ready() && !self.bounds.expired(last.since, now) {
                return Some(last.link);
            }
        }
        None
    }

    /// Keeps a connection that is ready for another request, if the bounds allow.
    pub(super) fn put(self: &Rc<Self>, mut link: C) {
        if self.bounds.size == 0 || (self.bounds.max_requests > 0 && link.requests() >= self.bounds.max_requests) {
            return;
        }
        link.rest();
        let mut resting = self.resting.borrow_mut();
        let since = Instant::now();
        match resting.get_mut(link.key()) {
            Some(links) => {
                if links.len() >= self.bounds.size {
                    links.pop_front();
                }
                links.push_back(Resting { link, since });
            }
            None => {
                resting.insert(link.key().clone(), VecDeque::from([Resting { link, since }]));
            }
        }
        if !self.swept.replace(true) {
            tokio::task::spawn_local(sweep(Rc::downgrade(self)));
        }
    }

    /// Drops what is too old or closed; true when something is left.
    fn retain_live(&self, now: Instant) -> bool {
        let mut resting = self.resting.borrow_mut();
        resting.retain(|_, links| {
            links.retain_mut(|one| {
                let alive = one.link.is_alive();
                one.link.rest();
                alive && !self.bounds.expired(one.since, now)
            });
            !links.is_empty()
        });
        !resting.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.resting.borrow().values().map(VecDeque::len).sum()
    }
}

impl Bounds {
    fn expired(&self, since: Instant, now: Instant) -> bool {
        !self.idle_timeout.is_zero() && now.saturating_duration_since(since) >= self.idle_timeout
    }
}

/// Runs while connections rest; `put` starts it again.
async fn sweep<C: Restful + 'static>(pool: Weak<Pool<C>>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(pool) = pool.upgrade() else { return };
        if !pool.retain_live(Instant::now()) {
            pool.swept.set(false);
            return;
        }
    }
}
