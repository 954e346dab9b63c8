//! The exchange of Hellos: first thing on a connection, on its first stream, which then carries the small frames.
//!
//! The dialer speaks first. A Hello must name the node that the certificate names; the cluster that each side addresses
//! is the one of the certificate it was shown, so that two clusters' worth of secrets can overlap during a rotation.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use tidegate_proto::close::Close;
use tidegate_proto::frame::{Frame, Hello, VERSION};
use tidegate_proto::kind::Kind;

use crate::cluster::transport::connections::Link;
use crate::cluster::transport::framing;
use crate::cluster::transport::framing::Failure;
use crate::cluster::transport::hub::Hub;
use crate::cluster::transport::identity::Name;
use crate::cluster::transport::identity::name_of;
use crate::cluster::transport::reports::Event;

/// The first stream goes before all others.
const CONTROL_PRIORITY: i32 = 10;
/// TLS alerts are QUIC error codes from here.
const ALERTS: std::ops::Range<u64> = 0x100..0x200;

/// A connection to run with its first stream, or the reason to count; none when nobody did anything wrong.
type Greeted = Result<(Arc<Link>, SendStream, RecvStream), Option<&'static str>>;

/// As the dialer.
pub async fn greet(hub: &Hub, connection: &Connection, name: &Name) -> Greeted {
    let (mut send, mut recv) = connection.open_bi().await.map_err(|error| quiet(&error))?;
    say_hello(hub, connection, name, &mut send).await?;
    let theirs = hear_hello(hub, connection, &mut recv).await?;
    let version = check(hub, connection, name, &theirs)?;
    let link = Arc::new(Link::new(connection.clone(), theirs, version, true));
    if let Err(why) = register(hub, &link).await {
        if why != Close::Duplicate {
            return Err(refuse(connection, why, counted(why)));
        }
        // The other one was faster meanwhile. The peer put this one to use when it said Hello.
        hub.table().register_retired(&link);
    }
    Ok((link, send, recv))
}

/// As the one who was dialled.
pub async fn answer(hub: &Hub, connection: &Connection) -> Greeted {
    let name = peer_name(connection).ok_or_else(|| refuse(connection, Close::Identity, "no_name"))?;
    let (mut send, mut recv) = connection.accept_bi().await.map_err(|error| quiet(&error))?;
    let theirs = hear_hello(hub, connection, &mut recv).await?;
    let version = check(hub, connection, &name, &theirs)?;
    let link = Arc::new(Link::new(connection.clone(), theirs, version, false));
    register(hub, &link).await.map_err(|why| refuse(connection, why, counted(why)))?;
    // Only now, so that a connection is in use here before the dialer can close another one for it. A failure closes
    // the connection, which is noticed where it is run.
    let _ = say_hello(hub, connection, &name, &mut send).await;
    Ok((link, send, recv))
}

/// Whom the peer's certificate names.
pub fn peer_name(connection: &Connection) -> Option<Name> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    name_of(chain.first()?)
}

/// Closes a connection that does not become one of the mesh. Gives the reason to count, none for an empty word.
pub fn refuse(connection: &Connection, close: Close, why: &'static str) -> Option<&'static str> {
    connection.close(close.code().into(), close.name().as_bytes());
    (!why.is_empty()).then_some(why)
}

/// A word for a handshake that failed.
pub fn reason(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::TransportError(error) => alert(error.code.into()).unwrap_or("protocol"),
        ConnectionError::ConnectionClosed(closed) if ALERTS.contains(&closed.error_code.into()) => "refused_by_peer",
        ConnectionError::ConnectionClosed(_) | ConnectionError::Reset => "closed_by_peer",
        ConnectionError::ApplicationClosed(closed) => Close::of(closed.error_code.into_inner()).name(),
        ConnectionError::VersionMismatch => "quic_version",
        ConnectionError::TimedOut => "timeout",
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => "closed",
    }
}

fn alert(code: u64) -> Option<&'static str> {
    let description = ALERTS.contains(&code).then(|| code - ALERTS.start)?;
    Some(match description {
        42 | 43 => "bad_certificate",
        45 => "expired_certificate",
        46 | 49 => "other_cluster",
        48 => "unknown_authority",
        51 => "bad_signature",
        116 => "no_certificate",
        120 => "no_common_protocol",
        _ => "tls",
    })
}

async fn say_hello(
    hub: &Hub,
    connection: &Connection,
    name: &Name,
    send: &mut SendStream,
) -> Result<(), Option<&'static str>> {
    let hello = hello_for(&hub.hello, name);
    let broken = || refuse(connection, Close::Stopping, "");
    let bytes = Frame::Hello(hello).encode(VERSION).map_err(|error| {
        tracing::warn!(%error, "this node's Hello cannot be sent");
        refuse(connection, Close::Malformed, "own_hello")
    })?;
    send.set_priority(CONTROL_PRIORITY).map_err(|_| broken())?;
    framing::write(send, Kind::Hello, Bytes::from(bytes), &hub.counters).await.map_err(|_| broken())
}

