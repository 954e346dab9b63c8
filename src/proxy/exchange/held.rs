//! The whole body of a request, in memory so that it can be sent again.
//!
//! A small body is read before the upstream is contacted; a longer one is streamed and sent once. Rejected: Kong's way, to
//! write it to a temporary file first. Every upload would wait for its last byte, and a disk would be part of the data plane.

use bytes::Bytes;

use crate::proxy::io::buffer::Buffer;

/// Largest body in bytes that is held.
pub const HELD_BYTES: usize = 64 * 1024;

/// A body.
#[derive(Default)]
pub enum HeldBody {
    #[default]
    Empty,
    /// As it was read from the connection.
    Buffer(Buffer),
    /// Of HTTP/2, or a plugin's.
    Bytes(Bytes),
}

impl HeldBody {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Empty => &[],
            Self::Buffer(buffer) => buffer.filled(),
            Self::Bytes(bytes) => bytes,
        }
    }
}
