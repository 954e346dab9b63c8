//! Decodes the body of a message in the buffer that it was read into. Nothing is copied: data is told as segments of the
//! buffer, between which the framing stands.

use http::HeaderMap;
use smallvec::SmallVec;

use crate::http1::chunked::{Chunk, ChunkReader};
use crate::http1::framing::Framing;
use crate::http1::spelling::Spelling;
use crate::http1::{FIELDS_MAX, field_lines};

/// Segments that are decoded ahead of those that were consumed; more wait in the buffer.
pub const SEGMENTS: usize = 16;

/// Pieces of data in their order.
pub type Slices<'a> = SmallVec<[&'a [u8]; SEGMENTS]>;

/// Where the data of a body stands in a buffer: start and length of each piece.
pub type Segments = SmallVec<[(u32, u32); SEGMENTS]>;

/// The pieces of a buffer at these places.
pub fn slices_at<'a>(segments: &Segments, buffer: &'a [u8], into: &mut Slices<'a>) {
    into.extend(segments.iter().filter_map(|(start, length)| buffer.get(*start as usize..(*start + *length) as usize)));
}

/// Reads one body. The buffer holds the bytes from the first that was not consumed.
#[derive(Debug, Default)]
pub struct BodyDecoder {
    rest: Rest,
    /// Decoded data that was not consumed: start in the buffer, and length.
    segments: Segments,
    /// Bytes of the buffer that were decoded, framing included.
    decoded: usize,
    /// Bytes of all segments.
    ready: usize,
}

/// What is still to be decoded.
#[derive(Debug, Default)]
enum Rest {
    #[default]
    Nothing,
    Length(u64),
    Chunks(ChunkReader),
    UntilClose,
    /// The last chunk was read; it had these field lines.
    Trailers(Box<[u8]>),
}

impl BodyDecoder {
    pub fn new(framing: Framing) -> Self {
        let rest = match framing {
            Framing::None | Framing::Length(0) => Rest::Nothing,
            Framing::Length(length) => Rest::Length(length),
            Framing::Chunked => Rest::Chunks(ChunkReader::default()),
            Framing::UntilClose => Rest::UntilClose,
        };
        Self { rest, ..Self::default() }
    }

    /// Decodes what the buffer holds, as far as there is room for segments. The error is the reason, for logs.
    pub fn decode(&mut self, buffer: &[u8]) -> Result<(), &'static str> {
        while self.decoded < buffer.len() && self.segments.len() < SEGMENTS {
            let fresh = &buffer[self.decoded..];
            match &mut self.rest {
                Rest::Nothing | Rest::Trailers(_) => return Ok(()),
                Rest::Length(left) => {
                    let length = fresh.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= length as u64;
                    if *left == 0 {
                        self.rest = Rest::Nothing;
                    }
                    self.push(0, length);
                }
                Rest::UntilClose => self.push(0, fresh.len()),
                Rest::Chunks(chunks) => match chunks.next(fresh)? {
                    Chunk::Data { skip, length } => self.push(skip, length),
                    Chunk::Framing => self.decoded = buffer.len(),
                    Chunk::End(length) => {
                        self.rest = match chunks.trailers() {
                            [] => Rest::Nothing,
                            lines => Rest::Trailers(lines.into()),
                        };
                        self.decoded += length;
                    }
                },
            }
        }
        Ok(())
    }

    /// Adds a segment, or lengthens the last one.
    fn push(&mut self, skip: usize, length: usize) {
        let start = self.decoded + skip;
        (self.decoded, self.ready) = (start + length, self.ready + length);
        // Buffers are far smaller than 4 GiB.
        let (start, length) = (start as u32, length as u32);
        match self.segments.last_mut() {
            Some((last, before)) if *last + *before == start => *before += length,
            _ => self.segments.push((start, length)),
        }
    }

    /// Bytes of data that are decoded.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// The decoded data.
    pub fn slices<'a>(&self, buffer: &'a [u8], into: &mut Slices<'a>) {
        slices_at(&self.segments, buffer, into);
    }

    /// Passes over `length` bytes of data that were used; how many bytes the buffer can drop from its beginning.
    #[must_use]
    pub fn consume(&mut self, length: usize) -> usize {
        if self.decoded == 0 {
            return 0;
        }
        let mut left = length.min(self.ready) as u32;
        self.ready -= left as usize;
        let mut used = 0;
        for (start, length) in &mut self.segments {
            let taken = left.min(*length);
            (*start, *length, left) = (*start + taken, *length - taken, left - taken);
            if *length > 0 {
                break;
            }
            used += 1;
        }
        self.segments.drain(..used);
        // Framing before the next data is dropped with what was before it.
        let dropped = self.segments.first().map_or(self.decoded, |(start, _)| *start as usize);
        self.segments.iter_mut().for_each(|(start, _)| *start -= dropped as u32);
        self.decoded -= dropped;
        dropped
    }

    /// Bytes of the buffer that were decoded, framing included.
    pub fn decoded(&self) -> usize {
        self.decoded
    }

    /// Takes the segments of a body that was decoded whole, and the bytes of the buffer that belong to the body.
    pub fn take_segments(&mut self) -> (Segments, usize) {
        self.ready = 0;
        (std::mem::take(&mut self.segments), std::mem::take(&mut self.decoded))
    }

    /// Whether all of the body was decoded; `ready` bytes of it may be left to use.
    pub fn is_decoded(&self) -> bool {
        matches!(self.rest, Rest::Nothing | Rest::Trailers(_))
    }

    /// Whether nothing follows the data that is ready: no data, and no trailers.
    pub fn is_last(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Whether all of the body was decoded and consumed.
    pub fn is_ended(&self) -> bool {
        self.ready == 0 && self.is_decoded()
    }

    /// Whether the body was said to end with the connection.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.rest, Rest::UntilClose)
    }

    /// The connection has ended, and with it the body, if it was to end so. The error is the reason, for logs.
    pub fn close(&mut self) -> Result<(), &'static str> {
        match self.rest {
            Rest::Nothing | Rest::Trailers(_) => Ok(()),
            Rest::UntilClose => {
                self.rest = Rest::Nothing;
                Ok(())
            }
            Rest::Length(_) | Rest::Chunks(_) => Err("connection closed within a body"),
        }
    }

    /// Bytes of data that were not consumed, where that is known.
    pub fn left(&self) -> Option<u64> {
        match self.rest {
            Rest::Nothing | Rest::Trailers(_) => Some(self.ready as u64),
            Rest::Length(left) => Some(left + self.ready as u64),
            Rest::Chunks(_) | Rest::UntilClose => None,
        }
    }

    /// The trailer fields, once, at the end of the body. Lines that are no fields, and fields that may not stand in
    /// trailers, are left out.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        let Rest::Trailers(lines) = std::mem::replace(&mut self.rest, Rest::Nothing) else { return None };
        let mut parsed = vec![httparse::EMPTY_HEADER; FIELDS_MAX];
        let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(&lines, &mut parsed) else {
            return None;
        };
        let (mut map, mut spelling) = (HeaderMap::new(), Spelling::default());
        let text = bytes::Bytes::copy_from_slice(&lines);
        field_lines::read_fields(&lines, text, parsed, &mut map, &mut spelling)?;
        for name in NO_TRAILERS {
            map.remove(name);
        }
        (!map.is_empty()).then_some(map)
    }
}

