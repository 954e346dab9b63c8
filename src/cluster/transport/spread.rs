//! One batch of counts to many peers: cut to what each can take, encoded once for those who can take the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use bytes::Bytes;
use tidegate_proto::frame::{Counts, Frame};
use tidegate_proto::kind::Kind;

use crate::cluster::transport::carriers;
use crate::cluster::transport::connections::Link;
use crate::cluster::transport::hub::Hub;

/// Below this a datagram has hardly room for a slot beside the names.
const DATAGRAM_LEN_MIN: usize = 300;

/// What counts look like for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    /// Of the protocol.
    version: u8,
    /// Bytes that a frame may have.
    len_max: usize,
    datagram: bool,
}

/// Sends, and answers who is owed what was in there, since a queue is full. Who has no connection, or does not know the
/// kind, is not named. What is urgent goes in datagrams; where QUIC's buffer for those is full, the oldest make room.
pub fn counts(hub: &Hub, peers: &[String], counts: &Counts, urgent: bool) -> Vec<String> {
    let mut shapes: HashMap<Shape, Vec<Bytes>> = HashMap::new();
    let mut refused = Vec::new();
    for peer in peers {
        let Some(link) = hub.table().link(peer) else { continue };
        if link.version < Kind::Counts.since() {
            continue;
        }
        let shape = Shape::of(&link, urgent);
        let frames = match shapes.entry(shape) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(shape.encode(counts)),
        };
        if !frames.iter().all(|bytes| shape.send(hub, &link, bytes)) {
            refused.push(peer.clone());
        }
    }
    refused
}

impl Shape {
    /// The length of datagrams is asked for each time: it changes with the path.
    fn of(link: &Link, urgent: bool) -> Self {
        let datagram = link.connection.max_datagram_size().filter(|len| urgent && *len >= DATAGRAM_LEN_MIN);
        let len_max = datagram.unwrap_or(Kind::Counts.len_max());
        Self { version: link.version, len_max, datagram: datagram.is_some() }
    }

    fn encode(self, counts: &Counts) -> Vec<Bytes> {
        let mut parts = counts.clone().split(self.len_max);
        if self.datagram && parts.len() > 1 {
            // The others may be lost, so the last one must not say that this is everything.
            parts.iter_mut().for_each(|part| part.complete = 0);
        }
        let encoded = parts.into_iter().map(|part| Frame::Counts(part).encode(self.version));
        let sayable = encoded.inspect(|bytes| {
            if let Err(error) = bytes {
                tracing::error!(%error, "counts that cannot be sent");
            }
        });
        sayable.flatten().map(Bytes::from).collect()
    }

    fn send(self, hub: &Hub, link: &Link, bytes: &Bytes) -> bool {
        if !self.datagram {
            return carriers::push_bytes(hub, link, Kind::Counts, bytes.clone());
        }
        // The path may have become narrower since: that is a loss like any other.
        if link.connection.send_datagram(bytes.clone()).is_ok() {
            hub.counters.sent(Kind::Counts, bytes.len());
        }
        true
    }
}
