//! Where the body of an answer ends, and what in it is framing.
//!
//! What contradicts itself is no answer: an upstream whose bytes can be read in two ways could make the next answer on
//! its connection mean anything.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::response::Parts;
use http::{StatusCode, Version};

/// Bytes of chunk extensions and trailers in one body, all of which are thrown away.
const SPARE_BYTES: u32 = 16 * 1024;
/// Of a chunk's size; more than any length there is.
const DIGITS: u32 = 16;

/// How a body ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    Chunked(Chunks),
    /// With the connection.
    UntilClose,
}

/// Reads a chunked body.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    at: At,
    /// The size being read, then the bytes left.
    size: u64,
    digits: u32,
    spare: u32,
}

/// What comes next in a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes of framing, then so many of the body.
    Data { skip: usize, length: usize },
    /// Nothing but framing, all of it.
    Nothing,
    /// So many bytes of framing, and the body is over.
    End(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer line.
    Trailer,
    TrailerLine,
    TrailerEnd,
    End,
}

impl Framing {
    /// Of an answer. `to_head`: the request was HEAD.
    pub fn of(head: &Parts, to_head: bool) -> Result<Self, &'static str> {
        if to_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok(Self::None);
        }
        // One pass over all lines costs less than looking for the two that count.
        let (mut coding, mut length) = (None, Ok(None));
        for (name, value) in &head.headers {
            if *name == TRANSFER_ENCODING {
                let known = value.as_bytes().eq_ignore_ascii_case(b"chunked") && head.version > Version::HTTP_10;
                if !known || coding.replace(value).is_some() {
                    return Err("it is coded in a way that nobody asked for");
                }
            } else if *name == CONTENT_LENGTH {
                length = match (length, digits(value.as_bytes())) {
                    (Ok(before), Some(stated)) if before.is_none_or(|before| before == stated) => Ok(Some(stated)),
                    (Ok(_), Some(_)) => Err("it has two lengths"),
                    (before, _) => before.and(Err("its length is none")),
                };
            }
        }
        if coding.is_some() {
            return Ok(Self::Chunked(Chunks::default()));
        }
        Ok(length?.map_or(Self::UntilClose, Self::Length))
    }
}

impl Framing {
    /// Makes the headers say nothing else about the length than this does.
    pub fn settle(&self, head: &mut Parts) {
        let headers = &mut head.headers;
        match self {
            Self::Chunked(_) | Self::UntilClose => drop(headers.remove(CONTENT_LENGTH)),
            Self::None if head.status == StatusCode::NO_CONTENT => drop(headers.remove(CONTENT_LENGTH)),
            Self::Length(length) if states_lengths(headers) => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(*length));
            }
            Self::Length(_) | Self::None => {}
        }
    }
}

/// Whether the length is said more than once.
pub fn states_lengths(headers: &HeaderMap) -> bool {
    let says_anything_twice = headers.len() > headers.keys_len();
    says_anything_twice && headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some()
}

/// A length: digits and nothing else.
pub fn digits(text: &[u8]) -> Option<u64> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let append = |number: u64, byte| number.checked_mul(10)?.checked_add(digit(byte)?);
    if text.is_empty() { None } else { text.iter().try_fold(0, append) }
}

