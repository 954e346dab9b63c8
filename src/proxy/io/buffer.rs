//! Bytes that were read and not used yet.
//!
//! One allocation serves many messages, so what is parsed out of it is borrowed or copied. Rejected: `BytesMut`. It is made
//! to be split and shared, and pays for that with an allocation per message.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// Largest allocation that an empty buffer keeps of its own.
const KEPT_BYTES: usize = 8 * 1024;
/// Maximum number of large buffers, and of small ones, that a shelf keeps; others are freed.
const SHELVED_MAX: usize = 16;

/// Bytes in the order in which they arrived. Has no memory until it is given some.
#[derive(Default)]
pub struct Buffer {
    /// All of it is initialised; what is between `start` and `end` has been read.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Memory of one worker's buffers between two uses, so that connections at rest hold none. A new large buffer is zeroed,
/// and the kernel maps and unmaps its pages: a tenth of what a body of 64 KiB costs.
#[derive(Default)]
pub struct Shelf {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Shelf {
    /// Makes room for `size` bytes in all, those in the buffer included.
    #[inline]
    pub fn make_room(&self, buffer: &mut Buffer, size: usize) {
        if buffer.start + size > buffer.bytes.len() {
            self.enlarge(buffer, size);
        }
    }

    fn enlarge(&self, buffer: &mut Buffer, size: usize) {
        if size > buffer.bytes.len() {
            let shelf = if size > KEPT_BYTES { &self.large } else { &self.small };
            let shelved = shelf.borrow_mut().pop();
            if let Some(bytes) = shelved.filter(|bytes| bytes.len() > buffer.bytes.len()) {
                let mut roomy = Buffer { bytes, start: 0, end: 0 };
                roomy.push(buffer.filled());
                self.give(std::mem::replace(buffer, roomy));
            }
        }
        buffer.make_room(size);
    }

    /// Takes the memory of a buffer that is not used any more; its bytes are dropped.
    pub fn give(&self, buffer: Buffer) {
        let shelf = if buffer.bytes.len() > KEPT_BYTES { &self.large } else { &self.small };
        let mut shelved = shelf.borrow_mut();
        if !buffer.bytes.is_empty() && shelved.len() < SHELVED_MAX {
            shelved.push(buffer.bytes);
        }
    }

    /// Takes the memory of an empty buffer, if it is large.
    pub fn take_back_large(&self, buffer: &mut Buffer) {
        if buffer.bytes.len() > KEPT_BYTES {
            self.take_back(buffer);
        }
    }

    /// Takes the memory of an empty buffer.
    pub fn take_back(&self, buffer: &mut Buffer) {
        if buffer.is_empty() && !buffer.bytes.is_empty() {
            self.give(std::mem::take(buffer));
        }
    }
}

impl Buffer {
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The first bytes have been used.
    pub fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Drops all but the first bytes.
    pub fn truncate(&mut self, length: usize) {
        self.end = self.end.min(self.start + length);
    }

    /// Makes room for `size` bytes in all, those that are there included.
    pub fn make_room(&mut self, size: usize) {
        if self.start + size > self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.len());
        }
        if size > self.bytes.len() {
            self.bytes.resize(size, 0);
        }
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.end == self.bytes.len()
    }

    /// Reads once into the room that is left; 0 is the end of the stream, or a full buffer.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>, from: Pin<&mut impl AsyncRead>) -> Poll<io::Result<usize>> {
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(from.poll_read(cx, &mut room))?;
        let length = room.filled().len();
        self.end += length;
        Poll::Ready(Ok(length))
    }

    /// Puts bytes behind those that are there.
    pub fn push(&mut self, more: &[u8]) {
        if !more.is_empty() {
            self.make_room(self.len() + more.len());
            self.bytes[self.end..self.end + more.len()].copy_from_slice(more);
            self.end += more.len();
        }
    }

    /// Bytes of memory.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn fill(buffer: &mut Buffer, mut from: &[u8]) -> usize {
        match buffer.poll_fill(&mut Context::from_waker(Waker::noop()), Pin::new(&mut from)) {
            Poll::Ready(read) => read.unwrap(),
            Poll::Pending => unreachable!("a slice is always ready"),
        }
    }

    #[test]
    fn what_is_read_is_there_until_it_is_used() {
        let mut buffer = Buffer::default();
        assert_eq!(fill(&mut buffer, b"abc"), 0, "without room");
        buffer.make_room(4);
        assert_eq!((fill(&mut buffer, b"abcdef"), buffer.filled(), buffer.is_full()), (4, &b"abcd"[..], true));
        buffer.consume(3);
        buffer.make_room(3);
        assert_eq!((fill(&mut buffer, b"xyz"), buffer.filled()), (3, &b"dxyz"[..]), "moved to the front");
        buffer.make_room(9_000);
        assert_eq!((fill(&mut buffer, &[b'.'; 8_996]), buffer.len()), (8_996, 9_000));
    }

    #[test]
    fn memory_is_used_again_and_what_was_in_it_is_not_seen() {
        let (shelf, mut buffer) = (Shelf::default(), Buffer::default());
        shelf.make_room(&mut buffer, 100);
        assert_eq!(fill(&mut buffer, b"secret"), 6);
        shelf.make_room(&mut buffer, 2 * KEPT_BYTES);
        assert_eq!(buffer.filled(), b"secret", "moved");
        shelf.give(buffer);
        assert_eq!((shelf.small.borrow().len(), shelf.large.borrow().len()), (0, 1));
        let mut again = Buffer::default();
        shelf.make_room(&mut again, KEPT_BYTES + 1);
        assert!(again.is_empty() && again.capacity() == 2 * KEPT_BYTES);
        shelf.take_back(&mut again);
        assert_eq!((again.capacity(), shelf.large.borrow().len()), (0, 1));
        for size in [1, 2 * KEPT_BYTES] {
            (0..2 * SHELVED_MAX).for_each(|_| shelf.give(Buffer { bytes: vec![0; size], start: 0, end: 0 }));
        }
        assert_eq!((shelf.small.borrow().len(), shelf.large.borrow().len()), (SHELVED_MAX, SHELVED_MAX));
    }
}
