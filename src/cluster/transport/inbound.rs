//! What a peer sends: read in order, bounded, each kind on its carrier only.
//!
//! Streams with one frame are read one after the other: transactions of one origin build on each other, so an early
//! later one would only be thrown away. What waits meanwhile is bounded by QUIC's windows.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ReadToEndError, RecvStream};
use tidegate_proto::close::Close;
use tidegate_proto::frame::{FRAME_LEN_MAX, Frame};
use tokio::time::timeout;

use crate::cluster::transport::Event;
use crate::cluster::transport::carriers::Carrier;
use crate::cluster::transport::carriers::carrier;
use crate::cluster::transport::connections::Link;
use crate::cluster::transport::framing;
use crate::cluster::transport::framing::Failure;
use crate::cluster::transport::hub::Hub;
use crate::cluster::transport::transfers;

/// How long a peer may take for a frame that it began.
const FRAME_TIME: Duration = Duration::from_secs(20);
/// After a peer finished its first stream, the rest has so long to arrive.
const FAREWELL: Duration = Duration::from_secs(2);
/// A peer that says it has not heard this node for so long: what this node sends is lost. Less than the idle time of
/// QUIC, which this side's would not notice, since the peer can still be heard.
const DEAF_MS: u32 = 5000;

/// Reads until the connection is over, and after that what had arrived before.
pub async fn read(hub: &Arc<Hub>, link: &Arc<Link>, control: RecvStream) {
    let judged = |failure: Failure| match failure {
        Failure::Broken => {}
        Failure::Bad(why @ "unexpected") => hub.punish(link, Close::Unexpected, why),
        Failure::Bad(why) => hub.punish(link, Close::Malformed, why),
    };
    tokio::join!(
        async { judged(read_control(hub, link, control).await) },
        async { judged(read_alone(hub, link).await) },
        async { judged(accept_fetches(hub, link).await) },
    );
}

async fn read_control(hub: &Hub, link: &Link, mut stream: RecvStream) -> Failure {
    loop {
        let frame = match framing::next(&mut stream, FRAME_LEN_MAX, &hub.counters).await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                if timeout(FAREWELL, link.connection.closed()).await.is_err() {
                    link.end(Close::Stopping, "the peer stopped");
                }
                return Failure::Broken;
            }
            Err(failure) => return failure,
        };
        if carrier(frame.kind()) != Carrier::Control {
            return Failure::Bad("unexpected");
        }
        if is_deaf(&frame) {
            link.end(Close::TooSlow, "the peer does not hear this node");
            return Failure::Broken;
        }
        if !deliver(hub, link, frame).await {
            return Failure::Broken;
        }
    }
}

async fn read_alone(hub: &Hub, link: &Link) -> Failure {
    loop {
        let Ok(mut stream) = link.connection.accept_uni().await else { return Failure::Broken };
        let bytes = match timeout(FRAME_TIME, stream.read_to_end(FRAME_LEN_MAX)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(ReadToEndError::TooLong)) => return Failure::Bad("too_long"),
            // The sender gave this frame up.
            Ok(Err(ReadToEndError::Read(quinn::ReadError::Reset(_)))) => continue,
            Ok(Err(ReadToEndError::Read(_))) => return Failure::Broken,
            Err(_) => return Failure::Bad("slow_frame"),
        };
        let frame = match framing::decode(&bytes, &hub.counters) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(failure) => return failure,
        };
        if !matches!(carrier(frame.kind()), Carrier::Spans | Carrier::Gossip) {
            return Failure::Bad("unexpected");
        }
        if !deliver(hub, link, frame).await {
            return Failure::Broken;
        }
    }
}

async fn accept_fetches(hub: &Arc<Hub>, link: &Arc<Link>) -> Failure {
    loop {
        // The number of these at once is the bound on streams.
        let Ok((send, recv)) = link.connection.accept_bi().await else { return Failure::Broken };
        hub.tasks.spawn(transfers::donate(hub.clone(), link.clone(), send, recv));
    }
}

/// Waits when the reader of events is behind: that stops reading from this peer, and its windows fill.
async fn deliver(hub: &Hub, link: &Link, frame: Frame) -> bool {
    hub.events.send(Event::Frame { peer: link.hello.node_id.clone(), frame }).await.is_ok()
}

fn is_deaf(frame: &Frame) -> bool {
    matches!(frame, Frame::Beat(beat) if beat.echo_ms > 0 && beat.echo_age_ms > DEAF_MS)
}