/// Fields that describe framing, routing or the connection, which a recipient must have seen before the body (RFC 9110
/// §6.5.1).
const NO_TRAILERS: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Reads a body that arrives in pieces of `size` bytes and is used `taken` bytes at a time; what is behind it.
    fn read(framing: Framing, text: &[u8], size: usize, taken: usize) -> Result<(Vec<u8>, usize), &'static str> {
        let (mut decoder, mut buffer, mut body) = (BodyDecoder::new(framing), Vec::new(), Vec::new());
        let mut pieces = text.chunks(size);
        loop {
            decoder.decode(&buffer)?;
            if decoder.ready() > 0 {
                let mut slices = Slices::new();
                decoder.slices(&buffer, &mut slices);
                let data = slices.concat();
                drop(slices);
                assert_eq!(data.len(), decoder.ready());
                let used = data.len().min(taken);
                body.extend_from_slice(&data[..used]);
                let dropped = decoder.consume(used);
                buffer.drain(..dropped);
                continue;
            }
            let dropped = decoder.consume(0);
            buffer.drain(..dropped);
            if decoder.is_ended() {
                return Ok((body, buffer.len() + pieces.map(<[u8]>::len).sum::<usize>()));
            }
            match pieces.next() {
                Some(piece) => buffer.extend_from_slice(piece),
                None => decoder.close()?,
            }
        }
    }

    #[test]
    fn data_is_the_same_however_it_arrives_and_is_used() {
        let mut chunked = b"1\r\na\r\n".repeat(40);
        chunked.extend_from_slice(b"5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\nGET");
        let expected = [&b"a".repeat(40)[..], b"hello"].concat();
        for size in [1, 2, 3, 7, 64, 1_000] {
            for taken in [1, 2, 5, 100] {
                assert_eq!(read(Framing::Chunked, &chunked, size, taken), Ok((expected.clone(), 3)));
                assert_eq!(read(Framing::Length(5), b"helloGET", size, taken), Ok((b"hello".to_vec(), 3)));
                assert_eq!(read(Framing::UntilClose, b"hello", size, taken), Ok((b"hello".to_vec(), 0)));
                assert_eq!(read(Framing::None, b"GET", size, taken), Ok((Vec::new(), 3)));
                assert!(read(Framing::Length(9), b"hello", size, taken).is_err());
                assert!(read(Framing::Chunked, b"5\r\nhel", size, taken).is_err());
            }
        }
    }

    #[test]
    fn trailers_are_fields_that_may_stand_there() {
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        decoder.decode(b"0\r\nX-Sum: 6\r\nContent-Length: 3\r\nHost: x\r\n\r\n").unwrap();
        let trailers = decoder.take_trailers().unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"6".parse().unwrap()));
        assert!(decoder.is_ended() && decoder.take_trailers().is_none());
    }
}
