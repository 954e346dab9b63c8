//! Bytes on their way out: text of ours, then data by reference, then the end of a chunk. One vectored write sends them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::HeaderMap;
use smallvec::SmallVec;
use tokio::io::AsyncWrite;

use crate::http1::body::SEGMENTS;
use crate::http1::chunked::{LAST_CHUNK, write_size};
use crate::http1::write::write_trailers;

/// Text that keeps its memory between two messages, at most.
const KEPT_BYTES: usize = 16 * 1024;

/// One piece of output. Data is borrowed from elsewhere: only its length is noted here.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Sent first: heads, framing, small data.
    pub text: Vec<u8>,
    /// Bytes of `text` that were sent.
    sent: usize,
    /// Bytes of data that are still to be sent.
    data: usize,
    /// What follows the data: bytes that are still to be sent.
    end: &'static [u8],
}

/// How data is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Plain,
    /// As a chunk.
    Chunk,
    /// As a chunk, and the last chunk after it.
    LastChunk,
}

impl Piece {
    /// For a body that is sent in chunks or not; `last`: no data follows, nor trailers.
    pub fn of(chunked: bool, last: bool) -> Self {
        match (chunked, last) {
            (false, _) => Self::Plain,
            (true, false) => Self::Chunk,
            (true, true) => Self::LastChunk,
        }
    }

    fn end(self) -> &'static [u8] {
        match self {
            Self::Plain => b"",
            Self::Chunk => b"\r\n",
            Self::LastChunk => b"\r\n0\r\n\r\n",
        }
    }
}

/// Text, data, and the end of a chunk.
const SLICES: usize = SEGMENTS + 2;

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.sent == self.text.len() && self.takes_data()
    }

    /// Whether data may be added: none is left, nor the end of a chunk.
    pub fn takes_data(&self) -> bool {
        self.data == 0 && self.end.is_empty()
    }

    /// Bytes of data that are still to be sent.
    pub fn data_left(&self) -> usize {
        self.data
    }

    /// Adds data by reference. Call when it `takes_data`.
    pub fn add_data(&mut self, length: usize, piece: Piece) {
        if piece != Piece::Plain {
            write_size(&mut self.text, length);
        }
        (self.data, self.end) = (length, piece.end());
    }

    /// Adds data by copying it: cheaper for a few bytes. Call when it `takes_data`.
    pub fn copy_data(&mut self, data: &[&[u8]], piece: Piece) {
        if piece != Piece::Plain {
            write_size(&mut self.text, data.iter().map(|part| part.len()).sum());
        }
        data.iter().for_each(|part| self.text.extend_from_slice(part));
        self.text.extend_from_slice(piece.end());
    }

    /// Adds the last chunk. Call when it `takes_data`.
    pub fn add_last_chunk(&mut self, trailers: Option<&HeaderMap>) {
        match trailers {
            None => self.text.extend_from_slice(LAST_CHUNK),
            Some(trailers) => {
                self.text.extend_from_slice(b"0\r\n");
                write_trailers(&mut self.text, trailers);
            }
        }
    }

    /// Writes once; the number of bytes of `data` that were written. `data`: from the first that was not sent.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        io: Pin<&mut impl AsyncWrite>,
        data: &[&[u8]],
    ) -> Poll<io::Result<usize>> {
        let written = if self.takes_data() {
            ready!(io.poll_write(cx, &self.text[self.sent..]))?
        } else {
            ready!(io.poll_write_vectored(cx, &self.slices(data)))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        Poll::Ready(Ok(self.advance(written)))
    }

    fn slices<'a>(&'a self, data: &[&'a [u8]]) -> SmallVec<[IoSlice<'a>; SLICES]> {
        let (text, mut slices) = (&self.text[self.sent..], SmallVec::new());
        if !text.is_empty() {
            slices.push(IoSlice::new(text));
        }
        let mut left = self.data;
        for part in data {
            let part = &part[..part.len().min(left)];
            left -= part.len();
            if !part.is_empty() {
                slices.push(IoSlice::new(part));
            }
        }
        if left == 0 && !self.end.is_empty() {
            slices.push(IoSlice::new(self.end));
        }
        slices
    }

    fn advance(&mut self, written: usize) -> usize {
        let text = written.min(self.text.len() - self.sent);
        self.sent += text;
        let data = (written - text).min(self.data);
        self.data -= data;
        let end = (written - text - data).min(self.end.len());
        self.end = &self.end[end..];
        if self.is_empty() {
            self.text.clear();
            self.sent = 0;
        }
        data
    }

    /// Empties it. Memory that an unusually large message needed is freed.
    pub fn clear(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        *self = Self { text: if text.capacity() > KEPT_BYTES { Vec::new() } else { text }, ..Self::default() };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Takes at most so many bytes at once.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let length = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..length]);
            Poll::Ready(Ok(length))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all = slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>();
            let length = all.len().min(self.0);
            self.1.extend_from_slice(&all[..length]);
            Poll::Ready(Ok(length))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn all_parts_arrive_in_order_however_little_is_taken() {
        for width in 1..20 {
            let (mut narrow, mut outgoing) = (Narrow(width, Vec::new()), Outgoing::default());
            outgoing.text.extend_from_slice(b"head\r\n");
            outgoing.copy_data(&[b"a", b"bc"], Piece::Chunk);
            outgoing.add_data(6, Piece::of(true, width % 2 == 0));
            let mut data: &[u8] = b"onetwo-rest";
            while !outgoing.is_empty() {
                let (one, two) = data.split_at(data.len().min(2));
                let mut cx = Context::from_waker(Waker::noop());
                let Poll::Ready(written) = outgoing.poll_write(&mut cx, Pin::new(&mut narrow), &[one, two]) else {
                    panic!()
                };
                data = &data[written.unwrap()..];
            }
            outgoing.add_last_chunk(None);
            let end = if width % 2 == 0 { "0\r\n\r\n" } else { "" };
            assert_eq!(narrow.1, format!("head\r\n3\r\nabc\r\n6\r\nonetwo\r\n{end}").as_bytes(), "{width}");
            assert_eq!((data, &outgoing.text[..]), (&b"-rest"[..], LAST_CHUNK));
        }
    }
}