/// What this node says to a peer: of two clusters that the node belongs to during a rotation, the peer's.
fn hello_for(hello: &Hello, peer: &Name) -> Hello {
    let cluster_id = peer.cluster.clone().unwrap_or_else(|| hello.cluster_id.clone());
    Hello { cluster_id, ..hello.clone() }
}

async fn hear_hello(hub: &Hub, connection: &Connection, recv: &mut RecvStream) -> Result<Hello, Option<&'static str>> {
    match framing::next(recv, Kind::Hello.len_max(), &hub.counters).await {
        Ok(Some(Frame::Hello(hello))) => Ok(hello),
        Ok(_) => Err(refuse(connection, Close::Unexpected, "no_hello")),
        Err(Failure::Bad(why)) => Err(refuse(connection, Close::Malformed, why)),
        Err(Failure::Broken) => Err(connection.close_reason().and_then(|error| quiet(&error))),
    }
}

/// The version to speak.
fn check(hub: &Hub, connection: &Connection, name: &Name, theirs: &Hello) -> Result<u8, Option<&'static str>> {
    let clusters = &hub.configs.load().credentials.clusters;
    agree(&hub.hello, clusters, name, theirs).map_err(|close| refuse(connection, close, counted(close)))
}

fn agree(mine: &Hello, clusters: &[String], name: &Name, theirs: &Hello) -> Result<u8, Close> {
    if theirs.node_id != name.node {
        return Err(Close::Identity);
    }
    if !clusters.contains(&theirs.cluster_id) {
        return Err(Close::OtherCluster);
    }
    Hello { cluster_id: theirs.cluster_id.clone(), ..mine.clone() }.greet(theirs)
}

/// Puts the connection to use and reports it, in one step: reports come in the order of what happened.
async fn register(hub: &Hub, link: &Arc<Link>) -> Result<(), Close> {
    let report = hub.reports.events.reserve().await.map_err(|_| Close::Stopping)?;
    // Whoever exchanges counts may have ended: then the node goes on without.
    let report_limits = hub.reports.limits.reserve().await.ok();
    let mut table = hub.table();
    if hub.stop.is_cancelled() {
        return Err(Close::Stopping);
    }
    table.register(&hub.hello.node_id, link)?;
    for report in [Some(report), report_limits].into_iter().flatten() {
        report.send(Event::Connected(link.hello.clone()));
    }
    Ok(())
}

/// Duplicates are nobody's fault, and neither is an end.
fn counted(close: Close) -> &'static str {
    if matches!(close, Close::Duplicate | Close::Stopping) { "" } else { close.name() }
}

/// What to count when a connection ends during the greeting: nothing where it is in the nature of things.
fn quiet(error: &ConnectionError) -> Option<&'static str> {
    match reason(error) {
        "duplicate" | "stopping" | "identity" | "closed" | "closed_by_peer" => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node_id: &str, cluster_id: &str) -> Hello {
        Hello {
            cluster_id: cluster_id.into(),
            node_id: node_id.into(),
            region: "ams".into(),
            incarnation: 1,
            address: "127.0.0.1:1".into(),
            version: "1".into(),
            oldest: 1,
            newest: 1,
            store: "embedded".into(),
            more: Vec::new(),
        }
    }

    #[test]
    fn a_hello_must_fit_the_certificate_and_this_node() {
        let mine = hello("me", "new");
        let clusters = ["new".to_owned(), "old".to_owned()];
        let name = |node: &str| Name { cluster: None, node: node.into() };
        let check = |theirs: Hello, expected: Result<u8, Close>| {
            assert_eq!(agree(&mine, &clusters, &name("peer"), &theirs), expected, "{theirs:?}");
        };
        check(hello("peer", "new"), Ok(1));
        check(hello("peer", "old"), Ok(1));
        check(hello("peer", "third"), Err(Close::OtherCluster));
        check(hello("other", "new"), Err(Close::Identity));
        check(Hello { store: "postgres".into(), ..hello("peer", "new") }, Err(Close::OtherStore));
        check(Hello { oldest: 7, newest: 9, ..hello("peer", "new") }, Err(Close::NoCommonVersion));
        let myself = agree(&mine, &clusters, &name("me"), &hello("me", "new"));
        assert_eq!(myself, Err(Close::Identity));
    }

    #[test]
    fn a_node_addresses_the_cluster_that_it_was_shown() {
        let shown = Name { cluster: Some("old".into()), node: "peer".into() };
        assert_eq!(hello_for(&hello("me", "new"), &shown).cluster_id, "old");
    }
}