impl Chunks {
    /// Looks at what has come; call again with what follows, until the end.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Next, &'static str> {
        let mut skip = 0;
        while let Some(&byte) = bytes.get(skip) {
            if self.at == At::Data {
                let length = (bytes.len() - skip).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= length as u64;
                if self.size == 0 {
                    self.at = At::DataReturn;
                }
                return Ok(Next::Data { skip, length });
            }
            skip += 1;
            self.at = self.step(byte).ok_or("its chunks are none")?;
            if self.at == At::End {
                return Ok(Next::End(skip));
            }
        }
        Ok(Next::Nothing)
    }

    /// `None` when the byte has no place here.
    fn step(&mut self, byte: u8) -> Option<At> {
        Some(match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() && self.digits < DIGITS => {
                self.digits += 1;
                self.size = self.size << 4 | u64::from(char::from(byte).to_digit(16)?);
                At::Size
            }
            (At::Size, b';' | b' ' | b'\t') if self.digits > 0 => At::Extension,
            (At::Size, b'\r') if self.digits > 0 => At::SizeEnd,
            (At::Extension, b'\r') => At::SizeEnd,
            (At::SizeEnd, b'\n') => {
                self.digits = 0;
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::TrailerEnd,
            (At::TrailerEnd, b'\n') => At::End,
            (At::TrailerLine, b'\n') => At::Trailer,
            (At::Extension | At::Trailer | At::TrailerLine, _) if byte != b'\n' && self.spare < SPARE_BYTES => {
                self.spare += 1;
                if self.at == At::Extension { At::Extension } else { At::TrailerLine }
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::{HeaderName, Response};

    use super::*;

    fn framing(status: u16, version: Version, lines: &[(&str, &str)]) -> Result<Framing, &'static str> {
        let mut head = Response::new(()).into_parts().0;
        (head.status, head.version) = (StatusCode::from_u16(status).unwrap(), version);
        for (name, value) in lines {
            head.headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Framing::of(&head, false)
    }

    #[test]
    fn an_answer_ends_where_its_head_says() {
        let of = |lines: &[(&str, &str)]| framing(200, Version::HTTP_11, lines);
        assert_eq!(of(&[]), Ok(Framing::UntilClose));
        assert_eq!(of(&[("content-length", "12")]), Ok(Framing::Length(12)));
        assert_eq!(of(&[("content-length", "12"), ("content-length", "12")]), Ok(Framing::Length(12)));
        let chunked = ("transfer-encoding", "Chunked");
        assert_eq!(of(&[chunked, ("content-length", "1")]), Ok(Framing::Chunked(Chunks::default())));
        assert_eq!(framing(304, Version::HTTP_11, &[("content-length", "12")]), Ok(Framing::None));
        for wrong in [
            &[("content-length", "1"), ("content-length", "2")][..],
            &[("content-length", "+1")],
            &[("content-length", "1, 1")],
            &[("content-length", "")],
            &[("content-length", "99999999999999999999")],
            &[("transfer-encoding", "gzip, chunked")],
            &[chunked, chunked],
        ] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
        assert!(framing(200, Version::HTTP_10, &[chunked]).is_err());
    }

    /// Feeds pieces of this size; the body, and how many bytes were left over after its end.
    fn read(text: &str, size: usize) -> Result<(String, usize), &'static str> {
        let (mut chunks, mut body, mut rest) = (Chunks::default(), Vec::new(), text.as_bytes());
        loop {
            let piece = &rest[..rest.len().min(size)];
            let used = match chunks.next(piece)? {
                Next::Data { skip, length } => {
                    body.extend_from_slice(&piece[skip..skip + length]);
                    skip + length
                }
                Next::End(used) => return Ok((String::from_utf8(body).unwrap(), rest.len() - used)),
                Next::Nothing if piece.len() == rest.len() => return Err("it does not end"),
                Next::Nothing => piece.len(),
            };
            rest = &rest[used..];
        }
    }

    #[test]
    fn chunks_are_read_whatever_the_pieces() {
        let text = "3\r\nabc\r\nA ;x=\"y\"\r\n0123456789\r\n00\r\nT: 1\r\nU: 2\r\n\r\nHTTP";
        for size in 1..text.len() {
            assert_eq!(read(text, size), Ok(("abc0123456789".to_owned(), 4)), "{size}");
        }
        assert_eq!(read("0\r\n\r\n", 9), Ok((String::new(), 0)));
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
            "0\r\n\n",
            "11111111111111111\r\n",
        ];
        for text in wrong {
            for size in [1, 100] {
                assert_eq!(read(text, size), Err("its chunks are none"), "{text:?}");
            }
        }
        assert!(read(&format!("1;{}\r\n", "x".repeat(20_000)), 100).is_err());
        assert!(read(&format!("0\r\n{}\r\n", "x: y\r\n".repeat(4_000)), 100).is_err());
    }
}
