//! Where to find the first peers: names looked up again and again, every address of each.
//!
//! The membership protocol resolves its seeds once a minute, which is too slow for machines that start together, and
//! dials inside of its loop. So it is given none: seeds are dialled here, and whoever answers is told of everybody.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cluster::core::view::{State, View};

/// Pause between two look-ups while fewer than `ENOUGH` peers are alive, and with more.
const LOOK_UP_LONELY: Duration = Duration::from_secs(5);
const LOOK_UP: Duration = Duration::from_secs(60);
/// Pause between two dials while nobody is there, and with too few.
const DIAL_ALONE: Duration = Duration::from_millis(500);
const DIAL_LONELY: Duration = Duration::from_secs(5);
/// With this many peers the membership protocol finds the rest.
const ENOUGH: usize = 2;
/// How long one look-up may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Addresses that are kept; a name with more of them is followed in part.
const ADDRESSES_MAX: usize = 1024;

/// The seeds of one node and when they were last looked at. Times are monotonic.
pub struct Seeds {
    /// `HOST:PORT`, or `[IP]:PORT`.
    names: Vec<String>,
    own: BTreeSet<SocketAddr>,
    addresses: BTreeSet<SocketAddr>,
    look_up_at: Duration,
    dial_at: Duration,
}

impl Seeds {
    /// `own`: addresses that lead back here.
    pub fn new(names: Vec<String>, own: BTreeSet<SocketAddr>) -> Self {
        Self { names, own, addresses: BTreeSet::new(), look_up_at: Duration::ZERO, dial_at: Duration::ZERO }
    }

    /// The names, when it is time to look them up.
    pub fn to_look_up(&mut self, peers_alive: usize, now: Duration) -> Option<Vec<String>> {
        // Falling lonely shortens a pause that has begun already.
        let pause = if peers_alive < ENOUGH { LOOK_UP_LONELY } else { LOOK_UP };
        self.look_up_at = self.look_up_at.min(now + pause);
        if self.names.is_empty() || now < self.look_up_at {
            return None;
        }
        self.look_up_at = now + pause;
        Some(self.names.clone())
    }

    /// What a look-up found. Names that nobody knows at the moment leave the old addresses in place.
    pub fn found(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let fresh: BTreeSet<_> = addresses.into_iter().filter(|address| !self.own.contains(address)).collect();
        if !fresh.is_empty() {
            self.addresses = fresh.into_iter().take(ADDRESSES_MAX).collect();
            self.dial_at = Duration::ZERO;
        }
    }

    /// Addresses to dial now: those of nobody in `connected`.
    pub fn due_to_dial(&mut self, peers_alive: usize, connected: &[SocketAddr], now: Duration) -> Vec<SocketAddr> {
        let pause = match peers_alive {
            0 => DIAL_ALONE,
            alive if alive < ENOUGH => DIAL_LONELY,
            _ => LOOK_UP,
        };
        self.dial_at = self.dial_at.min(now + pause);
        if now < self.dial_at {
            return Vec::new();
        }
        self.dial_at = now + pause;
        self.addresses.iter().filter(|address| !connected.contains(address)).copied().collect()
    }
}

/// Every address of every name. What cannot be found is left out and logged.
pub async fn look_up(names: Vec<String>) -> Vec<SocketAddr> {
    let each = names.into_iter().map(|name| async move {
        match tokio::time::timeout(PATIENCE, tokio::net::lookup_host(name.as_str())).await {
            Ok(Ok(found)) => found.collect::<Vec<_>>(),
            Ok(Err(error)) => {
                tracing::debug!(seed = name, %error, "a cluster seed has no address now");
                Vec::new()
            }
            Err(_) => {
                tracing::debug!(seed = name, "looking up a cluster seed took too long");
                Vec::new()
            }
        }
    });
    futures_util::future::join_all(each).await.concat()
}

/// How many others are alive.
pub fn peers_alive(view: &View) -> usize {
    view.nodes.iter().filter(|member| member.node_id != view.me && member.state == State::Alive).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    const fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn seeds() -> Seeds {
        Seeds::new(vec!["gate.internal:8005".to_owned()], BTreeSet::from([address(1)]))
    }

    #[test]
    fn names_are_looked_up_at_once_and_again_while_lonely() {
        let mut seeds = seeds();
        let mut asked = Vec::new();
        for ms in (0..12_000).step_by(100) {
            if seeds.to_look_up(1, at(ms)).is_some() {
                asked.push(ms);
            }
        }
        assert_eq!(asked, [0, 5_000, 10_000]);
        assert!(seeds.to_look_up(2, at(15_000)).is_some());
        assert!(seeds.to_look_up(2, at(60_000)).is_none());
        assert!(seeds.to_look_up(1, at(60_000)).is_none());
        assert!(seeds.to_look_up(1, at(65_000)).is_some(), "lonely again: not a minute later");
    }

    #[test]
    fn everybody_but_this_node_and_its_peers_is_dialled() {
        let mut seeds = seeds();
        seeds.found([address(1), address(2), address(3)]);
        assert_eq!(seeds.due_to_dial(0, &[], at(0)), [address(2), address(3)]);
        assert!(seeds.due_to_dial(0, &[], at(499)).is_empty());
        assert_eq!(seeds.due_to_dial(0, &[address(2)], at(500)), [address(3)]);
        assert!(seeds.due_to_dial(1, &[address(2)], at(999)).is_empty());
    }

    #[test]
    fn a_name_that_vanishes_does_not_take_its_addresses_along() {
        let mut seeds = seeds();
        seeds.found([address(2)]);
        seeds.found([]);
        seeds.found([address(1)]);
        assert_eq!(seeds.due_to_dial(0, &[], at(0)), [address(2)]);
    }

    #[tokio::test]
    async fn addresses_need_no_name_server() {
        assert_eq!(look_up(vec!["127.0.0.1:5".to_owned(), "[::1]:6".to_owned()]).await.len(), 2);
    }
}
