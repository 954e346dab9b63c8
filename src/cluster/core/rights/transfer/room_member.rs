//! The limit of a counter as an additional member of a `Grant`.

use tidegate_proto::frame::{Grant, member};

use crate::counter::strict::ROOM_MAX;

/// The member of `Grant::more` with the limit, 8 bytes little-endian, of a counter that the receiver may not know yet.
const ROOM: u16 = 0;

/// The limit, as a member of `Grant::more`.
pub fn member_of(room: u64) -> (u16, Vec<u8>) {
    (ROOM, room.to_le_bytes().to_vec())
}

/// The limit that a grant carries; `None` without one, or with one out of bounds.
pub fn room_in(grant: &Grant) -> Option<u64> {
    member(&grant.more, ROOM).and_then(room_of)
}

fn room_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_le_bytes).filter(|room| (1..=ROOM_MAX).contains(room))
}
