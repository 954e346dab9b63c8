//! Bytes that were read and not used yet.
//!
//! One piece of memory that is used again and again, so what is parsed out of it is borrowed or copied. `BytesMut` lost:
//! it is made to be split and shared, and pays for that with an allocation per message.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// What an empty buffer may keep.
const KEPT_BYTES: usize = 8 * 1024;
/// Large buffers that a shelf keeps; what is beyond is freed.
const SHELVED_MAX: usize = 16;

/// Bytes in the order in which they came. Has no memory until it is given some.
#[derive(Default)]
pub struct Buffer {
    /// All of it is initialised; what is between `start` and `end` has been read.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Large buffers of one worker between two uses. A new one is zeroed, and its pages are fetched and given back by the
/// kernel: a tenth of what a body of 64 KiB costs.
#[derive(Default)]
pub struct Shelf(RefCell<Vec<Buffer>>);

impl Shelf {
    /// An empty buffer with this much room.
    pub fn take(&self, size: usize) -> Buffer {
        let mut buffer = self.0.borrow_mut().pop().unwrap_or_default();
        buffer.make_room(size);
        buffer
    }

    /// Keeps a buffer, if it is large and there is a place; what is in it is gone.
    pub fn give(&self, mut buffer: Buffer) {
        let mut shelved = self.0.borrow_mut();
        if buffer.bytes.len() > KEPT_BYTES && shelved.len() < SHELVED_MAX {
            buffer.consume(buffer.len());
            shelved.push(buffer);
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

    /// Lets go of what one message needed and the next will hardly.
    pub fn shrink(&mut self) {
        if self.is_empty() && self.bytes.len() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
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
        buffer.consume(9_000);
        buffer.shrink();
        assert!(buffer.is_empty() && buffer.is_full(), "given back");
    }

    #[test]
    fn large_buffers_are_used_again_and_come_empty() {
        let shelf = Shelf::default();
        for size in [KEPT_BYTES, KEPT_BYTES + 1] {
            let mut buffer = shelf.take(size);
            assert_eq!(fill(&mut buffer, b"secret"), 6);
            shelf.give(buffer);
        }
        assert_eq!(shelf.0.borrow().len(), 1, "the small one was freed");
        let again = shelf.take(100);
        assert!(again.is_empty() && again.bytes.len() == KEPT_BYTES + 1);
        (0..2 * SHELVED_MAX).for_each(|_| shelf.give(Buffer { bytes: vec![0; 2 * KEPT_BYTES], start: 0, end: 0 }));
        assert_eq!(shelf.0.borrow().len(), SHELVED_MAX);
    }
}
