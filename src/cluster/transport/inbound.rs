//! What a peer sends: read in order, bounded, each kind on its carrier only.
//!
//! Streams with one frame are sorted by kind, and those of a kind read one after the other: transactions of one origin
//! build on each other, so an early later one would only be thrown away, and counts say what came before them. Counts
//! never wait behind a configuration. What waits meanwhile is bounded by QUIC's windows.

use std::sync::Arc;
use std::time::Duration;

use quinn::{ReadExactError, ReadToEndError, RecvStream};
use tidegate_proto::close::Close;
use tidegate_proto::frame::{FRAME_LEN_MAX, Frame};
use tidegate_proto::kind::Kind;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cluster::transport::carriers::Carrier;
use crate::cluster::transport::carriers::carrier;
use crate::cluster::transport::connections::Link;
use crate::cluster::transport::framing;
use crate::cluster::transport::framing::Failure;
use crate::cluster::transport::hub::Hub;
use crate::cluster::transport::reports::Event;
use crate::cluster::transport::transfers;

/// How long a peer may take for a frame that it began.
const FRAME_TIME: Duration = Duration::from_secs(20);
/// After a peer finished its first stream, the rest has so long to arrive.
const FAREWELL: Duration = Duration::from_secs(2);
/// A peer that says it has not heard this node for so long: what this node sends is lost. Less than the idle time of
/// QUIC, which this side's would not notice, since the peer can still be heard.
const DEAF_MS: u32 = 5000;
/// Streams with one frame whose kind is known, per kind.
const ALONE_MAX: usize = 64;
/// Version byte and kind.
const HEAD_LEN: usize = 3;

/// A stream whose first bytes were read.
struct Begun {
    head: [u8; HEAD_LEN],
    stream: RecvStream,
}

/// Reads until the connection is over, and after that what had arrived before.
pub async fn read(hub: &Arc<Hub>, link: &Arc<Link>, control: RecvStream) {
    let judged = |failure: Failure| match failure {
        Failure::Broken => {}
        Failure::Bad(why @ "unexpected") => hub.punish(link, Close::Unexpected, why),
        Failure::Bad(why) => hub.punish(link, Close::Malformed, why),
    };
    let ((spans, spans_begun), (counts, counts_begun)) = (mpsc::channel(ALONE_MAX), mpsc::channel(ALONE_MAX));
    tokio::join!(
        async { judged(read_control(hub, link, control).await) },
        async { judged(sort_alone(link, spans, counts).await) },
        async { judged(read_alone(hub, link, spans_begun, FRAME_LEN_MAX).await) },
        async { judged(read_alone(hub, link, counts_begun, Kind::Counts.len_max()).await) },
        async { judged(read_datagrams(hub, link).await) },
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
        if !matches!(carrier(frame.kind()), Carrier::Control | Carrier::Rights) {
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

/// Sorts streams with one frame. Which kind a stream carries shows with its first packet, and waiting for that keeps the
/// order.
async fn sort_alone(link: &Link, spans: mpsc::Sender<Begun>, counts: mpsc::Sender<Begun>) -> Failure {
    loop {
        let Ok(mut stream) = link.connection.accept_uni().await else { return Failure::Broken };
        let mut head = [0; HEAD_LEN];
        match timeout(FRAME_TIME, stream.read_exact(&mut head)).await {
            Ok(Ok(())) => {}
            Ok(Err(ReadExactError::FinishedEarly(_))) => return Failure::Bad("short"),
            // The sender gave this frame up.
            Ok(Err(ReadExactError::ReadError(quinn::ReadError::Reset(_)))) => continue,
            Ok(Err(ReadExactError::ReadError(_))) => return Failure::Broken,
            Err(_) => return Failure::Bad("slow_frame"),
        }
        let [_, low, high] = head;
        let lane = if u16::from_le_bytes([low, high]) == Kind::Counts.number() { &counts } else { &spans };
        // As many fit as a peer may open, so this waits only for a stream that was just read to its end.
        if lane.send(Begun { head, stream }).await.is_err() {
            return Failure::Broken;
        }
    }
}

/// Reads streams in the order they were sorted.
async fn read_alone(hub: &Hub, link: &Link, mut begun: mpsc::Receiver<Begun>, len_max: usize) -> Failure {
    while let Some(Begun { head, mut stream }) = begun.recv().await {
        let rest = match timeout(FRAME_TIME, stream.read_to_end(len_max - HEAD_LEN)).await {
            Ok(Ok(rest)) => rest,
            Ok(Err(ReadToEndError::TooLong)) => return Failure::Bad("too_long"),
            Ok(Err(ReadToEndError::Read(quinn::ReadError::Reset(_)))) => continue,
            Ok(Err(ReadToEndError::Read(_))) => return Failure::Broken,
            Err(_) => return Failure::Bad("slow_frame"),
        };
        let frame = match framing::decode(&[&head[..], &rest].concat(), &hub.counters) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(failure) => return failure,
        };
        if !matches!(carrier(frame.kind()), Carrier::Spans | Carrier::Gossip | Carrier::Counts) {
            return Failure::Bad("unexpected");
        }
        if !deliver(hub, link, frame).await {
            return Failure::Broken;
        }
    }
    Failure::Broken
}

async fn read_datagrams(hub: &Hub, link: &Link) -> Failure {
    loop {
        let Ok(bytes) = link.connection.read_datagram().await else { return Failure::Broken };
        match framing::decode(&bytes, &hub.counters) {
            Ok(Some(frame)) if carrier(frame.kind()) == Carrier::Counts => {
                if !deliver(hub, link, frame).await {
                    return Failure::Broken;
                }
            }
            Ok(Some(_)) => return Failure::Bad("unexpected"),
            Ok(None) => {}
            Err(failure) => return failure,
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

/// Waits when the reader of events is behind: that stops reading from this peer, and its windows fill. Not with what
/// arrives beside beats and may be lost.
async fn deliver(hub: &Hub, link: &Link, frame: Frame) -> bool {
    let carrier = carrier(frame.kind());
    let event = Event::Frame { peer: link.hello.node_id.clone(), frame };
    match carrier {
        // Whoever exchanges counts may have ended: then they are dropped.
        Carrier::Counts => hub.reports.limits.send(event).await.is_ok() || !hub.reports.events.is_closed(),
        Carrier::Rights => hub.reports.limits.try_send(event).is_ok() || !hub.reports.events.is_closed(),
        Carrier::Control | Carrier::Spans | Carrier::Gossip | Carrier::Own => {
            hub.reports.events.send(event).await.is_ok()
        }
    }
}

fn is_deaf(frame: &Frame) -> bool {
    matches!(frame, Frame::Beat(beat) if beat.echo_ms > 0 && beat.echo_age_ms > DEAF_MS)
}
