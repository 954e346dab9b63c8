//! The membership protocol's socket, carried by the mesh.
//!
//! `send` runs inside of the protocol's only loop, so it never waits: without a connection it asks for one and drops
//! the message, which the next round makes good. `recv` fails only when the node stops, because a failure ends the loop.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chitchat::ChitchatMessage;
use chitchat::transport::{Socket, Transport};
use tidegate_proto::frame::{Frame, Gossip};
use tokio::sync::mpsc;

use crate::cluster::membership::envelope;
use crate::cluster::transport::Mesh;

/// Envelopes that wait for the protocol; more are dropped, as on any datagram socket.
pub const WAITING_MAX: usize = 128;

/// An envelope from a peer, and the address that peer is known by.
pub struct Letter {
    pub peer: String,
    pub address: SocketAddr,
    pub envelope: Vec<u8>,
}

/// Who is connected, by the address that the membership protocol names them by.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<HashMap<SocketAddr, String>>>);

/// The mesh as the protocol's transport; carries one socket at a time.
#[derive(Clone)]
pub struct Carrier {
    mesh: Mesh,
    book: Book,
    inbox: Arc<Mutex<Option<mpsc::Sender<Letter>>>>,
}

struct Slot {
    mesh: Mesh,
    book: Book,
    letters: mpsc::Receiver<Letter>,
}

impl Book {
    pub fn put(&self, address: SocketAddr, peer: &str) {
        self.with(|entries| entries.insert(address, peer.to_owned()));
    }

    pub fn remove(&self, peer: &str) {
        self.with(|entries| entries.retain(|_, known| known != peer));
    }

    pub fn peer(&self, address: SocketAddr) -> Option<String> {
        self.with(|entries| entries.get(&address).cloned())
    }

    pub fn address(&self, peer: &str) -> Option<SocketAddr> {
        self.with(|entries| entries.iter().find(|(_, known)| *known == peer).map(|(address, _)| *address))
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.with(|entries| entries.keys().copied().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<SocketAddr, String>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Carrier {
    pub fn new(mesh: Mesh, book: Book) -> Self {
        Self { mesh, book, inbox: Arc::default() }
    }

    /// Hands an envelope to the protocol; dropped while it is not running or has not kept up.
    pub fn deliver(&self, letter: Letter) {
        if let Some(inbox) = &*self.inbox.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = inbox.try_send(letter);
        }
    }
}

#[async_trait]
impl Transport for Carrier {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, letters) = mpsc::channel(WAITING_MAX);
        *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(Box::new(Slot { mesh: self.mesh.clone(), book: self.book.clone(), letters }))
    }
}

#[async_trait]
impl Socket for Slot {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        match self.book.peer(to) {
            Some(peer) => {
                let gossip = Gossip { envelope: envelope::seal(&message), more: Vec::new() };
                // A full queue means an older envelope is still under way: that one says nearly the same.
                self.mesh.send(&peer, &Frame::Gossip(gossip));
            }
            None => self.mesh.dial(to),
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let letter = self.letters.recv().await.ok_or_else(|| anyhow::anyhow!("the node stops"))?;
            match envelope::open(&letter.envelope) {
                Some(message) => return Ok((letter.address, message)),
                None => self.mesh.expel(&letter.peer, "gossip that cannot be read"),
            }
        }
    }
}
