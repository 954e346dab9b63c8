//! The whole body of a request, in memory so that it can be sent again.
//!
//! A small body is read before the upstream is contacted; a longer one is streamed and sent once. Rejected: Kong's way, to
//! write it to a temporary file first. Every upload would wait for its last byte, and a disk would be part of the data plane.

use bytes::Bytes;

use crate::http1::body::{Segments, Slices, slices_at};
use crate::proxy::io::buffer::Buffer;

/// Largest body in bytes that is held.
pub const HELD_BYTES: usize = 64 * 1024;

/// A body.
#[derive(Default)]
pub enum HeldBody {
    #[default]
    Empty,
    /// In the buffer that it was read into, without a copy: the framing stands between its segments.
    Buffer(Buffer, Segments),
    /// Of HTTP/2, or a plugin's.
    Bytes(Bytes),
}

impl HeldBody {
    pub fn slices<'a>(&'a self, into: &mut Slices<'a>) {
        match self {
            Self::Empty => {}
            Self::Buffer(buffer, segments) => slices_at(segments, buffer.filled(), into),
            Self::Bytes(bytes) => into.push(bytes),
        }
    }
}
