//! Memory for the texts of heads, used again from one message to the next.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// Text of a head whose memory is used again; a longer one has memory of its own.
const KEPT_BYTES: usize = 2 * 1024;

/// Where the texts of one head after the other stand.
#[derive(Debug, Default)]
pub(crate) struct Room(BytesMut);

impl Clone for Room {
    /// Memory is not shared.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Room {
    /// Copies a head. The copy takes the place of the one before when no part of that is referenced any more.
    pub(crate) fn hold(&mut self, text: &[u8]) -> Bytes {
        if text.len() > KEPT_BYTES {
            return Bytes::copy_from_slice(text);
        }
        self.0.extend_from_slice(text);
        self.0.split().freeze()
    }
}

/// Where `part`, which is borrowed from `whole`, stands in it.
pub(crate) fn range(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr()).min(whole.len());
    start..(start + part.len()).min(whole.len())
}
