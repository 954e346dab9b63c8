//! The tasks of the mesh: accept, dial, run each connection from its Hello to its end.
//!
//! A dial that gets no answer is repeated from scratch twice a second, while the earlier ones still run: after a
//! partition QUIC's own repetitions have backed off to seconds, and the cluster has one second to be itself again.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream};
use tidegate_proto::close::Close;
use tidegate_proto::frame::{Frame, Hello};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::transport::Event;
use crate::cluster::transport::Options;
use crate::cluster::transport::Reports;
use crate::cluster::transport::carriers;
use crate::cluster::transport::connections::{Link, Table};
use crate::cluster::transport::endpoint;
use crate::cluster::transport::endpoint::Configs;
use crate::cluster::transport::figures::Counters;
use crate::cluster::transport::greeting;
use crate::cluster::transport::identity::Credentials;
use crate::cluster::transport::inbound;
use crate::cluster::transport::transfers::TRANSFERS_MAX;

/// How long a dial waits for an answer.
const DIAL: Duration = Duration::from_millis(1500);
/// Pause between two dials of one address.
const DIAL_PAUSE: Duration = Duration::from_millis(450);
/// Dials of one address at once.
const DIALS_MAX: usize = 3;
/// Addresses dialled at once; above it a dial is not begun.
const DIALLED_MAX: usize = 256;
/// Strangers in the middle of a handshake at once; above it they are ignored.
const STRANGERS_MAX: usize = 256;
/// So many may be, before the next have to show that they receive what is sent to their address.
const STRANGERS_TRUSTED: usize = 64;
/// How long a replaced connection is read.
const LINGER: Duration = Duration::from_secs(1);

/// What the tasks of a mesh share.
pub struct Hub {
    pub endpoint: Endpoint,
    pub configs: ArcSwap<Configs>,
    /// This node's.
    pub hello: Hello,
    pub segmentation_offload: bool,
    pub keeper: Arc<dyn Keeper>,
    pub reports: Reports,
    pub counters: Counters,
    /// Transfers that this node serves at once.
    pub donations: Arc<Semaphore>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    strangers: Arc<Semaphore>,
    table: Mutex<Table>,
    dials: Mutex<Dials>,
    own: [SocketAddr; 2],
}

/// When dials of each address that are under way began.
#[derive(Default)]
struct Dials(HashMap<SocketAddr, Vec<Instant>>);

impl Hub {
    /// Binds; nothing runs yet.
    pub fn bind(options: Options, keeper: Arc<dyn Keeper>, reports: Reports) -> io::Result<Arc<Self>> {
        let Options { listen, advertise, identity, mut hello, segmentation_offload } = options;
        let configs = Configs::new(Credentials::load(&identity, &hello.node_id)?, segmentation_offload)?;
        let endpoint = endpoint::bind(listen, &configs)?;
        let listen = endpoint.local_addr()?;
        let port = if advertise.port() == 0 { listen.port() } else { advertise.port() };
        let advertise = SocketAddr::new(advertise.ip(), port);
        hello.cluster_id = configs.credentials.cluster().to_owned();
        hello.address = advertise.to_string();
        hello.oldest = tidegate_proto::frame::VERSION_OLDEST;
        hello.newest = tidegate_proto::frame::VERSION;
        let sayable = Frame::Hello(hello.clone()).encode(hello.newest);
        sayable.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        Ok(Arc::new(Self {
            endpoint,
            configs: ArcSwap::from_pointee(configs),
            hello,
            segmentation_offload,
            keeper,
            reports,
            counters: Counters::new(),
            donations: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            table: Mutex::default(),
            dials: Mutex::default(),
            own: [listen, advertise],
        }))
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a dial, unless that would be in vain.
    pub fn dial(self: &Arc<Self>, address: SocketAddr) {
        let began = Instant::now();
        if self.stop.is_cancelled() || self.own.contains(&address) || self.table().reaches(address) {
            return;
        }
        if !self.dials().begin(address, began) {
            return;
        }
        let hub = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = connect(&hub, address, began) => {}
                () = hub.stop.cancelled() => hub.dials().end(address, began),
            }
        });
    }

    fn dials(&self) -> MutexGuard<'_, Dials> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a connection for what its peer did, and counts it.
    pub fn punish(&self, link: &Link, close: Close, why: &'static str) {
        if link.is_open() {
            self.counters.misbehaved(why);
            tracing::warn!(peer = link.hello.node_id, why, "connection closed for what the peer sent");
            link.end(close, why);
        }
    }
}

/// Takes connections until the mesh stops.
pub async fn accept(hub: Arc<Hub>) {
    loop {
        let incoming = tokio::select! {
            incoming = hub.endpoint.accept() => incoming,
            () = hub.stop.cancelled() => None,
        };
        let Some(incoming) = incoming else { return };
        admit(&hub, incoming);
    }
}

fn admit(hub: &Arc<Hub>, incoming: Incoming) {
    let Ok(place) = hub.strangers.clone().try_acquire_owned() else {
        hub.counters.refused("too_many");
        return incoming.ignore();
    };
    let crowded = hub.strangers.available_permits() < STRANGERS_MAX - STRANGERS_TRUSTED;
    if crowded && incoming.may_retry() && !incoming.remote_address_validated() {
        // A failure gives the stranger back, to be dropped here: that refuses it.
        let _ = incoming.retry();
        return;
    }
    let hub = hub.clone();
    hub.tasks.clone().spawn(async move {
        let handshake = async { incoming.accept()?.await };
        let answered = match timeout(endpoint::HANDSHAKE, handshake).await {
            Ok(Ok(connection)) => {
                let answered = timeout(endpoint::HANDSHAKE, greeting::answer(&hub, &connection)).await;
                answered.unwrap_or_else(|_| Err(refuse(&connection, Close::TooSlow, "no_hello")))
            }
            Ok(Err(error)) => Err(Some(greeting::reason(&error))),
            Err(_) => Err(Some("timeout")),
        };
        drop(place);
        match answered {
            Ok((link, send, recv)) => run(hub, link, send, recv).await,
            Err(why) => refused(&hub, why),
        }
    });
}

