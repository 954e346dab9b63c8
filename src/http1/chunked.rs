//! The chunked transfer coding (RFC 9112 §7.1), byte by byte.

/// Bytes of chunk extensions and trailers in one body.
const SPARE_BYTES: u32 = 16 * 1024;
/// Digits of a chunk's size: those of any length there is.
const DIGITS: u32 = 16;

/// Reads a chunked body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChunkReader {
    at: At,
    /// The size being read, then the bytes of the chunk that are still to come.
    size: u64,
    digits: u32,
    spare: u32,
    /// Field lines after the last chunk, with their ends, and the empty line.
    trailers: Vec<u8>,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    /// `skip` bytes of framing, then `length` bytes of data.
    Data { skip: usize, length: usize },
    /// All of it is framing.
    Framing,
    /// The body ends after this many bytes of framing.
    End(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    /// Blanks between the size and the end of its line, or an extension.
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer line.
    Trailer,
    TrailerLine,
    /// After the CR of a trailer line.
    TrailerReturn,
    /// After the CR of the empty line that ends the body.
    TrailerEnd,
    End,
}

impl ChunkReader {
    /// Looks at the bytes that follow those of the last call. The error is the reason, for logs.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Chunk, &'static str> {
        let mut skip = 0;
        while let Some(&byte) = bytes.get(skip) {
            if self.at == At::Data {
                let length = (bytes.len() - skip).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= length as u64;
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
                return Ok(Chunk::Data { skip, length });
            }
            skip += 1;
            self.at = self.step(byte).ok_or("invalid chunk framing")?;
            if self.at == At::End {
                return Ok(Chunk::End(skip));
            }
        }
        Ok(Chunk::Framing)
    }

    /// The field lines after the last chunk; empty when there are none.
    pub fn trailers(&self) -> &[u8] {
        if self.at == At::End && self.trailers.len() > 2 { &self.trailers } else { &[] }
    }

    /// `None` when the byte has no place here.
    fn step(&mut self, byte: u8) -> Option<At> {
        Some(match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() && self.digits < DIGITS => {
                self.digits += 1;
                self.size = self.size << 4 | u64::from(char::from(byte).to_digit(16)?);
                At::Size
            }
            (At::Size, b';') if self.digits > 0 => At::Extension,
            (At::Size, b' ' | b'\t') if self.digits > 0 => At::Blank,
            (At::Blank, b' ' | b'\t') => self.spend(At::Blank)?,
            (At::Blank, b';') => At::Extension,
            (At::Size, b'\r') if self.digits > 0 => At::SizeEnd,
            (At::Blank | At::Extension, b'\r') => At::SizeEnd,
            (At::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size,
            (At::Trailer, b'\r') => self.keep(byte, At::TrailerEnd)?,
            (At::TrailerEnd, b'\n') => self.keep(byte, At::End)?,
            // A reader that requires CRLF would find the end of the body elsewhere than one that accepts a bare LF.
            (At::TrailerLine, b'\r') => self.keep(byte, At::TrailerReturn)?,
            (At::TrailerReturn, b'\n') => self.keep(byte, At::Trailer)?,
            (At::Extension, _) if byte != b'\n' => self.spend(At::Extension)?,
            (At::Trailer | At::TrailerLine, _) if byte != b'\n' => self.keep(byte, At::TrailerLine)?,
            _ => return None,
        })
    }

    fn spend(&mut self, then: At) -> Option<At> {
        self.spare += 1;
        (self.spare <= SPARE_BYTES).then_some(then)
    }

    fn keep(&mut self, byte: u8, then: At) -> Option<At> {
        self.trailers.push(byte);
        self.spend(then)
    }
}

/// Appends the line that begins a chunk of this many bytes.
pub fn write_size(out: &mut Vec<u8>, length: usize) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    out.extend((0..digits).rev().map(|digit| HEX[length >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// What follows the last byte of a body whose last chunk has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Feeds pieces of this size; the body, its trailers, and how many bytes were left over after its end.
    fn read(text: &str, size: usize) -> Result<(String, String, usize), &'static str> {
        let (mut chunks, mut body, mut rest) = (ChunkReader::default(), Vec::new(), text.as_bytes());
        loop {
            let piece = &rest[..rest.len().min(size)];
            let used = match chunks.next(piece)? {
                Chunk::Data { skip, length } => {
                    body.extend_from_slice(&piece[skip..skip + length]);
                    skip + length
                }
                Chunk::End(used) => {
                    let trailers = String::from_utf8(chunks.trailers().to_vec()).unwrap();
                    return Ok((String::from_utf8(body).unwrap(), trailers, rest.len() - used));
                }
                Chunk::Framing if piece.len() == rest.len() => return Err("it does not end"),
                Chunk::Framing => piece.len(),
            };
            rest = &rest[used..];
        }
    }

    #[test]
    fn chunks_are_read_whatever_the_pieces() {
        let text = "3\r\nabc\r\nA ;x=\"y\"\r\n0123456789\r\n00\r\nT: 1\r\nU: 2\r\n\r\nHTTP";
        for size in 1..text.len() {
            let expected = ("abc0123456789".to_owned(), "T: 1\r\nU: 2\r\n\r\n".to_owned(), 4);
            assert_eq!(read(text, size), Ok(expected), "{size}");
        }
        assert_eq!(read("0\r\n\r\n", 9), Ok((String::new(), String::new(), 0)));
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        let wrong = [
            "zz\r\n",
            "-1\r\n",
            "\r\n",
            ";\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3;x\nabc\r\n0\r\n\r\n",
            "3 x\r\nabc\r\n0\r\n\r\n",
            "0\r\n\n",
            "0\r\nT: 1\n\r\n",
            "0\r\nT: 1\rU: 2\r\n\r\n",
            "0\r\nT: 1\r\r\n\r\n",
            "11111111111111111\r\n",
        ];
        for text in wrong {
            for size in [1, 100] {
                assert_eq!(read(text, size), Err("invalid chunk framing"), "{text:?}");
            }
        }
        assert!(read(&format!("1;{}\r\n", "x".repeat(20_000)), 100).is_err());
        assert!(read(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(4_000)), 100).is_err());
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for length in [0, 1, 9, 10, 15, 16, 255, 256, 65_536, 0xdead_beef] {
            let mut out = Vec::new();
            write_size(&mut out, length);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{length:x}\r\n"));
        }
    }
}
