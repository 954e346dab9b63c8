//! Bytes for peers that do not answer: over TCP, TLS and UDP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::node::outbound::connect::{Connector, Stream, addresses};
use crate::node::outbound::idle::Idle;
use crate::plugin::tools::outbound::{OutboundError, TcpSend, UdpSend};

pub(super) type KeptStream = Box<dyn Stream>;

/// Writes to a kept connection or a new one.
pub(super) async fn tcp(connector: &Connector, idle: &Idle<KeptStream>, send: TcpSend) -> Result<(), OutboundError> {
    let mut stream = match idle.take(&send.peer).and_then(quiet) {
        Some(kept) => kept,
        None => connector.open(&send.peer, send.timeout).await?,
    };
    let write = async {
        stream.write_all(&send.data).await?;
        if send.keepalive.is_zero() { stream.shutdown().await } else { stream.flush().await }
    };
    match timeout(send.timeout, write).await {
        Ok(Ok(())) => idle.keep(send.peer, stream, send.keepalive),
        Ok(Err(error)) => return Err(OutboundError::broken(&send.peer, &error)),
        Err(_) => return Err(OutboundError::Timeout { peer: send.peer.to_string() }),
    }
    Ok(())
}

/// The connection unless the peer closed it, or sent something: nothing here would read an answer.
fn quiet(mut kept: KeptStream) -> Option<KeptStream> {
    let mut byte = [0];
    let readable = kept.read(&mut byte).now_or_never().is_some();
    (!readable).then_some(kept)
}

/// Sends every datagram to the first address of the host.
pub(super) async fn udp(send: UdpSend) -> Result<(), OutboundError> {
    let peer = format!("{}:{}", send.host, send.port);
    let sent = timeout(send.timeout, udp_unhurried(&send, &peer)).await;
    sent.unwrap_or(Err(OutboundError::Timeout { peer }))
}

async fn udp_unhurried(send: &UdpSend, peer: &str) -> Result<(), OutboundError> {
    let found = addresses(&send.host, send.port, peer).await?;
    let Some(to) = found.first() else { return Ok(()) };
    let broken = |error: std::io::Error| OutboundError::Broken { peer: peer.to_owned(), why: error.to_string() };
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await.map_err(broken)?;
    for datagram in &send.datagrams {
        socket.send_to(datagram, to).await.map_err(broken)?;
    }
    Ok(())
}