async fn connect(hub: &Arc<Hub>, address: SocketAddr, began: Instant) {
    let client = hub.configs.load().client.clone();
    let Ok(connecting) = hub.endpoint.connect_with(client, address, "tidegate") else {
        return hub.dials().end(address, began);
    };
    let shaken = timeout(DIAL, connecting).await;
    hub.dials().end(address, began);
    match shaken {
        Ok(Ok(connection)) => greet(hub, connection).await,
        Ok(Err(error)) if !matches!(error, quinn::ConnectionError::TimedOut) => {
            refused(hub, Some(greeting::reason(&error)));
        }
        // Nobody there, or nobody yet.
        Ok(Err(_)) | Err(_) => {}
    }
}

async fn greet(hub: &Arc<Hub>, connection: Connection) {
    let Some(name) = greeting::peer_name(&connection) else {
        return refused(hub, refuse(&connection, Close::Identity, "no_name"));
    };
    if name.node == hub.hello.node_id || !hub.table().begin_greeting(&name.node) {
        let close = if name.node == hub.hello.node_id { Close::Identity } else { Close::Duplicate };
        refuse(&connection, close, "");
        return;
    }
    let greeted = timeout(endpoint::HANDSHAKE, greeting::greet(hub, &connection, &name)).await;
    hub.table().end_greeting(&name.node);
    match greeted.unwrap_or_else(|_| Err(refuse(&connection, Close::TooSlow, "no_hello"))) {
        Ok((link, send, recv)) => {
            let hub = hub.clone();
            hub.tasks.clone().spawn(run(hub, link, send, recv));
        }
        Err(why) => refused(hub, why),
    }
}

/// From here on the peer is a member: reports it, moves frames until the end, reports that.
async fn run(hub: Arc<Hub>, link: Arc<Link>, send: SendStream, recv: RecvStream) {
    tracing::debug!(peer = link.hello.node_id, address = link.hello.address, ours = link.ours, "connected");
    let lingered = async {
        link.retired.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    let written = async {
        carriers::write(&hub, &link, send).await;
        if !hub.stop.is_cancelled() {
            link.connection.closed().await;
        }
    };
    let closed = async {
        link.connection.closed().await;
        if !link.was_ended_here() {
            // What arrived before the peer closed is still read.
            tokio::time::sleep(LINGER).await;
        }
    };
    tokio::select! {
        () = closed => {}
        () = written => link.end(Close::Stopping, "stopping"),
        () = inbound::read(&hub, &link, recv) => {}
        () = lingered => link.end(Close::Duplicate, "another connection is used"),
    }
    if link.is_open() {
        link.end(Close::Stopping, "ended");
    }
    let (report, report_limits) = (hub.reports.events.reserve().await.ok(), hub.reports.limits.reserve().await.ok());
    let current = {
        let mut table = hub.table();
        hub.counters.ended(&link.connection.stats());
        let current = table.remove(&link);
        for report in [report, report_limits].into_iter().flatten().filter(|_| current) {
            report.send(Event::Closed { peer: link.hello.node_id.clone(), why: link.why() });
        }
        current
    };
    tracing::debug!(peer = link.hello.node_id, why = link.why(), current, "disconnected");
}

/// Closes a connection that does not become one of the mesh. Gives the reason to count, none for an empty word.
pub fn refuse(connection: &Connection, close: Close, why: &'static str) -> Option<&'static str> {
    connection.close(close.code().into(), close.name().as_bytes());
    (!why.is_empty()).then_some(why)
}

fn refused(hub: &Hub, why: Option<&'static str>) {
    if let Some(why) = why {
        tracing::debug!(why, "handshake refused");
        hub.counters.refused(why);
    }
}

impl Dials {
    fn begin(&mut self, address: SocketAddr, now: Instant) -> bool {
        if !self.0.contains_key(&address) && self.0.len() >= DIALLED_MAX {
            return false;
        }
        let under_way = self.0.entry(address).or_default();
        let recent = under_way.last().is_some_and(|began| now.duration_since(*began) < DIAL_PAUSE);
        if recent || under_way.len() >= DIALS_MAX {
            return false;
        }
        under_way.push(now);
        true
    }

    fn end(&mut self, address: SocketAddr, began: Instant) {
        if let Some(under_way) = self.0.get_mut(&address) {
            under_way.retain(|other| *other != began);
            if under_way.is_empty() {
                self.0.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_dialled_with_pauses_and_not_too_often() {
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let (start, mut dials) = (Instant::now(), Dials::default());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(dials.begin(address, at(0)));
        assert!(!dials.begin(address, at(100)));
        assert!(dials.begin(address, at(500)));
        assert!(dials.begin(address, at(1000)));
        assert!(!dials.begin(address, at(1500)), "three are under way");
        dials.end(address, at(0));
        assert!(dials.begin(address, at(1500)));
        for ms in [500, 1000, 1500] {
            dials.end(address, at(ms));
        }
        assert!(dials.0.is_empty());
    }

    #[test]
    fn not_every_address_that_somebody_names_is_dialled() {
        let mut dials = Dials::default();
        let begun = (0..1000u16).filter(|port| dials.begin(([127, 0, 0, 1], *port).into(), Instant::now())).count();
        assert_eq!(begun, DIALLED_MAX);
    }
}
