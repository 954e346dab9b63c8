//! The tasks of the mesh: accept, dial, run each connection from its Hello to its end.
//!
//! A dial that gets no answer is repeated from scratch twice a second, while the earlier ones still run: after a
//! partition QUIC's own repetitions have backed off to seconds, and the cluster has one second to be itself again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::{Connection, Incoming, RecvStream, SendStream};
use tidegate_proto::close::Close;
use tokio::time::timeout;

use crate::cluster::transport::carriers;
use crate::cluster::transport::connections::Link;
use crate::cluster::transport::endpoint;
use crate::cluster::transport::greeting;
use crate::cluster::transport::greeting::refuse;
use crate::cluster::transport::hub::{Hub, STRANGERS_MAX};
use crate::cluster::transport::inbound;
use crate::cluster::transport::reports::Event;

/// How long a dial waits for an answer.
const DIAL: Duration = Duration::from_millis(1500);
/// So many may be, before the next have to show that they receive what is sent to their address.
const STRANGERS_TRUSTED: usize = 64;
/// How long a replaced connection is read.
const LINGER: Duration = Duration::from_secs(1);

/// Begins a dial, unless that would be in vain.
pub fn dial(hub: &Arc<Hub>, address: SocketAddr) {
    let began = Instant::now();
    if hub.stop.is_cancelled() || hub.own.contains(&address) || hub.table().reaches(address) {
        return;
    }
    if !hub.dials().begin(address, began) {
        return;
    }
    let hub = hub.clone();
    hub.tasks.clone().spawn(async move {
        tokio::select! {
            () = connect(&hub, address, began) => {}
            () = hub.stop.cancelled() => hub.dials().end(address, began),
        }
    });
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

fn refused(hub: &Hub, why: Option<&'static str>) {
    if let Some(why) = why {
        tracing::debug!(why, "handshake refused");
        hub.counters.refused(why);
    }
}
