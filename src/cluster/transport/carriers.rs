//! Which frame travels on what, and the tasks that write.
//!
//! Small frames share the first stream and stay in order. Transactions, gossip and counts get a stream per frame, so that
//! the loss of a packet holds up one frame and not what comes after it on the wire. Counts that are urgent travel in
//! datagrams: a later one says everything that an earlier one said, so none is worth sending again.

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::SendStream;
use tidegate_proto::close::Close;
use tidegate_proto::frame::Frame;
use tidegate_proto::kind::Kind;

use crate::cluster::transport::connections::Link;
use crate::cluster::transport::framing;
use crate::cluster::transport::hub::Hub;
use crate::cluster::transport::outbox::Item;

const SPANS_PRIORITY: i32 = 5;
const GOSSIP_PRIORITY: i32 = 2;
const COUNTS_PRIORITY: i32 = 0;
/// Streams with counts that the peer has not acknowledged: as many as the shortest period's batches begin within a
/// round trip of 600 ms. Half of the streams that a peer may open.
const COUNTS_UNDER_WAY_MAX: usize = 32;

/// How a kind travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// The first stream.
    Control,
    /// The first stream, where there is room.
    Rights,
    /// A stream each, none dropped once it was taken.
    Spans,
    /// A stream each, one at a time, the newest wins.
    Gossip,
    /// A datagram, or a stream each.
    Counts,
    /// Streams that are opened for a transfer, or the greeting: not for `send`.
    Own,
}

pub fn carrier(kind: Kind) -> Carrier {
    match kind {
        Kind::Beat | Kind::Pull | Kind::Whole | Kind::Leave | Kind::Busy => Carrier::Control,
        Kind::CountsPull | Kind::Ask | Kind::Grant => Carrier::Rights,
        Kind::Spans => Carrier::Spans,
        Kind::Gossip => Carrier::Gossip,
        Kind::Counts => Carrier::Counts,
        Kind::Hello | Kind::Fetch | Kind::Chunk => Carrier::Own,
    }
}

/// Queues a frame. False: there was no room, or it is not to be sent this way.
pub fn push(hub: &Hub, link: &Link, frame: &Frame) -> bool {
    match frame.encode(link.version) {
        Ok(bytes) => push_bytes(hub, link, frame.kind(), Bytes::from(bytes)),
        Err(error) => {
            tracing::debug!(kind = frame.kind().name(), %error, "a frame that cannot be sent");
            false
        }
    }
}

/// As `push`, for a frame that is encoded already, in the link's version.
pub fn push_bytes(hub: &Hub, link: &Link, kind: Kind, bytes: Bytes) -> bool {
    let item = Item { kind, bytes };
    match carrier(kind) {
        Carrier::Spans => link.outbox.spans.push(item),
        Carrier::Gossip => link.outbox.gossip.push(item),
        Carrier::Counts => link.outbox.counts.push(item),
        Carrier::Rights => link.outbox.push_right(item),
        Carrier::Own => false,
        Carrier::Control => {
            let pushed = link.outbox.control.push(item);
            if !pushed && !hub.stop.is_cancelled() {
                hub.punish(link, Close::TooSlow, "backlog");
            }
            pushed
        }
    }
}

/// Writes what is queued until the queues are finished and the peer has everything, or the connection breaks.
pub async fn write(hub: &Hub, link: &Link, control: SendStream) {
    tokio::join!(
        write_control(hub, link, control),
        write_spans(hub, link),
        write_gossip(hub, link),
        write_counts(hub, link),
    );
}

async fn write_control(hub: &Hub, link: &Link, mut stream: SendStream) {
    while let Some(Item { kind, bytes }) = link.outbox.control.next().await {
        let len = bytes.len();
        if framing::write(&mut stream, kind, bytes, &hub.counters).await.is_err() {
            return;
        }
        link.outbox.control.written(len);
    }
    if stream.finish().is_ok() {
        let _ = stream.stopped().await;
    }
}

async fn write_spans(hub: &Hub, link: &Link) {
    let mut last = None;
    while let Some(item) = link.outbox.spans.next().await {
        let len = item.bytes.len();
        let Some(stream) = write_alone(hub, link, item, SPANS_PRIORITY).await else { return };
        link.outbox.spans.written(len);
        last = Some(stream);
    }
    if let Some(stream) = last {
        let _ = stream.stopped().await;
    }
}

async fn write_gossip(hub: &Hub, link: &Link) {
    while let Some(item) = link.outbox.gossip.next().await {
        let Some(stream) = write_alone(hub, link, item, GOSSIP_PRIORITY).await else { return };
        // One in flight: the next waits until the peer has this one.
        let _ = stream.stopped().await;
    }
}

async fn write_counts(hub: &Hub, link: &Link) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(len) = under_way.next() => link.outbox.counts.written(len),
            next = link.outbox.counts.next(), if under_way.len() < COUNTS_UNDER_WAY_MAX => {
                let Some(item) = next else { break };
                let len = item.bytes.len();
                let Some(stream) = write_alone(hub, link, item, COUNTS_PRIORITY).await else { return };
                under_way.push(async move {
                    let _ = stream.stopped().await;
                    len
                });
            }
        }
    }
    while under_way.next().await.is_some() {}
}

async fn write_alone(hub: &Hub, link: &Link, item: Item, priority: i32) -> Option<SendStream> {
    let len = item.bytes.len();
    let mut stream = link.connection.open_uni().await.ok()?;
    stream.set_priority(priority).ok()?;
    stream.write_chunk(item.bytes).await.ok()?;
    stream.finish().ok()?;
    hub.counters.sent(item.kind, len);
    Some(stream)
}
