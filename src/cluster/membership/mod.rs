//! Finds peers: chitchat over the mesh, seeds by name and address, a supervisor around it.
//!
//! What comes out are hints: somebody exists, at this address. Who is alive is decided from connections and beats, so
//! a protocol that stops, or is lied to, costs discovery and nothing else.
//!
//! chitchat 0.11.2, because later versions keep their codec to themselves, and then no other transport can carry them.

mod envelope;
pub mod seeds;
mod socket;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState};
use tidegate_proto::frame::Hello;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cluster::core::members::Heard;
use crate::cluster::membership::socket::{Book, Carrier, Letter};
use crate::cluster::transport::Mesh;

const GOSSIP: Duration = Duration::from_secs(1);
/// How long the dead are remembered, so that they are not learnt anew from somebody who was away.
const DEAD_GRACE: Duration = Duration::from_secs(15 * 60);
/// How often what the protocol knows is compared with what was told: events alone can be lost.
const LOOK: Duration = Duration::from_millis(250);
/// Pause before the protocol is started again.
const RESTART: Duration = Duration::from_secs(1);
/// Starts of the protocol that one incarnation of the node has numbers for; later ones share the last.
const RESTARTS_MAX: u64 = 255;
/// Longest fact about a node that is believed, in bytes.
const FACT_LEN_MAX: usize = 64;
/// Greetings that wait; more are dropped, the next round of gossip reaches everybody anyway.
const GREETINGS_MAX: usize = 64;

/// The running protocol. Stops with `stop`.
pub struct Membership {
    carrier: Carrier,
    book: Book,
    greetings: mpsc::Sender<SocketAddr>,
}

/// What keeps the protocol running.
struct Supervisor {
    me: Hello,
    address: SocketAddr,
    carrier: Carrier,
    book: Book,
    greetings: mpsc::Receiver<SocketAddr>,
    hints: mpsc::Sender<Vec<Heard>>,
    /// The last sign of life of each node that was told on.
    told: HashMap<ChitchatId, u64>,
    stop: CancellationToken,
}

impl Membership {
    /// Starts on the current runtime. `address` is what peers dial. A full `hints` loses nothing for long: whoever
    /// lives is told of again.
    pub fn start(
        me: Hello,
        address: SocketAddr,
        mesh: Mesh,
        hints: mpsc::Sender<Vec<Heard>>,
        stop: CancellationToken,
    ) -> Self {
        let book = Book::default();
        let carrier = Carrier::new(mesh, book.clone());
        let (sender, greetings) = mpsc::channel(GREETINGS_MAX);
        let supervisor = Supervisor {
            me,
            address,
            carrier: carrier.clone(),
            book: book.clone(),
            greetings,
            hints,
            told: HashMap::new(),
            stop,
        };
        tokio::spawn(supervisor.run());
        Self { carrier, book, greetings: sender }
    }

    /// A connection is up: the two tell each other of everybody at once.
    pub fn connected(&self, peer: &str, address: SocketAddr) {
        self.book.put(address, peer);
        let _ = self.greetings.try_send(address);
    }

    pub fn disconnected(&self, peer: &str) {
        self.book.remove(peer);
    }

    /// An envelope of the protocol came from a connected peer.
    pub fn deliver(&self, peer: &str, envelope: Vec<u8>) {
        if let Some(address) = self.book.address(peer) {
            self.carrier.deliver(Letter { peer: peer.to_owned(), address, envelope });
        }
    }

    /// Addresses of the peers that are connected.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.book.addresses()
    }
}

impl Supervisor {
    async fn run(mut self) {
        let stop = self.stop.clone();
        let mut starts = 0;
        while let Some(why) = stop.run_until_cancelled(self.live(starts)).await {
            tracing::error!(why, starts, "the membership protocol stopped; starting it again");
            starts = (starts + 1).min(RESTARTS_MAX);
            if stop.run_until_cancelled(tokio::time::sleep(RESTART)).await.is_none() {
                return;
            }
        }
    }

    /// Runs the protocol until it ends, which it only does by a fault of its own; answers which.
    async fn live(&mut self, starts: u64) -> String {
        let config = config(&self.me, self.address, starts);
        let node = match chitchat::spawn_chitchat(config, facts(&self.me), &self.carrier).await {
            Ok(node) => node,
            Err(error) => return error.to_string(),
        };
        let node = Running(node);
        for address in self.book.addresses() {
            let _ = node.0.gossip(address);
        }
        let ended = node.0.termination_watcher();
        tokio::pin!(ended);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                end = &mut ended => return end.err().map_or_else(|| "it ended".to_owned(), |error| error.to_string()),
                Some(address) = self.greetings.recv() => {
                    let _ = node.0.gossip(address);
                }
                _ = look.tick() => {
                    let news = node.0.with_chitchat(|state| self.news(state)).await;
                    if !news.is_empty() {
                        let _ = self.hints.try_send(news);
                    }
                }
            }
        }
    }

    /// Everybody who gave a sign of life since the last look. Those the protocol only remembers are not told of: they
    /// would be dialled forever.
    fn news(&mut self, state: &Chitchat) -> Vec<Heard> {
        let nodes = state.node_states();
        self.told.retain(|id, _| nodes.contains_key(id));
        let mut news = Vec::new();
        for (id, node) in nodes {
            let sign = u64::from(node.heartbeat());
            if *id.node_id != *self.me.node_id && self.told.insert(id.clone(), sign) != Some(sign) {
                news.extend(hint(id, node));
            }
        }
        news
    }
}

/// Ends the protocol's own task with this one.
struct Running(ChitchatHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// `None` while its facts have not arrived.
fn hint(id: &ChitchatId, node: &NodeState) -> Option<Heard> {
    let fact = |name| node.get(name).filter(|value| value.len() <= FACT_LEN_MAX).map(str::to_owned);
    let incarnation = id.generation_id / (RESTARTS_MAX + 1);
    (!id.node_id.is_empty() && id.node_id.len() <= FACT_LEN_MAX).then_some(())?;
    Some(Heard::Hint {
        node_id: id.node_id.to_string(),
        address: id.gossip_advertise_addr.to_string(),
        region: fact("region")?,
        incarnation,
        version: fact("version")?,
    })
}

/// What others learn by gossip: small and hardly ever changing, since each change is copied around.
fn facts(me: &Hello) -> Vec<(String, String)> {
    [("region", &me.region), ("version", &me.version)].map(|(name, value)| (name.to_owned(), value.clone())).into()
}

fn config(me: &Hello, address: SocketAddr, starts: u64) -> ChitchatConfig {
    let generation = me.incarnation.saturating_mul(RESTARTS_MAX + 1).saturating_add(starts);
    ChitchatConfig {
        chitchat_id: ChitchatId::new(me.node_id.as_str(), generation, address),
        // The mesh lets nobody else in; its fingerprint changes while a secret is rotated.
        cluster_id: "tidegate".to_owned(),
        gossip_interval: GOSSIP,
        listen_addr: address,
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            initial_interval: GOSSIP,
            dead_node_grace_period: DEAD_GRACE,
            ..FailureDetectorConfig::default()
        },
        marked_for_deletion_grace_period: DEAD_GRACE,
        catchup_callback: None,
        extra_liveness_predicate: None,
    }
}
