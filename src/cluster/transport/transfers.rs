//! A whole configuration from one node to another: a stream with one question, and chunks until one is the last.
//!
//! A donor serves two at once and says so to the third: a cluster that comes back must not bring down the one node that
//! everybody asks. Chunks go behind everything else on the wire.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tidegate_proto::Vector;
use tidegate_proto::close::Close;
use tidegate_proto::frame::{Busy, Chunk, FRAME_LEN_MAX, Fetch, Frame, Records};
use tidegate_proto::kind::Kind;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::cluster::core::keeper::Keeper;
use crate::cluster::transport::connections::Link;
use crate::cluster::transport::framing;
use crate::cluster::transport::framing::Failure;
use crate::cluster::transport::hub::Hub;
use crate::pace;

/// Records per chunk before compression, in bytes.
const CHUNK_LEN: usize = 256 << 10;
/// Chunks that wait for whoever asked.
const CHUNKS_WAITING: usize = 2;
const COMPRESSION_LEVEL: i32 = 1;
const PRIORITY: i32 = -10;
const RETRY_AFTER_MS: u32 = 500;
/// The question has so long to arrive, and each chunk to be taken: a slow peer does not keep a donor's place.
const STEP: Duration = Duration::from_secs(10);

/// A place in the order of records: kind and id.
type Place = Option<(String, [u8; 16])>;

/// Asks `link`'s peer; see `Mesh::fetch`.
pub fn fetch(hub: &Arc<Hub>, link: Arc<Link>, fetch: Fetch) -> mpsc::Receiver<Chunk> {
    let (chunks, receiver) = mpsc::channel(CHUNKS_WAITING);
    let hub = hub.clone();
    hub.tasks.clone().spawn(async move {
        let taken = tokio::select! {
            taken = take(&hub, &link, fetch, &chunks) => taken,
            () = chunks.closed() => Ok(()),
        };
        match taken {
            Ok(()) | Err(Failure::Broken) => {}
            Err(Failure::Bad(why)) => hub.punish(&link, Close::Malformed, why),
        }
    });
    receiver
}

/// Answers one question of a peer.
pub async fn donate(hub: Arc<Hub>, link: Arc<Link>, mut send: SendStream, mut recv: RecvStream) {
    let asked = timeout(STEP, framing::next(&mut recv, Kind::Fetch.len_max(), &hub.counters)).await;
    let fetch = match asked {
        Ok(Ok(Some(Frame::Fetch(fetch)))) => fetch,
        Ok(Ok(_)) => return hub.punish(&link, Close::Unexpected, "unexpected"),
        Ok(Err(Failure::Bad(why))) => return hub.punish(&link, Close::Malformed, why),
        Ok(Err(Failure::Broken)) | Err(_) => return,
    };
    let given = match hub.donations.clone().try_acquire_owned() {
        Ok(_place) => give(&hub, &link, fetch.after, &mut send).await,
        Err(_) => refuse(&hub, &link, &mut send).await,
    };
    if given.is_ok() {
        let _ = send.finish();
    }
}

async fn take(hub: &Hub, link: &Link, fetch: Fetch, chunks: &mpsc::Sender<Chunk>) -> Result<(), Failure> {
    let (mut send, mut recv) = link.connection.open_bi().await.map_err(|_| Failure::Broken)?;
    write(hub, link, &mut send, &Frame::Fetch(fetch)).await?;
    send.finish().map_err(|_| Failure::Broken)?;
    loop {
        let next = timeout(STEP, framing::next(&mut recv, FRAME_LEN_MAX, &hub.counters)).await;
        match next.map_err(|_| Failure::Broken)?? {
            Some(Frame::Chunk(chunk)) => {
                let last = chunk.last;
                if chunks.send(chunk).await.is_err() || last {
                    return Ok(());
                }
            }
            Some(Frame::Busy(_)) | None => return Ok(()),
            Some(_) => return Err(Failure::Bad("unexpected")),
        }
    }
}

async fn give(hub: &Arc<Hub>, link: &Link, mut after: Place, send: &mut SendStream) -> Result<(), Failure> {
    send.set_priority(PRIORITY).map_err(|_| Failure::Broken)?;
    // Before the first record is read: what is committed meanwhile may be in or not, and comes again as a span.
    let vector = hub.keeper.vector();
    loop {
        let (keeper, vector) = (hub.keeper.clone(), vector.clone());
        let packed = pace::aside(move || pack(&*keeper, vector, after)).await;
        let (chunk, next) = packed.map_err(|_| Failure::Broken)?.map_err(|error| {
            tracing::error!(error, "records that cannot be sent to a peer");
            Failure::Broken
        })?;
        let last = chunk.last;
        timeout(STEP, write(hub, link, send, &Frame::Chunk(chunk))).await.map_err(|_| Failure::Broken)??;
        if last {
            return Ok(());
        }
        after = next;
    }
}

async fn refuse(hub: &Hub, link: &Link, send: &mut SendStream) -> Result<(), Failure> {
    write(hub, link, send, &Frame::Busy(Busy { retry_after_ms: RETRY_AFTER_MS, more: Vec::new() })).await
}

async fn write(hub: &Hub, link: &Link, send: &mut SendStream, frame: &Frame) -> Result<(), Failure> {
    let bytes = frame.encode(link.version).map_err(|error| {
        tracing::error!(kind = frame.kind().name(), %error, "a frame that cannot be sent");
        Failure::Broken
    })?;
    framing::write(send, frame.kind(), Bytes::from(bytes), &hub.counters).await
}

/// The records after a place, and the place of the last of them.
fn pack(keeper: &dyn Keeper, vector: Vector, after: Place) -> Result<(Chunk, Place), String> {
    let (records, all) = keeper.records(after, CHUNK_LEN);
    let place = records.last().map(|record| (record.kind.clone(), record.id));
    // A keeper that has nothing more but says otherwise must not make this loop.
    let last = all || place.is_none();
    let plain = Records { records }.encode().map_err(|error| error.to_string())?;
    let len = u32::try_from(plain.len()).map_err(|error| error.to_string())?;
    let records = zstd::bulk::compress(&plain, COMPRESSION_LEVEL).map_err(|error| error.to_string())?;
    Ok((Chunk { vector, records, len, last, more: Vec::new() }, place))
}
