//! The connections of a node: which one counts when there are two with the same peer.
//!
//! Both ends must come to the same answer without talking, so it depends on what both know: who began the connection,
//! and the incarnations in the Hellos. "The later one wins" lost: two nodes that dial each other at once would each
//! close the other's.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;

use quinn::{Connection, ConnectionError, VarInt};
use tidegate_proto::close::Close;
use tidegate_proto::frame::Hello;
use tokio_util::sync::CancellationToken;

use crate::cluster::transport::outbox::Outbox;

/// Peers with a connection at once; above it others are told that this node is full.
const PEERS_MAX: usize = 1024;

/// A connection whose Hellos were exchanged.
pub struct Link {
    pub connection: Connection,
    /// The peer's.
    pub hello: Hello,
    /// The version of the protocol that frames to this peer are written in.
    pub version: u8,
    /// Whether this node dialled.
    pub ours: bool,
    pub outbox: Outbox,
    /// Another connection took its place: it is read a little longer, for what is under way.
    pub retired: CancellationToken,
    /// Why this node closed it.
    why: OnceLock<&'static str>,
}

/// All connections by peer.
#[derive(Default)]
pub struct Table {
    current: HashMap<String, Arc<Link>>,
    /// With those that were replaced and linger.
    running: HashMap<usize, Arc<Link>>,
    /// Peers that a dial of this node is exchanging Hellos with.
    greeting: HashSet<String>,
}

/// What matters of a connection when it meets another one with the same peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    incarnation: u64,
    ours: bool,
}

impl Link {
    pub fn new(connection: Connection, hello: Hello, version: u8, ours: bool) -> Self {
        let (outbox, retired, why) = (Outbox::new(), CancellationToken::new(), OnceLock::new());
        Self { connection, hello, version, ours, outbox, retired, why }
    }

    pub fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    /// Closes it with a reason that the peer is told; the first reason stays.
    pub fn end(&self, close: Close, why: &'static str) {
        let _ = self.why.set(why);
        self.connection.close(VarInt::from_u32(close.code()), close.name().as_bytes());
    }

    pub fn was_ended_here(&self) -> bool {
        self.why.get().is_some()
    }

    /// Why it is over, for people.
    pub fn why(&self) -> String {
        match (self.why.get(), self.connection.close_reason()) {
            (Some(why), _) => (*why).to_owned(),
            (None, Some(error)) => described(&error),
            (None, None) => "open".to_owned(),
        }
    }

    fn claim(&self) -> Claim {
        Claim { incarnation: self.hello.incarnation, ours: self.ours }
    }
}

impl Table {
    /// The connection to use for a peer.
    pub fn link(&self, peer: &str) -> Option<Arc<Link>> {
        self.current.get(peer).filter(|link| link.is_open()).cloned()
    }

    /// Every connection that is not over, those included that were replaced.
    pub fn running(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.running.values()
    }

    /// Whether there is a connection with whoever is dialled at `address`.
    pub fn reaches(&self, address: SocketAddr) -> bool {
        let at =
            |link: &Arc<Link>| link.connection.remote_address() == address || link.hello.address.parse() == Ok(address);
        self.current.values().any(|link| at(link) && link.is_open())
    }

    /// Before this node's dial says Hello: false when there is a connection with this peer, or another dial is further.
    pub fn begin_greeting(&mut self, peer: &str) -> bool {
        self.link(peer).is_none() && self.greeting.insert(peer.to_owned())
    }

    pub fn end_greeting(&mut self, peer: &str) {
        self.greeting.remove(peer);
    }

    /// Whether a connection with this Hello would be used, or why not.
    fn judge(&self, me: &str, hello: &Hello, ours: bool) -> Result<(), Close> {
        let claim = Claim { incarnation: hello.incarnation, ours };
        match self.link(&hello.node_id) {
            Some(link) if !replaces(me, &hello.node_id, link.claim(), claim) => Err(Close::Duplicate),
            None if self.current.len() >= PEERS_MAX => Err(Close::Full),
            _ => Ok(()),
        }
    }

    /// Puts a connection to use. One that it replaces lingers, or ends at once when its peer's process is gone.
    pub fn register(&mut self, me: &str, link: &Arc<Link>) -> Result<(), Close> {
        self.judge(me, &link.hello, link.ours)?;
        self.running.insert(link.connection.stable_id(), link.clone());
        if let Some(old) = self.current.insert(link.hello.node_id.clone(), link.clone()) {
            if old.hello.incarnation < link.hello.incarnation {
                old.end(Close::Duplicate, "the peer started again");
            }
            old.retired.cancel();
        }
        Ok(())
    }

    /// A connection that lost to another while its Hellos were exchanged: the peer may be using it already.
    pub fn register_retired(&mut self, link: &Arc<Link>) {
        self.running.insert(link.connection.stable_id(), link.clone());
        link.retired.cancel();
    }

    /// Forgets a connection that is over. True: it was the one in use.
    pub fn remove(&mut self, link: &Arc<Link>) -> bool {
        self.running.remove(&link.connection.stable_id());
        let current = self.current.get(&link.hello.node_id).is_some_and(|current| Arc::ptr_eq(current, link));
        if current {
            self.current.remove(&link.hello.node_id);
        }
        current
    }
}

/// A connection's end in words.
pub fn described(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(closed) => {
            format!("closed by the peer: {}", Close::of(closed.error_code.into_inner()).name())
        }
        ConnectionError::Reset => "the peer's process is another one".to_owned(),
        ConnectionError::TimedOut => "nothing heard".to_owned(),
        other => other.to_string(),
    }
}

/// A later incarnation wins. Else the connection that the smaller node id began; of two that one node began the later,
/// since a node only dials again when it has given the other up.
fn replaces(me: &str, peer: &str, old: Claim, new: Claim) -> bool {
    if old.incarnation != new.incarnation {
        return new.incarnation > old.incarnation;
    }
    if old.ours == new.ours { !new.ours } else { new.ours == (me < peer) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(incarnation: u64, ours: bool) -> Claim {
        Claim { incarnation, ours }
    }

    #[test]
    fn both_ends_keep_the_same_of_two_crossing_connections() {
        for (a, b) in [("a", "b"), ("b", "a")] {
            for a_first in [true, false] {
                // `a` sees its own dial first or second; `b` sees the same two the other way round, in either order.
                let at_a = replaces(a, b, claim(1, a_first), claim(1, !a_first)) != a_first;
                let at_b = replaces(b, a, claim(1, !a_first), claim(1, a_first)) != a_first;
                // In words: which dial won, told as "the one of `a`".
                assert_eq!(at_a, a < b);
                assert_eq!(at_b, a < b);
            }
        }
    }

    #[test]
    fn a_process_that_started_again_replaces_itself() {
        for (old, new) in [(true, true), (true, false), (false, true), (false, false)] {
            assert!(replaces("a", "b", claim(1, old), claim(2, new)));
            assert!(!replaces("a", "b", claim(2, old), claim(1, new)));
        }
    }

    #[test]
    fn a_second_dial_of_the_same_peer_is_meant() {
        assert!(replaces("a", "b", claim(1, false), claim(1, false)));
        assert!(!replaces("a", "b", claim(1, true), claim(1, true)));
    }
}
